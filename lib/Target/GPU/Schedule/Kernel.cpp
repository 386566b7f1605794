//===- Kernel.cpp - signatures, arguments, results --------------------------===//

#include "Schedules.h"

#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

static std::string spell(WeightEncoding leaf) {
  std::string text = leaf.getShortName();
  for (char &c : text)
    if (!llvm::isAlnum(c))
      c = '_';
  return text;
}

/// What distinguishes a piece from others of its launch.
static std::string pieceFlags(const KernelSignature &signature) {
  std::string name;
  if (signature.permutation)
    name += signature.permutation.isInteger(16) ? "_rows16" : "_rows32";
  if (signature.biased)
    name += "_bias";
  if (signature.scaled)
    name += "_scaled";
  if (signature.partial)
    name += "_partial";
  if (signature.factors)
    name += "_r" + std::to_string(signature.rank) + spell(signature.factors);
  return name;
}

/// Runs of equal pieces: the first of each, and their number behind the last.
static SmallVector<size_t> runsOf(const LaunchSignature &launch) {
  SmallVector<size_t> begins;
  for (size_t i = 0; i < launch.pieces.size(); ++i)
    if (i == 0 || !(launch.pieces[i] == launch.pieces[i - 1]))
      begins.push_back(i);
  begins.push_back(launch.pieces.size());
  return begins;
}

std::string LaunchSignature::name(StringRef schedule) const {
  const KernelSignature &all = common();
  std::string shared = "_k" + std::to_string(all.k) +
                       (all.binary ? "_a8_b1"
                        : all.a8   ? "_a8"
                        : all.bf16 ? "_bf16"
                                   : "_f16") +
                       "_w" + std::to_string(all.warps);
  if (all.xTiles > 1)
    shared += "_x" + std::to_string(8 * all.xTiles);
  if (all.tiles > 1)
    shared += "_t" + std::to_string(all.tiles);
  if (all.splits > 1)
    shared += "_split" + std::to_string(all.splits);
  if (all.epilogue != LinearEpilogue::Store)
    shared += all.epilogue == LinearEpilogue::Add ? "_add" : "_gate";
  if (all.halves)
    shared += "_halves";
  if (all.onto)
    shared += "_onto";
  if (one && resident)
    shared += "_m" + std::to_string(resident);
  if (source)
    shared += (one ? "" : "_pack") + source->name() + (scaled ? "_scaled" : "");
  for (size_t i = 0, end = 0; i < firsts.size(); i = end) {
    while (end < firsts.size() && firsts[end] == firsts[i])
      ++end;
    shared += "_a" + std::to_string(firsts[i].rank) + spell(firsts[i].leaf) + "_n" + std::to_string(end - i);
  }
  if (!firsts.empty())
    shared += "_s" + std::to_string(spans) + "_b" + std::to_string(firstBlocks);
  std::string name = schedule.str();
  if (pieces.size() == 1)
    return name + "_" + spell(all.leaf) + shared + pieceFlags(all);
  SmallVector<size_t> runs = runsOf(*this);
  for (size_t i = 0; i + 1 < runs.size(); ++i)
    name +=
        "_" + spell(pieces[runs[i]].leaf) + pieceFlags(pieces[runs[i]]) + "_n" + std::to_string(runs[i + 1] - runs[i]);
  return name + shared;
}

static size_t componentCount(WeightEncoding leaf, int64_t k) { return getComponents(leaf, {kTileRows, k}).size(); }

namespace {
/// Places of a piece's arguments.
struct PieceLayout {
  explicit PieceLayout(const LaunchSignature &launch, size_t piece) {
    const KernelSignature &signature = launch.pieces[piece];
    first = piece > 0;
    x = !launch.source;
    xScales = x && signature.a8;
    components = componentCount(signature.leaf, signature.k);
    factors = signature.factors ? componentCount(signature.factors, signature.rank) : 0;
    permutation = bool(signature.permutation);
    bias = signature.biased;
    gate = signature.epilogue == LinearEpilogue::Gate;
    alpha = signature.scaled;
  }
  bool first, x, xScales, permutation, bias, gate, alpha;
  size_t components, factors;

