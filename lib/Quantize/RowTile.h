//===- RowTile.h - a few rows under one moment ------------------*- C++ -*-===//
//
// The solvers work on tiles of 64 rows that share a moment F. Arrays of a tile
// are [K][64]: a vector holds one column of several rows, so that the steps of
// one row, which follow each other, run side by side for all rows, and what a
// block of columns does to the others is one matrix product.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_QUANTIZE_ROWTILE_H
#define SKIM_LIB_QUANTIZE_ROWTILE_H

#include "skim/Support/Safetensors.h"

#include <cstdint>
#include <functional>
#include <new>
#include <span>
#include <vector>

namespace skim {

/// Memory whose vectors never straddle a cache line.
template <typename T> struct CacheLineAllocator {
  using value_type = T;
  CacheLineAllocator() = default;
  template <typename U> CacheLineAllocator(const CacheLineAllocator<U> &) {}
  T *allocate(size_t count) { return static_cast<T *>(::operator new(count * sizeof(T), std::align_val_t(64))); }
  void deallocate(T *data, size_t) { ::operator delete(data, std::align_val_t(64)); }
  template <typename U> bool operator==(const CacheLineAllocator<U> &) const { return true; }
};
template <typename T> using AlignedVector = std::vector<T, CacheLineAllocator<T>>;

/// A moment made ready for solvers: divided by the mean of its diagonal, its
/// columns in descending order of the diagonal.
struct Objective {
  int64_t columns = 0;
  int64_t stride = 0;          ///< of `moment`; behind the columns are zeros up to the next multiple of 128
  float damping = -1;          ///< as it was asked for
  double scale = 1;            ///< errors of this × scale are in the statistics' units
  std::vector<int32_t> order;  ///< order[i]: the column that comes i-th
  AlignedVector<float> moment; ///< [K, stride], in `order`
  std::vector<float> inverse;  ///< [K], 1 / diagonal of `moment`
  /// Uᵀ [K,K], lower, with (F + damping)⁻¹ = Uᵀ·U, in `order`; empty if not asked for.
  std::vector<float> feedback;
};

/// `alpha` [K] (or empty): the moment of w/α, diag(α)·F·diag(α). `damping` < 0:
/// without feedback. Where F + damping is not positive definite, the damping
/// grows tenfold until it is.
Objective prepareObjective(std::span<const float> moment, int64_t columns, float damping,
                           std::span<const float> alpha = {});

/// What of a row's tables is free, and how many there are.
struct TableShape {
  enum Kind {
    Entries,   ///< one table: every entry is
    Fixed,     ///< one table: nothing is
    Symmetric, ///< scale·(q − 2^(bits−1)) for each group of columns: scales are
    Affine,    ///< scale·(q − zero): both are
  };
  Kind kind = Entries;
  int64_t group = 0; ///< columns of a grid, in the row's own order; 0: all
  bool isGrid() const { return kind == Symmetric || kind == Affine; }
};

/// What the error of a group's columns says about its grid; see RowTile::fitLane.
struct GridEquations;

class RowTile {
public:
  static constexpr int64_t lanes = 64;

  /// `table`: the type that entries are stored in.
  RowTile(const Objective &objective, unsigned bits, DType table, TableShape shape = {});

  /// Puts a row's weights, in their own order, into a lane.
  void setRow(int64_t lane, const float *row, const float *alpha);
  /// The lane's table: 2^bits ascending values as stored, with I8's scale.
  void setTable(int64_t lane, const float *values, float scale);
  /// A grid of the lane; scale and zero as stored (f16). The zero is Affine's; a
  /// symmetric scale may be negative (its range has one code more on one side).
  void setGrid(int64_t lane, int64_t group, float scale, float zero);
  /// The lane's codes, in the columns' own order, after its table or grid.
  void setCodes(int64_t lane, const uint8_t *codes);
  /// Only the first `used` lanes count; the others repeat lane 0.
  void fill(int64_t used);

