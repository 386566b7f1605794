#include "skim/Quantize/RecordFile.h"
#include "skim/Support/Json.h"

#include <cmath>
#include <cstring>

using namespace skim;

static constexpr const char *recordFormat = "skim-record";
static constexpr const char *recordVersion = "3";

std::string skim::recordKey(const RecordOptions &options) {
  Json json = {{"bits", {options.minBits, options.maxBits}},
               {"cycles", options.cycles},
               {"by_gradients", options.clusterByGradients},
               {"damping", options.damping},
               {"errors_of_clusters", options.errorsOfClusters},
               {"feedback", options.feedback},
               {"measure", int(options.measure)},
               {"rounds", options.rounds},
               {"table", dtypeName(options.table)}};
  if (options.allTerms)
    json["all_terms"] = true;
  return dumpJson(json);
}

static std::string codesPrefix(const std::string &layer, unsigned bits) {
  return layer + "." + std::to_string(bits) + ".";
}

static std::map<std::string, std::string> metadataOf(const RecordOptions &options,
                                                     const std::map<std::string, std::string> &hashes) {
  std::map<std::string, std::string> metadata = hashes;
  metadata["format"] = recordFormat;
  metadata["version"] = recordVersion;
  metadata["options"] = recordKey(options);
  return metadata;
}

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

Expected<RecordWriter> RecordWriter::create(const std::string &path, const std::vector<RecordedShape> &layers,
                                            const RecordOptions &options,
                                            const std::map<std::string, std::string> &hashes) {
  std::vector<TensorSpec> specs;
  std::map<std::string, size_t> indexOf;
  auto declare = [&](TensorSpec spec) {
    indexOf[spec.name] = specs.size();
    specs.push_back(std::move(spec));
  };
  for (const RecordedShape &layer : layers) {
    const size_t further = options.allTerms ? furtherTerms(layer.columns).size() : 0;
    declare(
        {layer.name + ".errors", DType::F32, {layer.rows, int64_t(options.maxBits - options.minBits + 1 + further)}});
    for (unsigned b = options.minBits; b <= options.maxBits; ++b)
      for (ComponentSpec &spec : componentsOf(CodebookFormat{b, options.table, false}, layer.rows, layer.columns))
        declare({codesPrefix(layer.name, b) + spec.name, spec.type, std::move(spec.shape)});
  }
  auto writer = SafetensorsWriter::create(path, std::move(specs), metadataOf(options, hashes));
  if (!writer)
    return writer.takeError();
  return RecordWriter(std::move(*writer), std::move(indexOf));
}

Error RecordWriter::add(const std::string &layer, const LayerRecord &record) {
  auto put = [&](const std::string &name, std::span<const uint8_t> bytes) -> Error {
    auto found = indexOf.find(name);
    if (found == indexOf.end())
      return fail("layer was not declared", name, "a layer and width of the record", "another");
    return writer.write(found->second, bytes);
  };
  if (Error error = put(layer + ".errors", std::span(reinterpret_cast<const uint8_t *>(record.errors.data()),
                                                     record.errors.size() * sizeof(float))))
    return error;
  for (unsigned b = record.minBits; b <= record.maxBits; ++b)
    for (const QuantizedMatrix::Component &component : record.codes[b - record.minBits].components)
      if (Error error = put(codesPrefix(layer, b) + component.spec.name, component.bytes))
        return error;
  return Error::success();
}

Error RecordWriter::finish() { return writer.finish(); }

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

Expected<RecordFile> RecordFile::open(const std::string &path, const RecordOptions &options,
                                      const std::map<std::string, std::string> &hashes) {
  auto file = SafetensorsFile::open(path);
  if (!file)
    return file.takeError();
  for (const auto &[key, value] : metadataOf(options, hashes)) {
    auto found = file->metadata().find(key);
    const std::string got = found == file->metadata().end() ? "none" : found->second;
    if (got != value)
      return fail("record is of something else", path + " /" + key, value, got, "delete it to record anew");
  }
  return RecordFile(std::move(*file), options);
}

Expected<LayerRecord> RecordFile::read(const std::string &layer, int64_t columns, bool withCodes) const {
  auto info = file.get(layer + ".errors");
  if (!info)
    return info.takeError();
  auto errors = file.as<float>(**info);
  if (!errors)
    return errors.takeError();
  LayerRecord record;
  record.minBits = options.minBits;
  record.maxBits = options.maxBits;
  record.columns = columns;
  if (options.allTerms)
    record.further = furtherTerms(columns);
  const std::vector<int64_t> &shape = (*info)->shape;
  if (shape.size() != 2 || shape[1] != int64_t(record.terms()))
    return fail("damaged record", file.path() + " /" + layer + ".errors", "one column a term", "another shape");
  record.rows = shape[0];
  record.errors.assign(errors->begin(), errors->end());
  for (float error : record.errors)
    if (!(error >= 0) || std::isinf(error))
      return fail("damaged record", file.path() + " /" + layer + ".errors", "finite errors of at least 0",
                  std::to_string(error));
  if (!withCodes)
    return record;
  for (unsigned b = options.minBits; b <= options.maxBits; ++b) {
    QuantizedMatrix matrix;
    for (ComponentSpec &spec : componentsOf(CodebookFormat{b, options.table, false}, record.rows, 0)) {
      auto tensor = file.get(codesPrefix(layer, b) + spec.name);
      if (!tensor)
        return tensor.takeError();
      spec.shape = (*tensor)->shape;
      if ((*tensor)->type != spec.type || spec.shape.empty() || spec.shape[0] != record.rows)
        return fail("damaged record", file.path() + " /" + (*tensor)->name, dtypeName(spec.type) + std::string(" rows"),
                    "another type or shape");
      spec.rowBytes = record.rows ? (*tensor)->bytes / record.rows : 0;
      const std::span<const uint8_t> bytes = file.bytes(**tensor);
      matrix.components.push_back({std::move(spec), std::vector<uint8_t>(bytes.begin(), bytes.end())});
      file.release(**tensor);
    }
    record.codes.push_back(std::move(matrix));
  }
  return record;
}

Expected<LayerRecord> RecordFile::errors(const std::string &layer, int64_t columns) const {
  return read(layer, columns, false);
}

Expected<LayerRecord> RecordFile::load(const std::string &layer, int64_t columns) const {
  auto record = read(layer, columns, true);
  if (!record)
    return record;
  for (unsigned b = options.minBits; b <= options.maxBits; ++b) {
    QuantizedMatrix &matrix = record->codes[b - options.minBits];
    matrix.rows = record->rows;
    matrix.columns = columns;
    const auto expected = componentsOf(CodebookFormat{b, options.table, false}, record->rows, columns);
    for (size_t i = 0; i < expected.size(); ++i)
      if (matrix.components[i].spec.shape != expected[i].shape)
        return fail("record does not fit the layer", file.path() + " /" + codesPrefix(layer, b) + expected[i].name,
                    "codes of " + std::to_string(columns) + " columns", "another shape", "delete it to record anew");
  }
  return record;
}
