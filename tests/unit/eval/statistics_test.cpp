#include <gtest/gtest.h>

#include <random>

#include <multistate/eval/statistics.hpp>

namespace {

using namespace multistate;
using series = std::vector<std::vector<double>>;

TEST(Statistics, WilsonIsThePrintedOne) {
  // Newcombe 1998, table I, method 3: 81/263, 15/148, 0/20, 1/29.
  const auto printed = [](int successes, int trials, double low, double high) {
    const interval i = wilson(successes, trials);
    EXPECT_NEAR(i.low, low, 5e-5) << successes << "/" << trials;
    EXPECT_NEAR(i.high, high, 5e-5) << successes << "/" << trials;
  };
  printed(81, 263, 0.2553, 0.3662);
  printed(15, 148, 0.0624, 0.1605);
  printed(0, 20, 0.0000, 0.1611);
  printed(1, 29, 0.0061, 0.1718);
  EXPECT_EQ(wilson(20, 20).high, 1.0);
  EXPECT_EQ(wilson(0, 0).low, 0.0);
  EXPECT_EQ(wilson(0, 0).high, 1.0);
}

bootstrap_windows alike(std::size_t texts, std::size_t each) {
  bootstrap_windows w;
  for (std::size_t t = 0; t < texts; ++t)
    for (std::size_t i = 0; i < each; ++i) w.text.push_back(t), w.weight.push_back(1);
  return w;
}

double spread(const std::vector<double>& x) {
  double mean = 0, sum = 0;
  for (const double v : x) mean += v / static_cast<double>(x.size());
  for (const double v : x) sum += (v - mean) * (v - mean);
  return std::sqrt(sum / static_cast<double>(x.size()));
}

TEST(Statistics, SpreadIsTheClosedForm) {
  // Blocks of one: the variance of the mean is the sample's variance / n. 7 windows < 2 * 4, so blocks are of one.
  const std::vector<std::vector<double>> x{{1, 2, 4, 8, 16, 32, 64}};
  const block_bootstrap boot(alike(1, 7), {});
  EXPECT_EQ(boot.block(), 1u);
  EXPECT_FALSE(boot.over_texts());
  const auto means = boot.means(x);
  ASSERT_EQ(means[0].size(), 10000u);
  EXPECT_NEAR(spread(means[0]), spread(x[0]) / std::sqrt(7.0), 0.15);

  // Blocks of 8 over 64 windows that are constant inside aligned blocks: circular blocks mix two neighbours.
  std::vector<double> steps(64);
  for (std::size_t i = 0; i < 64; ++i) steps[i] = i / 8 % 2 == 0 ? 1 : -1;
  const block_bootstrap eight(alike(1, 64), {});
  EXPECT_EQ(eight.block(), 8u);
  double variance = 0;  // of the mean of one block, over its 64 starts
  for (std::size_t start = 0; start < 64; ++start) {
    double mean = 0;
    for (std::size_t i = 0; i < 8; ++i) mean += steps[(start + i) % 64] / 8;
    variance += mean * mean / 64;
  }
  EXPECT_NEAR(spread(eight.means(series{steps})[0]), std::sqrt(variance / 8), 0.004);
}

TEST(Statistics, TextsAreDrawnFromFiveOn) {
  // Constant inside each text: blocks alone change nothing, texts do.
  for (const std::size_t texts : {4u, 5u}) {
    const auto w = alike(texts, 16);
    std::vector<double> x(w.text.size()), by_text(texts);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(w.text[i]);
    for (std::size_t t = 0; t < texts; ++t) by_text[t] = static_cast<double>(t);
    const block_bootstrap boot(w, {});
    EXPECT_EQ(boot.over_texts(), texts == 5);
    EXPECT_EQ(boot.block(), 4u);
    EXPECT_NEAR(spread(boot.means(series{x})[0]), texts == 5 ? spread(by_text) / std::sqrt(5.0) : 0.0, 0.01);
  }
}

TEST(Statistics, BlocksAreWhatCanBeDrawn) {
  const auto blocks = [](std::size_t texts, std::size_t each) {
    return block_bootstrap(alike(texts, each), {}).blocks();
  };
  EXPECT_EQ(blocks(1, 1), 1u);
  EXPECT_EQ(blocks(1, 3), 3u);
  EXPECT_EQ(blocks(1, 8), 4u);  // of two
  EXPECT_EQ(blocks(1, 9), 5u);  // the last is cut
  EXPECT_EQ(blocks(1, 800), 100u);
  EXPECT_EQ(blocks(4, 1), 1u);  // each text stays, and has but one window
  EXPECT_EQ(blocks(2, 2), 3u);
  EXPECT_EQ(blocks(5, 1), 5u);  // texts are drawn
  const block_bootstrap four(alike(4, 1), {});
  EXPECT_FALSE(four.tells());
  EXPECT_FALSE(interval_of(four, {1, 2, 3}));
  const block_bootstrap five(alike(5, 1), {});
  EXPECT_TRUE(five.tells());
  EXPECT_TRUE(interval_of(five, {1, 2, 3}));
  EXPECT_FALSE(interval_of(five, {2, 2, 2}));  // of no width
}

TEST(Statistics, WeightsAreTokens) {
  bootstrap_windows w = alike(1, 2);
  w.weight = {3, 1};
  const auto means = block_bootstrap(w, {}).means(std::vector<std::vector<double>>{{1, 5}})[0];
  int both = 0;
  for (const double m : means) {
    EXPECT_TRUE(m == 1 || m == 5 || m == 2) << m;  // (3 * 1 + 1 * 5) / 4 = 2
    both += m == 2 ? 1 : 0;
  }
  EXPECT_NEAR(both / 10000.0, 0.5, 0.02);
}

TEST(Statistics, SeedDecidesEverything) {
  const auto w = alike(1, 40);
  std::vector<double> x(40);
  for (std::size_t i = 0; i < 40; ++i) x[i] = static_cast<double>(i * i % 17);
  const auto one = block_bootstrap(w, {.seed = 4}).means(series{x});
  EXPECT_EQ(one, block_bootstrap(w, {.seed = 4}).means(series{x}));
  EXPECT_NE(one, block_bootstrap(w, {.seed = 5}).means(series{x}));
  // Paired: a series shifted by a constant differs by it in every resample.
  std::vector<double> shifted = x;
  for (double& v : shifted) v += 2;
  const auto two = block_bootstrap(w, {.seed = 4}).means(series{x, shifted});
  for (std::size_t r = 0; r < two[0].size(); ++r) EXPECT_NEAR(two[1][r] - two[0][r], 2, 1e-12);
}

TEST(Statistics, IntervalsCover) {
  // Windows that depend on their neighbours: an autoregression of 0.5, 200 windows, 400 samples, true mean 0. Blocks
  // of one would cover some 74 %.
  std::mt19937 random(11);
  std::normal_distribution<double> normal;
  int covered = 0, covered_alone = 0;
  for (int trial = 0; trial < 400; ++trial) {
    std::vector<double> x(200);
    double last = normal(random) / std::sqrt(0.75);
    for (double& v : x) v = last = 0.5 * last + normal(random);
    const auto seed = static_cast<std::uint64_t>(trial);
    const auto one = [&](int block) {
      return percentile_interval(
          block_bootstrap(alike(1, 200), {.resamples = 500, .seed = seed, .block = block}).means(series{x})[0]);
    };
    covered += one(8).contains(0) ? 1 : 0;
    covered_alone += one(1).contains(0) ? 1 : 0;
  }
  EXPECT_GT(covered, 400 * 0.88);
  EXPECT_LT(covered, 400 * 0.98);
  EXPECT_LT(covered_alone, 400 * 0.82);
}

TEST(Statistics, PercentilesAndP) {
  std::vector<double> x(1001);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i) - 100;
  const interval i = percentile_interval(x);
  EXPECT_DOUBLE_EQ(i.low, -75);
  EXPECT_DOUBLE_EQ(i.high, 875);
  EXPECT_DOUBLE_EQ(bootstrap_p(x), 2.0 * 102 / 1002);  // 101 are not above zero
  EXPECT_DOUBLE_EQ(bootstrap_p(std::vector(99, 1.0)), 0.02);
  EXPECT_DOUBLE_EQ(bootstrap_p(std::vector(99, 0.0)), 1.0);
}

