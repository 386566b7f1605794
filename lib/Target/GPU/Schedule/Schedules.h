//===- Schedules.h - kernels of one leaf encoding ---------------*- C++ -*-===//
//
// A schedule is written once, over Decoder; every format has it.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_TARGET_GPU_SCHEDULE_SCHEDULES_H
#define SKIM_LIB_TARGET_GPU_SCHEDULE_SCHEDULES_H

#include "skim/Target/Common/LinearPieces.h"
#include "skim/Target/GPU/Decoder.h"
#include "skim/Target/GPU/Linear.h"
#include "skim/Target/GPU/RowSource.h"

#include "llvm/Support/MathExtras.h"

namespace skim::device {

/// Columns of a row of packed x: whole steps, zeros behind K.
inline int64_t packedColumns(int64_t k) { return static_cast<int64_t>(llvm::alignTo(k, kStepColumns)); }

/// Bytes of a row of x as bit planes. 256 columns have 288: of planes i = 0 … 7 and lanes t, two words at 32i + 8t, of
/// columns 0 … 127 and 128 … 255. Bit 4p + planeBit(s) of a word is that of column 32s + 8t + j, p as of codes in order
/// `split` (Tiles.h). With 32 bytes that are nothing no bank is met twice where planes are written.
inline constexpr int64_t kPlaneBlockBytes = 288;
inline int64_t planeBytes(int64_t k) { return (k + kBlockColumns - 1) / kBlockColumns * kPlaneBlockBytes; }
/// Such that bits of x have least to be moved where words of codes have several steps.
int64_t planeBit(int64_t step);

/// What distinguishes the code of a piece of a launch.
struct KernelSignature {
  WeightEncoding leaf;
  int64_t k = 0;
  bool bf16 = false;   // of x and of decoded pairs; else f16
  bool a8 = false;     // x is bytes with a scale a row, sums of products are integers
  bool binary = false; // `one`: bits of these bytes are multiplied with bits of codes
  LinearEpilogue epilogue = LinearEpilogue::Store;
  mlir::Type permutation = {}; // type of the entries that name each row's column of y, or null
  bool biased = false;
  bool partial = false;        // the last tile may be filled up
  WeightEncoding factors = {}; // B of a low-rank pair, whose product with t is part of the sums, or null
  int64_t rank = 0;            // its columns
  bool onto = false;           // with a gate: the result is added to y before
  bool halves = false;         // y is packed x of another product: rounded to f16 or bf16
  int64_t warps = 8;           // of a block
  int64_t xTiles = 1;          // eights of rows of x that a block multiplies
  int64_t splits = 1;          // blocks that share the columns of a tile
  int64_t tiles = 1;           // `one`: of a block, each with `warps` warps; `many`: of a warp
  bool scaled = false;         // `one`: x is multiplied by α

  DecodeContext decodeContext() const { return {k, bf16, a8}; }
  int64_t bytesOfX() const { return a8 ? 1 : 2; }
  bool operator==(const KernelSignature &) const = default;
};

/// A of a low-rank pair, [rank, k], whose product t is made in the launch that reads it.
struct FirstFactor {
  WeightEncoding leaf;
  int64_t rank = 0;

  int64_t tiles() const { return (rank + kTileRows - 1) / kTileRows; }
  bool operator==(const FirstFactor &) const = default;
};

/// Pieces of a launch: their arguments fit in what a kernel may be given (4 KiB).
inline constexpr size_t kMostPieces = 24;

/// The pieces that one launch computes, one behind the other in blocks x. Equal
/// ones stand together and share their code; all agree in k, types, epilogue,
/// warps, xTiles and splits.
struct LaunchSignature {
  llvm::SmallVector<KernelSignature> pieces;
  /// `few`: x is made by it, not read, and packed on the way; `one`: every block makes x of it. Null: x is packed.
  const RowSource *source = nullptr;
  bool one = false;
  int64_t resident = 0; // `one`: blocks that a multiprocessor must have registers for, 0: as ptxas likes
  bool scaled = false;  // what is packed is multiplied by α, what is multiplied here is not
  // `one`: A of the pieces' pairs, equal ones together; the workers that share a tile's columns, a power of two; and
  // blocks x that multiply them and nothing else.
  llvm::SmallVector<FirstFactor> firsts = {};
  int64_t spans = 1, firstBlocks = 0;

