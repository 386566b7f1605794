//===- Product.cpp - decoded steps times x ----------------------------------===//

#include "Schedules.h"

#include <numeric>

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

Product::Product(const KernelSignature &signature, bool inPlace, bool inPairs)
    : signature(signature), own(makeDecoder(signature.leaf, signature.decodeContext())), group(own->group()) {
  if (group >= signature.k)
    group = signature.k;
  scaling = inPairs && group != 0                         ? Pairs
            : group == 0 || group == signature.k          ? Rows
            : group % kStepColumns                        ? Pairs
            : inPlace && !signature.a8 /* they are f32 */ ? Units
                                                          : Sums;
  assert((scaling != Pairs || !signature.a8) && "integers of one product have one scale");
  assert((scaling != Units || own->hasHalfScales()) && "quotients of scales may be infinite");
}

Tile Product::tileOf(DeviceBuilder &b, const KernelArguments &arguments, Value index, Value lane) const {
  Tile tile;
  tile.index = index;
  tile.lane = lane;
  tile.t = b.andWord(lane, 3);
  Value g = b.shrWord(lane, 2), first = b.mul(index, kTileRows);
  tile.rows = b.i32(kTileRows);
  if (signature.partial)
    tile.rows = b.min(tile.rows, b.sub(arguments.n, first));
  for (int h = 0; h < 2; ++h) {
    tile.inTile[h] = b.add(g, 8 * h);
    tile.row[h] = b.add(first, tile.inTile[h]);
    if (signature.partial)
      tile.row[h] = b.min(tile.row[h], b.sub(arguments.n, b.i32(1)));
  }
  return tile;
}

Product::State Product::request(DeviceBuilder &b, const KernelArguments &arguments, Value index, Value lane) const {
  State state;
  state.tile = tileOf(b, arguments, index, lane);
  const Tile &tile = state.tile;
  state.codes = own->tileCodes(b, arguments.components, tile);
  for (int h = 0; h < 2; ++h)
    state.rows[h] = own->requestRow(b, arguments.components, tile, h);
  return state;
}

void Product::begin(DeviceBuilder &b, const KernelArguments &arguments, State &state) const {
  for (int h = 0; h < 2; ++h) {
    state.rows[h] = own->beginRow(b, state.rows[h]);
    if (scaling == Rows && (own->hasZeros() || signature.binary))
      state.zeros[h] = zeroAt(b, arguments, state, h, b.i32(0));
  }
}

Value Product::zeroAt(DeviceBuilder &b, const KernelArguments &arguments, const State &state, int half,
                      Value group) const {
  if (signature.binary)
    return own->zeroInteger(b, arguments.components, state.tile, half, group);
  return signature.a8 ? own->zeroBytes(b, arguments.components, state.tile, half, group)
                      : own->zero(b, arguments.components, state.tile, half, group);
}

Values Product::zeros(DeviceBuilder &b) const {
  bool integers = signature.a8 && scaling == Rows;
  int64_t count = signature.binary && integers ? counted() : (4 + (integers ? apart() : 0)) * signature.xTiles;
  Values sums(static_cast<size_t>(count), integers ? b.i32(0) : b.f32(0));
  sums.append(scaling == Units ? 2 : 0, b.f32(1));
  return sums;
}

void Product::changeUnits(DeviceBuilder &b, MutableArrayRef<Value> sums, std::array<Value, 2> scales) const {
  MutableArrayRef<Value> units = sums.take_back(2);
  std::array<Value, 2> quotients;
  for (int h = 0; h < 2; ++h) {
    // A group of scale zero adds nothing, and no unit is zero: 2^-64 times codes is lost beside any other scale of f16,
    // and sums in units of it are far from infinite.
    Value unit = b.select(b.equal(scales[h], b.f32(0)), b.f32(0x1p-64), scales[h]);
    quotients[h] = b.mul(units[h], b.reciprocal(unit));
    units[h] = unit;
  }
  for (auto [i, sum] : llvm::enumerate(sums.drop_back(2)))
    sum = b.mul(sum, quotients[i / 2 % 2]);
}

Value Product::groupOf(DeviceBuilder &b, Value column) const {
  if (llvm::isPowerOf2_64(group))
    return b.shrWord(column, static_cast<int64_t>(llvm::Log2_64(group)));
  return b.div(column, group);
}

