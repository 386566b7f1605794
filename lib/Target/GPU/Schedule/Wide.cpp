//===- Wide.cpp - many rows of x with wgmma ---------------------------------===//
//
// Each warp decodes a tile of 16 rows straight into fragments, which are operand A
// of wgmma; four warps multiply 64 rows. x, packed as wgmma wants it, passes through
// shared memory in steps of 32 columns, six slots of them, copied asynchronously four
// steps ahead.
//
// wgmma works while the warps decode: a step's products are waited for behind the
// next step's. So when all warps meet at a step, nobody reads the slot of the step
// before the last one any more, and there the copies go.
//
// Scales of groups: the sums change units when the first step of a group is decoded and
// all have met; other warps' products are at work then.
//
//===----------------------------------------------------------------------===//

#include "Slab.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

namespace {
constexpr int64_t kSlots = 6, kAhead = 4;
// Of eight rows of a step, packed as they lie here; and of all.
constexpr int64_t kMatrixBytes = 128, kEightBytes = 4 * kMatrixBytes, kSlotBytes = kWideXTiles * kEightBytes;

int64_t spanOf(const Decoder &decoder) { return decoder.block() ? decoder.block() : kPiece; }

class WideKernel : SlabKernel {
public:
  WideKernel(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments)
      : SlabKernel(b, signature, arguments, /*inPlace=*/true, spanOf), half(signature.bf16 ? b.bf16() : b.f16()) {}

  void emit() {
    beginTiles();
    Value begin = beginColumns();
    step = b.mul(begin, span / kStepColumns);
    slot = b.i32(0);
    stepsEnd = b.shrWord(columnsEnd, 5);
    descriptor = b.wgmmaDescriptor(arguments.shared, kMatrixBytes, kEightBytes);
    zero = b.shrWord(arguments.m, 31);
    beginCopies();
    for (int64_t i = 0; i < kAhead; ++i)
      copy(b.add(step, i), b.i32(i * kSlotBytes));

    setSums(product.zeros(b));
    sums = b.wgmmaFence(sums);
    if (k / span)
      multiplySpans(begin);
    sums = b.wgmmaWait(0, sums);
    if (k % span)
      setState(inLast(state(), [&] {
        multiplyRest();
        return state();
      }));
    findTilesAnew();
    finish(addFactors(product.finish(b, arguments, states[0], sumsAndUnits())), arguments.shared);
  }

private:
  Type half;
  Value descriptor, stepsEnd;
  Value zero; // that ptxas does not know: what is loaded may not be an operand of wgmma as it is
  SmallVector<std::pair<Value, Value>> sources; // where this lane copies from, and its unit of a slot
  // What changes from step to step.
  Value step, slot;
  Values sums;  // that wgmma works on
  Values units; // of the sums, of each row, where there are groups

  Values sumsAndUnits() const {
    Values all = sums;
    all.append(units);
    return all;
  }
  void setSums(ValueRange all) {
    auto count = static_cast<size_t>(4 * kWideXTiles);
    sums = Values(all.take_front(count));
    units = Values(all.drop_front(count));
  }
  Values state() const {
    Values all = sumsAndUnits();
    all.append({step, slot});
    return all;
  }
  void setState(ValueRange all) {
    setSums(all.drop_back(2));
    step = all[all.size() - 2];
    slot = all[all.size() - 1];
  }

  /// Eight rows of a step are 32 units of 16 bytes, here and there. Rows behind x's last are that one again.
  void beginCopies() {
    int64_t threads = 32 * signature.warps;
    for (int64_t i = 0; i < kSlotBytes / 16; i += threads) {
      Value unit = b.add(thread, i), lane = b.andWord(unit, 31);
      Value row = b.add(b.add(firstRow, b.mul(b.shrWord(unit, 5), 8)), b.andWord(lane, 7));
      row = b.min(row, b.sub(arguments.m, b.i32(1)));
      Value eight = b.mul(b.zeroExtend(b.shrWord(row, 3), b.i64()), 16 * packedColumns(k));
      Value inEight = b.add(b.mul(b.shrWord(lane, 3), kMatrixBytes), b.mul(b.andWord(row, 7), 16));
      Value from = b.offset(arguments.x, b.add(eight, b.zeroExtend(inEight, b.i64())));
      sources.push_back({from, unit});
    }
  }

  /// Starts to copy a step of x, if this block has it.
  void copy(Value number, Value to) {
    Value isOurs = b.less(number, stepsEnd);
    for (auto [from, unit] : sources) {
      b.when(isOurs, [&, from = from, unit = unit] {
        b.copyAsync(b.offset(arguments.shared, b.add(to, b.mul(unit, 16))), b.offset(from, b.mul(number, kEightBytes)));
      });
    }
    b.commitCopies();
  }

