#include <multistate/rope/angle_table.hpp>
#include <multistate/rope/log_positions.hpp>
#include <multistate/rope/rope.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace multistate;

rope_config plain(int dim, rope_pairing pairing = rope_pairing::halves) {
  rope_config c;
  c.dim = dim;
  c.pairing = pairing;
  return c;
}

rope_config llama3() {  // of golden/rope_llama3
  rope_config c = plain(8);
  c.scaling = rope_scaling::llama3;
  c.factor = 8;
  c.low_freq_factor = 1;
  c.high_freq_factor = 4;
  c.original_context = 64;
  return c;
}

TEST(rope, frequencies_of_the_paper) {
  const auto r = rope::make(plain(128)).value();
  ASSERT_EQ(r.inv_freq().size(), 64u);
  for (std::size_t i = 0; i < 64; ++i)
    EXPECT_NEAR(r.inv_freq()[i], std::pow(10000.0, -static_cast<double>(2 * i) / 128), 1e-15);
}

// `inv_freq` of golden/rope_linear and rope_llama3, made by transformers 5.2.0 in float32.
TEST(rope, scalings_match_transformers) {
  rope_config linear = plain(8);
  linear.scaling = rope_scaling::linear;
  linear.factor = 4;
  const std::array<double, 4> linear_golden{0x1.0p-2, 0x1.99999ap-6, 0x1.47ae14p-9, 0x1.0624dep-12};
  const std::array<double, 4> llama3_golden{0x1.0p+0, 0x1.ab5e60p-7, 0x1.47ae14p-10, 0x1.0624dep-13};
  const auto a = rope::make(linear).value();
  const auto b = rope::make(llama3()).value();
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(a.inv_freq()[i], linear_golden[i], 1.2e-7 * linear_golden[i]);
    EXPECT_NEAR(b.inv_freq()[i], llama3_golden[i], 2.4e-7 * llama3_golden[i]);
  }
  EXPECT_EQ(b.inv_freq()[0], 1.0);  // short wavelengths are left alone
}

// Against angles in long double: a float's angle would be off by 0.5 radians here.
TEST(rope, exact_at_far_positions) {
  for (const double theta : {10000.0, 500000.0}) {
    rope_config c = plain(64);
    c.theta = theta;
    const auto r = rope::make(c).value();
    std::vector<float> cs(r.angle_floats());
    for (const double pos : {0.0, 1.0, 4095.0, 1e5 + 7, 1e7 - 1, 1e7, 16777217.0, 3.25, 1e7 + 0.5}) {
      r.angles(pos, cs.data());
      for (std::size_t i = 0; i < 32; ++i) {
        const long double f = std::pow(static_cast<long double>(theta), -static_cast<long double>(2 * i) / 64.0L);
        const long double angle = static_cast<long double>(pos) * f;
        EXPECT_NEAR(cs[i], static_cast<double>(std::cos(angle)), 7e-8) << pos << " " << i;
        EXPECT_NEAR(cs[32 + i], static_cast<double>(std::sin(angle)), 7e-8) << pos << " " << i;
      }
    }
  }
}

TEST(rope, both_pairings_turn_pairs_and_leave_the_rest) {
  for (const auto pairing : {rope_pairing::halves, rope_pairing::adjacent}) {
    const int dim = 6;
    const std::size_t d = 9;
    const auto r = rope::make(plain(dim, pairing)).value();
    std::vector<float> cs(r.angle_floats());
    r.angles(11, cs.data());
    std::vector<float> x(d);
    for (std::size_t i = 0; i < d; ++i) x[i] = static_cast<float>(i) - 3.5f;
    std::vector<float> y(d, -99.0f);
    r.rotate(x, cs.data(), y);
    for (std::size_t i = 0; i < 3; ++i) {
      const std::size_t a = pairing == rope_pairing::halves ? i : 2 * i;
      const std::size_t b = pairing == rope_pairing::halves ? i + 3 : 2 * i + 1;
      const double angle = 11 * r.inv_freq()[i];
      const double xa = double(x[a]);
      const double xb = double(x[b]);
      EXPECT_NEAR(y[a], xa * std::cos(angle) - xb * std::sin(angle), 2e-6);
      EXPECT_NEAR(y[b], xb * std::cos(angle) + xa * std::sin(angle), 2e-6);
    }
    for (std::size_t i = 6; i < d; ++i) EXPECT_EQ(y[i], x[i]);
    r.rotate(x, cs.data(), x);  // the same memory
    EXPECT_EQ(x, y);
  }
}

