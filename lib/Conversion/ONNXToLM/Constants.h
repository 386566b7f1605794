//===- Constants.h - numbers of constant tensors ----------------*- C++ -*-===//
#ifndef SKIM_LIB_CONVERSION_ONNXTOLM_CONSTANTS_H
#define SKIM_LIB_CONVERSION_ONNXTOLM_CONSTANTS_H

#include "skim/Skim/SkimOps.h"
#include "skim/Support/MappedFile.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "llvm/ADT/StringMap.h"

#include <optional>
#include <string>

namespace skim::raise {

/// Constants of the graph: `skim.external` and constant-like operations.
class Constants {
public:
  /// `folder`: what the files of `skim.external` are relative to.
  explicit Constants(std::string folder) : folder(std::move(folder)) {}

  static bool isConstant(mlir::Value value);
  /// The data of a constant in the IR, else null.
  static mlir::DenseElementsAttr getDense(mlir::Value value);

  /// One element (integers as they are, i8 of quantized data unsigned where the
  /// type says so); nullopt if it lies outside or cannot be read, with the
  /// reason in `error()`.
  std::optional<double> element(mlir::Value value, llvm::ArrayRef<int64_t> position);

  /// The first reason why a file could not be read, or empty.
  const std::string &error() const { return reason; }

  /// True if both hold the same bytes, element by element, row-major.
  bool equal(skim::ExternalOp a, skim::ExternalOp b);

private:
  std::shared_ptr<const MappedFile> open(llvm::StringRef file);
  /// The address of an element, checked; null with a reason.
  const uint8_t *address(skim::ExternalOp op, llvm::ArrayRef<int64_t> position);

  std::string folder;
  std::string reason;
  llvm::StringMap<std::shared_ptr<const MappedFile>> files;
};

/// Strides in elements, row-major, or those that the operation states.
llvm::SmallVector<int64_t> stridesOf(mlir::RankedTensorType type);
llvm::SmallVector<int64_t> stridesOf(skim::ExternalOp op);
/// Bytes of an element in a file (a bool is a byte).
int64_t elementBytes(mlir::Type element);

} // namespace skim::raise

#endif // SKIM_LIB_CONVERSION_ONNXTOLM_CONSTANTS_H
