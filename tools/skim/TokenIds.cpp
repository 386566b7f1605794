#include "Command.h"
#include "skim/Support/MappedFile.h"

#include <charconv>

using namespace skim;
using namespace skim::tool;

Expected<std::vector<int32_t>> skim::tool::parseTokenIds(const std::string &line, const std::string &where) {
  std::vector<int32_t> ids;
  const char *at = line.data(), *end = at + line.size();
  while (true) {
    while (at != end && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n'))
      ++at;
    if (at == end)
      return ids;
    int32_t id = 0;
    auto [next, code] = std::from_chars(at, end, id);
    if (code != std::errc() || (next != end && !std::isspace(static_cast<unsigned char>(*next)))) {
      const char *stop = at;
      while (stop != end && !std::isspace(static_cast<unsigned char>(*stop)) && stop - at < 40)
        ++stop;
      return fail("not a token id", where, "integers separated by spaces", "'" + std::string(at, stop) + "'");
    }
    ids.push_back(id);
    at = next;
  }
}

Expected<std::vector<std::vector<int32_t>>> skim::tool::readTokenIds(const std::string &path) {
  Expected<std::string> text = readTextFile(path);
  if (!text)
    return text.takeError();
  std::vector<std::vector<int32_t>> lines;
  size_t number = 0;
  for (size_t begin = 0; begin < text->size();) {
    size_t end = std::min(text->find('\n', begin), text->size());
    Expected<std::vector<int32_t>> ids =
        parseTokenIds(text->substr(begin, end - begin), path + ":" + std::to_string(++number));
    if (!ids)
      return ids.takeError();
    if (!ids->empty())
      lines.push_back(std::move(*ids));
    begin = end + 1;
  }
  if (lines.empty())
    return fail("no token ids", path, "at least one line of ids", "an empty file");
  return lines;
}
