#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include <multistate/model/block-inl.hpp>
#include <multistate/model/linear-inl.hpp>
#include <multistate/util/bytes.hpp>
#include <multistate/format/element.hpp>
#include <support/random.hpp>
#include <support/threads.hpp>

namespace {

using namespace multistate;
namespace current = multistate::HWY_NAMESPACE;

std::vector<float> normals(support::generator& g, std::size_t n) {
  std::vector<float> x(n);
  for (float& v : x) v = static_cast<float>(g.normal());
  return x;
}

current::product product_of(const std::vector<float>& w, const float* x, float* y, std::size_t out, std::size_t in,
                            std::size_t columns) {
  current::product p;
  p.weights = {reinterpret_cast<const std::byte*>(w.data()), weight_format::f32};
  p.x = x;
  p.y = y;
  p.out = out;
  p.in = in;
  p.columns = columns;
  return p;
}

TEST(linear, equals_the_sum_at_any_size) {
  support::generator g(3);
  serial exec;
  for (const std::size_t in : {1u, 3u, 15u, 16u, 17u, 31u, 64u, 172u, 1024u, 1025u, 2500u})
    for (const std::size_t out : {1u, 3u, 4u, 5u, 9u, 66u})
      for (const std::size_t columns : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 13u}) {
        const auto w = normals(g, out * in), x = normals(g, columns * in);
        std::vector<float> y(columns * out + 1, 7.0f);
        auto p = product_of(w, x.data(), y.data(), out, in, columns);
        current::linear(exec, p);
        const std::vector<float> once = y;
        p.add = true;
        current::linear(exec, p);
        ASSERT_EQ(y.back(), 7.0f);
        for (std::size_t b = 0; b < columns; ++b)
          for (std::size_t o = 0; o < out; ++o) {
            double sum = 0, size = 0;
            for (std::size_t i = 0; i < in; ++i) {
              const double term = double{w[o * in + i]} * double{x[b * in + i]};
              sum += term;
              size += std::abs(term);
            }
            ASSERT_NEAR(once[b * out + o], sum, 1e-6 * size + 1e-7) << in << " " << out << " " << columns;
            ASSERT_NEAR(y[b * out + o], 2 * sum, 3e-6 * size + 1e-7);
          }
      }
}

/// The matrix [out][in] in a format, and what is then in it.
template <class F>
std::vector<std::byte> pack(const std::vector<float>& w, std::size_t in, std::vector<double>& kept) {
  const int n = static_cast<int>(in);
  const std::size_t rows = w.size() / in;
  std::vector<std::byte> packed(rows * row_bytes<F>(n));
  kept.clear();
  for (std::size_t r = 0; r < rows; ++r) {
    std::byte* row = packed.data() + r * row_bytes<F>(n);
    store_row<F>(row, w.data() + r * in, n);
    for (std::size_t i = 0; i < in; ++i)
      kept.push_back(
          double{F::load(load_at<typename F::element>(packed, r * row_bytes<F>(n) + i * sizeof(typename F::element)))} *
          double{row_scale<F>(row, in)});
  }
  return packed;
}

template <class F>
void compare_format(weight_format format) {
  support::generator g(8);
  serial exec;
  for (const std::size_t in : {1u, 15u, 17u, 64u, 173u, 1025u, 2500u})
    for (const std::size_t out : {1u, 4u, 9u})
      for (const std::size_t columns : {1u, 2u, 5u, 13u}) {
        const auto w = normals(g, out * in), x = normals(g, columns * in);
        std::vector<double> kept;
        const auto packed = pack<F>(w, in, kept);
        std::vector<float> y(columns * out), alone(out);
        auto p = product_of(w, x.data(), y.data(), out, in, columns);
        p.weights = {packed.data(), format};
        current::linear(exec, p);
        for (std::size_t b = 0; b < columns; ++b) {
          for (std::size_t o = 0; o < out; ++o) {
            double sum = 0, size = 0;
            for (std::size_t i = 0; i < in; ++i) {
              const double term = kept[o * in + i] * double{x[b * in + i]};
              sum += term;
              size += std::abs(term);
            }
            ASSERT_NEAR(y[b * out + o], sum, 1e-6 * size + 1e-7)
                << F::name << " " << in << " " << out << " " << columns;
          }
          auto one = product_of(w, x.data() + b * in, alone.data(), out, in, 1);
          one.weights = p.weights;
          current::linear(exec, one);
          for (std::size_t o = 0; o < out; ++o) ASSERT_EQ(alone[o], y[b * out + o]);
        }
      }
}

