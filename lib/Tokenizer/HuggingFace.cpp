//===- HuggingFace.cpp - tokenizer.json --------------------------*- C++ -*-===//
//
// The pipeline of Hugging Face's `tokenizers`: added tokens, normalizer, added
// tokens again, pre-tokenizer, model, post-processor. Format and behaviour:
// https://github.com/huggingface/tokenizers
//
//===----------------------------------------------------------------------===//
#include "AddedTokens.h"
#include "BPE.h"
#include "Decoder.h"
#include "Kinds.h"
#include "Normalizer.h"
#include "PreTokenizer.h"
#include "Unicode.h"

#include <mutex>
#include <unordered_map>

using namespace skim;

namespace {

class HuggingFaceTokenizer final : public Tokenizer {
public:
  HuggingFaceTokenizer(BPE model) : model(std::move(model)) {}
  Error read(const json::Value &root);

  std::string decode(std::span<const int32_t> ids, bool skipSpecial) const override;
  int32_t vocabularySize() const override { return vocabulary; }
  std::optional<int32_t> tokenId(std::string_view text) const override;
  std::string tokenText(int32_t id) const override;
  bool isSpecial(int32_t id) const override;
  std::string tokenBytes(int32_t id, bool &first) const override;
  std::string_view kind() const override { return "bpe"; }

protected:
  Expected<std::vector<int32_t>> encodeValid(std::string_view text, bool addSpecial, bool parseSpecial) const override;

private:
  Error readAddedTokens(const json::Value &root);
  Error readPostProcessor(const json::Value &value, const std::string &where, int depth);
  Error readTemplate(const json::Value &value, const std::string &where);
  void guessSpecialTokens();
  bool known(int32_t id) const { return addedText.count(id) || model.has(id); }

  struct Work {
    BPEWorkspace bpe;
    std::deque<std::string> arena;
  };
  Error encodeText(std::string_view text, bool first, bool parseSpecial, Work &work, std::vector<int32_t> &out) const;

  BPE model;
  Normalizer normalizer;
  PreTokenizer preTokenizer;
  Decoder decoder;
  AddedTokenFinder verbatimTokens;   // looked for before normalization
  AddedTokenFinder normalizedTokens; // looked for after it
  std::unordered_map<std::string, int32_t> addedIds;
  std::unordered_map<int32_t, std::string> addedText;
  std::unordered_map<int32_t, bool> special;
  std::vector<int32_t> before, after; // what the post-processor puts around a text
  int32_t vocabulary = 0;

  // Buffers and word caches: each call takes one and brings it back.
  mutable std::mutex idleMutex;
  mutable std::vector<std::unique_ptr<Work>> idle;
};

} // namespace

Error HuggingFaceTokenizer::read(const json::Value &root) {
  auto readNormalizer = Normalizer::create(json::find(root, "normalizer"));
  if (!readNormalizer)
    return readNormalizer.takeError();
  normalizer = std::move(*readNormalizer);
  auto readPreTokenizer = PreTokenizer::create(json::find(root, "pre_tokenizer"));
  if (!readPreTokenizer)
    return readPreTokenizer.takeError();
  preTokenizer = std::move(*readPreTokenizer);
  auto readDecoder = Decoder::create(json::find(root, "decoder"));
  if (!readDecoder)
    return readDecoder.takeError();
  decoder = std::move(*readDecoder);
  if (Error error = readAddedTokens(root))
    return error;
  if (const json::Value *processor = json::find(root, "post_processor"))
    if (Error error = readPostProcessor(*processor, "post_processor", 0))
      return error;
  guessSpecialTokens();
  return Error::success();
}

