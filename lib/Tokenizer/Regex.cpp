#include "Regex.h"
#include "Unicode.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cctype>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

using namespace skim;

// Where Oniguruma's Ruby syntax and PCRE2 (UTF and UCP on) differ:
//   \s \S   White_Space; PCRE2 counts U+180E too
//   \w \b   alphabetic characters, marks, decimal digits, connectors; PCRE2: L and N
//   (?i)    one character may match two (ss, ß); not so here
//   \h \v   hexadecimal digit, vertical tab; PCRE2: classes of white space
//   \p{Han} the script; PCRE2: the script's extensions
//   {n,m}+  a repeated repetition; PCRE2: possessive
//   (?m)    a dot matches newlines; ^ and $ are always at lines
//   [a[bc]] [a&&b]  union and intersection of classes
namespace {

const char *const spaceSet = "\\x{09}-\\x{0d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"
                             "\\x{202f}\\x{205f}\\x{3000}";
const char *const hexSet = "0-9A-Fa-f";

// Oniguruma in `tokenizers` knows Unicode 16, PCRE2 10.42 only 14: what was
// assigned between, by property.
struct Newer {
  const char *property;
  const char *ranges;
};
const Newer newer[] = {
    {"Lu", "\\x{1c89}\\x{a7cb}-\\x{a7cc}\\x{a7da}\\x{a7dc}\\x{10d50}-\\x{10d65}"},
    {"Ll", "\\x{1c8a}\\x{a7cd}\\x{a7db}\\x{10d70}-\\x{10d85}\\x{1df25}-\\x{1df2a}"},
    {"Lm", "\\x{10d4e}\\x{10d6f}\\x{16d40}-\\x{16d42}\\x{16d6b}-\\x{16d6c}\\x{1e030}-\\x{1e06d}\\x{1e4eb}"},
    {"Lo", "\\x{105c0}-\\x{105f3}\\x{10d4a}-\\x{10d4d}\\x{10d4f}\\x{10ec2}-\\x{10ec4}\\x{1123f}-\\x{11240}\\x{11380}-"
           "\\x{11389}\\x{1138b}\\x{1138e}\\x{11390}-\\x{113b5}\\x{113b7}\\x{113d1}\\x{113d3}\\x{11bc0}-\\x{11be0}\\x{"
           "11f02}\\x{11f04}-\\x{11f10}\\x{11f12}-\\x{11f33}\\x{1342f}\\x{13441}-\\x{13446}\\x{13460}-\\x{143fa}\\x{"
           "16100}-\\x{1611d}\\x{16d43}-\\x{16d6a}\\x{18cff}\\x{1b132}\\x{1b155}\\x{1e4d0}-\\x{1e4ea}\\x{1e5d0}-\\x{"
           "1e5ed}\\x{1e5f0}\\x{2b739}\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}"},
    {"M", "\\x{897}\\x{cf3}\\x{ece}\\x{10d69}-\\x{10d6d}\\x{10efc}-\\x{10eff}\\x{11241}\\x{113b8}-\\x{113c0}\\x{113c2}"
          "\\x{113c5}\\x{113c7}-\\x{113ca}\\x{113cc}-\\x{113d0}\\x{113d2}\\x{113e1}-\\x{113e2}\\x{11f00}-\\x{11f01}\\x{"
          "11f03}\\x{11f34}-\\x{11f3a}\\x{11f3e}-\\x{11f42}\\x{11f5a}\\x{13440}\\x{13447}-\\x{13455}\\x{1611e}-\\x{"
          "1612f}\\x{1e08f}\\x{1e4ec}-\\x{1e4ef}\\x{1e5ee}-\\x{1e5ef}"},
    {"Nd", "\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}\\x{11f50}-\\x{11f59}\\x{16130}-\\x{16139}"
           "\\x{16d70}-\\x{16d79}\\x{1ccf0}-\\x{1ccf9}\\x{1e4f0}-\\x{1e4f9}\\x{1e5f1}-\\x{1e5fa}"},
    {"No", "\\x{1d2c0}-\\x{1d2d3}"},
    {"P", "\\x{1b4e}-\\x{1b4f}\\x{1b7f}\\x{10d6e}\\x{113d4}-\\x{113d5}\\x{113d7}-\\x{113d8}\\x{11b00}-\\x{11b09}\\x{"
          "11be1}\\x{11f43}-\\x{11f4f}\\x{16d6d}-\\x{16d6f}\\x{1e5ff}"},
    {"S", "\\x{2427}-\\x{2429}\\x{2ffc}-\\x{2fff}\\x{31e4}-\\x{31e5}\\x{31ef}\\x{10d8e}-\\x{10d8f}\\x{1cc00}-\\x{1ccef}"
          "\\x{1cd00}-\\x{1ceb3}\\x{1f6dc}\\x{1f774}-\\x{1f776}\\x{1f77b}-\\x{1f77f}\\x{1f7d9}\\x{1f8b2}-\\x{1f8bb}\\x{"
          "1f8c0}-\\x{1f8c1}\\x{1fa75}-\\x{1fa77}\\x{1fa87}-\\x{1fa89}\\x{1fa8f}\\x{1faad}-\\x{1faaf}\\x{1fabb}-\\x{"
          "1fabf}\\x{1fac6}\\x{1face}-\\x{1facf}\\x{1fada}-\\x{1fadc}\\x{1fadf}\\x{1fae8}-\\x{1fae9}\\x{1faf7}-\\x{"
          "1faf8}\\x{1fbcb}-\\x{1fbef}"},
    {"Han", "\\x{2b739}\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}"},
};

/// The contents of a class for the property `name`.
std::string propertySet(const std::string &name) {
  std::string out = "\\p{" + name + "}";
  for (const Newer &entry : newer) {
    const std::string property = entry.property;
    bool whole = name == property || name == "sc:" + property;
    bool part = name.size() == 1 && property.size() == 2 && name[0] == property[0]; // L holds Lu
    bool alphabetic = name == "Alphabetic" && property[0] == 'L';
    if (whole || part || alphabetic)
      out += entry.ranges;
  }
  return out;
}

/// \w in a class.
const std::string &wordSet() {
  static const std::string set = propertySet("Alphabetic") + propertySet("M") + propertySet("Nd") + "\\p{Pc}";
  return set;
}

/// Outside a class Oniguruma asks a table of Latin-1 that has superscripts and fractions too.
std::string bareWord() { return "[" + wordSet() + "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}]"; }

class Translator {
public:
  Translator(const std::string &pattern) : pattern(pattern) {}