/// Groups that end inside of a step: each pair gets its zero points and scales.
Values Product::scaledPairs(DeviceBuilder &b, const KernelArguments &arguments, const State &state, int half,
                            const Values &words, Value column) const {
  // Eight columns of one group, or each its own. Behind column K x is zero, any group will do.
  int64_t columns = group % 8 == 0 ? 8 : 1;
  Values zeros, scales;
  Value first = b.add(column, b.mul(state.tile.t, 8));
  for (int64_t j = 0; j < 8; j += columns) {
    Value index = b.min(groupOf(b, b.add(first, j)), b.i32(own->groups() - 1));
    if (own->hasZeros())
      zeros.append(columns, own->zero(b, arguments.components, state.tile, half, index));
    Value scale = own->scale(b, arguments.components, state.tile, half, index);
    scales.append(columns, columns == 8 ? b.splatPair(scale, this->half(b)) : scale);
  }
  Values pairZeros;
  for (size_t j = 0; j < zeros.size(); j += 2)
    pairZeros.push_back(columns == 8 ? zeros[j] : b.bytePermute(zeros[j], zeros[j + 1], 0x7610));
  Values pairs = own->pairs(b, state.rows[half], pairZeros, words);
  for (auto [p, pair] : llvm::enumerate(pairs)) {
    Value scale = columns == 8 ? scales[0] : b.pairOf(scales[2 * p], scales[2 * p + 1], this->half(b));
    pair = b.mulPairs(pair, scale, this->half(b));
  }
  return pairs;
}

int64_t Product::interval(int64_t columns) const {
  return byGroups() ? std::gcd(group, columns) / kStepColumns : columns / kStepColumns;
}

Product::Group Product::groupAt(DeviceBuilder &b, const KernelArguments &arguments, const State &state,
                                Value column) const {
  Group result;
  Value index = byGroups() ? groupOf(b, column) : Value();
  for (int h = 0; h < 2; ++h) {
    result.zeros[h] = state.zeros[h];
    if (index && (own->hasZeros() || signature.binary))
      result.zeros[h] = zeroAt(b, arguments, state, h, index);
    if (index)
      result.scales[h] = own->scale(b, arguments.components, state.tile, h, index);
  }
  return result;
}

std::array<Values, 2> Product::pairs(DeviceBuilder &b, const KernelArguments &arguments, const State &state,
                                     const Group &group, const Decoder::Words &words, Value column) const {
  std::array<Values, 2> result;
  for (int h = 0; h < 2; ++h) {
    if (signature.a8) {
      result[h] = own->bytes(b, state.rows[h], group.zeros[h], words[h]);
      continue;
    }
    Values zeros(group.zeros[h] ? 4 : 0, group.zeros[h]);
    result[h] = scaling == Pairs ? scaledPairs(b, arguments, state, h, words[h], column)
                                 : own->pairs(b, state.rows[h], zeros, words[h]);
  }
  return result;
}

