#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <limits>
#include <random>

#include <multistate/tokenizer/llama2c.hpp>

namespace {

using namespace multistate;

std::string byte_piece(char c) {
  char text[8];
  std::snprintf(text, sizeof text, "<0x%02X>", static_cast<unsigned>(static_cast<unsigned char>(c)));
  return text;
}

/// Three marks, the bytes, then the others with their scores.
result<tokenizer> make(const std::vector<std::pair<std::string, float>>& more) {
  std::vector<std::string> pieces = {"<unk>", "\n<s>\n", "\n</s>\n"};
  for (int b = 0; b < 256; ++b) pieces.push_back(byte_piece(static_cast<char>(b)));
  std::vector<float> scores(pieces.size());
  for (const auto& [piece, score] : more) {
    pieces.push_back(piece);
    scores.push_back(score);
  }
  return llama2c_tokenizer(std::move(pieces), std::move(scores));
}

/// The rule said plainly: merge the best pair, the leftmost of equals, until none is left. A letter that is no piece
/// stands as its byte's piece.
std::vector<int> slow_encode(const std::vector<std::pair<std::string, float>>& more, std::string_view ascii) {
  const auto find = [&](const std::string& piece) {
    for (std::size_t i = 0; i < more.size(); ++i)
      if (more[i].first == piece) return static_cast<int>(i);
    return -1;
  };
  std::vector<std::string> texts;
  for (char c : " " + std::string(ascii)) texts.push_back(find({c}) < 0 ? byte_piece(c) : std::string(1, c));
  for (;;) {
    float best = -1e10f;
    std::size_t at = texts.size();
    for (std::size_t i = 0; i + 1 < texts.size(); ++i)
      if (const int id = find(texts[i] + texts[i + 1]); id >= 0 && more[static_cast<std::size_t>(id)].second > best) {
        best = more[static_cast<std::size_t>(id)].second;
        at = i;
      }
    if (at == texts.size()) break;
    texts[at] += texts[at + 1];
    texts.erase(texts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  std::vector<int> ids;
  for (const auto& t : texts) ids.push_back(find(t) < 0 ? 3 + std::stoi(t.substr(3, 2), nullptr, 16) : 259 + find(t));
  return ids;
}

void expect_round_trip(const tokenizer& t, const std::string& text) {
  const auto ids = t.encode(text).value();
  std::string back;
  int previous = t.bos();
  for (int id : ids) {
    back += t.decode(id, previous);
    previous = id;
  }
  EXPECT_EQ(back, text);
  std::size_t bytes = 0;
  for (int b : t.text_bytes(ids)) bytes += static_cast<std::size_t>(b);
  EXPECT_EQ(bytes, text.size());
}

TEST(model_tokenizer, bytes) {
  std::string all;
  for (int b = 0; b < 256; ++b) all += static_cast<char>(b);
  for (int vocab : {256, 257}) {
    const auto t = tokenizer::bytes(vocab);
    EXPECT_EQ(t.vocab(), vocab);
    EXPECT_EQ(t.bos(), vocab == 256 ? -1 : 256);
    EXPECT_TRUE(t.is_bytes());
    EXPECT_EQ(t.encode("a\xff").value(), (std::vector<int>{97, 255}));
    expect_round_trip(t, all);
    EXPECT_EQ(t.decode(' ', t.bos()), " ") << "no space is put before a text of bytes";
    EXPECT_EQ(t.decode(256, 0), "");
    EXPECT_EQ(t.decode(-1, 0), "");
    EXPECT_EQ(t.text_bytes(256, 0), 0);
  }
}

TEST(model_tokenizer, bos_of_a_vocabulary) {
  EXPECT_EQ(bos_of(256, 1), -1);
  EXPECT_EQ(bos_of(257, 1), 256);
  EXPECT_EQ(bos_of(512, 1), 1);
  EXPECT_EQ(bos_of(512, -1), -1);
}

TEST(model_tokenizer, merges_best_score_first_then_leftmost) {
  const auto t = make({{" ", 0}, {"a", 0}, {"b", 0}, {"ab", 1}, {"ba", 2}, {"aa", 3}, {"aab", 9}});
  ASSERT_TRUE(t);
  const int ab = 262, ba = 263, aa = 264, aab = 265, a = 260, space = 259;
  EXPECT_EQ(t->encode("ab").value(), (std::vector<int>{space, ab}));
  EXPECT_EQ(t->encode("aba").value(), (std::vector<int>{space, a, ba}));
  EXPECT_EQ(t->encode("aaa").value(), (std::vector<int>{space, aa, a})) << "leftmost of equals";
  EXPECT_EQ(t->encode("aab").value(), (std::vector<int>{space, aab})) << "a merge makes new pairs";
  EXPECT_TRUE(t->encode("").value().empty());
}

TEST(model_tokenizer, never_merges_what_has_no_score) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const auto t = make({{" ", 0}, {"a", 0}, {"b", 0}, {"ab", nan}, {"ba", -inf}, {"aa", -1e10f}, {"bb", inf}});
  EXPECT_EQ(t->encode("abaabb").value(), (std::vector<int>{259, 260, 261, 260, 260, 265}));
}

TEST(model_tokenizer, falls_back_to_bytes) {
  const auto t = make({{" ", 0}, {"\xc3\xa9", 0}});
  EXPECT_EQ(t->encode("\xc3\xa9").value(), (std::vector<int>{259, 260}));
  EXPECT_EQ(t->encode("\xc3\xa8").value(), (std::vector<int>{259, 3 + 0xc3, 3 + 0xa8}));
  // Whatever is not UTF-8 goes byte by byte, NUL included.
  for (const std::string& text :
       {std::string("\0x", 2), std::string("\x80\x80\x80\x80\x80\x80"), std::string("a\xff\xc3"), std::string(" "),
        std::string("  two"), std::string("\xf0\x9f\x99\x82\x82")})
    expect_round_trip(*t, text);
}

TEST(model_tokenizer, decodes_as_llama2c) {
  const auto t = make({{" ", 0}, {" the", 0}, {"<0x4>", 0}, {"<0xZZ>", 0}});
  EXPECT_EQ(t->decode(260, 5), " the");
  EXPECT_EQ(t->decode(260, 1), "the");
  EXPECT_EQ(t->decode(3 + 'A', 1), "A");
  EXPECT_EQ(t->decode(3 + ' ', 1), " ") << "a byte is no leading space";
  EXPECT_EQ(t->decode(3, 1), std::string(1, '\0'));
  EXPECT_EQ(t->decode(261, 5), "<0x4>");
  EXPECT_EQ(t->decode(262, 5), "<0xZZ>");
  for (int mark : {1, 2, -1, 263}) EXPECT_EQ(t->decode(mark, 5), "");
}

TEST(model_tokenizer, equals_the_plain_rule) {
  std::mt19937 random(11);
  for (int round = 0; round < 40; ++round) {
    std::vector<std::pair<std::string, float>> more = {{" ", 0}};
    const std::string letters = "abc ";
    for (char c : letters.substr(0, 2 + random() % 2)) more.emplace_back(std::string(1, c), 0.0f);
    for (int i = 0; i < 40; ++i) {
      std::string piece;
      for (std::size_t n = 2 + random() % 4; n > 0; --n) piece += letters[random() % 4];
      bool known = false;
      for (const auto& m : more) known |= m.first == piece;
      if (!known) more.emplace_back(piece, -static_cast<float>(random() % 12));  // with ties
    }
    const auto t = make(more);
    ASSERT_TRUE(t);
    std::string text;
    for (std::size_t n = 1 + random() % 300; n > 0; --n) text += letters[random() % 4];
    EXPECT_EQ(t->encode(text).value(), slow_encode(more, text));
    expect_round_trip(*t, text);
  }
}

TEST(model_tokenizer, a_long_text_takes_no_square_time) {
  const auto t = make({{" ", 0}, {"a", 0}, {"aa", 1}, {"aaaa", 2}});
  EXPECT_EQ(t->encode(std::string(400'000, 'a')).value().size(), 100'001u);  // minutes with a repeated scan
}

std::string random_text(std::mt19937& random, const std::vector<std::string>& parts) {
  std::string text;
  for (std::size_t n = random() % 30; n > 0; --n)
    text += random() % 3 == 0 ? std::string(1, static_cast<char>(random() % 256)) : parts[random() % parts.size()];
  return text;
}

TEST(model_tokenizer, text_spells_neither_marks_nor_bytes) {
  std::vector<std::pair<std::string, float>> more = {{" ", 0}};
  for (char c : std::string("<>/sunkpad0x4A\n")) more.emplace_back(std::string(1, c), 0.0f);
  const std::vector<std::string> spelt = {"<unk>", "<s>", "</s>", "\n<s>\n", "\n</s>\n", "<pad>", "<0x40>", "<0x0A>"};
  for (const auto& piece : spelt)  // all that leads to it, and itself
    for (std::size_t n = 2; n <= piece.size(); ++n) more.emplace_back(piece.substr(0, n), static_cast<float>(n));
  const auto t = make(more);
  ASSERT_TRUE(t) << t.reason().message();
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    const std::string text =
        round < static_cast<int>(spelt.size()) ? spelt[static_cast<std::size_t>(round)] : random_text(random, spelt);
    const std::vector<int> ids = t->encode(text).value();
    for (const int id : ids) {
      EXPECT_GE(id, 3);
      if (id >= 259) {
        EXPECT_EQ(std::find(spelt.begin(), spelt.end(), more[static_cast<std::size_t>(id - 259)].first), spelt.end())
            << text;
      }
    }
    expect_round_trip(*t, text);
  }
  // The vocabulary of a byte and five others: <0x40> stays 6 bytes of text.
  EXPECT_EQ(t->encode("<0x40>").value().size(), 3u) << "space, <0x40, >";
}

TEST(model_tokenizer, any_text_comes_back_whatever_the_vocabulary) {
  std::mt19937 random(5);
  for (int round = 0; round < 400; ++round) {
    std::vector<std::string> parts = {
        "a", "b", " ", "  ", "\xc3\xa9", "\xe2\x96\x81", "<0x41>", "<s>", std::string(1, '\0')};
    std::vector<std::pair<std::string, float>> more;
    for (std::size_t n = random() % 40; n > 0; --n) {  // often without a space, with pieces twice, empty, not UTF-8
      std::string piece;
      for (std::size_t m = random() % 4; m > 0; --m) piece += parts[random() % parts.size()];
      if (random() % 5 == 0) piece += static_cast<char>(random() % 256);
      more.emplace_back(piece, static_cast<float>(random() % 7));
    }
    for (const auto& part : parts)
      if (random() % 2 == 0) more.emplace_back(part, 0.0f);
    const auto t = make(more);
    ASSERT_TRUE(t);
    for (int i = 0; i < 5; ++i) expect_round_trip(*t, random_text(random, parts));
  }
}

TEST(model_tokenizer, long_pieces_take_no_square_time_either) {
  for (const float rises : {1.0f, -1.0f}) {
    std::vector<std::pair<std::string, float>> more = {{" ", 0}};
    for (int n = 1; n <= 3000; ++n)
      more.emplace_back(std::string(static_cast<std::size_t>(n), 'a'), rises * static_cast<float>(n));
    const auto t = make(more);
    EXPECT_LE(t->encode(std::string(1'000'000, 'a')).value().size(),
              2000u);  // pieces that are written down take minutes
  }
}

TEST(model_tokenizer, refuses_what_has_no_bytes) {
  EXPECT_EQ(llama2c_tokenizer(std::vector<std::string>(258, "a"), std::vector<float>(258)).code(), errc::bad_input);
  EXPECT_EQ(llama2c_tokenizer(std::vector<std::string>(300, "a"), std::vector<float>(299)).code(), errc::bad_input);
  const auto text_for_a_byte = llama2c_tokenizer(std::vector<std::string>(300, "the"), std::vector<float>(300));
  EXPECT_EQ(text_for_a_byte.reason().message(),
            "piece 3 of a tokenizer must be the byte <0x00>; it has 3 bytes of something else");
}

}  // namespace
