#include <multistate/recurrent/aaren.hpp>
#include <multistate/scan/sequence.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <support/allocations.hpp>
#include <support/random.hpp>
#include <support/thread_pool.hpp>

namespace {

using namespace multistate;
constexpr std::size_t dv = 3;

/// States with logits of +-1e4, minus infinity and +-3e38 among ordinary ones.
struct states {
  std::vector<double> logits, values;

  states(support::generator& g, int count, bool huge) {
    const double infinity = std::numeric_limits<double>::infinity();
    const int kind = g.between(0, 3);
    for (int i = 0; i < count; ++i) {
      const double x = g.normal() * 3;
      logits.push_back(g.chance(20)               ? -infinity
                       : kind == 1                ? 1e4 + x
                       : kind == 2                ? -1e4 + x
                       : kind == 3 && g.chance(5) ? (huge ? 3e38 : 1e4)
                       : kind == 3 && g.chance(5) ? (huge ? -3e38 : -1e4)
                                                  : x);
      for (std::size_t j = 0; j < dv; ++j) values.push_back(g.normal());
    }
  }
  /// By the formula of a softmax over states [first, last).
  std::vector<double> output(std::size_t first, std::size_t last) const {
    double max = -std::numeric_limits<double>::infinity(), sum = 0;
    for (std::size_t i = first; i < last; ++i) max = std::max(max, logits[i]);
    std::vector<double> out(dv);
    if (std::isinf(max)) return out;
    for (std::size_t i = first; i < last; ++i) sum += std::exp(logits[i] - max);
    for (std::size_t i = first; i < last; ++i)
      for (std::size_t j = 0; j < dv; ++j) out[j] += std::exp(logits[i] - max) / sum * values[i * dv + j];
    return out;
  }
};

void expect_near(std::span<const double> got, const std::vector<double>& want, const std::string& of) {
  for (std::size_t j = 0; j < want.size(); ++j) ASSERT_NEAR(got[j], want[j], 1e-10) << of;
}

TEST(scan, prefixes_by_a_loop_and_by_threads_are_softmaxes) {
  for (int round = 0; round < support::rounds(30); ++round) {
    const support::round_seed seed{support::base_seed(), round};
    auto g = seed.make(4);
    const int count = g.one_of(std::vector<int>{0, 1, 2, 255, 256, 257, 700, 1024});
    const states s(g, count, true);
    const std::size_t n = s.logits.size();
    std::vector<double> memory(dv), each(n * dv), last(dv);
    scan_element<double> e{.value = memory};
    scan_clear(e);
    scan_each<double>(s.logits, s.values, e, each);
    scan_normalise<double>(e, last);
    expect_near(last, s.output(0, n), seed.text());

    const auto prefixes = [&](auto& exec) {
      std::vector<double> max = s.logits, sum(n), value = s.values, out(n * dv);
      for (std::size_t i = 0; i < n; ++i) {
        sum[i] = std::isinf(max[i]) ? 0 : 1;
        for (std::size_t j = 0; j < dv; ++j) value[i * dv + j] *= sum[i];
      }
      const scan_elements<double> elements{max, sum, value};
      scan_prefix(elements, exec);
      for (std::size_t i = 0; i < n; ++i) scan_normalise<double>(elements.get(i), std::span(out).subspan(i * dv, dv));
      out.insert(out.end(), max.begin(), max.end());
      return out;
    };
    serial one;
    support::thread_pool three(3);
    const auto by_one = prefixes(one);
    EXPECT_EQ(by_one, prefixes(three)) << seed.text();
    for (std::size_t i = 0; i < n; i += 1 + n / 50) {
      const auto want = s.output(0, i + 1);
      expect_near(std::span(each).subspan(i * dv, dv), want, seed.text());
      expect_near(std::span(by_one).subspan(i * dv, dv), want, seed.text());
    }
  }
}

TEST(scan, pieces_merge_in_any_order_and_grouping) {
  for (int round = 0; round < support::rounds(200); ++round) {
    const support::round_seed seed{support::base_seed(), round};
    auto g = seed.make(5);
    const states s(g, g.between(0, 60), true);
    const std::size_t n = s.logits.size();
    std::vector<std::vector<double>> memory;
    std::vector<scan_element<double>> pieces;
    for (std::size_t at = 0; at < n || pieces.empty();) {
      const std::size_t end = std::min(n, at + static_cast<std::size_t>(g.between(0, 9)));  // 0: a piece without states
      memory.emplace_back(dv);
      pieces.push_back({.value = memory.back()});
      scan_clear(pieces.back());
      scan_last<double>(std::span(s.logits).subspan(at, end - at),
                        std::span(s.values).subspan(at * dv, (end - at) * dv), pieces.back());
      at = end;
    }
    while (pieces.size() > 1) {  // any two, until one is left
      const auto from = static_cast<std::size_t>(g.between(1, static_cast<int>(pieces.size()) - 1));
      std::swap(pieces[from], pieces.back());
      scan_merge<double>(pieces[static_cast<std::size_t>(g.between(0, static_cast<int>(pieces.size()) - 2))],
                         pieces.back());
      pieces.pop_back();
    }
    std::vector<double> out(dv);
    scan_normalise<double>(pieces[0], out);
    expect_near(out, s.output(0, n), seed.text());
  }
}

TEST(aaren, is_attention_with_one_query_in_constant_memory) {
  support::generator g(11);
  const shape dims{4, 2, 5, 3};
  const auto normals = [&](int n) {
    std::vector<float> x;
    for (int i = 0; i < n; ++i) x.push_back(static_cast<float>(3 * g.normal()));
    return x;
  };
  const auto q = normals(20), k = normals(50 * 10), v = normals(50 * 6);
  auto a = aaren::make(dims, q).value();
  std::vector<float> out(12);
  const std::size_t before = support::allocations(), bytes = a.bytes();
  for (std::size_t t = 0; t < 50; ++t) {
    a.step(k.data() + t * 10, v.data() + t * 6, out.data());
    if (support::allocations() != before) break;
  }
  EXPECT_EQ(support::allocations(), before);
  EXPECT_EQ(a.bytes(), bytes);
  for (std::size_t h = 0; h < 4; ++h) {
    double sum = 0, want[3] = {};
    for (std::size_t t = 0; t < 50; ++t) {
      double logit = 0;
      for (std::size_t i = 0; i < 5; ++i) logit += double(q[h * 5 + i]) * double(k[t * 10 + h / 2 * 5 + i]);
      const double w = std::exp(logit / std::sqrt(5.0));
      sum += w;
      for (std::size_t j = 0; j < 3; ++j) want[j] += w * double(v[t * 6 + h / 2 * 3 + j]);
    }
    for (std::size_t j = 0; j < 3; ++j) EXPECT_NEAR(out[h * 3 + j], want[j] / sum, 1e-6);
  }
  EXPECT_EQ(aaren::make(dims, std::vector<float>(3)).reason().message(),
            "aaren: needs 20 numbers as queries [4][5]; got 3");
}

TEST(aaren, a_million_tokens) {
  const float q = 1;
  auto a = aaren::make({1, 1, 1, 1}, {&q, 1}).value();
  support::generator g(12);
  long double sum = 0, value = 0;
  float out = 0;
  for (int t = 0; t < 1'000'000; ++t) {
    const float k = static_cast<float>(g.normal()), v = static_cast<float>(g.uniform());
    a.step(&k, &v, &out);
    sum += std::exp(static_cast<long double>(k));
    value += std::exp(static_cast<long double>(k)) * static_cast<long double>(v);
  }
  EXPECT_NEAR(a.state(0).value[0] / a.state(0).sum, double(value / sum), 1e-12);
}

}  // namespace
