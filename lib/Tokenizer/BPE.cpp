#include "BPE.h"
#include "Unicode.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>

using namespace skim;

uint64_t StringMap::hash(std::string_view key) {
  // Eight bytes at a time; quality matters only for the low bits, which the
  // final mixing fills.
  uint64_t h = 0x9e3779b97f4a7c15ull ^ key.size();
  const char *p = key.data();
  size_t left = key.size();
  auto mix = [&](uint64_t word) {
    h = (h ^ word) * 0xff51afd7ed558ccdull;
    h ^= h >> 32;
  };
  for (; left >= 8; left -= 8, p += 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    mix(word);
  }
  if (left) {
    uint64_t word = 0;
    std::memcpy(&word, p, left);
    mix(word);
  }
  h *= 0xc4ceb9fe1a85ec53ull;
  return h ^ (h >> 29);
}

void StringMap::reserve(size_t count) { slots.resize(std::bit_ceil(count * 2 + 8)); }

bool StringMap::insert(std::string_view key, int32_t value) {
  uint64_t mask = slots.size() - 1;
  for (uint64_t i = hash(key) & mask;; i = (i + 1) & mask) {
    if (slots[i].value < 0) {
      slots[i] = {key, value};
      ++used;
      return true;
    }
    if (slots[i].key == key)
      return false;
  }
}

int32_t StringMap::find(std::string_view key) const {
  if (slots.empty())
    return -1;
  uint64_t mask = slots.size() - 1;
  for (uint64_t i = hash(key) & mask;; i = (i + 1) & mask) {
    if (slots[i].value < 0 || slots[i].key == key)
      return slots[i].value;
  }
}

Expected<BPE> BPE::create(TokenizerFile &file) {
  BPE bpe;
  const json::Value &model = file.root["model"];
  const std::string where = "model";
  if (const json::Value *dropout = json::find(model, "dropout")) {
    if (!dropout->is_number() || dropout->get<double>() != 0)
      return fail("unsupported tokenizer", "model.dropout", "none", dropout->dump().substr(0, 40));
  }
  std::string unknownToken;
  if (Error error = json::readString(model, "unk_token", unknownToken, where))
    return error;
  if (Error error = json::readString(model, "continuing_subword_prefix", bpe.subwordPrefix, where))
    return error;
  if (Error error = json::readString(model, "end_of_word_suffix", bpe.wordSuffix, where))
    return error;
  if (Error error = json::readBool(model, "fuse_unk", bpe.fuseUnknown, where))
    return error;
  if (Error error = json::readBool(model, "byte_fallback", bpe.byteFallback, where))
    return error;
  if (Error error = json::readBool(model, "ignore_merges", bpe.ignoreMerges, where))
    return error;
  if (Error error = bpe.readVocabulary(file))
    return error;
  if (Error error = bpe.readMerges(file))
    return error;
  if (!unknownToken.empty()) {
    int32_t id = bpe.find(unknownToken);
    if (id < 0)
      return fail("damaged tokenizer", "model.unk_token", "a token of the vocabulary", unknownToken.substr(0, 80));
    bpe.unknown = id;
  }
  for (int b = 0; b < 256; ++b) {
    std::string mapped;
    unicode::append(mapped, unicode::byteToChar(static_cast<uint8_t>(b)));
    bpe.byteIds[b] = bpe.find(mapped);
    char fallback[8];
    std::snprintf(fallback, sizeof fallback, "<0x%02X>", b);
    bpe.fallbackIds[b] = bpe.byteFallback ? bpe.find(fallback) : -1;
  }
  bpe.cutsBeforeSpace = bpe.cutsBefore("\xc4\xa0");
  bpe.cutsBeforeSymbol = bpe.cutsBefore("\xe2\x96\x81");
  return bpe;
}

