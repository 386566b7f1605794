//===- Pack.h - what skim-gpu-pack is made of -------------------*- C++ -*-===//
#ifndef SKIM_TOOLS_GPUCHECK_PACK_H
#define SKIM_TOOLS_GPUCHECK_PACK_H

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "skim/Skim/SkimEncodings.h"
#include "skim/Support/Error.h"
#include "skim/Support/Json.h"

#include <string>

namespace skim::gpucheck {

/// Random words that mean something: which bits are random, and the others.
struct Fill {
  uint32_t mask, base;
};
Fill fillOf(const Component &component);

/// The term that `format` spells, and the mode of activations (f16 if it names none).
struct Term {
  WeightEncoding weight;
  std::string mode;
};
Expected<Term> termOf(mlir::MLIRContext &context, const std::string &format);

/// Linears of awkward shapes with what they should give: random weights in tiles, decoded by lib/Reference and
/// multiplied in double. A case is {format, n, k, rows, check, weights: [{at, bytes}], expected}; offsets are into
/// `data`, which begins with x (f32) and has n·rows results and then as many allowed errors (f32) at `expected`.
Expected<Json> makeReferences(mlir::MLIRContext &context, bool quick, std::string &data);

/// The runner's own kernels; Cases.cpp launches them.
///   fill (to, words, first, seed, mask, base): word i becomes (hash(first + i, seed) & mask) | base
///   read (from, units of 16 bytes, threads in all, to): every thread stores the xor of the words that it read
///   nothing ()
void addHelperKernels(mlir::OpBuilder &builder, mlir::gpu::GPUModuleOp module);

} // namespace skim::gpucheck

#endif // SKIM_TOOLS_GPUCHECK_PACK_H
