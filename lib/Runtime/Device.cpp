#include "Device.h"

#include "skim/Runtime/Cuda.h"
#include "skim/Runtime/SimulatedStep.h"
#include "skim/Support/MappedFile.h"
#include "skim/Support/Sha256.h"

using namespace skim;
using namespace skim::rt;

static constexpr std::string_view kNvidia = "nvidia:";

Expected<std::string> rt::chooseTarget(const std::string &folder, const std::string &name, int device) {
  if (name != "nvidia")
    return name;
  Expected<std::vector<std::string>> targets = packageTargets(folder);
  if (!targets)
    return targets.takeError();
  Expected<std::shared_ptr<cuda::Context>> context = cuda::Context::open(device);
  if (!context)
    return context.takeError();
  const cuda::DeviceInfo &info = (*context)->device();
  std::string best = cuda::bestTarget(*targets, info.capability);
  if (!best.empty())
    return best;
  std::string names;
  for (const std::string &target : *targets)
    names += (names.empty() ? "" : ", ") + target;
  return fail("no target of the package runs on the device", folder, "kernels for " + info.describe(), names,
              "skim compile adds --target nvidia:sm_80, which runs on most devices");
}

/// A file of the package, if it is the one that the manifest means.
static Expected<std::string> readChecked(const std::string &path, const std::string &expected) {
  Expected<std::string> text = readTextFile(path);
  if (!text)
    return text;
  if (std::string found = sha256(*text); found != expected)
    return fail("damaged code of a package", path, "SHA-256 " + expected, found,
                "skim compile rebuilds it from the package's IR");
  return text;
}

Expected<std::unique_ptr<DeviceStep>> rt::openDevice(const Manifest &manifest, std::span<const DeviceWeight> weights,
                                                     int device) {
  const Program &program = manifest.program;
  if (program.kernels.empty()) {
    Expected<std::unique_ptr<sim::Module>> kernels = sim::Module::open(manifest.path(program.code));
    if (!kernels)
      return kernels.takeError();
    Expected<std::unique_ptr<sim::SimulatedStep>> step = sim::SimulatedStep::create(
        std::move(*kernels), program.launches, weights, program.vocabulary, program.cacheBytesPerToken());
    if (!step)
      return step.takeError();
    return std::unique_ptr<DeviceStep>(std::move(*step));
  }
  cuda::StepCode code;
  code.where = manifest.folder + " (" + program.target + ")";
  code.chip = program.target.substr(std::min(kNvidia.size(), program.target.size()));
  code.launches = program.launches;
  code.weights = weights;
  code.vocabulary = program.vocabulary;
  code.maxRows = program.maxRows;
  Expected<std::string> ptx = readChecked(manifest.path(program.kernels), program.kernelsSha256);
  if (!ptx)
    return ptx.takeError();
  code.ptx = std::move(*ptx);
  if (!program.cubin.empty()) {
    Expected<std::string> cubin = readChecked(manifest.path(program.cubin), program.cubinSha256);
    if (!cubin)
      return cubin.takeError();
    code.cubin = std::move(*cubin);
  }
  Expected<std::shared_ptr<cuda::Context>> context = cuda::Context::open(device);
  if (!context)
    return context.takeError();
  return cuda::createStep(std::move(*context), code);
}