  SmallVector<Type> types(DeviceBuilder &b) const {
    SmallVector<Type> types(first, b.i32());
    types.append(x + xScales + 1, b.globalPtr());
    types.append(2, b.i32());
    types.append(permutation + bias + gate + (factors > 0) + alpha + components + factors, b.globalPtr());
    return types;
  }
  /// From the values behind `first`.
  void read(ValueRange values, KernelArguments &k) const {
    auto next = [&](bool there) {
      Value value = there ? values.front() : Value();
      values = values.drop_front(there);
      return value;
    };
    k.x = next(x);
    k.xScales = next(xScales);
    k.y = next(true);
    k.n = next(true);
    k.yStride = next(true);
    k.permutation = next(permutation);
    k.bias = next(bias);
    k.gate = next(gate);
    k.t = next(factors > 0);
    if (alpha)
      k.alpha = next(true);
    k.components.assign(values.begin(), values.begin() + components);
    k.factors.assign(values.begin() + components, values.end());
  }
};
} // namespace

std::string device::getOrCreateKernel(
    OpBuilder &builder, Location loc, mlir::gpu::GPUModuleOp module, const LaunchSignature &launch, StringRef schedule,
    int64_t sharedBytes,
    llvm::function_ref<void(DeviceBuilder &, const KernelSignature &, const KernelArguments &)> body,
    llvm::function_ref<void(DeviceBuilder &, const KernelArguments &)> first) {
  std::string name = launch.name(schedule);
  const KernelSignature &all = launch.common();
  OpBuilder::InsertionGuard guard(builder);
  DeviceBuilder b(builder, loc);
  SmallVector<Type> types = {b.i32()};
  bool beside = !launch.firsts.empty();
  types.append(beside, b.i32());
  types.append((all.splits > 1 ? 2 : beside ? 1 : 0), b.globalPtr());
  if (beside) {
    types.push_back(b.globalPtr());
    for (const FirstFactor &factor : launch.firsts)
      types.append(1 + componentCount(factor.leaf, all.k), b.globalPtr());
  }
  if (launch.source) {
    for (char letter : launch.source->arguments())
      types.push_back(letter == 'p' ? b.globalPtr() : b.i32());
    types.append(launch.one ? 0 : launch.scaled ? 2 : 1, b.globalPtr());
  }
  SmallVector<size_t> at; // of each piece's arguments
  for (size_t i = 0; i < launch.pieces.size(); ++i) {
    at.push_back(types.size());
    types.append(PieceLayout(launch, i).types(b));
  }
  at.push_back(types.size());
  int64_t threads = 32 * all.warps * (launch.one ? all.tiles : 1);
  auto kernel = DeviceBuilder::beginKernel(builder, module, loc, name, types, threads);
  if (!kernel)
    return name;
  // Else ptxas spills a few words of some large tiles to fit a second block beside the first. With sums by groups it
  // does so if it may use more registers; measured with 13.0.
  bool byRows = llvm::all_of(launch.pieces, [](const KernelSignature &piece) {
    int64_t group = makeDecoder(piece.leaf, piece.decodeContext())->group();
    return group == 0 || group >= piece.k;
  });
  bool crowded = llvm::any_of(launch.pieces, [](const KernelSignature &piece) {
    std::unique_ptr<Decoder> decoder = makeDecoder(piece.leaf, piece.decodeContext());
    return (piece.a8 && decoder->zerosApart()) || (piece.partial && decoder->bits() > 4);
  });
  if ((schedule == "few" && crowded) || (all.xTiles >= 8 && (byRows || all.tiles > 1 || schedule == "wide")))
    kernel->setAttr("nvvm.minctasm", builder.getI32IntegerAttr(1));
  if (launch.one && launch.resident)
    kernel->setAttr("nvvm.minctasm", builder.getI32IntegerAttr(static_cast<int32_t>(launch.resident)));

  ValueRange arguments = kernel.getArguments();
  KernelArguments k;
  k.m = arguments[0];
  size_t next = 1;
  if (beside)
    k.firstBegin = arguments[next++];
  if (all.splits > 1 || beside)
    k.counters = arguments[next++];
  if (all.splits > 1)
    k.partials = arguments[next++];
  if (beside) {
    kernel->setAttr(kFirstBlocksAttr, builder.getI32IntegerAttr(static_cast<int32_t>(launch.firstBlocks)));
    k.firstSums = arguments[next++];
    for (const FirstFactor &factor : launch.firsts) {
      Value t = arguments[next++];
      size_t count = componentCount(factor.leaf, all.k);
      k.firsts.push_back({t, llvm::to_vector(arguments.slice(next, count))});
      next += count;
    }
  }
  k.shared = b.sharedMemory(module, name + "_shared", sharedBytes);
  if (launch.source) {
    size_t count = launch.source->arguments().size();
    k.source = {module, name, threads, all.k, llvm::to_vector(arguments.slice(next, count)), b.i32(0), k.m, 8, {}};
    next += count;
    if (launch.one) {
      k.source.rows = b.i32(1);
      k.source.mostRows = 1;
    } else {
      k.packed = arguments[next++];
      if (launch.scaled)
        k.alpha = arguments[next++];
      k.source.prepared = launch.source->prepare(b, k.source);
    }
  }

  Value block = b.blockX(), x = block;
  if (launch.firstBlocks) // those of first factors are not counted
    block = b.select(b.less(block, k.firstBegin), block, b.sub(block, b.i32(launch.firstBlocks)));
  k.number = block;
  auto own = [&](size_t piece) { return arguments.slice(at[piece], at[piece + 1] - at[piece]); };
  auto firstOf = [&](size_t piece) { return piece ? own(piece)[0] : b.i32(0); };
  SmallVector<size_t> runs = runsOf(launch);
  auto emitRun = [&](size_t run) {
    // Arguments of the run's piece that the block belongs to.
    size_t begin = runs[run], end = runs[run + 1];
    Value first = firstOf(begin);
    SmallVector<Value> values(own(begin).drop_front(begin > 0));
    for (size_t piece = begin + 1; piece < end; ++piece) {
      Value here = b.lessEqual(firstOf(piece), block);
      first = b.select(here, firstOf(piece), first);
      for (auto [value, other] : llvm::zip(values, own(piece).drop_front()))
        value = b.select(here, other, value);
    }
    KernelArguments mine = k;
    PieceLayout(launch, begin).read(values, mine);
    mine.block = launch.pieces.size() > 1 ? b.sub(block, first) : block;
    body(b, launch.pieces[begin], mine);
  };
  // By halves. Of runs without blocks the last that begins here has them.
  std::function<void(size_t, size_t)> emitRuns = [&](size_t from, size_t to) {
    if (from + 1 == to)
      return emitRun(from);
    size_t middle = (from + to) / 2;
    b.ifElse(b.less(block, firstOf(runs[middle])), [&] { emitRuns(from, middle); }, [&] { emitRuns(middle, to); });
  };
  auto emitAll = [&] { emitRuns(0, runs.size() - 1); };
  if (launch.firstBlocks) {
    Value behind = b.sub(x, k.firstBegin);
    Value isFirst = b.bitAnd(b.lessEqual(b.i32(0), behind), b.less(behind, b.i32(launch.firstBlocks)));
    b.ifElse(isFirst, [&] { first(b, k); }, emitAll);
  } else {
    emitAll();
  }
  return name;
}