Values Product::accumulate(DeviceBuilder &b, const KernelArguments &arguments, ArrayRef<State> states,
                           ArrayRef<ArrayRef<Decoder::Words>> steps, Value first, Fragment x,
                           ValueRange initial) const {
  auto count = static_cast<int64_t>(steps[0].size()), each = static_cast<int64_t>(initial.size() / states.size());
  // Blocks begin at multiples of their own width, so a common divisor of it and of the group ends both.
  int64_t together = interval(count * kStepColumns);
  Values sums(initial);
  for (int64_t begin = 0; begin < count; begin += together) {
    SmallVector<Group> groups;
    for (const State &state : states)
      groups.push_back(groupAt(b, arguments, state, b.add(first, begin * kStepColumns)));
    if (scaling == Units)
      for (size_t j = 0; j < states.size(); ++j)
        changeUnits(b, MutableArrayRef(sums).slice(j * each, each), groups[j].scales);
    int64_t ofPart = scaling == Sums ? each + apart() * signature.xTiles : each;
    Values part = scaling == Sums ? Values(states.size() * ofPart, signature.a8 ? b.i32(0) : b.f32(0)) : sums;
    for (int64_t step = begin; step < begin + together; ++step) {
      SmallVector<std::array<Values, 2>> decoded;
      for (auto [j, state] : llvm::enumerate(states))
        decoded.push_back(pairs(b, arguments, state, groups[j], steps[j][step], b.add(first, step * kStepColumns)));
      for (int64_t tile = 0; tile < signature.xTiles; ++tile) {
        Values columns = x(step, tile);
        for (size_t j = 0; j < states.size(); ++j) {
          auto sum = part.begin() + static_cast<int64_t>(j) * ofPart + 4 * tile;
          const auto &[upper, lower] = decoded[j];
          if (signature.a8) {
            Values product = b.mmaBytes({upper[0], lower[0], upper[1], lower[1]}, columns, ArrayRef(sum, 4));
            std::copy(product.begin(), product.end(), sum);
            if (apart()) { // what x alone sums up to
              auto alone = part.begin() + static_cast<int64_t>(j) * ofPart + 4 * signature.xTiles + 2 * tile;
              Values counts =
                  b.mmaBytes(Values(4, b.word(0x01010101)), columns, {alone[0], alone[1], alone[0], alone[1]});
              std::copy_n(counts.begin(), 2, alone);
            }
            continue;
          }
          for (int64_t q = 0; q < 2; ++q) {
            Values product = b.mma(half(b), {upper[2 * q], lower[2 * q], upper[2 * q + 1], lower[2 * q + 1]},
                                   {columns[2 * q], columns[2 * q + 1]}, ArrayRef(sum, 4));
            std::copy(product.begin(), product.end(), sum);
          }
        }
      }
    }
    if (scaling != Sums) {
      sums = part;
      continue;
    }
    for (size_t j = 0; j < states.size(); ++j) {
      ArrayRef<Value> own = ArrayRef(part).slice(j * ofPart, ofPart);
      for (int64_t i = 0; i < each; ++i) {
        Value &sum = sums[j * each + i];
        Value value = signature.a8 ? b.intToF32(withoutZeros(b, own, i, groups[j].zeros)) : own[i];
        sum = b.fma(value, groups[j].scales[i / 2 % 2], sum);
      }
    }
  }
  return sums;
}

/// Number `i` of a tile's sums of integers, once zero points are subtracted that are kept apart.
Value Product::withoutZeros(DeviceBuilder &b, ArrayRef<Value> sums, int64_t i, std::array<Value, 2> zeros) const {
  if (!apart())
    return sums[i];
  return b.sub(sums[i], b.mul(sums[4 * signature.xTiles + i / 4 * 2 + i % 2], zeros[i / 2 % 2]));
}

Values Product::finish(DeviceBuilder &b, const KernelArguments &arguments, const State &state,
                       ValueRange initial) const {
  Values sums(initial);
  std::array<Value, 2> scales;
  if (scaling == Units) {
    scales[1] = sums.pop_back_val();
    scales[0] = sums.pop_back_val();
  } else if (scaling == Rows && group != 0) {
    for (int h = 0; h < 2; ++h)
      scales[h] = own->scale(b, arguments.components, state.tile, h, b.i32(0));
  } else {
    return sums;
  }
  if (signature.a8) {
    Values whole = signature.binary ? sumsOfCounts(b, sums, state, state.zeros) : Values();
    for (int64_t i = 0; i < 4 * signature.xTiles && !signature.binary; ++i)
      whole.push_back(withoutZeros(b, sums, i, state.zeros));
    for (Value &sum : whole)
      sum = b.intToF32(sum);
    sums = whole;
  }
  for (auto [i, sum] : llvm::enumerate(sums))
    sum = b.mul(sum, scales[i / 2 % 2]);
  return sums;
}

std::array<Value, 2> Product::restRows(DeviceBuilder &b, const State &state) const {
  int64_t rest = restColumns(signature.k);
  int64_t before = (signature.k - rest) * own->bits() * kTileRows / 8, bytes = own->canonicalBytes(rest);
  std::array<Value, 2> rows;
  for (int h = 0; h < 2; ++h)
    rows[h] = b.offset(state.codes, b.add(b.mul(state.tile.inTile[h], bytes), before));
  return rows;
}

std::array<Value, 2> Product::canonicalRows(DeviceBuilder &b, const State &state) const {
  std::array<Value, 2> rows;
  Value first = b.mul(state.tile.index, kTileRows);
  for (int h = 0; h < 2; ++h) // inside of the weight, which is not filled up
    rows[h] = b.offset(state.codes, b.mul(b.sub(state.tile.row[h], first), own->rowBytes()));
  return rows;
}
