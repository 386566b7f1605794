//===- Embed.cpp - rows of a weight in tiles --------------------------------===//
//
// A token's row lies in a tile where lanes 4g … 4g + 3 of a warp find it. Here
// four lanes play these for one block of columns, the next four for the next, so
// a tied head is looked up where it lies and any leaf can be an embedding.
//
//===----------------------------------------------------------------------===//

#include "Schedules.h"
#include "skim/Target/GPU/Linear.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

namespace {
constexpr int64_t kThreads = 128, kUnits = kThreads / 4;

class EmbedKernel {
public:
  EmbedKernel(DeviceBuilder &b, WeightEncoding leaf, const Decoder &decoder, bool bf16, int64_t k, ValueRange arguments)
      : b(b), leaf(leaf), decoder(decoder), bf16(bf16), k(k), components(arguments.drop_front(2)) {
    Value token = b.load(b.i32(), b.element(arguments[0], b.zeroExtend(b.blockX(), b.i64()), b.i32()));
    y = b.element(arguments[1], b.mul(b.zeroExtend(b.blockX(), b.i64()), k), b.f32());
    Value inTile = b.andWord(token, kTileRows - 1);
    upper = b.less(b.i32(7), inTile);
    tile.index = b.shrWord(token, 4);
    tile.rows = b.i32(kTileRows);
    tile.row = {token, token};
    tile.inTile = {inTile, inTile};
    tile.t = b.andWord(b.threadX(), 3);
    tile.lane = b.add(b.mul(b.andWord(inTile, 7), 4), tile.t);
    codes = decoder.tileCodes(b, components, tile);
    row = decoder.beginRow(b, decoder.requestRow(b, components, tile, 0));
    unit = b.add(b.mul(b.blockY(), kUnits), b.shrWord(b.threadX(), 2));
    stride = b.mul(b.gridY(), kUnits);
  }

  void emit() {
    if (decoder.block())
      inTiles();
    else
      canonical();
  }

private:
  DeviceBuilder &b;
  WeightEncoding leaf;
  const Decoder &decoder;
  bool bf16;
  int64_t k;
  SmallVector<Value> components;
  Value y, upper, codes, unit, stride;
  Values row;
  Tile tile;

  void inTiles() {
    int64_t block = decoder.block(), blocks = k / block, covered = blocks * block;
    auto units = [&](int64_t count, int64_t columns, int64_t before, llvm::function_ref<Values(Value)> load,
                     StepKind kind) {
      if (!count)
        return;
      b.loop(unit, b.i32(count), stride, [&](Value index) {
        Value first = b.add(b.mul(index, columns), before);
        for (auto [s, step] : llvm::enumerate(decoder.sortBlock(b, load(index), kind))) {
          Values words;
          for (auto [low, high] : llvm::zip(step[0], step[1]))
            words.push_back(b.select(upper, high, low));
          put(words, b.add(first, static_cast<int64_t>(s) * kStepColumns));
        }
      });
    };
    units(blocks, block, 0, [&](Value i) { return decoder.loadBlock(b, codes, tile, i); }, StepKind::Block);
    units((k - covered) / kNarrowColumns, kNarrowColumns, covered,
          [&](Value i) { return decoder.loadNarrow(b, codes, tile, i); }, StepKind::Narrow);
    int64_t rest = restColumns(k), before = (k - rest) * decoder.bits() * kTileRows / 8;
    if (rest)
      steps(b.offset(codes, b.add(b.mul(tile.inTile[0], decoder.canonicalBytes(rest)), before)), rest);
  }

  void canonical() { steps(b.offset(codes, b.mul(tile.inTile[0], decoder.rowBytes())), k); }

  /// The last `columns` columns, canonical at `from`.
  void steps(Value from, int64_t columns) {
    b.loop(unit, b.i32((columns + kStepColumns - 1) / kStepColumns), stride, [&](Value step) {
      Value column = b.mul(step, kStepColumns);
      put(decoder.canonicalStep(b, {from, from}, tile, column, columns)[0], b.add(column, k - columns));
    });
  }

