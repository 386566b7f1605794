//===- ElementwiseModels.cpp - derivatives of arith and math ----------------===//
//
// All of these work on scalars and on tensors alike, so that they also
// differentiate the bodies of structured operations.
//
//===----------------------------------------------------------------------===//

#include "Models.h"
#include "Structured.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <numbers>

using namespace mlir;
using namespace skim;

static Value add(Adjoints &a, Value x, Value y) { return arith::AddFOp::create(a.b, x, y); }
static Value sub(Adjoints &a, Value x, Value y) { return arith::SubFOp::create(a.b, x, y); }
static Value mul(Adjoints &a, Value x, Value y) { return arith::MulFOp::create(a.b, x, y); }
static Value div(Adjoints &a, Value x, Value y) { return arith::DivFOp::create(a.b, x, y); }
static Value neg(Adjoints &a, Value x) { return arith::NegFOp::create(a.b, x); }
static Value scaled(Adjoints &a, Value x, double factor) { return mul(a, x, splat(a.b, factor, x)); }
static Value select(Adjoints &a, Value condition, Value yes, Value no) {
  return arith::SelectOp::create(a.b, condition, yes, no);
}

static LogicalResult addF(arith::AddFOp op, Adjoints &a) {
  a.add(op.getLhs(), a.get(op));
  a.add(op.getRhs(), a.get(op));
  return success();
}

static LogicalResult subF(arith::SubFOp op, Adjoints &a) {
  a.add(op.getLhs(), a.get(op));
  a.add(op.getRhs(), neg(a, a.get(op)));
  return success();
}

static LogicalResult mulF(arith::MulFOp op, Adjoints &a) {
  a.add(op.getLhs(), mul(a, a.get(op), a.value(op.getRhs())));
  a.add(op.getRhs(), mul(a, a.get(op), a.value(op.getLhs())));
  return success();
}

static LogicalResult divF(arith::DivFOp op, Adjoints &a) {
  Value lhs = div(a, a.get(op), a.value(op.getRhs()));
  a.add(op.getLhs(), lhs);
  a.add(op.getRhs(), neg(a, mul(a, lhs, a.value(op))));
  return success();
}

static LogicalResult negF(arith::NegFOp op, Adjoints &a) {
  a.add(op.getOperand(), neg(a, a.get(op)));
  return success();
}

/// Where both are equal, the first is the extremum.
template <typename OpT, arith::CmpFPredicate first> static LogicalResult extremum(OpT op, Adjoints &a) {
  Value dy = a.get(op), zero = splat(a.b, 0, dy);
  Value isFirst = arith::CmpFOp::create(a.b, first, a.value(op.getLhs()), a.value(op.getRhs()));
  a.add(op.getLhs(), select(a, isFirst, dy, zero));
  a.add(op.getRhs(), select(a, isFirst, zero, dy));
  return success();
}

static LogicalResult selectOf(arith::SelectOp op, Adjoints &a) {
  Value dy = a.get(op), zero = splat(a.b, 0, dy), condition = a.value(op.getCondition());
  a.add(op.getTrueValue(), select(a, condition, dy, zero));
  a.add(op.getFalseValue(), select(a, condition, zero, dy));
  return success();
}

/// Rounding has the derivative 1.
template <typename OpT> static LogicalResult castOf(OpT op, Adjoints &a) {
  a.add(op.getIn(), castFloat(a.b, a.get(op), getElementTypeOrSelf(op.getIn())));
  return success();
}

static LogicalResult fma(math::FmaOp op, Adjoints &a) {
  a.add(op.getA(), mul(a, a.get(op), a.value(op.getB())));
  a.add(op.getB(), mul(a, a.get(op), a.value(op.getA())));
  a.add(op.getC(), a.get(op));
  return success();
}

static LogicalResult abs(math::AbsFOp op, Adjoints &a) {
  Value x = a.value(op.getOperand()), dy = a.get(op);
  Value isNegative = arith::CmpFOp::create(a.b, arith::CmpFPredicate::OLT, x, splat(a.b, 0, x));
  a.add(op.getOperand(), select(a, isNegative, neg(a, dy), dy));
  return success();
}

static LogicalResult sqrt(math::SqrtOp op, Adjoints &a) {
  Value y = a.value(op);
  a.add(op.getOperand(), div(a, a.get(op), add(a, y, y)));
  return success();
}

