//===- Main.cpp - the program in the folder of scripts/gpu-check ------------===//
//
//   ./gpu-check [DEVICE [RESULTS.json]]     (default: 0, results.json beside itself)
//
// Correct first, then fast: linears against the reference decoder's results, models
// against the tokens and logits of a CPU; then times, beside what the device reads
// and copies, what cuBLAS takes and what the performance model predicted, in one run.
// Status 0: all correct; 1: not, or an error in one line, then nothing is written.
//
//===----------------------------------------------------------------------===//

#include "Check.h"
#include "skim/Support/AtomicOutput.h"
#include "skim/Support/ByteSize.h"
#include "skim/Support/MappedFile.h"

#include <charconv>
#include <climits>
#include <cstdio>
#include <cstring>
#include <filesystem>

using namespace skim;
using namespace skim::gpucheck;

/// Launches of a case in a graph.
static constexpr int kNodes = 64;

/// Prints what is wrong in a list of results; how many are.
static size_t countWrong(const Json &results) {
  size_t wrong = 0;
  for (const Json &one : results)
    if (!one["correct"].get<bool>()) {
      ++wrong;
      std::printf("WRONG: %s\n", dumpJson(one).c_str());
    }
  return wrong;
}

static Json describeDevice(const cuda::Context &context) {
  const cuda::DeviceInfo &info = context.device();
  // Beside the CUDA version that it supports: what the driver calls itself.
  Expected<std::string> kernel = readTextFile("/proc/driver/nvidia/version");
  return {{"name", info.name},
          {"capability", info.capability},
          {"bytes", info.bytes},
          {"multiprocessors", info.multiprocessors},
          {"l2_bytes", info.l2Bytes},
          {"clock_khz", info.clockKHz},
          {"memory_clock_khz", info.memoryClockKHz},
          {"memory_bus_bits", info.memoryBusBits},
          {"cuda", cuda::spellVersion(context.driverVersion())},
          {"driver", kernel ? Json(kernel->substr(0, kernel->find('\n'))) : Json()}};
}

static Error run(const std::string &folder, int device, const std::string &output, bool &correct) {
  std::string kernels = folder + "/kernels";
  Expected<std::shared_ptr<cuda::Context>> opened = cuda::Context::open(device);
  if (!opened)
    return opened.takeError();
  std::shared_ptr<cuda::Context> context = *opened;
  Expected<Json> made = parseJsonFile(folder + "/made.json");
  if (!made)
    return made.takeError();
  Expected<std::unique_ptr<Cases>> cases = Cases::load(context, kernels);
  if (!cases)
    return cases.takeError();
  Expected<std::unique_ptr<Step>> step = Step::load(kernels, (*cases)->chip());
  if (!step)
    return step.takeError();
  // Better now than in the last minute.
  uint64_t free = context->freeBytes(), needed = (*step)->bytes();
  for (const Case &one : (*cases)->all())
    needed =
        std::max(needed, one.weightBytes * (one.check ? 1 : copiesFor(context->device(), one.weightBytes, kNodes)));
  if (free < needed)
    return fail("not enough device memory for the measurements", "device " + context->device().describe(),
                formatByteSize(needed), formatByteSize(free) + " free",
                "end other programs on it, or choose another device");
  std::printf("%s, %s, kernels for %s, made by %s\n", context->device().describe().c_str(),
              cuda::spellVersion(context->driverVersion()).c_str(), (*cases)->chip().c_str(),
              made->value("version", "an unknown version").c_str());

  Json result = {{"device", describeDevice(*context)},
                 {"made", *made},
                 {"chip", (*cases)->chip()},
                 {"nodes", kNodes},
                 {"modelled_as", (*cases)->modelled()}};
  Expected<Json> linears = (*cases)->check();
  if (!linears)
    return linears.takeError();
  size_t wrong = countWrong(*linears);
  std::printf("linears: %zu of %zu correct\n", linears->size() - wrong, linears->size());
  Expected<Json> packages = checkPackages(folder, device);
  if (!packages)
    return packages.takeError();
  size_t wrongPackages = countWrong(*packages);
  std::printf("models: %zu of %zu correct\n", packages->size() - wrongPackages, packages->size());
  correct = wrong + wrongPackages == 0;
  result["linears"] = std::move(*linears);
  result["packages"] = std::move(*packages);
  result["correct"] = correct;

  Expected<Bandwidth> bandwidth = (*cases)->bandwidth(kNodes);
  if (!bandwidth)
    return bandwidth.takeError();
  result["read_gbps"] = bandwidth->read * 1e-9;
  result["copy_gbps"] = bandwidth->copy * 1e-9;
  result["bandwidth_bytes"] = bandwidth->bytes;
  result["checksum"] = bandwidth->checksum;
  result["node_microseconds"] = bandwidth->node;
  std::string known = (*cases)->modelled().is_object()
                          ? " (predicted: " + std::to_string((*cases)->modelled()["read_gbps"].get<int>()) + ")"
                          : " (the model does not know this device)";
  std::printf("reads %.0f GB/s%s, copies %.0f GB/s (read and written), a node of a graph %.2f us\n",
              bandwidth->read * 1e-9, known.c_str(), bandwidth->copy * 1e-9, bandwidth->node);
  Expected<Json> times = (*cases)->time(kNodes);
  if (!times)
    return times.takeError();
  Expected<Json> token = (*step)->time(context, **cases);
  if (!token)
    return token.takeError();
  std::string note;
  std::unique_ptr<cuda::Blas> blas;
  if (Expected<std::unique_ptr<cuda::Blas>> loaded = cuda::Blas::load(context))
    blas = std::move(*loaded);
  else
    note = "no comparison with cuBLAS: " + loaded.message();
  result["cublas"] = blas ? Json("present") : Json(note);
  if (Error error = addComparisons(*times, *token, **cases, *bandwidth, blas.get(), *context, kNodes))
    return error;
  printTable(*times, *token);
  if (!note.empty())
    std::printf("%s\n", note.c_str());
  result["kernels"] = std::move(*times);
  result["step"] = std::move(*token);
  return writeFileAtomically(output, dumpJson(result, 1) + "\n");
}

int main(int argc, char **argv) {
  std::error_code code;
  std::string folder = std::filesystem::read_symlink("/proc/self/exe", code).parent_path().string();
  if (folder.empty())
    folder = ".";
  int device = 0;
  if (argc > 1) {
    const char *end = argv[1] + std::strlen(argv[1]);
    auto [stop, error] = std::from_chars(argv[1], end, device);
    if (argc > 3 || stop != end || error != std::errc() || device < 0) {
      std::fprintf(stderr, "usage: %s [DEVICE [RESULTS.json]]\n", argv[0]);
      return 2;
    }
  }
  bool correct = false;
  if (Error error = run(folder, device, argc > 2 ? argv[2] : folder + "/results.json", correct)) {
    std::fflush(stdout);
    std::fprintf(stderr, "skim: error: %s\n", error.message().c_str());
    return 1;
  }
  return correct ? 0 : 1;
}
