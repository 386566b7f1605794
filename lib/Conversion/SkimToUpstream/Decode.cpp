//===- Decode.cpp - encoded weights as plain tensors ------------------------===//
//
// A leaf is the equation of its ODS description, one element at a time; the
// combinators work on whole tensors.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

#include <functional>

using namespace mlir;
using namespace skim;

/// `bits` (at most 8) bits from bit `bit` of row `row`, as i32. They lie in two bytes at most.
static Value readBits(Emitter &e, Value codes, Value row, Value bit, unsigned bits) {
  int64_t bytes = cast<RankedTensorType>(codes.getType()).getDimSize(1);
  Type i32 = e.b.getI32Type();
  Value first = e.div(bit, 8);
  Value word = e.zeroExtend(tensor::ExtractOp::create(e.b, e.loc, codes, ValueRange{row, first}), i32);
  if (8 % bits) {
    // The last code may end with the row: then the byte behind it is not needed, and not there.
    Value second = arith::MinUIOp::create(e.b, e.loc, e.add(first, e.index(1)), e.index(bytes - 1));
    Value high = e.zeroExtend(tensor::ExtractOp::create(e.b, e.loc, codes, ValueRange{row, second}), i32);
    word = arith::OrIOp::create(e.b, e.loc, word, arith::ShLIOp::create(e.b, e.loc, high, e.i32(8)));
  }
  Value shift = arith::IndexCastOp::create(e.b, e.loc, i32, e.rem(bit, 8));
  word = arith::ShRUIOp::create(e.b, e.loc, word, shift);
  return arith::AndIOp::create(e.b, e.loc, word, e.i32((1 << bits) - 1));
}

/// The code of column k, `bits` bits a code.
static Value readCode(Emitter &e, Value codes, Value row, Value k, unsigned bits) {
  return readBits(e, codes, row, e.mul(k, e.index(bits)), bits);
}

static Value toFloat(Emitter &e, Value i32) { return arith::SIToFPOp::create(e.b, e.loc, e.b.getF32Type(), i32); }

static Value decodeUniform(Emitter &e, UniformAttr term, int64_t columns, ValueRange components, ValueRange at) {
  Value row = at[0], group = e.div(at[1], term.getGroupSize(columns));
  Value q = readCode(e, components[0], row, at[1], term.getBits());
  Value scale = e.load(components[1], {row, group});
  if (term.getZeroType())
    return e.mul(scale, e.sub(toFloat(e, q), e.load(components[2], {row, group})));
  Value zero = e.i32(1 << (term.getBits() - 1)); // symmetric codes are stored offset
  if (term.getAsymmetric())
    zero = readCode(e, components[2], row, group, term.getBits());
  return e.mul(scale, toFloat(e, e.sub(q, zero)));
}

static Value decodeCodebook(Emitter &e, CodebookAttr term, ValueRange components, ValueRange at) {
  Value q = e.toIndex(readCode(e, components[0], at[0], at[1], term.getBits()));
  Value book = term.getTensorScope() ? e.index(0) : at[0];
  Value entry = e.load(components[1], {book, q});
  if (!term.getTable().isInteger(8))
    return entry;
  return e.mul(e.load(components[2], book), toFloat(e, arith::ExtSIOp::create(e.b, e.loc, e.b.getI32Type(), entry)));
}

/// 2^(stored − offset) as f32, also where it is subnormal or too large for one factor.
static Value powerOfTwo(Emitter &e, Value stored, int offset, Value number) {
  // Two factors of half the exponent each: each is a normal f32, and scaling by
  // powers of two rounds at most once, in the second product.
  Value exponent = e.sub(stored, e.i32(offset));
  Value half = arith::ShRSIOp::create(e.b, e.loc, exponent, e.i32(1));
  auto factor = [&](Value power) -> Value {
    Value biased = arith::ShLIOp::create(e.b, e.loc, e.add(power, e.i32(127)), e.i32(23));
    return arith::BitcastOp::create(e.b, e.loc, e.b.getF32Type(), biased);
  };
  return e.mul(e.mul(number, factor(half)), factor(e.sub(exponent, half)));
}

