//===- Pack.cpp - x as schedules read it ------------------------------------===//

#include "Schedules.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

Value device::narrowed(DeviceBuilder &b, Value x, Type half) {
  // Beyond the largest f16, a sum would be infinite and its products no numbers.
  double largest = 65504;
  if (half.isF16())
    x = b.min(b.max(x, b.f32(-largest)), b.f32(largest));
  return arith::TruncFOp::create(b.builder, b.loc, half, x);
}

Values device::loadColumns(DeviceBuilder &b, Value row, Value column, int64_t count, int64_t k, bool aligned,
                           Type element, bool readOnly) {
  Values x;
  int64_t size = element.getIntOrFloatBitWidth() / 8;
  if (aligned && k % kStepColumns == 0) {
    Value at = b.element(row, column, element);
    for (int64_t byte = 0; byte < count * size; byte += 16)
      for (Value word : b.words(b.offset(at, byte), std::min<int64_t>(4, count * size / 4), readOnly)) {
        if (size == 4) {
          x.push_back(b.bitcast(word, element));
          continue;
        }
        Value both = b.bitcast(word, b.vec(2, element));
        x.append({b.extract(both, 0), b.extract(both, 1)});
      }
    return x;
  }
  for (int64_t i = 0; i < count; ++i) {
    Value own = b.add(column, i);
    auto there = [&] {
      Value at = b.element(row, own, element);
      return Values{readOnly ? b.readOnly(element, at) : b.load(element, at)};
    };
    x.push_back(b.choose(b.less(own, b.i32(k)), there, [&] { return Values{b.constant(element, 0)}; })[0]);
  }
  return x;
}

void RowSource::makeRow(DeviceBuilder &b, const Block &block, ArrayRef<Value> columns, ArrayRef<Value>, Put put) const {
  Block prepared = block;
  prepared.prepared = prepare(b, block);
  for (auto [i, column] : llvm::enumerate(columns))
    put(i, load(b, prepared, b.i32(0), column, 4));
}

Values PlainRows::load(DeviceBuilder &b, const Block &block, Value index, Value column, int64_t count) const {
  Value row = b.zeroExtend(b.add(block.first, index), b.i64());
  return loadColumns(b, b.element(block.arguments[0], b.mul(row, block.k), b.f32()), column, count, block.k, true,
                     b.f32(), true);
}

Values device::packColumns(DeviceBuilder &b, ArrayRef<Value> x, Value alpha, Value column, int64_t k, Type half) {
  Values factors, numbers, words;
  auto count = static_cast<int64_t>(x.size());
  if (alpha)
    factors = loadColumns(b, alpha, column, count, k, true, b.f16(), true);
  for (int64_t i = 0; i < count; ++i)
    numbers.push_back(alpha ? b.mul(x[i], b.toFloat(factors[i])) : x[i]);
  for (int64_t i = 0; i < count; i += 2) {
    Value pair = b.pairOf(numbers[i], numbers[i + 1], half);
    words.push_back(half.isF16() ? b.clampPair(pair) : pair);
  }
  return words;
}

Values device::packedWords(DeviceBuilder &b, Value row, Value column, int64_t columns, Type half, bool readOnly) {
  if (columns % kStepColumns == 0)
    return b.words(b.element(row, column, half), 4, readOnly, "x");
  if (columns % 8 == 0)
    return b.choose(
        b.less(column, b.i32(columns)), [&] { return b.words(b.element(row, column, half), 4, readOnly, "x"); },
        [&] { return Values(4, b.i32(0)); });
  Values numbers = loadColumns(b, row, column, 8, columns, false, half, readOnly), words;
  for (size_t i = 0; i < 8; i += 2)
    words.push_back(b.pairOf(numbers[i], numbers[i + 1], half));
  return words;
}

/// Columns of a row that lanes of a block have room for.
static constexpr int64_t kMostWholeColumns = 16384;

static bool packsWholeRows(const RowSource &source, int64_t k) {
  return source.isOfWholeRows() && k <= kMostWholeColumns;
}

int64_t device::packThreads(const RowSource &source, int64_t k) { return packsWholeRows(source, k) ? 256 : 128; }

