#ifndef SKIM_TRANSFORMS_VERIFYCACHE_TD
#define SKIM_TRANSFORMS_VERIFYCACHE_TD

include "mlir/Pass/PassBase.td"

def VerifyCache : Pass<"skim-verify-cache"> {
  let summary = "checks that caches are never copied";
  let description = [{
    A function argument with the attribute `skim.cache` is memory that
    `lm.cache_append` writes in place. It and its successors form one chain:
    each is used by `lm.cache_append`, `lm.attention` and `return` only; appending
    is its last use; and the function returns the ends of the chains, in the
    order of the arguments, as its last results. Anything else would need a copy.
  }];
}

#endif