static Value decodeBlockFloat(Emitter &e, BlockFloatAttr term, ValueRange components, ValueRange at) {
  int bits = static_cast<int>(term.getBits()), half = 1 << (bits - 1);
  Value code = readCode(e, components[0], at[0], at[1], term.getBits());
  Value block = e.div(at[1], term.getBlock());
  Value stored = tensor::ExtractOp::create(e.b, e.loc, components[1], ValueRange{at[0], block});
  stored = e.zeroExtend(stored, e.b.getI32Type());
  Value magnitude = arith::AndIOp::create(e.b, e.loc, code, e.i32(half - 1));
  Value sign = arith::AndIOp::create(e.b, e.loc, code, e.i32(half));
  Value negative = arith::CmpIOp::create(e.b, e.loc, arith::CmpIPredicate::ne, sign, e.i32(0));
  auto signedOf = [&](Value number) -> Value {
    Value minus = arith::NegFOp::create(e.b, e.loc, number);
    return arith::SelectOp::create(e.b, e.loc, negative, minus, number);
  };
  Value value;
  switch (term.getElement()) {
  case BlockElement::Int:
    return powerOfTwo(e, stored, 127 + bits - 1, signedOf(toFloat(e, magnitude)));
  case BlockElement::OcpInt:
    value = powerOfTwo(e, stored, 127 + bits - 2, toFloat(e, e.sub(magnitude, sign)));
    break;
  case BlockElement::E2M1: {
    auto type = RankedTensorType::get({8}, e.b.getF32Type());
    Value table = arith::ConstantOp::create(
        e.b, e.loc, DenseElementsAttr::get(type, ArrayRef<float>{0, 0.5f, 1, 1.5f, 2, 3, 4, 6}));
    value = powerOfTwo(e, stored, 127, signedOf(e.load(table, e.toIndex(magnitude))));
    break;
  }
  }
  Value isNaN = arith::CmpIOp::create(e.b, e.loc, arith::CmpIPredicate::eq, stored, e.i32(255));
  Value nan =
      arith::ConstantOp::create(e.b, e.loc, e.b.getFloatAttr(e.b.getF32Type(), APFloat::getNaN(APFloat::IEEEsingle())));
  return arith::SelectOp::create(e.b, e.loc, isNaN, nan, value);
}

static Value decodePlanes(Emitter &e, PlanesAttr term, int64_t columns, ValueRange components, ValueRange at) {
  Value row = at[0], k = at[1], group = e.div(k, term.getGroupSize(columns)), q;
  if (term.isBaseFive()) {
    Value number = readBits(e, components[0], row, e.mul(e.div(k, 3), e.index(7)), 7);
    auto type = RankedTensorType::get({3}, e.b.getI32Type());
    Value powers = arith::ConstantOp::create(e.b, e.loc, DenseElementsAttr::get(type, ArrayRef<int32_t>{1, 5, 25}));
    Value power = tensor::ExtractOp::create(e.b, e.loc, powers, e.rem(k, 3));
    q = arith::RemUIOp::create(e.b, e.loc, arith::DivUIOp::create(e.b, e.loc, number, power), e.i32(5));
  } else {
    q = e.i32(0);
    for (unsigned plane = 0; plane < term.getNumPlanes(); ++plane) {
      Value bit = readBits(e, components[0], row, e.add(k, e.index(plane * ((columns + 7) / 8) * 8)), 1);
      q = arith::OrIOp::create(e.b, e.loc, q, arith::ShLIOp::create(e.b, e.loc, bit, e.i32(plane)));
    }
  }
  Value zero = tensor::ExtractOp::create(e.b, e.loc, components[2], ValueRange{row, group});
  Value difference = e.sub(q, e.zeroExtend(zero, e.b.getI32Type()));
  return e.mul(e.load(components[1], {row, group}), toFloat(e, difference));
}

/// stored[inverse[n], k], where inverse is the permutation's inverse.
static Value decodeRows(Emitter &e, RowsAttr term, ArrayRef<int64_t> shape, ValueRange components) {
  SmallVector<Value> parts;
  for (auto [part, count] : llvm::zip(term.getParts(), term.getCounts())) {
    auto leaf = llvm::cast<WeightEncoding>(part);
    size_t taken = getComponents(leaf, {count, shape[1]}).size();
    parts.push_back(emitDecode(e, leaf, {count, shape[1]}, components.take_front(taken)));
    if (!parts.back())
      return {};
    components = components.drop_front(taken);
  }
  Value stored = parts.size() == 1 ? parts.front() : tensor::ConcatOp::create(e.b, e.loc, 0, parts).getResult();
  Value permutation = components.front();
  Value empty = tensor::EmptyOp::create(e.b, e.loc, ArrayRef<int64_t>{shape[0]}, e.b.getIndexType());
  Value inverse = scf::ForOp::create(e.b, e.loc, e.index(0), e.index(shape[0]), e.index(1), empty,
                                     [&](OpBuilder &nested, Location at, Value i, ValueRange carried) {
                                       Emitter body(nested, at);
                                       Value row = tensor::ExtractOp::create(nested, at, permutation, i);
                                       row = body.zeroExtend(row, nested.getIndexType());
                                       Value next = tensor::InsertOp::create(nested, at, i, carried[0], row);
                                       scf::YieldOp::create(nested, at, next);
                                     })
                      .getResult(0);
  return e.generate({e.size(shape[0]), e.size(shape[1])}, e.b.getF32Type(), [&](Emitter &body, ValueRange at) {
    return body.load(stored, {body.load(inverse, at[0]), at[1]});
  });
}

