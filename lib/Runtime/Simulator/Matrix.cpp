//===- Matrix.cpp - ldmatrix and mma.sync -----------------------------------===//
//
// Which element lies in which register of which lane: PTX ISA, "Matrix
// fragments". A register of A holds e = 32/bits elements; lane l = 4g + t has, in
// register r, row g + 8·(r mod 2) and columns e·t + 4e·⌊r/2⌋ …; of B, column g
// and rows e·t + 4e·r …; of the sums, rows g + 8·⌊r/2⌋ and columns 2t + r mod 2.
//
//===----------------------------------------------------------------------===//

#include "Block.h"
#include "skim/Support/Float16.h"

#include <cstring>

using namespace skim;
using namespace skim::sim;

void Block::loadMatrices(const Group &group) {
  uint32_t count = static_cast<uint32_t>(group.op->params[0]);
  bool transposed = group.op->params[1];
  uint64_t addresses[kWarp];
  for (uint32_t index = 0; index < kWarp; ++index)
    addresses[index] = lane(group.warp, index).in[0];
  // A row goes to other lanes than the one that names it, so two are said to read it: whoever of the warp wrote it
  // since the last synchronisation is another thread than one of them.
  for (uint32_t index = 0; index < 8 * count; ++index) {
    uint16_t reader = static_cast<uint16_t>(group.warp * kWarp + (index + 1) % kWarp);
    uint16_t own = static_cast<uint16_t>(group.warp * kWarp + index);
    if (!touchShared(group, index, addresses[index], 16, Touch::Read, own) ||
        !touchShared(group, index, addresses[index], 16, Touch::Read, reader))
      return;
  }
  group.counters->bytes += 128 * uint64_t(count);
  for (uint32_t matrix = 0; matrix < count; ++matrix)
    countBanks(group, 0xFFu << (8 * matrix), addresses, 16);
  for (uint32_t index = 0; index < kWarp; ++index)
    for (uint32_t matrix = 0; matrix < count; ++matrix) {
      uint16_t pair[2];
      for (uint32_t i = 0; i < 2; ++i) {
        uint32_t row = index / 4, column = 2 * (index % 4) + i;
        if (transposed)
          std::swap(row, column);
        std::memcpy(&pair[i], shared + (addresses[8 * matrix + row] - SKIM_SIM_SHARED_BASE) + 2 * column, 2);
      }
      lane(group.warp, index).out[matrix] = pair[0] | uint32_t(pair[1]) << 16;
    }
}

static uint32_t bitsOf(Element type) {
  switch (type) {
  case Element::F16:
  case Element::BF16:
    return 16;
  case Element::S8:
  case Element::U8:
    return 8;
  case Element::B1:
    return 1;
  default:
    return 32;
  }
}

/// Element i of a register, as f32.
static float floatIn(Element type, uint32_t word, uint32_t i) {
  uint16_t half = static_cast<uint16_t>(word >> (16 * i));
  return type == Element::F16 ? f16ToF32(half) : bf16ToF32(half);
}

static int32_t integerIn(Element type, uint32_t word, uint32_t i) {
  if (type == Element::B1)
    return static_cast<int32_t>(word >> i & 1);
  uint8_t byte = static_cast<uint8_t>(word >> (8 * i));
  return type == Element::S8 ? static_cast<int8_t>(byte) : byte;
}

/// D = A·B + C over all registers of the warp; `read(type, word, i)` gives an
/// element, `step` adds a product.
template <typename T, typename Read, typename Step>
static void product(const uint32_t *const *in, T (*sums)[8], uint32_t m, uint32_t k, Element typeA, Element typeB,
                    Read read, Step step) {
  static thread_local T a[16][256], b[256][8];
  uint32_t each = 32 / bitsOf(typeA), rows = m / 8;
  uint32_t registersA = rows * (k / (4 * each)), registersB = k / (4 * each);
  for (uint32_t index = 0; index < kWarp; ++index) {
    uint32_t g = index / 4, t = index % 4;
    for (uint32_t r = 0; r < registersA; ++r)
      for (uint32_t i = 0; i < each; ++i)
        a[g + 8 * (r % rows)][each * t + i + 4 * each * (r / rows)] = read(typeA, in[index][r], i);
    for (uint32_t r = 0; r < registersB; ++r)
      for (uint32_t i = 0; i < each; ++i)
        b[each * t + i + 4 * each * r][g] = read(typeB, in[index][registersA + r], i);
  }
  for (uint32_t row = 0; row < m; ++row)
    for (uint32_t j = 0; j < k; ++j)
      for (uint32_t column = 0; column < 8; ++column)
        sums[row][column] = step(sums[row][column], a[row][j], b[j][column]);
}

void Block::multiply(const Group &group) {
  const auto &params = group.op->params;
  uint32_t m = static_cast<uint32_t>(params[0]), k = static_cast<uint32_t>(params[2]);
  auto typeA = static_cast<Element>(params[3]), typeB = static_cast<Element>(params[4]);
  auto typeC = static_cast<Element>(params[6]);
  bool ands = params[5];
  group.counters->products += uint64_t(m) * 8 * k;
  uint32_t each = 32 / bitsOf(typeA);
  uint32_t before = (m / 8 + 1) * (k / (4 * each)); // registers of A and B
  const uint32_t *in[kWarp];
  for (uint32_t index = 0; index < kWarp; ++index)
    in[index] = lane(group.warp, index).in;

  // Sum r of a lane; two f16 share a register.
  auto forSums = [&](auto body) {
    for (uint32_t index = 0; index < kWarp; ++index)
      for (uint32_t r = 0; r < m / 4; ++r)
        body(index, r, index / 4 + 8 * (r / 2), 2 * (index % 4) + r % 2);
  };
  if (typeC == Element::S32) {
    int32_t sums[16][8];
    forSums([&](uint32_t index, uint32_t r, uint32_t row, uint32_t column) {
      sums[row][column] = static_cast<int32_t>(in[index][before + r]);
    });
    // Wrapping, as the hardware without satfinite.
    auto add = [](int32_t sum, int32_t value) {
      return static_cast<int32_t>(static_cast<uint32_t>(sum) + static_cast<uint32_t>(value));
    };
    if (typeA == Element::B1)
      product(in, sums, m, k, typeA, typeB, integerIn,
              [&](int32_t sum, int32_t a, int32_t b) { return add(sum, ands ? a & b : a ^ b); });
    else
      product(in, sums, m, k, typeA, typeB, integerIn,
              [&](int32_t sum, int32_t a, int32_t b) { return add(sum, a * b); });
    forSums([&](uint32_t index, uint32_t r, uint32_t row, uint32_t column) {
      lane(group.warp, index).out[r] = static_cast<uint32_t>(sums[row][column]);
    });
    return;
  }
  float sums[16][8];
  forSums([&](uint32_t index, uint32_t r, uint32_t row, uint32_t column) {
    sums[row][column] = typeC == Element::F32 ? std::bit_cast<float>(in[index][before + r])
                                              : floatIn(Element::F16, in[index][before + r / 2], r % 2);
  });
  product(in, sums, m, k, typeA, typeB, floatIn, [](float sum, float a, float b) { return sum + a * b; });
  forSums([&](uint32_t index, uint32_t r, uint32_t row, uint32_t column) {
    uint32_t *out = lane(group.warp, index).out;
    if (typeC == Element::F32) {
      out[r] = std::bit_cast<uint32_t>(sums[row][column]);
    } else {
      uint32_t half = f32ToF16(sums[row][column]);
      out[r / 2] = r % 2 ? out[r / 2] | half << 16 : half;
    }
  });
}