/// True if no merge ever joins something to a `mark` that follows it, other
/// than another mark. Then a text may be cut there and gives the same ids,
/// which turns a text without pre-tokenizer into words that can be remembered.
bool BPE::cutsBefore(std::string_view mark) const {
  if (ignoreMerges || !subwordPrefix.empty() || !wordSuffix.empty() || find(mark) < 0)
    return false;
  for (const Merge &merge : merges) {
    if (merge.merged < 0)
      continue;
    std::string_view text = tokens[merge.merged];
    for (size_t at = text.find(mark, 1); at != std::string_view::npos; at = text.find(mark, at + 1))
      if (at < mark.size() || text.substr(at - mark.size(), mark.size()) != mark)
        return false;
  }
  return true;
}

Error BPE::readVocabulary(TokenizerFile &file) {
  if (!file.hasVocabulary)
    return fail("damaged tokenizer", "model.vocab", "an object from tokens to ids",
                json::typeName(json::find(file.root["model"], "vocab")));
  storage = std::move(file.vocabularyText);
  int32_t largest = -1;
  for (const TokenizerFile::Token &token : file.vocabulary)
    largest = std::max(largest, token.id);
  tokens.resize(static_cast<size_t>(largest + 1));
  vocabulary.reserve(file.vocabulary.size());
  tokenCount = static_cast<int32_t>(file.vocabulary.size());
  for (const TokenizerFile::Token &token : file.vocabulary) {
    std::string_view text(storage.data() + token.offset, token.size);
    if (tokens[token.id].data())
      return fail("damaged tokenizer", "model.vocab." + std::string(text.substr(0, 80)), "an id of its own",
                  std::to_string(token.id) + ", the id of " + std::string(tokens[token.id].substr(0, 80)));
    tokens[token.id] = text;
    if (!vocabulary.insert(text, token.id))
      return fail("damaged tokenizer", "model.vocab." + std::string(text.substr(0, 80)), "each token once", "two ids");
  }
  return Error::success();
}

void BPE::insertMerge(Merge merge) {
  uint64_t h = merge.pair * 0x9e3779b97f4a7c15ull;
  for (uint64_t i = (h >> 32) & mergeMask;; i = (i + 1) & mergeMask) {
    if (merges[i].merged < 0 || merges[i].pair == merge.pair) { // a later rule replaces an earlier one
      merges[i] = merge;
      return;
    }
  }
}

const BPE::Merge *BPE::findMerge(int32_t left, int32_t right) const {
  uint64_t pair = static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  uint64_t h = pair * 0x9e3779b97f4a7c15ull;
  for (uint64_t i = (h >> 32) & mergeMask;; i = (i + 1) & mergeMask) {
    if (merges[i].merged < 0)
      return nullptr;
    if (merges[i].pair == pair)
      return &merges[i];
  }
}

Error BPE::readMerges(const TokenizerFile &file) {
  if (!file.hasMerges)
    return fail("damaged tokenizer", "model.merges", "a list of pairs",
                json::typeName(json::find(file.root["model"], "merges")));
  merges.resize(std::bit_ceil(file.merges.size() * 2 + 8));
  mergeMask = merges.size() - 1;
  std::string joined;
  for (size_t rank = 0; rank < file.merges.size(); ++rank) {
    const TokenizerFile::Merge &merge = file.merges[rank];
    auto where = [&] { return "model.merges[" + std::to_string(rank) + "]"; };
    std::string_view both = std::string_view(file.mergeText).substr(merge.offset, merge.leftSize + merge.rightSize);
    std::string_view left = both.substr(0, merge.leftSize), right = both.substr(merge.leftSize), whole = both;
    if (right.size() < subwordPrefix.size())
      return fail("damaged tokenizer", where(), "a second token with the prefix " + subwordPrefix.substr(0, 80),
                  std::string(right.substr(0, 80)));
    if (!subwordPrefix.empty()) {
      joined = left;
      joined += right.substr(subwordPrefix.size());
      whole = joined;
    }
    int32_t ids[3] = {find(left), find(right), find(whole)};
    const std::string_view names[3] = {left, right, whole};
    for (int i = 0; i < 3; ++i)
      if (ids[i] < 0)
        return fail("damaged tokenizer", where(), "tokens of the vocabulary", std::string(names[i].substr(0, 80)));
    insertMerge(
        {static_cast<uint64_t>(ids[0]) << 32 | static_cast<uint32_t>(ids[1]), static_cast<uint32_t>(rank), ids[2]});
  }
  return Error::success();
}

