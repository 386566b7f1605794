//===- Kernels.h - what a step does besides its linears ---------*- C++ -*-===//
//
// Each function emits a call of a kernel, which it creates in the module under
// a name made of everything that is fixed at compile time, so that layers share
// it. Every thread executes the call and computes its part; calls end without
// a barrier. Results do not depend on the number of threads.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_TARGET_CPU_STEP_KERNELS_H
#define SKIM_LIB_TARGET_CPU_STEP_KERNELS_H

#include "Emitter.h"
#include "skim/Target/Common/ModelWalk.h"

#include "llvm/ADT/SmallVector.h"

#include <string>
#include <vector>

namespace skim::step {

/// Rows of f32: where they begin, and elements between them (i64).
struct Rows {
  Val pointer;
  Val stride;
};

/// What every kernel call of a step may need; values of skim_step.
struct StepValues {
  mlir::ModuleOp module;
  Val args, thread, threads;            // ptr, i32, i32
  Val batch, length, rows, numRows;     // i64
  Val tokens, start, count, wantedRows; // ptr to i32
  Val caches, capacity;                 // ptr to ptr, ptr to i64
  Val weights, logits, scratch, priv;   // ptr
};

/// y = rms_norm(x); weight [channels / heads] in f32.
struct RmsNorm {
  int64_t channels, heads;
  double epsilon, offset;
};
void emitRmsNorm(Emitter &e, const StepValues &s, const RmsNorm &spec, Rows x, Rows y, Val weight, Val rows);

/// True if emitElementwise knows the operation.
bool isElementwise(llvm::StringRef operation);
void emitElementwise(Emitter &e, const StepValues &s, const Expression &expression, int64_t channels,
                     llvm::ArrayRef<Rows> inputs, Rows y, Val rows);

/// y[i] = x[rows[i]].
void emitGatherRows(Emitter &e, const StepValues &s, int64_t channels, Rows x, Rows y);

/// cos and sin [rows, columns] of position · frequency (f32 [columns]).
void emitRotaryTable(Emitter &e, const StepValues &s, int64_t columns, double scale, Val frequencies, Rows cos,
                     Rows sin);

struct Rotary {
  int64_t heads, size, columns;
  bool interleaved;
};
void emitRotary(Emitter &e, const StepValues &s, const Rotary &spec, Rows x, Rows cos, Rows sin, Rows y);
/// Rotates straight into the cache; rows of padding are not written.
void emitRotaryAppend(Emitter &e, const StepValues &s, const Rotary &spec, Rows x, Rows cos, Rows sin,
                      const CacheTensor &cache);
void emitCacheAppend(Emitter &e, const StepValues &s, Rows x, const CacheTensor &cache);

struct Attention {
  int64_t heads;
  double scale;
  int64_t window; // 0: none
  double softcap; // 0: none
  CacheTensor keys, values;
};
/// Bytes of per-thread scratch.
int64_t attentionScratch(const TargetInfo &target, const Attention &spec);
/// y contiguous [rows, heads · values.size]. Rows of padding are not written.
void emitAttention(Emitter &e, const StepValues &s, const Attention &spec, Rows query, Rows y);

/// The function `skim_sample` of the ABI.
void emitSample(mlir::ModuleOp module, mlir::Location loc, const TargetInfo &target);
/// Bytes of scratch that it needs.
int64_t sampleScratch(int64_t vocabulary);

} // namespace skim::step

#endif // SKIM_LIB_TARGET_CPU_STEP_KERNELS_H
