//===- TilesTest.cpp - how weights lie for GPUs -----------------------------===//

#include "skim/Target/GPU/Tiles.h"
#include "skim/Skim/SkimDialect.h"

#include <bit>
#include <gtest/gtest.h>
#include <numeric>
#include <random>

using namespace mlir;
using namespace skim;

namespace {
using Bytes = std::vector<uint8_t>;

/// Canonical rows of random codes, as `component` says that they are before packing.
Bytes randomRows(const TiledComponent &component, std::mt19937 &random) {
  Bytes bytes(component.rows * component.rowBytes());
  auto set = [&](int64_t row, int64_t bit) {
    bytes[row * component.rowBytes() + bit / 8] |= static_cast<uint8_t>((random() & 1) << (bit % 8));
  };
  int64_t planeBytes = (component.columns + 7) / 8;
  for (int64_t row = 0; row < component.rows; ++row)
    for (int64_t column = 0; column < component.columns; ++column)
      for (int64_t b = 0; b < component.bits; ++b)
        set(row, component.kind == TiledComponent::Planes ? 8 * b * planeBytes + column : column * component.bits + b);
  return bytes;
}
} // namespace

TEST(Tiles, AreInvertible) {
  std::mt19937 random(1);
  for (auto kind : {TiledComponent::Codes, TiledComponent::Planes, TiledComponent::Groups})
    for (int64_t bits : {1, 2, 3, 4, 5, 6, 7, 8, 16, 32})
      for (auto [rows, columns] : {std::pair<int64_t, int64_t>{1, 1}, {15, 37}, {16, 32}, {33, 130}, {48, 1163}})
        for (auto order : {CodeOrder::Adjacent, CodeOrder::Split, CodeOrder::Bytes}) {
          if ((kind == TiledComponent::Groups && bits % 8) || (kind == TiledComponent::Planes && bits > 8))
            continue;
          SCOPED_TRACE(testing::Message() << "kind " << kind << " bits " << bits << ", " << rows << "x" << columns);
          TiledComponent component{kind, rows, columns, bits, order};
          Bytes rowsOfCodes = randomRows(component, random), back(rowsOfCodes.size());
          Bytes packed(component.bytes(rowsOfCodes.size()), 0xff);
          EXPECT_EQ(packed.size(), rowsOfCodes.size() / rows * ((rows + 15) / 16 * 16));
          packTiles(component, rowsOfCodes, packed, 2);
          unpackTiles(component, packed, back, 3);
          EXPECT_EQ(back, rowsOfCodes);
          // Nothing but the bits that there are.
          auto ones = [](const Bytes &bytes) {
            return std::accumulate(bytes.begin(), bytes.end(), 0,
                                   [](int sum, uint8_t byte) { return sum + std::popcount(byte); });
          };
          EXPECT_EQ(ones(packed), ones(rowsOfCodes));
          if (kind == TiledComponent::Codes && bits > 2 && rows >= 16 && columns > 64)
            EXPECT_NE(packed, rowsOfCodes);
        }
}

TEST(Tiles, CodesLieWhereTheFragmentWantsThem) {
  // Row 11 (g = 3, h = 1), column 256 + 3·32 + 2·8 + 5: block 1, step 3 (G = 0, s = 3), t = 2, j = 5.
  TiledComponent component{TiledComponent::Codes, 16, 512, 3, CodeOrder::Adjacent};
  Bytes rows(16 * component.rowBytes()), packed(rows.size());
  int64_t bit = (256 + 3 * 32 + 2 * 8 + 5) * 3;
  for (int64_t i : {bit, bit + 2})
    rows[11 * component.rowBytes() + i / 8] |= static_cast<uint8_t>(1 << (i % 8));
  packTiles(component, rows, packed);
  Bytes expected(rows.size());
  int64_t lane = 4 * 3 + 2;
  for (int64_t word : {0, 2}) // bits 0 and 2 of a fourth step are the top bits of words 0 and 2
    expected[1536 + word * 512 + lane * 16 + 1 * 4 + (4 * 5 + 3) / 8] = 1 << ((4 * 5 + 3) % 8);
  EXPECT_EQ(packed, expected);
}

TEST(Tiles, HaveAllComponents) {
  MLIRContext context;
  context.loadDialect<SkimDialect>();
  for (const char *text :
       {"f16", "f32", "w4g128", "w3g64", "w4g32a", "k3", "k4", "k8i", "mx4", "mx8", "p2", "p3b", "p2b",
        "#skim.scaled<#skim.codebook<bits = 3>>", "#skim.uniform<bits = 4, group = 32, asymmetric, zero = f16>",
        "#skim.low_rank<#skim.rows<[#skim.codebook<bits = 2> : 20, #skim.planes<bits = 3> : 13]>, rank = 8, factors = "
        "#skim.block_float<bits = 8, block = 16>>"}) {
    SCOPED_TRACE(text);
    std::string activations, error;
    WeightEncoding term = parseTerm(text, &context, activations, error);
    ASSERT_TRUE(term) << error;
    auto components = getComponents(term, {33, 130});
    auto tiled = tiledComponents(term, {33, 130});
    ASSERT_EQ(components.size(), tiled.size());
    int64_t moved = 0;
    for (auto [component, tiles] : llvm::zip(components, tiled)) {
      moved += tiles.kind != TiledComponent::Canonical;
      if (tiles.kind != TiledComponent::Canonical)
        EXPECT_EQ(tiles.rows * tiles.rowBytes() * 8, component.getBits()) << component.name;
    }
    EXPECT_GT(moved, 0);
  }
}
