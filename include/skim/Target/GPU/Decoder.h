//===- Decoder.h - decodes a leaf encoding on a GPU -------------*- C++ -*-===//
//
// A format is one attribute (dialects/skim) and one decoder for each family of
// targets. A schedule asks for a step of 32 columns of a tile of 16 rows (see
// Tiles.h); a lane gets eight columns of two rows, as pairs of f16 or bf16 that
// are operand A of mma.m16n8k16, without the scale:
//
//   w[n, k] = scale(n, k / group)·value(n, k)
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TARGET_GPU_DECODER_H
#define SKIM_TARGET_GPU_DECODER_H

#include "skim/Skim/SkimEncodings.h"
#include "skim/Target/GPU/DeviceBuilder.h"
#include "skim/Target/GPU/Tiles.h"

#include <array>
#include <memory>

namespace skim::device {

/// What a decoder knows when kernels are generated.
struct DecodeContext {
  int64_t k;          // columns of the weight
  bool bf16 = false;  // of the pairs; else f16
  bool bytes = false; // integers are wanted, not pairs
};

/// A tile of rows as a lane sees it; i32.
struct Tile {
  mlir::Value index;                 // of the tile
  mlir::Value rows;                  // of the weight: 16 but for the last
  std::array<mlir::Value, 2> inTile; // the lane's rows, from the tile's first on
  std::array<mlir::Value, 2> row;    // the same in the weight, at most its last
  mlir::Value lane, t;               // 0 … 31, 0 … 3
};

/// How codes of a step lie.
enum class StepKind { Block, Half, Narrow };

class Decoder {
public:
  using Value = mlir::Value;
  using Values = KernelBuilder::Values;
  /// What one lane has of a step, for its two rows: words of codes by fours of bits, or of floats.
  using Words = std::array<Values, 2>;

  explicit Decoder(DecodeContext context) : context(context) {}
  virtual ~Decoder() = default;

  /// An i32 that is 1 whenever the kernel runs, which the device's compiler cannot know. With it lookups leave less to
  /// the integer pipe.
  Value one = {};

  /// Bits of a column in the first component, as Tiles.h has them; 0: canonical
  /// rows that `canonicalWords` reads.
  virtual int64_t bits() const = 0;
  virtual CodeOrder order() const { return CodeOrder::Adjacent; }
  /// Whether numbers are read from memory, each by its code.
  virtual bool readsTable() const { return false; }
  /// Columns that share a scale: 0 where values are final, k for one a row.
  virtual int64_t group() const { return 0; }
  int64_t groups() const { return group() ? (context.k + group() - 1) / group() : 0; }
  /// What becomes of each component of a weight with `rows` rows.
  virtual llvm::SmallVector<TiledComponent> components(int64_t rows) const = 0;

  /// Columns of a block, 0 where there are none.
  int64_t block() const { return bits() ? blockColumns(bits()) : 0; }
  /// Requests of 16 bytes a lane that load a block.
  int64_t requestsPerBlock() const { return bits() * blockColumns(bits()) / 256; }

  //===--- a tile ---===//
  /// Requests for what is needed of one of the lane's rows; and what becomes of it: tables in registers.
  virtual Values requestRow(DeviceBuilder &b, llvm::ArrayRef<Value> components, const Tile &tile, int half) const {
    return {};
  }
  virtual Values beginRow(DeviceBuilder &b, const Values &requested) const { return requested; }
  /// Pointer to the tile's codes.
  Value tileCodes(DeviceBuilder &b, llvm::ArrayRef<Value> components, const Tile &tile) const;

  //===--- codes ---===//
  /// Requests for everything that a lane needs of block number `index` (i32) of the tile.
  Values loadBlock(DeviceBuilder &b, Value tileCodes, const Tile &tile, Value index) const;
  Values loadNarrow(DeviceBuilder &b, Value tileCodes, const Tile &tile, Value index) const;
  /// The same of a half of a block: half as many registers, for requests half as wide.
  Values loadHalf(DeviceBuilder &b, Value tileCodes, const Tile &tile, Value index) const;
  /// What they bring, by steps.
  llvm::SmallVector<Words> sortBlock(DeviceBuilder &b, llvm::ArrayRef<Value> requests, StepKind kind) const;
  /// A step of canonical rows: `column` (i32, a multiple of 32) from the first
  /// column at `rows[half]` on; `columns` of them a row.
  Words canonicalStep(DeviceBuilder &b, std::array<Value, 2> rows, const Tile &tile, Value column,
                      int64_t columns) const;
  /// Bytes of a canonical row of so many columns.
  virtual int64_t canonicalBytes(int64_t columns) const { return (columns * bits() + 7) / 8; }
  /// Bytes from one canonical row of a tile to the next.
  virtual int64_t rowBytes() const { return canonicalBytes(context.k); }

  //===--- numbers ---===//
  /// The scale of a group, f32.
  virtual Value scale(DeviceBuilder &b, llvm::ArrayRef<Value> components, const Tile &tile, int half,
                      Value group) const {
    return {};
  }
  /// True if scales are f16, so that the quotient of two is a number.
  virtual bool hasHalfScales() const { return false; }
  /// True if `pairs` wants zero points.
  virtual bool hasZeros() const { return false; }
  /// A group's zero point as `pairs` wants it: a pair of the same 16 bits.
  virtual Value zero(DeviceBuilder &b, llvm::ArrayRef<Value> components, const Tile &tile, int half,
                     Value group) const {
    return {};
  }
  /// Columns (0, 1), (2, 3), (4, 5), (6, 7), unscaled; `zeros`: one for each pair, or none.
  virtual Values pairs(DeviceBuilder &b, const Values &row, llvm::ArrayRef<Value> zeros, const Values &words) const = 0;

