//===- Differentiate.cpp - adds the reverse mode of a function --------------===//

#include "skim/Transforms/Differentiate.h"

#include "Models.h"
#include "Structured.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/Iterators.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Transforms/CSE.h"
#include "skim/Skim/SkimOps.h"

using namespace mlir;

namespace skim {
#define GEN_PASS_DEF_DIFFERENTIATE
#include "skim/Transforms/Differentiate.h.inc"
} // namespace skim

using namespace skim;

/// Functions and numbers of arguments that cannot be differentiated, said.
static LogicalResult check(func::FuncOp function, ArrayRef<int64_t> wrt) {
  if (!llvm::hasSingleElement(function.getBody()))
    return function.emitOpError("expected a body of one block to differentiate");
  DenseSet<int64_t> seen;
  for (int64_t i : wrt) {
    if (i < 0 || i >= function.getNumArguments())
      return function.emitOpError("expected numbers of arguments below ")
             << function.getNumArguments() << " in wrt, got " << i;
    if (!isDifferentiable(function.getArgumentTypes()[i]))
      return function.emitOpError("expected arguments of float type in wrt, got ")
             << function.getArgumentTypes()[i] << " of argument " << i;
    if (!seen.insert(i).second)
      return function.emitOpError("expected different arguments in wrt, got ") << i << " twice";
  }
  return success();
}

/// Removes what nothing uses, also inside of regions.
static void removeUnused(func::FuncOp function) {
  function->walk<WalkOrder::PostOrder, ReverseIterator>([](Operation *op) {
    if (isOpTriviallyDead(op))
      op->erase();
  });
}

namespace {
/// The vjp function while it is made.
class Reversal {
public:
  Reversal(func::FuncOp function, ArrayRef<int64_t> wrt, bool observe)
      : function(function), body(function.getBody().front()), b(function.getLoc(), function.getContext()),
        adjoints(b, values) {
    for (int64_t i : wrt)
      wanted.push_back(body.getArgument(i));
    if (observe)
      for (LinearOp linear : body.getOps<LinearOp>())
        if (linear.getLayer())
          layers.push_back(linear);
  }

  FailureOr<func::FuncOp> run() {
    Operation *terminator = body.getTerminator();
    SmallVector<Value> outputs, inputs(wanted);
    SmallVector<Type> types(function.getArgumentTypes());
    for (Value result : terminator->getOperands())
      if (isDifferentiable(result.getType())) {
        outputs.push_back(result);
        types.push_back(result.getType());
      }
    for (LinearOp linear : layers)
      inputs.push_back(linear);

    b.setInsertionPointAfter(function);
    vjp = func::FuncOp::create(b, (function.getName() + "_vjp").str(), b.getFunctionType(types, {}));
    Block *block = vjp.addEntryBlock();
    b.setInsertionPointToStart(block);
    for (auto [original, argument] : llvm::zip(body.getArguments(), block->getArguments())) {
      values.map(original, argument);
      NamedAttrList attributes(function_interface_impl::getArgAttrs(function, argument.getArgNumber()));
      attributes.erase("skim.cache"); // here a value like others, which both passes read
      vjp.setArgAttrs(argument.getArgNumber(), attributes);
    }

    adjoints.analyze(body, inputs, outputs);
    adjoints.emitPrimal(body);
    for (auto [output, seed] : llvm::zip(outputs, block->getArguments().drop_front(function.getNumArguments())))
      adjoints.add(output, seed);
    if (failed(adjoints.emitAdjoints(body))) {
      vjp.erase();
      return failure();
    }
    finish(terminator->getLoc());
    return vjp;
  }

private:
  /// Returns the adjoints and what is observed, and removes the rest.
  void finish(Location loc) {
    b.setLoc(loc);
    SmallVector<Value> results;
    SmallVector<NamedAttrList> attributes;
    auto give = [&](Value value, StringRef name = {}, StringAttr layer = {}) {
      results.push_back(value);
      attributes.emplace_back();
      if (layer)
        attributes.back().set(name, layer);
    };
    auto adjointOf = [&](Value original) {
      Value adjoint = adjoints.get(original);
      return adjoint ? adjoint : splat(b, 0, adjoints.value(original));
    };
    for (Value argument : wanted)
      give(adjointOf(argument));
    DenseSet<Value> observed;
    for (LinearOp linear : layers) {
      if (observed.insert(linear.getInput()).second)
        give(adjoints.value(linear.getInput()), kInputAttr, linear.getLayerAttr());
      give(adjointOf(linear), kOutputAdjointAttr, linear.getLayerAttr());
    }
    func::ReturnOp::create(b, results);
    vjp.setFunctionType(b.getFunctionType(vjp.getArgumentTypes(), TypeRange(ValueRange(results))));
    for (auto [i, list] : llvm::enumerate(attributes))
      vjp.setResultAttrs(static_cast<unsigned>(i), list);

    // What the forward pass hands to calibration, this function returns.
    vjp.walk([](ObserveOp op) { op.erase(); });
    removeUnused(vjp);
    IRRewriter rewriter(vjp.getContext());
    DominanceInfo dominance(vjp);
    eliminateCommonSubExpressions(rewriter, dominance, vjp);
  }

  func::FuncOp function, vjp;
  Block &body;
  SmallVector<Value> wanted;
  SmallVector<LinearOp> layers;
  ImplicitLocOpBuilder b;
  IRMapping values;
  Adjoints adjoints;
};

class DifferentiatePass : public skim::impl::DifferentiateBase<DifferentiatePass> {
  using DifferentiateBase::DifferentiateBase;

  void runOnOperation() override {
    auto callee = getOperation().lookupSymbol<func::FuncOp>(function);
    if (!callee) {
      getOperation().emitError("expected a function @") << function << " to differentiate";
      return signalPassFailure();
    }
    if (failed(differentiate(callee, SmallVector<int64_t>(wrt.begin(), wrt.end()), observe)))
      signalPassFailure();
  }
};
} // namespace

FailureOr<func::FuncOp> skim::differentiate(func::FuncOp function, ArrayRef<int64_t> wrt, bool observe) {
  if (failed(check(function, wrt)))
    return failure();
  // For callers outside of the pass, which loads them by itself.
  function.getContext()
      ->loadDialect<arith::ArithDialect, linalg::LinalgDialect, math::MathDialect, scf::SCFDialect,
                    tensor::TensorDialect, SkimDialect>();
  std::string name = (function.getName() + "_vjp").str();
  if (SymbolTable::lookupNearestSymbolFrom(function, StringAttr::get(function.getContext(), name)))
    return function.emitOpError("expected no function @") << name;
  return Reversal(function, wrt, observe).run();
}

void skim::registerDifferentiableModels(DialectRegistry &registry) {
  registerElementwiseModels(registry);
  registerTensorModels(registry);
  registerLinalgModels(registry);
  registerLMModels(registry);
  registerSkimModels(registry);
}
