// Compiled without -march, as a program for any CPU is.

#include <multistate/attention/dispatched.hpp>

#if defined(HWY_TARGETS) || defined(HWY_HIGHWAY_INCLUDED)
#error "dispatched.hpp brings Highway along"
#endif

#include <multistate/attention/attention.hpp>
#include <multistate/util/openmp.hpp>
#include <multistate/attention/scalar.hpp>

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace multistate;

/// Some KV heads over states of a format, and what one kernel writes for them.
template <class Format>
struct problem {
  shape dims;
  int n, queries;
  attention_options options{};
  std::vector<std::byte> k, v;
  std::vector<float> q, out, rows;  // [kv_heads][queries]...
  std::vector<position> positions;
  std::vector<extent> extents;
  std::vector<attention_task> tasks;

  problem(const shape& d, int states, int chunk, unsigned seed = 1) : dims(d), n(states), queries(chunk) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    const auto stored = [&](int width) {
      std::vector<std::byte> to(row_bytes<Format>(width) * multistate::to_size(n * dims.kv_heads));
      std::vector<float> row(multistate::to_size(width));
      for (std::size_t at = 0; at < to.size(); at += row_bytes<Format>(width)) {
        for (float& x : row) x = normal(rng);
        store_row<Format>(to.data() + at, row.data(), width);
      }
      return to;
    };
    k = stored(dims.dk);
    v = stored(dims.dv);
    for (int i = 0; i < queries * dims.heads * dims.dk; ++i) q.push_back(2 * normal(rng));
    for (int s = 0; s < n; ++s) positions.push_back(s);
    const std::size_t k_row = row_bytes<Format>(dims.dk), v_row = row_bytes<Format>(dims.dv);
    for (int h = 0; h < dims.kv_heads; ++h)
      extents.push_back({k.data() + multistate::to_size(h * n) * k_row, v.data() + multistate::to_size(h * n) * v_row,
                         k_row, v_row, n});
  }

  template <needs Want, class Attend>
  void run(const Attend& attend) {
    out.assign(multistate::to_size(queries * dims.heads * dims.dv), -1.0f);
    rows.assign(multistate::to_size(dims.kv_heads * queries * n), -1.0f);
    tasks.clear();
    for (int h = 0; h < dims.kv_heads; ++h) {
      attention_task t;
      t.kv = {{&extents[multistate::to_size(h)], 1}, positions, {}, n};
      t.q = q.data() + multistate::to_size(h * dims.group() * dims.dk);
      t.q_stride = multistate::to_size(dims.heads * dims.dk);
      t.out = out.data() + multistate::to_size(h * dims.group() * dims.dv);
      t.out_stride = multistate::to_size(dims.heads * dims.dv);
      t.row = Want == needs::nothing ? nullptr : rows.data() + multistate::to_size(h * queries * n);
      t.row_stride = multistate::to_size(n);
      t.first = n - queries;
      t.queries = queries;
      t.kv_head = h;
      tasks.push_back(t);
    }
    attend.template operator()<Want, Format>(std::span<const attention_task>(tasks));
  }
  template <needs Want, class E = serial>
  void dispatch(E* exec = nullptr) {
    std::vector<std::byte> scratch(attend_scratch_bytes(dims, n, queries, exec == nullptr ? 1 : exec->workers()),
                                   std::byte{0xff});
    run<Want>(dispatched_attention<E>{dims, options, exec, scratch});
  }
};

void expect_near(const std::vector<float>& a, const std::vector<float>& b, double tolerance, const std::string& where) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    ASSERT_NEAR(a[i], b[i], tolerance * std::fmax(1.0, std::fabs(double{b[i]}))) << where << ", element " << i;
}

template <class Format, needs Want>
void expect_the_formula() {
  const shape dims{.heads = 6, .kv_heads = 2, .dk = 40, .dv = 24};
  const std::array<float, 6> sinks{0.5f, -1, 3, 0, 1, 2};
  constexpr double tolerance = is_scaled<Format> ? 2e-4 : 2e-5;  // queries are rounded, the formula's are not
  for (const int n : {1, 7, 33, 300, 700})
    for (const int queries : {1, 5})
      for (const bool options : {false, true}) {
        if (queries > n) continue;
        problem<Format> made(dims, n, queries, static_cast<unsigned>(n)), right = made;  // over the same states
        for (auto* p : {&made, &right})
          if (options) p->options.window = 200, p->options.softcap = 20, p->options.sink_logits = sinks;
        made.template dispatch<Want>();
        right.template run<Want>(scalar_attention{dims, right.options});
        const std::string where = std::string(Format::name) + " n=" + std::to_string(n) +
                                  " queries=" + std::to_string(queries) + (options ? " options" : "");
        expect_near(made.out, right.out, tolerance, where);
        expect_near(made.rows, right.rows, tolerance, where + " rows");  // -1 where nothing is to be written
      }
}