  /// Units of all A: (tile, span).
  int64_t firstUnits() const {
    int64_t tiles = 0;
    for (const FirstFactor &first : firsts)
      tiles += first.tiles();
    return tiles * spans;
  }
  const KernelSignature &common() const { return pieces.front(); }
  /// A symbol: `few_w4g128_k576_f16_w8`.
  std::string name(llvm::StringRef schedule) const;
};

/// What a piece's code is given. Pointers are global.
struct KernelArguments {
  using Value = mlir::Value;
  Value block;                   // number of the block in its piece, i32
  Value number;                  // among those of all pieces
  Value shared;                  // the block's shared memory
  Value m;                       // i32: rows of x
  Value x;                       // packed: [m, packedColumns(k)] of f16, bf16 or i8, aligned to 16
  Value xScales, xScale;         // a8: f32 [m]; or, where x is made here, that of its row
  Value y;                       // f32, at the weight's first column
  Value n, yStride;              // i32: rows of the weight, elements between rows of y
  Value permutation, bias, gate; // null where the signature has none; gate lies like y
  Value t;                       // packed: [m, packedColumns(rank)]; not written behind column `rank`
  llvm::SmallVector<Value> components, factors;
  // Of the launch.
  Value counters, partials; // split: a word for blocks that share columns, zero; what they write down, f32
  RowSource::Block source;  // where there is a source,
  Value packed, alpha;      // where it is packed to (null in `one`), and α or null
  // Of the launch's first factors: the first of their blocks (i32), 16 f32 a unit, and each one's t and components.
  Value firstBegin, firstSums;
  llvm::SmallVector<std::pair<Value, llvm::SmallVector<Value>>> firsts;
};

/// The arguments of a kernel in their order: m; firstBegin; counters (those of first factors before the splits'),
/// partials; firstSums, of each first factor t and components; source's, packed, alpha; then of each piece the
/// number of its first block (not of the first piece), x, xScales, y, n, yStride, permutation, bias, gate, t, alpha
/// (`one`), components, factors. Those are left out that a signature has no use for.
///
/// Finds or creates a kernel; `body` emits a piece, once for equal ones, `first` the blocks of first factors.
std::string
getOrCreateKernel(mlir::OpBuilder &builder, mlir::Location loc, mlir::gpu::GPUModuleOp module,
                  const LaunchSignature &launch, llvm::StringRef schedule, int64_t sharedBytes,
                  llvm::function_ref<void(DeviceBuilder &, const KernelSignature &, const KernelArguments &)> body,
                  llvm::function_ref<void(DeviceBuilder &, const KernelArguments &)> first = {});

/// Products of a tile of rows with tiles of eight rows of x, in f32: decoded
/// steps times fragments of x, scales applied where they are cheapest.
class Product {
public:
  using Value = mlir::Value;
  using Values = KernelBuilder::Values;
  /// A lane's eight columns of x of a step (its number from the first one accumulated) and an eight of rows: four
  /// words, or two of bytes.
  using Fragment = llvm::function_ref<Values(int64_t step, int64_t xTile)>;

  /// `inPlace`: groups' products go straight into the sums, which are kept in units of the last group's scale: half as
  /// many registers, for a division at each group. Where scales are by groups, they must be f16.
  /// `inPairs`: numbers() are wanted.
  explicit Product(const KernelSignature &signature, bool inPlace = false, bool inPairs = false);

  const Decoder &decoder() const { return *own; }
  void setOne(Value one) { own->one = one; }

  /// What a lane knows of tile number `index`.
  struct State {
    Tile tile;
    Value codes;
    std::array<Values, 2> rows;
    std::array<Value, 2> zeros; // of the row's only group, or null
  };
  /// What the lane has of a tile.
  Tile tileOf(DeviceBuilder &b, const KernelArguments &arguments, Value index, Value lane) const;
  /// Requests what rows need, and, when there is nothing else to do, waits for it.
  State request(DeviceBuilder &b, const KernelArguments &arguments, Value index, Value lane) const;
  void begin(DeviceBuilder &b, const KernelArguments &arguments, State &state) const;

