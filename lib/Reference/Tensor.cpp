//===- Tensor.cpp - values of the reference ---------------------------------===//

#include "skim/Reference/Tensor.h"

#include "skim/Reference/Decode.h"
#include "skim/Support/Float16.h"

#include <cmath>
#include <cstring>

using namespace mlir;
using namespace skim;
using namespace skim::reference;

int64_t skim::reference::elementBytes(Type elementType) {
  return elementType.isIndex() ? 8 : (elementType.getIntOrFloatBitWidth() + 7) / 8;
}

Tensor::Tensor(Type elementType, ArrayRef<int64_t> shape) : elementType(elementType), shape(shape) {
  int64_t bytes = getNumElements() * elementBytes(elementType);
  std::shared_ptr<uint8_t[]> storage(new uint8_t[bytes + 1]());
  data = writable = storage.get();
  owner = storage;
}

Tensor::Tensor(Type elementType, ArrayRef<int64_t> shape, const uint8_t *data, std::shared_ptr<const void> owner)
    : elementType(elementType), shape(shape), data(data), owner(std::move(owner)) {}

Tensor::Tensor(RankedTensorType type, std::vector<Tensor> components)
    : elementType(type.getElementType()), shape(type.getShape()), encoding(skim::getEncoding(type)),
      components(std::move(components)) {}

Tensor Tensor::floats(MLIRContext *context, ArrayRef<int64_t> shape, ArrayRef<float> values) {
  Tensor tensor(Float32Type::get(context), shape);
  for (auto [i, value] : llvm::enumerate(values))
    tensor.set(i, value);
  return tensor;
}

Tensor Tensor::integers(MLIRContext *context, unsigned width, ArrayRef<int64_t> shape, ArrayRef<int64_t> values) {
  Tensor tensor(IntegerType::get(context, width), shape);
  for (auto [i, value] : llvm::enumerate(values))
    tensor.setInt(i, value);
  return tensor;
}

Tensor Tensor::scalar(Type type, double value) {
  Tensor tensor(type, {});
  tensor.set(0, value);
  return tensor;
}

Tensor Tensor::index(MLIRContext *context, int64_t value) {
  Tensor tensor(IndexType::get(context), {});
  tensor.setInt(0, value);
  return tensor;
}

int64_t Tensor::getNumElements() const {
  int64_t count = 1;
  for (int64_t size : shape)
    count *= size;
  return count;
}

double Tensor::at(int64_t i) const {
  if (!isFloat())
    return static_cast<double>(intAt(i));
  if (elementType.isF64()) {
    double value;
    std::memcpy(&value, data + 8 * i, 8);
    return value;
  }
  if (elementType.isF32()) {
    float value;
    std::memcpy(&value, data + 4 * i, 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, data + 2 * i, 2);
  return elementType.isBF16() ? bf16ToF32(half) : f16ToF32(half);
}

uint64_t Tensor::uintAt(int64_t i) const {
  int64_t bytes = elementBytes(elementType);
  uint64_t value = 0;
  std::memcpy(&value, data + bytes * i, bytes);
  unsigned width = elementType.isIndex() ? 64 : elementType.getIntOrFloatBitWidth();
  return width < 64 ? value & ((uint64_t(1) << width) - 1) : value;
}

int64_t Tensor::intAt(int64_t i) const {
  unsigned width = elementType.isIndex() ? 64 : elementType.getIntOrFloatBitWidth();
  uint64_t value = uintAt(i);
  return static_cast<int64_t>(value << (64 - width)) >> (64 - width);
}

void Tensor::setInt(int64_t i, int64_t value) {
  if (isFloat())
    return set(i, static_cast<double>(value));
  unsigned width = elementType.isIndex() ? 64 : elementType.getIntOrFloatBitWidth();
  uint64_t masked = static_cast<uint64_t>(value);
  if (width < 64)
    masked &= (uint64_t(1) << width) - 1;
  int64_t bytes = elementBytes(elementType);
  std::memcpy(writable + bytes * i, &masked, bytes);
}

/// A double rounded once to f16 or bf16: through f32 it would be rounded twice,
/// so the f32 keeps a sticky bit (round to odd).
static float roundToOdd(double value) {
  float nearest = static_cast<float>(value);
  if (std::isnan(value) || std::isinf(nearest) || static_cast<double>(nearest) == value)
    return nearest;
  float toZero = std::fabs(nearest) > std::fabs(value) ? std::nextafter(nearest, 0.0f) : nearest;
  uint32_t bits;
  std::memcpy(&bits, &toZero, 4);
  bits |= 1;
  std::memcpy(&toZero, &bits, 4);
  return toZero;
}

void Tensor::set(int64_t i, double value) {
  if (!isFloat())
    return setInt(i, static_cast<int64_t>(value));
  if (elementType.isF64()) {
    std::memcpy(writable + 8 * i, &value, 8);
    return;
  }
  if (elementType.isF32()) {
    float single = static_cast<float>(value);
    std::memcpy(writable + 4 * i, &single, 4);
    return;
  }
  uint16_t half = elementType.isBF16() ? f32ToBF16(roundToOdd(value)) : f32ToF16(roundToOdd(value));
  std::memcpy(writable + 2 * i, &half, 2);
}

ArrayRef<uint8_t> Tensor::getBytes() const {
  return {data, static_cast<size_t>(getNumElements() * elementBytes(elementType))};
}

std::vector<float> Tensor::toFloats() const {
  if (encoding) {
    std::vector<ArrayRef<uint8_t>> bytes;
    for (const Tensor &component : components)
      bytes.push_back(component.getBytes());
    return decodeWeight(encoding, shape, bytes);
  }
  std::vector<float> values(getNumElements());
  for (int64_t i = 0, e = getNumElements(); i < e; ++i)
    values[i] = static_cast<float>(at(i));
  return values;
}

std::vector<double> Tensor::toDoubles() const {
  if (encoding) {
    std::vector<float> decoded = toFloats();
    return {decoded.begin(), decoded.end()};
  }
  std::vector<double> values(getNumElements());
  for (int64_t i = 0, e = getNumElements(); i < e; ++i)
    values[i] = at(i);
  return values;
}

Tensor Tensor::reshaped(ArrayRef<int64_t> newShape) const {
  Tensor result = *this;
  result.shape.assign(newShape.begin(), newShape.end());
  return result;
}

std::string Tensor::describe() const {
  std::string text;
  llvm::raw_string_ostream stream(text);
  for (int64_t size : shape)
    stream << size << 'x';
  stream << elementType;
  return text;
}