TEST(linear, equals_the_sum_in_any_format) {
  compare_format<f32>(weight_format::f32);
  compare_format<f16>(weight_format::f16);
  compare_format<bf16>(weight_format::bf16);
  compare_format<i8>(weight_format::i8);
}

/// Random blocks whose scales are half-precision numbers below 2: any other bytes are allowed.
template <block_format F>
std::vector<std::byte> random_blocks(support::generator& g, std::size_t count) {
  std::vector<std::byte> bytes(count * F::bytes);
  for (std::byte& b : bytes) b = static_cast<std::byte>(g.next() & 255u);
  const auto scale = [&g, &bytes](std::size_t at) { bytes[at + 1] = static_cast<std::byte>(g.next() & 0xbfu); };
  for (std::size_t at = 0; at < bytes.size(); at += F::bytes) {
    if constexpr (std::is_same_v<F, mxfp4>)
      bytes[at] = static_cast<std::byte>(g.between(120, 129));
    else if constexpr (std::is_same_v<F, q6_k>)
      scale(at + 208);
    else
      scale(at), scale(at + 2);  // the second is the minimum where there is one, and any bytes elsewhere
  }
  return bytes;
}

template <block_format F>
void compare_blocks(weight_format format) {
  support::generator g(9);
  serial exec;
  for (const std::size_t in : {std::size_t{256}, std::size_t{768}, 1024 + F::elements, 2 * 1024 + 3 * F::elements})
    for (const std::size_t out : {1u, 9u, 35u})
      for (const std::size_t columns : {1u, 5u, 13u}) {
        const auto w = random_blocks<F>(g, out * in / F::elements);
        const auto x = normals(g, columns * in);
        std::vector<float> floats(out * in);
        for (std::size_t o = 0; o < out; ++o)
          load_row(format, &floats[o * in], w.data() + o * row_bytes(format, in), in);
        std::vector<float> y(columns * out, 1.0f), expected = y;
        auto p = product_of(floats, x.data(), expected.data(), out, in, columns);
        p.add = true;
        current::linear(exec, p);
        p.weights = {w.data(), format};
        p.y = y.data();
        current::linear(exec, p);
        for (std::size_t i = 0; i < y.size(); ++i)
          ASSERT_EQ(y[i], expected[i]) << F::name << " " << in << " " << out << " " << columns << " " << i;
      }
}

TEST(linear, of_blocks_is_that_of_their_floats) {
  for (const weight_format format : weight_formats)
    with_format(format, [format]<class F>(F) {
      if constexpr (block_format<F>) compare_blocks<F>(format);
    });
}

/// Fast beside exact: an activation is off by at most half of its part's scale, a 65534th of the largest there.
template <block_format F>
void compare_fast(weight_format format) {
  support::generator g(11);
  support::threads many{3};
  for (const std::size_t in : {std::size_t{256}, 512 + F::elements, 4096 + 1024 + 2 * F::elements})
    for (const std::size_t out : {1u, 4u, 19u})
      for (const std::size_t columns : {1u, 2u, 7u, 17u}) {
        const auto w = random_blocks<F>(g, out * in / F::elements);
        const auto x = normals(g, columns * in);
        current::rounded_input rounded;
        ASSERT_TRUE(rounded.allocate(columns, in));
        std::vector<float> y(columns * out, 1.0f), expected = y, alone(out);
        auto p = product_of({}, x.data(), expected.data(), out, in, columns);
        p.weights = {w.data(), format};
        p.add = true;
        current::linear(many, p);
        p.y = y.data();
        p.rounded = &rounded;
        current::linear(many, p);
        std::vector<float> row(in);
        for (std::size_t o = 0; o < out; ++o) {
          load_row(format, row.data(), w.data() + o * row_bytes(format, in), in);
          for (std::size_t c = 0; c < columns; ++c) {
            double bound = 1e-6, size = 0;
            for (std::size_t i = 0; i < in; i += 256) {
              double largest = 0, weights = 0;
              for (std::size_t j = i; j < std::min(in, i + 256); ++j) {
                largest = std::max(largest, std::abs(double{x[c * in + j]}));
                weights += std::abs(double{row[j]});
                size += std::abs(double{row[j]} * double{x[c * in + j]});
              }
              bound += largest / 65534 * weights;
            }
            // Numbers and minimum of a part are multiplied apart, and may be far larger than what they amount to.
            ASSERT_NEAR(y[c * out + o], expected[c * out + o], bound + 2e-5 * size)
                << F::name << " " << in << " " << out << " " << columns;
          }
        }
        p.add = false;
        current::linear(many, p);
        for (std::size_t c = 0; c < columns; ++c) {
          auto one = product_of({}, x.data() + c * in, alone.data(), out, in, 1);
          one.weights = p.weights;
          one.rounded = &rounded;
          serial exec;
          current::linear(exec, one);
          for (std::size_t o = 0; o < out; ++o) ASSERT_EQ(alone[o], y[c * out + o]) << F::name;
        }
      }
}