int64_t device::packBlocks(const RowSource &source, int64_t k) {
  return packsWholeRows(source, k) ? 1 : (packedColumns(k) + 1023) / 1024;
}

static SmallVector<Type> argumentTypes(DeviceBuilder &b, const RowSource &source) {
  SmallVector<Type> types;
  for (char letter : source.arguments())
    types.push_back(letter == 'p' ? b.globalPtr() : b.i32());
  return types;
}

/// Fours of columns that a lane of a block takes of the next `count`, the first at `first`, and whether x has them;
/// else they are its last four.
static std::pair<Values, Values> foursFrom(DeviceBuilder &b, Value first, int64_t count, int64_t threads, int64_t k) {
  Values columns, there;
  for (int64_t begin = 0; begin < count; begin += 4 * threads) {
    Value own = b.add(first, begin);
    there.push_back(b.less(own, b.i32(packedColumns(k))));
    columns.push_back(b.min(own, b.i32(packedColumns(k) - 4)));
  }
  return {columns, there};
}

std::string device::getOrCreatePack(OpBuilder &builder, Location loc, mlir::gpu::GPUModuleOp module,
                                    const RowSource &source, int64_t k, bool bf16, bool plain, int64_t scaled,
                                    PackedLayout layout) {
  const bool whole = packsWholeRows(source, k);
  const int64_t threads = packThreads(source, k);
  std::string name = "pack_k" + std::to_string(k) + (bf16 ? "_bf16" : "_f16") + source.name();
  if (scaled)
    name += "_scaled" + (plain || scaled > 1 ? std::to_string(scaled) + (plain ? "_plain" : "") : std::string());
  if (layout == PackedLayout::Matrices)
    name += "_matrices";
  OpBuilder::InsertionGuard guard(builder);
  DeviceBuilder b(builder, loc);
  SmallVector<Type> types = argumentTypes(b, source);
  size_t own = types.size();
  types.append((plain ? 1 : 0) + 2 * scaled, b.globalPtr());
  auto kernel = DeviceBuilder::beginKernel(builder, module, loc, name, types, threads);
  if (!kernel)
    return name;
  Type half = bf16 ? b.bf16() : b.f16();
  ValueRange arguments = kernel.getArguments();
  RowSource::Block block = {module,     name,     threads, k, llvm::to_vector(arguments.take_front(own)),
                            b.blockY(), b.i32(1), 1,       {}};
  // The row's begin: of its own, or of the first of eight with its place in their matrices.
  bool matrices = layout == PackedLayout::Matrices;
  Value row = b.blockY();
  Value first =
      b.mul(b.zeroExtend(matrices ? b.shrWord(row, 3) : row, b.i64()), packedColumns(k) * (matrices ? 16 : 2));
  if (matrices)
    first = b.add(first, b.zeroExtend(b.mul(b.andWord(row, 7), 16), b.i64()));
  auto store = [&](const Values &words, Value to, Value column) {
    if (!matrices)
      return b.storeWords(words, b.element(to, column, half));
    // Words 4t + j and 4t + j + 1 of the step are word t of two matrices.
    Value word = b.shrWord(column, 1), step = b.mul(b.shrWord(column, 5), 512);
    Value at = b.add(step, b.add(b.mul(b.andWord(word, 3), 128), b.andWord(word, 12)));
    for (int64_t i = 0; i < 2; ++i)
      b.store(words[static_cast<size_t>(i)], b.offset(b.offset(to, at), 128 * i));
  };
  // Fours, so that a warp's requests are for consecutive bytes; all are on their way together.
  auto packFour = [&](const Values &x, Value column) {
    for (size_t i = own; i < arguments.size();) {
      bool isPlain = plain && i == own;
      store(packColumns(b, x, isPlain ? Value() : arguments[i + 1], column, k, half), b.offset(arguments[i], first),
            column);
      i += isPlain ? 1 : 2;
    }
  };
  Value column = b.add(b.mul(b.blockX(), 8 * threads), b.mul(b.threadX(), 4));
  auto [columns, there] = foursFrom(b, column, whole ? packedColumns(k) : 8 * threads, threads, k);
  auto put = [&, &columns = columns, &there = there](size_t i, const Values &four) {
    b.when(there[i], [&] { packFour(four, columns[i]); });
  };
  if (whole) {
    source.makeRow(b, block, columns, there, put);
    return name;
  }
  block.prepared = source.prepare(b, block);
  SmallVector<Values> fours;
  for (Value own : columns)
    fours.push_back(source.load(b, block, b.i32(0), own, 4));
  for (auto [i, four] : llvm::enumerate(fours))
    put(i, four);
  return name;
}

