//===- InterpretElementwise.cpp - the reference of arith and math -----------===//

#include "Frame.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>

using namespace mlir;
using namespace skim;
using namespace skim::reference;

static bool compare(arith::CmpFPredicate predicate, double a, double b) {
  bool unordered = std::isnan(a) || std::isnan(b);
  using P = arith::CmpFPredicate;
  switch (predicate) {
  case P::AlwaysFalse:
    return false;
  case P::OEQ:
    return a == b;
  case P::OGT:
    return a > b;
  case P::OGE:
    return a >= b;
  case P::OLT:
    return a < b;
  case P::OLE:
    return a <= b;
  case P::ONE:
    return !unordered && a != b;
  case P::ORD:
    return !unordered;
  case P::UEQ:
    return unordered || a == b;
  case P::UGT:
    return unordered || a > b;
  case P::UGE:
    return unordered || a >= b;
  case P::ULT:
    return unordered || a < b;
  case P::ULE:
    return unordered || a <= b;
  case P::UNE:
    return a != b;
  case P::UNO:
    return unordered;
  case P::AlwaysTrue:
    return true;
  }
  return false;
}

/// Sets every element of the operation's result by `compute(i)`; operands have equal shapes.
template <typename Compute> static Handled map(Operation &op, Frame &frame, Compute compute) {
  const Tensor &first = frame.get(op.getOperand(0));
  for (Value operand : op.getOperands())
    if (frame.get(operand).getShape() != first.getShape())
      return frame.fail(op, "operands of equal shapes", first.describe() + " and " + frame.get(operand).describe());
  Tensor result = makeResult(op.getResult(0), first.getShape());
  for (int64_t i = 0, e = first.getNumElements(); i < e; ++i)
    compute(result, i);
  frame.set(op.getResult(0), result);
  return true;
}

static Handled unary(Operation &op, Frame &frame, double (*compute)(double)) {
  const Tensor &a = frame.get(op.getOperand(0));
  return map(op, frame, [&](Tensor &result, int64_t i) { result.set(i, compute(a.at(i))); });
}

static Handled binary(Operation &op, Frame &frame, double (*compute)(double, double)) {
  const Tensor &a = frame.get(op.getOperand(0)), &b = frame.get(op.getOperand(1));
  return map(op, frame, [&](Tensor &result, int64_t i) { result.set(i, compute(a.at(i), b.at(i))); });
}

static Handled binaryInt(Operation &op, Frame &frame, int64_t (*compute)(int64_t, int64_t)) {
  const Tensor &a = frame.get(op.getOperand(0)), &b = frame.get(op.getOperand(1));
  return map(op, frame, [&](Tensor &result, int64_t i) { result.setInt(i, compute(a.intAt(i), b.intAt(i))); });
}

static Handled binaryUnsigned(Operation &op, Frame &frame, uint64_t (*compute)(uint64_t, uint64_t)) {
  const Tensor &a = frame.get(op.getOperand(0)), &b = frame.get(op.getOperand(1));
  return map(op, frame, [&](Tensor &result, int64_t i) {
    result.setInt(i, static_cast<int64_t>(compute(a.uintAt(i), b.uintAt(i))));
  });
}

/// Division needs a divisor; `compute` sees none that is 0.
template <typename Compute> static Handled divide(Operation &op, Frame &frame, Compute compute) {
  const Tensor &b = frame.get(op.getOperand(1));
  for (int64_t i = 0, e = b.getNumElements(); i < e; ++i)
    if (b.intAt(i) == 0)
      return frame.fail(op, "a divisor other than 0");
  return compute();
}