  /// Sums of nothing: four a tile of x, f32; integers where x is bytes and scales are by rows. Element 2h + c of tile j
  /// is row 8h + lane / 4, row of x 8j + 2(lane mod 4) + c. Where scales are applied in place, their units follow, of
  /// each row; where zero points are, what x alone sums up to, two a tile of x. Binary ones by rows are others:
  /// BinaryProduct.cpp says which.
  Values zeros(DeviceBuilder &b) const;
  /// Where scales go: there are none or one a row; to sums of whole steps; to those of all before; into the pairs.
  enum Scaling { Rows, Sums, Units, Pairs };
  Scaling scalesGoTo() const { return scaling; }
  /// Steps that share a group, from any multiple of `columns` columns on.
  int64_t interval(int64_t columns) const;
  /// What there is once a group, or once a row: zero points (or null), scales of groups that go to sums (or null).
  struct Group {
    std::array<Value, 2> zeros, scales;
  };
  Group groupAt(DeviceBuilder &b, const KernelArguments &arguments, const State &state, Value column) const;
  /// A step of the group, decoded: pairs of each row.
  std::array<Values, 2> pairs(DeviceBuilder &b, const KernelArguments &arguments, const State &state,
                              const Group &group, const Decoder::Words &words, Value column) const;
  /// The same times its scale, in halves. For `Pairs` (see Scaling).
  std::array<Values, 2> numbers(DeviceBuilder &b, const KernelArguments &arguments, const State &state,
                                const Decoder::Words &words, Value column) const {
    return pairs(b, arguments, state, {}, words, column);
  }
  /// Sums of a tile, and behind them their units, in units of other scales.
  void changeUnits(DeviceBuilder &b, llvm::MutableArrayRef<Value> sums, std::array<Value, 2> scales) const;

  /// Adds the products of consecutive steps, the first of which begins at column `first` (i32).
  Values accumulate(DeviceBuilder &b, const KernelArguments &arguments, const State &state,
                    llvm::ArrayRef<Decoder::Words> steps, Value first, Fragment x, mlir::ValueRange sums) const {
    return accumulate(b, arguments, llvm::ArrayRef(&state, 1), llvm::ArrayRef(&steps, 1), first, x, sums);
  }
  /// The same for several tiles of rows, on each fragment of x in turn; the first tile's sums come first.
  Values accumulate(DeviceBuilder &b, const KernelArguments &arguments, llvm::ArrayRef<State> states,
                    llvm::ArrayRef<llvm::ArrayRef<Decoder::Words>> steps, Value first, Fragment x,
                    mlir::ValueRange sums) const;
  /// Adds binary products of a block as its requests bring it, 256 columns from `first` on; `x`: two words of planes.
  Values accumulateBlock(DeviceBuilder &b, const KernelArguments &arguments, const State &state,
                         llvm::ArrayRef<Value> requests, Value first, llvm::ArrayRef<Value> x,
                         mlir::ValueRange sums) const;
  /// The same of a step at `column`; `x`: the word of planes that has it.
  Values accumulateStep(DeviceBuilder &b, const KernelArguments &arguments, const State &state,
                        const Decoder::Words &step, Value column, Value x, mlir::ValueRange sums) const;
  /// Applies what belongs to whole rows; the units are gone.
  Values finish(DeviceBuilder &b, const KernelArguments &arguments, const State &state, mlir::ValueRange sums) const;

  /// Pointers to the lane's canonical rows: of the columns behind the last block, or of a weight without blocks.
  std::array<Value, 2> restRows(DeviceBuilder &b, const State &state) const;
  std::array<Value, 2> canonicalRows(DeviceBuilder &b, const State &state) const;

private:
  KernelSignature signature;
  std::unique_ptr<Decoder> own;
  int64_t group;
  Scaling scaling;
  bool byGroups() const { return scaling == Sums || scaling == Units; }
  Value zeroAt(DeviceBuilder &b, const KernelArguments &arguments, const State &state, int half, Value group) const;

