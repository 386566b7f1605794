//===- BPE.h - byte-pair encoding as Hugging Face does it --------*- C++ -*-===//
#ifndef SKIM_LIB_TOKENIZER_BPE_H
#define SKIM_LIB_TOKENIZER_BPE_H

#include "TokenizerFile.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace skim {

/// Strings to numbers: open addressing, keys held elsewhere.
class StringMap {
public:
  void reserve(size_t count);
  /// False if the key is there already. `key` must outlive the map.
  bool insert(std::string_view key, int32_t value);
  /// -1 if absent.
  int32_t find(std::string_view key) const;
  static uint64_t hash(std::string_view key);

private:
  struct Slot {
    std::string_view key;
    int32_t value = -1;
  };
  std::vector<Slot> slots;
  size_t used = 0;
};

/// Buffers and remembered words of one thread at work.
struct BPEWorkspace {
  struct Symbol {
    int32_t id; // -1: merged into its left neighbour
    int32_t previous;
    int32_t next;
  };
  struct Candidate {
    uint64_t order; // rank << 32 | position: the smallest first
    int32_t merged;
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
  std::string scratch;

  // Words that were encoded before: keys and ids lie in two arenas.
  struct Word {
    uint64_t hash = 0;
    uint32_t key = 0;
    uint32_t keySize = 0; // 0: free, no word is empty
    uint32_t ids = 0;
    uint32_t idCount = 0;
  };
  std::vector<Word> words;
  size_t wordCount = 0;
  std::string keys;
  std::vector<int32_t> ids;
};

/// The model of a tokenizer.json with "type": "BPE". Immutable.
class BPE {
public:
  /// Takes the vocabulary out of `file`.
  static Expected<BPE> create(TokenizerFile &file);

  /// Appends the ids of one word. With `mapBytes` the word is the text before
  /// unicode::mapBytes.
  void encode(std::string_view word, bool mapBytes, BPEWorkspace &space, std::vector<int32_t> &out) const;

  int32_t find(std::string_view token) const { return vocabulary.find(token); }
  /// One more than the largest id.
  int32_t size() const { return static_cast<int32_t>(tokens.size()); }
  /// How many tokens there are; less than size() where ids are missing.
  int32_t count() const { return tokenCount; }
  bool has(int32_t id) const { return id >= 0 && id < size() && tokens[id].data(); }
  std::string_view text(int32_t id) const { return has(id) ? tokens[id] : std::string_view(); }

private:
  struct Merge {
    uint64_t pair = ~0ull; // left << 32 | right
    uint32_t rank = 0;
    int32_t merged = -1;
  };

  Error readVocabulary(TokenizerFile &file);
  Error readMerges(const TokenizerFile &file);
  void insertMerge(Merge merge);
  const Merge *findMerge(int32_t left, int32_t right) const;

  bool cutsBefore(std::string_view mark) const;
  void encodeWord(std::string_view word, bool mapBytes, BPEWorkspace &space, std::vector<int32_t> &out) const;
  void encodeNew(std::string_view word, bool mapBytes, BPEWorkspace &space, std::vector<int32_t> &out) const;
  void addSymbols(std::string_view word, BPEWorkspace &space) const;
  void mergeAll(BPEWorkspace &space) const;

  std::vector<char> storage; // the bytes of all tokens; never grows after loading, so views stay
  std::vector<std::string_view> tokens;
  int32_t tokenCount = 0;
  StringMap vocabulary;
  std::vector<Merge> merges; // open addressing by pair
  uint64_t mergeMask = 0;

  std::string subwordPrefix, wordSuffix;
  std::array<int32_t, 256> byteIds{};     // of each byte's mapped character
  std::array<int32_t, 256> fallbackIds{}; // of <0x00> to <0xFF>
  std::optional<int32_t> unknown;
  bool fuseUnknown = false;
  bool byteFallback = false;
  bool ignoreMerges = false;
  bool cutsBeforeSpace = false;  // of mapped bytes
  bool cutsBeforeSymbol = false; // U+2581
};

} // namespace skim

#endif // SKIM_LIB_TOKENIZER_BPE_H