Error HuggingFaceTokenizer::readAddedTokens(const json::Value &root) {
  vocabulary = model.size();
  const json::Value *list = json::find(root, "added_tokens");
  if (!list)
    return Error::success();
  if (!list->is_array())
    return fail("damaged tokenizer", "added_tokens", "a list", json::typeName(list));
  // As in tokenizers, a token that the model does not know gets the next free
  // number; the id in the file tells nothing more.
  int32_t nextId = model.count();
  for (size_t i = 0; i < list->size(); ++i) {
    const json::Value &entry = (*list)[i];
    const std::string where = "added_tokens[" + std::to_string(i) + "]";
    const json::Value *content = json::find(entry, "content");
    if (!content || !content->is_string())
      return fail("damaged tokenizer", where + ".content", "a string", json::typeName(content));
    const std::string &text = content->get_ref<const std::string &>();
    const json::Value *id = json::find(entry, "id");
    if (!id)
      return fail("damaged tokenizer", where + ".id", "a token id", "nothing");
    if (auto number = json::needId(*id, where + ".id"); !number)
      return number.takeError();
    AddedToken token;
    bool normalized = true;
    const std::pair<const char *, bool *> flags[] = {{"single_word", &token.singleWord},
                                                     {"lstrip", &token.leftStrip},
                                                     {"rstrip", &token.rightStrip},
                                                     {"normalized", &normalized},
                                                     {"special", &token.special}};
    for (auto [name, flag] : flags)
      if (Error error = json::readBool(entry, name, *flag, where))
        return error;
    if (text.empty())
      continue;
    if (text.size() > AddedTokenFinder::longest)
      return fail("unsupported tokenizer", where + ".content", "at most 1024 bytes", std::to_string(text.size()));
    if (auto it = addedIds.find(text); it != addedIds.end())
      token.id = it->second;
    else if (int32_t known = model.find(text); known >= 0)
      token.id = known;
    else if (nextId > json::largestId)
      return fail("damaged tokenizer", where, "at most " + std::to_string(json::largestId) + " tokens", "more");
    else
      token.id = nextId++;
    token.pattern = text;
    if (normalized && !normalizer.empty()) {
      auto changed = normalizer.run(text);
      if (!changed)
        return changed.takeError();
      token.pattern = std::move(*changed);
      if (token.pattern.size() > AddedTokenFinder::longest)
        return fail("unsupported tokenizer", where + ".content", "at most 1024 bytes when normalized",
                    std::to_string(token.pattern.size()));
    }
    addedIds[text] = token.id;
    addedText[token.id] = token.pattern;
    // tokenizers compares spellings when it skips special tokens, so one whose
    // spelling the normalizer changed is not skipped.
    special[token.id] = token.special && token.pattern == text;
    vocabulary = std::max(vocabulary, token.id + 1);
    (normalized ? normalizedTokens : verbatimTokens).add(std::move(token));
  }
  return Error::success();
}

Error HuggingFaceTokenizer::readTemplate(const json::Value &value, const std::string &where) {
  const json::Value *single = json::find(value, "single");
  const json::Value *tokens = json::find(value, "special_tokens");
  if (!single || !single->is_array())
    return fail("damaged tokenizer", where + ".single", "a list", json::typeName(single));
  std::vector<int32_t> parts[2];
  int seen = 0;
  for (const json::Value &piece : *single) {
    if (const json::Value *sequence = json::find(piece, "Sequence")) {
      std::string name;
      if (Error error = json::readString(*sequence, "id", name, where + ".single"))
        return error;
      if (name != "A" || seen++)
        return fail("unsupported tokenizer", where + ".single", "the sequence A once", "another template");
      continue;
    }
    const json::Value *token = json::find(piece, "SpecialToken");
    if (!token)
      return fail("damaged tokenizer", where + ".single", "sequences and special tokens", piece.type_name());
    auto name = json::needString(*token, "id", where + ".single");
    if (!name)
      return name.takeError();
    const json::Value *entry = tokens ? json::find(*tokens, name->c_str()) : nullptr;
    const json::Value *ids = entry ? json::find(*entry, "ids") : nullptr;
    if (!ids || !ids->is_array())
      return fail("damaged tokenizer", where + ".special_tokens", "the ids of " + name->substr(0, 80), "none");
    for (const json::Value &item : *ids) {
      auto id = json::needId(item, where + ".special_tokens." + name->substr(0, 80));
      if (!id)
        return id.takeError();
      parts[seen].push_back(*id);
    }
  }
  if (!seen)
    return fail("unsupported tokenizer", where + ".single", "the sequence A once", "a template without it");
  before.insert(before.begin(), parts[0].begin(), parts[0].end());
  after.insert(after.end(), parts[1].begin(), parts[1].end());
  return Error::success();
}

Error HuggingFaceTokenizer::readPostProcessor(const json::Value &value, const std::string &where, int depth) {
  auto type = json::readType(value, where);
  if (!type)
    return type.takeError();
  if (*type == "ByteLevel") // only changes offsets
    return Error::success();
  if (*type == "TemplateProcessing")
    return readTemplate(value, where);
  if (*type == "Sequence")
    return json::readSequence(
        value, "processors", where, depth,
        [&](const json::Value &part, const std::string &place) { return readPostProcessor(part, place, depth + 1); });
  if (*type == "RobertaProcessing" || *type == "BertProcessing") {
    for (const char *name : {"cls", "sep"}) {
      const json::Value *pair = json::find(value, name);
      if (!pair || !pair->is_array() || pair->size() != 2)
        return fail("damaged tokenizer", where + "." + name, "a token and its id", json::typeName(pair));
      auto id = json::needId((*pair)[1], where + "." + name);
      if (!id)
        return id.takeError();
      if (name[0] == 'c')
        before.insert(before.begin(), *id);
      else
        after.push_back(*id);
    }
    return Error::success();
  }
  return fail("unsupported tokenizer", where, "a post-processor known to skim", *type);
}