  /// Empty on success, else what is not supported.
  std::string run() {
    groups.push_back({0, 0});
    while (at < pattern.size() && problem.empty())
      step();
    if (problem.empty() && groups.size() != 1)
      problem = "an unclosed group";
    if (problem.empty())
      out.append(groups.back().flagGroups, ')');
    return problem;
  }

  std::string out;

private:
  struct Group {
    size_t start;
    size_t flagGroups; // groups opened by (?i), closed with this group
  };

  bool starts(const char *prefix) const { return pattern.compare(at, std::strlen(prefix), prefix) == 0; }
  char peek(size_t ahead = 0) const { return at + ahead < pattern.size() ? pattern[at + ahead] : '\0'; }

  void step() {
    char c = pattern[at];
    switch (c) {
    case '\\':
      atom = out.size();
      escape();
      return;
    case '[':
      atom = out.size();
      out += charClass(0);
      return;
    case '(':
      openGroup();
      return;
    case ')':
      if (groups.size() == 1) {
        problem = "an unmatched parenthesis";
        return;
      }
      out.append(groups.back().flagGroups + 1, ')');
      atom = groups.back().start;
      groups.pop_back();
      ++at;
      return;
    case '*':
    case '+':
    case '?':
      out += c;
      ++at;
      if (peek() == '?' || peek() == '+')
        out += pattern[at++];
      return;
    case '{':
      interval();
      return;
    default:
      atom = out.size();
      size_t size = unicode::length(static_cast<unsigned char>(c));
      out.append(pattern, at, size);
      at += size;
    }
  }

