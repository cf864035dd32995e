#include <multistate/attention/attention.hpp>
#include <multistate/attention/scalar.hpp>
#include <multistate/recurrent/infini_attention.hpp>
#include <multistate/recurrent/matrix-inl.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include <support/allocations.hpp>
#include <support/random.hpp>

namespace {

using namespace multistate;
using fast_matrix = HWY_NAMESPACE::simd_matrix;
constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

struct recorded {
  shape dims;
  int count;
  std::vector<float> q, k, q_pre, k_pre, v, gates;

  recorded(support::generator& g, const shape& d, int tokens) : dims(d), count(tokens) {
    const auto fill = [&](std::vector<float>& x, int n) {
      for (int i = 0; i < n; ++i) x.push_back(static_cast<float>(g.normal()));
    };
    fill(q, tokens * d.heads * d.dk);
    fill(q_pre, tokens * d.heads * d.dk);
    fill(k, tokens * d.kv_heads * d.dk);
    fill(k_pre, tokens * d.kv_heads * d.dk);
    fill(v, tokens * d.kv_heads * d.dv);
    fill(gates, d.heads);
  }
  std::vector<float> outputs() const { return std::vector<float>(to_size(count * dims.heads * dims.dv), -1.0f); }
  infini_tokens tokens(int first, int c, std::vector<float>& out) const {
    const std::size_t query = to_size(first * dims.heads * dims.dk), key = to_size(first * dims.kv_heads * dims.dk);
    return {.rotated = {q.data() + query, k.data() + key},
            .unrotated = {q_pre.data() + query, k_pre.data() + key},
            .v = v.data() + first * dims.kv_heads * dims.dv,
            .out = out.data() + first * dims.heads * dims.dv,
            .c = c};
  }
};

auto by_formula(const shape& dims) {
  return [dims](std::span<const attention_task> tasks) {
    scalar_attention{dims, {}}.operator()<needs::nothing, f32>(tasks);
  };
}

struct kernel {
  shape dims;
  std::vector<std::byte> scratch;
  kernel(const shape& d, int segment) : dims(d), scratch(attend_scratch_bytes(d, segment, segment)) {}
  auto operator()() {
    return [this](std::span<const attention_task> tasks) {
      attention<serial>{dims, {}, nullptr, scratch}.operator()<needs::nothing, f32>(tasks);
    };
  }
};

/// The paper's equations, by sums over all tokens of the segments before; for the delta rule M segment by segment.
std::vector<float> expected(const recorded& r, int segment, bool delta) {
  const shape& d = r.dims;
  const std::size_t dk = to_size(d.dk), dv = to_size(d.dv), hk = to_size(d.kv_heads), hq = to_size(d.heads);
  const auto f = [](float x) { return x > 0 ? double(x) + 1 : std::exp(double(x)); };
  std::vector<float> out = r.outputs();
  for (std::size_t h = 0; h < hq; ++h) {
    const std::size_t kv = h / to_size(d.group());
    const double g = 1 / (1 + std::exp(-double(r.gates[h])));
    std::vector<double> written(to_size(r.count) * dv);  // what each key stands for in M
    for (int t = 0; t < r.count; ++t) {
      const int begin = t / segment * segment;
      const auto retrieve = [&](const float* x, std::size_t j) {
        double above = 0, below = 0;
        for (std::size_t s = 0; s < to_size(begin); ++s) {
          double w = 0;
          for (std::size_t i = 0; i < dk; ++i) w += f(x[i]) * f(r.k_pre[(s * hk + kv) * dk + i]);
          above += w * written[s * dv + j];
          below += w;
        }
        return below > 0 ? above / below : 0.0;
      };
      const std::size_t own = to_size(t);
      for (std::size_t j = 0; j < dv; ++j)
        written[own * dv + j] =
            double(r.v[(own * hk + kv) * dv + j]) - (delta ? retrieve(r.k_pre.data() + (own * hk + kv) * dk, j) : 0.0);
      std::vector<double> local(dv);
      double sum = 0;
      for (std::size_t s = to_size(begin); s <= own; ++s) {
        double logit = 0;
        for (std::size_t i = 0; i < dk; ++i)
          logit += double(r.q[(own * hq + h) * dk + i]) * double(r.k[(s * hk + kv) * dk + i]);
        const double w = std::exp(logit / std::sqrt(double(dk)));
        sum += w;
        for (std::size_t j = 0; j < dv; ++j) local[j] += w * double(r.v[(s * hk + kv) * dv + j]);
      }
      for (std::size_t j = 0; j < dv; ++j)
        out[(own * hq + h) * dv + j] =
            static_cast<float>(g * retrieve(r.q_pre.data() + (own * hq + h) * dk, j) + (1 - g) * local[j] / sum);
    }
  }
  return out;
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double off = 0;
  for (std::size_t i = 0; i < a.size(); ++i) off = std::max(off, std::abs(double(a[i]) - double(b[i])));
  return off;
}

template <class Rule>
class infini : public testing::Test {};
using rules = testing::Types<infini_sum, infini_delta>;
TYPED_TEST_SUITE(infini, rules);

TYPED_TEST(infini, follows_the_equations_in_calls_of_any_length) {
  for (int round = 0; round < support::rounds(20); ++round) {
    const support::round_seed seed{support::base_seed(), round};
    auto g = seed.make(2);
    const int kv = g.between(1, 3), segment = g.between(1, 9);
    const shape dims{kv * g.between(1, 3), kv, g.between(1, 8), g.between(1, 9)};
    const recorded r(g, dims, g.between(1, 40));
    const auto want = expected(r, segment, std::string(TypeParam::name) == "delta");
    const infini_setup setup{.dims = dims, .segment = segment, .undo = 0, .max_chunk = g.between(1, 12)};
    auto plain = infini_attention<TypeParam>::make(setup, r.gates).value();
    auto fast = infini_attention<TypeParam, fast_matrix>::make(setup, r.gates).value();
    kernel simd(dims, segment);
    auto a = r.outputs(), b = r.outputs();
    for (int t = 0; t < r.count;) {
      const int c = std::min(r.count - t, g.between(1, 20));
      plain.attend(r.tokens(t, c, a), by_formula(dims));
      fast.attend(r.tokens(t, c, b), simd());
      t += c;
    }
    EXPECT_LT(distance(a, want), 1e-5) << seed.text();
    EXPECT_LT(distance(b, want), 1e-5) << seed.text();
    EXPECT_EQ(plain.tokens(), r.count);
  }
}

TYPED_TEST(infini, a_closed_gate_gives_the_bits_of_local_attention) {
  support::generator g(7);
  const shape dims{4, 2, 8, 8};
  recorded r(g, dims, 40);
  r.gates = {minus_infinity, 0.5f, minus_infinity, minus_infinity};
  kernel simd(dims, 8);
  auto a =
      infini_attention<TypeParam, fast_matrix>::make({.dims = dims, .segment = 8, .undo = 0, .max_chunk = 8}, r.gates)
          .value();
  auto out = r.outputs(), local = r.outputs();
  infini_tokens t = r.tokens(0, 40, out);
  t.local = local.data();
  a.attend(t, simd());
  std::size_t same = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const bool open = i / 8 % 4 == 1;
    if (!open) {
      EXPECT_EQ(out[i], local[i]);
    }
    same += open && i >= out.size() / 2 && !(out[i] < local[i]) && !(out[i] > local[i]) ? 1u : 0u;
  }
  EXPECT_LT(same, 5u);
}

