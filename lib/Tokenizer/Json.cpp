#include "Json.h"

using namespace skim;
using namespace skim::json;

std::string json::typeName(const Value *value) { return value ? value->type_name() : "nothing"; }

const Value *json::find(const Value &object, const char *name) {
  if (!object.is_object())
    return nullptr;
  auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

static std::string field(const std::string &where, const char *name) { return where + "." + name; }

Error json::readBool(const Value &object, const char *name, bool &value, const std::string &where) {
  const Value *found = find(object, name);
  if (!found)
    return Error::success();
  if (!found->is_boolean())
    return fail("damaged tokenizer", field(where, name), "true or false", typeName(found));
  value = found->get<bool>();
  return Error::success();
}

Error json::readString(const Value &object, const char *name, std::string &value, const std::string &where) {
  const Value *found = find(object, name);
  if (!found)
    return Error::success();
  if (!found->is_string())
    return fail("damaged tokenizer", field(where, name), "a string", typeName(found));
  value = found->get_ref<const std::string &>();
  return Error::success();
}

Error json::readSize(const Value &object, const char *name, size_t &value, const std::string &where) {
  const Value *found = find(object, name);
  if (!found)
    return Error::success();
  constexpr uint64_t largest = 1 << 30;
  if (!found->is_number_unsigned() || found->get<uint64_t>() > largest)
    return fail("damaged tokenizer", field(where, name), "a small whole number",
                found->is_number() ? found->dump() : typeName(found));
  value = found->get<uint64_t>();
  return Error::success();
}

Expected<std::string> json::readType(const Value &object, const std::string &where) {
  if (!object.is_object())
    return fail("damaged tokenizer", where, "an object", typeName(&object));
  return needString(object, "type", where);
}

Error json::readSequence(const Value &sequence, const char *list, const std::string &where, int depth,
                         const std::function<Error(const Value &, const std::string &)> &add) {
  constexpr int deepest = 16;
  const Value *found = find(sequence, list);
  if (!found || !found->is_array())
    return fail("damaged tokenizer", field(where, list), "a list", typeName(found));
  if (depth >= deepest)
    return fail("damaged tokenizer", where, "at most 16 nested sequences", "more");
  for (size_t i = 0; i < found->size(); ++i)
    if (Error error = add((*found)[i], where + "[" + std::to_string(i) + "]"))
      return error;
  return Error::success();
}

Expected<std::string> json::needString(const Value &object, const char *name, const std::string &where) {
  const Value *found = find(object, name);
  if (!found || !found->is_string() || found->get_ref<const std::string &>().empty())
    return fail("damaged tokenizer", field(where, name), "a string",
                found && found->is_string() ? "an empty one" : typeName(found));
  return found->get_ref<const std::string &>();
}

Expected<int32_t> json::needId(const Value &value, const std::string &where) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(largestId))
    return fail("damaged tokenizer", where, "a token id from 0 to " + std::to_string(largestId),
                value.is_number() ? value.dump() : typeName(&value));
  return static_cast<int32_t>(value.get<uint64_t>());
}

Expected<Pattern> json::needPattern(const Value &object, const std::string &where) {
  const Value *found = find(object, "pattern");
  for (const char *kind : {"String", "Regex"}) {
    const Value *text = found ? find(*found, kind) : nullptr;
    if (text && text->is_string())
      return Pattern{kind[0] == 'R', text->get_ref<const std::string &>()};
  }
  return fail("damaged tokenizer", field(where, "pattern"), "{\"String\": ...} or {\"Regex\": ...}", typeName(found));
}
