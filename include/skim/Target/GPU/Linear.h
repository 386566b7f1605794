//===- Linear.h - kernels of linear layers on GPUs --------------*- C++ -*-===//
#ifndef SKIM_TARGET_GPU_LINEAR_H
#define SKIM_TARGET_GPU_LINEAR_H

#include "skim/Support/Error.h"
#include "skim/Target/Common/LinearPieces.h"
#include "skim/Target/GPU/GPUTarget.h"
#include "skim/Target/GPU/RowSource.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"

#include <array>
#include <optional>

namespace skim::device {

struct LinearFamily;

/// What a kernel is given at an argument.
struct LaunchArgument {
  enum Kind {
    X,        ///< argument `value` of the source of x; without one: pointer: f32 [m, k], contiguous, aligned to 16
    Y,        ///< pointer: f32, the call's output, `offset` bytes on
    Gate,     ///< pointer: likewise of the gate
    Scratch,  ///< pointer: device memory of the plan, `offset` bytes on; aligned to 256
    Counters, ///< pointer: LinearPlan::counters words that are zero before and after each launch
    Weight, ///< pointer: component `value` in tiles (Tiles.h), or bias, `offset` bytes on; components are aligned to 16
    Rows,   ///< i32: m
    Stride, ///< i32: elements between rows of y
    Constant ///< i32: `value`
  } kind;
  int64_t value = 0, offset = 0;
};

/// A product of cuBLAS: y (+)= x·Wᵀ with f32 sums, W [n, k] and x [rows, k] of halves, k apart.
struct LibraryProduct {
  int64_t n, k;
  bool bf16, add;
};

struct LinearLaunch {
  std::string kernel;
  std::optional<LibraryProduct> product;   // instead of a kernel; arguments: W, x, y, the elements between rows of y
  std::array<int64_t, 3> grid = {1, 1, 1}; // y = −n: a block for each n rows of x
  int64_t threads = 32;                    // of a block, in one dimension
  llvm::SmallVector<LaunchArgument> arguments;

  /// The grid for so many rows of x.
  std::array<int64_t, 3> extents(int64_t rows) const {
    return {grid[0], grid[1] < 0 ? (rows - grid[1] - 1) / -grid[1] : grid[1], grid[2]};
  }
};

/// Of a kernel: how many of its blocks x multiply first factors of low-rank pairs, and not the weight as all others do
/// (i32). The number of the first of them is argument 1, argument 2 points to kFirstCounters words of counters.
inline constexpr llvm::StringLiteral kFirstBlocksAttr = "skim.first_blocks";
inline constexpr int64_t kFirstCounters = 8;

/// Most counters that a plan wants.
inline constexpr int64_t kMostCounters = 1024;
/// Most blocks that share a tile's columns, and of any launch that wait for each other.
inline constexpr int64_t kMostSplits = 16, kMostParts = 32;

/// Launches, each after the one before it, and the memory that they share.
struct LinearPlan {
  llvm::SmallVector<LinearLaunch> launches;
  int64_t scratchBytes = 0;
  int64_t counters = 0;
};

/// Fails on modes and terms that have no kernel. The numbers of weights need not be known.
Error checkLinear(const LinearCall &call);

/// Plans y (+)= x·Wᵀ for `m` rows of x and emits, in `module`, the kernels that are
/// not there yet; any number of rows up to m may be given to the launches. Modes
/// are `f16` and `bf16`: x and decoded weights are rounded to it, sums are in f32;
/// and `a8`: rows of x are rounded to bytes, weights are integers (docs/gpu.md).
/// All panels are one launch, which (but for targets with a library) makes one row of x of `source` by itself and
/// multiplies the first factors of low-rank pairs beside it if it can; more rows
/// are packed before, by a launch that may do both.
/// Its launches have the pieces of all of `family`, that of the call, and kernels in common with them.
/// Fails where checkLinear() does.
Expected<LinearPlan> emitLinear(mlir::OpBuilder &builder, mlir::Location loc, mlir::gpu::GPUModuleOp module,
                                const GPUTarget &target, const LinearCall &call, int64_t m,
                                const RowSource *source = nullptr, const LinearFamily *family = nullptr);

struct EmbedLaunch {
  std::string kernel;
  int64_t threads, gridY;
};
/// Emits (tokens, y, components…): y[row] = row tokens[row] of a weight [n, k] whose components lie in tiles (Tiles.h),
/// f32. Blocks: (rows, gridY). Fails on terms that are no leaf.
Expected<EmbedLaunch> emitEmbed(mlir::OpBuilder &builder, mlir::Location loc, mlir::gpu::GPUModuleOp module,
                                WeightEncoding leaf, int64_t n, int64_t k);

} // namespace skim::device

#endif // SKIM_TARGET_GPU_LINEAR_H