template <class Format>
void expect_the_formula_for_all_rows() {
  expect_the_formula<Format, needs::nothing>();
  expect_the_formula<Format, needs::last_row>();
  expect_the_formula<Format, needs::row_sum>();
  expect_the_formula<Format, needs::each_row>();
}

/// Makes the CPU look as if it had these targets only; the real ones again at the end.
struct only_target {
  explicit only_target(std::int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
  ~only_target() {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
  only_target(const only_target&) = delete;
  only_target& operator=(const only_target&) = delete;
};

TEST(dispatched_attention, takes_the_best_target_of_this_cpu) {
  const std::string target(dispatched_attention_target());
  std::printf("compiled for %s, runs %s\n", std::string(attention_target()).c_str(), target.c_str());
  const std::int64_t usable = hwy::SupportedTargets() & HWY_TARGETS;
  EXPECT_EQ(target, hwy::TargetName(usable & -usable));
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) {
    EXPECT_TRUE(target == "AVX2" || target.starts_with("AVX3")) << target;
  }
#endif
}

TEST(dispatched_attention, every_target_is_the_formula) {
  std::vector<std::vector<float>> outs;
  std::vector<std::string> names;
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const only_target pretend(target);
    ASSERT_EQ(dispatched_attention_target(), hwy::TargetName(target));
    expect_the_formula_for_all_rows<f32>();
    expect_the_formula_for_all_rows<f16>();
    expect_the_formula_for_all_rows<bf16>();
    expect_the_formula_for_all_rows<i8>();
    problem<f32> p({.heads = 4, .kv_heads = 2, .dk = 64, .dv = 64}, 300, 1);
    p.dispatch<needs::nothing>();
    outs.push_back(p.out);
    names.emplace_back(hwy::TargetName(target));
  }
  // Rounding tells which one it was: another name is other code.
  for (std::size_t i = 0; i + 1 < outs.size(); ++i)
    if (names[i] == "AVX3" || names[i] == "AVX2") {
      EXPECT_NE(outs[i], outs[i + 1]) << names[i] << ' ' << names[i + 1];
    }
}

/// A caller's own: tasks backwards, on changing workers; counts its calls.
struct backwards {
  mutable int calls = 0;
  template <class F>
  void operator()(int tasks, const F& f) const noexcept {
    ++calls;
    for (int t = tasks - 1; t >= 0; --t) f(t, t % 3);
  }
  int workers() const noexcept { return 3; }
};
static_assert(executor<backwards>);
static_assert(executor<multistate::detail::any_executor>);

TEST(dispatched_attention, runs_on_the_callers_executor) {
  for (const int kv_heads : {1, 2, 9})
    for (const int queries : {1, 4}) {
      const shape dims{.heads = 3 * kv_heads, .kv_heads = kv_heads, .dk = 24, .dv = 16};
      problem<f16> p(dims, 900, queries);
      p.dispatch<needs::row_sum>();
      const auto out = p.out, rows = p.rows;
      backwards order;
      p.dispatch<needs::row_sum>(&order);
      EXPECT_EQ(order.calls, kv_heads < 3 && queries == 1 ? 2 : 1);  // parts of a head, then their merging
      EXPECT_EQ(p.out, out);
      EXPECT_EQ(p.rows, rows);
#if defined(_OPENMP)
      for (const int threads : {1, 2, 5}) {
        openmp pool{threads};
        p.dispatch<needs::row_sum>(&pool);
        EXPECT_EQ(p.out, out);
        EXPECT_EQ(p.rows, rows);
      }
#endif
    }
}

static_assert(noexcept(std::declval<const dispatched_attention<>&>().operator()<needs::last_row, i8>({})));

}  // namespace
