//===- StepGenerator.h - a model function as launches -----------*- C++ -*-===//
#ifndef SKIM_LIB_TARGET_GPU_STEP_STEPGENERATOR_H
#define SKIM_LIB_TARGET_GPU_STEP_STEPGENERATOR_H

#include "Kernels.h"
#include "skim/LM/LMOps.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Support/Json.h"
#include "skim/Target/Common/ModelValues.h"
#include "skim/Target/GPU/Linear.h"
#include "skim/Target/GPU/Step.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/StringSet.h"

namespace skim::device {

/// The weights of a program, common to its variants.
class WeightTable {
public:
  /// The components' numbers.
  Expected<llvm::SmallVector<int64_t>> weight(mlir::Operation *user, mlir::Value value, llvm::StringRef layer,
                                              WeightEncoding &term);
  /// A vector of parameters, read as f32.
  Expected<int64_t> vector(mlir::Operation *user, mlir::Value value, llvm::StringRef layer);
  std::vector<StepWeight> take() { return std::move(weights); }

private:
  int64_t add(StepWeight weight);
  std::vector<StepWeight> weights;
  llvm::DenseMap<std::pair<mlir::Attribute, mlir::Type>, int64_t> indices;
  llvm::StringSet<> names;
};

/// Columns of rows in scratch memory.
struct View {
  int buffer = -1;
  int64_t column = 0, stride = 0, channels = 0;
  /// One row for each wanted row rather than each token.
  bool gathered = false;
  bool contiguous() const { return stride == channels; }
};

/// What a kernel is given.
struct StepArgument {
  enum Kind { Buffer, Weight, Input, Number, Counters } kind;
  int64_t value = 0;  // Buffer: its number; Weight: its number; Number: the number
  int64_t offset = 0; // bytes
  const char *input = "";
};

struct StepLaunch {
  std::string kernel;
  std::array<int64_t, 3> grid; // x = 0: the rows
  int64_t threads;
  bool gathered; // rows are the wanted ones; left out where there are none
  llvm::SmallVector<StepArgument> arguments;
};

/// Rows that nobody needs in memory: the launch that packs them for linears makes them.
struct DeferredRows {
  std::shared_ptr<RowSource> source;
  llvm::SmallVector<StepArgument> arguments;
  bool gathered;
  mlir::Operation *op; // whose result they are
};

/// Plans the launches of steps of up to `m` rows.
class StepGenerator {
public:
  StepGenerator(mlir::func::FuncOp forward, const GPUTarget &target, const KernelPlace &place, WeightTable &weights,
                int64_t m)
      : forward(forward), target(target), place(place), weights(weights), m(m) {}
  /// Reads the signature into `program`; then lowers all operations.
  Error run(StepProgram &program);
  /// The launches; `scratch` grows to the bytes that they need.
  Json json(int64_t &scratch);

private:
  Error readSignature(StepProgram &program);
  Error expectArgument(mlir::Operation *op, mlir::Value value, unsigned argument, const char *name);

  Error lower(mlir::Operation *op);
  Error lowerLinear(LinearOp op);
  Error launchLinear(mlir::Operation *op, const LinearCall &call, const RowSource *source,
                     llvm::ArrayRef<StepArgument> x, const View &y, bool gathered);
  Error lowerEmbed(EmbedOp op);
  Error lowerNorm(lm::RMSNormOp op);
  Error lowerRotaryTable(lm::RotaryTableOp op);
  Error lowerRotary(lm::RotaryOp op);
  Error lowerCacheAppend(lm::CacheAppendOp op);
  Error lowerAttention(lm::AttentionOp op);
  Error lowerGatherRows(lm::GatherRowsOp op);
  Error lowerElementwise(mlir::Operation *op);
  Error lowerAlias(mlir::Operation *op, mlir::Value source, int64_t column);
  Error lowerReturn(mlir::func::ReturnOp op);

  bool isInlined(mlir::Operation *op);
  Error buildExpression(mlir::Value value, bool root, Expression &expression, llvm::SmallVectorImpl<View> &inputs,
                        llvm::SmallVectorImpl<mlir::Value> &leaves);
  /// The linears that one call computes together with this one: those of its group.
  llvm::SmallVector<LinearOp> callOf(LinearOp op);
  /// True if the value's users are the linears of one call, which read it.
  bool isInputOnly(mlir::Value value);
  /// Leaves the result of `op`, made of rows like `like`, to the linears that read it.
  void defer(mlir::Operation *op, const View &like, std::shared_ptr<RowSource> source,
             llvm::ArrayRef<StepArgument> arguments);
  /// Whether rows can be read 16 bytes at a time.
  static bool isAligned(const View &view) { return view.column % 4 == 0 && view.stride % 4 == 0; }
  /// The sum that the linear's only use is, if it can be made in the residual's place.
  mlir::Operation *sumInPlace(LinearOp op);

  Expected<View> viewOf(mlir::Operation *op, mlir::Value value);
  int addBuffer(int64_t bytes);
  View addRows(int64_t channels, bool gathered);
  View newResult(mlir::Value value, bool gathered);
  View contiguous(View view);
  void addCopy(View from, View to);
  void bind(mlir::Value value, View view);

  static StepArgument pointer(const View &view) { return {StepArgument::Buffer, view.buffer, view.column * 4}; }
  static StepArgument stride(const View &view) { return number(view.stride); }
  static StepArgument number(int64_t value) { return {StepArgument::Number, value}; }
  static StepArgument weight(int64_t index) { return {StepArgument::Weight, index}; }
  static StepArgument input(const char *name) { return {StepArgument::Input, 0, 0, name}; }
  void launch(const StepKernel &kernel, bool gathered, llvm::ArrayRef<StepArgument> arguments);
  void addLaunch(StepLaunch launch);
  /// Rotations and appends that follow each other are one launch, made before the next other one.
  void flushRotations();

  mlir::func::FuncOp forward;
  const GPUTarget &target;
  KernelPlace place;
  WeightTable &weights;
  int64_t m;
  /// Bytes, the launches of first and last use, and how many values live in it.
  struct Buffer {
    int64_t bytes, first = -1, last = -1, offset = 0, values = 0;
  };
  std::vector<Buffer> buffers;
  std::vector<StepLaunch> launches;
  std::vector<RotaryPart> rotations; // not launched yet
  llvm::SmallVector<StepArgument> rotationArguments;
  llvm::SmallVector<int> rotated; // buffers that they write
  llvm::DenseMap<mlir::Value, View> views;
  llvm::DenseMap<mlir::Value, DeferredRows> deferred;
  struct Cache {
    int64_t prefix, heads, size;
  };
  std::vector<Cache> cacheTensors;
  llvm::DenseMap<mlir::Value, unsigned> caches;
  llvm::DenseSet<mlir::Operation *> done;
  mlir::Value logits;
  static constexpr int kLogits = 0; // the buffer that is the caller's
};

inline int64_t channelsOf(mlir::Value value) {
  return mlir::cast<mlir::RankedTensorType>(value.getType()).getShape().back();
}

} // namespace skim::device

#endif // SKIM_LIB_TARGET_GPU_STEP_STEPGENERATOR_H