/// Without configuration files the usual names tell begin and end.
void HuggingFaceTokenizer::guessSpecialTokens() {
  if (!before.empty())
    begin = before.front();
  for (const char *name : {"<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>"}) {
    auto it = addedIds.find(name);
    if (!begin && it != addedIds.end() && special[it->second])
      begin = it->second;
  }
  for (const char *name : {"</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "<|eot_id|>", "<|im_end|>", "<|end|>",
                           "<end_of_turn>", "<|end_of_turn|>"}) {
    auto it = addedIds.find(name);
    if (it != addedIds.end() && special[it->second])
      ends.push_back(it->second);
  }
}

std::optional<int32_t> HuggingFaceTokenizer::tokenId(std::string_view text) const {
  if (auto it = addedIds.find(std::string(text)); it != addedIds.end())
    return it->second;
  int32_t id = model.find(text);
  return id < 0 ? std::nullopt : std::optional(id);
}

std::string HuggingFaceTokenizer::tokenText(int32_t id) const {
  auto it = addedText.find(id);
  return it != addedText.end() ? it->second : std::string(model.text(id));
}

bool HuggingFaceTokenizer::isSpecial(int32_t id) const {
  auto it = special.find(id);
  return it != special.end() && it->second;
}

std::string HuggingFaceTokenizer::decode(std::span<const int32_t> ids, bool skipSpecial) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (int32_t id : ids)
    if (known(id) && !(skipSpecial && isSpecial(id)))
      tokens.push_back(tokenText(id));
  return decoder.run(std::move(tokens));
}

std::string HuggingFaceTokenizer::tokenBytes(int32_t id, bool &first) const {
  if (!known(id))
    return {};
  std::string bytes = decoder.runOne(tokenText(id), first);
  first = false;
  return bytes;
}

Error HuggingFaceTokenizer::encodeText(std::string_view text, bool first, bool parseSpecial, Work &work,
                                       std::vector<int32_t> &out) const {
  if (!normalizer.empty()) {
    auto changed = normalizer.run(text);
    if (!changed)
      return changed.takeError();
    text = work.arena.emplace_back(std::move(*changed));
  }
  for (const auto &part : normalizedTokens.split(text, parseSpecial)) {
    if (part.id >= 0) {
      out.push_back(part.id);
      continue;
    }
    Piece piece{text.substr(part.begin, part.end - part.begin), first && part.begin == 0};
    auto words = preTokenizer.run(piece, work.arena);
    if (!words)
      return words.takeError();
    for (const Piece &word : *words)
      model.encode(word.text, preTokenizer.mapsBytes(), work.bpe, out);
  }
  return Error::success();
}

Expected<std::vector<int32_t>> HuggingFaceTokenizer::encodeValid(std::string_view text, bool addSpecial,
                                                                 bool parseSpecial) const {
  std::unique_ptr<Work> work;
  {
    std::lock_guard lock(idleMutex);
    if (!idle.empty()) {
      work = std::move(idle.back());
      idle.pop_back();
    }
  }
  if (!work)
    work = std::make_unique<Work>();

  std::vector<int32_t> out;
  if (addSpecial)
    out = before;
  Error error;
  for (const auto &part : verbatimTokens.split(text, parseSpecial)) {
    if (part.id >= 0) {
      out.push_back(part.id);
      continue;
    }
    error = encodeText(text.substr(part.begin, part.end - part.begin), part.begin == 0, parseSpecial, *work, out);
    work->arena.clear();
    if (error)
      break;
  }
  if (addSpecial)
    out.insert(out.end(), after.begin(), after.end());

  {
    std::lock_guard lock(idleMutex);
    idle.push_back(std::move(work));
  }
  if (error)
    return error;
  return out;
}

Expected<std::unique_ptr<Tokenizer>> skim::createHuggingFace(std::string_view bytes, const std::string &path) {
  auto inFile = [&](Failure failure) {
    failure.where = failure.where.empty() ? path : path + ": " + failure.where;
    return failure;
  };
  auto file = TokenizerFile::parse(bytes);
  if (!file)
    return inFile(file.failure());
  const json::Value *modelValue = json::find(file->root, "model");
  if (!modelValue || !modelValue->is_object())
    return inFile(fail("not a tokenizer", "model", "an object", json::typeName(modelValue)));
  // Files from before types were written down: a BPE model is the one with merges.
  std::string type = file->hasMerges ? "BPE" : "";
  if (Error error = json::readString(*modelValue, "type", type, "model"))
    return inFile(error.get());
  if (type != "BPE")
    return inFile(fail("unsupported tokenizer", "model.type", "BPE", type.empty() ? "nothing" : type,
                       "a SentencePiece tokenizer.model can serve instead where there is one"));
  auto model = BPE::create(*file);
  if (!model)
    return inFile(model.failure());
  auto tokenizer = std::make_unique<HuggingFaceTokenizer>(std::move(*model));
  if (Error error = tokenizer->read(file->root))
    return inFile(error.get());
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}
