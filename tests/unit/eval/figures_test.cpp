#include <gtest/gtest.h>

#include <random>

#include <multistate/eval/figures.hpp>

namespace {

using namespace multistate;

TEST(Figures, LogSoftmaxOfLargeLogits) {
  const std::vector<float> logits{1e30f, 1e30f, -1e30f};
  std::vector<double> out(3);
  ASSERT_TRUE(log_softmax(logits, out));
  const std::vector<float> near{1000.0f, 1001.0f, 999.0f};
  ASSERT_TRUE(log_softmax(near, out));
  const double sum = std::exp(-1.0) + 1 + std::exp(-2.0);
  EXPECT_NEAR(out[0], -1 - std::log(sum), 1e-14);
  EXPECT_NEAR(out[1], -std::log(sum), 1e-14);
}

TEST(Figures, RefusesWhatIsNotFinite) {
  std::vector<double> out(2);
  EXPECT_FALSE(log_softmax(std::vector<float>{0.0f, NAN}, out));
  EXPECT_FALSE(log_softmax(std::vector<float>{INFINITY, 0.0f}, out));
  EXPECT_FALSE(log_softmax(std::vector<float>{-INFINITY, 0.0f}, out));
}

TEST(Figures, DivergenceIsThatOfProbabilities) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> a(50), b(50);
  std::vector<double> p(50), q(50);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = normal(random), b[i] = normal(random);
  ASSERT_TRUE(log_softmax(a, p) && log_softmax(b, q));
  long double expected = 0, za = 0, zb = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    za += std::exp(static_cast<long double>(a[i])), zb += std::exp(static_cast<long double>(b[i]));
  for (std::size_t i = 0; i < a.size(); ++i) {
    const long double x = std::exp(static_cast<long double>(a[i])) / za,
                      y = std::exp(static_cast<long double>(b[i])) / zb;
    expected += x * std::log(x / y);
  }
  EXPECT_NEAR(divergence(p, q), static_cast<double>(expected), 1e-12);
  EXPECT_EQ(divergence(p, p), 0.0);
}

TEST(Figures, QuantilesInterpolate) {
  std::vector<float> values{4, 1, 3, 2};
  EXPECT_DOUBLE_EQ(quantile(values, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(quantile(values, 0.0), 1);
  EXPECT_DOUBLE_EQ(quantile(values, 1.0), 4);
  EXPECT_DOUBLE_EQ(quantile(values, 0.99), 3.97);
  std::vector<float> one{7};
  EXPECT_DOUBLE_EQ(quantile(one, 0.99), 7);
}

TEST(Figures, SumsUpRunsAndWindows) {
  std::vector<totals> runs(2);
  for (std::size_t r = 0; r < 2; ++r) {
    for (int w = 0; w < 2; ++w) {
      for (int i = 0; i < 2 + w; ++i) {
        runs[r].attend(3, 3, false);
        runs[r].attend(5, 6, true);
        runs[r].rest(100);
        runs[r].rest(200);
        runs[r].score(2.0 + static_cast<double>(r), 1.5, 0.25 * i, i == 0);
      }
      runs[r].place(0, 1.0);
      runs[r].place(15, 2.0);
      runs[r].place(17, static_cast<double>(w));
      runs[r].lived().life = 12 + w;
      runs[r].lived().states = 3;
      runs[r].end_window();
    }
    runs[r].score(1e9, 0, 1e9, true);  // of a window that did not end
  }
  const figures f = totals::sum_up(runs, 10, true);
  EXPECT_DOUBLE_EQ(f.nll, 2.5);
  EXPECT_DOUBLE_EQ(f.nll_minus_full, 1.0);
  EXPECT_DOUBLE_EQ(f.perplexity, std::exp(2.5));
  EXPECT_DOUBLE_EQ(*f.bits_per_byte, 5 * 2.5 / std::log(2.0) / 10);
  EXPECT_DOUBLE_EQ(*f.kl_mean, (0 + 0.25 + 0 + 0.25 + 0.5) / 5);
  EXPECT_DOUBLE_EQ(*f.kl_median, 0.25);
  EXPECT_DOUBLE_EQ(*f.top1_agreement, 0.4);
  EXPECT_DOUBLE_EQ(f.states_attended_mean, 5);
  EXPECT_EQ(f.states_attended_max, 6);
  EXPECT_DOUBLE_EQ(*f.mean_life, 25.0 / 6);
  ASSERT_EQ(f.by_position.size(), 2u);
  EXPECT_EQ(f.by_position[0].count, 4);
  EXPECT_DOUBLE_EQ(f.by_position[0].difference, 1.5);
  EXPECT_EQ(f.by_position[1].position, 16);
  EXPECT_DOUBLE_EQ(f.by_position[1].difference, 0.5);
  EXPECT_DOUBLE_EQ(f.bytes_live, 150);
  EXPECT_EQ(f.window_differences, (std::vector{1.0, 1.0}));
  const figures beyond = totals::sum_up(runs, 0, false);
  EXPECT_FALSE(beyond.kl_mean || beyond.kl_median || beyond.kl_p99 || beyond.top1_agreement || beyond.bits_per_byte);
}

}  // namespace
