#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include <multistate/model/sampling.hpp>

namespace {

using namespace multistate;

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float inf = std::numeric_limits<float>::infinity();

TEST(sampling, greedy_takes_the_lowest_of_equals_and_no_nan) {
  EXPECT_EQ(greedy(std::vector{1.0f, 3.0f, 3.0f, 2.0f}), 1);
  EXPECT_EQ(greedy(std::vector{nan, -5.0f, nan, -2.0f}), 3);
  EXPECT_EQ(greedy(std::vector{-inf, nan, -inf}), 0);
  EXPECT_EQ(greedy(std::vector{nan, -inf, -inf}), 1);
  EXPECT_EQ(greedy(std::vector{nan, nan}), 0);
}

TEST(sampling, draws_are_the_same_everywhere) {
  uniform_draws draws(7);
  std::vector<double> first;
  for (int i = 0; i < 3; ++i) first.push_back(draws());
  const std::vector<double> expected{0x1.7169852efd579p-1, 0x1.ea0dfa4ae6980p-3, 0x1.1a9b2395a48a8p-2};
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(first[i], expected[i]) << std::hexfloat << first[i];
  double sum = 0;
  for (int i = 0; i < 10000; ++i) {
    const double x = draws();
    ASSERT_TRUE(x >= 0.0 && x < 1.0);
    sum += x;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.02);
}

std::vector<int> counts(const sampling& settings, const std::vector<float>& logits, int draws) {
  sampler draw(settings, static_cast<int>(logits.size()));
  std::vector<int> seen(logits.size());
  for (int i = 0; i < draws; ++i) ++seen[static_cast<std::size_t>(draw(logits))];
  return seen;
}

TEST(sampling, frequencies_follow_the_softmax) {
  const std::vector<float> logits{0.0f, std::log(2.0f), -inf, std::log(5.0f)};
  const auto plain = counts({.seed = 3}, logits, 8000);
  EXPECT_NEAR(plain[0], 1000, 130);
  EXPECT_NEAR(plain[1], 2000, 160);
  EXPECT_EQ(plain[2], 0);
  EXPECT_NEAR(plain[3], 5000, 200);
  const auto flat = counts({.temperature = 2.0f, .seed = 3}, logits, 8000);
  EXPECT_NEAR(flat[3] / static_cast<double>(flat[0]), std::sqrt(5.0), 0.35);
  const auto cold = counts({.temperature = 0.0f, .seed = 3}, logits, 100);
  EXPECT_EQ(cold[3], 100);
}

TEST(sampling, top_p_draws_among_the_fewest_that_hold_the_share) {
  const std::vector<float> logits{0.0f, std::log(2.0f), 0.0f, std::log(6.0f)};  // 0.1 0.2 0.1 0.6
  const auto one = counts({.top_p = 0.55f, .seed = 1}, logits, 500);
  EXPECT_EQ(one[3], 500);
  const auto two = counts({.top_p = 0.75f, .seed = 1}, logits, 8000);
  EXPECT_EQ(two[0] + two[2], 0);
  EXPECT_NEAR(two[1], 2000, 180);
  const auto three = counts({.top_p = 0.85f, .seed = 1}, logits, 9000);
  EXPECT_NEAR(three[0], 1000, 140);  // of equals the lowest id
  EXPECT_EQ(three[2], 0);
}

TEST(sampling, without_probabilities_it_is_greedy) {
  EXPECT_EQ(counts({.seed = 1}, {0.0f, nan, 2.0f}, 50)[2], 50);
  EXPECT_EQ(counts({.seed = 1}, {0.0f, inf, 2.0f}, 50)[1], 50);
  EXPECT_EQ(counts({.top_p = 0.5f, .seed = 1}, {nan, nan}, 50)[0], 50);
  EXPECT_EQ(counts({.temperature = nan, .seed = 1}, {0.0f, 1.0f}, 50)[1], 50);
  EXPECT_EQ(counts({.top_p = -1.0f, .seed = 1}, {0.0f, 1.0f}, 50)[1], 50);
}

TEST(sampling, a_run_repeats_from_its_seed) {
  std::vector<float> logits(50);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i % 7) * 0.3f;
  std::vector<std::vector<int>> runs;
  for (const std::uint64_t seed : {5u, 5u, 6u}) {
    sampler draw({.top_p = 0.9f, .seed = seed}, 50);
    runs.emplace_back();
    for (int i = 0; i < 40; ++i) runs.back().push_back(draw(logits));
  }
  EXPECT_EQ(runs[0], runs[1]);
  EXPECT_NE(runs[0], runs[2]);
}

}  // namespace
