//===- Budget.cpp - what a budget is spent on -------------------------------===//

#include "Budget.h"

using namespace skim;

std::vector<std::string> skim::singleFormats(const std::string &method) {
  std::vector<std::string> formats;
  for (int bits = 1; bits <= 8; ++bits) {
    if (method == "kmeans") {
      formats.push_back("k" + std::to_string(bits));
      formats.push_back("k" + std::to_string(bits) + "i");
      continue;
    }
    // A symmetric grid of one bit has no value but 0 and one more.
    if (bits == 1)
      continue;
    for (const char *group : {"", "g128", "g64", "g32"})
      formats.push_back("w" + std::to_string(bits) + group);
  }
  if (method == "awq")
    for (std::string &format : formats) {
      // `scaled` has no short name.
      std::string bits = format.substr(1, 1), group = format.size() > 2 ? format.substr(3) : "";
      format = "#skim.scaled<#skim.uniform<bits = " + bits + (group.empty() ? "" : ", group = " + group) + ">>";
    }
  return formats;
}
