//===- Linear.cpp - kernels of linear layers on GPUs ------------------------===//
//
// A call's pieces (LinearPieces.h) on the schedules that the rows of x want.
//
//===----------------------------------------------------------------------===//

#include "skim/Target/GPU/Linear.h"

#include "Schedule/Schedules.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

namespace {
class Planner {
public:
  Planner(OpBuilder &builder, Location loc, mlir::gpu::GPUModuleOp module, const LinearCall &call, int64_t m)
      : builder(builder), loc(loc), module(module), bf16(call.mode == "bf16"), m(m) {}

  LinearPlan take() { return std::move(plan); }

  /// Pieces of `call` on x, then its low-rank pairs. `stored`: what else has been put into y.
  Error emit(const LinearCall &call, LaunchArgument x) {
    LinearPieces parts = takeApart(call);
    int64_t packedAlpha = -2, packed = 0; // none yet
    for (const LinearPiece &piece : parts.pieces) {
      if (!makeDecoder(piece.leaf, {call.k, bf16}))
        return fail("no kernel", piece.leaf.getShortName(), "an encoding with a decoder for GPUs", "");
      if (piece.alpha != packedAlpha) {
        packed = pack(call.k, x, piece.alpha);
        packedAlpha = piece.alpha;
      }
      launchPiece(call, piece, packed);
    }
    for (const LowRankPair &pair : parts.pairs) {
      int64_t product = allocate(m * pair.rank * 4);
      LinearCall first = factorCall(pair, call, false), second = factorCall(pair, call, true);
      if (Error error = emitInto(first, x, {LaunchArgument::Scratch, 0, product}, pair.rank))
        return error;
      if (Error error = emit(second, {LaunchArgument::Scratch, 0, product}))
        return error;
    }
    return Error::success();
  }

private:
  OpBuilder &builder;
  Location loc;
  mlir::gpu::GPUModuleOp module;
  bool bf16;
  int64_t m;
  LinearPlan plan;
  LaunchArgument y = {LaunchArgument::Y};
  int64_t yStride = -1; // the caller's

  int64_t allocate(int64_t bytes) {
    int64_t at = plan.scratchBytes;
    plan.scratchBytes += static_cast<int64_t>(llvm::alignTo(bytes, 256));
    return at;
  }

  /// With another y than the caller's.
  Error emitInto(const LinearCall &call, LaunchArgument x, LaunchArgument to, int64_t stride) {
    std::swap(y, to);
    std::swap(yStride, stride);
    Error error = emit(call, x);
    std::swap(y, to);
    std::swap(yStride, stride);
    return error;
  }

  int64_t pack(int64_t k, LaunchArgument x, int64_t alpha) {
    LinearLaunch launch;
    launch.kernel = getOrCreatePack(builder, loc, module, k, bf16, alpha >= 0);
    int64_t packed = allocate(m * packedColumns(k) * 2);
    launch.grid = {(packedColumns(k) + 1023) / 1024, m, 1};
    launch.threads = 128;
    launch.arguments = {x, {LaunchArgument::Scratch, 0, packed}};
    if (alpha >= 0)
      launch.arguments.push_back({LaunchArgument::Weight, alpha});
    plan.launches.push_back(launch);
    return packed;
  }

  void launchPiece(const LinearCall &call, const LinearPiece &piece, int64_t packed) {
    KernelSignature signature;
    signature.leaf = piece.leaf;
    signature.k = call.k;
    signature.bf16 = bf16;
    signature.epilogue = call.epilogue;
    signature.permutation = piece.permutation >= 0 ? piece.permutationType : Type();
    signature.biased = piece.bias >= 0;
    signature.partial = piece.n % kTileRows != 0;
    int64_t tiles = (piece.n + kTileRows - 1) / kTileRows;

    LinearLaunch launch;
    auto kernel = [&](StringRef schedule, auto emit) {
      launch.kernel =
          getOrCreateKernel(builder, loc, module, signature, schedule, piece.components.size(),
                            [&](DeviceBuilder &b, const KernelArguments &own) { emit(b, module, signature, own); });
    };
    if (m <= 8) {
      signature.warps = fewWarps(*makeDecoder(piece.leaf, {call.k, bf16}), call.k);
      launch.grid = {tiles, 1, 1};
      kernel("few", emitFewKernel);
    } else {
      signature.xTiles = m <= 16 ? 2 : m <= 32 ? 4 : 8;
      launch.grid = {(tiles + signature.warps - 1) / signature.warps,
                     (m + 8 * signature.xTiles - 1) / (8 * signature.xTiles), 1};
      kernel("many", emitManyKernel);
    }
    launch.threads = 32 * signature.warps;
    auto at = [&](LaunchArgument argument) {
      argument.offset += piece.yColumn * 4;
      return argument;
    };
    launch.arguments = {{LaunchArgument::Scratch, 0, packed},
                        at(y),
                        {LaunchArgument::Rows},
                        {LaunchArgument::Constant, piece.n},
                        yStride < 0 ? LaunchArgument{LaunchArgument::Stride}
                                    : LaunchArgument{LaunchArgument::Constant, yStride}};
    if (signature.permutation)
      launch.arguments.push_back(
          {LaunchArgument::Weight, piece.permutation,
           piece.firstRow * static_cast<int64_t>(piece.permutationType.getIntOrFloatBitWidth() / 8)});
    if (signature.biased)
      launch.arguments.push_back({LaunchArgument::Weight, piece.bias});
    if (signature.epilogue == LinearEpilogue::Gate)
      launch.arguments.push_back(at({LaunchArgument::Gate}));
    for (int64_t component : piece.components)
      launch.arguments.push_back({LaunchArgument::Weight, component});
    plan.launches.push_back(launch);
  }
};
} // namespace

Expected<LinearPlan> device::emitLinear(OpBuilder &builder, Location loc, mlir::gpu::GPUModuleOp module,
                                        const GPUTarget &target, const LinearCall &call, int64_t m) {
  if (call.mode != "f16" && call.mode != "bf16")
    return fail("no kernel", "activation mode " + call.mode, "f16 or bf16", call.mode);
  OpBuilder::InsertionGuard guard(builder);
  Planner planner(builder, loc, module, call, m);
  if (Error error = planner.emit(call, {LaunchArgument::X}))
    return error;
  return planner.take();
}
