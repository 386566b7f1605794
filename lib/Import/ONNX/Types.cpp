#include "Types.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace skim;
using wire::DataType;

Type skim::onnx::elementType(DataType type, MLIRContext *context) {
  Builder b(context);
  auto integer = [&](unsigned width, bool isUnsigned = false) -> Type {
    return isUnsigned ? b.getIntegerType(width, /*isSigned=*/false) : b.getIntegerType(width);
  };
  switch (type) {
  case DataType::Float:
    return b.getF32Type();
  case DataType::Double:
    return b.getF64Type();
  case DataType::Float16:
    return b.getF16Type();
  case DataType::BFloat16:
    return b.getBF16Type();
  case DataType::Float8E4M3FN:
    return b.getType<Float8E4M3FNType>();
  case DataType::Float8E4M3FNUZ:
    return b.getType<Float8E4M3FNUZType>();
  case DataType::Float8E5M2:
    return b.getType<Float8E5M2Type>();
  case DataType::Float8E5M2FNUZ:
    return b.getType<Float8E5M2FNUZType>();
  case DataType::Float8E8M0:
    return b.getType<Float8E8M0FNUType>();
  case DataType::Float4E2M1:
    return b.getType<Float4E2M1FNType>();
  case DataType::Bool:
    return b.getI1Type();
  case DataType::Int2:
    return integer(2);
  case DataType::Int4:
    return integer(4);
  case DataType::Int8:
    return integer(8);
  case DataType::Int16:
    return integer(16);
  case DataType::Int32:
    return integer(32);
  case DataType::Int64:
    return integer(64);
  case DataType::UInt2:
    return integer(2, true);
  case DataType::UInt4:
    return integer(4, true);
  case DataType::UInt8:
    return integer(8, true);
  case DataType::UInt16:
    return integer(16, true);
  case DataType::UInt32:
    return integer(32, true);
  case DataType::UInt64:
    return integer(64, true);
  case DataType::Complex64:
    return ComplexType::get(b.getF32Type());
  case DataType::Complex128:
    return ComplexType::get(b.getF64Type());
  case DataType::Undefined:
  case DataType::String:
    break;
  }
  return {};
}

DenseElementsAttr skim::onnx::denseAttribute(RankedTensorType type, StringRef raw) {
  if (type.getElementType().isInteger(1)) {
    SmallVector<bool> values;
    for (char byte : raw)
      values.push_back(byte != 0);
    return DenseElementsAttr::get(type, values);
  }
  if (type.getElementType().isIntOrFloat() && type.getElementTypeBitWidth() < 8)
    return {};
  bool isSplat = false;
  if (!DenseElementsAttr::isValidRawBuffer(type, ArrayRef<char>(raw.data(), raw.size()), isSplat))
    return {};
  return DenseElementsAttr::getFromRawBuffer(type, ArrayRef<char>(raw.data(), raw.size()));
}

/// PyTorch writes a Python list: ['', 'model', 'model.layers.0.mlp', 'silu']. The
/// last is the call itself, the one before it the module that made it.
std::string skim::onnx::moduleScope(const wire::Node &node) {
  for (const wire::Entry &entry : node.metadata) {
    if (entry.key != "pkg.torch.onnx.name_scopes")
      continue;
    SmallVector<StringRef> parts;
    StringRef list(entry.value);
    list.consume_front("[");
    list.consume_back("]");
    list.split(parts, ", ");
    if (parts.size() < 2)
      return {};
    StringRef scope = parts[parts.size() - 2].trim("'");
    return scope.starts_with("_empty_nn_module_stack") ? std::string() : scope.str();
  }
  return {};
}
