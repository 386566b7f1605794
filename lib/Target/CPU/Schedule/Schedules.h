//===- Schedules.h - kernels of one leaf encoding ---------------*- C++ -*-===//
//
// A schedule is written once, over Decoder; every format has it.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_TARGET_CPU_SCHEDULE_SCHEDULES_H
#define SKIM_LIB_TARGET_CPU_SCHEDULE_SCHEDULES_H

#include "skim/Target/CPU/Decoder.h"
#include "skim/Target/CPU/Linear.h"
#include "skim/Transforms/CheckFusion.h"

namespace skim {

/// What distinguishes kernels: weights of the same signature share one.
struct KernelSignature {
  WeightEncoding leaf;
  int64_t k = 0;
  bool bf16 = false; // activation mode: bf16, else f32
  LinearEpilogue epilogue = LinearEpilogue::Store;
  bool scaled = false;         // a factor a column (f16) is multiplied into x
  mlir::Type permutation = {}; // type of the entries that name each row's column of y, or null
  bool biased = false;
  LayoutAttr layout = {}; // of the leaf's codes; null: rows

  /// A symbol: `small_w4g128_k576_bf16`.
  std::string name(llvm::StringRef schedule) const;
};

/// A kernel's arguments, in the order of its function.
struct KernelArguments {
  mlir::Value x;       // small: f32 [rows, k]; batch: packed (see emitPack)
  mlir::Value y;       // f32, at the panel's first column
  mlir::Value yStride; // i64
  mlir::Value rows;    // i64
  mlir::Value n;       // i64: rows of the weight
  mlir::Value priv;    // this thread's scratch
  mlir::Value thread, threads;
  mlir::Value alpha, permutation, bias; // ptr; null where the signature has none
  llvm::SmallVector<mlir::Value> components;

  llvm::SmallVector<mlir::Value> flatten() const;
};

/// Finds or creates the function of a kernel; `body` emits it.
std::string getOrCreateKernel(mlir::OpBuilder &builder, mlir::Location loc, mlir::ModuleOp module,
                              const KernelSignature &signature, llvm::StringRef schedule, size_t components,
                              llvm::function_ref<void(KernelBuilder &, const KernelArguments &)> body);

/// Few rows of x: every thread copies x (as bf16 in that mode, with zeros up to a
/// whole vector), then takes rows of the weight, K along the lanes. A decoded
/// vector serves up to four rows of x.
void emitSmallKernel(KernelBuilder &b, const TargetInfo &target, const KernelSignature &signature,
                     const KernelArguments &arguments);
int64_t smallScratch(const TargetInfo &target, const KernelSignature &signature);

/// Many rows of x (arguments.x: packed), register tiles; see Batch.cpp.
void emitBatchKernel(KernelBuilder &b, const TargetInfo &target, const KernelSignature &signature,
                     const KernelArguments &arguments);
/// Says on a batch kernel how large its buffer of decoded weights is (skim.decode_buffer).
void noteDecodeBuffer(mlir::func::FuncOp function, const TargetInfo &target, const KernelSignature &signature);
int64_t batchScratch(const TargetInfo &target, const KernelSignature &signature);
/// False if the weight has too few rows for its decode buffer to be small beside it.
bool canBatch(const TargetInfo &target, const KernelSignature &signature, int64_t n);

/// Packs x (arguments.x) for emitBatchKernel to arguments.y; all threads
/// together. Whole blocks of `decodeLanes` rows are written.
void emitPack(KernelBuilder &b, const TargetInfo &target, const KernelSignature &signature,
              const KernelArguments &arguments);
int64_t packedBytesPerRow(const TargetInfo &target, const KernelSignature &signature);

/// Writes a value to y: bias, permutation, residual. With `isFirst` (i1), y holds
/// a partial sum that value is added to unless it is true.
void storeResult(KernelBuilder &b, const KernelSignature &signature, const KernelArguments &arguments,
                 mlir::Value weightRow, mlir::Value xRow, mlir::Value value, mlir::Value isFirst = {});
/// The same for a vector of consecutive weight rows; no permutation.
void storeVector(KernelBuilder &b, const KernelSignature &signature, const KernelArguments &arguments,
                 mlir::Value weightRow, mlir::Value xRow, mlir::Value value, mlir::Value isFirst);

} // namespace skim

#endif // SKIM_LIB_TARGET_CPU_SCHEDULE_SCHEDULES_H
