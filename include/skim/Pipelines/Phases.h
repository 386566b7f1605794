//===- Phases.h - the compiler's phases and their order ---------*- C++ -*-===//
//
// The only place where order lives. Each phase is a textual pass pipeline that
// skim-opt runs by itself, but for `import` (a translation) and `package`
// (files).
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_PIPELINES_PHASES_H
#define SKIM_PIPELINES_PHASES_H

#include "skim/Transforms/AllocateBits.h"
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
  /// A plan to follow (empty: none).
  std::string plan;
  /// A budget to spend over the linears that nothing else names: true bits of
  /// the linears, or bytes of all weights; at most one is not 0.
  double bits = 0;
  uint64_t size = 0;
  unsigned minBits = 1, maxBits = 5;
  std::string table = "i8";
  std::string pareto; ///< CSV file for the allocator's curve; empty: none
  bool asPublished = false, mixing = true, scaling = false;
  /// All row terms beside codebooks (RowTerms.h); the head in the budget of bytes, unless `head` names its term.
  bool allTerms = false, openHead = false;
  /// Rows of a width come so many at once, but for those of the least: kernels for GPUs take kTileRows.
  unsigned tile = 1;

  /// Whether skim-allocate-bits has something to decide.
  bool spends() const { return bits > 0 || size > 0; }
};

/// What calibration knows, for the phases that use it.
struct CalibrationFiles {
  /// Folder that the externals' file names start from.
  std::string base = ".";
  std::string statistics; ///< a statistics file; empty: none
  std::string record;     ///< errors and codes of every width, read or written
  std::string plan;       ///< the plan that allocation writes and quantization reads
  std::string modelHash;  ///< what the statistics must belong to; empty: not checked
  unsigned threads = 0;
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
void buildAllocatePipeline(mlir::OpPassManager &manager, const AllocateOptions &options,
                           const CalibrationFiles &files = {}, RecordProgress progress = nullptr);
struct QuantizePhaseOptions {
  /// Folder that the externals' file names start from, and the file to write.
  std::string base = ".", weights = "weights.safetensors";
  unsigned threads = 0;
  QuantizeProgress progress;
  /// rtn, gptq, awq, kmeans or skim; empty: the best for each format.
  std::string method;
  CalibrationFiles calibration;
};

/// Weights in their encodings, in a file.
void buildQuantizePipeline(mlir::OpPassManager &manager, const QuantizePhaseOptions &options);
/// Activation modes (`mode` for quantized linears), then what can be merged or
/// folded before code is generated, and the layouts of `target`'s kernels
/// (`layout`: auto, rows or turned; rows where `target` is empty).
void buildFusePipeline(mlir::OpPassManager &manager, const std::string &mode, const std::string &target = "",
                       const std::string &layout = "auto");

/// What must hold after every phase.
void addFences(mlir::OpPassManager &manager);

/// `skim-phase-raise`, `-allocate`, `-quantize` and `-fuse` for skim-opt; generating
/// is the pass `skim-generate-cpu`.
void registerPhasePipelines();

} // namespace skim

#endif // SKIM_PIPELINES_PHASES_H
