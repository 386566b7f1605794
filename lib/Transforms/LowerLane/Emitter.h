//===- Emitter.h - short names for what lowerings emit ----------*- C++ -*-===//
#ifndef SKIM_LIB_TRANSFORMS_LOWERLANE_EMITTER_H
#define SKIM_LIB_TRANSFORMS_LOWERLANE_EMITTER_H

#include "mlir/IR/PatternMatch.h"
#include "skim/Lane/LaneOps.h"
#include "skim/Transforms/LowerLane.h"

namespace skim {

inline int64_t lanesOf(mlir::Value value) { return llvm::cast<mlir::VectorType>(value.getType()).getNumElements(); }
inline mlir::Type elementOf(mlir::Value value) { return mlir::getElementTypeOrSelf(value.getType()); }

/// Emits arith, vector and intrinsics at a rewriter's insertion point.
struct Emitter {
  mlir::OpBuilder &builder;
  mlir::Location loc;

  using Value = mlir::Value;
  using Type = mlir::Type;

  static mlir::VectorType vec(int64_t lanes, Type element) { return mlir::VectorType::get({lanes}, element); }
  /// The type with another element.
  static Type like(Type type, Type element) {
    if (auto vector = llvm::dyn_cast<mlir::VectorType>(type))
      return mlir::VectorType::get(vector.getShape(), element);
    return element;
  }
  Type integer(unsigned bits) { return builder.getIntegerType(bits); }

  /// An integer (or splat) constant.
  Value constant(Type type, uint64_t value) {
    llvm::APInt bits(mlir::getElementTypeOrSelf(type).getIntOrFloatBitWidth(), value, false, /*implicitTrunc=*/true);
    mlir::TypedAttr attr = builder.getIntegerAttr(mlir::getElementTypeOrSelf(type), bits);
    if (auto vector = llvm::dyn_cast<mlir::VectorType>(type))
      attr = mlir::SplatElementsAttr::get(vector, llvm::cast<mlir::Attribute>(attr));
    return mlir::arith::ConstantOp::create(builder, loc, attr);
  }
  Value constants(mlir::VectorType type, llvm::ArrayRef<int64_t> values) {
    llvm::SmallVector<llvm::APInt> elements;
    for (int64_t value : values)
      elements.emplace_back(type.getElementTypeBitWidth(), static_cast<uint64_t>(value), false, /*implicitTrunc=*/true);
    return mlir::arith::ConstantOp::create(builder, loc, mlir::DenseElementsAttr::get(type, elements));
  }
  Value bitcast(Value value, Type type) {
    if (value.getType() == type)
      return value;
    return mlir::LLVM::BitcastOp::create(builder, loc, type, value);
  }
  Value shuffle(Value a, Value b, llvm::ArrayRef<int64_t> lanes) {
    return mlir::vector::ShuffleOp::create(builder, loc, a, b, lanes);
  }
  /// Lanes first … first + count − 1.
  Value slice(Value vector, int64_t first, int64_t count) {
    if (first == 0 && count == lanesOf(vector))
      return vector;
    return shuffle(vector, vector, llvm::to_vector(llvm::seq<int64_t>(first, first + count)));
  }
  Value concat(Value a, Value b) {
    return shuffle(a, b, llvm::to_vector(llvm::seq<int64_t>(0, lanesOf(a) + lanesOf(b))));
  }
  /// Lane i mod n for each of `lanes` lanes: a table repeated to fill a register.
  /// A table that is already longer is returned as it is.
  Value repeat(Value vector, int64_t lanes) {
    int64_t n = lanesOf(vector);
    if (n >= lanes)
      return vector;
    llvm::SmallVector<int64_t> order;
    for (int64_t i = 0; i < lanes; ++i)
      order.push_back(i % n);
    return shuffle(vector, vector, order);
  }
  Value call(llvm::StringRef name, Type result, mlir::ValueRange arguments) {
    return mlir::LLVM::CallIntrinsicOp::create(builder, loc, result, builder.getStringAttr(name), arguments)
        .getResult(0);
  }
  /// Sign bit of each lane moved from bit `bit`, as a mask.
  Value bitSet(Value codes, unsigned bit) {
    Value masked = mlir::arith::AndIOp::create(builder, loc, codes, constant(codes.getType(), uint64_t(1) << bit));
    return mlir::arith::CmpIOp::create(builder, loc, mlir::arith::CmpIPredicate::ne, masked,
                                       constant(codes.getType(), 0));
  }
  Value select(Value mask, Value a, Value b) { return mlir::arith::SelectOp::create(builder, loc, mask, a, b); }
};

/// A lookup in `table` by a lookup `narrow` in tables of at most `entries`
/// entries: the parts are chosen among by the codes' upper bits.
inline mlir::Value lookupByParts(Emitter &e, mlir::Value table, mlir::Value codes, int64_t entries,
                                 llvm::function_ref<mlir::Value(mlir::Value table)> narrow) {
  int64_t n = lanesOf(table);
  if (n <= entries)
    return narrow(table);
  mlir::Value low = lookupByParts(e, e.slice(table, 0, n / 2), codes, entries, narrow);
  mlir::Value high = lookupByParts(e, e.slice(table, n / 2, n / 2), codes, entries, narrow);
  return e.select(e.bitSet(codes, llvm::Log2_64(n / 2)), high, low);
}

} // namespace skim

#endif // SKIM_LIB_TRANSFORMS_LOWERLANE_EMITTER_H
