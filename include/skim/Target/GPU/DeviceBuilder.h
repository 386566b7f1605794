//===- DeviceBuilder.h - writes GPU kernels as structured loops -*- C++ -*-===//
//
// KernelBuilder with what a lane of a GPU can do: its place, words of memory,
// bytes and pairs of 16-bit floats in 32-bit words, matrix operations. Only
// operations that the simulator knows (docs/gpu.md). Indices are i32.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TARGET_GPU_DEVICEBUILDER_H
#define SKIM_TARGET_GPU_DEVICEBUILDER_H

#include "skim/Target/Common/KernelBuilder.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"

namespace skim {

class DeviceBuilder : public KernelBuilder {
public:
  using KernelBuilder::KernelBuilder;

  mlir::Type globalPtr();
  mlir::Type sharedPtr();

  //===--- the lane's place, as i32 ---===//
  Value threadX();
  Value blockX();
  Value blockY();
  Value blockZ();
  /// Blocks of the grid in its first dimensions.
  Value gridX();
  Value gridY();
  void barrier();
  /// What this lane wrote is seen by the whole device before what it does next.
  void fence();

  //===--- memory ---===//
  /// `count` (1, 2 or 4) consecutive 32-bit words, aligned as a whole; `readOnly`: that no kernel writes at the time.
  Values words(Value pointer, int64_t count, bool readOnly = false, llvm::StringRef label = {});
  /// A request for the same from global memory that is read once and not kept in caches; its words are taken apart
  /// where they are used, so that many requests are on their way.
  Value request(Value pointer, int64_t count, llvm::StringRef label);
  Values wordsOf(Value request);
  /// As many words of zero, of `request`'s type.
  Value noRequest(int64_t count);
  /// A load of what no kernel writes at the time.
  Value readOnly(Type type, Value pointer, unsigned alignment = 0);
  void storeWords(llvm::ArrayRef<Value> words, Value pointer);
  /// A load of what other blocks of this launch may have written.
  Value loadVolatile(Type type, Value pointer);
  /// Adds to a word of global memory; what it was.
  Value atomicAdd(Value pointer, Value word);
  /// Shared memory of the block, aligned to 16; its contents are undefined. Branches may have the same by its name.
  Value sharedMemory(mlir::gpu::GPUModuleOp module, llvm::StringRef name, int64_t bytes);
  /// 16 bytes from global to shared memory, asynchronously.
  void copyAsync(Value shared, Value global);
  void commitCopies();
  /// Waits until at most `count` groups of this lane's copies are on their way.
  void waitCopies(int64_t count);

  /// a·b + c in one rounding.
  Value fma(Value a, Value b, Value c);
  /// 1 / x of f32 to about one unit in the last place; what is subnormal counts as zero.
  Value reciprocal(Value x);

  //===--- words ---===//
  /// Bytes of a (0–3) and b (4–7), chosen by the nibbles of `selector`, whose top bits are 0.
  Value bytePermute(Value a, Value b, Value selector);
  Value bytePermute(Value a, Value b, uint32_t selector) { return bytePermute(a, b, word(selector)); }
  Value word(uint32_t value) { return i32(static_cast<int32_t>(value)); }
  Value shrWord(Value a, int64_t count) { return count ? shr(a, i32(count)) : a; }
  Value andWord(Value a, uint32_t mask) { return bitAnd(a, word(mask)); }
  Value orWord(Value a, uint32_t bits) { return bitOr(a, word(bits)); }

  //===--- 16-bit floats, `half` is f16 or bf16; pairs are words ---===//
  Value toFloat(Value scalarHalf);
  Value pairOf(Value low, Value high, Type half);
  Value splatPair(Value scalarF32, Type half);
  Value subPairs(Value a, Value b, Type half);
  Value mulPairs(Value a, Value b, Type half);
  /// A pair of f16, infinite ones as the largest that is not.
  Value clampPair(Value a);
  /// a·b + c.
  Value fmaPairs(Value a, Value b, Value c, Type half);

  /// d = a·b + c of m16n8k16: four words of A, two of B, four f32.
  Values mma(Type half, llvm::ArrayRef<Value> a, llvm::ArrayRef<Value> b, llvm::ArrayRef<Value> c);
  /// x / (1 + e^−x).
  Value silu(Value x);

  /// Begins a kernel of `threads` lanes a block; the builder stands at its start. Null if there is one already.
  static mlir::gpu::GPUFuncOp beginKernel(mlir::OpBuilder &builder, mlir::gpu::GPUModuleOp module, mlir::Location loc,
                                          llvm::StringRef name, llvm::ArrayRef<mlir::Type> arguments, int64_t threads);
};

} // namespace skim

#endif // SKIM_TARGET_GPU_DEVICEBUILDER_H
