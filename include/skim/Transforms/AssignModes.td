#ifndef SKIM_TRANSFORMS_ASSIGNMODES_TD
#define SKIM_TRANSFORMS_ASSIGNMODES_TD

include "mlir/Pass/PassBase.td"

def AssignModes : Pass<"skim-assign-modes"> {
  let summary = "decides the activation mode of every linear";
  let description = [{
    Sets `mode` on every `skim.linear` that has none: `mode` where the weight is
    quantized, `f32` where it is plain or `dense`, since its precision was asked
    for.

    ```mlir
    func.func @mode(%x: tensor<?x64xf32>, %w: tensor<48x64xf32, #skim.codebook<bits = 3>>) -> tensor<?x48xf32> {
      %y = skim.linear %x, %w {mode = "bf16"} : tensor<?x64xf32>, tensor<48x64xf32, #skim.codebook<bits = 3>> -> tensor<?x48xf32>
      return %y : tensor<?x48xf32>
    }
    ```
  }];
  let options = [Option<"mode", "mode", "std::string", /*default=*/"\"f32\"", "f32, bf16 or a8 (GPUs), for quantized weights">];
}

#endif
