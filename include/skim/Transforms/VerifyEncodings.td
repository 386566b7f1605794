#ifndef SKIM_TRANSFORMS_VERIFYENCODINGS_TD
#define SKIM_TRANSFORMS_VERIFYENCODINGS_TD

include "mlir/Pass/PassBase.td"

def VerifyEncodings : Pass<"skim-verify-encodings"> {
  let summary = "checks that encoded tensors stay fenced in and data outside";
  let description = [{
    An encoded tensor may be an operand or a result of `skim.*`, `func.*`, `scf.*`
    and the cache operations of `lm` only. Upstream passes drop or keep encodings
    without asking, and packed bytes would then be read as dense numbers with no
    error. And no attribute holds more than 64 KiB of tensor data: what is larger
    lies in a file that `skim.external` names. Runs at the end of every phase.
  }];
}

#endif
