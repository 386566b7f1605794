//===- Kernels.h - what a step on a device does besides linears -*- C++ -*-===//
//
// Each function returns the name of a kernel, which it creates in the module
// under a name made of everything that is fixed at compile time. Rows are f32;
// pointers are to global memory, numbers i32. `grid` says what the kernel's
// blocks are. Rows of padding are computed like others, except in caches.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_TARGET_GPU_STEP_KERNELS_H
#define SKIM_LIB_TARGET_GPU_STEP_KERNELS_H

#include "skim/Skim/SkimEncodings.h"
#include "skim/Target/Common/ModelWalk.h"
#include "skim/Target/GPU/DeviceBuilder.h"
#include "skim/Target/GPU/RowSource.h"

#include <string>
#include <vector>

namespace skim::device {

/// Where kernels go.
struct KernelPlace {
  mlir::OpBuilder &builder;
  mlir::Location loc;
  mlir::gpu::GPUModuleOp module;
};

struct StepKernel {
  std::string name;
  int64_t threads;
  int64_t gridY = 1; ///< blocks for each row
  int64_t gridZ = 1; ///< and for each of these
  int64_t rows = 1;  ///< that blocks x have of a sequence, at most
};

/// (x, strideX, y, strideY, weight): heads of channels / heads elements each.
StepKernel normKernel(const KernelPlace &place, int64_t channels, int64_t heads, double epsilon, double offset);

/// True if expressions may hold the operation.
bool isElementwise(llvm::StringRef operation);
/// (x0, stride0, x1, stride1, …, y, strideY).
StepKernel mapKernel(const KernelPlace &place, const Expression &expression, int64_t channels, unsigned inputs);

/// The same norm of one head, and the same expression, made where linears pack them. Arguments: (x, strideX, weight),
/// (x0, stride0, …); `aligned`: rows to 16 bytes.
std::shared_ptr<RowSource> normSource(double epsilon, double offset, bool aligned);
std::shared_ptr<RowSource> mapSource(const Expression &expression, size_t inputs, bool aligned);

/// (x, strideX, y, strideY, wanted): y[row] = x[wanted[row]].
StepKernel gatherKernel(const KernelPlace &place, int64_t channels);

/// (frequencies, start, length, cos, sin): [rows, columns] of position · frequency, scaled.
StepKernel rotaryTableKernel(const KernelPlace &place, int64_t columns, double scale);

/// A head of `size` elements, of which 2 · columns are rotated (0: none).
struct Rotation {
  int64_t heads, size, columns;
  bool interleaved;
};
struct RotaryPart {
  Rotation spec;
  bool append;  ///< into a cache, else into rows
  bool aligned; ///< all rows and the cache to 16 bytes
};
/// (caches, capacity, start, count, length, then of each part x, strideX, cos, sin and y, strideY or prefix): an append
/// goes into the cache tensor that begins prefix · capacity bytes behind a sequence's block.
StepKernel rotaryKernel(const KernelPlace &place, llvm::ArrayRef<RotaryPart> parts);

struct AttentionSpec {
  int64_t heads, keyHeads, keySize, valueSize;
  double scale;
  int64_t window; // 0: none
  double softcap; // 0: none
  bool aligned;   // queries and caches to 16 bytes
  /// Parts that the keys are taken in, by blocks of their own.
  int64_t splits = 1;
};
/// Parts that fill a device in a step of so many rows, with `context` keys at most (0: unknown).
int64_t attentionSplits(const AttentionSpec &spec, int64_t rows, int64_t context, int64_t multiprocessors);
/// (query, strideQ, y, strideY, caches, capacity, start, count, length, keyPrefix,
/// valuePrefix). Rows of padding are zero. With splits, (…, parts, stats, counters): memory for outputs [row, head,
/// split, valueSize] and [row, head, split, 2]: the largest score and the sum of weights relative to that; and a word
/// for each block of a row that is zero before and after.
StepKernel attentionKernel(const KernelPlace &place, const AttentionSpec &spec);

/// The same for many rows of a sequence, in steps of up to `rows`, by matrix operations: queries, keys, values and
/// weights are rounded to f16, sums are in f32. Parts have a word of counters for each block of theirs.
StepKernel prefillKernel(const KernelPlace &place, const AttentionSpec &spec, int64_t rows);
/// False for heads that it has no registers for.
bool fitsPrefill(const AttentionSpec &spec);
int64_t prefillSplits(const AttentionSpec &spec, int64_t rows, int64_t context, int64_t multiprocessors);

/// (logits, sampling, chosen, tokens, start, count, wanted): a block for each
/// sequence chooses its token and advances the step's arguments (DeviceStep.h).
StepKernel sampleKernel(const KernelPlace &place, int64_t vocabulary);

} // namespace skim::device

#endif // SKIM_LIB_TARGET_GPU_STEP_KERNELS_H