  void interval() {
    size_t close = pattern.find('}', at);
    std::string body = close == std::string::npos ? "" : pattern.substr(at + 1, close - at - 1);
    size_t comma = body.find(',');
    auto digits = [](const std::string &s) {
      for (char c : s)
        if (!std::isdigit(static_cast<unsigned char>(c)))
          return false;
      return true;
    };
    std::string low = body.substr(0, comma), high = comma == std::string::npos ? "" : body.substr(comma + 1);
    if (!digits(low) || !digits(high) || (low.empty() && high.empty())) { // then it is a literal brace
      atom = out.size();
      out += "\\{";
      ++at;
      return;
    }
    out += "{" + (low.empty() ? "0" : low) + (comma == std::string::npos ? "" : "," + high) + "}";
    at = close + 1;
    // A sign after it repeats the repetition, except for a lazy {n,m}?.
    if (peek() == '+' || (peek() == '?' && comma == std::string::npos)) {
      out.insert(atom, "(?:");
      out += ")";
      out += pattern[at++];
    } else if (peek() == '?') {
      out += pattern[at++];
    }
  }

  void openGroup() {
    size_t start = out.size();
    if (!starts("(?")) {
      if (starts("(*")) {
        problem = "(*";
        return;
      }
      groups.push_back({start, 0});
      out += "(";
      ++at;
      return;
    }
    for (const char *plain : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"}) {
      if (starts(plain)) {
        groups.push_back({start, 0});
        out += plain;
        at += std::strlen(plain);
        return;
      }
    }
    if (starts("(?#")) {
      size_t close = pattern.find(')', at);
      if (close == std::string::npos)
        problem = "an unclosed comment";
      else
        at = close + 1;
      return;
    }
    if (starts("(?<") && (std::isalpha(static_cast<unsigned char>(peek(3))) || peek(3) == '_')) {
      size_t close = pattern.find('>', at);
      if (close == std::string::npos) {
        problem = "an unclosed group name";
        return;
      }
      groups.push_back({start, 0});
      out.append(pattern, at, close + 1 - at);
      at = close + 1;
      return;
    }
    // Flags: (?i) (?i:...) (?m-i:...).
    size_t end = at + 2;
    std::string flags;
    while (end < pattern.size() && (pattern[end] == 'i' || pattern[end] == 'm' || pattern[end] == '-')) {
      flags += pattern[end] == 'm' ? 's' : pattern[end]; // Ruby's m lets dots match newlines
      ++end;
    }
    if (flags.empty() || end == pattern.size() || (pattern[end] != ':' && pattern[end] != ')')) {
      problem = pattern.substr(at, 4);
      return;
    }
    out += "(?" + flags + ":";
    if (pattern[end] == ':')
      groups.push_back({start, 0});
    else
      ++groups.back().flagGroups; // up to the end of the enclosing group, alternatives included
    at = end + 1;
  }

  /// At a backslash outside a class.
  void escape() {
    char c = peek(1);
    const std::string word = bareWord();
    const std::unordered_map<char, std::string> simple = {
        {'s', std::string("[") + spaceSet + "]"},
        {'S', std::string("[^") + spaceSet + "]"},
        {'w', word},
        {'W', "[^" + word.substr(1)},
        {'h', std::string("[") + hexSet + "]"},
        {'H', std::string("[^") + hexSet + "]"},
        {'d', "[" + propertySet("Nd") + "]"},
        {'D', "[^" + propertySet("Nd") + "]"},
        {'b', "(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + "))"},
        {'B', "(?:(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" + word + "))"},
        {'A', "\\A"},
        {'z', "\\z"},
        {'Z', "\\Z"},
        {'G', "\\G"},
        {'R', "\\R"},
        {'X', "\\X"}};
    auto it = simple.find(c);
    if (it != simple.end()) {
      out += it->second;
      at += 2;
      return;
    }
    if (c >= '1' && c <= '9') {
      out += std::string("(?:\\") + c + ")"; // a digit may follow
      at += 2;
      return;
    }
    if (c == 'k' && peek(2) == '<') {
      size_t close = pattern.find('>', at);
      if (close != std::string::npos) {
        out.append(pattern, at, close + 1 - at);
        at = close + 1;
        return;
      }
    }
    if (c == 'p' || c == 'P') {
      bool negated = false;
      std::string set = property(negated);
      out += (negated ? "[^" : "[") + set + "]";
      return;
    }
    out += character();
  }

