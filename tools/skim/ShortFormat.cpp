//===- ShortFormat.cpp - formats for people ---------------------------------===//

#include "Command.h"

#include <algorithm>
#include <cstdlib>

std::string skim::tool::shortFormat(const std::string &format) {
  const size_t rows = format.find("rows<");
  if (rows == std::string::npos)
    return format;
  std::string name;
  for (auto [leaf, letter] : {std::pair("codebook<bits = ", "k"), {"uniform<bits = ", "w"}}) {
    int least = 0, most = 0;
    for (size_t at = format.find(leaf, rows); at != std::string::npos; at = format.find(leaf, at + 1)) {
      const int bits = std::atoi(format.c_str() + at + std::string_view(leaf).size());
      least = least ? std::min(least, bits) : bits;
      most = std::max(most, bits);
    }
    if (!least)
      continue;
    name += (name.empty() ? "" : ",") + (letter + std::to_string(least));
    if (most > least)
      name += ".." + (letter + std::to_string(most));
    if (*letter == 'k' && format.find("table = i8", rows) != std::string::npos)
      name += "i";
  }
  if (name.empty())
    return format;
  return format.find("scaled<") < rows ? "alpha*" + name : name;
}
