//===- RowSource.h - what x is made of --------------------------*- C++ -*-===//
//
// Linears read x packed: rounded to the mode's type, in whole steps of columns.
// The kernel that packs may also make x, so that what stands before a linear (a
// norm, a product with a gate) needs no launch of its own and no f32 in memory.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TARGET_GPU_ROWSOURCE_H
#define SKIM_TARGET_GPU_ROWSOURCE_H

#include "skim/Target/GPU/DeviceBuilder.h"

#include <string>

namespace skim::device {

/// Rows of K columns of f32, or how they are made.
class RowSource {
public:
  using Value = mlir::Value;
  using Values = KernelBuilder::Values;

  virtual ~RowSource() = default;
  /// Part of kernels' names: all that is fixed in the code. "" of plain rows.
  virtual std::string name() const = 0;
  /// A kernel's arguments for it: `p` a pointer to global memory, `n` an i32.
  virtual std::string arguments() const = 0;

  /// A block of `threads` lanes, all of them here, that reads rows first … first + rows − 1 (i32).
  struct Block {
    mlir::gpu::GPUModuleOp module;
    std::string kernel;
    int64_t threads;
    int64_t k;
    llvm::SmallVector<Value> arguments;
    Value first, rows;
    int64_t mostRows;
    Value prepared; // what prepare() returned
  };
  /// True if elements want all of their row: then makeRow() reads it once, load() twice.
  virtual bool isOfWholeRows() const { return false; }
  /// What whole rows must give before their elements can be had, or null.
  virtual Value prepare(DeviceBuilder &b, const Block &block) const { return {}; }
  /// `count` (4 or 8) columns from `column` (i32, a multiple of it) on of row first + `index`, f32; 0 from column k on.
  virtual Values load(DeviceBuilder &b, const Block &block, Value index, Value column, int64_t count) const = 0;
  /// Row `first`, by the whole block: puts each lane's fours of columns, which begin at `columns` (i32, multiples of 4)
  /// and count where `there`. Every column is some lane's.
  using Put = llvm::function_ref<void(size_t number, const Values &four)>;
  virtual void makeRow(DeviceBuilder &b, const Block &block, llvm::ArrayRef<Value> columns, llvm::ArrayRef<Value> there,
                       Put put) const;
};

/// `count` (4 or 8) columns of a row at `row`; 0 from column k on. `aligned`: to 16 bytes.
KernelBuilder::Values loadColumns(DeviceBuilder &b, mlir::Value row, mlir::Value column, int64_t count, int64_t k,
                                  bool aligned, mlir::Type element, bool readOnly);

/// (x): [m, k] of f32, contiguous, aligned to 16.
class PlainRows : public RowSource {
public:
  std::string name() const override { return ""; }
  std::string arguments() const override { return "p"; }
  Values load(DeviceBuilder &b, const Block &block, Value index, Value column, int64_t count) const override;
};

} // namespace skim::device

#endif // SKIM_TARGET_GPU_ROWSOURCE_H
