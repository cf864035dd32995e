#include <multistate/recurrent/delta.hpp>
#include <multistate/recurrent/delta_product.hpp>
#include <multistate/recurrent/gated_delta.hpp>
#include <multistate/recurrent/matrix-inl.hpp>
#include <multistate/recurrent/matrix_memory.hpp>
#include <multistate/recurrent/sum.hpp>
#include <multistate/recurrent/titans.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include <support/allocations.hpp>
#include <support/random.hpp>
#include <support/replace_new.hpp>
#include <support/thread_pool.hpp>

namespace {

using namespace multistate;
using fast_matrix = HWY_NAMESPACE::simd_matrix;

std::vector<float> normals(support::generator& g, std::size_t count, double scale = 1) {
  std::vector<float> x(count);
  for (float& e : x) e = static_cast<float>(scale * g.normal());
  return x;
}

/// Tokens with keys of unit length, gates between 0 and 1, some of which are exactly 0 or 1.
template <class Rule>
struct sequence {
  Rule rule;
  int heads, dk, dv, count;
  std::vector<float> q, k, v, out;
  std::vector<typename Rule::gates> gates;

  sequence(support::generator& g, const Rule& r, int h, int keys, int values, int tokens)
      : rule(r), heads(h), dk(keys), dv(values), count(tokens) {
    const std::size_t writes = to_size(tokens) * to_size(r.steps) * to_size(h);
    q = normals(g, to_size(tokens * h * dk));
    k = normals(g, writes * to_size(dk));
    v = normals(g, writes * to_size(dv));
    out.assign(to_size(tokens * h * dv), -1.0f);
    for (std::size_t i = 0; i < writes; ++i) {
      double sum = 0;
      for (std::size_t j = 0; j < to_size(dk); ++j)
        sum += double(k[i * to_size(dk) + j]) * double(k[i * to_size(dk) + j]);
      for (std::size_t j = 0; j < to_size(dk); ++j) k[i * to_size(dk) + j] /= static_cast<float>(std::sqrt(sum));
    }
    gates.resize(writes);
    const auto share = [&] { return g.chance(10) ? 0.0f : g.chance(10) ? 1.0f : static_cast<float>(g.uniform()); };
    for (auto& x : gates) {
      if constexpr (requires { x.beta; }) x.beta = share();
      if constexpr (requires { x.theta; }) x.theta = 0.4f * share(), x.eta = 0.5f * share();
      if constexpr (requires { x.alpha; }) x.alpha = share();
    }
  }
  memory_tokens<Rule> tokens(int first, int c, float* to) const {
    const std::size_t f = to_size(first), h = to_size(heads), s = to_size(rule.steps);
    return {.q = q.data() + f * h * to_size(dk),
            .k = k.data() + f * s * h * to_size(dk),
            .v = v.data() + f * s * h * to_size(dv),
            .gates = gates.data() + f * s * h,
            .out = to + f * h * to_size(dv),
            .c = c};
  }
  matrix_memory_shape shape(int chunk = 1, int workers = 1) const {
    return {.heads = heads, .dk = dk, .dv = dv, .chunk = chunk, .workers = workers};
  }
};

/// The memory by the papers' equations, one head, in long double and nested vectors; knows nothing of the library but
/// f.
struct formula {
  using real = long double;
  std::vector<std::vector<real>> m, s;
  std::vector<real> z;
  formula(int dk, int dv) : m(to_size(dk), std::vector<real>(to_size(dv))), s(m), z(to_size(dk)) {}

  template <class Feature>
  static std::vector<real> features(const float* x, std::size_t n) {
    std::vector<real> f;
    for (std::size_t i = 0; i < n; ++i) f.push_back(real(Feature::of(double(x[i]))));
    return f;
  }
  std::vector<real> read(const std::vector<real>& x, bool normalised) const {
    std::vector<real> y(m[0].size());
    real by = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      by += x[i] * z[i];
      for (std::size_t j = 0; j < y.size(); ++j) y[j] += m[i][j] * x[i];
    }
    if (normalised)
      for (real& e : y) e = by > 0 ? e / by : 0;
    return y;
  }
  void add(const std::vector<real>& x, const std::vector<real>& u) {
    for (std::size_t i = 0; i < x.size(); ++i)
      for (std::size_t j = 0; j < u.size(); ++j) m[i][j] += x[i] * u[j];
  }
  void decay(real by) {
    for (auto& line : m)
      for (real& e : line) e *= by;
  }
  void delta(const std::vector<real>& x, const float* v, real beta, bool normalised) {
    std::vector<real> u = read(x, normalised);
    for (std::size_t j = 0; j < u.size(); ++j) u[j] = beta * (real(v[j]) - u[j]);
    add(x, u);
  }