  /// An escape that stands for one character, inside and outside a class.
  std::string character() {
    char c = peek(1);
    at += 2;
    switch (c) {
    case 't':
      return "\\x{09}";
    case 'n':
      return "\\x{0a}";
    case 'v':
      return "\\x{0b}";
    case 'f':
      return "\\x{0c}";
    case 'r':
      return "\\x{0d}";
    case 'a':
      return "\\x{07}";
    case 'e':
      return "\\x{1b}";
    case '0':
      return "\\x{00}";
    case 'x':
    case 'u': {
      std::string digits;
      if (c == 'x' && peek() == '{') {
        size_t close = pattern.find('}', at);
        if (close != std::string::npos) {
          digits = pattern.substr(at + 1, close - at - 1);
          at = close + 1;
        }
      } else {
        size_t most = c == 'x' ? 2 : 4;
        while (digits.size() < most && std::isxdigit(static_cast<unsigned char>(peek())))
          digits += pattern[at++];
        // \x80 and above are bytes of a character there, not code points.
        if (c == 'x' && digits.size() == 2 && digits[0] > '7')
          digits.clear();
      }
      bool good = !digits.empty() && digits.size() <= 6;
      for (char d : digits)
        good = good && std::isxdigit(static_cast<unsigned char>(d));
      if (!good)
        problem = std::string("\\") + c;
      return "\\x{" + digits + "}";
    }
    default:
      if (static_cast<unsigned char>(c) >= 0x80) {
        size_t size = unicode::length(static_cast<unsigned char>(c));
        std::string whole = pattern.substr(at - 1, size);
        at += size - 1;
        return whole;
      }
      if (c == '\0' || std::isalnum(static_cast<unsigned char>(c))) {
        problem = c ? std::string("\\") + c : "a backslash at the end";
        return "";
      }
      return std::string("\\") + c;
    }
  }

