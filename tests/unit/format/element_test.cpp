#include <multistate/format/element.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

#include <support/random.hpp>

namespace {

using multistate::bf16;
using multistate::f16;
using multistate::f32;
using multistate::i8;
using multistate::overflows;

/// A half or bfloat by its definition: `exponent_bits` and `mantissa_bits` of IEEE 754.
double value_of(std::uint32_t bits, int exponent_bits, int mantissa_bits) {
  const double sign = (bits >> (exponent_bits + mantissa_bits)) != 0 ? -1.0 : 1.0;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const auto exponent = static_cast<int>((bits >> mantissa_bits) & ((1u << exponent_bits) - 1));
  const double mantissa = bits & ((1u << mantissa_bits) - 1);
  if (exponent == (1 << exponent_bits) - 1)
    return mantissa == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + std::ldexp(1.0, mantissa_bits), exponent - bias - mantissa_bits);
}

/// The nearest of all values, ties to the even mantissa; by search.
std::uint32_t nearest(float f, int exponent_bits, int mantissa_bits) {
  const std::uint32_t sign = std::signbit(f) ? 1u << (exponent_bits + mantissa_bits) : 0u;
  const double x = std::abs(static_cast<double>(f));
  const std::uint32_t infinity = ((1u << exponent_bits) - 1) << mantissa_bits;
  std::uint32_t low = 0, high = infinity;  // value(low) <= x
  while (high - low > 1) {
    const std::uint32_t middle = (low + high) / 2;
    (value_of(middle, exponent_bits, mantissa_bits) <= x ? low : high) = middle;
  }
  // Infinity stands where the next finite value would be.
  const double below = value_of(low, exponent_bits, mantissa_bits);
  const double above =
      high == infinity ? std::ldexp(1.0, 1 << (exponent_bits - 1)) : value_of(high, exponent_bits, mantissa_bits);
  if (x - below < above - x) return sign | low;
  if (x - below > above - x) return sign | high;
  return sign | ((low & 1) == 0 ? low : high);
}

template <class Format>
void all_values(int exponent_bits, int mantissa_bits) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto e = static_cast<std::uint16_t>(bits);
    const double expected = value_of(bits, exponent_bits, mantissa_bits);
    const float loaded = Format::load(e);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(loaded)) << bits;
      ASSERT_TRUE(std::isnan(Format::load(Format::store(loaded)))) << bits;
      ASSERT_EQ(std::signbit(loaded), (bits >> 15) != 0) << bits;
      continue;
    }
    ASSERT_EQ(static_cast<double>(loaded), expected) << bits;
    ASSERT_EQ(std::signbit(loaded), (bits >> 15) != 0) << bits;
    ASSERT_EQ(Format::store(loaded), e) << bits;
  }
}

template <class Format>
void rounding(int exponent_bits, int mantissa_bits) {
  support::generator g(11);
  for (int i = 0; i < 200000; ++i) {
    const auto f = std::bit_cast<float>(static_cast<std::uint32_t>(g.next()));
    if (std::isnan(f)) {
      ASSERT_TRUE(std::isnan(Format::load(Format::store(f))));
      continue;
    }
    ASSERT_EQ(Format::store(f), nearest(f, exponent_bits, mantissa_bits)) << f;
  }
  for (std::uint32_t bits = 0; bits < 0x7bffu; ++bits) {  // midway between two neighbours, and a step to each side
    const auto middle = static_cast<float>(
        (value_of(bits, exponent_bits, mantissa_bits) + value_of(bits + 1, exponent_bits, mantissa_bits)) / 2);
    for (const float f : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e30f), -middle})
      ASSERT_EQ(Format::store(f), nearest(f, exponent_bits, mantissa_bits)) << f;
  }
}

TEST(format, every_half_has_its_value_and_comes_back) { all_values<f16>(5, 10); }
TEST(format, every_bfloat_has_its_value_and_comes_back) { all_values<bf16>(8, 7); }
TEST(format, half_rounds_to_nearest_even) { rounding<f16>(5, 10); }
TEST(format, bfloat_rounds_to_nearest_even) { rounding<bf16>(8, 7); }

TEST(format, half_at_its_edges) {
  EXPECT_EQ(f16::store(65504.0f), 0x7bff);
  EXPECT_EQ(f16::store(65519.996f), 0x7bff);
  EXPECT_EQ(f16::store(65520.0f), 0x7c00);  // midway to 65536, which is even: infinity
  EXPECT_EQ(f16::store(-1e30f), 0xfc00);
  EXPECT_EQ(f16::store(0x1p-24f), 0x0001);
  EXPECT_EQ(f16::store(0x1p-25f), 0x0000);    // midway to zero
  EXPECT_EQ(f16::store(0x1.8p-24f), 0x0002);  // midway between 1 and 2 units
  EXPECT_EQ(f16::store(-0.0f), 0x8000);
  EXPECT_EQ(f16::store(1.0f), 0x3c00);
}