Value device::planePlace(DeviceBuilder &b, Value lane) {
  return b.add(b.mul(b.shrWord(lane, 2), 32), b.mul(b.andWord(lane, 3), 8));
}

Values device::planeWords(DeviceBuilder &b, Value row, Value column, int64_t count) {
  Value at = b.mul(b.shrWord(column, 8), kPlaneBlockBytes);
  if (count == 1)
    at = b.add(at, b.mul(b.andWord(b.shrWord(column, 7), 1), 4));
  return b.words(b.offset(row, at), count, false, "x");
}

/// Transposes eight words' bits in each byte: bit r of word i and bit i of word r.
static void transposeBits(DeviceBuilder &b, std::array<Value, 8> &words) {
  for (auto [distance, low] : {std::pair<size_t, uint32_t>{4, 0x0f0f0f0f}, {2, 0x33333333}, {1, 0x55555555}})
    for (size_t r = 0; r < 8; ++r) {
      if (r & distance)
        continue;
      Value first = words[r], second = words[r + distance];
      auto shift = static_cast<int64_t>(distance);
      words[r] = b.bitOr(b.andWord(first, low), b.andWord(b.shl(second, b.i32(shift)), ~low));
      words[r + distance] = b.bitOr(b.andWord(b.shrWord(first, shift), low), b.andWord(second, ~low));
    }
}

/// The bit planes of a row of bytes in shared memory, 256 of them every 288: planeBytes() says how they lie.
static void storePlanes(DeviceBuilder &b, Value bytes, int64_t k, int64_t threads, Value to) {
  int64_t columns = packedColumns(k), blocks = (columns + 255) / 256;
  // A lane's columns of a block.
  b.loop(b.threadX(), b.i32(4 * blocks), b.i32(threads), [&](Value unit) {
    Value block = b.mul(b.shrWord(unit, 2), kPlaneBlockBytes), place = b.add(block, b.mul(b.andWord(unit, 3), 8));
    Value left = b.sub(b.i32(columns), b.mul(b.shrWord(unit, 2), 256));
    std::array<std::array<Value, 8>, 2> halves;
    for (size_t half = 0; half < 2; ++half) {
      for (int64_t step = 0; step < 4; ++step) {
        int64_t first = 128 * static_cast<int64_t>(half) + kStepColumns * step;
        auto load = [&] { return b.words(b.offset(bytes, b.add(place, first)), 2); };
        Values eight = columns % 256 == 0
                           ? load()
                           : b.choose(b.less(b.i32(first), left), load, [&] { return Values(2, b.i32(0)); });
        // In each byte a bit for each step: columns 0, 4, 1, 5 in the lower half, 2, 6, 3, 7 above.
        auto bit = static_cast<size_t>(planeBit(step));
        halves[half][bit] = b.bytePermute(eight[0], eight[1], 0x5140);
        halves[half][bit + 4] = b.bytePermute(eight[0], eight[1], 0x7362);
      }
      transposeBits(b, halves[half]);
    }
    for (size_t plane = 0; plane < 8; ++plane)
      b.storeWords({halves[0][plane], halves[1][plane]}, b.offset(to, b.add(place, 32 * static_cast<int64_t>(plane))));
  });
}