  /// \p{Name}, \p{^Name} or \P{Name}, as the contents of a class.
  std::string property(bool &negated) {
    negated = peek(1) == 'P';
    size_t close = pattern.find('}', at);
    if (peek(2) != '{' || close == std::string::npos) {
      problem = "\\p without a name";
      return "";
    }
    std::string name = pattern.substr(at + 3, close - at - 3), key;
    at = close + 1;
    if (!name.empty() && name[0] == '^') {
      negated = !negated;
      name.erase(0, 1);
    }
    for (char c : name) {
      if (std::isalnum(static_cast<unsigned char>(c)))
        key += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      else if (c != '_' && c != '-' && c != ' ')
        problem = "\\p{" + name + "}";
    }
    static const std::unordered_map<std::string, const char *> names = {{"letter", "L"},
                                                                        {"uppercaseletter", "Lu"},
                                                                        {"lowercaseletter", "Ll"},
                                                                        {"titlecaseletter", "Lt"},
                                                                        {"modifierletter", "Lm"},
                                                                        {"otherletter", "Lo"},
                                                                        {"mark", "M"},
                                                                        {"nonspacingmark", "Mn"},
                                                                        {"spacingmark", "Mc"},
                                                                        {"enclosingmark", "Me"},
                                                                        {"number", "N"},
                                                                        {"decimalnumber", "Nd"},
                                                                        {"letternumber", "Nl"},
                                                                        {"othernumber", "No"},
                                                                        {"punctuation", "P"},
                                                                        {"punct", "P"},
                                                                        {"connectorpunctuation", "Pc"},
                                                                        {"dashpunctuation", "Pd"},
                                                                        {"openpunctuation", "Ps"},
                                                                        {"closepunctuation", "Pe"},
                                                                        {"initialpunctuation", "Pi"},
                                                                        {"finalpunctuation", "Pf"},
                                                                        {"otherpunctuation", "Po"},
                                                                        {"symbol", "S"},
                                                                        {"mathsymbol", "Sm"},
                                                                        {"currencysymbol", "Sc"},
                                                                        {"modifiersymbol", "Sk"},
                                                                        {"othersymbol", "So"},
                                                                        {"separator", "Z"},
                                                                        {"spaceseparator", "Zs"},
                                                                        {"lineseparator", "Zl"},
                                                                        {"paragraphseparator", "Zp"},
                                                                        {"other", "C"},
                                                                        {"control", "Cc"},
                                                                        {"cntrl", "Cc"},
                                                                        {"format", "Cf"},
                                                                        {"surrogate", "Cs"},
                                                                        {"privateuse", "Co"},
                                                                        {"unassigned", "Cn"},
                                                                        {"alpha", "Alphabetic"},
                                                                        {"digit", "Nd"},
                                                                        {"upper", "Uppercase"},
                                                                        {"lower", "Lowercase"},
                                                                        {"space", "White_Space"},
                                                                        {"any", "Any"}};
    static const std::unordered_set<std::string> direct = {"l",
                                                           "lu",
                                                           "ll",
                                                           "lt",
                                                           "lm",
                                                           "lo",
                                                           "m",
                                                           "mn",
                                                           "mc",
                                                           "me",
                                                           "n",
                                                           "nd",
                                                           "nl",
                                                           "no",
                                                           "p",
                                                           "pc",
                                                           "pd",
                                                           "ps",
                                                           "pe",
                                                           "pi",
                                                           "pf",
                                                           "po",
                                                           "s",
                                                           "sm",
                                                           "sc",
                                                           "sk",
                                                           "so",
                                                           "z",
                                                           "zs",
                                                           "zl",
                                                           "zp",
                                                           "c",
                                                           "cc",
                                                           "cf",
                                                           "cs",
                                                           "co",
                                                           "cn",
                                                           "alphabetic",
                                                           "uppercase",
                                                           "lowercase",
                                                           "whitespace",
                                                           "emoji",
                                                           "emojipresentation",
                                                           "emojimodifier",
                                                           "emojimodifierbase",
                                                           "emojicomponent",
                                                           "extendedpictographic",
                                                           "idstart",
                                                           "idcontinue",
                                                           "xidstart",
                                                           "xidcontinue",
                                                           "ideographic",
                                                           "math",
                                                           "dash",
                                                           "hexdigit",
                                                           "diacritic",
                                                           "extender",
                                                           "defaultignorablecodepoint",
                                                           "regionalindicator",
                                                           "variationselector",
                                                           "asciihexdigit"};
    std::string target = name;
    if (auto it = names.find(key); it != names.end())
      target = it->second;
    else if (!direct.count(key))
      target = "sc:" + name;
    else if (key.size() <= 2) // as propertySet compares it
      target = std::string(1, static_cast<char>(std::toupper(key[0]))) + key.substr(1);
    return propertySet(target);
  }

  /// At '['. One operand of a class: what PCRE2 can hold in brackets, and what it cannot.
  struct Operand {
    std::string flat;
    std::vector<std::string> others;
    std::string pattern() const {
      if (others.empty())
        return "[" + flat + "]";
      std::string out = "(?:";
      if (!flat.empty())
        out += "[" + flat + "]|";
      for (size_t i = 0; i < others.size(); ++i)
        out += (i ? "|" : "") + others[i];
      return out + ")";
    }
    bool empty() const { return flat.empty() && others.empty(); }
  };