  /// Codes by the nearest entry.
  void roundToNearest();
  /// Codes by error feedback over the tables.
  void feedback();
  /// Least squares, then `rounds` times: error feedback over the tables (if the
  /// objective has it), `cycles` passes of coordinate descent, least squares.
  /// Each lane keeps the best that it was.
  void refine(int rounds, int cycles);
  /// Error feedback over the tables as they are, `cycles` passes of coordinate
  /// descent, least squares: half of refine's time, without a look at what was there.
  void renew(int cycles);
  /// δ·F·δᵀ × the objective's scale of each lane.
  void errors(double *out);

  /// Adds to the equations of a table that lanes share, with a weight for each:
  /// Σ PᵀFP to `normal` [2^bits, 2^bits] and what is left of the gradient to
  /// `gradient` [2^bits]. In units of the objective.
  void addEquations(std::span<const double> weights, std::span<double> normal, std::span<double> gradient);

  /// Of what is not a grid.
  void table(int64_t lane, float *values) const;
  float tableScale(int64_t lane) const { return scales[lane]; }
  /// Groups of columns that have a grid of their own; 1 for tables.
  int64_t numGroups() const { return groups; }
  float gridScale(int64_t lane, int64_t group) const { return scales[group * lanes + lane]; }
  float gridZero(int64_t lane, int64_t group) const { return zeros[group * lanes + lane]; }
  /// In the columns' own order.
  void codes(int64_t lane, uint8_t *out) const;
  /// What the codes stand for, likewise.
  void decode(int64_t lane, float *out) const;

private:
  void updateDeltas();
  void products();
  void objectives(double *out) const;
  void keepBest();
  void restoreBest();
  void leastSquares();
  void sumEquations();
  void fitGrids();
  void fitGroup(const std::vector<int32_t> &members, int64_t group);
  bool fitLane(int64_t lane, int64_t group, const GridEquations &equations);
  /// Entries ascend in here; the codes of a falling grid are counted from its other end.
  bool isTurned(int64_t lane, int64_t group) const { return shape.isGrid() && scales[group * lanes + lane] < 0; }
  float entry(int64_t column, int64_t lane) const {
    return tables[(groupOf[column] * size + code[column * lanes + lane]) * lanes + lane];
  }
  void setValues(int64_t lane, int64_t group, const float *values, float scale);
  void solveTable(int64_t lane);
  void descend();

  const Objective *objective;
  int64_t columns;
  int64_t size;           // 2^bits
  int64_t used = lanes;   // lanes that count
  int64_t active = lanes; // whole vectors of them: what products are computed for
  DType type;
  TableShape shape;
  int64_t groups = 1;
  std::vector<int32_t> groupOf; // [K], in the objective's order
  AlignedVector<float> weights; // [K][lanes]
  AlignedVector<float> delta;   // ŵ − w
  AlignedVector<float> product; // F·δ; in feedback what is left of the weights
  AlignedVector<float> changes; // [block][lanes]
  AlignedVector<uint8_t> code;  // [K][lanes]
  AlignedVector<float> tables;  // [groups][2^bits][lanes]
  AlignedVector<float> middles; // [groups][2^bits][lanes]: where the next entry begins to be nearer
  std::vector<float> scales;    // [groups][lanes], I8 and grids
  std::vector<float> zeros;     // [groups][lanes], grids
  AlignedVector<uint8_t> bestCode;
  AlignedVector<float> bestTables;
  std::vector<float> bestScales, bestZeros;
  std::vector<double> bestObjective;
  bool known = false; // bestObjective is of what is there

  std::vector<double> normal; // [lanes][2^bits][2^bits]: its symmetric part is PᵀFP
};

/// Rows [begin, end) of a list, for one tile, under moment `group`.
struct TileRows {
  size_t begin, end;
  int64_t group;
};
/// Cuts a list of `count` rows into tiles; `groupOf(i)`: the moment of its i-th
/// row. A tile holds neighbours under one moment, at most RowTile::lanes.
std::vector<TileRows> cutIntoTiles(size_t count, const std::function<int64_t(size_t)> &groupOf);

} // namespace skim

#endif // SKIM_LIB_QUANTIZE_ROWTILE_H
