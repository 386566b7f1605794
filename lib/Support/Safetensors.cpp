#include "skim/Support/Safetensors.h"
#include "skim/Support/Json.h"

#include <algorithm>
#include <tuple>
#include <unordered_set>

using namespace skim;

static constexpr struct {
  const char *name;
  DType type;
  size_t size;
} dtypes[] = {
    {"F64", DType::F64, 8},         {"F32", DType::F32, 4},         {"F16", DType::F16, 2},   {"BF16", DType::BF16, 2},
    {"F8_E4M3", DType::F8_E4M3, 1}, {"F8_E5M2", DType::F8_E5M2, 1}, {"I64", DType::I64, 8},   {"I32", DType::I32, 4},
    {"I16", DType::I16, 2},         {"I8", DType::I8, 1},           {"U64", DType::U64, 8},   {"U32", DType::U32, 4},
    {"U16", DType::U16, 2},         {"U8", DType::U8, 1},           {"BOOL", DType::BOOL, 1},
};

size_t skim::dtypeSize(DType type) { return dtypes[static_cast<size_t>(type)].size; }
const char *skim::dtypeName(DType type) { return dtypes[static_cast<size_t>(type)].name; }

std::optional<DType> skim::parseDType(std::string_view name) {
  for (const auto &entry : dtypes)
    if (name == entry.name)
      return entry.type;
  return std::nullopt;
}