TEST(Statistics, HolmWorkedExample) {
  // 0.01, 0.04, 0.03, 0.005: times 3, 1, 2, 4, then never below the one before.
  const auto p = holm(std::vector{0.01, 0.04, 0.03, 0.005});
  const std::vector expected{0.03, 0.06, 0.06, 0.02};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(p[i], expected[i], 1e-15);
  EXPECT_EQ(holm(std::vector{0.6, 0.7}), (std::vector{1.0, 1.0}));
}

TEST(Statistics, LettersWorkedExample) {
  // Piepho's shape: 1 = 2, 2 = 3, 3 = 4, all others differ.
  const auto chain = compact_letters(4, [](std::size_t i, std::size_t j) { return j - i > 1; });
  EXPECT_EQ(chain, (std::vector<std::string>{"a", "ab", "bc", "c"}));
  const auto none = compact_letters(3, [](std::size_t, std::size_t) { return false; });
  EXPECT_EQ(none, (std::vector<std::string>{"a", "a", "a"}));
  const auto all = compact_letters(3, [](std::size_t, std::size_t) { return true; });
  EXPECT_EQ(all, (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_TRUE(compact_letters(53, [](std::size_t, std::size_t) { return true; }).empty());
  EXPECT_TRUE(compact_letters(0, [](std::size_t, std::size_t) { return true; }).empty());
}

TEST(Statistics, LettersSayExactlyWhatDiffers) {
  std::mt19937 random(12);
  for (int trial = 0; trial < 200; ++trial) {
    constexpr std::size_t rows = 7;
    bool differs[rows][rows] = {};
    for (std::size_t i = 0; i < rows; ++i)
      for (std::size_t j = i + 1; j < rows; ++j) differs[i][j] = random() % 3 == 0;
    const auto letters = compact_letters(rows, [&](std::size_t i, std::size_t j) { return differs[i][j]; });
    ASSERT_EQ(letters.size(), rows);
    for (std::size_t i = 0; i < rows; ++i)
      for (std::size_t j = i + 1; j < rows; ++j)
        EXPECT_EQ(letters[i].find_first_of(letters[j]) == std::string::npos, differs[i][j]);
  }
}

}  // namespace
