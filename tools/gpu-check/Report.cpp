// What stands beside the times, and the table.
#include "Check.h"

#include <cstdio>
#include <map>

using namespace skim;
using namespace skim::gpucheck;

/// Keeps of the predictions the one for this device; null if the model does not know it.
static void choosePrediction(Json &one, const Json &modelled) {
  Json chosen;
  if (modelled.is_object() && one["predicted"].is_object())
    if (auto found = one["predicted"].find(modelled["key"].get<std::string>()); found != one["predicted"].end())
      chosen = *found;
  one.erase("predicted");
  one["predicted_microseconds"] = chosen.is_object() ? chosen["microseconds"] : Json();
  one["predicted_bound"] = chosen.is_object() ? chosen["bound"] : Json();
  one["measured_of_predicted"] =
      chosen.is_object() ? Json(one["microseconds"].get<double>() / chosen["microseconds"].get<double>()) : Json();
}

static void addLimit(Json &one, double bytes, const Bandwidth &bandwidth) {
  double limit = bytes / bandwidth.read * 1e6;
  one["limit_microseconds"] = limit;
  one["fraction_of_limit"] = limit / one["microseconds"].get<double>();
}

Error gpucheck::addComparisons(Json &kernels, Json &step, const Cases &cases, const Bandwidth &bandwidth,
                               cuda::Blas *blas, cuda::Context &context, int nodes) {
  std::map<std::array<int64_t, 3>, double> peers;
  auto timePeer = [&](int64_t n, int64_t k, int64_t rows) -> Expected<double> {
    auto [entry, isNew] = peers.try_emplace({n, k, rows}, 0);
    if (isNew) {
      Expected<double> time = timeBlas(*blas, context, n, k, rows, nodes);
      if (!time)
        return time.takeError();
      entry->second = *time;
    }
    return entry->second;
  };
  auto addPeer = [](Json &one, double microseconds) {
    one["cublas_f16_microseconds"] = microseconds;
    one["speedup_over_cublas_f16"] = microseconds / one["microseconds"].get<double>();
  };
  for (Json &one : kernels) {
    addLimit(one, one["bytes"].get<double>(), bandwidth);
    choosePrediction(one, cases.modelled());
    one["cublas_f16_microseconds"] = one["speedup_over_cublas_f16"] = nullptr;
    if (!blas)
      continue;
    Expected<double> time = timePeer(one["n"], one["k"], one["batch"]);
    if (!time)
      return time.takeError();
    addPeer(one, *time);
  }
  addLimit(step, step["bytes_per_token"].get<double>(), bandwidth);
  choosePrediction(step, cases.modelled());
  // The library's linears alone, beside all of ours.
  Json &prompt = step["prompt"];
  choosePrediction(prompt, cases.modelled());
  prompt["cublas_f16_microseconds"] = prompt["speedup_over_cublas_f16"] = nullptr;
  double sum = 0;
  for (const Json &linear : prompt["linears"])
    if (blas) {
      Expected<double> time = timePeer(linear[0], linear[1], prompt["tokens"]);
      if (!time)
        return time.takeError();
      sum += *time * linear[2].get<double>();
    }
  if (blas)
    addPeer(prompt, sum);
  prompt.erase("linears");
  return Error::success();
}

/// A number, or `-` where there is none.
static std::string spell(const Json &value, const char *format, double factor = 1) {
  char text[32] = "-";
  if (value.is_number())
    std::snprintf(text, sizeof text, format, value.get<double>() * factor);
  return text;
}

static void printLine(const std::string &what, const std::string &batch, const Json &one) {
  auto field = [&](const char *name) { return one.value(name, Json()); };
  std::printf("%-32s %5s %10s %10s %10s %8s %10s %8s\n", what.c_str(), batch.c_str(),
              spell(field("microseconds"), "%.2f").c_str(), spell(field("predicted_microseconds"), "%.2f").c_str(),
              spell(field("limit_microseconds"), "%.2f").c_str(),
              spell(field("fraction_of_limit"), "%.0f%%", 100).c_str(),
              spell(field("cublas_f16_microseconds"), "%.2f").c_str(),
              spell(field("speedup_over_cublas_f16"), "%.2fx").c_str());
}

void gpucheck::printTable(const Json &kernels, const Json &step) {
  std::printf("%-32s %5s %10s %10s %10s %8s %10s %8s\n", "microseconds", "batch", "ours", "predicted", "limit",
              "of limit", "cuBLAS f16", "speedup");
  for (const Json &one : kernels)
    printLine(one["format"].get<std::string>() + " " + std::to_string(one["n"].get<int64_t>()) + "x" +
                  std::to_string(one["k"].get<int64_t>()),
              std::to_string(one["batch"].get<int64_t>()), one);
  printLine("a token", "1", step);
  printLine("a prompt", std::to_string(step["prompt"]["tokens"].get<int64_t>()), step["prompt"]);
  std::printf("a token: %s, %lld tokens in the cache, %.1f tokens/s\n", step["name"].get<std::string>().c_str(),
              static_cast<long long>(step["context"].get<int64_t>()), step["decode_tokens_per_s"].get<double>());
  std::printf("a prompt: of the same, %.0f tokens/s; cuBLAS: its linears alone\n",
              step["prompt"]["prefill_tokens_per_s"].get<double>());
  std::printf("limit: the weights' bytes (a token: and the cache's) by the read bandwidth above\n");
}
