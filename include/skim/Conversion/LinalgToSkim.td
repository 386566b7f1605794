#ifndef SKIM_CONVERSION_LINALGTOSKIM_TD
#define SKIM_CONVERSION_LINALGTOSKIM_TD

include "mlir/Pass/PassBase.td"

def LinalgToSkim : Pass<"convert-linalg-to-skim"> {
  let summary = "raises products with constant weights to skim.linear";
  let description = [{
    A linalg contraction (linalg.matmul in any transposition, linalg.generic, …)
    of an activation with a constant matrix becomes a skim.linear, so that models
    of other compilers can be quantized too. The weight is a `skim.external` or an
    `arith.constant` of rank 2, perhaps behind a `linalg.transpose`; it may stand
    on either side. A weight that lies [K, N] is transposed where it is: an
    external by its strides, a constant by its elements. A bias or residual in the
    accumulator stays an addition, except zeros, which go, and a broadcast
    `tensor<Nxf32>`, which becomes the linear's bias.

    The layer is named by `layer` on the contraction where it has one.

    ```mlir
    func.func @example(%x: tensor<5x64xf32>) -> tensor<5x48xf32> {
      %w = skim.external "model.data" offset = 0 : tensor<64x48xf32>
      %zero = arith.constant 0.0 : f32
      %empty = tensor.empty() : tensor<5x48xf32>
      %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<5x48xf32>) -> tensor<5x48xf32>
      %y = linalg.matmul ins(%x, %w : tensor<5x64xf32>, tensor<64x48xf32>) outs(%init : tensor<5x48xf32>) -> tensor<5x48xf32>
      return %y : tensor<5x48xf32>
    }
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::skim::SkimDialect"];
}

#endif
