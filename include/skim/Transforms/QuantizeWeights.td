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

    With `statistics`, linears are quantized with what an error costs there:
    uniform codes by GPTQ (`gptq`), behind a scaling of the columns (`awq`), codebooks by
    k-means weighted with squared gradients (`kmeans`) or by error feedback and LNQ
    (`skim`), rows of mixed width by the `plan` that skim-allocate-bits made, from its
    `record` of codes. Then the relative squared error of the layer's output and
    the loss-weighted error are kept too, as `skim.output_error` and `skim.loss_error`.

    Needs: skim-assign-encodings before it. Leaves: no external outside `weights`.
  }];
  let options = [
    Option<"base", "base", "std::string", /*default=*/"\".\"", "folder that the externals' file names start from">,
    Option<"weights", "weights", "std::string", "\"weights.safetensors\"", "the safetensors file to write">,
    Option<"method", "method", "std::string", "\"\"", "rtn, gptq, awq, kmeans or skim (default: the best for each format)">,
    Option<"statistics", "statistics", "std::string", "\"\"", "a statistics file">,
    Option<"record", "record", "std::string", "\"\"", "the record of errors and codes that the plan was made from">,
    Option<"plan", "plan", "std::string", "\"\"", "a plan with the widths of rows">,
    Option<"threads", "threads", "unsigned", "0", "threads (0: all; the result does not depend on it)">,
  ];
  let dependentDialects = ["::skim::SkimDialect"];
}

#endif
