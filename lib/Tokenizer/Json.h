//===- Json.h - reading fields of untrusted JSON -----------------*- C++ -*-===//
#ifndef SKIM_LIB_TOKENIZER_JSON_H
#define SKIM_LIB_TOKENIZER_JSON_H

#include "skim/Support/Json.h"

#include <functional>
#include <string>
#include <string_view>

namespace skim::json {

using Value = skim::Json;

/// Ids above this are damage: no vocabulary has four million tokens.
inline constexpr int64_t largestId = (1 << 22) - 1;

/// "number", "string", ...; "nothing" for an absent field.
std::string typeName(const Value *value);

/// The field `name`, or nullptr when it is absent or null.
const Value *find(const Value &object, const char *name);

/// Optional fields: the default where absent or null, an error on another type.
Error readBool(const Value &object, const char *name, bool &value, const std::string &where);
Error readString(const Value &object, const char *name, std::string &value, const std::string &where);
Error readSize(const Value &object, const char *name, size_t &value, const std::string &where);

/// The field "type" of a component.
Expected<std::string> readType(const Value &object, const std::string &where);
/// Calls `add` with each component of a "Sequence", its list named `list`, with
/// where it stands; `depth`: of Sequences around this one.
Error readSequence(const Value &sequence, const char *list, const std::string &where, int depth,
                   const std::function<Error(const Value &, const std::string &)> &add);
/// A required string of at least one byte.
Expected<std::string> needString(const Value &object, const char *name, const std::string &where);
/// An id from 0 to largestId.
Expected<int32_t> needId(const Value &value, const std::string &where);

/// {"String": ...} or {"Regex": ...}.
struct Pattern {
  bool isRegex = false;
  std::string text;
};
Expected<Pattern> needPattern(const Value &object, const std::string &where);

} // namespace skim::json

#endif // SKIM_LIB_TOKENIZER_JSON_H
