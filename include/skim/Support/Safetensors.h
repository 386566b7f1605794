//===- Safetensors.h - reading and writing safetensors files ----*- C++ -*-===//
//
// Format: 8 bytes little-endian header length, that many bytes of JSON, then
// the tensors' data without holes (https://github.com/huggingface/safetensors).
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_SUPPORT_SAFETENSORS_H
#define SKIM_SUPPORT_SAFETENSORS_H

#include "skim/Support/AtomicOutput.h"
#include "skim/Support/Error.h"
#include "skim/Support/MappedFile.h"

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace skim {

/// Element types of safetensors. The F8 types are opaque bytes here.
enum class DType { F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, I16, I8, U64, U32, U16, U8, BOOL };

/// Bytes of one element.
size_t dtypeSize(DType type);
/// `F32`, as it stands in files.
const char *dtypeName(DType type);
/// The type of that name, if there is one.
std::optional<DType> parseDType(std::string_view name);

/// Product of `shape` × size of `type`, or nothing if a dimension is negative
/// or the product does not fit in 63 bits.
std::optional<uint64_t> tensorBytes(DType type, std::span<const int64_t> shape);

/// The DType that a C++ element type is read as.
template <typename T> constexpr bool dtypeMatches(DType type) {
  if constexpr (std::is_same_v<T, double>)
    return type == DType::F64;
  else if constexpr (std::is_same_v<T, float>)
    return type == DType::F32;
  else if constexpr (std::is_same_v<T, uint16_t>) // raw 16-bit floats too
    return type == DType::U16 || type == DType::F16 || type == DType::BF16;
  else if constexpr (std::is_same_v<T, int64_t>)
    return type == DType::I64;
  else if constexpr (std::is_same_v<T, int32_t>)
    return type == DType::I32;
  else if constexpr (std::is_same_v<T, int16_t>)
    return type == DType::I16;
  else if constexpr (std::is_same_v<T, int8_t>)
    return type == DType::I8;
  else if constexpr (std::is_same_v<T, uint64_t>)
    return type == DType::U64;
  else if constexpr (std::is_same_v<T, uint32_t>)
    return type == DType::U32;
  else if constexpr (std::is_same_v<T, uint8_t>)
    return type == DType::U8 || type == DType::BOOL || type == DType::F8_E4M3 || type == DType::F8_E5M2;
  else
    return false;
}

/// A tensor's entry; `offset` counts from the start of the file.
struct TensorInfo {
  std::string name;
  DType type = DType::F32;
  std::vector<int64_t> shape;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

/// Names of the writer's padding tensors begin with this; the reader hides them.
inline constexpr std::string_view paddingPrefix = "__padding__.";

/// A mapped safetensors file whose header was checked completely: lengths, JSON,
/// types, shapes against lengths, no holes, no overlaps, no duplicates.
class SafetensorsFile {
public:
  static Expected<SafetensorsFile> open(const std::string &path,
                                        MappedFile::Access access = MappedFile::Access::Normal);

  /// In the order of their data.
  const std::vector<TensorInfo> &tensors() const { return infos; }
  /// The tensor of that name, or null.
  const TensorInfo *find(std::string_view name) const;
  /// The tensor of that name; an error naming the file if absent.
  Expected<const TensorInfo *> get(std::string_view name) const;
  const std::map<std::string, std::string> &metadata() const { return meta; }
  const MappedFile &file() const { return *mapping; }
  const std::string &path() const { return mapping->path(); }

  std::span<const uint8_t> bytes(const TensorInfo &info) const {
    return mapping->span().subspan(info.offset, info.bytes);
  }
  /// The elements as T; an error if the type differs or the data is misaligned for T.
  template <typename T> Expected<std::span<const T>> as(const TensorInfo &info) const {
    const uint8_t *data = mapping->begin() + info.offset;
    if (!dtypeMatches<T>(info.type))
      return typeMismatch(info, sizeof(T));
    if (reinterpret_cast<uintptr_t>(data) % alignof(T))
      return misaligned(info, alignof(T));
    return std::span<const T>(reinterpret_cast<const T *>(data), info.bytes / sizeof(T));
  }
  /// Gives a tensor's pages back after use.
  void release(const TensorInfo &info) const { mapping->release(info.offset, info.bytes); }

private:
  explicit SafetensorsFile(std::shared_ptr<const MappedFile> mapping) : mapping(std::move(mapping)) {}
  Failure typeMismatch(const TensorInfo &info, size_t wanted) const;
  Failure misaligned(const TensorInfo &info, size_t alignment) const;
  std::shared_ptr<const MappedFile> mapping;
  std::vector<TensorInfo> infos;
  std::unordered_map<std::string, size_t> byName;
  std::map<std::string, std::string> meta;
};

/// A tensor to be written.
struct TensorSpec {
  std::string name;
  DType type;
  std::vector<int64_t> shape;
};

/// Writes a safetensors file whose tensors are all declared at once and whose
/// data arrives in any order, in pieces, from any thread, with bounded memory.
/// The file appears under its name at finish(); otherwise nothing remains.
class SafetensorsWriter {
public:
  struct Options {
    /// Every tensor's data begins at a multiple of this in the file (a power of
    /// two; 1: no padding). Gaps are filled by U8 tensors named `__padding__.N`,
    /// since the format allows no holes.
    unsigned alignment = 64;
    /// Keep unfinished work as `PATH.partial` for a later resume.
    bool resumable = false;
    /// Continue `PATH.partial` if it was begun with the same tensors and metadata.
    bool resume = false;
  };

  static Expected<SafetensorsWriter> create(const std::string &path, std::vector<TensorSpec> tensors,
                                            const std::map<std::string, std::string> &metadata, Options options);
  static Expected<SafetensorsWriter> create(const std::string &path, std::vector<TensorSpec> tensors,
                                            const std::map<std::string, std::string> &metadata = {}) {
    return create(path, std::move(tensors), metadata, Options());
  }

  /// Writes `bytes` at byte `offset` inside tensor `index`. Thread-safe for
  /// pieces that do not overlap.
  Error write(size_t index, uint64_t offset, std::span<const uint8_t> bytes);
  /// A whole tensor.
  Error write(size_t index, std::span<const uint8_t> bytes);
  /// Tensor `index` was written completely by the run that is resumed.
  void adopt(size_t index);
  /// True if `resume` found a file with the same header.
  bool resumed() const { return continued; }

  /// Checks that every byte was written, flushes and renames.
  Error finish();

  /// Entries with their final offsets, in declaration order.
  const std::vector<TensorInfo> &layout() const { return infos; }
  uint64_t fileBytes() const { return total; }

private:
  SafetensorsWriter(AtomicFile file, std::string path) : file(std::move(file)), path(std::move(path)) {}
  AtomicFile file;
  std::string path;
  std::vector<TensorInfo> infos;
  std::unique_ptr<std::atomic<uint64_t>[]> written;
  uint64_t total = 0;
  bool continued = false;
};

/// One tensor with its data, for files that fit in memory.
struct NamedTensor {
  TensorSpec spec;
  std::span<const uint8_t> data;
};

/// Writes a whole file; plain layout without padding tensors.
Error writeSafetensors(const std::string &path, const std::vector<NamedTensor> &tensors,
                       const std::map<std::string, std::string> &metadata = {});

} // namespace skim

#endif // SKIM_SUPPORT_SAFETENSORS_H
