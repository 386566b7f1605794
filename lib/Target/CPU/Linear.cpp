//===- Linear.cpp - kernels of linear layers on CPUs ------------------------===//
//
// A call's pieces (LinearPieces.h) on the schedules that the rows of x want.
//
//===----------------------------------------------------------------------===//

#include "skim/Target/CPU/Linear.h"

#include "Schedule/Schedules.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace skim;

/// From this many rows of x on, weights are decoded to scratch and reused.
static constexpr int64_t kBatchRows = 12;

static KernelSignature signatureOf(const TargetInfo &target, const LinearPiece &piece, int64_t k, StringRef mode,
                                   LinearEpilogue epilogue) {
  KernelSignature signature;
  signature.leaf = piece.leaf;
  signature.k = k;
  signature.bf16 = mode == "bf16";
  signature.epilogue = epilogue;
  signature.scaled = piece.alpha >= 0;
  signature.permutation = piece.permutation >= 0 ? piece.permutationType : Type();
  signature.biased = piece.bias >= 0;
  // Kernels of weights that a layout leaves in rows are shared with those without one.
  DecodeContext context{target, k, decodeLanes(target), true, piece.layout};
  if (std::unique_ptr<Decoder> decoder = makeDecoder(piece.leaf, context); decoder && decoder->block())
    signature.layout = piece.layout;
  return signature;
}

/// Batches are bound by arithmetic, and not every target's bf16 is faster than its f32.
static KernelSignature batchSignatureOf(const TargetInfo &target, const LinearPiece &piece, int64_t k, StringRef mode,
                                        LinearEpilogue epilogue) {
  KernelSignature signature = signatureOf(target, piece, k, mode, epilogue);
  signature.bf16 = signature.bf16 && target.fastBF16;
  return signature;
}

LinearScratch skim::linearScratch(const TargetInfo &target, const LinearCall &call) {
  LinearScratch scratch;
  auto include = [&](const LinearScratch &other) {
    scratch.sharedPerRow = std::max(scratch.sharedPerRow, other.sharedPerRow);
    scratch.sharedFixed = std::max(scratch.sharedFixed, other.sharedFixed);
    scratch.perThread = std::max(scratch.perThread, other.perThread);
  };
  LinearPieces panels = takeApart(call);
  for (const LinearPiece &piece : panels.pieces) {
    KernelSignature signature = signatureOf(target, piece, call.k, call.mode, call.epilogue);
    include({0, 0, smallScratch(target, signature)});
    signature = batchSignatureOf(target, piece, call.k, call.mode, call.epilogue);
    if (!canBatch(target, signature, piece.n))
      continue;
    int64_t packed = packedBytesPerRow(target, signature);
    include({packed, packed * decodeLanes(target), batchScratch(target, signature)});
  }
  // The products A·x of low-rank pairs lie behind what the kernels share.
  int64_t between = 0;
  for (const LowRankPair &pair : panels.pairs) {
    include(linearScratch(target, factorCall(pair, call, false)));
    include(linearScratch(target, factorCall(pair, call, true)));
    between += pair.rank * 4;
  }
  scratch.sharedPerRow += between;
  return scratch;
}

static KernelArguments argumentsOf(KernelBuilder &b, const LinearPiece &piece, const KernelValues &values) {
  KernelArguments arguments;
  arguments.x = values.x;
  arguments.y = b.offset(values.y, piece.yColumn * 4);
  arguments.yStride = values.yStride;
  arguments.rows = values.rows;
  arguments.n = b.i64(piece.n);
  arguments.priv = values.priv;
  arguments.thread = values.thread;
  arguments.threads = values.threads;
  if (piece.alpha >= 0)
    arguments.alpha = b.weight(values.args, piece.alpha);
  if (piece.permutation >= 0)
    arguments.permutation =
        b.offset(b.weight(values.args, piece.permutation),
                 piece.firstRow * static_cast<int64_t>(piece.permutationType.getIntOrFloatBitWidth() / 8));
  if (piece.bias >= 0)
    arguments.bias = b.weight(values.args, piece.bias);
  for (int64_t index : piece.components)
    arguments.components.push_back(b.weight(values.args, index));
  return arguments;
}

using EmitKernel = void (*)(KernelBuilder &, const TargetInfo &, const KernelSignature &, const KernelArguments &);

/// `rows`: of the weight, for kernels that decode to a buffer.
static void callKernel(KernelBuilder &b, ModuleOp module, const TargetInfo &target, const KernelSignature &signature,
                       StringRef schedule, EmitKernel emit, const KernelArguments &arguments, int64_t rows = -1) {
  std::string name =
      getOrCreateKernel(b.builder, b.loc, module, signature, schedule, arguments.components.size(),
                        [&](KernelBuilder &inner, const KernelArguments &own) { emit(inner, target, signature, own); });
  auto op = func::CallOp::create(b.builder, b.loc, name, TypeRange(), arguments.flatten());
  if (rows < 0)
    return;
  noteDecodeBuffer(module.lookupSymbol<func::FuncOp>(name), target, signature);
  op->setAttr(kRowsAttr, b.builder.getI64IntegerAttr(rows));
}

/// Packs x, for the pieces that share the packing.
static void callPack(KernelBuilder &b, ModuleOp module, const TargetInfo &target, KernelSignature signature,
                     KernelArguments arguments, Value packed) {
  // Nothing of the weight matters but its factor on x.
  signature.leaf = DenseAttr::get(module.getContext(), b.f32());
  signature.epilogue = LinearEpilogue::Store;
  signature.permutation = {};
  signature.biased = false;
  signature.layout = {};
  arguments.y = packed;
  arguments.permutation = arguments.bias = {};
  arguments.components.clear();
  callKernel(b, module, target, signature, "pack", emitPack, arguments);
}

