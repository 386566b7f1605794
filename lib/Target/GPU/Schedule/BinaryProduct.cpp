//===- BinaryProduct.cpp - bits of codes times bits of x --------------------===//
//
// Codes c = Σ 2^u·c_u minus a zero point z, times a row of x of bytes q = Σ ±2^i·x_i
// (two's complement: i = 7 counts −128) are
//
//   Σ q·(c − z) = Σ_i ±2^i·(Σ_u 2^u·popc(c_u & x_i) − z·popc(x_i))
//
// (ABQ-LLM, "engine"). The eight bit planes of a row of x are the eight columns of
// operand B. Words of codes are operand A as they lie: B has bits of x where bit u of a
// code is and zeros elsewhere, so what else is in the words does not count. Nothing is
// decoded; b bits are at most 4b products of 16 × 8 × 256 bits for 4096 weights, and one
// with an A of ones for popc(x_i).
//
// A lane has planes 2t and 2t + 1 of x. For each u it counts popc(c_u & x_i) as mma has
// it (four), and popc(x_i) (two); where scales are by rows, until the columns end. Where
// they are by groups, lanes exchange and add them at a group's end, in integers, and
// what is kept is what other products have.
//
// This is for one row of x. Of more, as many products as rows would be needed: bytes,
// which are decoded once for all of them, are as fast for four rows and faster for more.
//
//===----------------------------------------------------------------------===//

#include "Schedules.h"

#include <map>

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

int64_t device::planeBit(int64_t step) { return 2 * (step % 2) + step / 2; }

/// Bits of x where a word of codes has bit 0, 1, … of them; null where it has none. `x`: a word of planes.
static Values bitsOfWord(DeviceBuilder &b, int64_t bits, int64_t word, Value x) {
  auto moved = [&](int64_t left, uint32_t mask) {
    return b.andWord(left > 0 ? b.shl(x, b.i32(left)) : left < 0 ? b.shrWord(x, -left) : x, mask);
  };
  auto join = [&](Value &all, Value more) { all = all ? b.bitOr(all, more) : more; };
  Values result(static_cast<size_t>(bits));
  // Steps with all bits beside each other: by how much bits of x are moved, and which.
  std::map<int64_t, uint32_t> whole;
  for (int64_t s = 0; s < 4; ++s) {
    auto first = placeOfBit(bits, s, 0, 0), last = placeOfBit(bits, s, 0, bits - 1);
    if (first.first == word && last == std::pair{word, first.second + bits - 1}) {
      whole[first.second - planeBit(s)] |= 0x11111111u << first.second;
      continue;
    }
    for (int64_t u = 0; u < bits; ++u)
      if (auto [number, bit] = placeOfBit(bits, s, 0, u); number == word)
        join(result[static_cast<size_t>(u)], moved(bit - planeBit(s), 0x11111111u << bit));
  }
  Value all;
  for (auto [left, mask] : whole)
    join(all, moved(left, mask));
  for (size_t u = 0; u < result.size() && all; ++u)
    join(result[u], u ? b.shl(all, b.i32(static_cast<int64_t>(u))) : all);
  return result;
}

Values Product::accumulateBlock(DeviceBuilder &b, const KernelArguments &arguments, const State &state,
                                ArrayRef<Value> requests, Value first, ArrayRef<Value> x, ValueRange initial) const {
  Values sums(initial);
  // Operand A of all 256 columns, or of each half.
  size_t parts = byGroups() && group % 256 != 0 ? 2 : 1, words = 4 / parts;
  for (size_t part = 0; part < parts; ++part) {
    ArrayRef<Value> columns = parts == 1 ? x : x.slice(part, 1);
    Values counts = byGroups() ? Values(static_cast<size_t>(counted()), b.i32(0)) : sums;
    for (auto [number, request] : llvm::enumerate(requests)) {
      Values a(ArrayRef(b.wordsOf(request)).slice(part * words, words));
      SmallVector<Values> bits;
      for (Value column : columns)
        bits.push_back(bitsOfWord(b, own->bits(), static_cast<int64_t>(number), column));
      for (int64_t u = 0; u < own->bits(); ++u)
        if (bits[0][static_cast<size_t>(u)]) {
          Values there;
          for (const Values &column : bits)
            there.push_back(column[static_cast<size_t>(u)]);
          count(b, a, there, u, counts);
        }
    }
    count(b, Values(words, b.word(~0u)), columns, own->bits(), counts);
    sums = addCounts(b, arguments, state, b.add(first, static_cast<int64_t>(128 * part)), counts, sums);
  }
  return sums;
}

