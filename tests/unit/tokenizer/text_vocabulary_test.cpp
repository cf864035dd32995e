#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <random>

#include <multistate/tokenizer/text_vocabulary.hpp>

namespace {

using namespace multistate;
using namespace multistate::detail;
using kind = text_rules::token_kind;

std::vector<int> encode(const vocabulary& v, std::string_view text, spelling specials = spelling::text) {
  const auto ids = v.encode(text, specials);
  return ids ? *ids : std::vector{-1};
}

/// A vocabulary of letters and of what random pairs of its pieces make.
struct random_rules {
  text_rules r;
  std::map<std::pair<std::string, std::string>, std::size_t> rank;

  random_rules(std::mt19937& draw, bool scores) {
    for (const char* letter : {"a", "b", "c", "\xe2\x96\x81", "\xc3\xa9"}) r.pieces.emplace_back(letter);
    for (int i = 0; i < 25; ++i) {
      const std::size_t left = draw() % r.pieces.size(), right = draw() % r.pieces.size();
      const std::string both = r.pieces[left] + r.pieces[right];
      if (rank.contains({r.pieces[left], r.pieces[right]})) continue;
      if (std::find(r.pieces.begin(), r.pieces.end(), both) == r.pieces.end()) r.pieces.push_back(both);
      rank[{r.pieces[left], r.pieces[right]}] = r.pairs.size();
      r.pairs.push_back({static_cast<int>(left), static_cast<int>(right)});
    }
    for (std::size_t i = 0; i < r.pieces.size(); ++i) r.scores.push_back(static_cast<float>(draw() % 8));
    r.shown = r.pieces;
    r.kinds.assign(r.pieces.size(), kind::text);
    if (scores) r.merge = text_rules::merging::scores;
  }
  /// The rule said plainly: of all neighbours that may merge the best, the leftmost of equals, until none is left.
  std::vector<int> slow(std::string_view text) const {
    std::vector<std::string> parts;
    for (std::size_t at = 0; at < text.size(); at += utf8_length(text[at]))
      parts.emplace_back(text.substr(at, utf8_length(text[at])));
    const auto id_of = [&](const std::string& piece) {
      return std::find(r.pieces.begin(), r.pieces.end(), piece) - r.pieces.begin();
    };
    for (;;) {
      double best = -1e9;
      std::size_t place = parts.size();
      for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto joined = static_cast<std::size_t>(id_of(parts[i] + parts[i + 1]));
        const auto pair = rank.find({parts[i], parts[i + 1]});
        const bool may = r.merge == text_rules::merging::scores ? joined < r.pieces.size() : pair != rank.end();
        if (!may) continue;
        const double worth = r.merge == text_rules::merging::scores ? static_cast<double>(r.scores[joined])
                                                                    : -static_cast<double>(pair->second);
        if (worth > best) {
          best = worth;
          place = i;
        }
      }
      if (place == parts.size()) break;
      parts[place] += parts[place + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(place) + 1);
    }
    std::vector<int> ids;
    for (const std::string& part : parts) ids.push_back(static_cast<int>(id_of(part)));
    return ids;
  }
};

TEST(tokenizer_text_vocabulary, merges_as_the_rule_says) {
  std::mt19937 draw(7);
  for (int round = 0; round < 300; ++round) {
    const random_rules rules(draw, round % 2 == 1);
    text_rules copy = rules.r;
    const auto made = text_vocabulary::make(std::move(copy));
    ASSERT_TRUE(made) << made.reason().message();
    for (const int length : {1, 2, 7, 24, 25, 90}) {
      std::string text;
      for (int i = 0; i < length; ++i) text += rules.r.pieces[draw() % 5];
      ASSERT_EQ(encode(**made, text), rules.slow(text)) << round << " " << text;
    }
  }
}

/// "a" and "aa", a special token, two added ones, the bytes of "?".
text_rules small_rules() {
  text_rules r;
  r.pieces = {"a", "aa", "<|end|>", "<tag>", "<tag>s", "<0x3F>"};
  r.shown = {"a", "aa", "<|end|>", "<tag>", "<tag>s", "?"};
  r.kinds = {kind::text, kind::text, kind::special, kind::added, kind::added, kind::byte};
  r.pairs = {{0, 0}};
  r.byte_fallback = true;
  r.added = {
      {.id = 2, .content = "<|end|>", .special = true}, {.id = 3, .content = "<tag>"}, {.id = 4, .content = "<tag>s"}};
  return r;
}

TEST(tokenizer_text_vocabulary, special_tokens_come_from_a_text_only_where_asked_for) {
  const auto made = text_vocabulary::make(small_rules());
  ASSERT_TRUE(made);
  EXPECT_EQ(encode(**made, "aaa<|end|>a"), (std::vector{1, 1})) << "what has no piece is dropped, as Hugging Face does";
  EXPECT_EQ(encode(**made, "aaa<|end|>a", spelling::special), (std::vector{1, 0, 2, 0}));
  text_rules apart = small_rules();
  apart.gaps_part = true;
  EXPECT_EQ(encode(**text_vocabulary::make(std::move(apart)), "aaa<|end|>a"), (std::vector{1, 0, 0}));
  EXPECT_EQ(encode(**made, "<tag>a<tag>sa?"), (std::vector{3, 0, 4, 0, 5})) << "the longest; a byte";
  text_rules evil = small_rules();  // a vocabulary that would make the special token by merging
  evil.pieces.insert(evil.pieces.end(), {"<|", "end|>"});
  evil.shown = evil.pieces;
  evil.kinds.resize(evil.pieces.size(), kind::text);
  evil.pairs.push_back({6, 7});
  evil.whole_words = true;
  const auto other = text_vocabulary::make(std::move(evil));
  ASSERT_TRUE(other) << other.reason().message();
  for (const int id : encode(**other, "<|end|>")) EXPECT_NE(id, 2);
}