void BPE::encode(std::string_view word, bool mapBytes, BPEWorkspace &space, std::vector<int32_t> &out) const {
  std::string_view mark;
  if (mapBytes ? cutsBeforeSpace : cutsBeforeSymbol)
    mark = mapBytes ? " " : "\xe2\x96\x81";
  constexpr size_t worthCutting = 16;
  if (!mark.empty() && word.size() > worthCutting) {
    size_t at = 0;
    while ((at = word.find(mark, at + 1)) != std::string_view::npos) {
      if (at >= mark.size() && word.substr(at - mark.size(), mark.size()) == mark)
        continue;
      encodeWord(word.substr(0, at), mapBytes, space, out);
      word.remove_prefix(at);
      at = 0;
    }
  }
  encodeWord(word, mapBytes, space, out);
}

void BPE::encodeWord(std::string_view word, bool mapBytes, BPEWorkspace &space, std::vector<int32_t> &out) const {
  constexpr size_t longestKept = 256, mostKept = 1 << 16;
  if (word.empty())
    return;
  if (word.size() > longestKept) {
    encodeNew(word, mapBytes, space, out);
    return;
  }
  if (space.words.empty())
    space.words.resize(1024);
  uint64_t hash = StringMap::hash(word);
  uint64_t mask = space.words.size() - 1;
  uint64_t i = hash & mask;
  for (; space.words[i].keySize; i = (i + 1) & mask) {
    const BPEWorkspace::Word &known = space.words[i];
    if (known.hash == hash && std::string_view(space.keys).substr(known.key, known.keySize) == word) {
      out.insert(out.end(), space.ids.begin() + known.ids, space.ids.begin() + known.ids + known.idCount);
      return;
    }
  }
  size_t before = out.size();
  encodeNew(word, mapBytes, space, out);
  if (space.wordCount == mostKept) { // start anew rather than choose what to forget
    space.words.assign(1024, {});
    space.wordCount = 0;
    space.keys.clear();
    space.ids.clear();
    mask = space.words.size() - 1;
    i = hash & mask;
  }
  space.words[i] = {hash, static_cast<uint32_t>(space.keys.size()), static_cast<uint32_t>(word.size()),
                    static_cast<uint32_t>(space.ids.size()), static_cast<uint32_t>(out.size() - before)};
  space.keys += word;
  space.ids.insert(space.ids.end(), out.begin() + before, out.end());
  if (++space.wordCount * 2 > space.words.size()) {
    std::vector<BPEWorkspace::Word> old(space.words.size() * 2);
    old.swap(space.words);
    mask = space.words.size() - 1;
    for (const BPEWorkspace::Word &known : old) {
      if (!known.keySize)
        continue;
      uint64_t slot = known.hash & mask;
      while (space.words[slot].keySize)
        slot = (slot + 1) & mask;
      space.words[slot] = known;
    }
  }
}

void BPE::encodeNew(std::string_view word, bool mapBytes, BPEWorkspace &space, std::vector<int32_t> &out) const {
  space.symbols.clear();
  // One id a byte, unless something depends on a character's place in the word.
  bool direct = mapBytes && !ignoreMerges && subwordPrefix.empty() && wordSuffix.empty();
  if (direct) {
    for (unsigned char c : word) {
      if (byteIds[c] < 0) {
        direct = false;
        space.symbols.clear();
        break;
      }
      space.symbols.push_back({byteIds[c], 0, 0});
    }
  }
  if (!direct) {
    if (mapBytes) {
      space.scratch = unicode::mapBytes(word);
      word = space.scratch;
    }
    if (ignoreMerges) {
      if (int32_t id = find(word); id >= 0) {
        out.push_back(id);
        return;
      }
    }
    addSymbols(word, space);
  }
  mergeAll(space);
  for (const auto &symbol : space.symbols)
    if (symbol.id >= 0)
      out.push_back(symbol.id);
}