  std::string charClass(int depth) {
    if (depth > 32) {
      problem = "deeply nested character classes";
      return "";
    }
    ++at;
    bool negated = peek() == '^';
    at += negated;
    std::vector<Operand> operands(1);
    bool afterSet = false; // a hyphen there is a literal
    for (bool start = true;; start = false) {
      if (at >= pattern.size() || !problem.empty()) {
        if (problem.empty())
          problem = "an unclosed character class";
        return "";
      }
      Operand &operand = operands.back();
      char c = pattern[at];
      if (c == ']' && !start) {
        ++at;
        break;
      }
      if (c == '[') {
        if (peek(1) == ':')
          posix(operand);
        else
          operand.others.push_back(charClass(depth + 1));
        afterSet = true;
      } else if (c == '&' && peek(1) == '&') {
        at += 2;
        operands.emplace_back();
        afterSet = false;
      } else if (c == '\\') {
        afterSet = classEscape(operand);
      } else if (c == '-') {
        char n = peek(1);
        bool set = n == '[' || n == ']' || (n == '&' && peek(2) == '&') ||
                   (n == '\\' && std::strchr("sSdDwWhHpP", peek(2)) && peek(2));
        operand.flat += afterSet || start || set || operand.flat.empty() ? "\\-" : "-";
        ++at;
        afterSet = false;
      } else if (static_cast<unsigned char>(c) < 0x80) {
        if (std::ispunct(static_cast<unsigned char>(c)))
          operand.flat += '\\';
        operand.flat += c;
        ++at;
        afterSet = false;
      } else {
        size_t size = unicode::length(static_cast<unsigned char>(c));
        operand.flat.append(pattern, at, size);
        at += size;
        afterSet = false;
      }
    }
    for (const Operand &operand : operands) {
      if (operand.empty()) {
        problem = "an empty character class";
        return "";
      }
    }
    if (operands.size() == 1 && operands[0].others.empty())
      return (negated ? "[^" : "[") + operands[0].flat + "]";
    std::string positive;
    for (size_t i = 0; i + 1 < operands.size(); ++i)
      positive += "(?=" + operands[i].pattern() + ")";
    positive += operands.back().pattern();
    return negated ? "(?:(?!" + positive + ")(?s:.))" : "(?:" + positive + ")";
  }

  /// True if the escape stands for a set of characters.
  bool classEscape(Operand &operand) {
    char c = peek(1);
    switch (c) {
    case 's':
      operand.flat += spaceSet;
      break;
    case 'S':
      operand.flat += "\\S\\x{180e}";
      break;
    case 'w':
      operand.flat += wordSet();
      break;
    case 'd':
      operand.flat += propertySet("Nd");
      break;
    case 'D':
      operand.others.push_back("[^" + propertySet("Nd") + "]");
      break;
    case 'h':
      operand.flat += hexSet;
      break;
    case 'W':
      operand.others.push_back("[^" + wordSet() + "]");
      break;
    case 'H':
      operand.others.push_back(std::string("[^") + hexSet + "]");
      break;
    case 'p':
    case 'P': {
      bool negated = false;
      std::string set = property(negated);
      if (negated)
        operand.others.push_back("[^" + set + "]");
      else
        operand.flat += set;
      return true;
    }
    case 'b':
      operand.flat += "\\x{08}";
      at += 2;
      return false;
    default:
      operand.flat += character();
      return false;
    }
    at += 2;
    return true;
  }

  void posix(Operand &operand) {
    size_t close = pattern.find(":]", at);
    std::string name = close == std::string::npos ? "" : pattern.substr(at + 2, close - at - 2);
    const std::unordered_map<std::string, std::string> sets = {{"alpha", propertySet("Alphabetic")},
                                                               {"digit", propertySet("Nd")},
                                                               {"upper", "\\p{Uppercase}"},
                                                               {"lower", "\\p{Lowercase}"},
                                                               {"space", spaceSet},
                                                               {"alnum", propertySet("Alphabetic") + propertySet("Nd")},
                                                               {"xdigit", hexSet},
                                                               {"cntrl", "\\p{Cc}"},
                                                               {"word", wordSet()},
                                                               {"blank", "\\x{09}\\p{Zs}"},
                                                               {"ascii", "\\x{00}-\\x{7f}"}};
    auto it = sets.find(name);
    if (it == sets.end()) {
      problem = "[:" + name + ":]";
      return;
    }
    operand.flat += it->second;
    at = close + 2;
  }

