#include "skim/Runtime/SimulatedProduct.h"
#include "skim/Support/Float16.h"

#include <algorithm>

using namespace skim;

/// Halves from memory, as floats.
static Error read(sim::Device &device, sim::Address from, bool bf16, std::vector<float> &to) {
  std::vector<uint16_t> halves(to.size());
  if (Error error = device.copyOut(halves.data(), from, halves.size() * 2))
    return error;
  std::transform(halves.begin(), halves.end(), to.begin(),
                 [&](uint16_t half) { return bf16 ? bf16ToF32(half) : f16ToF32(half); });
  return Error::success();
}

Error sim::multiply(Device &device, const Product &product, Address w, Address x, Address y) {
  auto n = static_cast<size_t>(product.n), k = static_cast<size_t>(product.k);
  std::vector<float> weight(n * k), row(k), sums(n);
  std::vector<uint16_t> halves(product.floats ? 0 : n);
  if (Error error = read(device, w, product.bf16, weight))
    return error;
  for (int64_t r = 0; r < product.rows; ++r) {
    if (Error error = read(device, x + static_cast<Address>(r * product.k * 2), product.bf16, row))
      return error;
    Address to = y + static_cast<Address>(r * product.stride * (product.floats ? 4 : 2));
    std::fill(sums.begin(), sums.end(), 0.0f);
    if (product.add)
      if (Error error = device.copyOut(sums.data(), to, n * 4))
        return error;
    for (size_t column = 0; column < n; ++column) {
      float sum = 0;
      for (size_t i = 0; i < k; ++i)
        sum += row[i] * weight[column * k + i];
      sums[column] += sum;
    }
    if (!product.floats)
      std::transform(sums.begin(), sums.end(), halves.begin(), f32ToF16);
    if (Error error = product.floats ? device.copyIn(to, sums.data(), n * 4) : device.copyIn(to, halves.data(), n * 2))
      return error;
  }
  return Error::success();
}
