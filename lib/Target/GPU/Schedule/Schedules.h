//===- Schedules.h - kernels of one leaf encoding ---------------*- C++ -*-===//
//
// A schedule is written once, over Decoder; every format has it.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_TARGET_GPU_SCHEDULE_SCHEDULES_H
#define SKIM_LIB_TARGET_GPU_SCHEDULE_SCHEDULES_H

#include "skim/Target/Common/LinearPieces.h"
#include "skim/Target/GPU/Decoder.h"

#include "llvm/Support/MathExtras.h"

namespace skim::device {

/// Columns of a row of packed x: whole steps, zeros behind K.
inline int64_t packedColumns(int64_t k) { return static_cast<int64_t>(llvm::alignTo(k, kStepColumns)); }

/// What distinguishes kernels: weights of the same signature share one.
struct KernelSignature {
  WeightEncoding leaf;
  int64_t k = 0;
  bool bf16 = false; // of x and of decoded pairs; else f16
  LinearEpilogue epilogue = LinearEpilogue::Store;
  mlir::Type permutation = {}; // type of the entries that name each row's column of y, or null
  bool biased = false;
  bool partial = false; // the last tile may have fewer than 16 rows
  int64_t warps = 8;    // of a block
  int64_t xTiles = 1;   // eights of rows of x that a block multiplies

  /// A symbol: `few_w4g128_k576_f16_w8`.
  std::string name(llvm::StringRef schedule) const;
};

/// A kernel's arguments, in the order of its function. Pointers are global.
struct KernelArguments {
  using Value = mlir::Value;
  Value x;                       // packed: [m, packedColumns(k)] of f16 or bf16, aligned to 16
  Value y;                       // f32, at the weight's first column
  Value m, n, yStride;           // i32: rows of x, rows of the weight, elements between rows of y
  Value permutation, bias, gate; // null where the signature has none; gate lies like y
  llvm::SmallVector<Value> components;
};

/// Finds or creates a kernel; `body` emits it.
std::string getOrCreateKernel(mlir::OpBuilder &builder, mlir::Location loc, mlir::gpu::GPUModuleOp module,
                              const KernelSignature &signature, llvm::StringRef schedule, size_t components,
                              llvm::function_ref<void(DeviceBuilder &, const KernelArguments &)> body);

/// Products of a tile of rows with tiles of eight rows of x, in f32: decoded
/// steps times fragments of x, scales applied where they are cheapest.
class Product {
public:
  using Value = mlir::Value;
  using Values = KernelBuilder::Values;
  /// A lane's eight columns of x of a step (its number from the first one accumulated) and an eight of rows: four
  /// words.
  using Fragment = llvm::function_ref<Values(int64_t step, int64_t xTile)>;

  explicit Product(const KernelSignature &signature);

  const Decoder &decoder() const { return *own; }

  /// What a lane knows of tile number `index`.
  struct State {
    Tile tile;
    Value codes;
    std::array<Values, 2> rows;
    std::array<Value, 2> zeros; // of the row's only group, or null
  };
  State begin(DeviceBuilder &b, const KernelArguments &arguments, Value index, Value lane) const;

  /// Sums of nothing: four a tile of x. Element 2h + c of tile j is row 8h + lane / 4, row of x 8j + 2(lane mod 4) + c.
  Values zeros(DeviceBuilder &b) const;
  /// Adds the products of consecutive steps, the first of which begins at column `first` (i32).
  Values accumulate(DeviceBuilder &b, const KernelArguments &arguments, const State &state,
                    llvm::ArrayRef<Decoder::Words> steps, Value first, Fragment x, mlir::ValueRange sums) const;
  /// Applies what belongs to whole rows.
  Values finish(DeviceBuilder &b, const KernelArguments &arguments, const State &state, mlir::ValueRange sums) const;

  /// Pointers to the lane's canonical rows: of the columns behind the last block, or of a whole canonical tile.
  std::array<Value, 2> restRows(DeviceBuilder &b, const State &state) const;
  std::array<Value, 2> canonicalRows(DeviceBuilder &b, const State &state) const;

private:
  KernelSignature signature;
  std::unique_ptr<Decoder> own;
  int64_t group;
  /// Where scales go: there are none or one a row; to sums of whole steps; into the pairs.
  enum { Rows, Sums, Pairs } scaling;

  mlir::Type half(DeviceBuilder &b) const { return signature.bf16 ? b.bf16() : b.f16(); }
  Value groupOf(DeviceBuilder &b, Value column) const;
  Values scaledPairs(DeviceBuilder &b, const KernelArguments &arguments, const State &state, int half,
                     const Values &words, Value column) const;
};

/// Up to eight rows of x: a block takes one tile of rows and its warps share the columns; x comes from global memory.
void emitFewKernel(DeviceBuilder &b, mlir::gpu::GPUModuleOp module, const KernelSignature &signature,
                   const KernelArguments &arguments);
/// Warps of a block for K columns.
int64_t fewWarps(const Decoder &decoder, int64_t k);

/// More rows of x: a block takes a tile of rows a warp and up to 64 rows of x, which
/// pass through shared memory; grid (⌈tiles / warps⌉, ⌈m / (8·xTiles)⌉).
void emitManyKernel(DeviceBuilder &b, mlir::gpu::GPUModuleOp module, const KernelSignature &signature,
                    const KernelArguments &arguments);

/// Packs x for all schedules: y[m, packedColumns(k)] = x[m, k]·alpha[k] in f16 or bf16, zeros behind column k. A block
/// of 128 lanes takes 1024 columns; grid (⌈packedColumns(k) / 1024⌉, m).
std::string getOrCreatePack(mlir::OpBuilder &builder, mlir::Location loc, mlir::gpu::GPUModuleOp module, int64_t k,
                            bool bf16, bool scaled);

/// Writes a value to y: bias, permutation, residual, gate. i32 indices.
void storeResult(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments,
                 mlir::Value weightRow, mlir::Value xRow, mlir::Value value);

} // namespace skim::device

#endif // SKIM_LIB_TARGET_GPU_SCHEDULE_SCHEDULES_H
