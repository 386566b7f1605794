#ifndef SKIM_CONVERSION_SKIMTOUPSTREAM_TD
#define SKIM_CONVERSION_SKIMTOUPSTREAM_TD

include "mlir/Pass/PassBase.td"

def SkimToUpstream : Pass<"convert-skim-to-upstream", "::mlir::ModuleOp"> {
  let summary = "lowers skim and lm to linalg, tensor, arith, math and scf";
  let description = [{
    The reference lowering: slow and obvious, for stacks that have no kernels of
    ours. Encoded tensors become their components, one value each, in functions
    too; a weight is decoded in f32 as its equation says where it is used. Every
    operation of `lm` is lowered; caches are copied (`lm.cache_append` becomes a
    new tensor), since destination passing is the bufferizer's matter there.

    `skim.external` stays: how a stack reads files is its own. So do conversions
    that quantize, and tensors in activation encodings, with an error.
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::linalg::LinalgDialect", "::mlir::math::MathDialect",
    "::mlir::scf::SCFDialect", "::mlir::tensor::TensorDialect"
  ];
}

#endif
