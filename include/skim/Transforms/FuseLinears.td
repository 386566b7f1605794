#ifndef SKIM_TRANSFORMS_FUSELINEARS_TD
#define SKIM_TRANSFORMS_FUSELINEARS_TD

include "mlir/Pass/PassBase.td"

def FuseLinears : Pass<"skim-fuse-linears"> {
  let summary = "marks linears that one kernel call computes";
  let description = [{
    Linears that read the same value (q/k/v, gate/up) get the same number in
    `skim.group` and are moved together: one kernel call with a panel for each,
    whose weights stay where they are. A sum of a linear that has no other use
    and a value that nothing reads afterwards (the residual stream) gets
    `skim.epilogue`: the linear adds into that value's memory.

    ```mlir
    %g = skim.linear %x, %wg {skim.group = 0 : i64} : …
    %u = skim.linear %x, %wu {skim.group = 0 : i64} : …
    …
    %d = skim.linear %m, %wd : …
    %h1 = arith.addf %h0, %d {skim.epilogue} : …
    ```
  }];
}

#endif