static Handled runConstant(arith::ConstantOp op, Frame &frame) {
  Type type = op.getType();
  if (auto dense = dyn_cast<DenseElementsAttr>(op.getValue())) {
    Tensor result = makeResult(op.getResult(), dense.getType().getShape());
    int64_t i = 0;
    if (isa<FloatType>(dense.getElementType()))
      for (const APFloat &value : dense.getValues<APFloat>())
        result.set(i++, value.convertToDouble());
    else
      for (const APInt &value : dense.getValues<APInt>())
        result.setInt(i++, value.getSExtValue());
    frame.set(op.getResult(), result);
    return true;
  }
  Tensor result(type, {});
  if (auto value = dyn_cast<FloatAttr>(op.getValue()))
    result.set(0, value.getValueAsDouble());
  else if (auto value = dyn_cast<IntegerAttr>(op.getValue()))
    result.setInt(0, value.getValue().getSExtValue());
  else
    return frame.fail(*op, "a constant of numbers");
  frame.set(op.getResult(), result);
  return true;
}

static Handled runSelect(arith::SelectOp op, Frame &frame) {
  const Tensor &condition = frame.get(op.getCondition());
  const Tensor &yes = frame.get(op.getTrueValue()), &no = frame.get(op.getFalseValue());
  if (condition.getRank() == 0) {
    frame.set(op.getResult(), condition.intAt(0) ? yes : no);
    return true;
  }
  return map(*op, frame, [&](Tensor &result, int64_t i) {
    const Tensor &chosen = condition.intAt(i) ? yes : no;
    if (chosen.isFloat())
      result.set(i, chosen.at(i));
    else
      result.setInt(i, chosen.intAt(i));
  });
}

/// NaN wins (minimumf, maximumf).
template <bool isMax> static double nanExtremum(double a, double b) {
  if (std::isnan(a) || std::isnan(b))
    return NAN;
  return isMax ? std::fmax(a, b) : std::fmin(a, b);
}

static Handled runCompareInt(arith::CmpIOp op, Frame &frame) {
  const Tensor &a = frame.get(op.getLhs()), &b = frame.get(op.getRhs());
  unsigned width = a.getElementType().isIndex() ? 64 : a.getElementType().getIntOrFloatBitWidth();
  return map(*op, frame, [&](Tensor &result, int64_t i) {
    APInt left(width, a.uintAt(i)), right(width, b.uintAt(i));
    result.setInt(i, arith::applyCmpPredicate(op.getPredicate(), left, right));
  });
}

/// Conversions between element types.
static Handled runCast(Operation &op, Frame &frame) {
  const Tensor &a = frame.get(op.getOperand(0));
  if (isa<arith::ExtFOp, arith::TruncFOp, arith::SIToFPOp>(op))
    return map(op, frame, [&](Tensor &result, int64_t i) { result.set(i, a.at(i)); });
  if (isa<arith::UIToFPOp>(op))
    return map(op, frame, [&](Tensor &result, int64_t i) { result.set(i, static_cast<double>(a.uintAt(i))); });
  if (isa<arith::FPToSIOp, arith::FPToUIOp>(op))
    return map(op, frame, [&](Tensor &result, int64_t i) { result.setInt(i, static_cast<int64_t>(a.at(i))); });
  if (isa<arith::ExtSIOp, arith::TruncIOp, arith::IndexCastOp>(op))
    return map(op, frame, [&](Tensor &result, int64_t i) { result.setInt(i, a.intAt(i)); });
  if (isa<arith::ExtUIOp, arith::IndexCastUIOp>(op))
    return map(op, frame, [&](Tensor &result, int64_t i) { result.setInt(i, static_cast<int64_t>(a.uintAt(i))); });
  if (isa<arith::BitcastOp>(op)) {
    Tensor result(getElementTypeOrSelf(op.getResult(0).getType()), a.getShape(), a.getBytes().data(),
                  std::make_shared<Tensor>(a));
    frame.set(op.getResult(0), result);
    return true;
  }
  return false;
}