  template <class F, bool N>
  void write(const sum_rule<F, N>&, const auto&, int, const std::vector<real>& x, const float* v) {
    add(x, {v, v + m[0].size()});
  }
  template <class F, bool N>
  void write(const delta_rule<F, N>&, const auto& g, int, const std::vector<real>& x, const float* v) {
    delta(x, v, real(g.beta), N);
  }
  void write(const gated_delta_rule&, const auto& g, int, const std::vector<real>& x, const float* v) {
    decay(real(g.alpha));
    delta(x, v, real(g.beta), false);
  }
  void write(const delta_product_rule&, const auto& g, int step, const std::vector<real>& x, const float* v) {
    if (step == 0) decay(real(g.alpha));
    delta(x, v, real(g.beta), false);
  }
  void write(const titans_rule& r, const auto& g, int, const std::vector<real>& x, const float* v) {
    const std::vector<real> y = read(x, false);
    for (std::size_t i = 0; i < x.size(); ++i)
      for (std::size_t j = 0; j < y.size(); ++j) {
        s[i][j] = real(g.eta) * s[i][j] - real(g.theta) * real(r.factor) * x[i] * (y[j] - real(v[j]));
        m[i][j] = (1 - real(g.alpha)) * m[i][j] + s[i][j];
      }
  }
};

template <class Rule>
std::vector<float> by_formula(const sequence<Rule>& s) {
  std::vector<float> out(s.out.size());
  const std::size_t heads = to_size(s.heads), dk = to_size(s.dk), dv = to_size(s.dv), steps = to_size(s.rule.steps);
  for (std::size_t h = 0; h < heads; ++h) {
    formula f(s.dk, s.dv);
    for (std::size_t t = 0; t < to_size(s.count); ++t) {
      for (std::size_t j = 0; j < steps; ++j) {
        const std::size_t w = (t * steps + j) * heads + h;
        const auto x = formula::features<typename Rule::feature>(s.k.data() + w * dk, dk);
        f.write(s.rule, s.gates[w], static_cast<int>(j), x, s.v.data() + w * dv);
        for (std::size_t i = 0; i < dk; ++i) f.z[i] += x[i];
      }
      const auto y =
          f.read(formula::features<typename Rule::feature>(s.q.data() + (t * heads + h) * dk, dk), Rule::normalised);
      for (std::size_t j = 0; j < dv; ++j) out[(t * heads + h) * dv + j] = static_cast<float>(y[j]);
    }
  }
  return out;
}

void expect_near(const std::vector<float>& got, const std::vector<float>& want, double tolerance,
                 const std::string& of) {
  double largest = 1, off = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    largest = std::max(largest, std::abs(double(want[i])));
    off = std::max(off, std::isfinite(got[i]) ? std::abs(double(got[i]) - double(want[i])) : HUGE_VAL);
  }
  EXPECT_LE(off, tolerance * largest) << of;
}

template <class Operations, class Rule>
std::vector<float> token_by_token(const sequence<Rule>& s) {
  auto m = matrix_memory<Rule, Operations>::make(s.shape(), s.rule).value();
  std::vector<float> out = s.out;
  m.step(s.tokens(0, s.count, out.data()));
  return out;
}

/// In chunks of any length, 1 included.
template <class Operations, class Rule>
std::vector<float> by_chunks(support::generator& g, const sequence<Rule>& s) {
  const int most = g.between(1, 20);
  auto m = matrix_memory<Rule, Operations>::make(s.shape(most), s.rule).value();
  std::vector<float> out = s.out;
  for (int t = 0; t < s.count;) {
    const int c = std::min(s.count - t, g.between(1, most));
    m.chunk(s.tokens(t, c, out.data()));
    t += c;
  }
  return out;
}

template <class Rule>
Rule any_rule(support::generator& g) {
  Rule r;
  if constexpr (requires { r.factor; }) r.factor = g.between(1, 2);
  if constexpr (std::is_same_v<Rule, delta_product_rule>) r.steps = g.between(1, 4);
  return r;
}

template <class Rule>
class matrix_memories : public testing::Test {};
using rules = testing::Types<sum_rule<>, sum_rule<elu_feature, true>, delta_rule<>, delta_rule<elu_feature, true>,
                             gated_delta_rule, delta_product_rule, titans_rule>;
TYPED_TEST_SUITE(matrix_memories, rules);

TYPED_TEST(matrix_memories, every_form_follows_the_equation) {
  for (int round = 0; round < support::rounds(30); ++round) {
    const support::round_seed seed{support::base_seed(), round};
    auto g = seed.make(1);
    const int wide = g.chance(30) ? 8 : 1;
    const sequence<TypeParam> s(g, any_rule<TypeParam>(g), g.between(1, 3), g.between(1, 9), wide * g.between(1, 9),
                                g.between(1, 50));
    const auto want = by_formula(s);
    expect_near(token_by_token<plain_matrix>(s), want, 1e-6, seed.text() + ", plain");
    expect_near(token_by_token<fast_matrix>(s), want, 1e-6, seed.text() + ", simd");
    if constexpr (!TypeParam::momentum) {
      expect_near(by_chunks<plain_matrix>(g, s), want, 1e-6, seed.text() + ", plain chunks");
      expect_near(by_chunks<fast_matrix>(g, s), want, 1e-6, seed.text() + ", simd chunks");
    }
  }
}

