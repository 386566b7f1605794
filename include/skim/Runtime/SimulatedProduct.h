//===- SimulatedProduct.h - what a library multiplies -----------*- C++ -*-===//
#ifndef SKIM_RUNTIME_SIMULATEDPRODUCT_H
#define SKIM_RUNTIME_SIMULATEDPRODUCT_H

#include "skim/Runtime/Simulator.h"

namespace skim::sim {

/// y (+)= x·Wᵀ: W [n, k], x [rows, k], y [rows, n] with `stride` elements from row to row.
struct Product {
  int64_t n, k, rows, stride;
  bool bf16 = false;  ///< of W and x; else f16
  bool add = false;   ///< to y, which then is f32
  bool floats = true; ///< y is f32; else f16
};

/// Sums in f32, in the order of columns. Fails on memory that is not there.
Error multiply(Device &device, const Product &product, Address w, Address x, Address y);

} // namespace skim::sim

#endif // SKIM_RUNTIME_SIMULATEDPRODUCT_H
