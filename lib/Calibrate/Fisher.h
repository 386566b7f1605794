//===- Fisher.h - gradients for what the model itself expects ---*- C++ -*-===//
#ifndef SKIM_LIB_CALIBRATE_FISHER_H
#define SKIM_LIB_CALIBRATE_FISHER_H

#include <cstdint>
#include <span>

namespace skim {

/// Replaces each row of dz [targets, vocabulary], the adjoint of the logits
/// share · (p − 1[target]) for a text's targets, with a draw of
/// share · (√p·ξ − p·Σ√p·ξ), ξ signs at random: its expected product with itself
/// is share² · (diag(p) − p·pᵀ), the Fisher of the model's own distribution p and
/// so the Hessian of a divergence from it. A text's targets give the same on
/// average if the model is right, but with more noise: those that surprise it
/// have most of the gradient. Row r's signs depend on `seed` and `first` + r alone.
void drawFisher(float *dz, std::span<const int32_t> targets, int64_t vocabulary, float share, uint64_t seed,
                uint64_t first);

} // namespace skim

#endif // SKIM_LIB_CALIBRATE_FISHER_H
