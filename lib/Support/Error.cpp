#include "skim/Support/Error.h"

#include <cstdio>

using namespace skim;

/// Names and paths come from files that we do not trust: keep the message on
/// one line whatever they hold.
static void appendEscaped(std::string &out, const std::string &text) {
  for (unsigned char c : text) {
    if (c < 0x20 || c == 0x7f) {
      char buffer[8];
      std::snprintf(buffer, sizeof buffer, "\\x%02x", c);
      out += buffer;
    } else {
      out += static_cast<char>(c);
    }
  }
}

std::string Failure::message() const {
  std::string out;
  appendEscaped(out, what);
  if (!where.empty()) {
    out += " at ";
    appendEscaped(out, where);
  }
  if (!expected.empty()) {
    out += ": expected ";
    appendEscaped(out, expected);
    if (!got.empty()) {
      out += ", got ";
      appendEscaped(out, got);
    }
  } else if (!got.empty()) {
    out += ": got ";
    appendEscaped(out, got);
  }
  if (!hint.empty()) {
    out += " (";
    appendEscaped(out, hint);
    out += ")";
  }
  return out;
}