TEST(format, bfloat_at_its_edges) {
  EXPECT_EQ(bf16::store(1.0f), 0x3f80);
  EXPECT_EQ(bf16::store(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(bf16::store(-std::numeric_limits<float>::infinity()), 0xff80);
  EXPECT_EQ(bf16::store(std::bit_cast<float>(0x7f800001u)), 0x7fc0);  // NaN whose kept bits are zero stays NaN
  EXPECT_EQ(bf16::store(std::numeric_limits<float>::denorm_min()), 0x0000);
}

/// What an i8 row makes of x.
std::vector<float> kept_by_i8(const std::vector<float>& x) {
  const int n = static_cast<int>(x.size());
  std::vector<std::byte> row(multistate::row_bytes<multistate::i8>(n));
  std::vector<float> back(x.size());
  multistate::store_row<multistate::i8>(row.data(), x.data(), n);
  multistate::load_row<multistate::i8>(back.data(), row.data(), n);
  return back;
}

TEST(format, i8_is_within_half_a_scale) {
  static_assert(multistate::row_bytes<multistate::i8>(128) == 132 &&
                multistate::row_bytes<multistate::f16>(128) == 256 && multistate::is_scaled<multistate::i8> &&
                !multistate::is_scaled<multistate::f32>);
  std::mt19937 rng(1);
  for (const float magnitude : {1e-25f, 1.0f, 1e30f})
    for (int n = 1; n < 40; ++n) {
      std::vector<float> x;
      for (int i = 0; i < n; ++i) x.push_back(std::normal_distribution<float>(0, magnitude)(rng));
      float largest = 0;
      for (const float v : x) largest = std::max(largest, std::abs(v));
      const auto back = kept_by_i8(x);
      for (std::size_t i = 0; i < x.size(); ++i) {
        EXPECT_LE(std::abs(back[i] - x[i]), largest / 127 * 0.5001f);
        if (std::abs(x[i]) == largest) {
          EXPECT_NEAR(back[i] / x[i], 1, 1e-6);
        }
      }
    }
}

TEST(format, i8_at_its_edges) {
  using floats = std::vector<float>;
  EXPECT_EQ(kept_by_i8({0, -0.0f, 0}), (floats{0, 0, 0}));
  EXPECT_EQ(kept_by_i8({1e-40f, -1e-40f}), (floats{0, 0}));
  EXPECT_EQ(kept_by_i8({127, -127, 64, 0.4f}), (floats{127, -127, 64, 0}));
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const float bad : {nan, inf, -inf})
    for (const float x : kept_by_i8({1, bad, 0})) EXPECT_TRUE(std::isnan(x));
}

TEST(format, f32_keeps_all_bits) {
  for (const std::uint32_t bits : {0u, 0x80000000u, 1u, 0x7fc12345u, 0x3f800000u})
    EXPECT_EQ(std::bit_cast<std::uint32_t>(f32::load(f32::store(std::bit_cast<float>(bits)))), bits);
}

template <class Format>
void overflow_begins_where_store_gives_infinity() {
  const float first = Format::overflow, last = std::nextafter(first, 0.0f);
  for (const float sign : {1.0f, -1.0f}) {
    EXPECT_TRUE(std::isinf(Format::load(Format::store(sign * first))));
    EXPECT_TRUE(std::isfinite(Format::load(Format::store(sign * last))));
    const std::vector<float> over{0, sign * first}, fits{0, sign * last};
    EXPECT_TRUE(overflows<Format>(over.data(), 2));
    EXPECT_FALSE(overflows<Format>(over.data(), 1));
    EXPECT_FALSE(overflows<Format>(fits.data(), 2));
  }
}

TEST(format, overflow) {
  overflow_begins_where_store_gives_infinity<f16>();
  overflow_begins_where_store_gives_infinity<bf16>();
  const float largest = std::numeric_limits<float>::max(), inf = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(overflows<f16>(&largest, 1) && overflows<bf16>(&largest, 1));
  EXPECT_FALSE(overflows<f32>(&largest, 1) || overflows<i8>(&largest, 1));
  for (const float broken : {inf, -inf, nan}) EXPECT_FALSE(overflows<f16>(&broken, 1)) << "was not finite before";
}

static_assert(f16::load(f16::store(0.5f)) == 0.5f && bf16::load(bf16::store(-2.0f)) == -2.0f,
              "usable in constant expressions");

}  // namespace