  mlir::Type half(DeviceBuilder &b) const { return signature.bf16 ? b.bf16() : b.f16(); }
  Value groupOf(DeviceBuilder &b, Value column) const;
  Values scaledPairs(DeviceBuilder &b, const KernelArguments &arguments, const State &state, int half,
                     const Values &words, Value column) const;
  /// Numbers of a tile of x beside its four sums: where zero points are subtracted of sums, two.
  int64_t apart() const { return signature.a8 && own->zerosApart() ? 2 : 0; }
  Value withoutZeros(DeviceBuilder &b, llvm::ArrayRef<Value> sums, int64_t i, std::array<Value, 2> zeros) const;
  // Binary.
  int64_t counted() const { return 4 * own->bits() + 2; }
  void count(DeviceBuilder &b, llvm::ArrayRef<Value> a, llvm::ArrayRef<Value> x, int64_t u, Values &counts) const;
  Values addCounts(DeviceBuilder &b, const KernelArguments &arguments, const State &state, Value column,
                   const Values &counts, const Values &sums) const;
  Values sumsOfCounts(DeviceBuilder &b, llvm::ArrayRef<Value> counts, const State &state,
                      std::array<Value, 2> zeros) const;
};

/// All columns of a tile times x, the columns dealt out to workers in units: worker `index` of `count` takes every
/// count-th.
class Columns {
public:
  using Value = mlir::Value;
  using Values = KernelBuilder::Values;
  /// A lane's four words of x of the step `step` steps behind column `first`, for an eight of rows. Of planes
  /// `step` words: both of the 256 columns from `first` on, or that of the 128 that have column `first`.
  using XAt = llvm::function_ref<Values(Value first, int64_t step, int64_t xTile)>;
  struct Workers {
    Value index, count; // i32
    int64_t constant;   // count where it is known and a power of two, else 0
    int64_t most;       // units that one takes, at most or so
  };

  /// The piece's weight, or (`factors`) B of its low-rank pair. `thin`: with few registers, half a block at a time,
  /// none ahead.
  Columns(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments, bool factors,
          bool thin = false);
  void begin(Value tileIndex, Value lane) {
    request(tileIndex, lane);
    finishRequest();
  }
  /// The same in two steps, the second of which waits.
  void request(Value tileIndex, Value lane) { state = product.request(b, arguments, tileIndex, lane); }
  void finishRequest() { product.begin(b, arguments, state); }
  /// Requests for the worker's first blocks of columns, where `wanted`; multiply() takes them over.
  Values requestFirst(const Workers &workers, Value wanted) const;

  const Tile &tile() const { return state.tile; }
  /// Decoder::one, but for groups beside a low-rank pair, whose sums leave no register for constants.
  void setOne(Value one) {
    if (!signature.factors || product.scalesGoTo() != Product::Sums)
      product.setOne(one);
  }
  /// Blocks, narrow blocks and what is left, of K columns.
  static int64_t units(const Decoder &decoder, int64_t k);
  int64_t units() const { return units(product.decoder(), signature.k); }
  /// Whether the worker takes any, if unit 0 is worker `first`'s.
  Value takes(const Workers &workers, int64_t first) const;
  /// A worker's sums with scales. Unit 0 is worker `first`'s; `requested`: requestFirst()'s, then `first` is 0.
  Values multiply(const Workers &workers, int64_t first, XAt x, mlir::ValueRange requested = {}) const;

private:
  DeviceBuilder &b;
  KernelSignature signature;
  KernelArguments arguments;
  bool thin;
  Product product;
  Product::State state;

  int64_t blockColumns() const { return product.decoder().block() / (thin ? 2 : 1); }
  Value mine(const Workers &workers, int64_t unit) const;
  Values accumulate(llvm::ArrayRef<Decoder::Words> steps, Value first, XAt x, mlir::ValueRange sums) const;
  /// The same of what a block's requests bring.
  Values accumulate(llvm::ArrayRef<Value> requests, StepKind kind, Value first, XAt x, mlir::ValueRange sums) const;
  Values accumulateStep(const Decoder::Words &step, Value column, XAt x, mlir::ValueRange sums) const;
  /// A step of canonical rows, its columns from `column` on there and from `first` on in the weight.
  Values canonical(std::array<Value, 2> rows, Value column, int64_t columns, Value first, XAt x,
                   mlir::ValueRange sums) const;
  Values sumsOf(const Workers &workers, int64_t first, XAt x, mlir::ValueRange requested,
                mlir::ValueRange initial) const;
  int64_t blocksAhead(const Workers &workers, bool early) const;
  Values requestBlock(Value index, Value wanted = {}) const;
  Values wholeBlocks(const Workers &workers, int64_t first, XAt x, mlir::ValueRange requested,
                     mlir::ValueRange initial) const;
  Values canonicalTile(const Workers &workers, int64_t first, XAt x, mlir::ValueRange initial) const;
};

/// A lane's place in a row of x as planes (planeBytes), and its words there (`row` and place together): both of the 256
/// columns from `column` on, or one (`count`), of the 128 that have it.
mlir::Value planePlace(DeviceBuilder &b, mlir::Value lane);
KernelBuilder::Values planeWords(DeviceBuilder &b, mlir::Value row, mlir::Value column, int64_t count);

/// Four words at columns `column` … `column` + 7 of a packed row (its pointer); zero from column `columns` on, behind
/// which nothing is read. `readOnly`: an earlier launch wrote it.
KernelBuilder::Values packedWords(DeviceBuilder &b, mlir::Value row, mlir::Value column, int64_t columns,
                                  mlir::Type half, bool readOnly = true);

/// t = A·x of a launch's low-rank pairs beside the products that read it: FirstFactors.cpp says how.
class FirstFactors {
public:
  using Value = mlir::Value;
  FirstFactors(DeviceBuilder &b, const LaunchSignature &launch, const KernelArguments &arguments)
      : b(b), launch(launch), arguments(arguments) {}

