//===- Constants.cpp - numbers of constant tensors --------------------------===//

#include "Constants.h"

#include "mlir/IR/Matchers.h"

#include <cstring>

using namespace mlir;
using namespace skim::raise;

SmallVector<int64_t> skim::raise::stridesOf(RankedTensorType type) {
  SmallVector<int64_t> strides(type.getRank(), 1);
  for (int64_t i = type.getRank() - 2; i >= 0; --i)
    strides[i] = strides[i + 1] * type.getDimSize(i + 1);
  return strides;
}

SmallVector<int64_t> skim::raise::stridesOf(ExternalOp op) {
  if (std::optional<ArrayRef<int64_t>> strides = op.getStrides())
    return SmallVector<int64_t>(*strides);
  return stridesOf(cast<RankedTensorType>(op.getType()));
}

int64_t skim::raise::elementBytes(Type element) { return (element.getIntOrFloatBitWidth() + 7) / 8; }

bool Constants::isConstant(Value value) { return value.getDefiningOp<ExternalOp>() || getDense(value); }

DenseElementsAttr Constants::getDense(Value value) {
  DenseElementsAttr attr;
  if (Operation *op = value.getDefiningOp(); op && matchPattern(op, m_Constant(&attr)))
    return attr;
  return {};
}

std::shared_ptr<const skim::MappedFile> Constants::open(StringRef file) {
  auto [it, inserted] = files.try_emplace(file);
  if (inserted) {
    auto mapped = MappedFile::open(folder.empty() ? file.str() : folder + "/" + file.str());
    if (mapped)
      it->second = std::move(*mapped);
    else if (reason.empty())
      reason = mapped.message();
  }
  return it->second;
}

const uint8_t *Constants::address(ExternalOp op, ArrayRef<int64_t> position) {
  auto type = cast<RankedTensorType>(op.getType());
  if (static_cast<int64_t>(position.size()) != type.getRank() || !type.getElementType().isIntOrFloat())
    return nullptr;
  std::shared_ptr<const MappedFile> file = open(op.getFile());
  if (!file)
    return nullptr;
  int64_t bytes = elementBytes(type.getElementType());
  __int128 offset = 0;
  for (auto [i, size, stride] : llvm::zip_equal(position, type.getShape(), stridesOf(op))) {
    if (i < 0 || i >= size)
      return nullptr;
    offset += static_cast<__int128>(i) * stride;
  }
  offset = offset * bytes + op.getOffset();
  if (offset + bytes > static_cast<__int128>(file->size())) {
    if (reason.empty())
      reason = "constant leaves its file at " + file->path() + ": expected at most " + std::to_string(file->size()) +
               " bytes, got an element beyond them";
    return nullptr;
  }
  return file->begin() + static_cast<int64_t>(offset);
}

/// One element from its bytes.
static double decode(const uint8_t *data, Type element) {
  if (element.isF32()) { // by far the most
    float value;
    std::memcpy(&value, data, sizeof(value));
    return value;
  }
  unsigned width = element.getIntOrFloatBitWidth();
  uint64_t bits = 0;
  std::memcpy(&bits, data, elementBytes(element));
  if (auto type = dyn_cast<FloatType>(element)) {
    llvm::APFloat number(type.getFloatSemantics(), llvm::APInt(width, bits));
    bool loses;
    number.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &loses);
    return number.convertToDouble();
  }
  if (width == 1)
    return bits != 0;
  if (element.isUnsignedInteger())
    return static_cast<double>(bits);
  return static_cast<double>(static_cast<int64_t>(bits << (64 - width)) >> (64 - width));
}

std::optional<double> Constants::element(Value value, ArrayRef<int64_t> position) {
  if (auto external = value.getDefiningOp<ExternalOp>()) {
    const uint8_t *data = address(external, position);
    if (!data)
      return std::nullopt;
    return decode(data, cast<RankedTensorType>(external.getType()).getElementType());
  }
  DenseElementsAttr dense = getDense(value);
  if (!dense)
    return std::nullopt;
  auto type = dyn_cast<RankedTensorType>(dense.getType());
  if (!type || static_cast<int64_t>(position.size()) != type.getRank())
    return std::nullopt;
  int64_t flat = 0;
  for (auto [i, size] : llvm::zip_equal(position, type.getShape())) {
    if (i < 0 || i >= size)
      return std::nullopt;
    flat = flat * size + i;
  }
  Type element = type.getElementType();
  if (isa<FloatType>(element)) {
    llvm::APFloat number = *(dense.value_begin<APFloat>() + flat);
    bool loses;
    number.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &loses);
    return number.convertToDouble();
  }
  if (!isa<IntegerType>(element))
    return std::nullopt;
  llvm::APInt number = *(dense.value_begin<APInt>() + flat);
  bool isUnsigned = element.isUnsignedInteger() || element.isInteger(1);
  return isUnsigned ? static_cast<double>(number.getZExtValue()) : static_cast<double>(number.getSExtValue());
}

bool Constants::equal(ExternalOp a, ExternalOp b) {
  auto type = cast<RankedTensorType>(a.getType());
  if (type != b.getType() || type.getRank() != 2)
    return false;
  int64_t rows = type.getDimSize(0), columns = type.getDimSize(1);
  if (!rows || !columns)
    return false;
  const uint8_t *first[2], *last[2];
  for (auto [op, begin, end] : {std::tuple(a, &first[0], &last[0]), std::tuple(b, &first[1], &last[1])}) {
    *begin = address(op, {0, 0});
    *end = address(op, {rows - 1, columns - 1});
    if (!*begin || !*end)
      return false;
  }
  int64_t bytes = elementBytes(type.getElementType());
  SmallVector<int64_t> sa = stridesOf(a), sb = stridesOf(b);
  // Tiles, since one of the two usually lies transposed.
  constexpr int64_t tile = 64;
  for (int64_t i0 = 0; i0 < rows; i0 += tile)
    for (int64_t j0 = 0; j0 < columns; j0 += tile)
      for (int64_t i = i0; i < std::min(rows, i0 + tile); ++i)
        for (int64_t j = j0; j < std::min(columns, j0 + tile); ++j)
          if (std::memcmp(first[0] + (i * sa[0] + j * sa[1]) * bytes, first[1] + (i * sb[0] + j * sb[1]) * bytes,
                          bytes))
            return false;
  return true;
}