TYPED_TEST(infini, undo_forks_and_saves_go_on_with_the_same_bits) {
  for (int round = 0; round < support::rounds(30); ++round) {
    const support::round_seed seed{support::base_seed(), round};
    auto g = seed.make(3);
    const shape dims{4, 2, 3, 5};
    const recorded r(g, dims, 60);
    const infini_setup setup{.dims = dims, .segment = g.between(1, 9), .undo = g.between(0, 20), .max_chunk = 4};
    const auto attend = by_formula(dims);
    using type = infini_attention<TypeParam>;
    auto whole = type::make(setup, r.gates).value(), tried = type::make(setup, r.gates).value();
    auto want = r.outputs(), got = r.outputs();
    whole.attend(r.tokens(0, 60, want), attend);
    for (int t = 0; t < 60;) {
      const int c = std::min(60 - t, g.between(1, 12));
      tried.attend(r.tokens(t, c, got), attend);
      t += c;
      EXPECT_GE(tried.undoable(), std::min(setup.undo, c)) << seed.text();
      const int back = g.chance(40) ? g.between(0, tried.undoable()) : 0;
      ASSERT_TRUE(tried.undo(back));
      t -= back;
      EXPECT_EQ(tried.tokens(), t);
      if (g.chance(20)) {
        std::vector<std::byte> bytes(tried.save_bytes());
        tried.save(bytes);
        auto loaded = type::make(setup, r.gates).value();
        for (std::size_t cut = 0; cut < bytes.size(); cut += 11) EXPECT_TRUE(loaded.load(std::span(bytes).first(cut)));
        ASSERT_FALSE(loaded.load(bytes));
        EXPECT_EQ(loaded.undoable(), 0);
        tried = std::move(loaded);
      } else if (g.chance(20)) {
        auto fork = type::make(setup, r.gates).value();
        ASSERT_TRUE(fork.copy_from(tried));
        tried = std::move(fork);
      }
    }
    EXPECT_FALSE(tried.undo(tried.undoable() + 1));
    EXPECT_EQ(got, want) << seed.text();
    EXPECT_EQ(std::vector(tried.memory().numbers().begin(), tried.memory().numbers().end()),
              std::vector(whole.memory().numbers().begin(), whole.memory().numbers().end()));
  }
}