  void multiplySpans(Value begin) {
    int64_t count = span / kStepColumns, interval = product.interval(span);
    // Requests for the next span go out when most of this one's words are used, so that both fit in registers.
    int64_t requestAt = count > 2 ? count - 2 : 0;
    Values carried = state();
    size_t first = carried.size(), words = static_cast<size_t>(requests());
    carried.append(requestSpan(begin));
    carried.append(requestGroups(begin));
    Values results = b.loop(begin, end, b.i32(1), carried, [&](Value index, ValueRange values) {
      setState(values.take_front(first));
      Values known(values.drop_front(first + words)), later;
      Value column = b.mul(index, span);
      Steps steps = spanSteps(0, values.slice(first, words), column);
      Product::Group group;
      for (int64_t i = 0; i < count; ++i) {
        if (i == requestAt) {
          Value next = b.add(index, 1);
          later = requestSpan(next);
          later.append(requestGroups(next));
        }
        bool begins = i % interval == 0;
        Value at = b.add(column, i * kStepColumns);
        if (begins)
          group = known.empty() ? product.groupAt(b, arguments, states[0], at) : takeGroup(known);
        multiplyStep(steps[static_cast<size_t>(i)], at, group, begins);
      }
      Values all = state();
      all.append(later);
      return all;
    });
    setState(ValueRange(results).take_front(first));
  }

  /// What is left, by pieces.
  void multiplyRest() {
    sums = b.wgmmaFence(sums);
    int64_t interval = product.interval(kPiece);
    for (int64_t first = k / span * span; first < k; first += kPiece) {
      Product::Group group;
      for (auto [i, words] : llvm::enumerate(restSteps(0, first))) {
        bool begins = static_cast<int64_t>(i) % interval == 0;
        Value at = b.i32(first + static_cast<int64_t>(i) * kStepColumns);
        if (begins)
          group = product.groupAt(b, arguments, states[0], at);
        multiplyStep(words, at, group, begins);
      }
    }
    sums = b.wgmmaWait(0, sums);
  }

  /// Where units change at a group's first step, that wants its scale at once: a span's are requested with its words.
  Values requestGroups(Value index) {
    Values all;
    if (units.empty())
      return all;
    Value column = b.mul(b.min(index, b.i32(k / span - 1)), span);
    for (int64_t at = 0; at < span; at += product.interval(span) * kStepColumns) {
      Product::Group group = product.groupAt(b, arguments, states[0], b.add(column, at));
      all.append(group.scales.begin(), group.scales.end());
      if (decoder.hasZeros())
        all.append(group.zeros.begin(), group.zeros.end());
    }
    return all;
  }
  Product::Group takeGroup(Values &known) const {
    Product::Group group;
    auto take = [&](std::array<Value, 2> &both) {
      both = {known[0], known[1]};
      known.erase(known.begin(), known.begin() + 2);
    };
    take(group.scales);
    if (decoder.hasZeros())
      take(group.zeros);
    return group;
  }

  void multiplyStep(const Decoder::Words &words, Value column, const Product::Group &group, bool begins) {
    // Half a step at a time: one is decoded while the last is at work, and its registers are free for the next. So that
    // they stand in that order, decoding is written down twice; of each, half has no use.
    Value x = b.wgmmaDescriptorAt(descriptor, slot);
    for (size_t q = 0; q < 2; ++q) {
      std::array<Values, 2> pairs = product.pairs(b, arguments, states[0], group, words, column);
      Values a = {pairs[0][2 * q], pairs[1][2 * q], pairs[0][2 * q + 1], pairs[1][2 * q + 1]};
      if (decoder.bits() == 16)
        for (Value &word : a)
          word = b.bitXor(word, zero);
      a = b.wgmmaFence(a);
      if (q == 0) {
        meet();
        if (begins && !units.empty())
          beginGroup(group);
      }
      sums = b.wgmma(sums, a, q ? b.wgmmaDescriptorAt(x, b.i32(2 * kMatrixBytes)) : x, half);
      b.wgmmaCommit();
      b.wgmmaWait(1, {});
    }
    step = b.add(step, 1);
    slot = b.select(b.equal(slot, b.i32((kSlots - 1) * kSlotBytes)), b.i32(0), b.add(slot, kSlotBytes));
  }

  /// All have a step of x, and none reads the one before the last any more.
  void meet() {
    b.waitCopies(kAhead - 1);
    b.fenceProxyAsync();
    b.barrier();
    Value free = b.select(b.less(slot, b.i32(2 * kSlotBytes)), b.add(slot, (kSlots - 2) * kSlotBytes),
                          b.sub(slot, b.i32(2 * kSlotBytes)));
    copy(b.add(step, kAhead), free);
  }

  /// Before a group's first products: its scale becomes the sums' unit.
  void beginGroup(const Product::Group &group) {
    sums = b.wgmmaWait(0, sums);
    Values all = sumsAndUnits();
    product.changeUnits(b, all, group.scales);
    setSums(all);
    sums = b.wgmmaFence(sums);
  }
};
} // namespace

int64_t device::wideSharedBytes() { return kSlots * kSlotBytes; }

int64_t device::wideSpans(const Decoder &decoder, int64_t k) { return k / spanOf(decoder); }

bool device::fitsWide(const Decoder &decoder, int64_t k) {
  int64_t group = decoder.group(), bits = decoder.bits();
  if (group != 0 && group < k && (!decoder.hasHalfScales() || group % (decoder.hasZeros() ? 128 : 64) != 0))
    return false;
  return (bits > 0 && bits <= 5 && !decoder.readsTable()) || bits == 16;
}

void device::emitWideKernel(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments) {
  WideKernel(b, signature, arguments).emit();
}
