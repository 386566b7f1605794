//===- Decode.h - the encodings decoded, slowly and obviously ---*- C++ -*-===//
//
// Written from the contract's text alone, sharing no code with lib/Quantize.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TEST_UNIT_QUANTIZE_DECODE_H
#define SKIM_TEST_UNIT_QUANTIZE_DECODE_H

#include "skim/Quantize/Matrix.h"

#include <cmath>
#include <cstring>
#include <random>

namespace skim {

inline unsigned readCode(const std::vector<uint8_t> &bytes, uint64_t rowBegin, int64_t k, unsigned bits) {
  unsigned code = 0;
  for (unsigned bit = 0; bit < bits; ++bit) {
    uint64_t position = uint64_t(k) * bits + bit;
    code |= unsigned((bytes[rowBegin + position / 8] >> (position % 8)) & 1) << bit;
  }
  return code;
}

inline float readFloat(DType type, const std::vector<uint8_t> &bytes, uint64_t index) {
  if (type == DType::F32) {
    float value;
    std::memcpy(&value, bytes.data() + 4 * index, 4);
    return value;
  }
  unsigned half = bytes[2 * index] | bytes[2 * index + 1] << 8;
  float sign = half & 0x8000 ? -1.0f : 1.0f;
  int exponentBits = type == DType::F16 ? 5 : 8, mantissaBits = 15 - exponentBits;
  int exponent = (half & 0x7FFF) >> mantissaBits, mantissa = half & ((1 << mantissaBits) - 1);
  int bias = (1 << (exponentBits - 1)) - 1;
  if (exponent == (1 << exponentBits) - 1)
    return mantissa ? NAN : sign * INFINITY;
  if (exponent == 0)
    return sign * std::ldexp(float(mantissa), 1 - bias - mantissaBits);
  return sign * std::ldexp(float(mantissa + (1 << mantissaBits)), exponent - bias - mantissaBits);
}

inline std::vector<float> decode(const QuantizedMatrix &m, const UniformFormat &format) {
  std::vector<float> out;
  const auto &codes = m.find("codes")->bytes, &scales = m.find("scales")->bytes;
  int64_t size = format.group ? format.group : m.columns, groups = m.columns ? (m.columns + size - 1) / size : 0;
  uint64_t codeBytes = (m.columns * format.bits + 7) / 8, zeroBytes = (groups * format.bits + 7) / 8;
  for (int64_t n = 0; n < m.rows; ++n) {
    for (int64_t k = 0; k < m.columns; ++k) {
      int64_t g = k / size;
      float q = float(readCode(codes, n * codeBytes, k, format.bits)), z = 0;
      if (!format.asymmetric)
        q -= float(1 << (format.bits - 1));
      else if (format.floatZero)
        z = readFloat(DType::F16, m.find("zeros")->bytes, n * groups + g);
      else
        z = float(readCode(m.find("zeros")->bytes, n * zeroBytes, g, format.bits));
      out.push_back(readFloat(format.scale, scales, n * groups + g) * (q - z));
    }
  }
  return out;
}

inline std::vector<float> decode(const QuantizedMatrix &m, const CodebookFormat &format) {
  std::vector<float> out;
  const auto &codes = m.find("codes")->bytes, &table = m.find("table")->bytes;
  uint64_t codeBytes = (m.columns * format.bits + 7) / 8;
  for (int64_t n = 0; n < m.rows; ++n) {
    for (int64_t k = 0; k < m.columns; ++k) {
      int64_t row = format.tensorScope ? 0 : n;
      uint64_t entry = (row << format.bits) + readCode(codes, n * codeBytes, k, format.bits);
      if (format.table == DType::I8)
        out.push_back(readFloat(DType::F16, m.find("table_scale")->bytes, row) *
                      float(static_cast<int8_t>(table[entry])));
      else
        out.push_back(readFloat(format.table, table, entry));
    }
  }
  return out;
}

inline std::vector<float> normalValues(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> values(count);
  for (float &value : values)
    value = distribution(random);
  return values;
}

} // namespace skim

#endif // SKIM_TEST_UNIT_QUANTIZE_DECODE_H
