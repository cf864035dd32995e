#include <multistate/select/fold.hpp>
#include <multistate/select/lowest.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <support/random.hpp>

namespace {

using namespace multistate;

constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

/// Slots that lowest() takes.
std::vector<int> lowest_of(const std::vector<float>& worth, const std::vector<position>& positions, std::size_t count,
                           protection kept = {}) {
  if (kept.structural.newest == 0 && !positions.empty())
    kept.now = *std::max_element(positions.begin(), positions.end());
  std::vector<slot> out(count, no_slot);
  const std::size_t taken = lowest(worth, positions, kept, out);
  std::vector<int> found;
  for (std::size_t i = 0; i < taken; ++i) found.push_back(static_cast<int>(out[i]));
  return found;
}

using ints = std::vector<int>;

TEST(lowest, takes_the_smallest_by_increasing_position) {
  EXPECT_EQ(lowest_of({3, 1, 2}, {0, 1, 2}, 1), (ints{1}));
  EXPECT_EQ(lowest_of({3, 1, 2}, {9, 7, 4}, 2), (ints{2, 1}));  // slot 2 is older than slot 1
  EXPECT_EQ(lowest_of({3, 1, 2}, {5, 1, 2}, 3), (ints{1, 2, 0}));
  EXPECT_EQ(lowest_of({3, 1, 2}, {0, 1, 2}, 0), (ints{}));
}

TEST(lowest, does_not_depend_on_where_a_text_stands) {
  support::generator g(3);
  for (const int n : {5, 40, 70, 300})
    for (const protect keep : {protect{}, protect{0, 3}, protect{2, 0}, protect{2, 3}})
      for (const bool sinks : {false, true}) {
        std::vector<float> worth;
        std::vector<position> positions;
        for (int i = 0; i < n; ++i) {
          worth.push_back(static_cast<float>(g.between(0, 9)));
          positions.push_back(sinks && i < 2 ? i : 10 + i);
        }
        const auto at = [&](position shift) {
          std::vector<position> moved = positions;
          for (position& p : moved) p += p >= 10 ? shift : 0;
          ints taken;
          for (const std::size_t count : {1u, 2u}) {
            const ints some = lowest_of(worth, moved, count, {.structural = keep, .now = moved.back(), .pins = {}});
            taken.insert(taken.end(), some.begin(), some.end());
          }
          return taken;
        };
        const ints current = at(0);
        for (int bit : {30, 31, 32, 33, 53, 62})
          for (position before : {0, 7, 40})
            ASSERT_EQ(at((position{1} << bit) - before), current) << n << " " << bit << " " << before;
      }
}

TEST(lowest, of_equals_takes_the_oldest) {
  EXPECT_EQ(lowest_of({1, 1, 1, 1}, {3, 0, 2, 1}, 1), (ints{1}));
  EXPECT_EQ(lowest_of({1, 1, 1, 1}, {3, 0, 2, 1}, 3), (ints{1, 3, 2}));
  EXPECT_EQ(lowest_of({1, 0, 1, 2}, {10, 12, 11, 1}, 2), (ints{0, 1}));
}

TEST(lowest, ranks_nan_below_everything) {
  EXPECT_EQ(lowest_of({-infinity, nan_value, 0}, {0, 1, 2}, 1), (ints{1}));
  EXPECT_EQ(lowest_of({nan_value, -nan_value, -infinity}, {5, 4, 3}, 2), (ints{1, 0}));
  EXPECT_EQ(lowest_of({nan_value, -nan_value, -infinity}, {5, 4, 3}, 1), (ints{1}));  // all NaN are equal: the oldest
}

TEST(lowest, takes_zeros_of_both_signs_as_equal) {
  EXPECT_EQ(lowest_of({0.0f, -0.0f}, {0, 1}, 1), (ints{0}));
  EXPECT_EQ(lowest_of({-0.0f, 0.0f}, {0, 1}, 1), (ints{0}));
  EXPECT_EQ(lowest_of({0.0f, -std::numeric_limits<float>::denorm_min()}, {0, 1}, 1), (ints{1}));
}

TEST(lowest, orders_subnormal_and_infinite) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(lowest_of({infinity, tiny, -tiny, -infinity, 1, -1}, {0, 1, 2, 3, 4, 5}, 4), (ints{1, 2, 3, 5}));
}

TEST(lowest, leaves_the_first_and_the_newest) {
  const std::vector<float> worth{0, 0, 9, 9, 0};
  const std::vector<position> positions{0, 1, 2, 5, 7};
  EXPECT_EQ(lowest_of(worth, positions, 2, {{2, 1}, 7, {}}), (ints{2, 3}));
  EXPECT_EQ(lowest_of(worth, positions, 1, {{1, 0}, 7, {}}), (ints{1}));
  // Three newest are positions 5, 6, 7, whether 6 is still there or not.
  EXPECT_EQ(lowest_of(worth, positions, 3, {{0, 3}, 7, {}}), (ints{0, 1, 2}));
}

TEST(lowest, says_when_too_much_is_protected) {
  EXPECT_EQ(lowest_of({1, 2, 3}, {0, 1, 2}, 2, {{2, 0}, 2, {}}), (ints{2}));
  EXPECT_EQ(lowest_of({1, 2, 3}, {0, 1, 2}, 2, {{0, 3}, 2, {}}), (ints{}));
}

