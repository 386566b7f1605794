//===- RandomWeights.h - weights in every format, for sweeps ----*- C++ -*-===//
#ifndef SKIM_TEST_UNIT_TARGET_RANDOMWEIGHTS_H
#define SKIM_TEST_UNIT_TARGET_RANDOMWEIGHTS_H

#include "skim/Reference/Decode.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Support/Float16.h"

#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace skim {

inline const char *const kTerms[] = {
    "f32",
    "f16",
    "bf16",
    "w4g128",
    "w4g32a",
    "w3g64",
    "w2",
    "w1a",
    "w5g128",
    "w6g32a",
    "w8",
    "w7g128a",
    "#skim.uniform<bits = 4, group = 20, asymmetric>",
    "#skim.uniform<bits = 3, group = 8, asymmetric>",
    "#skim.uniform<bits = 4, group = 32, asymmetric, zero = f16>",
    "#skim.uniform<bits = 4, group = 64, scale = f32>",
    "k1",
    "k2",
    "k3",
    "k4",
    "k5",
    "k6",
    "k7",
    "k8",
    "k3i",
    "k8i",
    "#skim.codebook<bits = 4, table = bf16, scope = tensor>",
    "#skim.codebook<bits = 2, table = i8, scope = tensor>",
    "mx4",
    "mx8",
    "mx2",
    "#skim.block_float<bits = 4, block = 32, element = e2m1>",
    "#skim.block_float<bits = 8, block = 32, element = ocp_int>",
    "#skim.block_float<bits = 6, block = 24>",
    "p2",
    "p2b",
    "p3b",
    "#skim.planes<bits = 3, group = 32>",
    "#skim.scaled<#skim.codebook<bits = 3>>",
    "#skim.scaled<#skim.uniform<bits = 4, group = 128, asymmetric>>",
};

/// Terms whose parts depend on the shape.
inline std::vector<std::string> nestedTerms(int64_t n, int64_t k) {
  std::vector<std::string> terms;
  int64_t rank = std::min<int64_t>({n, k, 8});
  terms.push_back("#skim.low_rank<#skim.codebook<bits = 3>, rank = " + std::to_string(rank) +
                  ", factors = #skim.block_float<bits = 8, block = 16>>");
  if (n < 2)
    return terms;
  std::string rows = "#skim.rows<[#skim.codebook<bits = 2> : " + std::to_string(n / 2) +
                     ", #skim.uniform<bits = 3, group = 32, asymmetric> : " + std::to_string(n - n / 2) + "]>";
  terms.push_back(rows);
  terms.push_back("#skim.low_rank<#skim.scaled<" + rows + ">, rank = " + std::to_string(rank) +
                  ", factors = #skim.dense<f16>>");
  return terms;
}

/// A weight with random components that hold no infinities.
struct RandomWeight {
  std::string text;
  WeightEncoding term;
  std::vector<std::vector<uint8_t>> bytes; // canonical components
  std::vector<float> values;               // what they mean
};

inline void putFloat(std::vector<uint8_t> &bytes, mlir::Type type, size_t i, float value) {
  if (type.isF32()) {
    std::memcpy(&bytes[4 * i], &value, 4);
    return;
  }
  uint16_t half = type.isBF16() ? f32ToBF16(value) : f32ToF16(value);
  std::memcpy(&bytes[2 * i], &half, 2);
}

inline RandomWeight randomWeight(mlir::MLIRContext &context, const std::string &text, int64_t n, int64_t k,
                                 std::mt19937 &random) {
  RandomWeight weight;
  weight.text = text;
  std::string activations, error;
  weight.term = parseTerm(text, &context, activations, error);
  if (!weight.term)
    return weight;
  std::normal_distribution<float> normal;
  std::vector<llvm::ArrayRef<uint8_t>> views;
  for (const Component &component : getComponents(weight.term, {n, k})) {
    std::vector<uint8_t> bytes(component.getBits() / 8);
    mlir::Type type = component.type.getElementType();
    size_t count = component.type.getNumElements();
    if (component.kind == ComponentKind::Permutation) {
      std::vector<uint16_t> order(count);
      for (size_t i = 0; i < count; ++i)
        order[i] = static_cast<uint16_t>(i);
      std::shuffle(order.begin(), order.end(), random);
      std::memcpy(bytes.data(), order.data(), bytes.size());
    } else if (mlir::isa<mlir::FloatType>(type)) {
      for (size_t i = 0; i < count; ++i)
        putFloat(bytes, type, i, normal(random));
    } else {
      for (uint8_t &byte : bytes)
        byte = static_cast<uint8_t>(component.kind == ComponentKind::Exponents ? 124 + random() % 6 : random());
      bool five = llvm::StringRef(text).starts_with("p2b") && component.kind == ComponentKind::Codes;
      if (five) // triples of base five: a zero now and then, else within range by clearing the top bit
        std::fill(bytes.begin(), bytes.end(), static_cast<uint8_t>(random() & 0x2a));
    }
    weight.bytes.push_back(std::move(bytes));
  }
  for (const std::vector<uint8_t> &bytes : weight.bytes)
    views.push_back(bytes);
  weight.values = decodeWeight(weight.term, {n, k}, views);
  return weight;
}

} // namespace skim

#endif // SKIM_TEST_UNIT_TARGET_RANDOMWEIGHTS_H
