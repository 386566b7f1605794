//===- KeyParts.h - parts of the keys, put together -------------*- C++ -*-===//
//
// Where few blocks of attention have work, blocks z take a part of the keys each
// (flash-decoding). Parts are put together by the block that is done last, in
// their order, so that results do not depend on which that is (as in
// Schedule/Few.cpp).
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_TARGET_GPU_STEP_KEYPARTS_H
#define SKIM_LIB_TARGET_GPU_STEP_KEYPARTS_H

#include "KernelValues.h"

namespace skim::device {

/// Score before the first key: e to its power is 0, and differences stay finite.
inline constexpr double kNoScore = -1e30;

/// What the kernels of attention are given (Kernels.h), and a block's place.
class AttentionArguments {
protected:
  using Value = mlir::Value;
  using Values = KernelBuilder::Values;
  AttentionArguments(StepBuilder &b, const AttentionSpec &spec, llvm::ArrayRef<mlir::BlockArgument> a);

  StepBuilder &b;
  const AttentionSpec &spec;
  Value query, queryStride, out, outStride, caches, capacities, starts, counts, length, keyPrefix, valuePrefix;
  Value split;

  /// Keys or values of a head of a sequence: f32 [capacity, size].
  Value cacheOf(Value sequence, Value head, Value prefix, int64_t size);
  /// Keys `from` up to `to` of this block: all, or its part, which is `granule` keys or a multiple of that and at least
  /// `least`.
  std::pair<Value, Value> partOf(Value from, Value to, int64_t granule, int64_t least);

  /// Where a row's head goes, [valueSize]: the result, and this block's part.
  Value resultRow(Value row, Value head);
  Value partRow(Value row, Value head);
  /// Of a part: its largest score, and the sum of weights relative to that.
  void putStats(Value row, Value head, Value maximum, Value sum);
  /// body() in all threads of the block that is the last of all splits of `place` (i32) to come here; `word`: shared.
  void whenLast(Value place, Value word, llvm::function_ref<void()> body);
  /// `count` (1, or 4 where the size of values is a multiple of it) columns from c on of the parts together; 0 where
  /// there are no keys. All are requested before the first is used.
  Values joined(Value row, Value head, Value c, int64_t count);
  /// Of a block with keys in parts (i1): they all fit in the first one.
  Value isWhole;

private:
  Value parts, stats, counters;
  Value firstPart(Value row, Value head);
};

/// Types of the arguments.
llvm::SmallVector<mlir::Type> attentionTypes(const KernelPlace &place, const AttentionSpec &spec);
/// All that is fixed in a kernel, as part of its name.
std::string nameOf(const AttentionSpec &spec);

} // namespace skim::device

#endif // SKIM_LIB_TARGET_GPU_STEP_KEYPARTS_H