Values Product::accumulateStep(DeviceBuilder &b, const KernelArguments &arguments, const State &state,
                               const Decoder::Words &step, Value column, Value x, ValueRange initial) const {
  Values sums(initial), counts = byGroups() ? Values(static_cast<size_t>(counted()), b.i32(0)) : sums;
  Value number = b.andWord(b.shrWord(column, 5), 3);
  Value bit = b.add(b.mul(b.andWord(number, 1), 2), b.shrWord(number, 1)); // planeBit()
  Value bits = b.andWord(b.shr(x, bit), 0x11111111);
  for (int64_t u = 0; u < own->bits(); ++u) {
    auto word = static_cast<size_t>(u / 4);
    count(b, {step[0][word], step[1][word]}, {u % 4 ? b.shl(bits, b.i32(u % 4)) : bits}, u, counts);
  }
  count(b, Values(2, b.word(~0u)), {bits}, own->bits(), counts);
  return addCounts(b, arguments, state, column, counts, sums);
}

/// Counts for bit `u`, or of x alone.
void Product::count(DeviceBuilder &b, ArrayRef<Value> a, ArrayRef<Value> x, int64_t u, Values &counts) const {
  auto *at = counts.begin() + 4 * u;
  if (u < own->bits()) {
    Values more = b.mmaBits(a, x, ArrayRef(at, 4));
    std::copy(more.begin(), more.end(), at);
    return;
  }
  Values more = b.mmaBits(a, x, {at[0], at[1], at[0], at[1]}); // the same for every row
  std::copy_n(more.begin(), 2, at);
}

Values Product::addCounts(DeviceBuilder &b, const KernelArguments &arguments, const State &state, Value column,
                          const Values &counts, const Values &sums) const {
  if (!byGroups())
    return counts;
  Values result = sums;
  Group here = groupAt(b, arguments, state, column);
  for (auto [i, part] : llvm::enumerate(sumsOfCounts(b, counts, state, here.zeros)))
    result[i] = b.fma(b.intToF32(part), here.scales[i / 2], result[i]);
  return result;
}

/// Of a lane's counts the products with codes and zero points, as mma has them: i32.
Values Product::sumsOfCounts(DeviceBuilder &b, ArrayRef<Value> counts, const State &state,
                             std::array<Value, 2> zeros) const {
  Value t = state.tile.t, even = b.shl(b.i32(1), b.add(t, t));
  Value odd = b.select(b.equal(t, b.i32(3)), b.i32(-128), b.add(even, even));
  auto ofPlanes = [&](Value low, Value high) { return b.add(b.mul(low, even), b.mul(high, odd)); };
  Value x = ofPlanes(counts[counts.size() - 2], counts.back());
  std::array<Value, 2> results;
  for (size_t h = 0; h < 2; ++h) {
    Value codes;
    for (size_t u = counts.size() / 4; u-- > 0;) {
      Value plane = ofPlanes(counts[4 * u + 2 * h], counts[4 * u + 2 * h + 1]);
      codes = codes ? b.add(b.add(codes, codes), plane) : plane;
    }
    results[h] = b.sub(codes, b.mul(x, zeros[h]));
    for (int64_t distance : {1, 2})
      results[h] = b.add(results[h], b.exchange(results[h], distance));
  }
  return {results[0], b.i32(0), results[1], b.i32(0)};
}