static Handled runFloat(Operation &op, Frame &frame) {
  return llvm::TypeSwitch<Operation *, Handled>(&op)
      .Case([&](arith::AddFOp) { return binary(op, frame, [](double a, double b) { return a + b; }); })
      .Case([&](arith::SubFOp) { return binary(op, frame, [](double a, double b) { return a - b; }); })
      .Case([&](arith::MulFOp) { return binary(op, frame, [](double a, double b) { return a * b; }); })
      .Case([&](arith::DivFOp) { return binary(op, frame, [](double a, double b) { return a / b; }); })
      .Case([&](arith::RemFOp) { return binary(op, frame, [](double a, double b) { return std::fmod(a, b); }); })
      .Case([&](arith::MaximumFOp) { return binary(op, frame, nanExtremum<true>); })
      .Case([&](arith::MinimumFOp) { return binary(op, frame, nanExtremum<false>); })
      .Case([&](arith::MaxNumFOp) { return binary(op, frame, [](double a, double b) { return std::fmax(a, b); }); })
      .Case([&](arith::MinNumFOp) { return binary(op, frame, [](double a, double b) { return std::fmin(a, b); }); })
      .Case([&](math::PowFOp) { return binary(op, frame, [](double a, double b) { return std::pow(a, b); }); })
      .Case([&](arith::NegFOp) { return unary(op, frame, [](double a) { return -a; }); })
      .Case([&](math::AbsFOp) { return unary(op, frame, [](double a) { return std::fabs(a); }); })
      .Case([&](math::SqrtOp) { return unary(op, frame, [](double a) { return std::sqrt(a); }); })
      .Case([&](math::RsqrtOp) { return unary(op, frame, [](double a) { return 1 / std::sqrt(a); }); })
      .Case([&](math::ExpOp) { return unary(op, frame, [](double a) { return std::exp(a); }); })
      .Case([&](math::Exp2Op) { return unary(op, frame, [](double a) { return std::exp2(a); }); })
      .Case([&](math::LogOp) { return unary(op, frame, [](double a) { return std::log(a); }); })
      .Case([&](math::SinOp) { return unary(op, frame, [](double a) { return std::sin(a); }); })
      .Case([&](math::CosOp) { return unary(op, frame, [](double a) { return std::cos(a); }); })
      .Case([&](math::TanhOp) { return unary(op, frame, [](double a) { return std::tanh(a); }); })
      .Case([&](math::ErfOp) { return unary(op, frame, [](double a) { return std::erf(a); }); })
      .Case([&](math::FloorOp) { return unary(op, frame, [](double a) { return std::floor(a); }); })
      .Case([&](math::CeilOp) { return unary(op, frame, [](double a) { return std::ceil(a); }); })
      .Case([&](math::RoundEvenOp) { return unary(op, frame, [](double a) { return std::nearbyint(a); }); })
      .Case([&](math::FmaOp fma) -> Handled {
        const Tensor &a = frame.get(fma.getA()), &b = frame.get(fma.getB()), &c = frame.get(fma.getC());
        return map(op, frame, [&](Tensor &result, int64_t i) { result.set(i, a.at(i) * b.at(i) + c.at(i)); });
      })
      .Default([](Operation *) -> Handled { return false; });
}