TEST(infini_memory, the_sum_of_segments_does_not_depend_on_their_length_and_the_delta_rule_does) {
  support::generator g(9);
  const shape dims{2, 1, 4, 4};
  const recorded r(g, dims, 48);
  const auto numbers = [&]<class Rule>(Rule, int segment) {
    auto a = infini_attention<Rule>::make({.dims = dims, .segment = segment}, r.gates).value();
    auto out = r.outputs();
    a.attend(r.tokens(0, 48, out), by_formula(dims));
    std::vector<float> x;
    for (const double e : a.memory().numbers()) x.push_back(static_cast<float>(e));
    return x;
  };
  EXPECT_LT(distance(numbers(infini_sum(), 8), numbers(infini_sum(), 16)), 1e-5);
  EXPECT_GT(distance(numbers(infini_delta(), 8), numbers(infini_delta(), 16)), 1e-2);
}

TEST(infini_memory, constant_in_size) {
  support::generator g(10);
  const shape dims{2, 1, 4, 4};
  const recorded r(g, dims, 64);
  auto a =
      infini_attention<infini_delta>::make({.dims = dims, .segment = 8, .undo = 8, .max_chunk = 64}, r.gates).value();
  auto out = r.outputs();
  kernel simd(dims, 8);
  const std::size_t bytes = a.bytes(), allocated = support::allocations();
  for (int i = 0; i < 200; ++i) a.attend(r.tokens(0, 64, out), simd());
  EXPECT_EQ(support::allocations(), allocated);
  EXPECT_EQ(a.bytes(), bytes);
  EXPECT_TRUE(a.memory().finite());
  EXPECT_EQ(a.memory().bytes(), 4 * (4 + 1) * sizeof(double));
}

TEST(infini_memory, make_says_what_is_wrong) {
  const auto message = [](infini_setup s, std::vector<float> gates) {
    return std::string(infini_attention<>::make(s, gates).reason().message());
  };
  EXPECT_EQ(message({.dims = {3, 2, 4, 4}, .segment = 4}, {0, 0, 0}),
            "infini_attention: needs kv_heads >= 1 dividing heads; got heads=3, kv_heads=2");
  EXPECT_EQ(message({.dims = {2, 2, 4, 4}}, {0, 0}),
            "infini_attention: segment and max_chunk must be 1 to 268435456, undo at least 0; got segment=0, "
            "max_chunk=1, undo=0");
  EXPECT_EQ(message({.dims = {2, 2, 4, 4}, .segment = 4}, {0}),
            "infini_attention: needs one gate for each of 2 query heads; got 1");
  EXPECT_EQ(message({.dims = {1, 1, 4, 4}, .segment = 4}, {std::nanf("")}),
            "infini_attention: a gate is NaN; needs a logit");
}

}  // namespace
