#ifndef SKIM_LIB_IMPORT_ONNX_TYPES_H
#define SKIM_LIB_IMPORT_ONNX_TYPES_H

#include "skim/Import/ONNX/Wire.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"

namespace skim::onnx {

/// Signed integers and BOOL become signless, unsigned ones keep their sign in
/// the type. Null: no counterpart (STRING, numbers that ONNX does not define).
mlir::Type elementType(wire::DataType type, mlir::MLIRContext *context);

/// Data in ONNX's layout as an attribute; null if the type has sub-byte
/// elements other than BOOL.
mlir::DenseElementsAttr denseAttribute(mlir::RankedTensorType type, llvm::StringRef raw);

/// The module path that PyTorch's exporter left in a node's metadata, or "".
std::string moduleScope(const wire::Node &node);

} // namespace skim::onnx

#endif // SKIM_LIB_IMPORT_ONNX_TYPES_H
