//===- SkimEncodings.h - weight formats as tensor encodings -----*- C++ -*-===//
#ifndef SKIM_SKIM_SKIMENCODINGS_H
#define SKIM_SKIM_SKIMENCODINGS_H

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/TensorEncoding.h"

#include <optional>
#include <string>

namespace skim {

/// What a component holds; reports and byte counts group by it.
enum class ComponentKind { Data, Codes, Table, Scales, Zeros, Exponents, Permutation, Alpha };

/// One stored piece of an encoded weight: its name inside the weight
/// (`codes`, `rows.1.table`), what it holds, and its exact tensor type.
struct Component {
  std::string name;
  ComponentKind kind;
  mlir::RankedTensorType type;

  /// Bits stored for it.
  uint64_t getBits() const {
    return static_cast<uint64_t>(type.getNumElements()) * type.getElementType().getIntOrFloatBitWidth();
  }
};

/// Elements of block_float: LQER's MXINT, the OCP integer, the OCP 4-bit float.
enum class BlockElement { Int, OcpInt, E2M1 };

} // namespace skim

#include "skim/Skim/SkimInterfaces.h.inc"

#define GET_ATTRDEF_CLASSES
#include "skim/Skim/SkimEncodings.h.inc"

namespace skim {

/// The weight encoding of a tensor type, or null (plain tensor).
WeightEncoding getEncoding(mlir::Type type);

/// True if any value of the type is stored encoded (weights or activations).
bool isEncoded(mlir::Type type);

/// The components of a weight of `shape` ([N, K]), in storage order.
llvm::SmallVector<Component> getComponents(WeightEncoding encoding, llvm::ArrayRef<int64_t> shape);

/// Exactly how many bits a weight of `shape` stores.
uint64_t getStoredBits(WeightEncoding encoding, llvm::ArrayRef<int64_t> shape);

/// Parses a short name (`w4g128`, `k3i+r32`) or an attribute (`#skim.…`). The
/// activation suffix (`-a8`) goes to `activations` (empty if there is none).
/// On failure returns null and says why in `error`.
WeightEncoding parseTerm(llvm::StringRef text, mlir::MLIRContext *context, std::string &activations,
                         std::string &error);

/// Called by every encoding's VerifiableTensorEncoding hook.
llvm::LogicalResult verifyTensorEncoding(mlir::Attribute encoding, llvm::ArrayRef<int64_t> shape,
                                         mlir::Type elementType,
                                         llvm::function_ref<mlir::InFlightDiagnostic()> emitError);

} // namespace skim

#endif // SKIM_SKIM_SKIMENCODINGS_H