/// All pieces of a call, on the schedule that the number of rows wants.
static void callPieces(KernelBuilder &b, ModuleOp module, const TargetInfo &target, ArrayRef<LinearPiece> pieces,
                       const LinearCall &call, const KernelValues &values) {
  auto small = [&](const LinearPiece &piece) {
    callKernel(b, module, target, signatureOf(target, piece, call.k, call.mode, call.epilogue), "small",
               emitSmallKernel, argumentsOf(b, piece, values));
  };
  b.ifElse(
      b.less(values.rows, b.i64(kBatchRows)),
      [&] {
        for (const LinearPiece &piece : pieces)
          small(piece);
      },
      [&] {
        int64_t packedAlpha = -2; // none yet
        for (const LinearPiece &piece : pieces) {
          KernelSignature signature = batchSignatureOf(target, piece, call.k, call.mode, call.epilogue);
          if (!canBatch(target, signature, piece.n)) {
            small(piece);
            continue;
          }
          KernelArguments arguments = argumentsOf(b, piece, values);
          if (piece.alpha != packedAlpha) {
            // Nobody may still read what is packed there, and nobody may read before it is.
            b.barrier(values.args, values.thread);
            callPack(b, module, target, signature, arguments, values.shared);
            b.barrier(values.args, values.thread);
            packedAlpha = piece.alpha;
          }
          arguments.x = values.shared;
          arguments.alpha = {};
          signature.scaled = false;
          callKernel(b, module, target, signature, "batch", emitBatchKernel, arguments, piece.n);
        }
      });
}

Error skim::emitLinear(OpBuilder &builder, Location loc, ModuleOp module, const TargetInfo &target,
                       const LinearCall &call, const KernelValues &values) {
  if (call.mode != "f32" && call.mode != "bf16")
    return fail("no kernel", "activation mode " + call.mode, "f32 or bf16", call.mode, "a8 runs on GPUs");
  if (call.epilogue == LinearEpilogue::Gate)
    return fail("no kernel", "epilogue gate", "store or add", "gate", "CPU steps compute it by itself");
  KernelBuilder b(builder, loc);
  LinearPieces panels = takeApart(call);
  DecodeContext context{target, call.k, decodeLanes(target)};
  for (const LinearPiece &piece : panels.pieces)
    if (!makeDecoder(piece.leaf, context))
      return fail("no kernel", piece.leaf.getShortName(), "an encoding with a decoder", "");

  if (panels.pairs.empty()) {
    callPieces(b, module, target, panels.pieces, call, values);
    return Error::success();
  }

  // Products A·x go to shared scratch, one after the other.
  int64_t between = 0;
  for (const LowRankPair &pair : panels.pairs)
    between += pair.rank;
  LinearScratch scratch = linearScratch(target, call);
  Value product = b.offset(values.shared, scratch.sharedFixed);
  product = b.offset(product, b.mul(values.rows, scratch.sharedPerRow - between * 4));
  SmallVector<Value> products;
  for (const LowRankPair &pair : panels.pairs) {
    products.push_back(product);
    KernelValues inner = values;
    inner.y = product;
    inner.yStride = b.i64(pair.rank);
    if (Error error = emitLinear(builder, loc, module, target, factorCall(pair, call, false), inner))
      return error;
    product = b.offset(product, b.mul(values.rows, pair.rank * 4));
  }
  callPieces(b, module, target, panels.pieces, call, values);
  // A·x is complete, and so is the part of y that another thread computed.
  b.barrier(values.args, values.thread);
  for (auto [pair, x] : llvm::zip(panels.pairs, products)) {
    KernelValues inner = values;
    inner.x = x;
    if (Error error = emitLinear(builder, loc, module, target, factorCall(pair, call, true), inner))
      return error;
  }
  return Error::success();
}

Error skim::emitEmbed(OpBuilder &builder, Location loc, ModuleOp module, const TargetInfo &target, WeightEncoding term,
                      int64_t vocabulary, int64_t channels, ArrayRef<int64_t> weights, Value tokens, Value y,
                      Value rows, Value args, Value thread, Value threads) {
  DecodeContext context{target, channels, decodeLanes(target), /*scratch=*/false};
  std::unique_ptr<Decoder> decoder = makeDecoder(term, context);
  if (!decoder)
    return fail("no kernel", term.getShortName(), "a leaf encoding for embeddings", "");
  KernelBuilder b(builder, loc);
  SmallVector<Value> components;
  for (int64_t index : weights)
    components.push_back(b.weight(args, index));
  int64_t lanes = context.lanes, whole = channels / lanes * lanes;
  auto [first, last] = b.split(rows, 1, thread, threads);
  b.loop(first, last, b.i64(1), [&](Value r) {
    Value token = b.toI64(b.load(b.i32(), b.element(tokens, r, b.i32())));
    Decoder::Values row = decoder->beginRow(b, components, token, {});
    Value to = b.element(y, b.mul(r, channels), b.f32());
    b.loop(b.i64(0), b.i64(whole), b.i64(lanes),
           [&](Value i) { b.store(decoder->weights(b, row, {i, lanes}), b.element(to, i, b.f32())); });
    if (whole < channels)
      b.storeFirst(decoder->weights(b, row, {b.i64(whole), channels - whole}), b.element(to, b.i64(whole), b.f32()),
                   b.i64(channels - whole));
  });
  return Error::success();
}
