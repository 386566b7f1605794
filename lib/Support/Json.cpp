#include "skim/Support/Json.h"
#include "skim/Support/MappedFile.h"

#include <cmath>

using namespace skim;

namespace {
/// Builds a document from parse events, without recursion. Returning false
/// stops the parser; `error` then says why.
class Builder : public nlohmann::json_sax<Json> {
public:
  Builder(const std::string &where, unsigned maxDepth) : where(where), maxDepth(maxDepth) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t &text) override {
    if (!std::isfinite(value))
      return stop(fail("number out of range", where, "a finite number", text.substr(0, 40)));
    return add(value);
  }
  bool string(string_t &value) override { return add(std::move(value)); }
  bool binary(binary_t &) override { return stop(fail("malformed JSON", where)); }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t &name) override {
    auto [place, added] = stack.back()->get_ref<Json::object_t &>().emplace(std::move(name), nullptr);
    if (!added)
      return stop(fail("duplicate key in JSON", where, "each key once", "'" + place->first.substr(0, 80) + "' twice"));
    slot = &place->second;
    return true;
  }
  bool parse_error(std::size_t position, const std::string &token, const nlohmann::detail::exception &) override {
    // nlohmann's token is all that it read since the last one: keep its end, the place that is wrong.
    std::string shown = token.size() > 32 ? token.substr(token.size() - 32) : token;
    return stop(fail("malformed JSON", where + " byte " + std::to_string(position), "well-formed UTF-8 JSON",
                     shown.empty() ? "the end of the text" : "'" + shown + "'"));
  }

  Json root;
  Error error;

private:
  bool stop(Failure failure) {
    if (!error)
      error = std::move(failure);
    return false;
  }
  Json *place(Json value) {
    Json *target;
    if (stack.empty()) {
      target = &root;
    } else if (stack.back()->is_array()) {
      Json::array_t &array = stack.back()->get_ref<Json::array_t &>();
      array.push_back(std::move(value));
      return &array.back();
    } else {
      target = slot;
    }
    *target = std::move(value);
    return target;
  }
  template <typename T> bool add(T &&value) {
    place(Json(std::forward<T>(value)));
    return true;
  }
  bool open(Json container) {
    if (stack.size() >= maxDepth)
      return stop(fail("JSON is nested too deeply", where, "at most " + std::to_string(maxDepth) + " levels", "more"));
    stack.push_back(place(std::move(container)));
    return true;
  }
  bool close() {
    stack.pop_back();
    return true;
  }

  const std::string &where;
  unsigned maxDepth;
  std::vector<Json *> stack;
  Json *slot = nullptr;
};
} // namespace

Expected<Json> skim::parseJson(std::string_view text, const std::string &where, unsigned maxDepth) {
  Builder builder(where, maxDepth);
  bool parsed = Json::sax_parse(text.begin(), text.end(), &builder);
  if (builder.error)
    return std::move(builder.error);
  if (!parsed)
    return fail("malformed JSON", where);
  return std::move(builder.root);
}

Expected<Json> skim::parseJsonFile(const std::string &path, unsigned maxDepth) {
  Expected<std::string> text = readTextFile(path);
  if (!text)
    return text.takeError();
  return parseJson(*text, path, maxDepth);
}

std::string skim::dumpJson(const Json &value, int indent) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

JsonCursor JsonCursor::child(const Json &inner, std::string_view key) const {
  JsonCursor result(inner, where);
  result.pointer = pointer + "/";
  for (char c : key) {
    if (c == '~')
      result.pointer += "~0";
    else if (c == '/')
      result.pointer += "~1";
    else
      result.pointer += c;
  }
  return result;
}

Failure JsonCursor::mismatch(std::string expected) const {
  std::string got = value->is_object()  ? "an object"
                    : value->is_array() ? "an array of " + std::to_string(value->size()) + " elements"
                                        : dumpJson(*value);
  if (got.size() > 80)
    got = got.substr(0, 77) + "...";
  return fail("invalid value", place(), std::move(expected), std::move(got));
}

Expected<JsonCursor> JsonCursor::member(std::string_view key) const {
  if (!value->is_object())
    return mismatch("an object");
  auto found = value->find(std::string(key));
  if (found == value->end())
    return fail("missing value", place(), "a member '" + std::string(key) + "'", "none");
  return child(*found, key);
}

std::optional<JsonCursor> JsonCursor::find(std::string_view key) const {
  if (!value->is_object())
    return std::nullopt;
  auto found = value->find(std::string(key));
  if (found == value->end() || found->is_null())
    return std::nullopt;
  return child(*found, key);
}

