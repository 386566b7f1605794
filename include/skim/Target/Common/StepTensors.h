//===- StepTensors.h - the tensors that a step's code reads -----*- C++ -*-===//
#ifndef SKIM_TARGET_COMMON_STEPTENSORS_H
#define SKIM_TARGET_COMMON_STEPTENSORS_H

#include "skim/Skim/SkimEncodings.h"
#include "skim/Support/Error.h"

#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringSet.h"

#include <string>
#include <vector>

namespace skim {

/// A tensor of the package that a step's code reads.
struct StepTensor {
  /// Its name in the package, unique.
  std::string name;
  /// What the code reads: this element type, row-major. May differ from that of
  /// `source` among the floats (norm weights and biases are read as f32).
  mlir::RankedTensorType type;
  /// The skim.external or constant in the model that holds the elements.
  mlir::Value source;
  /// The skim.assemble that `source` is a component of, and which one; null for
  /// a plain tensor.
  mlir::Value encoded;
  unsigned component = 0;
  /// The layer (HF path) that reads it first, or empty.
  std::string layer;
};

/// A cache tensor: [heads, capacity, dim] in each sequence's block.
struct ProgramCache {
  int64_t heads, dim, bytesPerElement;
};

/// The tensors of a weight that is encoded or a constant of floats, in the order
/// of its components, and its term.
Expected<llvm::SmallVector<StepTensor>> tensorsOfWeight(mlir::Operation *user, mlir::Value value, llvm::StringRef layer,
                                                        WeightEncoding &term);
/// A vector of parameters, read as f32.
Expected<StepTensor> tensorOfVector(mlir::Operation *user, mlir::Value value, llvm::StringRef layer);

/// Numbers the tensors of a program: equal constants (a tied embedding that
/// stands twice in the IR) are one tensor, if they are read alike.
class TensorNumbers {
public:
  /// The tensor's number; `isNew`: not seen before, and its name made unique.
  /// `arrangement`: how its bytes are to lie, or null.
  int64_t add(StepTensor &tensor, mlir::Attribute arrangement, bool &isNew);

private:
  llvm::DenseMap<std::pair<mlir::Attribute, mlir::Type>, int64_t> numbers;
  llvm::StringSet<> names;
};

} // namespace skim

#endif // SKIM_TARGET_COMMON_STEPTENSORS_H
