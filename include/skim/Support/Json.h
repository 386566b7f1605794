//===- Json.h - JSON that comes from outside --------------------*- C++ -*-===//
//
// Thin helpers over nlohmann-json: parsing that never throws, is bounded in
// depth and refuses duplicate keys; typed access whose errors name the file
// and the JSON pointer of the value, what was expected and what was found.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_SUPPORT_JSON_H
#define SKIM_SUPPORT_JSON_H

#include "skim/Support/Error.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace skim {

/// Objects keep their keys sorted, so that dumps are deterministic.
using Json = nlohmann::json;

/// Parses `text`; `where` (a file's name) stands in errors. Nesting deeper than
/// `maxDepth` and duplicate keys of an object are errors.
Expected<Json> parseJson(std::string_view text, const std::string &where, unsigned maxDepth = 64);

/// Reads and parses a file.
Expected<Json> parseJsonFile(const std::string &path, unsigned maxDepth = 64);

/// Text of `value`; `indent` < 0: one line. Bytes that are no UTF-8 are replaced.
std::string dumpJson(const Json &value, int indent = -1);

/// A value inside a document that we do not trust, with its place. Cheap to
/// copy; valid as long as the document.
///   auto heads = JsonCursor(manifest, path).member("heads")  →  error at "…/manifest.json /heads"
class JsonCursor {
public:
  JsonCursor(const Json &value, std::string where) : value(&value), where(std::move(where)) {}

  const Json &json() const { return *value; }
  /// File and JSON pointer, as errors name it.
  std::string place() const { return pointer.empty() ? where : where + " " + pointer; }

  bool isNull() const { return value->is_null(); }
  bool isObject() const { return value->is_object(); }
  bool isArray() const { return value->is_array(); }
  bool isString() const { return value->is_string(); }
  bool isNumber() const { return value->is_number(); }
  bool isBool() const { return value->is_boolean(); }

  /// The member `key`; an error if this is no object or has no such member.
  Expected<JsonCursor> member(std::string_view key) const;
  /// The member `key`, or nothing if this is no object, has no such member or it is null.
  std::optional<JsonCursor> find(std::string_view key) const;
  /// All members in key order; an error if this is no object.
  Expected<std::vector<std::pair<std::string, JsonCursor>>> members() const;
  /// All elements; an error if this is no array.
  Expected<std::vector<JsonCursor>> elements() const;

  /// An integer in [least, most].
  Expected<int64_t> integer(int64_t least = INT64_MIN, int64_t most = INT64_MAX) const;
  /// Any number, as a double.
  Expected<double> number() const;
  Expected<bool> boolean() const;
  Expected<std::string> string() const;
  /// An array of integers in [least, most].
  Expected<std::vector<int64_t>> integers(int64_t least = INT64_MIN, int64_t most = INT64_MAX) const;
  Expected<std::vector<std::string>> strings() const;

  // member(key) and then the getter above.
  Expected<int64_t> integer(std::string_view key, int64_t least = INT64_MIN, int64_t most = INT64_MAX) const;
  Expected<double> number(std::string_view key) const;
  Expected<bool> boolean(std::string_view key) const;
  Expected<std::string> string(std::string_view key) const;
  // The same, with a value for a missing or null member.
  Expected<int64_t> integerOr(std::string_view key, int64_t otherwise, int64_t least = INT64_MIN,
                              int64_t most = INT64_MAX) const;
  Expected<double> numberOr(std::string_view key, double otherwise) const;
  Expected<bool> booleanOr(std::string_view key, bool otherwise) const;
  Expected<std::string> stringOr(std::string_view key, std::string otherwise) const;

  /// `invalid value at PLACE: expected E, got <a short form of this value>`.
  Failure mismatch(std::string expected) const;

private:
  JsonCursor child(const Json &value, std::string_view key) const;
  const Json *value;
  std::string where;
  std::string pointer;
};

} // namespace skim

#endif // SKIM_SUPPORT_JSON_H
