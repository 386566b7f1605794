#ifndef SKIM_TRANSFORMS_DIFFERENTIABLEOPINTERFACE_TD
#define SKIM_TRANSFORMS_DIFFERENTIABLEOPINTERFACE_TD

include "mlir/IR/OpBase.td"

def DifferentiableOpInterface : OpInterface<"DifferentiableOpInterface"> {
  let cppNamespace = "::skim";
  let description = [{
    An operation that reverse mode knows. Attached from outside (external models,
    `registerDifferentiableModels`), so that dialects do not know of it.
  }];
  let methods = [
    InterfaceMethod<[{
        Adds to the adjoints of the operands what those of the results contribute.
        Called where an operand is active and a result has an adjoint. An active
        operand of float type that the model does not add to has no derivative:
        an error, which the caller reports. On other failures the model reports.
      }],
      "::llvm::LogicalResult", "emitAdjoint", (ins "::skim::Adjoints &":$adjoints)>,
    InterfaceMethod<[{
        Computes the operation itself where its adjoint will be wanted, and maps
        its results to what it computed. Returned values are kept for
        emitAdjoint (Adjoints::saved). By default: a clone, nothing kept.
      }],
      "::llvm::SmallVector<::mlir::Value>", "emitPrimal", (ins "::skim::Adjoints &":$adjoints),
      /*methodBody=*/"", /*defaultImplementation=*/[{
        adjoints.clone($_op);
        return {};
      }]>,
  ];
}

#endif