Value device::quantizeRow(DeviceBuilder &b, const RowSource &source, const RowSource::Block &block,
                          ArrayRef<Value> columns, ArrayRef<Value> there, Value alpha, Value to, Value bytes) {
  SmallVector<Values> fours(columns.size());
  source.makeRow(b, block, columns, there, [&](size_t i, const Values &four) {
    fours[i] = four;
    if (alpha)
      for (auto [x, factor] : llvm::zip(fours[i], loadColumns(b, alpha, columns[i], 4, block.k, true, b.f16(), true)))
        x = b.mul(x, b.toFloat(factor));
  });
  // Magnitudes are ordered like the integers that they lie in. Columns that are another lane's change nothing.
  Value most = b.i32(0);
  for (const Values &four : fours)
    for (Value x : four)
      most = b.max(most, b.andWord(b.bitcast(x, b.i32()), 0x7fffffff));
  for (int64_t distance = 16; distance; distance /= 2)
    most = b.max(most, b.exchange(most, distance));
  int64_t warps = block.threads / 32;
  Value all = b.sharedMemory(block.module, block.kernel + "_largest", 4 * warps), thread = b.threadX();
  b.when(b.equal(b.andWord(thread, 31), b.i32(0)),
         [&] { b.store(most, b.element(all, b.shrWord(thread, 5), b.i32())); });
  b.barrier();
  for (int64_t warp = 0; warp < warps; warp += 4)
    for (Value word : b.words(b.offset(all, 4 * warp), std::min<int64_t>(4, warps)))
      most = b.max(most, word);
  // What is infinite counts as the largest number, so that the others are numbers.
  Value largest = b.bitcast(b.min(most, b.i32(0x7f7fffff)), b.f32());
  Value factor = b.select(b.less(b.f32(0), largest), b.div(b.f32(127), largest), b.f32(0));
  for (auto [i, four] : llvm::enumerate(fours)) {
    Values words;
    for (Value x : four) {
      // Beside 1.5·2^23 a number is rounded to an integer, whose lowest byte is the sum's.
      Value scaled = b.min(b.max(b.mul(x, factor), b.f32(-127)), b.f32(127));
      words.push_back(b.bitcast(b.add(scaled, b.f32(0x1.8p23)), b.i32()));
    }
    Value low = b.bytePermute(words[0], words[1], 0x0040), high = b.bytePermute(words[2], words[3], 0x0040);
    Value word = b.bytePermute(low, high, 0x5410);
    Value at =
        bytes ? b.offset(bytes, b.add(columns[i], b.mul(b.shrWord(columns[i], 8), kPlaneBlockBytes - kBlockColumns)))
              : b.offset(to, columns[i]);
    b.when(there[i], [&] { b.store(word, at); });
  }
  if (bytes) {
    b.barrier();
    storePlanes(b, bytes, block.k, block.threads, to);
  }
  return b.mul(largest, b.f32(1.0 / 127));
}

std::string device::getOrCreateBytePack(OpBuilder &builder, Location loc, mlir::gpu::GPUModuleOp module,
                                        const RowSource &source, int64_t k, bool scaled) {
  std::string name = "pack_k" + std::to_string(k) + "_a8" + source.name() + (scaled ? "_scaled" : "");
  OpBuilder::InsertionGuard guard(builder);
  DeviceBuilder b(builder, loc);
  SmallVector<Type> types = argumentTypes(b, source);
  size_t own = types.size();
  types.append(2 + scaled, b.globalPtr());
  auto kernel = DeviceBuilder::beginKernel(builder, module, loc, name, types, kBytePackThreads);
  if (!kernel)
    return name;
  ValueRange arguments = kernel.getArguments();
  RowSource::Block block = {
      module, name, kBytePackThreads, k, llvm::to_vector(arguments.take_front(own)), b.blockY(), b.i32(1), 1, {}};
  auto [columns, there] = foursFrom(b, b.mul(b.threadX(), 4), packedColumns(k), kBytePackThreads, k);
  Value row = b.zeroExtend(b.blockY(), b.i64());
  Value scale = quantizeRow(b, source, block, columns, there, scaled ? arguments[own + 2] : Value(),
                            b.offset(arguments[own], b.mul(row, packedColumns(k))));
  b.when(b.equal(b.threadX(), b.i32(0)), [&] { b.store(scale, b.element(arguments[own + 1], row, b.f32())); });
  return name;
}
