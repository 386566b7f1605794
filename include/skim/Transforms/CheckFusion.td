#ifndef SKIM_TRANSFORMS_CHECKFUSION_TD
#define SKIM_TRANSFORMS_CHECKFUSION_TD

include "mlir/Pass/PassBase.td"

def CheckFusion : Pass<"skim-check-fusion", "::mlir::ModuleOp"> {
  let summary = "fails if generated code holds decoded weights";
  let description = [{
    Runs over generated kernels and proves the fusion guarantee:

    1. Nothing allocates: no `memref` or `llvm.alloca`.
    2. Nothing outside is called but the barrier that the caller gives
       (`skim.barrier`).
    3. Decoded weights stay in static private buffers. A kernel that has one
       says how large it is, and its calls say of how many rows the weight is:
       it holds at most 256 KiB, and at most an eighth of the weight's elements.

    ```mlir
    func.func private @batch_w4g128(%p: !llvm.ptr)
        attributes {skim.decode_buffer = {bytes = 9216 : i64, elements = 4608 : i64, columns = 576 : i64}} { … }
    func.call @batch_w4g128(%p) {skim.rows = 1536 : i64} : (!llvm.ptr) -> ()
    ```
  }];
}

#endif