TEST(rope, products_depend_on_the_distance_only) {
  const auto r = rope::make(plain(32)).value();
  std::vector<float> q(32), k(32), a(32), b(32), cs(32);
  for (std::size_t i = 0; i < 32; ++i) {
    q[i] = std::sin(float(i) * 1.7f);
    k[i] = std::cos(float(i) * 0.9f);
  }
  const auto product = [&](double pq, double pk) {
    r.angles(pq, cs.data());
    r.rotate(q, cs.data(), a);
    r.angles(pk, cs.data());
    r.rotate(k, cs.data(), b);
    double s = 0;
    for (std::size_t i = 0; i < 32; ++i) s += double(a[i]) * double(b[i]);
    return s;
  };
  EXPECT_NEAR(product(25, 5), product(10000020, 10000000), 5e-6);
}

TEST(rope, table_holds_the_angles_of_ranks) {
  const auto t = angle_table::make(llama3(), 70).value();
  EXPECT_EQ(t.ranks(), 70);
  EXPECT_EQ(t.bytes(), 70u * 8u * sizeof(float));
  std::array<float, 8> cs;
  for (int rank = 0; rank < 70; ++rank) {
    t.rotation().angles(rank, cs.data());
    for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(t.row(static_cast<std::size_t>(rank))[i], cs[i]);
  }
}

TEST(log_positions, gaps_above_ten_shrink) {
  for (const double gap : {0, 1, 2, 9, 10}) EXPECT_EQ(log_gap(gap), gap);
  EXPECT_NEAR(log_gap(11), 0.874591, 1e-6);  // ln 11 = 2.397895
  EXPECT_LT(log_gap(15), 1);
  EXPECT_GT(log_gap(16), 1);
  EXPECT_NEAR(log_gap(70000), 2.412000, 1e-6);  // ln 70000 = 11.156251
}

TEST(log_positions, do_not_depend_on_where_a_text_stands) {
  const std::vector<std::uint32_t> ranks{2, 0, 1, 3};
  std::vector<double> near(4), far(4);
  const std::vector<position> positions{7, 3, 4, 60};
  log_positions(positions, ranks, near);
  for (const position shift : {position{1} << 31, position{1} << 32, position{1} << 53, position{1} << 62}) {
    std::vector<position> shifted;
    for (const position p : positions) shifted.push_back(p + shift);
    log_positions(shifted, ranks, far);
    EXPECT_EQ(far, near) << shift;
  }
}

TEST(log_positions, are_sums_of_gaps_in_rank_order) {
  const std::vector<position> positions{1030, 7, 18, 53, 17, 19};  // by slot; by age: 7 17 18 19 53 1030
  const std::vector<std::uint32_t> ranks{5, 0, 2, 4, 1, 3};
  std::vector<double> by_rank(6);
  log_positions(positions, ranks, by_rank);
  const double first = std::log(std::log(34.0)), second = std::log(std::log(977.0));
  EXPECT_EQ(by_rank, (std::vector<double>{0, 10, 11, 12, 12 + first, 12 + first + second}));
  log_positions(positions, ranks, std::span(by_rank).first(0));
}

TEST(rope, bad_settings_are_refused_with_their_values) {
  const auto refused = [](rope_config c, const char* setting) {
    const auto r = rope::make(c);
    ASSERT_FALSE(r) << setting;
    EXPECT_NE(std::string(r.reason().message()).find(setting), std::string::npos) << r.reason().message();
    EXPECT_FALSE(angle_table::make(c, 4));
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const int dim : {-2, 0, 7}) refused(plain(dim), "dim");
  rope_config c = plain(8);
  for (const double theta : {0.0, -1.0, nan, std::numeric_limits<double>::infinity()}) {
    c.theta = theta;
    refused(c, "theta");
  }
  c = llama3();
  c.factor = 0;
  refused(c, "factor is 0");
  c = llama3();
  c.high_freq_factor = 1;
  refused(c, "high_freq_factor is 1");
  c = llama3();
  c.low_freq_factor = nan;
  refused(c, "low_freq_factor is nan");
  c = llama3();
  c.original_context = 0;
  refused(c, "original_context");
  EXPECT_FALSE(angle_table::make(plain(8), 0));
}

}  // namespace