/// Element (row, column) of a leaf with `columns` columns; null where a leaf has no equation here.
using Element = std::function<Value(Emitter &e, ValueRange at)>;
static Element elementOf(Attribute leaf, int64_t columns, ValueRange components) {
  return llvm::TypeSwitch<Attribute, Element>(leaf)
      .Case([=](DenseAttr) { return [=](Emitter &e, ValueRange at) { return e.load(components[0], at); }; })
      .Case([=](UniformAttr attr) {
        return [=](Emitter &e, ValueRange at) { return decodeUniform(e, attr, columns, components, at); };
      })
      .Case([=](CodebookAttr attr) {
        return [=](Emitter &e, ValueRange at) { return decodeCodebook(e, attr, components, at); };
      })
      .Case([=](BlockFloatAttr attr) {
        return [=](Emitter &e, ValueRange at) { return decodeBlockFloat(e, attr, components, at); };
      })
      .Case([=](PlanesAttr attr) {
        return [=](Emitter &e, ValueRange at) { return decodePlanes(e, attr, columns, components, at); };
      })
      .Default([](Attribute) { return nullptr; });
}

WeightEncoding skim::leafWithoutDecode(Attribute term) {
  if (auto lowRank = llvm::dyn_cast<LowRankAttr>(term)) {
    WeightEncoding base = leafWithoutDecode(lowRank.getBase());
    return base ? base : leafWithoutDecode(lowRank.getFactors());
  }
  if (auto scaled = llvm::dyn_cast<ScaledAttr>(term))
    return leafWithoutDecode(scaled.getInner());
  if (auto rows = llvm::dyn_cast<RowsAttr>(term)) {
    for (Attribute part : rows.getParts())
      if (WeightEncoding leaf = leafWithoutDecode(part))
        return leaf;
    return {};
  }
  return elementOf(term, 1, {}) ? WeightEncoding() : llvm::cast<WeightEncoding>(term);
}

Value skim::emitDecode(Emitter &e, WeightEncoding term, ArrayRef<int64_t> shape, ValueRange components) {
  SmallVector<OpFoldResult> sizes{e.size(shape[0]), e.size(shape[1])};
  return llvm::TypeSwitch<Attribute, Value>(term)
      .Case([&](RowsAttr attr) { return decodeRows(e, attr, shape, components); })
      .Case([&](ScaledAttr attr) {
        Value inner = emitDecode(e, llvm::cast<WeightEncoding>(attr.getInner()), shape, components.drop_back());
        if (!inner)
          return Value();
        Value alpha = components.back();
        return e.generate(sizes, e.b.getF32Type(), [&](Emitter &body, ValueRange at) {
          return body.mul(body.load(inner, at), body.load(alpha, at[1]));
        });
      })
      .Case([&](LowRankAttr attr) {
        auto base = llvm::cast<WeightEncoding>(attr.getBase()), factors = llvm::cast<WeightEncoding>(attr.getFactors());
        int64_t rank = attr.getRank();
        size_t baseCount = getComponents(base, shape).size();
        size_t aCount = getComponents(factors, {rank, shape[1]}).size();
        Value w = emitDecode(e, base, shape, components.take_front(baseCount));
        Value a = emitDecode(e, factors, {rank, shape[1]}, components.slice(baseCount, aCount));
        Value bFactor = emitDecode(e, factors, {shape[0], rank}, components.drop_front(baseCount + aCount));
        if (!w || !a || !bFactor)
          return Value();
        return linalg::MatmulOp::create(e.b, e.loc, w.getType(), ValueRange{bFactor, a}, w).getResult(0);
      })
      .Default([&](Attribute leaf) {
        Element element = elementOf(leaf, shape[1], components);
        return element ? e.generate(sizes, e.b.getF32Type(), element) : Value();
      });
}
