//===- Fixture.h - tokenizer files for tests ---------------------*- C++ -*-===//
#ifndef SKIM_TEST_UNIT_TOKENIZER_FIXTURE_H
#define SKIM_TEST_UNIT_TOKENIZER_FIXTURE_H

#include "Tokenizer/Unicode.h"
#include "skim/Support/Json.h"
#include "skim/Tokenizer/Tokenizer.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

namespace skim::test {

/// A folder that goes with the test.
class Folder {
public:
  Folder() : path(std::filesystem::temp_directory_path() / ("skim-tokenizer-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path);
  }
  ~Folder() {
    std::error_code code;
    std::filesystem::remove_all(path, code);
  }
  std::string write(const std::string &name, const std::string &bytes) const {
    std::ofstream(path / name, std::ios::binary) << bytes;
    return (path / name).string();
  }
  std::filesystem::path path;
};

/// Data that only some checkouts have; empty where absent.
inline std::string sharedFile(const std::string &name) {
  const char *given = std::getenv("SKIM_SHARED");
  std::filesystem::path path = std::filesystem::path(given ? given : SKIM_SHARED_DEFAULT) / "data" / name;
  return std::filesystem::exists(path) ? path.string() : std::string();
}

/// A byte-level tokenizer: ids 0 to 255 are the bytes, then come the merges.
inline Json byteLevelTokenizer(const std::vector<std::pair<std::string, std::string>> &merges) {
  Json vocabulary = Json::object(), rules = Json::array();
  for (int b = 0; b < 256; ++b) {
    std::string mapped;
    unicode::append(mapped, unicode::byteToChar(static_cast<uint8_t>(b)));
    vocabulary[mapped] = b;
  }
  int next = 256;
  for (const auto &[left, right] : merges) {
    vocabulary[left + right] = next++;
    rules.push_back({left, right});
  }
  Json byteLevel = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", Json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", byteLevel},
          {"post_processor", nullptr},
          {"decoder", byteLevel},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"vocab", vocabulary},
            {"merges", rules}}}};
}

inline Json addedToken(int id, const std::string &content, bool special) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

} // namespace skim::test

#endif // SKIM_TEST_UNIT_TOKENIZER_FIXTURE_H
