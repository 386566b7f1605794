#ifndef SKIM_TRANSFORMS_QUANTIZEWEIGHTS_TD
#define SKIM_TRANSFORMS_QUANTIZEWEIGHTS_TD

include "mlir/Pass/PassBase.td"

def QuantizeWeights : Pass<"skim-quantize-weights", "::mlir::ModuleOp"> {
  let summary = "carries out the plan: quantizes weights into a file";
  let description = [{
    Reads every `skim.external` from `base`, converts it to the encoding that
    `skim.encoding` on its users names (weights without a plan keep their
    elements), writes all of them to the safetensors file `weights` and replaces
    each by `skim.assemble` of externals in that file. One block of rows is in
    memory at a time. The error of each layer (Σ(w − ŵ)² / Σw²) is kept as
    `skim.error` on its linear.

    Needs: skim-assign-encodings before it. Leaves: no external outside `weights`.
  }];
  let options = [
    Option<"base", "base", "std::string", /*default=*/"\".\"", "folder that the externals' file names start from">,
    Option<"weights", "weights", "std::string", "\"weights.safetensors\"", "the safetensors file to write">,
    Option<"threads", "threads", "unsigned", "0", "threads (0: all; the result does not depend on it)">,
  ];
  let dependentDialects = ["::skim::SkimDialect"];
}

#endif
