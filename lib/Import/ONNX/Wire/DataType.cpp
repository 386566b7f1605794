#include "skim/Import/ONNX/Wire.h"

using namespace skim::wire;

namespace {
struct Row {
  const char *name;
  unsigned bits;
};
} // namespace

// Indexed by the number in onnx.proto.
static constexpr Row kTypes[] = {
    {"UNDEFINED", 0},      {"FLOAT", 32},    {"UINT8", 8},        {"INT8", 8},           {"UINT16", 16},
    {"INT16", 16},         {"INT32", 32},    {"INT64", 64},       {"STRING", 0},         {"BOOL", 8},
    {"FLOAT16", 16},       {"DOUBLE", 64},   {"UINT32", 32},      {"UINT64", 64},        {"COMPLEX64", 64},
    {"COMPLEX128", 128},   {"BFLOAT16", 16}, {"FLOAT8E4M3FN", 8}, {"FLOAT8E4M3FNUZ", 8}, {"FLOAT8E5M2", 8},
    {"FLOAT8E5M2FNUZ", 8}, {"UINT4", 4},     {"INT4", 4},         {"FLOAT4E2M1", 4},     {"FLOAT8E8M0", 8},
    {"UINT2", 2},          {"INT2", 2}};

static const Row *find(DataType type) {
  size_t index = static_cast<size_t>(static_cast<uint32_t>(type));
  return index < sizeof(kTypes) / sizeof(kTypes[0]) ? &kTypes[index] : nullptr;
}

unsigned skim::wire::bitWidth(DataType type) {
  const Row *row = find(type);
  return row ? row->bits : 0;
}

std::string skim::wire::name(DataType type) {
  const Row *row = find(type);
  return row ? row->name : "data type " + std::to_string(static_cast<int32_t>(type));
}
