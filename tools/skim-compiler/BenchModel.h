//===- BenchModel.h - skim bench --model ------------------------*- C++ -*-===//
#ifndef SKIM_TOOLS_SKIM_COMPILER_BENCHMODEL_H
#define SKIM_TOOLS_SKIM_COMPILER_BENCHMODEL_H

#include "skim/Support/Error.h"

#include <cstdint>
#include <string>
#include <vector>

namespace skim::tool {

/// What is predicted, for a device that need not be here. One of `package`,
/// `shape` (NxK, with formats) and `llama` (HIDDENxFFxLAYERS, with formats).
struct BenchModelOptions {
  std::string package, shape, llama, target, gpu, activations, head = "f16";
  std::vector<std::string> formats;
  std::vector<int64_t> batches = {1};
  int64_t cacheHeads = 0, vocabulary = 32000, context = 512, prompt = 1;
  bool json = false;
  bool wholeStep = false; ///< see ModelOptions
};

/// Prints microseconds, what binds and the share of bandwidth of every launch.
Error benchModel(const BenchModelOptions &options);

/// `4096x14336` as N and K.
Error parseShape(const std::string &text, int64_t &n, int64_t &k);

} // namespace skim::tool

#endif // SKIM_TOOLS_SKIM_COMPILER_BENCHMODEL_H