TEST(lowest, leaves_pinned_ranges) {
  const std::vector<position_range> pins{{1, 3}, {6, 7}};
  EXPECT_EQ(lowest_of({0, 0, 0, 5, 0}, {1, 2, 3, 4, 6}, 2, {{}, 9, pins}), (ints{2, 3}));
  EXPECT_TRUE(pinned(pins, 1) && pinned(pins, 2) && pinned(pins, 6));
  EXPECT_FALSE(pinned(pins, 0) || pinned(pins, 3) || pinned(pins, 7));
}

TEST(lowest, m_of_n_like_a_sort) {
  support::generator g(3);
  for (int round = 0; round < 4000; ++round) {
    const int n = g.between(1, 150);
    const position start = g.one_of(std::vector<position>{0, 0, 0x7fffffff - 200, position{1} << 40});
    std::vector<float> worth;
    std::vector<position> positions;
    for (int i = 0; i < n; ++i) {
      worth.push_back(g.chance(1) ? nan_value : static_cast<float>(g.between(-6, 6)) * 0.5f);  // many ties
      positions.push_back(start + 3 * i + g.between(0, 2));
    }
    g.shuffle(positions);
    const protection kept{
        {g.between(0, 9), g.between(0, 9)}, *std::max_element(positions.begin(), positions.end()), {}};
    const int m = g.chance(50) ? 1 : g.between(0, n);
    ints expected;
    for (int i = 0; i < n; ++i)
      if (positions[static_cast<std::size_t>(i)] >= kept.structural.first &&
          positions[static_cast<std::size_t>(i)] <= kept.now - kept.structural.newest)
        expected.push_back(i);
    const auto at = [](int i) { return static_cast<std::size_t>(i); };
    std::sort(expected.begin(), expected.end(), [&](int a, int b) {
      const float x = worth[at(a)], y = worth[at(b)];
      if (std::isnan(x) != std::isnan(y)) return std::isnan(x);
      if (!std::isnan(x) && x != y) return x < y;
      return positions[at(a)] < positions[at(b)];
    });
    if (static_cast<int>(expected.size()) > m) expected.resize(at(m));
    std::sort(expected.begin(), expected.end(), [&](int a, int b) { return positions[at(a)] < positions[at(b)]; });
    ASSERT_EQ(lowest_of(worth, positions, at(m), kept), expected) << "round " << round;
  }
}

std::vector<std::uint32_t> lowest_blocks_of(const std::vector<float>& worth, int block, protect kept,
                                            std::size_t count) {
  std::vector<std::uint32_t> out(count);
  out.resize(lowest_blocks(worth, block, kept, out));
  return out;
}

using blocks = std::vector<std::uint32_t>;

TEST(lowest_blocks, ranks_by_mean) {
  EXPECT_EQ(lowest_blocks_of({9, 0, 1, 1, 5, 5}, 2, {}, 1), (blocks{1}));
  EXPECT_EQ(lowest_blocks_of({9, 0, 1, 1, 4, 4}, 2, {}, 2), (blocks{1, 2}));
  EXPECT_EQ(lowest_blocks_of({5, 5, 1, 1, 4, 4}, 2, {}, 3), (blocks{0, 1, 2}));
}

TEST(lowest_blocks, counts_a_short_last_block_by_its_mean) {
  EXPECT_EQ(lowest_blocks_of({2, 2, 2, 3}, 3, {}, 1), (blocks{0}));
  EXPECT_EQ(lowest_blocks_of({2, 2, 2, 1}, 3, {}, 1), (blocks{1}));
}

TEST(lowest_blocks, of_equals_takes_the_oldest_and_nan_first) {
  EXPECT_EQ(lowest_blocks_of({1, 1, 1, 1}, 1, {}, 2), (blocks{0, 1}));
  EXPECT_EQ(lowest_blocks_of({-5, -5, 1, nan_value, 0, 0}, 2, {}, 1), (blocks{1}));
  EXPECT_EQ(lowest_blocks_of({nan_value, 0, nan_value, 0}, 2, {}, 1), (blocks{0}));
  EXPECT_EQ(lowest_blocks_of({0.0f, -0.0f}, 1, {}, 1), (blocks{0}));
}

TEST(lowest_blocks, leaves_first_and_newest_blocks) {
  EXPECT_EQ(lowest_blocks_of({0, 1, 2, 3}, 1, {1, 1}, 2), (blocks{1, 2}));
  EXPECT_EQ(lowest_blocks_of({0, 1, 2, 3}, 1, {1, 1}, 4), (blocks{1, 2}));
  EXPECT_EQ(lowest_blocks_of({0, 1}, 1, {1, 5}, 1), (blocks{}));
  EXPECT_EQ(lowest_blocks_of({0, 1}, 1, {9, 0}, 1), (blocks{}));
  EXPECT_EQ(lowest_blocks_of({}, 4, {}, 3), (blocks{}));
}

TEST(fold, replaces_first_then_adds_in_order) {
  std::vector<float> sum{99, 99};
  fold(sum, std::vector<float>{1, 2}, true);
  EXPECT_EQ(sum, (std::vector<float>{1, 2}));
  fold(sum, std::vector<float>{0.5f, -2}, false);
  EXPECT_EQ(sum, (std::vector<float>{1.5f, 0}));
  fold(sum, std::vector<float>{7, 7}, true);
  EXPECT_EQ(sum, (std::vector<float>{7, 7}));
}

}  // namespace
