//===- WeightReader.cpp - the numbers of a weight in the IR -----------------===//

#include "skim/Analysis/WeightReader.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace skim;

std::optional<DType> skim::dtypeOf(Type type) {
  if (type.isF32())
    return DType::F32;
  if (type.isF16())
    return DType::F16;
  if (type.isBF16())
    return DType::BF16;
  if (type.isInteger(8))
    return DType::U8;
  if (type.isInteger(16))
    return DType::U16;
  if (type.isInteger(32))
    return DType::I32;
  if (type.isInteger(64))
    return DType::I64;
  return std::nullopt;
}

std::string skim::spellType(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

Expected<std::shared_ptr<const MappedFile>> WeightReader::open(ExternalOp source) {
  std::shared_ptr<const MappedFile> &file = files[source.getFile()];
  if (!file) {
    llvm::SmallString<256> path(base);
    llvm::sys::path::append(path, source.getFile());
    Expected<std::shared_ptr<const MappedFile>> opened =
        MappedFile::open(std::string(path), MappedFile::Access::Sequential);
    if (!opened)
      return opened.takeError();
    file = *opened;
  }
  return file;
}

bool skim::isStored(Operation *op) {
  if (op->use_empty() || !isa<ExternalOp, arith::ConstantOp>(op))
    return false;
  auto type = dyn_cast<RankedTensorType>(op->getResult(0).getType());
  auto constant = dyn_cast<arith::ConstantOp>(op);
  return type && (!constant || (type.getRank() > 0 && isa<DenseElementsAttr>(constant.getValue())));
}

uint64_t skim::plainBytes(Operation *op) {
  auto type = cast<RankedTensorType>(op->getResult(0).getType());
  Type element = type.getElementType();
  return type.getNumElements() * (isa<FloatType>(element) ? 4 : element.getIntOrFloatBitWidth() / 8);
}

void WeightRows::read(int64_t begin, int64_t end, float *out) const {
  if (matrix)
    return matrix->readRows(begin, end, out);
  std::copy(values.begin() + begin * numColumns, values.begin() + end * numColumns, out);
}

Expected<WeightRows> WeightReader::rows(Operation *op) {
  if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
    auto elements = cast<DenseElementsAttr>(constant.getValue());
    auto type = cast<RankedTensorType>(constant.getType());
    std::vector<float> values;
    values.reserve(elements.getNumElements());
    for (APFloat value : elements.getValues<APFloat>()) {
      bool lost = false;
      value.convert(APFloat::IEEEsingle(), APFloat::rmNearestTiesToEven, &lost);
      values.push_back(value.convertToFloat());
    }
    int64_t columns = type.getRank() ? type.getShape().back() : 1;
    return WeightRows("constant", std::move(values), columns ? type.getNumElements() / columns : 0, columns);
  }
  auto source = cast<ExternalOp>(op);
  Expected<std::shared_ptr<const MappedFile>> file = open(source);
  if (!file)
    return file.takeError();
  auto type = cast<RankedTensorType>(source.getType());
  std::string name = source.getName().value_or("").str();
  std::optional<DType> dtype = dtypeOf(type.getElementType());
  if (!dtype)
    return fail("unsupported weight type", name, "f16, bf16 or f32", spellType(type.getElementType()));
  int64_t columns = type.getRank() ? type.getShape().back() : 1;
  int64_t rows = columns ? type.getNumElements() / columns : 0;
  int64_t rowStride = columns, columnStride = 1;
  if (std::optional<ArrayRef<int64_t>> strides = source.getStrides()) {
    if (type.getRank() > 2)
      return fail("unsupported strides", name, "a matrix", "rank " + std::to_string(type.getRank()));
    columnStride = strides->empty() ? 1 : strides->back();
    rowStride = type.getRank() == 2 ? strides->front() : 0;
  }
  Expected<MatrixSource> matrix =
      MatrixSource::create(*file, name, source.getOffset(), *dtype, rows, columns, rowStride, columnStride);
  if (!matrix)
    return matrix.takeError();
  return WeightRows(std::move(*matrix));
}
