#include <gtest/gtest.h>

#include <limits>

#include <multistate/tokenizer/gguf_vocabulary.hpp>

namespace {

using namespace multistate;

/// SentencePiece's: special tokens, a byte, letters, a sign for a space, a user-defined tag.
gguf_vocabulary scored() {
  gguf_vocabulary v;
  v.model = "llama";
  v.tokens = {"<unk>",
              "<s>",
              "</s>",
              "<0x21>",
              "a",
              "b",
              "\xe2\x96\x81",
              "\xe2\x96\x81"
              "a",
              "ab",
              "<tag>",
              "cab"};
  v.scores = {0, 0, 0, 0, -1, -2, -3, 2, 1, 0, 5};
  v.token_type = {2, 3, 3, 6, 1, 1, 1, 1, 1, 4, 1};
  return v;
}
gguf_vocabulary paired(const char* pre) {
  gguf_vocabulary v;
  v.model = "gpt2";
  v.pre = pre;
  v.tokens = {"a", "b", "ab", "\xc4\xa0", "1", "2", "12", "<|x|>"};
  v.token_type = {1, 1, 1, 1, 1, 1, 1, 3};
  v.merges = {"a b", "1 2"};
  v.bos_token_id = 7;
  return v;
}
std::vector<int> encode(const result<tokenizer>& t, std::string_view text, spelling specials = spelling::text) {
  return t && t->encode(text, specials) ? t->encode(text, specials).value() : std::vector{-1};
}

TEST(tokenizer_gguf, by_scores) {
  const auto t = make_tokenizer(scored());
  ASSERT_TRUE(t) << t.reason().message();
  EXPECT_EQ(encode(t, "ab a!"), (std::vector{7, 5, 7, 3})) << "the best score first, and a byte";
  EXPECT_EQ(encode(t, "cab"), (std::vector{6, 10})) << "c is no piece, and a part of one";
  EXPECT_EQ(encode(t, "a<tag>ab</s>"), (std::vector{7, 9, 7, 5, 0, 0, 0, 0})) << "a space behind a token, too";
  EXPECT_EQ(encode(t, "a</s>a", spelling::special), (std::vector{7, 2, 7})) << "and behind special tokens";
  EXPECT_EQ(encode(t, ""), std::vector<int>());
  EXPECT_EQ(t->bos(), 1);
  EXPECT_EQ(t->opens().size(), 1u);
  EXPECT_EQ(t->decode(7, 1), "a");
  EXPECT_EQ(t->decode(7, 4), " a");
  gguf_vocabulary bare = scored();
  bare.add_bos_token = bare.add_space_prefix = false;
  const auto u = make_tokenizer(bare);
  EXPECT_EQ(encode(u, "ab a"), (std::vector{8, 7}));
  EXPECT_TRUE(u->opens().empty());
  bare.scores.pop_back();
  EXPECT_FALSE(make_tokenizer(bare));
  bare = scored();
  bare.scores[4] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(make_tokenizer(bare));
}

TEST(tokenizer_gguf, by_pairs) {
  EXPECT_EQ(encode(make_tokenizer(paired("gpt-2")), "ab 12"), (std::vector{2, 3, 6}));
  EXPECT_EQ(encode(make_tokenizer(paired("smollm")), "ab 12"), (std::vector{2, 3, 4, 5})) << "digits one by one";
  EXPECT_EQ(encode(make_tokenizer(paired("")), "ab 12"), (std::vector{2, 3, 6})) << "as \"default\"";
  EXPECT_TRUE(make_tokenizer(paired("gpt-2"))->opens().empty());
  EXPECT_EQ(make_tokenizer(paired("llama-bpe"))->opens().size(), 1u);
  EXPECT_EQ(encode(make_tokenizer(paired("qwen2")), "<|x|>"), std::vector<int>());
  EXPECT_EQ(encode(make_tokenizer(paired("qwen2")), "<|x|>", spelling::special), std::vector{7});
  for (const char* pre : {"qwen35", "tekken", "gpt-4o", "gemma4", "dbrx"})
    EXPECT_TRUE(make_tokenizer(paired(pre))) << pre;
}

TEST(tokenizer_gguf, refuses_by_name_what_it_does_not_know) {
  const auto t = make_tokenizer(paired("kimi-k2"));
  ASSERT_TRUE(t) << "ids can be decoded all the same";
  EXPECT_EQ(t->spell(std::vector{2, 3}), "ab ");
  EXPECT_NE(t->encode("ab").reason().message().find("'kimi-k2'"), std::string_view::npos);
  gguf_vocabulary v = paired("gpt-2");
  v.merges.push_back("b a");
  EXPECT_NE(make_tokenizer(v)->encode("a").reason().message().find("merge 2"), std::string_view::npos);
  v.model = "rwkv";
  EXPECT_NE(make_tokenizer(v).reason().message().find("rwkv"), std::string_view::npos);
  v = paired("gpt-2");
  v.token_type.pop_back();
  EXPECT_FALSE(make_tokenizer(v));
  v = paired("gpt-2");
  v.bos_token_id = 8;
  EXPECT_FALSE(make_tokenizer(v));
}

}  // namespace
