//===- Simulate.h - parts of skim-simulate-gpu ------------------*- C++ -*-===//
#ifndef SKIM_LIB_TARGET_GPU_SIMULATE_SIMULATE_H
#define SKIM_LIB_TARGET_GPU_SIMULATE_SIMULATE_H

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Builders.h"
#include "skim-rt/sim.h"
#include "skim/Support/Json.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"

namespace skim::simulate {

inline constexpr unsigned kSharedSpace = 3;
/// The deepest nest of loops; the simulator's kMaxLoops.
inline constexpr unsigned kMaxLoops = 16;
/// A string attribute of an operation, by which its counters are found.
inline constexpr llvm::StringLiteral kLabelAttr = "skim.label";

/// Bytes of a scalar, pointer or vector in memory; 0 where it has no whole number of them.
int64_t byteSize(mlir::Type type);

/// Fails, with an error at each, on operations that the simulator does not know.
mlir::LogicalResult checkWhitelist(mlir::gpu::GPUModuleOp module);

/// What an inline assembly text means.
struct InlinePtx {
  enum Kind { Load, Lop3, Exp2, Tanh, MatrixAddress, WgmmaFence, Wgmma, WgmmaWait } kind;
  unsigned bits = 32;    ///< of a loaded element
  unsigned elements = 1; ///< of a load; N of wgmma
  int64_t immediate = 0; ///< Lop3: the table; Load: bytes added to the address; WgmmaWait: groups that may be at work
  bool bf16 = false;     ///< wgmma: else f16
  bool first = false;    ///< wgmma: has an operand that says whether D is added
  bool isWarpgroup() const { return kind == WgmmaFence || kind == Wgmma || kind == WgmmaWait; }
};
/// Nothing if the text is none that the simulator knows.
std::optional<InlinePtx> parseInlinePtx(llvm::StringRef text);

/// The text of an inline assembly; nothing for other operations and unknown texts.
std::optional<InlinePtx> inlinePtxOf(mlir::Operation *op);

/// Values of a kernel that are registers which wgmma has: from the fence that hands them over to the wait that gives
/// them back. Fails where anything else uses one, or wgmma has one that was not handed over.
mlir::FailureOr<llvm::DenseSet<mlir::Value>> wgmmaRegisters(mlir::gpu::GPUFuncOp kernel);

/// Global loads (and copies) on their way when the first use of a load waits.
struct Flight {
  unsigned loads = 0, bytes = 0;
};
/// For every load of global memory and cp.async of a kernel.
llvm::DenseMap<mlir::Operation *, Flight> loadsInFlight(mlir::Operation *kernel);

/// An access to memory: what is touched, where.
struct Access {
  mlir::Value pointer;
  int64_t bytes = 0, piece = 0; ///< piece: the largest part that is one request of the device
};
/// Of llvm loads, stores and atomics.
std::optional<Access> accessOf(mlir::Operation *op);
/// True if the operation reads global memory into registers or shared memory.
bool isGlobalLoad(mlir::Operation *op);

/// Emits calls of hooks.
class Hooks {
public:
  using Value = mlir::Value;
  using Type = mlir::Type;
  Hooks(mlir::OpBuilder &builder, mlir::Location loc, Value lane, Value words, int64_t capacity)
      : builder(builder), loc(loc), lane(lane), words(words), capacity(capacity) {}

  mlir::OpBuilder &builder;
  mlir::Location loc;
  Value lane;
  Value words;      ///< of collectives: `capacity` in, then as many out
  int64_t capacity; ///< at least kWords

  static constexpr int64_t kWords = 16;

  Type i32() { return builder.getI32Type(); }
  Type i64() { return builder.getI64Type(); }
  Type ptr() { return mlir::LLVM::LLVMPointerType::get(builder.getContext()); }
  Value i32(int64_t value);
  Value i64(int64_t value);
  /// A field of skim_sim_lane.
  Value field(int64_t offset, Type type);
  /// An address as a number.
  Value address(Value pointer);
  /// Any value of 32 bits as i32, and back.
  Value toWord(Value value);
  Value fromWord(Value word, Type type);

  Value access(int64_t op, Value address);
  void copy(int64_t op, Value shared, Value global, Value bytes);
  void group(int64_t op);
  void loop(int64_t op, int64_t phase);
  Value math(skim_sim_function function, Value a, Value b);
  /// Returns `results` words.
  llvm::SmallVector<Value> collective(int64_t op, llvm::ArrayRef<Value> in, unsigned results);

private:
  Value at(Value pointer, int64_t offset);
  mlir::LLVM::CallOp call(int64_t hook, Type result, llvm::ArrayRef<Value> arguments);
};

/// Rewrites a kernel into the function `symbol` of `into` and adds it to the
/// description. The kernel's operations are known to be fine.
mlir::LogicalResult rewriteKernel(mlir::gpu::GPUFuncOp kernel, mlir::ModuleOp into, const std::string &symbol,
                                  Json &description);

} // namespace skim::simulate

#endif // SKIM_LIB_TARGET_GPU_SIMULATE_SIMULATE_H
