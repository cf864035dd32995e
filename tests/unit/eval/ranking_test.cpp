#include <gtest/gtest.h>

#include <multistate/eval/ranking.hpp>

namespace {

using namespace multistate;

/// Full and, at budget 4, rows whose windows differ from Full by these much; a window scores 8 tokens.
struct table {
  table(std::size_t windows, std::initializer_list<std::pair<const char*, double>> policies) {
    texts.resize(1);
    texts[0].tokens.assign(8 * (windows + 1), 1);
    sample = text_sample::make(texts, 16, 5, scoring::tail).value();
    EXPECT_EQ(sample->windows().size(), windows);
    rows.resize(1);
    rows[0].policy = "full";
    rows[0].measured.emplace().nll = 1;
    for (const auto& [name, loss] : policies) {
      policy_run& row = rows.emplace_back();
      row.policy = name;
      row.drawn = row.policy == "random";
      row.budget = 4;
      figures& f = row.measured.emplace();
      for (std::size_t w = 0; w < windows; ++w) {
        const double noise = static_cast<double>(mix(rows.size() * 1000 + w) >> 40) / (1 << 24) - 0.5;
        f.window_differences.push_back(loss + 0.02 * noise);
        f.nll_minus_full += f.window_differences.back() / static_cast<double>(windows);
      }
      f.nll = 1 + f.nll_minus_full;
    }
  }
  std::vector<token_text> texts;
  std::optional<text_sample> sample;
  std::vector<policy_run> rows;
};

TEST(Ranking, TellsRowsApart) {
  table t(40, {{"random", 1.0}, {"good", 0.1}, {"alike", 0.1}});
  const ranking r = rank_rows(t.rows, *t.sample, 40);
  EXPECT_EQ(r.block_windows, 8u);
  EXPECT_FALSE(r.over_texts);
  ASSERT_EQ(r.pairs.size(), 3u);
  EXPECT_NEAR(r.pairs[0].difference, 0.9, 0.01);
  EXPECT_TRUE(r.pairs[0].spread->contains(r.pairs[0].difference));
  EXPECT_LT(*r.pairs[0].p_holm, 0.01);
  EXPECT_DOUBLE_EQ(*r.pairs[0].p_holm, 3 * *r.pairs[0].p);
  EXPECT_GT(*r.pairs[2].p_holm, 0.05);
  EXPECT_EQ(t.rows[1].measured->letter, "b");
  EXPECT_EQ(t.rows[2].measured->letter, "a");
  EXPECT_EQ(t.rows[3].measured->letter, "a");
  EXPECT_TRUE(t.rows[0].measured->letter.empty());
  EXPECT_FALSE(t.rows[0].measured->spread || t.rows[0].measured->gap_closed);
  EXPECT_EQ(*t.rows[1].measured->gap_closed, 0.0);
  EXPECT_NEAR(*t.rows[2].measured->gap_closed, 0.9, 0.01);
}

TEST(Ranking, FewWindowsAreNoRanking) {
  table t(29, {{"random", 1.0}, {"good", 0.1}});
  const ranking r = rank_rows(t.rows, *t.sample, 29);
  EXPECT_TRUE(t.rows[1].measured->letter.empty());
  EXPECT_TRUE(t.rows[1].measured->spread);
  EXPECT_EQ(r.pairs.size(), 1u);
}

TEST(Ranking, NoIntervalFromTooFewBlocks) {
  for (const std::size_t windows : {1u, 2u, 3u, 4u, 8u}) {
    table t(windows, {{"random", 1.0}, {"good", 0.1}});
    const ranking r = rank_rows(t.rows, *t.sample, windows);
    const bool enough = windows >= block_bootstrap::least_blocks;
    EXPECT_EQ(r.blocks, std::min<std::size_t>(windows, 4)) << windows;
    EXPECT_EQ(t.rows[1].measured->spread.has_value(), enough) << windows;
    EXPECT_EQ(t.rows[2].measured->gap_closed.has_value(), enough) << windows;
    ASSERT_EQ(r.pairs.size(), 1u);
    EXPECT_NEAR(r.pairs[0].difference, 0.9, 0.02);
    EXPECT_EQ(r.pairs[0].spread.has_value(), enough);
    EXPECT_EQ(r.pairs[0].p.has_value(), enough);
    EXPECT_EQ(r.pairs[0].p_holm.has_value(), enough);
    for (const std::optional<interval>& i : {t.rows[1].measured->spread, r.pairs[0].spread})
      EXPECT_TRUE(!i || i->low < i->high);
  }
}

TEST(Ranking, NothingForgottenIsNotRanked) {
  table t(40, {{"random", 0.0}, {"good", 0.0}});
  for (policy_run& row : t.rows)
    if (row.budget) row.budget = 16, row.measured->window_differences.assign(40, 0.0);
  EXPECT_TRUE(rank_rows(t.rows, *t.sample, 40).pairs.empty());
  for (const policy_run& row : t.rows)
    EXPECT_FALSE(row.measured->spread || row.measured->gap_closed || !row.measured->letter.empty());
  for (policy_run& row : t.rows)
    if (row.budget) row.budget = 15;  // the last of 16 queries sees k + 1
  EXPECT_TRUE(rank_rows(t.rows, *t.sample, 40).pairs.empty());
  for (policy_run& row : t.rows)
    if (row.budget) row.budget = 14;
  EXPECT_TRUE(rank_rows(t.rows, *t.sample, 40, {}, 8).pairs.empty());  // nothing is dropped before the last chunk
  const ranking r = rank_rows(t.rows, *t.sample, 40);  // something was forgotten, and nothing came of it
  EXPECT_FALSE(t.rows[1].measured->spread || r.pairs[0].spread);
  EXPECT_EQ(r.pairs[0].p, 1.0);
  EXPECT_EQ(t.rows[1].measured->letter, t.rows[2].measured->letter);
}

TEST(Ranking, NoGapWhereRandomLosesNothing) {
  table t(40, {{"random", 0.0}, {"good", 0.1}});
  t.rows[1].measured->window_differences[3] = -5;  // the interval reaches below zero
  rank_rows(t.rows, *t.sample, 40);
  EXPECT_FALSE(t.rows[1].measured->gap_closed || t.rows[2].measured->gap_closed);
}

}  // namespace