std::optional<uint64_t> skim::tensorBytes(DType type, std::span<const int64_t> shape) {
  // A zero anywhere makes the tensor empty, but must not hide a product that overflows before it.
  uint64_t product = dtypeSize(type);
  bool empty = false;
  for (int64_t dim : shape) {
    if (dim < 0)
      return std::nullopt;
    if (dim == 0)
      empty = true;
    else if (__builtin_mul_overflow(product, static_cast<uint64_t>(dim), &product) || product > INT64_MAX)
      return std::nullopt;
  }
  return empty ? 0 : product;
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

/// The header may not be longer than this; the reference implementation's limit too.
static constexpr uint64_t maxHeader = 100'000'000;

static Expected<TensorInfo> readEntry(const std::string &name, const JsonCursor &entry, uint64_t dataBytes) {
  TensorInfo info;
  info.name = name;
  Expected<JsonCursor> typeEntry = entry.member("dtype");
  if (!typeEntry)
    return typeEntry.takeError();
  Expected<std::string> typeName = typeEntry->string();
  if (!typeName)
    return typeName.takeError();
  std::optional<DType> type = parseDType(*typeName);
  if (!type)
    return typeEntry->mismatch("a safetensors element type such as F32, F16, BF16, I8 or U8");
  info.type = *type;

  Expected<JsonCursor> shapeEntry = entry.member("shape");
  if (!shapeEntry)
    return shapeEntry.takeError();
  Expected<std::vector<int64_t>> shape = shapeEntry->integers(0);
  if (!shape)
    return shape.takeError();
  info.shape = std::move(*shape);
  std::optional<uint64_t> bytes = tensorBytes(info.type, info.shape);
  if (!bytes)
    return shapeEntry->mismatch("a shape of fewer than 2^63 bytes");

  Expected<JsonCursor> offsetsEntry = entry.member("data_offsets");
  if (!offsetsEntry)
    return offsetsEntry.takeError();
  Expected<std::vector<int64_t>> offsets = offsetsEntry->integers(0);
  if (!offsets)
    return offsets.takeError();
  if (offsets->size() != 2)
    return offsetsEntry->mismatch("a begin and an end");
  uint64_t begin = static_cast<uint64_t>((*offsets)[0]), end = static_cast<uint64_t>((*offsets)[1]);
  std::string got = "[" + std::to_string(begin) + ", " + std::to_string(end) + "]";
  if (begin > end || end > dataBytes)
    return fail("tensor data out of range", offsetsEntry->place(),
                "offsets within the " + std::to_string(dataBytes) + " bytes of data", got, "the file may be truncated");
  if (end - begin != *bytes)
    return fail("tensor length does not match its shape", offsetsEntry->place(), std::to_string(*bytes) + " bytes",
                std::to_string(end - begin));
  info.offset = begin;
  info.bytes = *bytes;
  return info;
}

Expected<SafetensorsFile> SafetensorsFile::open(const std::string &path, MappedFile::Access access) {
  Expected<std::shared_ptr<const MappedFile>> opened = MappedFile::open(path, access);
  if (!opened)
    return opened.takeError();
  std::shared_ptr<const MappedFile> mapping = *opened;
  uint64_t size = mapping->size();
  if (size < 8)
    return fail("not a safetensors file", path, "at least 8 bytes", std::to_string(size));
  uint64_t headerBytes = 0;
  for (int i = 7; i >= 0; --i)
    headerBytes = headerBytes << 8 | mapping->begin()[i];
  if (headerBytes > maxHeader || headerBytes > size - 8)
    return fail("not a safetensors file", path,
                "a header of at most " + std::to_string(std::min(maxHeader, size - 8)) + " bytes",
                std::to_string(headerBytes), "the file may be truncated");
  std::string_view text = mapping->bytes().substr(8, headerBytes);
  Expected<Json> header = parseJson(text, path, 8);
  if (!header)
    return header.takeError();
  JsonCursor root(*header, path);
  Expected<std::vector<std::pair<std::string, JsonCursor>>> members = root.members();
  if (!members)
    return members.takeError();

  SafetensorsFile file(std::move(mapping));
  uint64_t dataStart = 8 + headerBytes, dataBytes = size - dataStart;
  for (auto &[name, entry] : *members) {
    if (name == "__metadata__") {
      Expected<std::vector<std::pair<std::string, JsonCursor>>> pairs = entry.members();
      if (!pairs)
        return pairs.takeError();
      for (auto &[key, value] : *pairs) {
        Expected<std::string> string = value.string();
        if (!string)
          return string.takeError();
        file.meta.emplace(key, std::move(*string));
      }
      continue;
    }
    Expected<TensorInfo> info = readEntry(name, entry, dataBytes);
    if (!info)
      return info.takeError();
    file.infos.push_back(std::move(*info));
  }

  std::sort(file.infos.begin(), file.infos.end(), [](const TensorInfo &a, const TensorInfo &b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  uint64_t end = 0;
  for (TensorInfo &info : file.infos) {
    if (info.offset != end)
      return fail(info.offset < end ? "tensors overlap" : "hole before a tensor", path + " /" + info.name,
                  "data from byte " + std::to_string(end), std::to_string(info.offset));
    end += info.bytes;
    info.offset += dataStart;
  }
  if (end != dataBytes)
    return fail("data after the last tensor", path, std::to_string(end) + " bytes of data", std::to_string(dataBytes));
  std::erase_if(file.infos, [](const TensorInfo &info) { return info.name.starts_with(paddingPrefix); });
  for (size_t i = 0; i < file.infos.size(); ++i)
    file.byName.emplace(file.infos[i].name, i);
  return file;
}

const TensorInfo *SafetensorsFile::find(std::string_view name) const {
  auto found = byName.find(std::string(name));
  return found == byName.end() ? nullptr : &infos[found->second];
}

Expected<const TensorInfo *> SafetensorsFile::get(std::string_view name) const {
  if (const TensorInfo *info = find(name))
    return info;
  return fail("missing tensor", path(), "a tensor '" + std::string(name) + "'",
              std::to_string(infos.size()) + " tensors without it");
}

Failure SafetensorsFile::typeMismatch(const TensorInfo &info, size_t wanted) const {
  return fail("unexpected element type", path() + " /" + info.name,
              "another type of " + std::to_string(wanted) + " bytes", dtypeName(info.type));
}

Failure SafetensorsFile::misaligned(const TensorInfo &info, size_t alignment) const {
  return fail("misaligned tensor", path() + " /" + info.name,
              "data at a multiple of " + std::to_string(alignment) + " bytes", "byte " + std::to_string(info.offset));
}

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

Expected<SafetensorsWriter> SafetensorsWriter::create(const std::string &path, std::vector<TensorSpec> tensors,
                                                      const std::map<std::string, std::string> &metadata,
                                                      Options options) {
  uint64_t alignment = std::max(1u, options.alignment);
  std::vector<TensorInfo> infos;
  std::unordered_set<std::string> names;
  // Entries are written by hand in data order, as the reference implementation does; only strings need JSON's care.
  std::string header = "{";
  auto quote = [](const std::string &text) { return dumpJson(Json(text)); };
  auto append = [&](const std::string &name, DType type, const std::vector<int64_t> &shape, uint64_t begin,
                    uint64_t end) {
    header += header.size() > 1 ? "," : "";
    header += quote(name) + ":{\"dtype\":\"" + dtypeName(type) + "\",\"shape\":[";
    for (size_t i = 0; i < shape.size(); ++i)
      header += (i ? "," : "") + std::to_string(shape[i]);
    header += "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) + "]}";
  };
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    bool first = true;
    for (const auto &[key, value] : metadata) {
      header += (first ? "" : ",") + quote(key) + ":" + quote(value);
      first = false;
    }
    header += "}";
  }
  uint64_t at = 0;
  size_t paddings = 0;
  for (TensorSpec &spec : tensors) {
    if (spec.name == "__metadata__" || spec.name.starts_with(paddingPrefix) || !names.insert(spec.name).second)
      return fail("invalid tensor name", path, "distinct names that safetensors does not reserve",
                  "'" + spec.name + "'");
    std::optional<uint64_t> bytes = tensorBytes(spec.type, spec.shape);
    uint64_t padding = (alignment - at % alignment) % alignment;
    if (!bytes || *bytes > INT64_MAX - at - padding)
      return fail("tensor is too large", path + " /" + spec.name, "fewer than 2^63 bytes", "more");
    if (padding) {
      append(std::string(paddingPrefix) + std::to_string(paddings++), DType::U8, {static_cast<int64_t>(padding)}, at,
             at + padding);
      at += padding;
    }
    append(spec.name, spec.type, spec.shape, at, at + *bytes);
    infos.push_back({std::move(spec.name), spec.type, std::move(spec.shape), at, *bytes});
    at += *bytes;
  }
  header += "}";
  // Trailing spaces align the data section; 8 at least, for types of 8 bytes.
  uint64_t headerAlignment = std::max<uint64_t>(alignment, 8);
  header.append((headerAlignment - (8 + header.size()) % headerAlignment) % headerAlignment, ' ');
  if (header.size() > maxHeader)
    return fail("too many tensors", path, "a header of at most " + std::to_string(maxHeader) + " bytes",
                std::to_string(header.size()));
  std::string prefix(8, '\0');
  for (int i = 0; i < 8; ++i)
    prefix[i] = static_cast<char>(header.size() >> (8 * i));
  prefix += header;
  uint64_t total = prefix.size() + at;

  bool continued = false;
  if (options.resume) {
    // The old file must have the same header to the byte, and room for everything.
    Expected<std::shared_ptr<const MappedFile>> old = MappedFile::open(path + ".partial");
    continued = old && (*old)->size() == total && (*old)->bytes().starts_with(prefix);
  }
  bool resumable = options.resumable || options.resume;
  Expected<AtomicFile> file =
      resumable ? AtomicFile::createResumable(path, /*resume=*/continued) : AtomicFile::create(path);
  if (!file)
    return file.takeError();
  if (!continued) {
    if (Error error = file->reserve(total))
      return error;
    if (Error error = file->writeAt(0, std::span(reinterpret_cast<const uint8_t *>(prefix.data()), prefix.size())))
      return error;
  }
  if (resumable)
    file->keepIfUnfinished();
  SafetensorsWriter writer(std::move(*file), path);
  for (TensorInfo &info : infos)
    info.offset += prefix.size();
  writer.infos = std::move(infos);
  writer.written = std::make_unique<std::atomic<uint64_t>[]>(writer.infos.size());
  writer.total = total;
  writer.continued = continued;
  return writer;
}