TYPED_TEST(matrix_memories, forks_saves_and_threads_give_the_same_bits) {
  support::generator g(5);
  const sequence<TypeParam> s(g, {}, 3, 5, 12, 30);
  using memory = matrix_memory<TypeParam, fast_matrix>;
  auto whole = memory::make(s.shape(8, 2), s.rule).value();
  std::vector<float> want = s.out, got = s.out;
  whole.step(s.tokens(0, 30, want.data()));

  auto first = memory::make(s.shape(8, 2), s.rule).value(), fork = memory::make(s.shape(1), s.rule).value();
  support::thread_pool threads(2);
  first.step(s.tokens(0, 11, got.data()), threads);
  ASSERT_TRUE(fork.copy_from(first));
  std::vector<std::byte> bytes(first.save_bytes());
  first.save(bytes);
  first.clear();
  ASSERT_FALSE(first.load(bytes));
  first.step(s.tokens(11, 19, got.data()), threads);
  EXPECT_EQ(got, want);
  fork.step(s.tokens(11, 19, got.data()));
  EXPECT_EQ(got, want);
  EXPECT_EQ(std::vector(fork.numbers().begin(), fork.numbers().end()),
            std::vector(whole.numbers().begin(), whole.numbers().end()));

  for (std::size_t cut = 0; cut < bytes.size(); cut += 7) EXPECT_TRUE(fork.load(std::span(bytes).first(cut)));
  auto other = memory::make({.heads = 2, .dk = 5, .dv = 12}, s.rule).value();
  EXPECT_TRUE(other.load(bytes));
  EXPECT_FALSE(other.copy_from(fork));
}

TEST(matrix_memory, make_refuses_what_makes_no_sense) {
  const auto message = [](const matrix_memory_shape& s) {
    return std::string(matrix_memory<sum_rule<>>::make(s).reason().message());
  };
  EXPECT_EQ(message({.heads = 0, .dk = 4, .dv = 4}),
            "matrix_memory: heads, dk, dv, chunk, workers and steps must be 1 to 268435456; got heads=0, dk=4, dv=4, "
            "chunk=1, "
            "workers=1, steps=1");
  EXPECT_EQ(matrix_memory<sum_rule<>>::make({.heads = 1 << 28, .dk = 1 << 28, .dv = 1 << 28}).code(),
            errc::out_of_memory);
  EXPECT_EQ(matrix_memory<delta_product_rule>::make({}, {.steps = 0}).code(), errc::bad_shape);
}

// ---- what is equal to what

TEST(matrix_memory, orthogonal_unit_keys_are_retrieved_exactly) {
  constexpr std::size_t d = 8;
  auto m = matrix_memory<delta_rule<>, fast_matrix>::make({.heads = 1, .dk = d, .dv = d}).value();
  support::generator g(3);
  const std::vector<float> values = normals(g, d * d);
  std::vector<float> keys(d * d), out(d);
  for (std::size_t i = 0; i < d; ++i) keys[i * d + (i * 3) % d] = i % 2 == 0 ? 1.0f : -1.0f;
  m.step({.k = keys.data(), .v = values.data(), .c = d});
  for (std::size_t i = 0; i < d; ++i) {
    m.read(0, keys.data() + i * d, out.data());
    EXPECT_EQ(out, std::vector<float>(values.begin() + long(i * d), values.begin() + long((i + 1) * d)));
  }
  const std::vector before(m.numbers().begin(), m.numbers().end());
  m.step({.k = keys.data() + d, .v = values.data() + d, .c = 1});  // stored again: nothing changes
  EXPECT_EQ(std::vector(m.numbers().begin(), m.numbers().end()), before);
}

TEST(matrix_memory, the_normaliser_doubles_when_a_pair_is_stored_twice) {
  auto m = matrix_memory<delta_rule<elu_feature, true>>::make({.heads = 1, .dk = 2, .dv = 1}).value();
  const float key[] = {0.5f, -1.0f}, value[] = {3.0f};
  m.step({.k = key, .v = value});
  const std::vector once(m.normaliser(0).begin(), m.normaliser(0).end());
  float out = 0;
  m.read(0, key, &out);
  EXPECT_NEAR(out, 3.0f, 1e-6);
  m.step({.k = key, .v = value});
  for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(m.normaliser(0)[i], 2 * once[i]);
}