Expected<std::vector<std::pair<std::string, JsonCursor>>> JsonCursor::members() const {
  if (!value->is_object())
    return mismatch("an object");
  std::vector<std::pair<std::string, JsonCursor>> out;
  out.reserve(value->size());
  for (auto it = value->begin(); it != value->end(); ++it)
    out.emplace_back(it.key(), child(it.value(), it.key()));
  return out;
}

Expected<std::vector<JsonCursor>> JsonCursor::elements() const {
  if (!value->is_array())
    return mismatch("an array");
  std::vector<JsonCursor> out;
  out.reserve(value->size());
  for (size_t i = 0; i < value->size(); ++i)
    out.push_back(child((*value)[i], std::to_string(i)));
  return out;
}

Expected<int64_t> JsonCursor::integer(int64_t least, int64_t most) const {
  auto expected = [&] {
    if (least == INT64_MIN && most == INT64_MAX)
      return std::string("an integer");
    if (most == INT64_MAX)
      return "an integer of at least " + std::to_string(least);
    return "an integer from " + std::to_string(least) + " to " + std::to_string(most);
  };
  if (!value->is_number_integer())
    return mismatch(expected());
  if (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
    return mismatch(expected());
  int64_t result = value->get<int64_t>();
  if (result < least || result > most)
    return mismatch(expected());
  return result;
}

Expected<double> JsonCursor::number() const {
  if (!value->is_number())
    return mismatch("a number");
  return value->get<double>();
}

Expected<bool> JsonCursor::boolean() const {
  if (!value->is_boolean())
    return mismatch("true or false");
  return value->get<bool>();
}

Expected<std::string> JsonCursor::string() const {
  if (!value->is_string())
    return mismatch("a string");
  return value->get_ref<const std::string &>();
}

Expected<std::vector<int64_t>> JsonCursor::integers(int64_t least, int64_t most) const {
  Expected<std::vector<JsonCursor>> all = elements();
  if (!all)
    return all.takeError();
  std::vector<int64_t> out;
  out.reserve(all->size());
  for (const JsonCursor &element : *all) {
    Expected<int64_t> number = element.integer(least, most);
    if (!number)
      return number.takeError();
    out.push_back(*number);
  }
  return out;
}

Expected<std::vector<std::string>> JsonCursor::strings() const {
  Expected<std::vector<JsonCursor>> all = elements();
  if (!all)
    return all.takeError();
  std::vector<std::string> out;
  out.reserve(all->size());
  for (const JsonCursor &element : *all) {
    Expected<std::string> text = element.string();
    if (!text)
      return text.takeError();
    out.push_back(std::move(*text));
  }
  return out;
}

Expected<int64_t> JsonCursor::integer(std::string_view key, int64_t least, int64_t most) const {
  Expected<JsonCursor> inner = member(key);
  if (!inner)
    return inner.takeError();
  return inner->integer(least, most);
}

Expected<double> JsonCursor::number(std::string_view key) const {
  Expected<JsonCursor> inner = member(key);
  if (!inner)
    return inner.takeError();
  return inner->number();
}

Expected<bool> JsonCursor::boolean(std::string_view key) const {
  Expected<JsonCursor> inner = member(key);
  if (!inner)
    return inner.takeError();
  return inner->boolean();
}

Expected<std::string> JsonCursor::string(std::string_view key) const {
  Expected<JsonCursor> inner = member(key);
  if (!inner)
    return inner.takeError();
  return inner->string();
}

Expected<int64_t> JsonCursor::integerOr(std::string_view key, int64_t otherwise, int64_t least, int64_t most) const {
  std::optional<JsonCursor> inner = find(key);
  return inner ? inner->integer(least, most) : Expected<int64_t>(otherwise);
}

Expected<double> JsonCursor::numberOr(std::string_view key, double otherwise) const {
  std::optional<JsonCursor> inner = find(key);
  return inner ? inner->number() : Expected<double>(otherwise);
}

Expected<bool> JsonCursor::booleanOr(std::string_view key, bool otherwise) const {
  std::optional<JsonCursor> inner = find(key);
  return inner ? inner->boolean() : Expected<bool>(otherwise);
}

Expected<std::string> JsonCursor::stringOr(std::string_view key, std::string otherwise) const {
  std::optional<JsonCursor> inner = find(key);
  return inner ? inner->string() : Expected<std::string>(std::move(otherwise));
}