  const std::string &pattern;
  size_t at = 0;
  size_t atom = 0; // where the last repeatable part begins in `out`
  std::vector<Group> groups;
  std::string problem;
};

} // namespace

struct Regex::Code {
  pcre2_code *code = nullptr;
  pcre2_match_context *context = nullptr;
  ~Code() {
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }
};

Expected<std::string> Regex::translate(const std::string &pattern, const std::string &where) {
  constexpr size_t longest = 1 << 16;
  if (pattern.size() > longest)
    return fail("unsupported regular expression", where, "at most 65536 bytes", std::to_string(pattern.size()));
  Translator translator(pattern);
  std::string problem = translator.run();
  if (!problem.empty())
    return fail("unsupported regular expression", where, "what PCRE2 can express",
                problem + " in " + pattern.substr(0, 200));
  return std::move(translator.out);
}

Expected<Regex> Regex::compile(const std::string &pattern, const std::string &where) {
  auto translated = translate(pattern, where);
  if (!translated)
    return translated.takeError();
  pcre2_compile_context *context = pcre2_compile_context_create(nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int status = 0;
  PCRE2_SIZE offset = 0;
  auto code = std::make_shared<Code>();
  code->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated->data()), translated->size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &status, &offset, context);
  pcre2_compile_context_free(context);
  if (!code->code) {
    char text[160] = "";
    pcre2_get_error_message(status, reinterpret_cast<PCRE2_UCHAR *>(text), sizeof text);
    return fail("unsupported regular expression", where, "what PCRE2 can express",
                std::string(text) + " in " + pattern.substr(0, 200));
  }
  // Without a just-in-time compiler it works too, slower.
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);
  code->context = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(code->context, 20'000'000);
  pcre2_set_heap_limit(code->context, 512 * 1024); // KiB
  Regex regex;
  regex.code = std::move(code);
  return regex;
}

Error Regex::split(std::string_view text, std::vector<Span> &spans) const {
  struct Free {
    void operator()(pcre2_match_data *data) const { pcre2_match_data_free(data); }
  };
  // Only the whole match is wanted. One per thread saves an allocation a piece.
  thread_local std::unique_ptr<pcre2_match_data, Free> data(pcre2_match_data_create(1, nullptr));
  auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  size_t from = 0, done = 0;
  size_t lastEnd = std::string_view::npos;
  while (from <= text.size()) {
    int status = pcre2_match(code->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, data.get(), code->context);
    if (status == PCRE2_ERROR_JIT_STACKLIMIT)
      status = pcre2_match(code->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data.get(),
                           code->context);
    if (status == PCRE2_ERROR_NOMATCH)
      break;
    if (status < 0) {
      char message[160] = "";
      pcre2_get_error_message(status, reinterpret_cast<PCRE2_UCHAR *>(message), sizeof message);
      return fail("the tokenizer's regular expression failed", "byte " + std::to_string(from) + " of the text",
                  "a match", message);
    }
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(data.get());
    size_t begin = range[0], end = range[1];
    if (begin > end || begin < done) // \K in a lookaround; translate() lets none through
      break;
    // An empty match right behind the last match does not count (onig's find_iter).
    if (begin == end && end == lastEnd) {
      if (end == text.size())
        break;
      from = end + unicode::length(static_cast<unsigned char>(text[end]));
      continue;
    }
    from = lastEnd = end;
    if (begin > done)
      spans.push_back({done, begin, false});
    spans.push_back({begin, end, true});
    done = end;
  }
  if (done < text.size())
    spans.push_back({done, text.size(), false});
  return Error::success();
}
