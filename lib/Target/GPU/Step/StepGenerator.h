//===- StepGenerator.h - a model function as launches -----------*- C++ -*-===//
#ifndef SKIM_LIB_TARGET_GPU_STEP_STEPGENERATOR_H
#define SKIM_LIB_TARGET_GPU_STEP_STEPGENERATOR_H

#include "Kernels.h"
#include "skim/Support/Json.h"
#include "skim/Target/GPU/Linear.h"
#include "skim/Target/GPU/LinearFamily.h"
#include "skim/Target/GPU/Step.h"

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
  TensorNumbers numbers;
};

/// What a kernel is given.
struct StepArgument {
  enum Kind { Buffer, Weight, Input, Number, Counters } kind;
  int64_t value = 0;  // Buffer: its number; Weight: its number; Number: the number
  int64_t offset = 0; // bytes
  const char *input = "";
};

/// Rows of a sequence with which a launch is made; most = 0: any.
struct Lengths {
  int64_t least = 1, most = 0;
};

struct StepLaunch {
  std::string kernel;          // empty: `product`
  std::array<int64_t, 3> grid; // x = 0: the rows; x = −n: of each sequence, n at a time; y = −n: all rows, n at a time
  int64_t threads;
  bool gathered; // rows are the wanted ones; left out where there are none
  llvm::SmallVector<StepArgument> arguments;
  Lengths lengths = {};
  std::optional<LibraryProduct> product = {};
};

/// Rows that nobody needs in memory: the launch that packs them for linears makes them.
struct DeferredRows {
  std::shared_ptr<RowSource> source;
  llvm::SmallVector<StepArgument> arguments;
  bool gathered;
  mlir::Operation *op; // whose result they are
};

/// Plans the launches of steps of up to `m` rows.
class StepGenerator : public ModelWalk {
public:
  StepGenerator(mlir::func::FuncOp forward, const GPUTarget &target, const KernelPlace &place, WeightTable &weights,
                int64_t m)
      : ModelWalk(forward), target(target), place(place), weights(weights), m(m) {}
  /// Plans all operations; what the signature says goes to `program`.
  Error run(StepProgram &program);
  /// The launches; `scratch` grows to the bytes that they need.
  Json json(int64_t &scratch);

private:
  void begin() override {
    logitsBuffer = addBuffer(0);
    findFamilies();
  }
  void findFamilies();
  /// What a call is but for its weights' numbers and what becomes of its result.
  Expected<LinearCall> shapeOf(llvm::ArrayRef<LinearOp> linears);
  Error lowerLinear(LinearOp op) override;
  Error launchLinear(mlir::Operation *op, const LinearCall &call, const RowSource *source,
                     llvm::ArrayRef<StepArgument> x, const View &y, bool gathered);
  Error lowerEmbed(EmbedOp op) override;
  Error lowerNorm(lm::RMSNormOp op) override;
  Error lowerRotaryTable(lm::RotaryTableOp op) override;
  Error lowerRotary(lm::RotaryOp op) override;
  Error lowerAppend(lm::CacheAppendOp op, unsigned cache, const View &x, lm::RotaryOp rotary) override;
  Error lowerAttention(lm::AttentionOp op, const View &query, unsigned keys, unsigned values) override;
  Error lowerGatherRows(lm::GatherRowsOp op, const View &x) override;
  Error lowerElementwise(mlir::Operation *op, const Expression &expression, llvm::ArrayRef<View> inputs) override;
  bool isElementwise(llvm::StringRef operation) const override { return device::isElementwise(operation); }
  View addRows(int64_t channels, bool gathered) override;
  void addCopy(const View &from, const View &to) override;
  /// Appends that nothing reads in this step.
  void finish() override { flushRotations(); }
  bool isDone(mlir::Operation *op) const override {
    return ModelWalk::isDone(op) && !deferred.contains(op->getResult(0));
  }

  /// True if the value's users are the linears of one call, which read it.
  bool isInputOnly(mlir::Value value);
  /// Leaves the result of `op`, made of rows like `like`, to the linears that read it.
  void defer(mlir::Operation *op, const View &like, std::shared_ptr<RowSource> source,
             llvm::ArrayRef<StepArgument> arguments);
  /// Whether rows can be read 16 bytes at a time.
  static bool isAligned(const View &view) { return view.column % 4 == 0 && view.stride % 4 == 0; }
  int addBuffer(int64_t bytes);
  static StepArgument pointer(const View &view) { return {StepArgument::Buffer, view.buffer, view.column * 4}; }
  static StepArgument stride(const View &view) { return number(view.stride); }
  static StepArgument number(int64_t value) { return {StepArgument::Number, value}; }
  static StepArgument weight(int64_t index) { return {StepArgument::Weight, index}; }
  static StepArgument input(const char *name) { return {StepArgument::Input, 0, 0, name}; }
  void launch(const StepKernel &kernel, bool gathered, llvm::ArrayRef<StepArgument> arguments, Lengths lengths = {});
  void addLaunch(StepLaunch launch);
  /// Rotations and appends that follow each other are one launch, made before the next other one.
  void flushRotations();

  const GPUTarget &target;
  KernelPlace place;
  WeightTable &weights;
  int64_t m;
  /// Bytes, and the launches of first and last use.
  struct Buffer {
    int64_t bytes, first = -1, last = -1, offset = 0;
  };
  std::vector<Buffer> buffers;
  std::vector<StepLaunch> launches;
  LinearFamilies families;
  std::vector<RotaryPart> rotations; // not launched yet
  llvm::SmallVector<StepArgument> rotationArguments;
  llvm::SmallVector<int> rotated; // buffers that they write
  llvm::DenseMap<mlir::Value, DeferredRows> deferred;
};

} // namespace skim::device

#endif // SKIM_LIB_TARGET_GPU_STEP_STEPGENERATOR_H
