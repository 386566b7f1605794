//===- Allocation.h - which weight gets how many bits -----------*- C++ -*-===//
//
// Two allocators. allocateRows is SKIM's Algorithm 1: one matrix, a mean number
// of bits, nothing else counted. Allocator spends stored bytes over a whole
// model, where every layer chooses a family (a term of the algebra) and, within
// it, a width for each row.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_QUANTIZE_ALLOCATION_H
#define SKIM_QUANTIZE_ALLOCATION_H

#include "skim/Quantize/Matrix.h"

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace skim {

//===----------------------------------------------------------------------===//
// As published: one matrix, a mean number of bits
//===----------------------------------------------------------------------===//

struct RowAllocationOptions {
  unsigned minBits = 2;
  unsigned maxBits = 4;
  /// Integer targets mix widths too. Off (what SKIM does for OPT): every row
  /// gets an integer target as it stands.
  bool mixAtIntegers = true;
  /// Non-integer targets start from ⌊target⌋ bits a row (SKIM on OPT) instead of minBits.
  bool startAtFloor = false;
};

/// SKIM, Algorithm 1: minimises Σ errors of the rows with a mean of at most
/// `targetBits`. All rows start at minBits; the row below maxBits whose error
/// falls most gets one bit more (ties: the lower row) until the ⌊rows · target⌋
/// bits are used. (The paper prints the argmax with its sign turned.) Errors
/// need not fall with the bits: while bits are left they are spent.
///
/// `errors` [rows, maxBits − minBits + 1]. Returns the bits of each row. Fails
/// at errors that are not finite (row and bits) and at a target that is not
/// within [minBits, maxBits].
Expected<std::vector<uint8_t>> allocateRows(std::span<const double> errors, int64_t rows, double targetBits,
                                            const RowAllocationOptions &options);

//===----------------------------------------------------------------------===//
// The whole model, stored bytes
//===----------------------------------------------------------------------===//

/// One way of storing a layer. Its bytes are
///   fixedBytes + Σ rowBytes[width of row] + (more than one width in use ? mixedBytes : 0).
/// What is chosen for the whole layer at once is a family of one "row".
struct AllocationFamily {
  std::string name; ///< for messages
  /// What this family costs whatever the rows choose: α, a shared table, factors.
  uint64_t fixedBytes = 0;
  /// What mixing costs: the permutation.
  uint64_t mixedBytes = 0;
  /// Bytes of one row at each of its widths, in any order; codes padded to
  /// whole bytes, the row's table or scales. See storedRowBytes.
  std::vector<uint64_t> rowBytes;
  /// [rows, widths]: what is lost with that width, comparable over the whole
  /// model. Need not fall with the bytes. Owned by the caller, who keeps it for
  /// as long as the Allocator.
  std::span<const double> errors;

  size_t widths() const { return rowBytes.size(); }
  size_t rows() const { return rowBytes.empty() ? 0 : errors.size() / rowBytes.size(); }
};

struct AllocationLayer {
  std::string name;
  std::vector<AllocationFamily> families; ///< at least one
};

/// Layers that must not choose alone. A layer is in one group at most.
struct AllocationGroup {
  enum class Shares {
    Family, ///< the same family (by position), widths of the rows as each likes: q/k/v in one kernel
    Rows,   ///< that, and row i of every layer has the same width: gate and up, of equally many rows
  };
  std::vector<size_t> layers;
  Shares shares = Shares::Family;
};

/// What a layer was given.
struct LayerAllocation {
  size_t family = 0;
  std::vector<uint8_t> widths; ///< for each row an index into the family's rowBytes
  uint64_t bytes = 0;
  double error = 0;
  /// Whether more than one width is in use, so that the permutation is stored.
  bool mixed = false;

  /// Bytes, error and `mixed` of the widths in this family.
  void count(const AllocationFamily &given);
};

struct Allocation {
  std::vector<LayerAllocation> layers; ///< in the order of the problem
  uint64_t bytes = 0;
  double error = 0;
  /// What no allocation of that many bytes can be below (the convex hull's
  /// error there): how far from the optimum this can be at most.
  double errorBound = 0;
  /// Error that the next byte would save.
  double slope = 0;

  /// Bytes and error of the layers.
  void count();
};

struct ParetoPoint {
  uint64_t bytes = 0;
  double error = 0;
};

/// Prepared once (sorting all the steps of all rows), then asked for any number
/// of budgets.
///
/// Each row, family, layer and group is reduced to the lower convex hull of its
/// (bytes, error); the model's hull is walked by falling error a byte, which is
/// optimal at each of its vertices. What then is left of the budget is filled:
/// steps behind one that does not fit, or that one in exchange for the last
/// ones taken, then changes and exchanges of single layers, off the hull too,
/// as long as one lowers the error. Ties go to the earlier layer and row. The
/// result does not depend on threads.
class Allocator {
public:
  /// Fails, naming layer, family, row and width, at an error that is not
  /// finite; at a layer without families, a family without widths or with more
  /// than 256, errors that are no multiple of the widths; at groups that name a
  /// layer twice or whose layers differ in families, widths or rows.
  static Expected<Allocator> create(std::span<const AllocationLayer> layers,
                                    std::span<const AllocationGroup> groups = {});

  /// The best that stores at most `budget` bytes. Fails below minimumBytes().
  Expected<Allocation> allocate(uint64_t budget) const;

  /// The fewest bytes that any choice stores.
  uint64_t minimumBytes() const;
  /// Bytes of the least error: more cannot be made use of.
  uint64_t maximumBytes() const;

  /// Vertices of the model's hull nearest below `points` budgets, which are evenly
  /// spaced from minimum to maximum: every one is an allocation (allocate of
  /// its bytes returns it) and the best of its bytes. Ascending, no duplicates.
  std::vector<ParetoPoint> pareto(size_t points) const;

private:
  struct Model;
  Allocator(std::shared_ptr<const Model> model);
  std::shared_ptr<const Model> model;
};

/// Rows of each width of a layer in whole tiles, for kernels that take `tile` rows at once: all but those of the width
/// of fewest bytes in use, which has what is left. Widths are settled from the widest down: rows that fill its last
/// tile come, or those in it go, whichever costs less where a byte is worth `slope`. Bytes may become more or fewer.
/// Layers choose alone.
void moveToTiles(std::span<const AllocationLayer> layers, size_t tile, Allocation &allocation);

/// Allocator for one budget: over the rows of a whole model (one family a
/// layer), over terms (families of one row), or both.
Expected<Allocation> allocateGlobal(std::span<const AllocationLayer> layers, std::span<const AllocationGroup> groups,
                                    uint64_t budget);

/// Bytes of one row of `columns` in a format; tables of `scope = tensor`, which
/// belong to the layer, are not among them.
uint64_t storedRowBytes(const CodebookFormat &format, int64_t columns);
uint64_t storedRowBytes(const UniformFormat &format, int64_t columns);

/// Bytes of the permutation of a matrix of mixed rows: u16 a row, u32 above 65,536 rows.
uint64_t permutationBytes(int64_t rows);

} // namespace skim

#endif // SKIM_QUANTIZE_ALLOCATION_H