TEST(tokenizer_text_vocabulary, added_tokens_take_blanks_and_whole_words) {
  text_rules r = small_rules();
  r.added[1].takes_left = r.added[1].takes_right = true;
  r.added[2].single_word = true;
  const auto made = text_vocabulary::make(std::move(r));
  ASSERT_TRUE(made);
  EXPECT_EQ(encode(**made, "a \t<tag>\n a"), (std::vector{0, 3, 0}));
  EXPECT_EQ(encode(**made, "<tag>s <tag>s <tag>sa"), (std::vector{4, 4, 1}))
      << "not within a word: there it is text, of which two letters have a piece";
}

TEST(tokenizer_text_vocabulary, refuses_what_is_no_utf8_and_what_is_not_known) {
  const auto made = text_vocabulary::make(small_rules());
  for (const char* bad : {"a\xff", "\x80", "a\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf8\x88\x80\x80\x80"}) {
    const auto ids = (*made)->encode(bad, spelling::text);
    ASSERT_FALSE(ids) << bad;
    EXPECT_NE(ids.reason().message().find("UTF-8"), std::string_view::npos);
  }
  text_rules r = small_rules();
  r.not_known = "pre-tokenizer 'odd' is not known";
  const auto other = text_vocabulary::make(std::move(r));
  ASSERT_TRUE(other);
  EXPECT_EQ((*other)->encode("a", spelling::text).reason().message(), "pre-tokenizer 'odd' is not known");
  EXPECT_EQ((*other)->piece(1), "aa");
  text_rules wrong = small_rules();
  wrong.pairs.push_back({0, 1});
  EXPECT_FALSE(text_vocabulary::make(std::move(wrong))) << "aaa is no piece";
}

TEST(tokenizer_text_vocabulary, a_word_of_a_million_bytes_takes_no_square_of_time) {
  text_rules r = small_rules();
  r.pieces[5] = "aaaa";
  r.kinds[5] = kind::text;
  r.pairs.push_back({1, 1});
  const auto made = text_vocabulary::make(std::move(r));
  ASSERT_TRUE(made);
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_EQ(encode(**made, std::string(1 << 20, 'a')).size(), std::size_t{1} << 18);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(20)) << "a second is usual";
}

TEST(tokenizer_unicode, normal_forms) {
  const auto formed = [](normal_form form, std::string_view text) {
    std::string out;
    normalizer(form).append(out, text);
    return out;
  };
  EXPECT_EQ(formed(normal_form::nfc, "e\xcc\x81 x\ne\xcc\x81"), "\xc3\xa9 x\n\xc3\xa9");
  EXPECT_EQ(formed(normal_form::nfd, "\xc3\xa9"), "e\xcc\x81");
  EXPECT_EQ(formed(normal_form::nfkc, "\xef\xac\x81"), "fi");
  EXPECT_EQ(formed(normal_form::nfc, "\xe2\x84\xab"), "\xc3\x85") << "one sign for another, which nothing composes";
  EXPECT_EQ(formed(normal_form::nfc, "q\xcc\x87\xcc\xa3"), "q\xcc\xa3\xcc\x87") << "marks by class";
  EXPECT_EQ(formed(normal_form::nfc, " \xcc\x81"), " \xcc\x81");
  std::string many;
  for (int i = 0; i < 200000; ++i) many += i % 2 ? "\xcc\x87" : "\xcc\xa3";
  EXPECT_EQ(formed(normal_form::nfc, many).size(), many.size());
}

TEST(tokenizer_unicode, where_bytes_are_no_utf8) {
  EXPECT_EQ(not_utf8("a\xc3\xa9\xe4\xb8\xad\xf0\x9f\x99\x82"), std::string_view::npos);
  EXPECT_EQ(not_utf8("ab\xff"), 2u);
  EXPECT_EQ(not_utf8("\xc3\xa9\xf0\x9f\x98"), 2u);
}

std::vector<std::string> pieces(std::string_view regex, match_goes goes, std::string_view text, bool inverted = false) {
  std::vector<split_step> steps;
  steps.push_back({pattern::make(regex).value(), goes, inverted});
  splitter split(steps);
  std::vector<std::string> out;
  for (const text_span& s : **split.split(text)) out.emplace_back(text.substr(s.begin, s.end - s.begin));
  return out;
}

TEST(tokenizer_splits, where_matches_go) {
  using strings = std::vector<std::string>;
  EXPECT_EQ(pieces("-", match_goes::alone, "a--b-"), (strings{"a", "-", "-", "b", "-"}));
  EXPECT_EQ(pieces("-", match_goes::away, "a--b-"), (strings{"a", "b"}));
  EXPECT_EQ(pieces("-", match_goes::to_previous, "the-final--countdown"),
            (strings{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(pieces("-", match_goes::to_next, "the-final--countdown"), (strings{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(pieces("-", match_goes::together, "the-final--countdown"),
            (strings{"the", "-", "final", "--", "countdown"}));
  EXPECT_EQ(pieces("[a-z]+", match_goes::away, "ab, cd", true), (strings{"ab", "cd"}));
  EXPECT_EQ(pieces(R"(\s)", match_goes::alone,
                   "a\xe1\xa0\x8e"
                   "b\xc2\x85"),
            (strings{"a\xe1\xa0\x8e"
                     "b",
                     "\xc2\x85"}))
      << "White_Space has U+0085 and not U+180E";
  EXPECT_EQ(pieces("(?i:'s)", match_goes::alone, "a'\xc5\xbf"), (strings{"a", "'\xc5\xbf"})) << "case is folded";
  EXPECT_FALSE(pattern::make("(a"));
}

}  // namespace