static LogicalResult rsqrt(math::RsqrtOp op, Adjoints &a) {
  // −y³/2 = −y/(2x)
  Value x = a.value(op.getOperand());
  a.add(op.getOperand(), neg(a, div(a, mul(a, a.get(op), a.value(op)), add(a, x, x))));
  return success();
}

static LogicalResult exp(math::ExpOp op, Adjoints &a) {
  a.add(op.getOperand(), mul(a, a.get(op), a.value(op)));
  return success();
}

static LogicalResult exp2(math::Exp2Op op, Adjoints &a) {
  a.add(op.getOperand(), scaled(a, mul(a, a.get(op), a.value(op)), std::numbers::ln2));
  return success();
}

static LogicalResult log(math::LogOp op, Adjoints &a) {
  a.add(op.getOperand(), div(a, a.get(op), a.value(op.getOperand())));
  return success();
}

static LogicalResult sin(math::SinOp op, Adjoints &a) {
  a.add(op.getOperand(), mul(a, a.get(op), math::CosOp::create(a.b, a.value(op.getOperand()))));
  return success();
}

static LogicalResult cos(math::CosOp op, Adjoints &a) {
  a.add(op.getOperand(), neg(a, mul(a, a.get(op), math::SinOp::create(a.b, a.value(op.getOperand())))));
  return success();
}

static LogicalResult tanh(math::TanhOp op, Adjoints &a) {
  Value y = a.value(op), dy = a.get(op);
  a.add(op.getOperand(), sub(a, dy, mul(a, dy, mul(a, y, y))));
  return success();
}

static LogicalResult erf(math::ErfOp op, Adjoints &a) {
  Value x = a.value(op.getOperand());
  Value bell = math::ExpOp::create(a.b, neg(a, mul(a, x, x)));
  a.add(op.getOperand(), scaled(a, mul(a, a.get(op), bell), 2 * std::numbers::inv_sqrtpi));
  return success();
}

static LogicalResult powF(math::PowFOp op, Adjoints &a) {
  Value x = a.value(op.getLhs()), y = a.value(op.getRhs()), dz = a.get(op), zero = splat(a.b, 0, x);
  Value lower = math::PowFOp::create(a.b, x, sub(a, y, splat(a.b, 1, y)));
  a.add(op.getLhs(), mul(a, dz, mul(a, y, lower)));
  // x^y·log x, which ends in 0 at x = 0.
  Value isZero = arith::CmpFOp::create(a.b, arith::CmpFPredicate::OEQ, x, zero);
  Value slope = mul(a, a.value(op), math::LogOp::create(a.b, x));
  a.add(op.getRhs(), mul(a, dz, select(a, isZero, zero, slope)));
  return success();
}

void skim::registerElementwiseModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, arith::ArithDialect *) {
    using P = arith::CmpFPredicate;
    attachAdjoint<arith::AddFOp, addF>(context);
    attachAdjoint<arith::SubFOp, subF>(context);
    attachAdjoint<arith::MulFOp, mulF>(context);
    attachAdjoint<arith::DivFOp, divF>(context);
    attachAdjoint<arith::NegFOp, negF>(context);
    attachAdjoint<arith::MaximumFOp, extremum<arith::MaximumFOp, P::OGE>>(context);
    attachAdjoint<arith::MaxNumFOp, extremum<arith::MaxNumFOp, P::OGE>>(context);
    attachAdjoint<arith::MinimumFOp, extremum<arith::MinimumFOp, P::OLE>>(context);
    attachAdjoint<arith::MinNumFOp, extremum<arith::MinNumFOp, P::OLE>>(context);
    attachAdjoint<arith::SelectOp, selectOf>(context);
    attachAdjoint<arith::ExtFOp, castOf>(context);
    attachAdjoint<arith::TruncFOp, castOf>(context);
  });
  registry.addExtension(+[](MLIRContext *context, math::MathDialect *) {
    attachAdjoint<math::FmaOp, fma>(context);
    attachAdjoint<math::AbsFOp, abs>(context);
    attachAdjoint<math::SqrtOp, sqrt>(context);
    attachAdjoint<math::RsqrtOp, rsqrt>(context);
    attachAdjoint<math::ExpOp, exp>(context);
    attachAdjoint<math::Exp2Op, exp2>(context);
    attachAdjoint<math::LogOp, log>(context);
    attachAdjoint<math::SinOp, sin>(context);
    attachAdjoint<math::CosOp, cos>(context);
    attachAdjoint<math::TanhOp, tanh>(context);
    attachAdjoint<math::ErfOp, erf>(context);
    attachAdjoint<math::PowFOp, powF>(context);
  });
}
