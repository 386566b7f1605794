//===- Decoder.h - generates code that decodes a leaf encoding --*- C++ -*-===//
//
// A format is one attribute (dialects/skim) and one decoder. A schedule asks for
// a run of columns of a row, as unscaled values plus a scale a group, or as
// final values; it never learns which format it has.
//
//   w[n, k] = scale(n, k / group)·(value(n, k) − zero(n, k / group))
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TARGET_CPU_DECODER_H
#define SKIM_TARGET_CPU_DECODER_H

#include "skim/Skim/SkimEncodings.h"
#include "skim/Target/CPU/TargetInfo.h"
#include "skim/Target/Common/KernelBuilder.h"

#include <memory>

namespace skim {

/// What a decoder knows when kernels are generated.
struct DecodeContext {
  const TargetInfo &target;
  int64_t k;              // columns of the weight
  int64_t lanes;          // f32 in a decoded run: a multiple of eight
  bool scratch = true;    // false: beginRow gets none, and every table is in registers
  LayoutAttr layout = {}; // of packed codes; null: rows
};

/// The width of runs: a vector, but at least eight, so that runs of codes begin at whole bytes.
inline int64_t decodeLanes(const TargetInfo &target) { return std::max<int64_t>(8, target.f32Lanes()); }

/// Columns [first, first + count) of a row; first (i64) is a multiple of the
/// run's lanes, 0 < count <= lanes. Lanes from count on hold finite junk.
struct Run {
  mlir::Value first;
  int64_t count;
  /// `first` within its block of the layout, or −1 where codes lie in rows.
  int64_t phase = -1;

  /// `columns` of it from `offset` on.
  Run part(KernelBuilder &b, int64_t offset, int64_t columns) const {
    return {offset ? b.add(first, offset) : first, columns, phase < 0 ? phase : phase + offset};
  }
};

class Decoder {
public:
  using Value = mlir::Value;
  using Values = KernelBuilder::Values;

  explicit Decoder(DecodeContext context) : context(context) {}
  virtual ~Decoder() = default;

  /// Columns that share a scale: 0 where values are final, k for one a row.
  virtual int64_t group() const { return 0; }
  int64_t groups() const { return group() ? (context.k + group() - 1) / group() : 0; }
  /// True if there are zero points beside the scales.
  virtual bool hasZeros() const { return false; }
  /// Bytes of private scratch for one row's state.
  virtual int64_t scratchPerRow() const { return 0; }
  /// Stored bits of a column, for prefetching and layouts; 0: neither. Up to
  /// eight, `codes` reads them, packed one after another from the row's first
  /// pointer on, and a layout may turn them.
  virtual int64_t bitsPerColumn() const { return 0; }

  /// Columns of a block of the layout, 0 where there is none: what lies in whole
  /// blocks is read with a Run's phase, what is behind them without.
  int64_t block() const;

  /// What is needed of a row (i64): pointers, table registers. The first value
  /// is the pointer to the row's codes.
  virtual Values beginRow(KernelBuilder &b, llvm::ArrayRef<Value> components, Value row, Value scratch) const = 0;
  /// Unscaled values as f32, context.lanes of them.
  virtual Value values(KernelBuilder &b, const Values &row, const Run &run) const = 0;
  /// Unscaled values as bf16, 2·context.lanes of them (run.first a multiple of
  /// that), or null if there is no better way than through f32.
  virtual Value valuesBF16(KernelBuilder &b, const Values &row, const Run &run) const { return {}; }
  /// `count` (static) consecutive scales from group `first` on, as f32 vector of context.lanes.
  virtual Value scales(KernelBuilder &b, const Values &row, Value first, int64_t count) const { return {}; }
  /// Likewise; `aligned`: first is a multiple of eight.
  virtual Value zeros(KernelBuilder &b, const Values &row, Value first, int64_t count, bool aligned) const {
    return {};
  }

  /// One scale (f32) of group `group`.
  Value scale(KernelBuilder &b, const Values &row, Value group) const;
  /// Final values, scaled, as f32.
  Value weights(KernelBuilder &b, const Values &row, const Run &run) const;
  /// Unscaled values of 2·lanes columns as bf16, however.
  Value anyValuesBF16(KernelBuilder &b, const Values &row, const Run &run) const;
  /// Final values of 2·lanes columns as bf16.
  Value weightsBF16(KernelBuilder &b, const Values &row, const Run &run) const;

protected:
  DecodeContext context;

  /// Packed codes of a run, one a lane of `type`, from a row of them at `pointer`,
  /// wherever its layout has them.
  Value codes(KernelBuilder &b, Value pointer, const Run &run, int64_t bits, mlir::VectorType type, bool junk) const;
  /// Entries of the largest table that lookups of 32 or 16 bits hold in registers.
  int64_t tableEntries(unsigned width) const;
  Value blockCodes(KernelBuilder &b, Value pointer, const Run &run, int64_t bits, mlir::VectorType type,
                   bool junk) const;
  /// The first `count` of consecutive floats at `pointer` as f32 vector of lanes.
  Value floats(KernelBuilder &b, mlir::Type type, Value pointer, int64_t count) const;
};

/// The decoder of a leaf, or null if there is none.
std::unique_ptr<Decoder> makeDecoder(WeightEncoding leaf, DecodeContext context);

} // namespace skim

#endif // SKIM_TARGET_CPU_DECODER_H
