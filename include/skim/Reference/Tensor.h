//===- Tensor.h - values of the reference -----------------------*- C++ -*-===//
#ifndef SKIM_REFERENCE_TENSOR_H
#define SKIM_REFERENCE_TENSOR_H

#include "mlir/IR/BuiltinTypes.h"
#include "skim/Skim/SkimEncodings.h"

#include <memory>
#include <vector>

namespace skim::reference {

/// Bytes that one element takes: its width rounded up to whole bytes; `index`
/// takes 8. Codes inside `i8` components are not elements of their own.
int64_t elementBytes(mlir::Type elementType);

/// A dense tensor of static shape, row-major, little endian; a scalar has rank 0.
/// An encoded weight has no bytes of its own but its encoding's components.
/// Copies share their storage.
class Tensor {
public:
  Tensor() = default;
  /// Zeros. `elementType`: integer, index, f16, bf16, f32 or f64.
  Tensor(mlir::Type elementType, llvm::ArrayRef<int64_t> shape);
  /// Views `data`, which lives as long as `owner`.
  Tensor(mlir::Type elementType, llvm::ArrayRef<int64_t> shape, const uint8_t *data, std::shared_ptr<const void> owner);
  /// An encoded weight of the (static) type.
  Tensor(mlir::RankedTensorType type, std::vector<Tensor> components);

  /// A tensor of f32 with these values.
  static Tensor floats(mlir::MLIRContext *context, llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<float> values);
  /// A tensor of signless integers of `width` bits with these values.
  static Tensor integers(mlir::MLIRContext *context, unsigned width, llvm::ArrayRef<int64_t> shape,
                         llvm::ArrayRef<int64_t> values);
  /// A scalar.
  static Tensor scalar(mlir::Type type, double value);
  static Tensor index(mlir::MLIRContext *context, int64_t value);

  mlir::Type getElementType() const { return elementType; }
  llvm::ArrayRef<int64_t> getShape() const { return shape; }
  int64_t getRank() const { return static_cast<int64_t>(shape.size()); }
  int64_t getDim(int64_t i) const { return i < 0 ? shape[shape.size() + i] : shape[i]; }
  int64_t getNumElements() const;
  bool isFloat() const { return mlir::isa<mlir::FloatType>(elementType); }
  WeightEncoding getEncoding() const { return encoding; }
  llvm::ArrayRef<Tensor> getComponents() const { return components; }

  /// Element `i` in row-major order, as a number.
  double at(int64_t i) const;
  /// Element `i` of an integer tensor, sign extended (an i1 is 0 or −1).
  int64_t intAt(int64_t i) const;
  /// Element `i` of an integer tensor, zero extended.
  uint64_t uintAt(int64_t i) const;
  /// Rounds to the element type; integers wrap.
  void set(int64_t i, double value);
  void setInt(int64_t i, int64_t value);

  /// The stored bytes of a tensor that is not encoded.
  llvm::ArrayRef<uint8_t> getBytes() const;
  /// All elements as f32; decodes an encoded weight.
  std::vector<float> toFloats() const;
  /// The same for elements of f64.
  std::vector<double> toDoubles() const;

  /// The same elements in another shape (of as many elements).
  Tensor reshaped(llvm::ArrayRef<int64_t> newShape) const;

  /// `4x8xf32`, for messages.
  std::string describe() const;

private:
  mlir::Type elementType;
  llvm::SmallVector<int64_t, 4> shape;
  WeightEncoding encoding;
  std::vector<Tensor> components;
  const uint8_t *data = nullptr;
  uint8_t *writable = nullptr;
  std::shared_ptr<const void> owner;
};

} // namespace skim::reference

#endif // SKIM_REFERENCE_TENSOR_H
