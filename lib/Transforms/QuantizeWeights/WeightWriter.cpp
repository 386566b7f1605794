#include "WeightWriter.h"

#include "skim/Quantize/Codebook.h"
#include "skim/Quantize/RoundToNearest.h"
#include "skim/Support/Float16.h"
#include "skim/Support/Threads.h"
#include "skim/Transforms/QuantizeWeights.h"

using namespace mlir;
using namespace skim;

/// Rows of about 2 MiB of f32: enough to share among threads, small beside any memory limit.
static int64_t blockRows(int64_t columns) {
  return std::max<int64_t>(16, (int64_t(1) << 19) / std::max<int64_t>(1, columns));
}

Error WeightWriter::copyBytes(Operation *op, size_t first) {
  if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
    auto elements = cast<DenseElementsAttr>(constant.getValue());
    std::vector<char> bytes(elements.getRawData().begin(), elements.getRawData().end());
    uint64_t size =
        static_cast<uint64_t>(elements.getNumElements()) * elements.getElementType().getIntOrFloatBitWidth() / 8;
    // A splat keeps one element.
    if (bytes.size() < size && !bytes.empty()) {
      std::vector<char> one = bytes;
      bytes.clear();
      while (bytes.size() < size)
        bytes.insert(bytes.end(), one.begin(), one.end());
    }
    return writer.write(first, std::span(reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()));
  }
  auto source = cast<ExternalOp>(op);
  Expected<std::shared_ptr<const MappedFile>> file = reader.open(source);
  if (!file)
    return file.takeError();
  auto type = cast<RankedTensorType>(source.getType());
  std::string name = source.getName().value_or("").str();
  uint64_t size = type.getElementTypeBitWidth() / 8;
  if (!source.getStrides()) {
    Expected<std::span<const uint8_t>> bytes =
        (*file)->slice(source.getOffset(), static_cast<uint64_t>(type.getNumElements()) * size, name);
    return bytes ? writer.write(first, *bytes) : bytes.takeError();
  }
  // Strided integers (codes of a packed weight): element by element, row by row.
  ArrayRef<int64_t> strides = *source.getStrides(), shape = type.getShape();
  if (shape.size() > 2)
    return fail("unsupported strides", name, "a matrix", "rank " + std::to_string(shape.size()));
  int64_t rows = shape.size() == 2 ? shape[0] : 1, columns = shape.back();
  int64_t rowStride = shape.size() == 2 ? strides[0] : 0, columnStride = strides.back();
  if (rows == 0 || columns == 0)
    return Error::success();
  uint64_t extent = static_cast<uint64_t>((rows - 1) * rowStride + (columns - 1) * columnStride + 1) * size;
  Expected<std::span<const uint8_t>> bytes = (*file)->slice(source.getOffset(), extent, name);
  if (!bytes)
    return bytes.takeError();
  std::vector<uint8_t> row(columns * size);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j)
      std::memcpy(row.data() + j * size, bytes->data() + (i * rowStride + j * columnStride) * size, size);
    if (Error error = writer.write(first, i * row.size(), row))
      return error;
  }
  return Error::success();
}

Expected<WeightResult> WeightWriter::copy(Operation *source, RankedTensorType type, size_t first) {
  WeightResult result;
  result.storedBytes = type.getNumElements() * type.getElementTypeBitWidth() / 8;
  if (!isa<FloatType>(type.getElementType())) {
    if (Error error = copyBytes(source, first))
      return error;
    return result;
  }
  Expected<WeightRows> matrix = reader.rows(source);
  if (!matrix)
    return matrix.takeError();
  DType target = *dtypeOf(type.getElementType());
  int64_t columns = matrix->columns(), step = blockRows(columns);
  std::vector<float> values(step * columns);
  std::vector<uint16_t> halves(target == DType::F32 ? 0 : values.size());
  double squaredError = 0, squaredNorm = 0;
  for (int64_t begin = 0; begin < matrix->rows(); begin += step) {
    int64_t rows = std::min(step, matrix->rows() - begin), count = rows * columns;
    matrix->read(begin, begin + rows, values.data());
    QuantizeOptions options;
    options.threads = threads;
    options.firstRow = begin;
    if (Error error = checkFinite(MatrixView(values.data(), rows, columns), matrix->name().c_str(), options))
      return error;
    std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t *>(values.data()), count * sizeof(float));
    if (target != DType::F32) {
      (target == DType::F16 ? convertF32ToF16 : convertF32ToBF16)(values.data(), halves.data(), count);
      for (int64_t i = 0; i < count; ++i) {
        float stored = target == DType::F16 ? f16ToF32(halves[i]) : bf16ToF32(halves[i]);
        if (!std::isfinite(stored))
          return fail("weight too large", matrix->name() + " row " + std::to_string(begin + i / columns),
                      std::string("a value that fits ") + dtypeName(target), std::to_string(values[i]),
                      "keep it in f32");
        double delta = double(values[i]) - stored;
        squaredError += delta * delta;
        squaredNorm += double(values[i]) * values[i];
      }
      bytes = {reinterpret_cast<const uint8_t *>(halves.data()), count * sizeof(uint16_t)};
    }
    if (Error error = writer.write(first, begin * columns * dtypeSize(target), bytes))
      return error;
  }
  matrix->release();
  result.error = squaredNorm > 0 ? squaredError / squaredNorm : 0;
  return result;
}

