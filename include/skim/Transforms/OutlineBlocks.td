#ifndef SKIM_TRANSFORMS_OUTLINEBLOCKS_TD
#define SKIM_TRANSFORMS_OUTLINEBLOCKS_TD

include "mlir/Pass/PassBase.td"

def OutlineBlocks : Pass<"skim-outline-blocks", "::mlir::ModuleOp"> {
  let summary = "the loss of one sequence, a function for each decoder block";
  let description = [{
    Turns `@forward(tokens, start, count, rows, caches…)` into
    `@forward(tokens, targets) -> loss` of one whole sequence: no caches (attention
    over the new keys and values), all rows, `lm.cross_entropy` behind the head.
    Then cuts it where exactly one tensor that depends on the embedded tokens is
    alive: between the linears of consecutive decoder blocks (told apart by the
    number in their `layer`), before the first one, and behind the last. Each part
    becomes a function whose weights are arguments, in f32; equal functions are
    one. A call names the layers of its linears, in their order, in `skim.layers`.
    Position tables and the like are computed in each part that needs them.

    ```mlir
    func.func @forward(%tokens: tensor<1x?xi32>, %targets: tensor<?xi32>) -> tensor<?xf32> {
      %h0 = skim.embed %tokens, %table : …
      %w0 = skim.external … 
      %h1 = call @block0(%h0, %tokens, %w0, …) {skim.layers = ["model.layers.0.self_attn.q_proj", …]} : …
      %h2 = call @block0(%h1, %tokens, %w1, …) {skim.layers = ["model.layers.1.self_attn.q_proj", …]} : …
      %loss = call @head(%h2, %targets, %norm, %head) {skim.layers = ["lm_head"]} : …
      return %loss : tensor<?xf32>
    }
    ```
  }];
  let options = [
    Option<"function", "function", "std::string", /*default=*/"\"forward\"", "name of the model's function">,
  ];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::func::FuncDialect", "::mlir::linalg::LinalgDialect",
                           "::mlir::tensor::TensorDialect", "::skim::SkimDialect", "::skim::lm::LMDialect"];
}

#endif