  /// The lane's eight columns of the step that begins at column `first`.
  void put(const Values &words, Value first) {
    Value column = b.add(first, b.mul(tile.t, 8));
    Values numbers;
    if (auto dense = dyn_cast<DenseAttr>(Attribute(leaf)); dense && dense.getType().isF32()) {
      for (Value word : words)
        numbers.push_back(b.bitcast(word, b.f32()));
    } else {
      numbers = decode(words, column);
    }
    Value to = b.element(y, b.zeroExtend(column, b.i64()), b.f32());
    if (k % kStepColumns == 0) {
      for (int64_t j = 0; j < 8; j += 4)
        b.store(b.pack(ValueRange(numbers).slice(j, 4)), b.offset(to, 4 * j), 16);
      return;
    }
    for (int64_t j = 0; j < 8; ++j)
      b.when(b.less(b.add(column, j), b.i32(k)), [&] { b.store(numbers[j], b.offset(to, 4 * j)); });
  }

  Values decode(const Values &words, Value column) {
    int64_t group = decoder.group(), each = group % 8 == 0 || group >= k ? 8 : 1;
    Values zeros, scales;
    for (int64_t j = 0; group && j < 8; j += each) {
      Value index = group >= k ? b.i32(0) : b.min(b.div(b.add(column, j), group), b.i32(decoder.groups() - 1));
      if (decoder.hasZeros())
        zeros.append(each, decoder.zero(b, components, tile, 0, index));
      scales.append(each, decoder.scale(b, components, tile, 0, index));
    }
    Values pairZeros;
    for (size_t j = 0; j < zeros.size(); j += 2)
      pairZeros.push_back(each == 8 ? zeros[j] : b.bytePermute(zeros[j], zeros[j + 1], 0x7610));
    Values numbers;
    for (Value pair : decoder.pairs(b, row, pairZeros, words)) {
      Value both = b.bitcast(pair, b.vec(2, bf16 ? b.bf16() : b.f16()));
      numbers.append({b.toFloat(b.extract(both, 0)), b.toFloat(b.extract(both, 1))});
    }
    for (auto [number, scale] : llvm::zip(numbers, scales))
      number = b.mul(number, scale);
    return numbers;
  }
};
} // namespace

Expected<EmbedLaunch> device::emitEmbed(OpBuilder &builder, Location loc, mlir::gpu::GPUModuleOp module,
                                        WeightEncoding leaf, int64_t n, int64_t k) {
  // Numbers without their scale are exact in f16, but for tables of bf16.
  auto dense = dyn_cast<DenseAttr>(Attribute(leaf));
  auto book = dyn_cast<CodebookAttr>(Attribute(leaf));
  bool bf16 = (dense && dense.getType().isBF16()) || (book && book.getTable().isBF16());
  std::unique_ptr<Decoder> decoder = makeDecoder(leaf, {k, bf16});
  if (!decoder)
    return fail("no kernel", leaf.getShortName(), "a leaf encoding for embeddings", "");
  OpBuilder::InsertionGuard guard(builder);
  DeviceBuilder b(builder, loc);
  KernelSignature named;
  named.leaf = leaf;
  named.k = k;
  named.bf16 = bf16;
  named.warps = kThreads / 32;
  std::string name = LaunchSignature{{named}}.name("embed") + "_n" + std::to_string(n);
  SmallVector<Type> types(2 + getComponents(leaf, {n, k}).size(), b.globalPtr());
  if (auto kernel = DeviceBuilder::beginKernel(builder, module, loc, name, types, kThreads))
    EmbedKernel(b, leaf, *decoder, bf16, k, kernel.getArguments()).emit();
  int64_t units = (k + kNarrowColumns - 1) / kNarrowColumns;
  return EmbedLaunch{name, kThreads, std::clamp<int64_t>(units / kUnits, 1, 8)};
}
