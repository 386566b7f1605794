//===- LinearFamily.h - calls whose launches share kernels ------*- C++ -*-===//
//
// Where every layer's rows have widths of their own, hardly two launches would
// have the same pieces, and each would be a kernel. Calls of one shape get the
// pieces of all of them instead, those that one has not without rows. What is
// decided by sizes is decided by those of all, so that kernels agree in it too.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TARGET_GPU_LINEARFAMILY_H
#define SKIM_TARGET_GPU_LINEARFAMILY_H

#include "skim/Target/Common/LinearPieces.h"
#include "skim/Target/GPU/GPUTarget.h"

#include <array>
#include <string>

namespace skim::device {

/// What distinguishes the code of a call's piece from that of its others.
struct PieceKind {
  WeightEncoding leaf;
  mlir::Type permutation; ///< of its entries, or null
  bool partial = false;   ///< rows need not fill the last tile; of parts of `rows` they never need to
  bool scaled = false, biased = false;

  explicit PieceKind(const LinearPiece &piece);
  bool operator==(const PieceKind &) const = default;
};

/// The pieces of all calls of a family, equal kinds one behind the other.
struct LinearFamily {
  struct Slot {
    PieceKind kind;
    int64_t typical = 0; ///< rows: the mean of all calls
    int64_t most = 0;    ///< rows of the call that has most
  };
  llvm::SmallVector<Slot> slots;
};

/// The families of a model's calls.
class LinearFamilies {
public:
  LinearFamilies() = default;
  /// Of calls whose components' numbers and epilogues need not be known. Shapes with few kinds of kernels keep them.
  LinearFamilies(llvm::ArrayRef<LinearCall> calls, const GPUTarget &target);
  /// That of one of these calls; null for calls with low-rank pairs, which are on their own.
  const LinearFamily *find(const LinearCall &call) const;

private:
  /// What calls of one family agree in.
  struct Shape {
    int64_t k;
    std::string mode;
    llvm::SmallVector<int64_t> rows; // of each panel
    bool wide;                       // `wide` has kernels for all pieces
    bool operator==(const Shape &) const = default;
  };
  using Kinds = llvm::SmallVector<PieceKind>; // of a call, as slots have them
  struct Member {
    Shape shape;
    Kinds kinds;
    size_t family;
  };
  bool hasWgmma = false;
  std::vector<Member> members; // each once
  std::vector<LinearFamily> families;

  Shape shapeOf(const LinearCall &call, const LinearPieces &parts) const;
  const Member *memberOf(const Shape &shape, const Kinds &kinds) const;
};

/// A call's pieces by kind, as LinearFamily has them; of one kind in the call's order.
llvm::SmallVector<const LinearPiece *> byKind(const LinearPieces &parts);

} // namespace skim::device

#endif // SKIM_TARGET_GPU_LINEARFAMILY_H
