#ifndef SKIM_TARGET_CPU_ASSIGNLAYOUTS_TD
#define SKIM_TARGET_CPU_ASSIGNLAYOUTS_TD

include "mlir/Pass/PassBase.td"

def AssignLayouts : Pass<"skim-assign-layouts", "::mlir::ModuleOp"> {
  let summary = "decides how the weights of a target's kernels lie";
  let description = [{
    Sets `skim.layout` on every `skim.linear` whose kernel is faster when codes do not
    lie in rows, and removes it elsewhere. Needs `mode` (`skim-assign-modes`).
    Linears that share a weight get one layout, and a weight that is also an
    embedding stays in rows, since a package stores a weight once. `layout =
    turned` turns whatever can be, `rows` nothing; `auto` chooses by what was
    measured.

    ```mlir
    func.func @layout(%x: tensor<?x576xf32>, %w: tensor<48x576xf16, #skim.codebook<bits = 4>>) -> tensor<?x48xf32> {
      %y = skim.linear %x, %w {mode = "bf16", skim.layout = #skim.layout<word = 16, lanes = 32>} : tensor<?x576xf32>, tensor<48x576xf16, #skim.codebook<bits = 4>> -> tensor<?x48xf32>
      return %y : tensor<?x48xf32>
    }
    ```
  }];
  let options = [
    Option<"target", "target", "std::string", /*default=*/"\"cpu\"", "CPU target (`cpu:x86-64-v4`, …)">,
    Option<"layout", "layout", "std::string", /*default=*/"\"auto\"", "auto, rows or turned">,
  ];
}

#endif
