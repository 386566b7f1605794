//===- LayoutTest.cpp - turned codes and back -------------------------------===//

#include "skim/Target/CPU/Layout.h"

#include "skim/Skim/SkimDialect.h"

#include <gtest/gtest.h>
#include <random>

using namespace mlir;
using namespace skim;

static WeightEncoding parse(MLIRContext &context, const std::string &text) {
  std::string activations, message;
  WeightEncoding term = parseTerm(text, &context, activations, message);
  EXPECT_TRUE(term) << text << ": " << message;
  return term;
}

/// Code `column` of a row in the order that #skim.layout's description gives.
static unsigned turnedCode(const std::vector<uint8_t> &row, const TurnedCodes &codes, int64_t column) {
  int64_t word = codes.word, lanes = codes.lanes, bits = codes.bits;
  auto bitAt = [&](int64_t bit) { return row[bit / 8] >> (bit % 8) & 1; };
  unsigned value = 0;
  for (int64_t i = 0; i < bits; ++i) {
    int64_t bit = column * bits + i;
    if (column < codes.columns / codes.block * codes.block) {
      int64_t within = column % codes.block, lane = within % lanes, position = within / lanes * bits + i;
      bit = column / codes.block * codes.block * bits + (position / word * lanes + lane) * word + position % word;
    }
    value |= bitAt(bit) << i;
  }
  return value;
}

TEST(Layout, PackAndUnpackAreInverse) {
  MLIRContext context;
  context.loadDialect<SkimDialect>();
  std::mt19937 random(1);
  const char *terms[] = {"f16",    "w1a",
                         "w2",     "w3g512",
                         "w4",     "w5",
                         "w6g32a", "w7",
                         "w8",     "k1",
                         "k2",     "k3",
                         "k4",     "k5",
                         "k6",     "k7",
                         "k8i",    "mx4",
                         "mx8",    "p2",
                         "p2b",    "#skim.scaled<#skim.codebook<bits = 3>>"};
  std::pair<int64_t, int64_t> shapes[] = {{1, 1}, {3, 5}, {15, 37}, {33, 130}, {65, 576}, {7, 1024}, {2, 1163}};
  size_t turned = 0;
  for (auto [word, lanes] : {std::pair<unsigned, unsigned>{16, 32}, {16, 16}, {32, 16}, {32, 8}}) {
    auto layout = LayoutAttr::get(&context, word, lanes);
    for (auto [n, k] : shapes)
      for (const char *text : terms) {
        SCOPED_TRACE(std::string(text) + " " + std::to_string(n) + "x" + std::to_string(k) + " words " +
                     std::to_string(word));
        WeightEncoding term = parse(context, text);
        SmallVector<Component> components = getComponents(term, {n, k});
        SmallVector<TurnedCodes> all = turnedCodes(term, {n, k}, layout);
        ASSERT_EQ(all.size(), components.size());
        for (auto [codes, component] : llvm::zip(all, components)) {
          if (!codes.block)
            continue;
          ++turned;
          ASSERT_EQ(component.kind, ComponentKind::Codes);
          std::vector<uint8_t> canonical(component.getBits() / 8), packed(canonical.size(), 0xa5), back = packed;
          for (uint8_t &byte : canonical)
            byte = static_cast<uint8_t>(random());
          packCodes(codes, canonical, packed, 2);
          unpackCodes(codes, packed, back, 1);
          EXPECT_EQ(canonical, back);
          TurnedCodes rows = codes;
          rows.block = codes.columns + 1; // none: all columns are behind the blocks
          size_t rowBytes = canonical.size() / n;
          for (int64_t row = 0; row < n; ++row) {
            std::vector<uint8_t> from(canonical.begin() + row * rowBytes, canonical.begin() + (row + 1) * rowBytes);
            std::vector<uint8_t> to(packed.begin() + row * rowBytes, packed.begin() + (row + 1) * rowBytes);
            for (int64_t column = 0; column < k; ++column)
              ASSERT_EQ(turnedCode(from, rows, column), turnedCode(to, codes, column)) << column;
          }
        }
      }
  }
  EXPECT_GT(turned, 100u);
}

TEST(Layout, TurnsWhatHasWholeBlocks) {
  MLIRContext context;
  context.loadDialect<SkimDialect>();
  auto layout = LayoutAttr::get(&context, 16, 32);
  auto blocks = [&](const std::string &term, int64_t n, int64_t k) {
    std::vector<int64_t> result;
    for (const TurnedCodes &codes : turnedCodes(parse(context, term), {n, k}, layout))
      result.push_back(codes.block);
    return result;
  };
  using List = std::vector<int64_t>;
  EXPECT_EQ(blocks("k3", 4, 576), (List{512, 0}));
  EXPECT_EQ(blocks("k3", 4, 511), (List{0, 0}));
  EXPECT_EQ(blocks("k4", 4, 576), (List{128, 0}));
  EXPECT_EQ(blocks("w4g128", 4, 576), (List{128, 0}));
  EXPECT_EQ(blocks("w4g32", 4, 576), (List{0, 0})); // a group ends inside
  EXPECT_EQ(blocks("mx4", 4, 576), (List{0, 0}));
  EXPECT_EQ(blocks("f16", 4, 576), (List{0}));
  EXPECT_EQ(blocks("p2", 4, 576), (List{0, 0, 0}));
  EXPECT_EQ(blocks("#skim.low_rank<#skim.scaled<#skim.rows<[#skim.codebook<bits = 1> : 1, #skim.codebook<bits = 2, "
                   "table = i8> : 3]>>, rank = 2, factors = #skim.block_float<bits = 8, block = 16>>",
                   4, 576),
            (List{512, 0, 256, 0, 0, 0, 0, 0, 0, 0, 0}));
}
