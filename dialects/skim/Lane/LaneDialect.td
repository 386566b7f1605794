//===- LaneDialect.td - what kernels ask of a vector unit -------------------===//
#ifndef SKIM_LANE_DIALECT_TD
#define SKIM_LANE_DIALECT_TD

include "mlir/IR/OpBase.td"

def Lane_Dialect : Dialect {
  let name = "lane";
  let cppNamespace = "::skim::lane";
  let summary = "vector operations that instruction sets spell differently";
  let description = [{
    Schedules and decoders of weight formats are written over these few
    operations on one-dimensional vectors. Each has scalar semantics, stated as
    an equation for lane i, and a lowering for each instruction set (pass
    `lower-lane`); the portable one uses nothing but vector and arith, so that a
    wide target's kernels run, slowly, on every host.
  }];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect"];
}

#endif