ResultRow device::resultRow(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &k,
                            Value weightRow) {
  ResultRow row;
  row.column = weightRow;
  if (signature.permutation) {
    row.column = b.readOnly(signature.permutation, b.element(k.permutation, weightRow, signature.permutation));
    if (signature.permutation.isInteger(16))
      row.column = b.zeroExtend(row.column, b.i32());
  }
  if (signature.biased)
    row.bias = b.readOnly(b.f32(), b.element(k.bias, row.column, b.f32()));
  return row;
}

void device::storeResult(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &k,
                         const ResultRow &row, Value xRow, Value value) {
  if (signature.a8)
    value = b.mul(value, k.xScale ? k.xScale : b.readOnly(b.f32(), b.element(k.xScales, xRow, b.f32())));
  if (row.bias)
    value = b.add(value, row.bias);
  Value index =
      b.add(b.mul(b.zeroExtend(xRow, b.i64()), b.zeroExtend(k.yStride, b.i64())), b.zeroExtend(row.column, b.i64()));
  if (signature.halves) {
    Type half = signature.bf16 ? b.bf16() : b.f16();
    return b.store(narrowed(b, value, half), b.element(k.y, index, half));
  }
  Value at = b.element(k.y, index, b.f32());
  if (signature.epilogue == LinearEpilogue::Add || signature.onto)
    value = b.add(row.before ? row.before : b.load(b.f32(), at), value);
  if (signature.epilogue == LinearEpilogue::Gate)
    value = b.mul(b.silu(b.readOnly(b.f32(), b.element(k.gate, index, b.f32()))), value);
  b.store(value, at);
}