TEST(matrix_memory, a_segment_is_a_rule_of_its_own_where_the_memory_is_asked) {
  support::generator g(4);
  const sequence<delta_rule<>> delta(g, {}, 1, 4, 4, 8);
  const sequence<sum_rule<>> sum(g, {}, 1, 4, 4, 8);
  const auto far = [](const auto& s) {
    auto a = matrix_memory<std::decay_t<decltype(s.rule)>>::make(s.shape(8)).value(),
         b = matrix_memory<std::decay_t<decltype(s.rule)>>::make(s.shape(8)).value();
    std::vector<float> x = s.out, y = s.out;
    a.step(s.tokens(0, 8, x.data()));
    b.segment(s.tokens(0, 8, y.data()));
    double off = 0;
    for (std::size_t i = 0; i < x.size(); ++i) off = std::max(off, std::abs(double(x[i] - y[i])));
    return off;
  };
  EXPECT_GT(far(delta), 1e-2);
  EXPECT_LT(far(sum), 1e-6);
}

TEST(matrix_memory, an_empty_memory_gives_zeros) {
  auto m = matrix_memory<sum_rule<elu_feature, true>, fast_matrix>::make({.heads = 1, .dk = 2, .dv = 2}).value();
  std::vector<float> q{1, 2}, out{7, 7};
  m.read(0, q.data(), out.data());
  EXPECT_EQ(out, (std::vector<float>{0, 0}));
  const std::vector<float> low{-1e4f, -1e4f}, v{1, 1};  // ELU + 1 of it is 0: as good as nothing
  m.step({.q = q.data(), .k = low.data(), .v = v.data(), .out = out.data()});
  EXPECT_EQ(out, (std::vector<float>{0, 0}));
  m.step({.q = low.data(), .k = q.data(), .v = v.data(), .out = out.data()});
  EXPECT_EQ(out, (std::vector<float>{0, 0}));
  m.read(0, q.data(), out.data());
  EXPECT_EQ(out, v);
  q[0] = std::numeric_limits<float>::quiet_NaN();  // what is broken is not hidden
  m.read(0, q.data(), out.data());
  EXPECT_TRUE(std::isnan(out[0]));
}

TEST(matrix_memory, a_million_tokens) {
  constexpr int d = 4, tokens = 1'000'000;
  auto m = matrix_memory<sum_rule<elu_feature, true>, fast_matrix>::make({.heads = 1, .dk = d, .dv = d, .chunk = 64})
               .value();
  auto gated = matrix_memory<gated_delta_rule, fast_matrix>::make({.heads = 1, .dk = d, .dv = d}).value();
  EXPECT_EQ(m.bytes(), d * (d + 1) * sizeof(double));
  support::generator g(6);
  constexpr int period = 4096;
  const auto keys = normals(g, period * d, 0.4), values = normals(g, period * d);
  std::vector<long double> sum(d), value(d * d);
  std::vector<float> narrow(d);  // what float would have made of it
  const gated_delta_rule::gates gates{.beta = 0.9f, .alpha = 0.999f};
  const std::size_t before = support::allocations();
  for (int t = 0; t < tokens; t += 64) {
    const std::size_t at = to_size(t % period) * d;
    m.chunk({.k = keys.data() + at, .v = values.data() + at, .c = 64});
    for (std::size_t i = at; i < at + 64 * d; i += d) {
      gated.step({.k = keys.data() + i, .v = values.data() + i, .gates = &gates});
      for (std::size_t j = 0; j < d; ++j) {
        const double f = elu_feature::of(double(keys[i + j]));
        sum[j] += static_cast<long double>(f);
        narrow[j] += static_cast<float>(f);
        for (std::size_t l = 0; l < d; ++l)
          value[j * d + l] += static_cast<long double>(f) * static_cast<long double>(values[i + l]);
      }
    }
  }
  EXPECT_EQ(support::allocations(), before);
  EXPECT_TRUE(m.finite());
  EXPECT_TRUE(gated.finite());
  EXPECT_LT(matrix_memory<gated_delta_rule>::norm(gated.values(0)), 100.0);
  double drift = 0, of_floats = 0;
  for (std::size_t j = 0; j < d; ++j) {
    drift = std::max(drift, std::abs(m.normaliser(0)[j] / double(sum[j]) - 1));
    of_floats = std::max(of_floats, std::abs(double(narrow[j]) / double(sum[j]) - 1));
    for (std::size_t l = 0; l < d; ++l)
      drift = std::max(drift, std::abs(m.values(0)[j * d + l] - double(value[j * d + l])) / double(sum[j]));
  }
  RecordProperty("drift", std::to_string(drift));
  EXPECT_LT(drift, 1e-12);
  EXPECT_GT(of_floats, 1e-6);
}

}  // namespace
