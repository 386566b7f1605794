//===- Phases.h - the compiler's phases and their order ---------*- C++ -*-===//
//
// The only place where order lives. Each phase is a textual pass pipeline that
// skim-opt runs by itself, but for `import` (a translation) and `package`
// (files).
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_PIPELINES_PHASES_H
#define SKIM_PIPELINES_PHASES_H

#include "skim/Transforms/QuantizeWeights.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mlir {
class OpPassManager;
}

namespace skim {

enum class Phase { Import, Raise, Calibrate, Allocate, Quantize, Fuse, Generate, Package };

/// `raise`.
std::string_view phaseName(Phase phase);
/// One line for help texts.
std::string_view phaseDescription(Phase phase);
std::optional<Phase> parsePhase(std::string_view name);
/// `import raise calibrate …`
std::string phaseNames();

/// What a plan is made from; empty terms mean the defaults of skim-assign-encodings.
struct AllocateOptions {
  std::string format, head, embeddings;
  std::vector<std::string> keep;
  bool requantize = false;
};

struct RaiseOptions {
  /// Folder that the externals' file names start from.
  std::string base = ".";
  /// Most tokens of a text; 0: what the model says.
  int64_t context = 0;
};

/// ONNX nodes to language model operations.
void buildRaisePipeline(mlir::OpPassManager &manager, const RaiseOptions &options);
/// An encoding for every weight.
void buildAllocatePipeline(mlir::OpPassManager &manager, const AllocateOptions &options);
struct QuantizePhaseOptions {
  /// Folder that the externals' file names start from, and the file to write.
  std::string base = ".", weights = "weights.safetensors";
  unsigned threads = 0;
  QuantizeProgress progress;
};

/// Weights in their encodings, in a file.
void buildQuantizePipeline(mlir::OpPassManager &manager, const QuantizePhaseOptions &options);
/// Activation modes (`mode` for quantized linears), then what can be merged or
/// folded before code is generated.
void buildFusePipeline(mlir::OpPassManager &manager, const std::string &mode);

/// What must hold after every phase.
void addFences(mlir::OpPassManager &manager);

/// `skim-phase-raise`, `-allocate`, `-quantize` and `-fuse` for skim-opt; generating
/// is the pass `skim-generate-cpu`.
void registerPhasePipelines();

} // namespace skim

#endif // SKIM_PIPELINES_PHASES_H
