//===- LMDialect.td - what a language model has and upstream lacks ---------===//
#ifndef SKIM_LM_DIALECT_TD
#define SKIM_LM_DIALECT_TD

include "mlir/IR/OpBase.td"

def LM_Dialect : Dialect {
  let name = "lm";
  let cppNamespace = "::skim::lm";
  let summary = "language model operations";
  let description = [{
    The few operations that a decoder has and upstream dialects lack. Activations
    are [batch, length, channels], heads packed along the channels; sequence b
    holds `start[b]` tokens in its cache before the step and brings `count[b]`
    valid tokens, right-padded to `length`; token s of it stands at position
    start[b] + s. There is no mask tensor: attention is causal over the cache,
    with an optional window.
  }];
}

#endif
