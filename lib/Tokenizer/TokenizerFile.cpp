#include "TokenizerFile.h"

#include <algorithm>
#include <cmath>

using namespace skim;

namespace {

/// Parse events to a TokenizerFile, without recursion. A handler that returns
/// false stops the parser; `error` then says why.
class Reader : public nlohmann::json_sax<Json> {
public:
  explicit Reader(TokenizerFile &file) : file(file) {}

  Error error;

  bool null() override { return value(nullptr, "null"); }
  bool boolean(bool v) override { return value(v, "boolean"); }
  bool number_integer(number_integer_t v) override {
    return mode == Mode::Vocabulary ? badId(std::to_string(v)) : value(v, "number");
  }
  bool number_unsigned(number_unsigned_t v) override {
    if (mode != Mode::Vocabulary)
      return value(v, "number");
    if (v > static_cast<number_unsigned_t>(json::largestId))
      return badId(std::to_string(v));
    file.vocabulary.back().id = static_cast<int32_t>(v);
    return true;
  }
  bool number_float(number_float_t v, const string_t &text) override {
    if (mode == Mode::Vocabulary)
      return badId(text.substr(0, 40));
    if (!std::isfinite(v))
      return stop(fail("damaged tokenizer", "", "a finite number", text.substr(0, 40)));
    return value(v, "number");
  }
  bool string(string_t &v) override {
    switch (mode) {
    case Mode::Merges:
      return mergeText(v);
    case Mode::Pair:
      if (pairSize == 2)
        return badMerge("array");
      (pairSize++ ? file.merges.back().rightSize : file.merges.back().leftSize) = static_cast<uint32_t>(v.size());
      file.mergeText += v;
      return true;
    default:
      return value(std::move(v), "string");
    }
  }
  bool binary(binary_t &) override { return stop(fail("damaged tokenizer", "", "JSON", "binary data")); }

  bool key(string_t &name) override {
    if (mode == Mode::Vocabulary) {
      file.vocabulary.push_back(
          {static_cast<uint32_t>(file.vocabularyText.size()), static_cast<uint32_t>(name.size()), 0});
      file.vocabularyText.insert(file.vocabularyText.end(), name.begin(), name.end());
      return true;
    }
    auto [place, added] = stack.back()->get_ref<Json::object_t &>().emplace(std::move(name), nullptr);
    if (!added)
      return stop(fail("damaged tokenizer", "", "each key once", "'" + place->first.substr(0, 80) + "' twice"));
    lastKey = place->first;
    slot = &place->second;
    return true;
  }
  bool start_object(std::size_t) override {
    if (mode != Mode::Document)
      return mode == Mode::Vocabulary ? badId("object") : badMerge("object");
    if (inModel() && lastKey == "vocab") {
      mode = Mode::Vocabulary;
      file.hasVocabulary = true;
      return true;
    }
    bool isModel = stack.size() == 1 && lastKey == "model";
    if (!open(Json::object()))
      return false;
    if (isModel)
      model = stack.back();
    return true;
  }
  bool end_object() override {
    if (mode == Mode::Vocabulary)
      mode = Mode::Document;
    else
      stack.pop_back();
    return true;
  }
  bool start_array(std::size_t) override {
    switch (mode) {
    case Mode::Vocabulary:
      return badId("array");
    case Mode::Pair:
      return badMerge("array");
    case Mode::Merges:
      mode = Mode::Pair;
      pairSize = 0;
      file.merges.push_back({static_cast<uint32_t>(file.mergeText.size()), 0, 0});
      return true;
    case Mode::Document:
      break;
    }
    if (inModel() && lastKey == "merges") {
      mode = Mode::Merges;
      file.hasMerges = true;
      return true;
    }
    return open(Json::array());
  }
  bool end_array() override {
    if (mode == Mode::Pair) {
      if (pairSize != 2)
        return badMerge("array");
      mode = Mode::Merges;
    } else if (mode == Mode::Merges) {
      mode = Mode::Document;
    } else {
      stack.pop_back();
    }
    return true;
  }
  bool parse_error(std::size_t position, const std::string &, const nlohmann::detail::exception &) override {
    return stop(fail("damaged tokenizer", "byte " + std::to_string(position), "well-formed UTF-8 JSON", "other bytes"));
  }

private:
  enum class Mode { Document, Vocabulary, Merges, Pair };
  static constexpr size_t deepest = 64;

  bool stop(Failure failure) {
    if (!error)
      error = std::move(failure);
    return false;
  }
  bool badId(std::string got) {
    const TokenizerFile::Token &token = file.vocabulary.back();
    std::string name(file.vocabularyText.data() + token.offset, std::min<size_t>(token.size, 80));
    return stop(fail("damaged tokenizer", "model.vocab." + name,
                     "a token id from 0 to " + std::to_string(json::largestId), std::move(got)));
  }
  bool badMerge(std::string got, std::string expected = "a pair of tokens") {
    size_t index = file.merges.size() - (mode == Mode::Pair);
    return stop(
        fail("damaged tokenizer", "model.merges[" + std::to_string(index) + "]", std::move(expected), std::move(got)));
  }
  /// "left right"
  bool mergeText(const std::string &text) {
    if (text.starts_with("#version"))
      return true;
    size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
      return badMerge(text.substr(0, 80), "two tokens and a space");
    file.merges.push_back({static_cast<uint32_t>(file.mergeText.size()), static_cast<uint32_t>(space),
                           static_cast<uint32_t>(text.size() - space - 1)});
    file.mergeText.append(text, 0, space);
    file.mergeText.append(text, space + 1);
    return true;
  }
  bool inModel() const { return model && stack.size() == 2 && stack.back() == model; }

  Json *place(Json inner) {
    if (stack.empty()) {
      file.root = std::move(inner);
      return &file.root;
    }
    if (stack.back()->is_array()) {
      Json::array_t &array = stack.back()->get_ref<Json::array_t &>();
      array.push_back(std::move(inner));
      return &array.back();
    }
    *slot = std::move(inner);
    return slot;
  }
  template <typename T> bool value(T &&inner, const char *type) {
    if (mode == Mode::Vocabulary)
      return badId(type);
    if (mode != Mode::Document)
      return badMerge(mode == Mode::Pair ? "array" : type);
    place(Json(std::forward<T>(inner)));
    return true;
  }
  bool open(Json container) {
    if (stack.size() >= deepest)
      return stop(fail("damaged tokenizer", "", "at most 64 levels of JSON", "more"));
    stack.push_back(place(std::move(container)));
    return true;
  }

  TokenizerFile &file;
  Mode mode = Mode::Document;
  int pairSize = 0;
  std::vector<Json *> stack;
  Json *slot = nullptr;
  const Json *model = nullptr;
  std::string lastKey;
};

} // namespace

Expected<TokenizerFile> TokenizerFile::parse(std::string_view bytes) {
  TokenizerFile file;
  // Reserved at once: an empty first token too has an address then.
  file.vocabularyText.reserve(bytes.size() / 2 + 1);
  Reader reader(file);
  bool parsed = Json::sax_parse(bytes.begin(), bytes.end(), &reader);
  if (reader.error)
    return std::move(reader.error);
  if (!parsed)
    return fail("damaged tokenizer", "", "well-formed JSON", "other bytes");
  return file;
}