  //===--- integers, of a decoder that was made for them ---===//
  /// True if unscaled values are integers of 8 bits.
  virtual bool hasBytes() const { return false; }
  /// True if `bytes` leaves zero points to sums: Σ q·(v − z) = Σ q·v − z·Σ q.
  virtual bool zerosApart() const { return false; }
  /// A group's zero point as `bytes` wants it: four times the same byte; or, where zerosApart(), i32, less what
  /// `bytes` has taken off its codes.
  virtual Value zeroBytes(DeviceBuilder &b, llvm::ArrayRef<Value> components, const Tile &tile, int half,
                          Value group) const {
    return {};
  }
  /// Columns 0 … 3 and 4 … 7, unscaled; `zero` is null where there are none.
  virtual Values bytes(DeviceBuilder &b, const Values &row, Value zero, const Values &words) const { return {}; }

  /// True if they are codes minus zero points, so that each bit of a code counts for itself.
  virtual bool hasBits() const { return false; }
  /// A group's zero point, i32; also where it is the same everywhere.
  virtual Value zeroInteger(DeviceBuilder &b, llvm::ArrayRef<Value> components, const Tile &tile, int half,
                            Value group) const {
    return {};
  }

protected:
  DecodeContext context;

  mlir::Type half(DeviceBuilder &b) const { return context.bf16 ? b.bf16() : b.f16(); }
  /// An element of a component that lies by groups.
  Value groupElement(DeviceBuilder &b, Value component, const Tile &tile, int half, Value group, mlir::Type type) const;
  /// Codes in order `split`, a pair of them 16 bits apart, as integers: four words.
  Values codePairs(DeviceBuilder &b, const Values &words) const;
  /// Non-negative integers below 256 in pairs, minus `zeros` (or `offset`), as floats.
  /// Zeros are in the form of zeroPair().
  Values integerPairs(DeviceBuilder &b, const Values &codes, int64_t bits, llvm::ArrayRef<Value> zeros,
                      int64_t offset) const;
  /// The same of a step's words in order `split`, with fewer shifts where floats have room for them.
  Values integersOf(DeviceBuilder &b, const Values &words, llvm::ArrayRef<Value> zeros, int64_t offset) const;
  /// Codes in order `split` as bytes: columns 0 … 3 and 4 … 7.
  Values codeBytes(DeviceBuilder &b, const Values &words) const;
  /// A constant that the device's compiler takes for no constant: a logical operation takes one number that is part of
  /// it, so that two of them are one where the other is in a register. (Of canonical rows nothing is as fast.)
  Value inRegister(DeviceBuilder &b, uint32_t bits) const;
  /// An integer zero point (i32) for integerPairs.
  Value zeroPair(DeviceBuilder &b, Value integer, int64_t bits) const;
  /// The words of a step of canonical rows that lie otherwise than LSB first.
  virtual Values canonicalWords(DeviceBuilder &b, Value row, Value column, int64_t columns) const;

  /// That of codes, and behind it those of what there is once a group in `groupBits` bits (0: canonical).
  llvm::SmallVector<TiledComponent> layouts(int64_t rows, TiledComponent::Kind codes,
                                            llvm::ArrayRef<int64_t> groupBits) const;
};

// Tables of 2^bits numbers of 16 bits in registers, bits ≤ 4, looked up by byte
// permutes: low bytes of four entries a word, then high ones.

/// A table from pairs of entries (0, 1), (2, 3), ….
Decoder::Values registerTable(DeviceBuilder &b, llvm::ArrayRef<mlir::Value> pairs);
/// A constant table.
Decoder::Values registerTable(DeviceBuilder &b, llvm::ArrayRef<double> entries, bool bf16);
/// The numbers of eight codes in order `adjacent`, as four pairs; `one` as in Decoder.
Decoder::Values lookUp(DeviceBuilder &b, llvm::ArrayRef<mlir::Value> table, int64_t bits, mlir::Value codes,
                       mlir::Value one);

/// The same of a table of at most four entries, (0, 1) and (2, 3), and of codes in order `bytes`: a permute finds a
/// pair.
Decoder::Values lookUpPairs(DeviceBuilder &b, llvm::ArrayRef<mlir::Value> table, mlir::Value codes, mlir::Value one);

/// Tables of 2^bits bytes, bits ≤ 5, four entries a word, and the entries of eight codes in order `adjacent`: columns
/// 0 … 3 and 4 … 7. The fifth bits are a second word of codes.
Decoder::Values lookUpBytes(DeviceBuilder &b, llvm::ArrayRef<mlir::Value> table, int64_t bits,
                            llvm::ArrayRef<mlir::Value> codes, mlir::Value one);
/// Bytes below 128 minus others, which are at most 128.
mlir::Value subBytes(DeviceBuilder &b, mlir::Value a, mlir::Value zeros);

/// The decoder of a leaf, or null if there is none.
std::unique_ptr<Decoder> makeDecoder(WeightEncoding leaf, DecodeContext context);

} // namespace skim::device

#endif // SKIM_TARGET_GPU_DECODER_H
