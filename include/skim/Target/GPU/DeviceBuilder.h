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
  /// Of the warp; the device's compiler does not know that it is threadX() mod 32.
  Value laneId();
  Value blockX();
  Value blockY();
  Value blockZ();
  /// Blocks of the grid in its first dimensions.
  Value gridX();
  Value gridY();
  void barrier();
  /// What this lane wrote is seen by the whole device before what it does next.
  void fence();
  /// Of the lanes of a warp, all of them here.
  void warpBarrier();
  /// The first lane's word, to all of them.
  Value broadcast(Value word);
  /// The value (of 32 bits) of the lane whose number differs by `distance`, a power of two.
  Value exchange(Value x, int64_t distance);

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
  Value loadVolatile(Type type, Value pointer, unsigned alignment = 0);
  /// Adds to a word of global memory; what it was.
  Value atomicAdd(Value pointer, Value word);
  /// A word of global memory, and with it all that its writer saw before storeRelease().
  Value loadAcquire(Value pointer);
  void storeRelease(Value word, Value pointer);
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
  /// d = a·b + c of m16n8k32 on signed bytes: four words of A, two of B, four i32.
  Values mmaBytes(llvm::ArrayRef<Value> a, llvm::ArrayRef<Value> b, llvm::ArrayRef<Value> c);
  /// d = popc(a & b) + c of m16n8k256, or with two words of A and one of B m16n8k128: four i32. Before sm_100 alone it
  /// is an instruction.
  Values mmaBits(llvm::ArrayRef<Value> a, llvm::ArrayRef<Value> b, llvm::ArrayRef<Value> c);

  //===--- wgmma, sm_90a alone: a warpgroup, four warps from a multiple of four on, multiplies asynchronously ---===//
  // Registers go from wgmmaFence through wgmma to wgmmaWait. In between nothing else may use them but the arguments and
  // results of loops and branches, and a sum is used once: what reads or writes a register that wgmma works on is
  // undefined, and ptxas then lets nothing overlap. docs/gpu.md, "wgmma".
  /// Hands registers to wgmma: sums (f32) and words of A (i32), in any order. Needed after they were written, or read
  /// behind wgmmaWait; sums that come from another wgmma may do without.
  Values wgmmaFence(llvm::ArrayRef<Value> registers);
  /// d = a·b + d of m64nNk16, `half` f16 or bf16. `sums`: N/2 a lane, N a multiple of 8 up to 256; each 8 columns are
  /// four, as mma's. `a`: four words, those of mma's A for the warp's 16 of the 64 rows. `descriptorB`: 16 × N, see
  /// wgmmaDescriptor. `first` (i1): true where d = a·b, whatever the sums were.
  Values wgmma(llvm::ArrayRef<Value> sums, llvm::ArrayRef<Value> a, Value descriptorB, Type half, Value first = {});
  /// Closes the group of the wgmma since the last one.
  void wgmmaCommit();
  /// Waits until at most `pending` groups are at work. The registers, all of groups that are done then, are the lanes'
  /// again: sums have their values, words of A may be written.
  Values wgmmaWait(int64_t pending, llvm::ArrayRef<Value> registers);
  /// Where B lies, without swizzle: core matrices of eight columns of B (rows of x) by 16 bytes (eight k), each 128
  /// consecutive bytes, are `leadingBytes` apart along k and `strideBytes` along N. All are multiples of 16 below 2^18.
  Value wgmmaDescriptor(Value shared, int64_t leadingBytes, int64_t strideBytes);
  /// The same `bytes` (i32, a multiple of 16) further.
  Value wgmmaDescriptorAt(Value descriptor, Value bytes);
  /// What this lane wrote to shared memory (by a store, or a cp.async that it has waited for) may be read by wgmma, of
  /// other lanes behind a barrier.
  void fenceProxyAsync();

  /// x / (1 + e^−x).
  Value silu(Value x);

  /// do { condition, carried = body(carried) } while (condition), one word carried.
  void repeatWhile(Value initial, llvm::function_ref<std::pair<Value, Value>(Value carried)> body);

  /// Begins a kernel of `threads` lanes a block; the builder stands at its start. Null if there is one already.
  static mlir::gpu::GPUFuncOp beginKernel(mlir::OpBuilder &builder, mlir::gpu::GPUModuleOp module, mlir::Location loc,
                                          llvm::StringRef name, llvm::ArrayRef<mlir::Type> arguments, int64_t threads);
};

} // namespace skim

#endif // SKIM_TARGET_GPU_DEVICEBUILDER_H