static Handled runInteger(Operation &op, Frame &frame) {
  using U = uint64_t;
  return llvm::TypeSwitch<Operation *, Handled>(&op)
      .Case([&](arith::AddIOp) { return binaryUnsigned(op, frame, [](U a, U b) { return a + b; }); })
      .Case([&](arith::SubIOp) { return binaryUnsigned(op, frame, [](U a, U b) { return a - b; }); })
      .Case([&](arith::MulIOp) { return binaryUnsigned(op, frame, [](U a, U b) { return a * b; }); })
      .Case([&](arith::AndIOp) { return binaryUnsigned(op, frame, [](U a, U b) { return a & b; }); })
      .Case([&](arith::OrIOp) { return binaryUnsigned(op, frame, [](U a, U b) { return a | b; }); })
      .Case([&](arith::XOrIOp) { return binaryUnsigned(op, frame, [](U a, U b) { return a ^ b; }); })
      .Case([&](arith::ShLIOp) { return binaryUnsigned(op, frame, [](U a, U b) { return b < 64 ? a << b : 0; }); })
      .Case([&](arith::ShRUIOp) { return binaryUnsigned(op, frame, [](U a, U b) { return b < 64 ? a >> b : 0; }); })
      .Case([&](arith::MaxUIOp) { return binaryUnsigned(op, frame, [](U a, U b) { return std::max(a, b); }); })
      .Case([&](arith::MinUIOp) { return binaryUnsigned(op, frame, [](U a, U b) { return std::min(a, b); }); })
      .Case([&](arith::ShRSIOp) {
        return binaryInt(op, frame, [](int64_t a, int64_t b) { return a >> std::clamp<int64_t>(b, 0, 63); });
      })
      .Case([&](arith::MaxSIOp) { return binaryInt(op, frame, [](int64_t a, int64_t b) { return std::max(a, b); }); })
      .Case([&](arith::MinSIOp) { return binaryInt(op, frame, [](int64_t a, int64_t b) { return std::min(a, b); }); })
      .Case([&](arith::DivUIOp) {
        return divide(op, frame, [&] { return binaryUnsigned(op, frame, [](U a, U b) { return a / b; }); });
      })
      .Case([&](arith::RemUIOp) {
        return divide(op, frame, [&] { return binaryUnsigned(op, frame, [](U a, U b) { return a % b; }); });
      })
      .Case([&](arith::DivSIOp) {
        return divide(op, frame, [&] {
          return binaryInt(op, frame,
                           [](int64_t a, int64_t b) { return b == -1 ? static_cast<int64_t>(-U(a)) : a / b; });
        });
      })
      .Case([&](arith::RemSIOp) {
        return divide(op, frame,
                      [&] { return binaryInt(op, frame, [](int64_t a, int64_t b) { return b == -1 ? 0 : a % b; }); });
      })
      .Case([&](arith::FloorDivSIOp) {
        return divide(op, frame, [&] {
          return binaryInt(op, frame, [](int64_t a, int64_t b) {
            return b == -1 ? static_cast<int64_t>(-U(a)) : a / b - (a % b != 0 && (a < 0) != (b < 0));
          });
        });
      })
      .Case([&](arith::CeilDivSIOp) {
        return divide(op, frame, [&] {
          return binaryInt(op, frame, [](int64_t a, int64_t b) {
            return b == -1 ? static_cast<int64_t>(-U(a)) : a / b + (a % b != 0 && (a < 0) == (b < 0));
          });
        });
      })
      .Case([&](arith::CeilDivUIOp) {
        return divide(op, frame,
                      [&] { return binaryUnsigned(op, frame, [](U a, U b) { return a / b + (a % b != 0); }); });
      })
      .Default([](Operation *) -> Handled { return false; });
}

Handled skim::reference::interpretElementwise(Operation &op, Frame &frame) {
  if (!isa_and_nonnull<arith::ArithDialect, math::MathDialect>(op.getDialect()))
    return false;
  if (auto constant = dyn_cast<arith::ConstantOp>(op))
    return runConstant(constant, frame);
  if (auto select = dyn_cast<arith::SelectOp>(op))
    return runSelect(select, frame);
  if (auto cmp = dyn_cast<arith::CmpIOp>(op))
    return runCompareInt(cmp, frame);
  if (auto cmp = dyn_cast<arith::CmpFOp>(op)) {
    const Tensor &a = frame.get(cmp.getLhs()), &b = frame.get(cmp.getRhs());
    return map(op, frame,
               [&](Tensor &result, int64_t i) { result.setInt(i, compare(cmp.getPredicate(), a.at(i), b.at(i))); });
  }
  for (auto family : {runFloat, runInteger, runCast}) {
    Handled handled = family(op, frame);
    if (!handled || *handled)
      return handled;
  }
  return false;
}
