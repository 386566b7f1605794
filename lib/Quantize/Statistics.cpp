#include "skim/Quantize/Statistics.h"

#include "skim/Support/Float16.h"
#include "skim/Support/Json.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <set>

using namespace skim;

static constexpr std::string_view formatName = "skim-statistics";
static constexpr std::string_view formatVersion = "1";

void skim::unpackTriangle(std::span<const float> packed, int64_t k, float *full) {
  const float *at = packed.data();
  for (int64_t i = 0; i < k; ++i)
    for (int64_t j = i; j < k; ++j, ++at) {
      full[i * k + j] = *at;
      full[j * k + i] = *at;
    }
}

//===----------------------------------------------------------------------===//
// Squared gradients: bf16, a scale a row, and what bf16 rounded away
//===----------------------------------------------------------------------===//

// The f32 value/scale is kept as its nearest bf16 (ties towards zero) and the
// difference of the bit patterns, which then lies in (−2^15, 2^15] and fits in 16
// bits: together they are the f32 exactly.
static uint16_t roundedHalf(uint32_t word) { return static_cast<uint16_t>((word + 0x7FFFu) >> 16); }
static uint16_t residualOf(uint32_t word) { return static_cast<uint16_t>(word & 0xFFFFu); }
static uint32_t joinHalves(uint16_t half, uint16_t residual) {
  uint32_t word = uint32_t(half) << 16;
  return residual <= 0x8000u ? word + residual : word - (0x10000u - residual);
}

