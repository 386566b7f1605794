#ifndef SKIM_TRANSFORMS_DIFFERENTIATE_TD
#define SKIM_TRANSFORMS_DIFFERENTIATE_TD

include "mlir/Pass/PassBase.td"

def Differentiate : Pass<"skim-differentiate", "::mlir::ModuleOp"> {
  let summary = "adds the reverse mode of a function";
  let description = [{
    For `@f(args…) -> results` of one block it adds
    `@f_vjp(args…, an adjoint of each float result) -> (the adjoint of each argument in wrt…, observed…)`:
    adjoints of the arguments are the Jacobian, transposed, times those of the
    results, in the types of the values themselves. The forward operations that adjoints need are
    computed again before them, the others are left out; equal operations are one.

    With `observe`, the function also returns what a calibration needs of each
    `skim.linear` with a `layer`: its input, once for layers that share it
    (`skim.input`, the first layer that reads it), and the adjoint of its output
    (`skim.output_adjoint`), from which the caller makes the weight's gradient.

    Operations say their derivative by `DifferentiableOpInterface`; one without,
    on the way from what is differentiated to a result, is an error.

    ```mlir
    func.func @mlp(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>) -> tensor<?x4xf32> {
      %z = skim.linear %x, %w {layer = "up"} : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
      %y = lm.silu %z : tensor<?x4xf32>
      return %y : tensor<?x4xf32>
    }
    ```
    With `function=mlp wrt=0 observe` comes
    ```mlir
    func.func @mlp_vjp(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %dy: tensor<?x4xf32>)
        -> (tensor<?x8xf32>, tensor<?x8xf32> {skim.input = "up"}, tensor<?x4xf32> {skim.output_adjoint = "up"}) {
      %z = skim.linear %x, %w {layer = "up"} : …
      %dz = linalg.generic … ins(%z, %dy : …) …
      %dx = linalg.matmul ins(%dz, %w : …) …
      return %dx, %x, %dz : …
    }
    ```
  }];
  let options = [
    Option<"function", "function", "std::string", /*default=*/"\"forward\"", "name of the function">,
    ListOption<"wrt", "wrt", "int64_t", "numbers of the arguments whose adjoints are wanted">,
    Option<"observe", "observe", "bool", "false", "also return the inputs and output adjoints of the layers">,
  ];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::linalg::LinalgDialect", "::mlir::math::MathDialect",
                           "::mlir::scf::SCFDialect", "::mlir::tensor::TensorDialect", "::skim::SkimDialect"];
}

#endif
