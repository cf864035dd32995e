#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include <multistate/eval/sample.hpp>

namespace {

using namespace multistate;

token_text text_of(int n) {
  token_text t;
  t.name = "t";
  for (int i = 0; i < n; ++i) {
    t.tokens.push_back(i);
    t.bytes.push_back(1 + i % 3);
  }
  return t;
}

constexpr int bos_id = 1000;

TEST(Sample, WindowsOfALongText) {
  const std::vector texts{text_of(21)};
  const auto s = text_sample::make(texts, 8, bos_id, scoring::tail);
  ASSERT_TRUE(s);
  // Targets 4..7, 8..11, 12..15, 16..19, and the last alone: a window exists while it has a scored target.
  ASSERT_EQ(s->windows().size(), 5u);
  for (std::size_t w = 0; w < 4; ++w) {
    EXPECT_EQ(s->windows()[w].queries, 8);
    EXPECT_EQ(s->windows()[w].scored_from, 4);
    EXPECT_EQ(s->windows()[w].first, 4 * w);
  }
  EXPECT_EQ(s->windows()[4].queries, 5);
  EXPECT_EQ(s->windows()[4].scored(), 1);
  EXPECT_EQ(s->stride(), 4);
  const text_window& second = s->windows()[1];
  EXPECT_EQ(s->input(second, 0), bos_id);
  EXPECT_EQ(s->input(second, 1), 4);
  EXPECT_EQ(s->input(second, 7), 10);
  EXPECT_EQ(s->target(second, 7), 11);  // the text's next token
}

TEST(Sample, WithoutBosEveryInputIsText) {
  const std::vector texts{text_of(13)};
  const auto s = text_sample::make(texts, 8, -1, scoring::tail);
  ASSERT_TRUE(s);
  ASSERT_EQ(s->windows().size(), 2u);
  EXPECT_EQ(s->input(s->windows()[0], 0), 0);
  EXPECT_EQ(s->target(s->windows()[0], 7), 8);
  EXPECT_EQ(s->input(s->windows()[1], 0), 4);
  EXPECT_EQ(s->windows()[1].queries, 8);
  EXPECT_EQ(s->target(s->windows()[1], 7), 12);
}

TEST(Sample, AShorterTextIsOneWindowScoredFromItsMiddle) {
  for (const int b : {bos_id, -1})
    for (int n = 2; n < 16; ++n) {
      const std::vector texts{text_of(n)};
      const auto s = text_sample::make(texts, 16, b, scoring::tail);
      ASSERT_TRUE(s);
      ASSERT_EQ(s->windows().size(), 1u);
      const text_window& w = s->windows()[0];
      EXPECT_EQ(w.queries, b < 0 ? n - 1 : n);
      EXPECT_EQ(s->target_index(w, w.scored_from), static_cast<std::size_t>(n / 2));
      EXPECT_EQ(s->target_index(w, w.queries - 1), static_cast<std::size_t>(n - 1));
    }
}

TEST(Sample, ScoredTargetsTileEachText) {
  for (const int b : {bos_id, -1})
    for (const scoring rule : {scoring::tail, scoring::all})
      for (int window = 2; window <= 9; ++window)
        for (int n = 2; n < 50; ++n) {
          const std::vector texts{text_of(n), text_of(17)};
          const auto s = text_sample::make(texts, window, b, rule);
          ASSERT_TRUE(s);
          std::vector<int> times(static_cast<std::size_t>(n));
          std::int64_t bytes = 0, scored = 0;
          for (const text_window& w : s->windows()) {
            EXPECT_GT(w.scored(), 0);
            EXPECT_LE(w.queries, window);
            for (int j = 0; j < w.queries; ++j) {
              const std::size_t target = s->target_index(w, j);
              ASSERT_LT(target, texts[w.text].tokens.size());
              if (j + 1 < w.queries) {
                EXPECT_EQ(s->input(w, j + 1), s->target(w, j));
              }
              if (j < w.scored_from) continue;
              ++scored;
              bytes += texts[w.text].bytes[target];
              if (w.text == 0) ++times[target];
              if (rule == scoring::tail && n >= window) {
                EXPECT_GE(2 * j, window);
              }
            }
          }
          EXPECT_EQ(s->scored(s->windows().size()), scored);
          EXPECT_EQ(s->bytes(s->windows().size()), bytes);
          const int skip = b < 0 ? 1 : 0;
          const int from = rule == scoring::all ? skip : n < window ? n / 2 : window - window / 2 + skip;
          for (int i = 0; i < n; ++i)
            EXPECT_EQ(times[static_cast<std::size_t>(i)], i >= from ? 1 : 0) << n << " " << window << " " << i;
        }
}

TEST(Sample, BosInsideATextIsReadOnceAndNeverATarget) {
  for (const scoring rule : {scoring::tail, scoring::all})
    for (int window = 2; window <= 9; ++window)
      for (int n = 2; n < 50; ++n)
        for (const int every : {1, 2, 3, 4, 7}) {  // joined documents, the last text nothing but BOS
          std::vector texts{text_of(n), text_of(17)};
          for (std::size_t i = 0; i < texts[0].tokens.size(); i += static_cast<std::size_t>(every))
            texts[0].tokens[i] = bos_id;
          const auto s = text_sample::make(texts, window, bos_id, rule);
          ASSERT_TRUE(s);
          std::vector<int> times(static_cast<std::size_t>(n));
          std::int64_t bytes = 0, scored = 0;
          for (const text_window& w : s->windows()) {
            EXPECT_GT(w.scored(), 0);
            EXPECT_LE(w.queries, window);
            EXPECT_GE(w.scored_from, 0);
            const auto inputs = s->inputs(w);
            EXPECT_EQ(inputs[0], bos_id);
            EXPECT_TRUE(inputs.size() < 2 || inputs[1] != bos_id);
            std::int64_t current = 0;
            for (int j = 0; j < w.queries; ++j) {
              if (!s->scores(w, j)) continue;
              EXPECT_GE(j, w.scored_from);
              EXPECT_NE(s->target(w, j), bos_id);
              ++current;
              bytes += texts[w.text].bytes[s->target_index(w, j)];
              if (w.text == 0) ++times[s->target_index(w, j)];
            }
            EXPECT_EQ(w.scored(), current);
            scored += current;
          }
          EXPECT_EQ(s->scored(s->windows().size()), scored);
          EXPECT_EQ(s->bytes(s->windows().size()), bytes);
          const int from = rule == scoring::all ? 0 : n < window ? n / 2 : window - window / 2;
          for (int i = 0; i < n; ++i)
            EXPECT_EQ(times[static_cast<std::size_t>(i)], i >= from && i % every != 0 ? 1 : 0);
        }
  std::vector only{text_of(9)};
  std::fill(only[0].tokens.begin(), only[0].tokens.end(), bos_id);
  EXPECT_FALSE(text_sample::make(only, 4, bos_id, scoring::all));
  EXPECT_TRUE(text_sample::make(only, 4, -1, scoring::all)) << "a token like others where the model has no BOS";
}

TEST(Sample, CountingIsAYardstick) {
  std::vector texts{text_of(40)};
  for (std::size_t i = 0; i < 40; ++i) texts[0].tokens[i] = i == 20 ? 1 : 0;
  const auto s = text_sample::make(texts, 40, -1, scoring::all).value();
  double nll = 0;  // of 39 targets, the 20th of which is another
  for (int t = 0, zeros = 0; t < 39; ++t) {
    const bool other = t == 19;
    nll -= std::log((other ? 0.5 : zeros + 0.5) / (t + 2.5));
    zeros += other ? 0 : 1;
  }
  EXPECT_NEAR(counting_nll(s, 1, 5), nll / 39, 1e-12);
}

TEST(Sample, RefusesWhatCannotBeScored) {
  EXPECT_FALSE(text_sample::make({}, 8, bos_id, scoring::tail));
  const std::vector one{text_of(1)};
  const auto s = text_sample::make(one, 8, bos_id, scoring::tail);
  ASSERT_FALSE(s);
  EXPECT_EQ(s.reason().message(), "t: has 1 tokens, needs at least 2 to score one");
  const std::vector texts{text_of(9)};
  EXPECT_FALSE(text_sample::make(texts, 1, bos_id, scoring::tail));
}

}  // namespace
