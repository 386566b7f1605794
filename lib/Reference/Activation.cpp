//===- Activation.cpp - activation encodings, slowly ------------------------===//

#include "skim/Reference/Activation.h"

#include <algorithm>
#include <cmath>

using namespace mlir;
using namespace skim;
using namespace skim::reference;

using Row = std::vector<double>;

/// One token (of one head): s·(q − z), s in f32.
static void quantizeToken(PerTokenAttr encoding, Row &row) {
  unsigned bits = encoding.getBits();
  double least = *std::min_element(row.begin(), row.end()), most = *std::max_element(row.begin(), row.end());
  if (!encoding.getAsymmetric()) {
    double limit = (1 << (bits - 1)) - 1;
    float scale = static_cast<float>(std::max(std::fabs(least), std::fabs(most)) / limit);
    for (double &x : row)
      x = scale == 0 ? 0 : scale * std::clamp(std::nearbyint(x / scale), -limit, limit);
    return;
  }
  double levels = (1 << bits) - 1;
  float scale = static_cast<float>(std::max((most - least) / levels, 1e-5));
  double zero = std::nearbyint(-least / scale);
  for (double &x : row)
    x = scale * (std::clamp(std::nearbyint(x / scale) + zero, 0.0, levels) - zero);
}

/// One block under its exponent; LQER's ⌈log2 max⌉, the OCP formats' ⌊log2 max⌋.
static void quantizeBlock(BlockFloatAttr encoding, double *begin, int64_t count) {
  int bits = static_cast<int>(encoding.getBits());
  double most = 0;
  for (int64_t i = 0; i < count; ++i)
    most = std::max(most, std::fabs(begin[i]));
  if (most == 0)
    return;
  int exponent;
  double fraction = std::frexp(most, &exponent); // most = fraction · 2^exponent, fraction in [½, 1)
  double step, least, limit;
  switch (encoding.getElement()) {
  case BlockElement::Int:
    exponent = std::clamp(fraction == 0.5 ? exponent - 1 : exponent, -127, 128);
    limit = (1 << (bits - 1)) - 1;
    least = -limit;
    step = std::ldexp(1.0, exponent - bits + 1);
    break;
  case BlockElement::OcpInt:
    exponent = std::clamp(exponent - 1, -127, 127);
    limit = (1 << (bits - 1)) - 1;
    least = -limit - 1;
    step = std::ldexp(1.0, exponent - bits + 2);
    break;
  case BlockElement::E2M1: {
    // The largest element is 6 = 1½ · 2²; halves of powers of two are its grid.
    exponent = std::clamp(exponent - 1 - 2, -127, 127);
    for (int64_t i = 0; i < count; ++i) {
      double x = std::fabs(std::ldexp(begin[i], -exponent));
      double grid = x < 2 ? 0.5 : x < 4 ? 1 : 2;
      x = std::min(6.0, grid * std::nearbyint(x / grid));
      begin[i] = std::copysign(std::ldexp(x, exponent), begin[i]);
    }
    return;
  }
  }
  for (int64_t i = 0; i < count; ++i)
    begin[i] = step * std::clamp(std::nearbyint(begin[i] / step), least, limit);
}

std::optional<Tensor> skim::reference::quantizeActivation(const Tensor &input, Attribute encoding) {
  auto token = dyn_cast<PerTokenAttr>(encoding);
  auto blocks = dyn_cast<BlockFloatAttr>(encoding);
  if (!token && !blocks)
    return std::nullopt;
  Tensor result(input.getElementType(), input.getShape());
  int64_t size = input.getDim(-1), count = input.getNumElements();
  for (int64_t begin = 0; begin < count; begin += size) {
    Row row(size);
    for (int64_t i = 0; i < size; ++i)
      row[i] = input.at(begin + i);
    if (token)
      quantizeToken(token, row);
    else
      for (int64_t i = 0; i < size; i += blocks.getBlock())
        quantizeBlock(blocks, row.data() + i, std::min(blocks.getBlock(), size - i));
    for (int64_t i = 0; i < size; ++i)
      result.set(begin + i, row[i]);
  }
  return result;
}

std::vector<double> skim::reference::roundToBytes(ArrayRef<float> x, ArrayRef<float> alpha) {
  auto scaled = [&](size_t j) { return alpha.empty() ? x[j] : x[j] * alpha[j]; };
  float largest = 0;
  for (size_t j = 0; j < x.size(); ++j)
    largest = std::max(largest, std::fabs(scaled(j)));
  float factor = largest > 0 ? 127 / largest : 0, scale = largest * (1.0f / 127);
  std::vector<double> result;
  for (size_t j = 0; j < x.size(); ++j) {
    double byte = std::nearbyint(scaled(j) * factor);
    result.push_back(byte * scale / (alpha.empty() ? 1 : static_cast<double>(alpha[j])));
  }
  return result;
}
