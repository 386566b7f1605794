//===- tokenize-lines.cpp - the tokenizer, for comparisons -------*- C++ -*-===//
//
// tokenize-lines TOKENIZER [--add-special] [--parse-special] [--repeat N]
// reads one JSON string a line from standard input and writes one JSON object
// a line: {"ids": [...], "text": decoded, "stream": decoded one by one}. With
// --repeat it writes only the best of N rounds: {"bytes":, "tokens":, "seconds":}.
//
//===----------------------------------------------------------------------===//
#include "skim/Support/Json.h"
#include "skim/Tokenizer/Tokenizer.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>

using namespace skim;

static int failed(const std::string &message) {
  std::fprintf(stderr, "tokenize-lines: error: %s\n", message.c_str());
  return 1;
}

int main(int argc, char **argv) {
  bool addSpecial = false, parseSpecial = false;
  int repeat = 0;
  std::string path;
  for (int i = 1; i < argc; ++i) {
    std::string_view option = argv[i];
    if (option == "--add-special")
      addSpecial = true;
    else if (option == "--parse-special")
      parseSpecial = true;
    else if (option == "--repeat" && i + 1 < argc)
      repeat = std::atoi(argv[++i]);
    else
      path = option;
  }
  using Clock = std::chrono::steady_clock;
  auto loadStart = Clock::now();
  auto tokenizer = Tokenizer::load(path);
  if (!tokenizer)
    return failed(tokenizer.message());
  double loadSeconds = std::chrono::duration<double>(Clock::now() - loadStart).count();

  std::vector<std::string> lines;
  std::string line;
  size_t bytes = 0;
  while (std::getline(std::cin, line)) {
    auto value = parseJson(line, "line " + std::to_string(lines.size() + 1));
    if (!value)
      return failed(value.message());
    if (!value->is_string())
      return failed("line " + std::to_string(lines.size() + 1) + " is no string");
    lines.push_back(value->get<std::string>());
    bytes += lines.back().size();
  }

  if (repeat > 0) {
    double best = 1e30;
    size_t tokens = 0;
    for (int round = 0; round < repeat; ++round) {
      auto start = Clock::now();
      tokens = 0;
      for (const std::string &text : lines) {
        auto ids = (*tokenizer)->encode(text, addSpecial, parseSpecial);
        if (!ids)
          return failed(ids.message());
        tokens += ids->size();
      }
      best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
    }
    Json result = {{"bytes", bytes}, {"tokens", tokens}, {"seconds", best}, {"load_seconds", loadSeconds}};
    std::cout << dumpJson(result) << "\n";
    return 0;
  }

  for (const std::string &text : lines) {
    auto ids = (*tokenizer)->encode(text, addSpecial, parseSpecial);
    if (!ids)
      return failed(ids.message());
    StreamDecoder stream(**tokenizer);
    std::string streamed;
    for (int32_t id : *ids)
      streamed += stream.push(id);
    streamed += stream.finish();
    Json result = {{"ids", *ids}, {"text", (*tokenizer)->decode(*ids)}, {"stream", streamed}};
    std::cout << dumpJson(result) << "\n";
  }
  return 0;
}
