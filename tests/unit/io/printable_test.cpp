#include <gtest/gtest.h>

#include <multistate/io/printable.hpp>

namespace {

using namespace multistate::detail;

TEST(printable, shows_what_a_terminal_would_obey) {
  EXPECT_EQ(printable("plain, \"quoted\" \\ ~"), "plain, \"quoted\" \\ ~");
  EXPECT_EQ(printable("\x1b]0;owned\x07"), "\\x1b]0;owned\\x07");
  EXPECT_EQ(printable(std::string_view("a\0b\x7f\r\n\t", 7)), "a\\x00b\\x7f\\x0d\\x0a\\x09");
  EXPECT_EQ(printable_lines("a\n\tb\r\n\x1b[2m"), "a\n\tb\\x0d\n\\x1b[2m");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "\\u009b31m");  // C1 as UTF-8
  EXPECT_EQ(printable("\x9b"
                      "31m"),
            "\\x9b31m");  // and as a byte
  EXPECT_EQ(printable("a\u202e\u2066\u200f\u061cb"), "a\\u202e\\u2066\\u200f\\u061cb");
  EXPECT_EQ(printable("\u2028\ufeff\U000e0041"), "\\u2028\\ufeff\\U000e0041");
  EXPECT_EQ(printable("gr\u00fc\u00df \u4e2d \U0001f600 \u00b7"), "gr\u00fc\u00df \u4e2d \U0001f600 \u00b7");
}

TEST(printable, shows_what_is_no_utf8) {
  EXPECT_EQ(printable("\xff\xfe"), "\\xff\\xfe");
  EXPECT_EQ(printable("\xc0\xaf"), "\\xc0\\xaf");                    // a longer form
  EXPECT_EQ(printable("\xe0\x80\xaf"), "\\xe0\\x80\\xaf");           // another
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");           // a surrogate
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // above U+10FFFF
  EXPECT_EQ(printable("\xf0\x9f\x98"), "\\xf0\\x9f\\x98");           // cut
  EXPECT_EQ(printable("\xe4\xb8"
                      "a"),
            "\\xe4\\xb8"
            "a");
}

TEST(printable, a_stream_does_not_cut_code_points) {
  const std::string text = "a\u00fc\u4e2d\U0001f600\x1b\u202e\xffz";
  const std::string whole = printable(text);
  for (std::size_t step = 1; step <= text.size(); ++step) {
    printable_text shown(false);
    std::string out;
    for (std::size_t at = 0; at < text.size(); at += step) {
      const std::string piece = shown.take(std::string_view(text).substr(at, step));
      EXPECT_EQ(printable(piece), piece) << "each piece is whole";
      out += piece;
    }
    EXPECT_EQ(out + shown.end(), whole);
  }
  printable_text cut(false);
  EXPECT_EQ(cut.take("\xf0\x9f"), "");
  EXPECT_EQ(cut.end(), "\\xf0\\x9f");
}

TEST(printable, cuts_between_code_points) {
  EXPECT_EQ(cut_text("abc", 3), "abc");
  EXPECT_EQ(cut_text("abcd", 3), "abc");
  EXPECT_EQ(cut_text("ab\u4e2d", 3), "ab");
  EXPECT_EQ(cut_text("ab\u4e2d", 4), "ab");
  EXPECT_EQ(cut_text("ab\u4e2d", 5), "ab\u4e2d");
  EXPECT_EQ(cut_text("\u4e2d", 1), "");
  EXPECT_EQ(cut_text("\x80\x80\x80\x80\x80\x80", 5).size(), 5u) << "no text";
}

}  // namespace