Error SafetensorsWriter::write(size_t index, uint64_t offset, std::span<const uint8_t> bytes) {
  const TensorInfo &info = infos[index];
  if (offset > info.bytes || bytes.size() > info.bytes - offset)
    return fail("tensor data out of range", path + " /" + info.name, "at most " + std::to_string(info.bytes) + " bytes",
                std::to_string(bytes.size()) + " bytes from byte " + std::to_string(offset));
  if (Error error = file.writeAt(info.offset + offset, bytes))
    return error;
  written[index].fetch_add(bytes.size(), std::memory_order_relaxed);
  return Error::success();
}

Error SafetensorsWriter::write(size_t index, std::span<const uint8_t> bytes) {
  const TensorInfo &info = infos[index];
  if (bytes.size() != info.bytes)
    return fail("tensor has the wrong length", path + " /" + info.name, std::to_string(info.bytes) + " bytes",
                std::to_string(bytes.size()));
  return write(index, 0, bytes);
}

void SafetensorsWriter::adopt(size_t index) { written[index] = infos[index].bytes; }

Error SafetensorsWriter::finish() {
  for (size_t i = 0; i < infos.size(); ++i)
    if (written[i].load() != infos[i].bytes)
      return fail("tensor was not written completely", path + " /" + infos[i].name,
                  std::to_string(infos[i].bytes) + " bytes", std::to_string(written[i].load()));
  return file.commit();
}

Error skim::writeSafetensors(const std::string &path, const std::vector<NamedTensor> &tensors,
                             const std::map<std::string, std::string> &metadata) {
  std::vector<TensorSpec> specs;
  for (const NamedTensor &tensor : tensors)
    specs.push_back(tensor.spec);
  SafetensorsWriter::Options options;
  options.alignment = 1;
  Expected<SafetensorsWriter> writer = SafetensorsWriter::create(path, std::move(specs), metadata, options);
  if (!writer)
    return writer.takeError();
  for (size_t i = 0; i < tensors.size(); ++i)
    if (Error error = writer->write(i, tensors[i].data))
      return error;
  return writer->finish();
}
