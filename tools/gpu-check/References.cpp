// What linears should give, from the reference decoder: no kernel has a part in it.
#include "Pack.h"

#include "skim/Reference/Activation.h"
#include "skim/Reference/Decode.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Support/Float16.h"
#include "skim/Target/GPU/Tiles.h"

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

using namespace mlir;
using namespace skim;
using namespace skim::gpucheck;

namespace {
struct Shape {
  int64_t n, k, rows;
};
/// Of every schedule (1 to 8 rows, tiles of 16, slabs of 64), with whole blocks and without.
constexpr Shape kShapes[] = {{40, 1376, 1}, {33, 130, 5}, {129, 1024, 16}, {40, 1376, 70}};
constexpr Shape kQuickShapes[] = {{48, 320, 1}, {33, 130, 5}, {48, 320, 16}};
} // namespace

Fill gpucheck::fillOf(const Component &component) {
  Type type = component.type.getElementType();
  if (type.isF32())
    return {0x807FFFFF, 0x3F000000}; // ±[0.5, 1), as the others
  if (type.isF16())
    return {0x83FF83FF, 0x38003800};
  if (type.isBF16())
    return {0x807F807F, 0x3F003F00};
  if (component.kind == ComponentKind::Exponents)
    return {0x03030303, 0x7C7C7C7C}; // 2^−3 to 1
  return {0xFFFFFFFF, 0};
}

Expected<Term> gpucheck::termOf(MLIRContext &context, const std::string &format) {
  std::string activations, error;
  WeightEncoding term = parseTerm(format, &context, activations, error);
  if (!term)
    return fail("invalid format", "", "a term such as w4g128, k3 or #skim....", format, error);
  return Term{term, activations.empty() ? "f16" : activations};
}

/// All leaves that have kernels and a package may hold, and what can be around them.
static std::vector<std::string> formats(int64_t n, bool quick) {
  std::string half = std::to_string(n / 2), rest = std::to_string(n - n / 2);
  std::string rows = "#skim.rows<[#skim.codebook<bits = 2> : " + half +
                     ", #skim.uniform<bits = 3, group = 32, asymmetric> : " + rest + "]>";
  std::string nested = "#skim.low_rank<#skim.scaled<#skim.codebook<bits = 3>>, rank = 16, factors = #skim.dense<f16>>";
  if (quick)
    return {"w4g128", "k3", "w2-a8", "k3i-a8", rows, nested};
  return {"f16",
          "bf16",
          "w8",
          "w4g128",
          "w4g32a",
          "w3g64",
          "w2",
          "k1",
          "k2",
          "k3",
          "k4",
          "k3i",
          "mx4",
          "p2",
          "w2-a8",
          "w4g128-a8",
          "w8-a8",
          "k3i-a8",
          "p3b-a8",
          "k3+r32",
          "#skim.scaled<#skim.uniform<bits = 4, group = 128, asymmetric>>",
          rows,
          nested,
          "#skim.low_rank<#skim.scaled<" + rows + ">, rank = 8, factors = #skim.block_float<bits = 8, block = 16>>"};
}

static std::vector<uint8_t> randomComponent(const Component &component, std::mt19937 &random) {
  std::vector<uint8_t> bytes(component.getBits() / 8);
  Type type = component.type.getElementType();
  size_t count = static_cast<size_t>(component.type.getNumElements());
  if (component.kind == ComponentKind::Permutation) {
    std::vector<uint16_t> order(count);
    std::iota(order.begin(), order.end(), uint16_t(0));
    std::shuffle(order.begin(), order.end(), random);
    std::memcpy(bytes.data(), order.data(), bytes.size());
  } else if (isa<FloatType>(type)) {
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < count; ++i) {
      float value = normal(random);
      uint16_t half = type.isBF16() ? f32ToBF16(value) : f32ToF16(value);
      if (type.isF32())
        std::memcpy(&bytes[4 * i], &value, 4);
      else
        std::memcpy(&bytes[2 * i], &half, 2);
    }
  } else {
    for (uint8_t &byte : bytes)
      byte = static_cast<uint8_t>(component.kind == ComponentKind::Exponents ? 124 + random() % 6 : random());
  }
  return bytes;
}