/// BPE::merge_word of tokenizers, with its order of unknown tokens.
void BPE::addSymbols(std::string_view word, BPEWorkspace &space) const {
  bool pendingUnknown = false;
  auto add = [&](int32_t id) { space.symbols.push_back({id, 0, 0}); };
  std::string decorated;
  for (size_t at = 0; at < word.size();) {
    size_t size = unicode::length(static_cast<unsigned char>(word[at]));
    std::string_view s = word.substr(at, size);
    bool prefixed = at > 0 && !subwordPrefix.empty();
    bool suffixed = at + size == word.size() && !wordSuffix.empty();
    at += size;
    if (prefixed || suffixed) {
      decorated = prefixed ? subwordPrefix : std::string();
      decorated += s;
      if (suffixed)
        decorated += wordSuffix;
      s = decorated;
    }
    int32_t id = find(s);
    if (id >= 0) {
      if (pendingUnknown)
        add(*unknown);
      pendingUnknown = false;
      add(id);
      continue;
    }
    if (byteFallback && std::all_of(s.begin(), s.end(), [&](unsigned char c) { return fallbackIds[c] >= 0; })) {
      for (unsigned char c : s)
        add(fallbackIds[c]);
      continue;
    }
    if (unknown) {
      if (pendingUnknown && !fuseUnknown)
        add(*unknown);
      pendingUnknown = true;
    }
  }
  if (pendingUnknown)
    add(*unknown);
}

/// Merges the pair of lowest rank, the leftmost first, until none is left.
/// A heap over a linked list: n log n also for a word of a million letters.
void BPE::mergeAll(BPEWorkspace &space) const {
  auto &symbols = space.symbols;
  auto &heap = space.heap;
  auto later = [](const BPEWorkspace::Candidate &a, const BPEWorkspace::Candidate &b) { return a.order > b.order; };
  heap.clear();
  auto count = static_cast<int32_t>(symbols.size());
  for (int32_t i = 0; i < count; ++i) {
    symbols[i].previous = i - 1;
    symbols[i].next = i + 1 < count ? i + 1 : -1;
    if (i + 1 < count)
      if (const Merge *merge = findMerge(symbols[i].id, symbols[i + 1].id))
        heap.push_back({static_cast<uint64_t>(merge->rank) << 32 | static_cast<uint32_t>(i), merge->merged});
  }
  std::make_heap(heap.begin(), heap.end(), later);
  auto consider = [&](int32_t left, int32_t right) {
    if (const Merge *merge = findMerge(symbols[left].id, symbols[right].id)) {
      heap.push_back({static_cast<uint64_t>(merge->rank) << 32 | static_cast<uint32_t>(left), merge->merged});
      std::push_heap(heap.begin(), heap.end(), later);
    }
  };
  while (!heap.empty()) {
    BPEWorkspace::Candidate top = heap.front();
    std::pop_heap(heap.begin(), heap.end(), later);
    heap.pop_back();
    auto at = static_cast<int32_t>(top.order & 0xffffffff);
    int32_t right = symbols[at].next;
    if (symbols[at].id < 0 || right < 0)
      continue;
    // The pair may have changed since.
    const Merge *merge = findMerge(symbols[at].id, symbols[right].id);
    if (!merge || merge->merged != top.merged)
      continue;
    symbols[at].id = top.merged;
    symbols[at].next = symbols[right].next;
    symbols[right].id = -1;
    if (symbols[at].next >= 0)
      symbols[symbols[at].next].previous = at;
    if (symbols[at].previous >= 0)
      consider(symbols[at].previous, at);
    if (symbols[at].next >= 0)
      consider(at, symbols[at].next);
  }
}
