//===- Activation.h - activation encodings, slowly --------------*- C++ -*-===//
#ifndef SKIM_REFERENCE_ACTIVATION_H
#define SKIM_REFERENCE_ACTIVATION_H

#include "skim/Reference/Tensor.h"

#include <optional>

namespace skim::reference {

/// The values that `input` has after dynamic quantization along its last
/// dimension, as SkimEncodings.td says of `encoding` (per_token, block_float):
/// an encoded activation is represented by these, in its own float type.
/// Nothing for an encoding that activations cannot have.
std::optional<Tensor> quantizeActivation(const Tensor &input, mlir::Attribute encoding);

} // namespace skim::reference

#endif // SKIM_REFERENCE_ACTIVATION_H
