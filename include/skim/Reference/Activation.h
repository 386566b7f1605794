//===- Activation.h - activation encodings, slowly --------------*- C++ -*-===//
#ifndef SKIM_REFERENCE_ACTIVATION_H
#define SKIM_REFERENCE_ACTIVATION_H

#include "skim/Reference/Tensor.h"

#include <optional>
#include <vector>

namespace skim::reference {

/// The values that `input` has after dynamic quantization along its last
/// dimension, as SkimEncodings.td says of `encoding` (per_token, block_float):
/// an encoded activation is represented by these, in its own float type.
/// Nothing for an encoding that activations cannot have.
std::optional<Tensor> quantizeActivation(const Tensor &input, mlir::Attribute encoding);

/// A row of x as kernels of the mode `a8` have it, which compute in f32: q·s, s = max|x·α| / 127, q = x·α·(127 /
/// max|x·α|) to nearest even; then divided by α, so that it stands for x. `alpha`: as long as x, or empty.
std::vector<double> roundToBytes(llvm::ArrayRef<float> x, llvm::ArrayRef<float> alpha = {});

} // namespace skim::reference

#endif // SKIM_REFERENCE_ACTIVATION_H
