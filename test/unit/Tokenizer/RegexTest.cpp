//===- RegexTest.cpp - Oniguruma's syntax on PCRE2 -------------------------===//
#include "Tokenizer/Regex.h"

#include <gtest/gtest.h>

using namespace skim;

namespace {

/// The matches, each in brackets, and the text between them.
std::string marked(const std::string &pattern, const std::string &text) {
  auto regex = Regex::compile(pattern, "test");
  if (!regex)
    return "error: " + regex.message();
  std::vector<Span> spans;
  if (Error error = regex->split(text, spans))
    return "error: " + error.message();
  std::string out;
  for (const Span &span : spans) {
    std::string part = text.substr(span.begin, span.end - span.begin);
    out += span.match ? "[" + part + "]" : part;
  }
  return out;
}

TEST(Regex, ClassesAsInOniguruma) {
  EXPECT_EQ(marked("\\s", "a\u180eb\u3000c\u0085d"), "a\u180eb[\u3000]c[\u0085]d"); // U+180E is no space there
  EXPECT_EQ(marked("[\\S]", "\u180e "), "[\u180e] ");
  EXPECT_EQ(marked("\\w+", "e\u0301\u2163\u00b2 _-"), "[e\u0301\u2163\u00b2] [_]-");
  EXPECT_EQ(marked("[\\w]+", "a\u00b2"), "[a]\u00b2");
  EXPECT_EQ(marked("\\h+", "xyzBEEFg"), "xyz[BEEF]g");
  EXPECT_EQ(marked("a\\vb", "a\x0b"
                            "b"),
            "[a\x0b"
            "b]");
  EXPECT_EQ(marked("\\p{Han}", "\u3001\u4e00"), "\u3001[\u4e00]"); // the script, not its extensions
  EXPECT_EQ(marked("\\p{^Letter}+", "a1 b"), "a[1 ]b");
  EXPECT_EQ(marked("[a[bc]]+", "xabcx"), "x[abc]x");
  EXPECT_EQ(marked("[\\w&&[^aeiou]]+", "hello"), "[h]e[ll]o");
  EXPECT_EQ(marked("[^a-c&&b-d]", "abcd"), "[a]bc[d]"); // not (a-c and b-d)
  // Unicode 16, whatever PCRE2 knows.
  EXPECT_EQ(marked("\\p{L}+", "a\U0002ebf0!"), "[a\U0002ebf0]!");
  EXPECT_EQ(marked("[^\\p{L}\\p{N}]+|\\P{L}", "\U0002ebf0!\U00010d40"), "\U0002ebf0[!][\U00010d40]");
  EXPECT_EQ(marked("[\\P{L}x]+", "ax1\U0002ebf0"), "a[x1]\U0002ebf0");
  EXPECT_EQ(marked("[\\s-z]", "-y z"), "[-]y[ ][z]");
  EXPECT_EQ(marked("[\\]\\[]+", "a[]"), "a[[]]");
}

TEST(Regex, RepetitionsAsInRuby) {
  EXPECT_EQ(marked("a{1,2}+b", "aaaab"), "[aaaab]");
  EXPECT_EQ(marked("(?:ab){1,2}+", "ababab"), "[ababab]");
  EXPECT_EQ(marked("a++a", "aaa"), "aaa");
  EXPECT_EQ(marked("x{,2}y", "xxxy"), "x[xxy]");
  EXPECT_EQ(marked("a{b", "a{b"), "[a{b]");
}

TEST(Regex, FlagsAndAnchors) {
  EXPECT_EQ(marked("(?i:'s|'t)", "'S 's 'x"), "['S] ['s] 'x");
  EXPECT_EQ(marked("a(?i)b|c", "AB aB C aC"), "AB [aB] C [aC]"); // up to the end of the group
  EXPECT_EQ(marked("(?m:a.b)", "a\nb"), "[a\nb]");
  EXPECT_EQ(marked("^b$", "a\nb\nc"), "a\n[b]\nc");
}

TEST(Regex, EmptyMatchesAdvance) {
  EXPECT_EQ(marked("x*", "aéb"), "[]a[]é[]b[]");
  EXPECT_EQ(marked("x*", "axb"), "[]a[x]b[]");
}

TEST(Regex, UnsupportedIsNamed) {
  for (const char *pattern :
       {"(?~a)", "(*FAIL)", "\\K", "(a", "a)", "[a", "[]", "\\", "\\xff", "\\p{Nothing}", "(?x)a", "[[:graph:]]"}) {
    auto regex = Regex::compile(pattern, "pre_tokenizer.pattern");
    ASSERT_FALSE(regex) << pattern;
    EXPECT_EQ(regex.failure().what, "unsupported regular expression") << pattern;
    EXPECT_EQ(regex.failure().where, "pre_tokenizer.pattern");
  }
}

TEST(Regex, RunawayPatternsStop) {
  auto regex = Regex::compile("(?:a|aa)+$(?<=b)", "test");
  ASSERT_TRUE(regex);
  std::vector<Span> spans;
  EXPECT_TRUE(regex->split(std::string(60, 'a') + "c", spans));
}

TEST(Regex, LongRunsNeedNoStack) {
  auto regex = Regex::compile("\\s+(?!\\S)|\\s+|(?:[a-z]|[0-9])+", "test");
  ASSERT_TRUE(regex);
  std::vector<Span> spans;
  Error error = regex->split(std::string(1 << 20, ' ') + std::string(1 << 20, 'a'), spans);
  EXPECT_FALSE(error) << error.message();
  EXPECT_EQ(spans.size(), 3u);
}

} // namespace