/// True if decoded numbers are exact in f16 and scales apply to sums, in f32; as GPULinearTest has it.
static bool isExact(StringRef format) {
  static const char *const kRounded[] = {"f32", "bf16", "+r", "scaled", "low_rank"};
  return llvm::none_of(kRounded, [&](const char *part) { return format.contains(part); });
}

static void append(std::string &data, const void *from, size_t bytes) {
  data.append(static_cast<const char *>(from), bytes);
}

Expected<Json> gpucheck::makeReferences(MLIRContext &context, bool quick, std::string &data) {
  ArrayRef<Shape> shapes = quick ? ArrayRef(kQuickShapes) : ArrayRef(kShapes);
  int64_t most = 0;
  for (const Shape &shape : shapes)
    most = std::max(most, shape.rows * shape.k);
  // Of so few bits that rounding to f16 leaves them alone.
  std::mt19937 random(7);
  std::vector<float> x(static_cast<size_t>(most));
  for (float &value : x)
    value = static_cast<float>(static_cast<int>(random() % 129) - 64) / 16;
  append(data, x.data(), x.size() * 4);
  Json cases = Json::array();
  for (const Shape &shape : shapes)
    for (const std::string &format : formats(shape.n, quick)) {
      Expected<Term> term = termOf(context, format);
      if (!term)
        return term.takeError();
      auto components = getComponents(term->weight, {shape.n, shape.k});
      auto tiled = tiledComponents(term->weight, {shape.n, shape.k});
      std::vector<std::vector<uint8_t>> canonical;
      Json weights = Json::array();
      for (auto [index, component] : llvm::enumerate(components)) {
        canonical.push_back(randomComponent(component, random));
        std::vector<uint8_t> packed(static_cast<size_t>(tiled[index].bytes(canonical.back().size())));
        packTiles(tiled[index], canonical.back(), packed);
        data.resize((data.size() + 15) / 16 * 16);
        weights.push_back({{"at", data.size()}, {"bytes", packed.size()}});
        append(data, packed.data(), packed.size());
      }
      std::vector<ArrayRef<uint8_t>> views(canonical.begin(), canonical.end());
      std::vector<float> values = decodeWeight(term->weight, {shape.n, shape.k}, views);
      if (values.empty())
        return fail("no reference for a format", "", "a term that lib/Reference decodes", format);
      std::vector<float> results, allowed;
      for (int64_t row = 0; row < shape.rows; ++row) {
        ArrayRef<float> ofRow = ArrayRef(x).slice(row * shape.k, shape.k);
        std::vector<double> own(ofRow.begin(), ofRow.end());
        if (term->mode == "a8")
          own = reference::roundToBytes(ofRow);
        for (int64_t i = 0; i < shape.n; ++i) {
          double sum = 0, size = 0;
          for (int64_t j = 0; j < shape.k; ++j) {
            double product = double(values[static_cast<size_t>(i * shape.k + j)]) * own[static_cast<size_t>(j)];
            sum += product;
            size += std::abs(product);
          }
          results.push_back(static_cast<float>(sum));
          // Of the sum of magnitudes: sums in f32; else four roundings to f16 (x·α, scale, weight, t = A·x).
          allowed.push_back(static_cast<float>(size * (isExact(format) ? 4e-6 : 4 * 0x1p-11) + 1e-6));
        }
      }
      data.resize((data.size() + 15) / 16 * 16);
      cases.push_back({{"format", format},
                       {"n", shape.n},
                       {"k", shape.k},
                       {"rows", shape.rows},
                       {"check", true},
                       {"weights", std::move(weights)},
                       {"expected", data.size()}});
      append(data, results.data(), results.size() * 4);
      append(data, allowed.data(), allowed.size() * 4);
    }
  return cases;
}