UniformFormat skim::formatOf(UniformAttr attr) {
  UniformFormat format;
  format.bits = attr.getBits();
  format.group = attr.getGroup();
  format.asymmetric = attr.getAsymmetric();
  format.floatZero = static_cast<bool>(attr.getZeroType());
  format.scale = *dtypeOf(attr.getScaleType());
  return format;
}

CodebookFormat skim::formatOf(CodebookAttr attr) {
  CodebookFormat format;
  format.bits = attr.getBits();
  format.table = attr.getTable().isInteger(8) ? DType::I8 : *dtypeOf(attr.getTable());
  format.tensorScope = attr.getTensorScope();
  return format;
}

bool WeightWriter::hasQuantizer(WeightEncoding encoding) { return isa<UniformAttr, CodebookAttr>(encoding); }

Expected<WeightResult> WeightWriter::quantize(Operation *source, WeightEncoding encoding,
                                              ArrayRef<Component> components, size_t first) {
  Expected<WeightRows> matrix = reader.rows(source);
  if (!matrix)
    return matrix.takeError();
  int64_t columns = matrix->columns(), step = blockRows(columns);
  std::vector<float> values(step * columns);

  // Calls `body` with each block of rows.
  auto forEachBlock = [&](auto body) -> Error {
    for (int64_t begin = 0; begin < matrix->rows(); begin += step) {
      int64_t rows = std::min(step, matrix->rows() - begin);
      matrix->read(begin, begin + rows, values.data());
      QuantizeOptions options;
      options.threads = threads;
      options.firstRow = begin;
      if (Error error = body(MatrixView(values.data(), rows, columns), options))
        return error;
    }
    return Error::success();
  };

  double squaredError = 0, squaredNorm = 0;
  // Puts a block's components at their rows; those of the whole tensor once.
  auto store = [&](const QuantizedMatrix &block, int64_t firstRow) -> Error {
    squaredError += block.squaredError;
    squaredNorm += block.squaredNorm;
    for (auto [index, component] : llvm::enumerate(components)) {
      const QuantizedMatrix::Component *part = block.find(component.name);
      if (!part)
        return fail("quantizer gave no component", matrix->name(), component.name, "none");
      bool whole = part->spec.rowBytes == 0;
      if (whole && firstRow > 0)
        continue;
      if (Error error = writer.write(first + index, whole ? 0 : firstRow * part->spec.rowBytes, part->bytes))
        return error;
    }
    return Error::success();
  };

  Error error;
  if (auto uniform = dyn_cast<UniformAttr>(encoding)) {
    UniformFormat format = formatOf(uniform);
    error = forEachBlock([&](const MatrixView &block, const QuantizeOptions &common) -> Error {
      UniformOptions options;
      static_cast<QuantizeOptions &>(options) = common;
      Expected<QuantizedMatrix> quantized = quantizeUniform(block, format, options);
      return quantized ? store(*quantized, common.firstRow) : quantized.takeError();
    });
  } else {
    CodebookFormat format = formatOf(cast<CodebookAttr>(encoding));
    std::optional<StoredTable> table;
    if (format.tensorScope) {
      SharedTableFit fit(format);
      error = forEachBlock([&](const MatrixView &block, const QuantizeOptions &options) {
        return fit.add(block, MatrixView(), options);
      });
      if (!error) {
        Expected<StoredTable> solved = fit.solve();
        if (!solved)
          error = solved.takeError();
        else
          table = std::move(*solved);
      }
    }
    if (!error)
      error = forEachBlock([&](const MatrixView &block, const QuantizeOptions &options) -> Error {
        Expected<QuantizedMatrix> quantized = table ? encodeWithTable(block, format, *table, options)
                                                    : quantizeCodebook(block, MatrixView(), format, options);
        return quantized ? store(*quantized, options.firstRow) : quantized.takeError();
      });
  }
  if (error) {
    // The quantizer knows row and column; the layer is ours to add.
    Failure failure = error.get();
    if (failure.where.find(matrix->name()) == std::string::npos)
      failure.where = matrix->name() + (failure.where.empty() ? "" : " " + failure.where);
    return failure;
  }
  matrix->release();
  WeightResult result;
  for (const Component &component : components)
    result.storedBytes += component.getBits() / 8;
  result.error = squaredNorm > 0 ? squaredError / squaredNorm : 0;
  return result;
}

Expected<WeightResult> WeightWriter::write(const CalibratedWeight &weight, size_t first) {
  WeightResult result;
  for (const std::vector<uint8_t> &bytes : weight.components) {
    if (Error error = writer.write(first++, 0, bytes))
      return error;
    result.storedBytes += bytes.size();
  }
  const WeightErrors &errors = weight.errors;
  result.error = errors.squaredNorm > 0 ? errors.squaredError / errors.squaredNorm : 0;
  result.outputError = errors.outputError;
  result.lossError = errors.lossError;
  return result;
}
