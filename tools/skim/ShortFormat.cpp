//===- ShortFormat.cpp - formats for people ---------------------------------===//

#include "Command.h"

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

namespace {
/// Leaves that differ in their bits alone.
struct Kind {
  std::string letter, suffix;
  int least, most;
};

/// The parameter `name = VALUE` of a leaf, or nothing.
std::string valueOf(const std::string &leaf, const std::string &name) {
  const size_t at = leaf.find(name + " = ");
  if (at == std::string::npos)
    return {};
  const size_t begin = at + name.size() + 3;
  return leaf.substr(begin, leaf.find(',', begin) - begin);
}

Kind kindOf(const std::string &leaf, bool isCodebook) {
  const int bits = std::atoi(valueOf(leaf, "bits").c_str());
  if (isCodebook)
    return {"k",
            (valueOf(leaf, "table") == "i8" ? "i" : "") + std::string(valueOf(leaf, "scope") == "tensor" ? "t" : ""),
            bits, bits};
  const std::string group = valueOf(leaf, "group");
  return {"w", (group.empty() ? "" : "g" + group) + (leaf.find("asymmetric") == std::string::npos ? "" : "a"), bits,
          bits};
}
} // namespace

std::string skim::tool::shortFormat(const std::string &format) {
  const bool isTable = format.starts_with("#skim.codebook<") && format.find("scope = tensor") != std::string::npos;
  if (format.find("rows<") == std::string::npos && !isTable)
    return format;
  std::vector<Kind> kinds;
  for (auto [name, isCodebook] : {std::pair("codebook<", true), {"uniform<", false}})
    for (size_t at = format.find(name); at != std::string::npos; at = format.find(name, at + 1)) {
      const size_t begin = at + std::string_view(name).size();
      const Kind kind = kindOf(format.substr(begin, format.find('>', begin) - begin), isCodebook);
      auto found = std::find_if(kinds.begin(), kinds.end(), [&](const Kind &other) {
        return other.letter == kind.letter && other.suffix == kind.suffix;
      });
      if (found == kinds.end()) {
        kinds.push_back(kind);
        continue;
      }
      found->least = std::min(found->least, kind.least);
      found->most = std::max(found->most, kind.most);
    }
  if (kinds.empty())
    return format;
  std::string name;
  for (const Kind &kind : kinds) {
    name += (name.empty() ? "" : ",") + (kind.letter + std::to_string(kind.least));
    if (kind.most > kind.least)
      name += ".." + (kind.letter + std::to_string(kind.most));
    name += kind.suffix;
  }
  return format.find("scaled<") != std::string::npos ? "alpha*" + name : name;
}
