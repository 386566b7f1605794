#include "skim/Quantize/RoundToNearest.h"
#include "UniformGrid.h"
#include "skim/Quantize/BitPacking.h"
#include "skim/Support/StoredFloat.h"
#include "skim/Support/Threads.h"

using namespace skim;

Expected<QuantizedMatrix> skim::quantizeOnGrid(const MatrixView &block, std::span<const float> alpha,
                                               std::span<const float> weights, const UniformFormat &format,
                                               const QuantizeOptions &options, bool searchClipping) {
  const int64_t columns = block.columns;
  if (Error error = checkFinite(block, "weight", options))
    return error;
  // An error of w/α counts α² times; `choice` weighs the clipping search, `plain` what is reported.
  std::vector<float> choice(weights.begin(), weights.end()), plain;
  if (!alpha.empty()) {
    choice.resize(columns, 1.0f);
    for (int64_t k = 0; k < columns; ++k) {
      plain.push_back(alpha[k] * alpha[k]);
      choice[k] *= plain[k];
    }
  }
  UniformRows result(format, block, options);
  const GridChooser chooser(format, searchClipping);
  const int64_t grain = 1 + (int64_t(1) << 15) / std::max<int64_t>(columns, 1);
  Error failure = parallelForWithErrors(block.rows, grain, options.threads, [&](size_t begin, size_t end, unsigned) {
    std::vector<uint8_t> codes(columns);
    std::vector<UniformGrid> grids(result.groups());
    std::vector<float> scaled(alpha.empty() ? 0 : columns);
    for (int64_t n = begin; n < int64_t(end); ++n) {
      const float *row = block.row(n);
      for (int64_t k = 0; k < int64_t(scaled.size()); ++k)
        scaled[k] = row[k] / alpha[k];
      double sum = 0;
      for (int64_t g = 0; g < result.groups(); ++g) {
        const int64_t first = result.groupBegin(g), count = result.groupCount(g);
        const float *x = (scaled.empty() ? row : scaled.data()) + first;
        double error = 0;
        grids[g] = chooser.choose(x, choice.empty() ? nullptr : choice.data() + first, count, error);
        if (!grids[g].finite())
          return result.overflow(n, g, x);
        gridCodes(x, count, grids[g], codes.data() + first);
        if (!choice.empty())
          error = gridError(x, plain.empty() ? nullptr : plain.data() + first, count, grids[g]);
        sum += error;
      }
      result.store(n, grids.data(), codes.data(), sum);
    }
    return Error::success();
  });
  if (failure)
    return failure;
  return result.finish(block, options.threads);
}

Expected<QuantizedMatrix> skim::quantizeUniform(const MatrixView &block, const UniformFormat &format,
                                                const UniformOptions &options) {
  if (!options.clippingWeights.empty() && int64_t(options.clippingWeights.size()) != block.columns)
    return fail("weights of the clipping search do not fit the weight", {}, std::to_string(block.columns) + " columns",
                std::to_string(options.clippingWeights.size()));
  return quantizeOnGrid(block, {}, options.clippingWeights, format, options, options.searchClipping);
}

void skim::decodeUniform(const QuantizedMatrix &matrix, const UniformFormat &format, float *out) {
  const int64_t columns = matrix.columns, size = format.groupSize(columns), groups = format.numGroups(columns);
  const QuantizedMatrix::Component &codes = *matrix.find("codes"), &scales = *matrix.find("scales");
  const QuantizedMatrix::Component *zeros = matrix.find("zeros");
  std::vector<uint8_t> row(columns), rowZeros(groups);
  for (int64_t n = 0; n < matrix.rows; ++n) {
    unpackBits(codes.bytes.data() + codes.spec.rowBytes * n, columns, format.bits, row.data());
    if (zeros && !format.floatZero)
      unpackBits(zeros->bytes.data() + zeros->spec.rowBytes * n, groups, format.bits, rowZeros.data());
    for (int64_t k = 0; k < columns; ++k) {
      int64_t group = k / size;
      float zero = !format.asymmetric ? float(1u << (format.bits - 1))
                   : format.floatZero ? loadFloat(DType::F16, zeros->bytes.data() + 2 * (n * groups + group))
                                      : float(rowZeros[group]);
      out[n * columns + k] =
          loadFloat(format.scale, scales.bytes.data() + size_t(n * groups + group) * dtypeSize(format.scale)) *
          (float(row[k]) - zero);
    }
  }
}
