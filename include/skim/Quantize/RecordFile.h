//===- RecordFile.h - errors and codes kept for the next budget -*- C++ -*-===//
//
// A safetensors file beside the statistics: per layer `L.errors` F32
// [N, terms] and per width `L.b.codes`, `L.b.table`, `L.b.table_scale`.
// `__metadata__` holds `format` "skim-record", `version`, and the key: whatever
// the caller's hashes of model, statistics and options are. Deleting it loses
// nothing but time.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_QUANTIZE_RECORDFILE_H
#define SKIM_QUANTIZE_RECORDFILE_H

#include "skim/Quantize/LayerCodes.h"
#include "skim/Support/Safetensors.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace skim {

/// A layer that will be recorded.
struct RecordedShape {
  std::string name;
  int64_t rows = 0, columns = 0;
};

/// The options that decide what a record holds, as they stand in its metadata
/// (all but threads).
std::string recordKey(const RecordOptions &options);

/// Writes a record layer by layer, in any order; it appears whole at finish().
/// add() may be called from several threads, for different layers.
class RecordWriter {
public:
  /// `hashes`: what the record belongs to, such as model and statistics.
  static Expected<RecordWriter> create(const std::string &path, const std::vector<RecordedShape> &layers,
                                       const RecordOptions &options, const std::map<std::string, std::string> &hashes);
  Error add(const std::string &layer, const LayerRecord &record);
  Error finish();

private:
  RecordWriter(SafetensorsWriter writer, std::map<std::string, size_t> indexOf)
      : writer(std::move(writer)), indexOf(std::move(indexOf)) {}
  SafetensorsWriter writer;
  std::map<std::string, size_t> indexOf; // tensor name → index
};

/// A record, mapped.
class RecordFile {
public:
  /// Fails if the file is damaged. A record of other hashes, options or version
  /// fails as well, saying which differs: callers then record anew.
  static Expected<RecordFile> open(const std::string &path, const RecordOptions &options,
                                   const std::map<std::string, std::string> &hashes);
  /// Errors and shape of a layer whose rows have `columns` weights; `codes` stays
  /// empty. Fails if the layer is not there.
  Expected<LayerRecord> errors(const std::string &layer, int64_t columns) const;
  /// All of a layer, whose rows have `columns` weights.
  Expected<LayerRecord> load(const std::string &layer, int64_t columns) const;

private:
  RecordFile(SafetensorsFile file, const RecordOptions &options) : file(std::move(file)), options(options) {}
  Expected<LayerRecord> read(const std::string &layer, int64_t columns, bool withCodes) const;
  SafetensorsFile file;
  RecordOptions options;
};

} // namespace skim

#endif // SKIM_QUANTIZE_RECORDFILE_H