void LayerStatistics::squaredGradientRow(int64_t row, float *out) const {
  const uint16_t *half = squaredGradient.data() + row * columns;
  float scale = squaredGradientScale[row];
  if (squaredGradientResidual.empty()) {
    for (int64_t j = 0; j < columns; ++j)
      out[j] = bf16ToF32(half[j]) * scale;
    return;
  }
  const uint16_t *residual = squaredGradientResidual.data() + row * columns;
  for (int64_t j = 0; j < columns; ++j)
    out[j] = std::bit_cast<float>(joinHalves(half[j], residual[j])) * scale;
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

namespace {
/// Looks up the tensors of one file.
class Reader {
public:
  Reader(const SafetensorsFile &file) : file(file) {}

  const TensorInfo *find(const std::string &layer, const char *suffix) const { return file.find(layer + suffix); }

  /// The tensor's elements; an error where it is missing or has another type or shape.
  template <typename T>
  Error read(const std::string &name, DType type, const std::vector<int64_t> &shape, std::span<const T> &out) const {
    const TensorInfo *info = file.find(name);
    if (!info)
      return fail("incomplete statistics", file.path(), "a tensor " + name, "none");
    if (info->type != type || info->shape != shape)
      return fail("damaged statistics", file.path() + " (" + name + ")", spell(type, shape),
                  spell(info->type, info->shape));
    Expected<std::span<const T>> elements = file.as<T>(*info);
    if (!elements)
      return elements.takeError();
    out = *elements;
    return Error::success();
  }

  static std::string spell(DType type, const std::vector<int64_t> &shape) {
    std::string text = std::string(dtypeName(type)) + " [";
    for (size_t i = 0; i < shape.size(); ++i)
      text += (i ? "," : "") + std::to_string(shape[i]);
    return text + "]";
  }

private:
  const SafetensorsFile &file;
};
} // namespace

static Expected<std::string> metadataOf(const SafetensorsFile &file, const std::string &key) {
  auto found = file.metadata().find(key);
  if (found == file.metadata().end())
    return fail("incomplete statistics", file.path(), "metadata '" + key + "'", "none");
  return found->second;
}

static Expected<uint64_t> countOf(const SafetensorsFile &file, const std::string &key) {
  Expected<std::string> text = metadataOf(file, key);
  if (!text)
    return text.takeError();
  uint64_t value = 0;
  auto [end, code] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (code != std::errc() || end != text->data() + text->size())
    return fail("damaged statistics", file.path() + " (" + key + ")", "a number", "'" + *text + "'");
  return value;
}

/// The moments of the input that `layer` is the first to read.
static Error readInput(const SafetensorsFile &file, const std::string &layer, LayerStatistics &out) {
  Reader reader(file);
  const TensorInfo *max = reader.find(layer, ".input_abs_max");
  if (!max || max->shape.size() != 1)
    return fail("incomplete statistics", file.path(), "a tensor " + layer + ".input_abs_max of one dimension",
                max ? Reader::spell(max->type, max->shape) : "none");
  int64_t k = max->shape[0];
  if (k < 1 || k > (int64_t(1) << 24))
    return fail("damaged statistics", file.path() + " (" + layer + ".input_abs_max)", "1 to 2^24 inputs",
                std::to_string(k));
  out.input = layer;
  out.columns = k;
  for (auto [suffix, shape, span] :
       {std::tuple(".input_abs_max", k, &out.absMax), std::tuple(".input_first_moment", k, &out.firstMoment),
        std::tuple(".input_second_moment", triangleSize(k), &out.secondMoment)})
    if (Error error = reader.read(layer + suffix, DType::F32, {shape}, *span))
      return error;
  return Error::success();
}

/// What belongs to the layer itself.
static Error readLayer(const SafetensorsFile &file, const std::string &layer, LayerStatistics &out) {
  Reader reader(file);
  if (const TensorInfo *guided = reader.find(layer, ".guided_second_moment")) {
    std::vector<int64_t> shape = {triangleSize(out.columns)};
    if (guided->shape.size() == 2) {
      out.groups = static_cast<int>(std::clamp<int64_t>(guided->shape[0], 1, 1 << 16));
      shape.insert(shape.begin(), out.groups);
    }
    if (Error error = reader.read(layer + ".guided_second_moment", DType::F32, shape, out.guidedMoment))
      return error;
  }
  const TensorInfo *output = reader.find(layer, ".output_squared_gradient");
  const TensorInfo *gradient = reader.find(layer, ".squared_gradient");
  const TensorInfo *moment = reader.find(layer, ".output_gradient_second_moment");
  if (moment && !output)
    return fail("incomplete statistics", file.path(), "a tensor " + layer + ".output_squared_gradient", "none");
  if (!output && !gradient)
    return Error::success();
  const TensorInfo *named = output ? output : gradient;
  if (named->shape.size() != (output ? 1u : 2u) || named->shape[0] < 1)
    return fail("damaged statistics", file.path() + " (" + named->name + ")", "a dimension for the outputs",
                Reader::spell(named->type, named->shape));
  out.rows = named->shape[0];
  if (Error error = reader.read(layer + ".output_squared_gradient", DType::F32, {out.rows}, out.outputSquaredGradient))
    return error;
  if (moment)
    if (Error error = reader.read(moment->name, DType::F32, {triangleSize(out.rows)}, out.outputMoment))
      return error;
  if (!gradient)
    return Error::success();
  if (Error error = reader.read(layer + ".squared_gradient", DType::BF16, {out.rows, out.columns}, out.squaredGradient))
    return error;
  if (Error error = reader.read(layer + ".squared_gradient_scale", DType::F32, {out.rows}, out.squaredGradientScale))
    return error;
  if (reader.find(layer, ".squared_gradient_residual"))
    return reader.read(layer + ".squared_gradient_residual", DType::U16, {out.rows, out.columns},
                       out.squaredGradientResidual);
  return Error::success();
}

Expected<Statistics> Statistics::open(const std::string &path) {
  Expected<SafetensorsFile> opened = SafetensorsFile::open(path);
  if (!opened)
    return opened.takeError();
  Statistics result;
  result.file = std::make_shared<const SafetensorsFile>(std::move(*opened));
  const SafetensorsFile &file = *result.file;
  auto format = file.metadata().find("format");
  if (format == file.metadata().end() || format->second != formatName)
    return fail("not a statistics file", path, "metadata format '" + std::string(formatName) + "'",
                format == file.metadata().end() ? "none" : "'" + format->second + "'",
                "skim calibrate MODEL.onnx -o STATS makes one");
  for (auto [key, text] : {std::pair("model_hash", &result.model), std::pair("text_hash", &result.text),
                           std::pair("options", &result.optionText)}) {
    Expected<std::string> value = metadataOf(file, key);
    if (!value)
      return value.takeError();
    *text = std::move(*value);
  }
  Expected<std::string> version = metadataOf(file, "version"), reads = metadataOf(file, "reads");
  if (!version)
    return version.takeError();
  if (*version != formatVersion)
    return fail("statistics of another version", path, "version " + std::string(formatVersion), *version);
  if (!reads)
    return reads.takeError();
  for (auto [key, count] : {std::pair("tokens", &result.tokenCount), std::pair("sequences", &result.sequenceCount)}) {
    Expected<uint64_t> value = countOf(file, key);
    if (!value)
      return value.takeError();
    *count = *value;
  }

  Expected<Json> json = parseJson(*reads, path + " (reads)");
  if (!json)
    return json.takeError();
  auto members = JsonCursor(*json, path + " (reads)").members();
  if (!members)
    return members.takeError();
  std::map<std::string, LayerStatistics> inputs;
  for (const auto &[layer, cursor] : *members) {
    Expected<std::string> input = cursor.string();
    if (!input)
      return input.takeError();
    auto [place, added] = inputs.try_emplace(*input);
    if (added)
      if (Error error = readInput(file, *input, place->second))
        return error;
    LayerStatistics statistics = place->second;
    if (Error error = readLayer(file, layer, statistics))
      return error;
    result.byName.emplace(layer, std::move(statistics));
  }
  for (auto &[name, statistics] : result.byName) {
    if (auto input = result.byName.find(statistics.input);
        statistics.guidedMoment.empty() && input != result.byName.end()) {
      statistics.guidedMoment = input->second.guidedMoment;
      statistics.groups = input->second.groups;
    }
    result.gradients |= !statistics.guidedMoment.empty();
  }
  if (result.byName.empty())
    return fail("empty statistics", path, "at least one layer", "none");
  return result;
}

const LayerStatistics *Statistics::find(std::string_view layer) const {
  auto found = byName.find(layer);
  return found == byName.end() ? nullptr : &found->second;
}

Expected<const LayerStatistics *> Statistics::get(std::string_view layer, int64_t rows, int64_t columns) const {
  const LayerStatistics *found = find(layer);
  if (!found)
    return fail("statistics lack a layer", path(), std::string(layer), "other layers",
                "they are of another model, or of another export of it");
  if (found->columns != columns || (found->rows != 0 && found->rows != rows))
    return fail("statistics of another shape", path() + " (" + std::string(layer) + ")",
                std::to_string(rows) + "x" + std::to_string(columns),
                std::to_string(found->rows) + "x" + std::to_string(found->columns));
  return found;
}

Error Statistics::checkModel(const std::string &hash) const {
  if (hash == model)
    return Error::success();
  return fail("statistics of another model", path(), "model hash " + hash, model,
              "calibrate this model with skim calibrate");
}

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

template <typename T> static std::span<const uint8_t> bytesOf(std::span<const T> values) {
  return {reinterpret_cast<const uint8_t *>(values.data()), values.size_bytes()};
}

Expected<StatisticsWriter> StatisticsWriter::create(const std::string &path, std::vector<StatisticsLayer> layers,
                                                    const StatisticsFacts &facts, SafetensorsWriter::Options options) {
  std::vector<TensorSpec> specs;
  std::vector<Places> places;
  auto declare = [&](const std::string &layer, const char *suffix, DType type, std::vector<int64_t> shape) {
    specs.push_back({layer + suffix, type, std::move(shape)});
    return specs.size() - 1;
  };
  Json reads = Json::object();
  for (const StatisticsLayer &layer : layers) {
    Places place;
    place.begin = specs.size();
    int64_t n = layer.rows, k = layer.columns;
    bool gradients = facts.gradients && layer.gradients;
    if (layer.input == layer.name) {
      place.second = declare(layer.name, ".input_second_moment", DType::F32, {triangleSize(k)});
      place.first = declare(layer.name, ".input_first_moment", DType::F32, {k});
      place.absMax = declare(layer.name, ".input_abs_max", DType::F32, {k});
    }
    if (gradients) {
      place.guided = declare(layer.name, ".guided_second_moment", DType::F32,
                             facts.groups > 1 ? std::vector<int64_t>{facts.groups, triangleSize(k)}
                                              : std::vector<int64_t>{triangleSize(k)});
      place.output = declare(layer.name, ".output_squared_gradient", DType::F32, {n});
      if (layer.outputMoment)
        place.outputMoment = declare(layer.name, ".output_gradient_second_moment", DType::F32, {triangleSize(n)});
    }
    if (gradients && layer.weights) {
      place.gradient = declare(layer.name, ".squared_gradient", DType::BF16, {n, k});
      place.scale = declare(layer.name, ".squared_gradient_scale", DType::F32, {n});
      place.residual = declare(layer.name, ".squared_gradient_residual", DType::U16, {n, k});
    }
    reads[layer.name] = layer.input;
    place.end = specs.size();
    places.push_back(place);
  }
  std::map<std::string, std::string> metadata = {{"format", std::string(formatName)},
                                                 {"version", std::string(formatVersion)},
                                                 {"model_hash", facts.modelHash},
                                                 {"text_hash", facts.textHash},
                                                 {"options", facts.options},
                                                 {"tokens", std::to_string(facts.tokens)},
                                                 {"sequences", std::to_string(facts.sequences)},
                                                 {"reads", dumpJson(reads)}};
  Expected<SafetensorsWriter> created = SafetensorsWriter::create(path, std::move(specs), metadata, options);
  if (!created)
    return created.takeError();
  StatisticsWriter writer(std::move(*created));
  writer.declared = std::move(layers);
  writer.places = std::move(places);
  return writer;
}

void StatisticsWriter::adopt(size_t index) {
  for (size_t tensor = places[index].begin; tensor < places[index].end; ++tensor)
    writer.adopt(tensor);
}

Error StatisticsWriter::writeInput(size_t index, std::span<const float> second, std::span<const float> first,
                                   std::span<const float> absMax) {
  const Places &place = places[index];
  if (Error error = writer.write(place.second, bytesOf(second)))
    return error;
  if (Error error = writer.write(place.first, bytesOf(first)))
    return error;
  return writer.write(place.absMax, bytesOf(absMax));
}

Error StatisticsWriter::writeSquaredGradients(size_t index, int64_t begin, std::span<const float> sums) {
  const Places &place = places[index];
  int64_t k = declared[index].columns, rows = static_cast<int64_t>(sums.size()) / k;
  std::vector<float> scales(rows);
  std::vector<uint16_t> halves(sums.size()), residuals(sums.size());
  for (int64_t i = 0; i < rows; ++i) {
    const float *row = sums.data() + i * k;
    // A power of two: division by it loses nothing, and tiny sums stay clear of subnormal numbers.
    float most = *std::max_element(row, row + k);
    scales[i] = most > 0 ? std::ldexp(1.0f, std::clamp(std::ilogb(most), -100, 127)) : 1.0f;
    for (int64_t j = 0; j < k; ++j) {
      uint32_t word = std::bit_cast<uint32_t>(row[j] / scales[i]);
      halves[i * k + j] = roundedHalf(word);
      residuals[i * k + j] = residualOf(word);
    }
  }
  if (Error error = writer.write(place.gradient, begin * k * 2, bytesOf(std::span<const uint16_t>(halves))))
    return error;
  if (Error error = writer.write(place.residual, begin * k * 2, bytesOf(std::span<const uint16_t>(residuals))))
    return error;
  return writer.write(place.scale, begin * 4, bytesOf(std::span<const float>(scales)));
}

Error StatisticsWriter::writeGuided(size_t index, std::span<const float> guided) {
  return writer.write(places[index].guided, bytesOf(guided));
}

Error StatisticsWriter::writeOutputGradients(size_t index, std::span<const float> sums) {
  return writer.write(places[index].output, bytesOf(sums));
}

Error StatisticsWriter::writeOutputMoment(size_t index, std::span<const float> packed) {
  return writer.write(places[index].outputMoment, bytesOf(packed));
}
