#ifndef SKIM_CONVERSION_ONNXTOLM_TD
#define SKIM_CONVERSION_ONNXTOLM_TD

include "mlir/Pass/PassBase.td"

def ONNXToLM : Pass<"convert-onnx-to-lm", "::mlir::ModuleOp"> {
  let summary = "raises an ONNX decoder to the lm dialect";
  let description = [{
    Replaces the function of `onnx.node` by

    ```mlir
    func.func @forward(%tokens: tensor<?x?xi32>, %start: tensor<?xi32>, %count: tensor<?xi32>, %rows: tensor<?xi32>,
                       %k0: tensor<?x4x?x8xf32> {skim.cache}, %v0: tensor<?x4x?x8xf32> {skim.cache}, …)
        -> (tensor<?x512xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, …)
    ```

    made of `skim.external`, `skim.assemble`, `skim.linear`, `skim.embed`, `lm`
    and `arith`. Exporters' words for the same thing arrive at the same
    operations: a tensor of the graph is looked at as the expression of its
    element, in which reshapes, transposes, slices, concatenations and casts have
    become index arithmetic and shape computations have become sizes. Weights
    stay where they are; transposed and packed ones become strided externals;
    16-bit weights stay 16-bit and everything computes in f32.

    What the graph computes is proven, not assumed: the mask must be causal, with
    an optional window, and hide padding; positions must be `position_ids` or
    past + s; tables of cosines and sines must be those of frequencies; outputs
    `present.*` must be what attention reads. `attention_mask` and
    `position_ids` are no inputs of the result: `start` and `count` say the same
    of sequences without padding. A graph without a cache gets one.

    All reasons why a graph cannot be raised are reported at once, one line each.
    The module gets `skim.model`: hidden, layers, heads, kv_heads, head_dim,
    vocab, context.
  }];
  let options = [
    Option<"base", "base", "std::string", /*default=*/"\".\"", "folder that the externals' file names start from">,
    Option<"context", "context", "int64_t", "0",
           "longest sequence (0: from a configuration in the folder, else the tables of cosines, else 8192)">,
  ];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::func::FuncDialect", "::skim::SkimDialect",
                           "::skim::lm::LMDialect"];
}

#endif
