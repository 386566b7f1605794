//===- Slab.h - what schedules of many rows of x share ----------*- C++ -*-===//
//
// Warps with tiles of rows times a slab of rows of x: words of the tiles by spans of
// columns, columns that blocks share, low-rank pairs, sums to y.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_TARGET_GPU_SCHEDULE_SLAB_H
#define SKIM_LIB_TARGET_GPU_SCHEDULE_SLAB_H

#include "Schedules.h"

namespace skim::device {

/// Columns that are multiplied together where they do not lie in blocks.
inline constexpr int64_t kPiece = 128;

class SlabKernel {
protected:
  using Value = mlir::Value;
  using Values = KernelBuilder::Values;
  using Steps = llvm::SmallVector<Decoder::Words>;

  /// `span`: columns whose words are requested together, blocks or whole pieces.
  SlabKernel(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments, bool inPlace,
             llvm::function_ref<int64_t(const Decoder &)> span)
      : b(b), signature(signature), arguments(arguments), product(signature, inPlace), decoder(product.decoder()),
        k(signature.k), rows(8 * signature.xTiles), span(span(decoder)) {}

  DeviceBuilder &b;
  const KernelSignature &signature;
  const KernelArguments &arguments;
  Product product;
  const Decoder &decoder;
  int64_t k, rows; // columns, rows of x of a block
  int64_t span;
  Value thread, firstRow;
  Value end, columnsEnd, isLast; // spans and columns of this block; whether it is the last that shares them
  llvm::SmallVector<Product::State, 2> states; // of the warp's tiles
  Values active;                               // whether there are such

  /// Requests what is needed of the tiles. Warps behind the last tile help with x; what they compute is not stored.
  void beginTiles();
  /// What there is to know of tiles and rows, from the lane's number as the device has it: behind a loop, nothing of it
  /// has to be kept in registers meanwhile.
  void findTilesAnew();
  /// The block's columns; returns the number of its first span.
  Value beginColumns();

  llvm::SmallVector<Steps> perTile(llvm::function_ref<Steps(size_t)> make);
  /// Sums with each tile's made anew.
  Values ofTiles(const Values &sums, llvm::function_ref<Values(size_t, const Values &)> make);

  int64_t requests() const { return decoder.block() ? span / decoder.block() * decoder.requestsPerBlock() : 0; }
  /// Requests for the blocks of span number `index`, if this block has it.
  Values requestSpan(Value index);
  /// The steps of a span from column `first` on; `requested`: the tile's.
  Steps spanSteps(size_t j, mlir::ValueRange requested, Value first);
  /// Steps of at most a piece from column `first` on, behind the last span.
  Steps restSteps(size_t j, int64_t first);

  /// Adds the products of low-rank pairs, of which t is small enough to come from global memory.
  Values addFactors(const Values &sums);
  /// What the last of the blocks that share columns makes of the sums.
  Values inLast(const Values &sums, llvm::function_ref<Values()> make);
  /// Sums to y, those of blocks that share columns first together; `shared`: memory that is not needed any more.
  void finish(const Values &sums, Value shared);

private:
  /// The warp's tiles, and `active`.
  llvm::SmallVector<Value, 2> findTiles(Value warp);
  Steps canonicalSteps(size_t j, Value first, int64_t count);
  Steps ifActive(size_t j, llvm::function_ref<Steps()> load, int64_t count);
  void storeShared(const Values &sums, Value shared);
  Values allPartials(Value slots, int64_t each, size_t count);
  Values partials(Value from, int64_t each, size_t count);
  /// `others`: another block's sums, as partials lie, which are added; or null.
  void store(const Values &sums, Value others = {});
  void storeTile(size_t j, llvm::ArrayRef<Value> sums, Value others);
};

} // namespace skim::device

#endif // SKIM_LIB_TARGET_GPU_SCHEDULE_SLAB_H