  /// A warp's next unit, i32; none is left where it is not below launch.firstUnits().
  Value claim(Value lane) const;
  /// Multiplies units from a claimed one on until none is left. `x`: the row in shared memory.
  void multiply(Value claimed, Value x, Value lane) const;
  /// Until t is there.
  void wait(Value x, Value lane) const;
  /// Behind a barrier after the block's last use.
  void leave(Value thread) const;

private:
  DeviceBuilder &b;
  const LaunchSignature &launch;
  const KernelArguments &arguments;

  /// The words in `counters`: units claimed, units done, whether t is there, blocks that are past it.
  enum Word { Claimed, Done, There, Past };
  Value at(Word word) const;
  mlir::Type half() const { return launch.common().bf16 ? b.bf16() : b.f16(); }
  int64_t firstUnit(size_t factor) const;
  void multiplyUnit(Value unit, Value x, Value lane) const;
  void addUp(Value lane) const;
};

/// Up to eight rows of x: a block takes one tile of rows and its warps share the
/// columns; x comes from global memory. Grid (tiles, splits): with more than one
/// split the last block of a tile to be done adds up what all wrote down.
void emitFewKernel(DeviceBuilder &b, const LaunchSignature &launch, const KernelSignature &signature,
                   const KernelArguments &arguments);
/// Bytes of shared memory that it wants.
int64_t fewSharedBytes(int64_t warps);
/// Numbers of f32 in `partials` for each block.
inline constexpr int64_t kFewPartials = 8 * kTileRows;

/// One row of x, which each block makes of `launch.source` and keeps in shared memory: no launch packs it. A block
/// takes `tiles` tiles with `warps` warps each. Grid as for `few`, of blocks.
void emitOneKernel(DeviceBuilder &b, const LaunchSignature &launch, const KernelSignature &signature,
                   const KernelArguments &arguments);
int64_t oneSharedBytes(const KernelSignature &signature);
/// A block of `one` that multiplies first factors.
void emitFirstFactors(DeviceBuilder &b, const LaunchSignature &launch, const KernelArguments &arguments);
/// True if a block can keep a row of x.
inline bool fitsOne(int64_t k) { return packedColumns(k) * 2 <= 32 << 10; }
/// Numbers of f32 in `partials` for each block.
inline int64_t onePartials(int64_t tiles) { return tiles * kTileRows; }

/// More rows of x: a block takes `tiles` tiles of rows a warp and up to 64 rows of x, which
/// pass through shared memory; grid (⌈tiles of the weight / (warps · tiles)⌉, ⌈m / (8·xTiles)⌉, splits).
void emitManyKernel(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments);
int64_t manySharedBytes(const KernelSignature &shape);
/// Units in which blocks can share its columns.
int64_t manySpans(const Decoder &decoder, int64_t k);
/// Numbers of f32 in `partials` for each block.
inline int64_t manyPartials(const KernelSignature &shape) { return 32 * shape.warps * 4 * shape.xTiles * shape.tiles; }

/// Many rows of x on sm_90a: a warp takes a tile of rows and a block 128 rows of x, packed as matrices; grid
/// (⌈tiles of the weight / warps⌉, ⌈m / 128⌉, splits). `warps` is a multiple of four.
void emitWideKernel(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments);
inline constexpr int64_t kWideXTiles = 16;
int64_t wideSharedBytes();
/// Whether registers suffice for the sums of 16 warps. They do not with wide codes; nor with scales of short groups and
/// others that cannot be applied in place: with sums for 64 rows of x there is nothing to be had over `many`.
bool fitsWide(const Decoder &decoder, int64_t k);
/// Units in which blocks can share its columns.
int64_t wideSpans(const Decoder &decoder, int64_t k);

/// Rows of a weight as halves in memory, for a library: arguments.y is [n, yStride] of f16 or bf16, rows as y has its
/// columns. A block takes a tile of rows and its warps the blocks of columns in turn; zeros or any number behind column
/// k, up to a whole step.
void emitDecodeKernel(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments);

/// How packed x lies.
enum class PackedLayout {
  Rows,    ///< [m, packedColumns(k)]
  Matrices ///< as wgmma reads it: of each 8 rows, then each step, four core matrices of 128 bytes. Row r of 8 is at
           ///< 16·r in all of them; of its 16 words of the step, number 4t + j is word t of matrix j
};
/// Bytes of `m` rows of it.
inline int64_t packedBytes(PackedLayout layout, int64_t m, int64_t k) {
  int64_t rows = layout == PackedLayout::Rows ? m : static_cast<int64_t>(llvm::alignTo(m, 8));
  return rows * packedColumns(k) * 2;
}

/// Packs x for all schedules, once as it is (`plain`) and once for each of `scaled` vectors α: y[m, packedColumns(k)] =
/// x[m, k]·alpha[k] in f16 or bf16, zeros behind column k. Arguments: the source's, then of each packing its memory and
/// α. Grid (packBlocks, m), of packThreads lanes: a block takes 1024 columns, or all of them where the source is of
/// whole rows.
int64_t packThreads(const RowSource &source, int64_t k);
int64_t packBlocks(const RowSource &source, int64_t k);
std::string getOrCreatePack(mlir::OpBuilder &builder, mlir::Location loc, mlir::gpu::GPUModuleOp module,
                            const RowSource &source, int64_t k, bool bf16, bool plain, int64_t scaled,
                            PackedLayout layout);

/// A row of x as bytes, by the whole block: q = x·(127 / max|x|), rounded to nearest even, to `to`; in all lanes its
/// scale max|x| / 127, f32. Of zeros both are 0. `columns` and `there` as RowSource::makeRow has them, of
/// packedColumns(k). With `bytes`, planeBytes(k) of shared memory, what is written are its bit planes.
mlir::Value quantizeRow(DeviceBuilder &b, const RowSource &source, const RowSource::Block &block,
                        llvm::ArrayRef<mlir::Value> columns, llvm::ArrayRef<mlir::Value> there, mlir::Value alpha,
                        mlir::Value to, mlir::Value bytes = {});
/// Packs x so, times α if `scaled`: arguments are the source's, packed x, i8 [m, packedColumns(k)], its scales, f32
/// [m], and α. Grid (1, m), blocks of kBytePackThreads lanes.
std::string getOrCreateBytePack(mlir::OpBuilder &builder, mlir::Location loc, mlir::gpu::GPUModuleOp module,
                                const RowSource &source, int64_t k, bool scaled);
inline constexpr int64_t kBytePackThreads = 256;
/// Columns that lanes have registers for.
inline constexpr int64_t kMostByteColumns = 32768;

/// Numbers as packed x has them: rounded, and in f16 never infinite.
mlir::Value narrowed(DeviceBuilder &b, mlir::Value x, mlir::Type half);
/// Four or eight of them times α (a pointer to f16 [k], or null), in pairs.
KernelBuilder::Values packColumns(DeviceBuilder &b, llvm::ArrayRef<mlir::Value> x, mlir::Value alpha,
                                  mlir::Value column, int64_t k, mlir::Type half);

/// What becomes of products with a row of the weight.
struct ResultRow {
  mlir::Value column; // of y, i32
  mlir::Value bias;   // f32, or null
  mlir::Value before; // what y has there before, if that is known already; else null
};
/// `weightRow` is i32, one that there is.
ResultRow resultRow(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments,
                    mlir::Value weightRow);
/// Writes a value to y: bias, residual, gate. `xRow` is i32.
void storeResult(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments,
                 const ResultRow &row, mlir::Value xRow, mlir::Value value);

} // namespace skim::device

#endif // SKIM_LIB_TARGET_GPU_SCHEDULE_SCHEDULES_H
