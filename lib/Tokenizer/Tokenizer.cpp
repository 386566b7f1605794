#include "skim/Tokenizer/Tokenizer.h"
#include "Json.h"
#include "Kinds.h"
#include "Unicode.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

using namespace skim;
namespace fs = std::filesystem;

Tokenizer::~Tokenizer() = default;

/// No tokenizer is larger than this.
static constexpr uintmax_t largestFile = 512ull << 20;
static constexpr size_t largestText = 1ull << 30;

static Expected<std::string> readFile(const fs::path &path) {
  std::error_code code;
  if (!fs::is_regular_file(path, code))
    return fail("cannot read the tokenizer", path.string(), "a file", code ? code.message() : "something else");
  uintmax_t size = fs::file_size(path, code);
  if (code || size > largestFile)
    return fail("cannot read the tokenizer", path.string(), "a file of at most 512 MiB",
                code ? code.message() : std::to_string(size) + " bytes");
  std::string bytes(size, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(bytes.data(), static_cast<std::streamsize>(size)))
    return fail("cannot read the tokenizer", path.string(), std::to_string(size) + " bytes",
                std::to_string(file.gcount()));
  return bytes;
}

Expected<std::unique_ptr<Tokenizer>> Tokenizer::load(const std::string &path) {
  fs::path file = path;
  std::error_code code;
  if (fs::is_directory(file, code)) {
    file /= "tokenizer.json";
    if (!fs::exists(file, code))
      file.replace_filename("tokenizer.model");
    if (!fs::exists(file, code))
      return fail("no tokenizer", path, "a tokenizer.json or tokenizer.model", "neither");
  }
  auto bytes = readFile(file);
  if (!bytes)
    return bytes.takeError();
  size_t start = bytes->find_first_not_of(" \t\r\n");
  bool isJson = start != std::string::npos && (*bytes)[start] == '{';
  auto tokenizer =
      isJson ? createHuggingFace(*bytes, file.string()) : createSentencePiece(std::move(*bytes), file.string());
  if (tokenizer)
    if (Error error = (*tokenizer)->readConfigs(file.parent_path().string()))
      return error;
  return tokenizer;
}

/// tokenizer_config.json names tokens, generation_config.json numbers them.
/// What they say replaces what was guessed from the tokenizer itself.
Error Tokenizer::readConfigs(const std::string &folder) {
  std::optional<int32_t> namedBegin, numberedBegin;
  std::vector<int32_t> configuredEnds;
  auto addEnd = [&](int32_t id) {
    if (std::find(configuredEnds.begin(), configuredEnds.end(), id) == configuredEnds.end())
      configuredEnds.push_back(id);
  };
  for (const char *name : {"tokenizer_config.json", "generation_config.json"}) {
    fs::path path = fs::path(folder) / name;
    std::error_code code;
    if (!fs::is_regular_file(path, code))
      continue;
    auto bytes = readFile(path);
    if (!bytes)
      return bytes.takeError();
    auto root = parseJson(*bytes, path.string());
    if (!root)
      return root.takeError();
    // A token is a string, or an object with its spelling.
    auto named = [&](const char *field) -> std::optional<int32_t> {
      const json::Value *value = json::find(*root, field);
      if (value && value->is_object())
        value = json::find(*value, "content");
      if (!value || !value->is_string())
        return std::nullopt;
      return tokenId(value->get_ref<const std::string &>());
    };
    if (auto id = named("bos_token"))
      namedBegin = id;
    if (auto id = named("eos_token"))
      addEnd(*id);
    for (auto [field, flag] : {std::pair("add_bos_token", &addsBegin), std::pair("add_eos_token", &addsEnd)})
      if (const json::Value *value = json::find(*root, field); value && value->is_boolean())
        *flag = value->get<bool>();
    const std::string where = path.string();
    if (const json::Value *value = json::find(*root, "bos_token_id")) {
      auto id = json::needId(*value, where + ": bos_token_id");
      if (!id)
        return id.takeError();
      numberedBegin = *id;
    }
    if (const json::Value *value = json::find(*root, "eos_token_id")) {
      const json::Value list = value->is_array() ? *value : json::Value::array({*value});
      for (const json::Value &item : list) {
        auto id = json::needId(item, where + ": eos_token_id");
        if (!id)
          return id.takeError();
        addEnd(*id);
      }
    }
  }
  if (namedBegin || numberedBegin)
    begin = namedBegin ? namedBegin : numberedBegin;
  if (!configuredEnds.empty())
    ends = std::move(configuredEnds);
  return Error::success();
}

Expected<std::vector<int32_t>> Tokenizer::encode(std::string_view text, bool addSpecial, bool parseSpecial) const {
  if (text.size() >= largestText)
    return fail("text too long", "", "less than 1 GiB", std::to_string(text.size()) + " bytes");
  if (unicode::isValid(text))
    return encodeValid(text, addSpecial, parseSpecial);
  return encodeValid(unicode::toValid(text), addSpecial, parseSpecial);
}

std::string StreamDecoder::push(int32_t id) {
  if (skipSpecial && tokenizer.isSpecial(id))
    return {};
  pending += tokenizer.tokenBytes(id, first);
  size_t whole = pending.size() - unicode::incompleteSuffix(pending);
  std::string text = unicode::toValid(std::string_view(pending).substr(0, whole));
  pending.erase(0, whole);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text = unicode::toValid(pending);
  pending.clear();
  return text;
}
