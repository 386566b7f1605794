//===- Fold.cpp - contents of small tensors ---------------------------------===//
#include "Operator.h"

#include <cmath>
#include <cstring>

using namespace mlir;
using namespace skim::onnx;

double skim::onnx::roundTo(Type element, double value) {
  if (element.isF64())
    return value;
  if (element.isF32())
    return static_cast<float>(value);
  llvm::APFloat number(value);
  bool loses;
  number.convert(cast<FloatType>(element).getFloatSemantics(), llvm::APFloat::rmNearestTiesToEven, &loses);
  number.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &loses);
  return number.convertToDouble();
}

std::optional<Data> skim::onnx::readData(Type element, StringRef raw, size_t count, DimensionTable &dims) {
  if (!element.isIntOrFloat())
    return std::nullopt;
  unsigned width = element.getIntOrFloatBitWidth();
  if (element.isInteger(1))
    width = 8; // ONNX stores a byte a bool
  if (width < 8 || width > 64 || raw.size() != count * (width / 8))
    return std::nullopt;
  Data data;
  data.isFloat = isa<FloatType>(element);
  for (size_t i = 0; i < count; ++i) {
    uint64_t bits = 0;
    std::memcpy(&bits, raw.data() + i * (width / 8), width / 8);
    if (data.isFloat) {
      llvm::APFloat number(cast<FloatType>(element).getFloatSemantics(), llvm::APInt(width, bits));
      bool loses;
      number.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &loses);
      data.floats.push_back(number.convertToDouble());
      continue;
    }
    if (element.isUnsignedInteger(64) && bits >> 63)
      return std::nullopt;
    int64_t value = static_cast<int64_t>(bits);
    if (element.isInteger(1))
      value = value != 0;
    else if (!element.isUnsignedInteger() && width < 64)
      value = static_cast<int64_t>(bits << (64 - width)) >> (64 - width);
    data.ints.push_back(dims.constant(value));
  }
  return data;
}

DenseElementsAttr skim::onnx::denseFrom(const Data &data, Type element, ArrayRef<int64_t> shape,
                                        const DimensionTable &dims) {
  auto type = RankedTensorType::get(shape, element);
  if (static_cast<int64_t>(data.size()) != type.getNumElements() || data.isFloat != isa<FloatType>(element))
    return {};
  if (data.isFloat) {
    SmallVector<APFloat> values;
    for (double value : data.floats) {
      APFloat number(value);
      bool loses;
      number.convert(cast<FloatType>(element).getFloatSemantics(), APFloat::rmNearestTiesToEven, &loses);
      values.push_back(number);
    }
    return DenseElementsAttr::get(type, values);
  }
  auto integer = dyn_cast<IntegerType>(element);
  if (!integer)
    return {};
  unsigned width = integer.getWidth();
  SmallVector<APInt> values;
  for (Dim dim : data.ints) {
    std::optional<int64_t> value = dims.value(dim);
    if (!value)
      return {};
    values.push_back(APInt(width, static_cast<uint64_t>(*value), /*isSigned=*/true, /*implicitTrunc=*/true));
  }
  return DenseElementsAttr::get(type, values);
}

SmallVector<int64_t> skim::onnx::stridesOf(ArrayRef<int64_t> shape) {
  SmallVector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * shape[i];
  return strides;
}

Data skim::onnx::gather(const Data &in, ArrayRef<int64_t> shape,
                        llvm::function_ref<int64_t(ArrayRef<int64_t>)> source) {
  Data out;
  out.isFloat = in.isFloat;
  int64_t count = 1;
  for (int64_t dim : shape)
    count *= dim;
  SmallVector<int64_t> index(shape.size(), 0);
  for (int64_t i = 0; i < count; ++i) {
    int64_t from = source(index);
    if (in.isFloat)
      out.floats.push_back(in.floats[from]);
    else
      out.ints.push_back(in.ints[from]);
    for (size_t d = shape.size(); d-- > 0;) {
      if (++index[d] < shape[d])
        break;
      index[d] = 0;
    }
  }
  return out;
}
