//===- QuantizeWeights.h - quantizes weights into a file --------*- C++ -*-===//
#ifndef SKIM_TRANSFORMS_QUANTIZEWEIGHTS_H
#define SKIM_TRANSFORMS_QUANTIZEWEIGHTS_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "skim/Quantize/Matrix.h"
#include "skim/Skim/SkimOps.h"

#include <functional>
#include <string>

namespace skim {

/// The attribute that carries a layer's relative squared error on skim.linear.
inline constexpr llvm::StringLiteral kErrorAttr = "skim.error";

/// With statistics: the relative squared error of the layer's output under the
/// inputs of calibration, and the loss-weighted error that allocation minimises.
inline constexpr llvm::StringLiteral kOutputErrorAttr = "skim.output_error";
inline constexpr llvm::StringLiteral kLossErrorAttr = "skim.loss_error";

/// The quantizers' own description of a leaf.
UniformFormat formatOf(UniformAttr attr);
CodebookFormat formatOf(CodebookAttr attr);

/// One finished weight, for progress and reports.
struct QuantizedLayer {
  std::string name;   ///< of the layer, or of the tensor where no layer uses it
  std::string format; ///< short name of the encoding
  int64_t rows = 0, columns = 0;
  uint64_t sourceBytes = 0, storedBytes = 0;
  double error = 0; ///< Σ(w − ŵ)² / Σw²
  size_t index = 0, count = 0;
};
using QuantizeProgress = std::function<void(const QuantizedLayer &)>;

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Transforms/QuantizeWeights.h.inc"

/// The same pass, telling `progress` of every finished linear and embedding.
std::unique_ptr<mlir::Pass> createQuantizeWeights(const QuantizeWeightsOptions &options, QuantizeProgress progress);

} // namespace skim

#endif // SKIM_TRANSFORMS_QUANTIZEWEIGHTS_H