TEST(linear, fast_is_near_exact_and_the_same_bits_alone) {
  for (const weight_format format : weight_formats)
    with_format(format, [format]<class F>(F) {
      if constexpr (block_format<F>) compare_fast<F>(format);
    });
}

TEST(linear, fast_keeps_what_is_not_finite_in_its_column) {
  support::generator g(12);
  serial exec;
  const auto w = random_blocks<q4_1>(g, 5 * 64 / 32);
  auto x = normals(g, 3 * 64);
  x[64 + 33] = std::numeric_limits<float>::infinity();
  std::vector<float> y(3 * 5);
  current::rounded_input rounded;
  ASSERT_TRUE(rounded.allocate(3, 64));
  auto p = product_of({}, x.data(), y.data(), 5, 64, 3);
  p.weights = {w.data(), weight_format::q4_1};
  p.rounded = &rounded;
  current::linear(exec, p);
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isfinite(y[i]), i / 5 != 1);
}

TEST(linear, bits_do_not_depend_on_columns_or_workers) {
  support::generator g(4);
  serial one;
  for (const std::size_t in : {13u, 128u, 172u, 1500u}) {
    const std::size_t out = 203, columns = 23;
    const auto w = normals(g, out * in), x = normals(g, columns * in);
    std::vector<float> together(columns * out), shared(columns * out), alone(out);
    current::linear(one, product_of(w, x.data(), together.data(), out, in, columns));
    for (const int workers : {2, 3, 7}) {
      support::threads many{workers};
      std::vector<float*> rows;
      for (std::size_t b = 0; b < columns; ++b) rows.push_back(shared.data() + b * out);
      auto p = product_of(w, x.data(), nullptr, out, in, columns);
      p.rows = rows.data();
      current::linear(many, p);
      ASSERT_EQ(shared, together);
    }
    for (std::size_t b = 0; b < columns; ++b) {
      current::linear(one, product_of(w, x.data() + b * in, alone.data(), out, in, 1));
      for (std::size_t o = 0; o < out; ++o) ASSERT_EQ(alone[o], together[b * out + o]) << in << " " << b << " " << o;
    }
  }
}

TEST(linear, nan_stays_in_its_column) {
  support::generator g(5);
  serial exec;
  const auto w = normals(g, 5 * 19);
  auto x = normals(g, 7 * 19);
  x[2 * 19 + 18] = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> y(7 * 5);
  current::linear(exec, product_of(w, x.data(), y.data(), 5, 19, 7));
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i / 5 == 2);
}

TEST(block, rms_norm_equals_the_formula) {
  support::generator g(6);
  for (const std::size_t n : {1u, 7u, 16u, 48u, 171u}) {
    auto x = normals(g, n);
    const auto w = normals(g, n);
    for (const float scale : {1.0f, 1e-6f, 1e6f}) {
      for (float& v : x) v *= scale;
      std::vector<float> y(n);
      current::rms_norm(x.data(), w.data(), n, 1e-5f, y.data());
      double mean = 0;
      for (const float v : x) mean += double{v} * double{v} / static_cast<double>(n);
      for (std::size_t i = 0; i < n; ++i) {
        const double expected = double{x[i]} / std::sqrt(mean + double{1e-5f}) * double{w[i]};
        ASSERT_NEAR(y[i], expected, 1e-6 * std::max(1.0, std::abs(expected)));
      }
    }
  }
}

TEST(block, swiglu_equals_the_formula) {
  support::generator g(7);
  for (const std::size_t n : {1u, 5u, 16u, 33u, 300u}) {
    auto gate = normals(g, n);
    const auto up = normals(g, n);
    for (float& x : gate) x *= 8.0f;
    gate[0] = n == 1 ? -200.0f : 200.0f;
    const auto before = gate;
    current::swiglu(gate.data(), up.data(), n);
    for (std::size_t i = 0; i < n; ++i) {
      const double expected = double{before[i]} / (1.0 + std::exp(-double{before[i]})) * double{up[i]};
      ASSERT_NEAR(gate[i], expected, 1e-6 * std::max(1.0, std::abs(expected)));
    }
  }
  std::vector<float> bad(20, std::numeric_limits<float>::quiet_NaN());
  current::swiglu(bad.data(), normals(g, 20).data(), 20);
  for (const float x : bad) EXPECT_TRUE(std::isnan(x));
}

}  // namespace
