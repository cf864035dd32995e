#include <examples/tbb_arena.hpp>
#include <multistate/util/openmp.hpp>
#include <multistate/multistate.hpp>

#include <gtest/gtest.h>
#include <tbb/global_control.h>
#include <tbb/task_group.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <random>
#include <thread>
#include <vector>

namespace {

using namespace multistate;

/// Everything that a run lets one see.
struct seen {
  std::vector<float> out, rows;
  std::vector<std::uint32_t> dropped;
  std::vector<position> kept;
  bool operator==(const seen&) const = default;
};

/// Attention that writes down its rows.
template <class E>
struct recorder {
  attention<E> attend;
  std::vector<float>* rows;

  template <needs Want, class KeyFormat, class ValueFormat>
  void operator()(std::span<const attention_task> tasks) const noexcept {
    attend.template operator()<Want, KeyFormat, ValueFormat>(tasks);
    for (const attention_task& t : tasks) rows->insert(rows->end(), t.row, t.row + t.kv.n);
  }
};

/// Fills a memory of 600 states in chunks, then goes on token by token.
template <class P, class E>
seen run(const P& policy, int kv_heads, E* exec, int workers) {
  const shape dims{.heads = 2 * kv_heads, .kv_heads = kv_heads, .dk = 24, .dv = 16};
  constexpr int chunk = 60, chunks = 11, singles = 30;
  const limits room{.chunk = chunk};
  auto decider = multistate::decider<P>::make(policy, {.kv_heads = kv_heads}, room).value();
  auto states = multi_state<f16>::make(dims, decider.plan()).value();
  const layer_of<P, multi_state<f16>> layer{&decider, {&states, 1}};
  const int most = policy.budget + chunk;
  std::vector<std::byte> scratch(step_scratch_bytes<P>(dims, 1, most, chunk)),
      attention_scratch(attend_scratch_bytes(dims, most, chunk, workers), std::byte{0xff});
  seen s;
  const recorder<E> attend{{dims, {}, exec, attention_scratch}, &s.rows};

  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> q(multistate::to_size(chunk * dims.heads * dims.dk)),
      k(multistate::to_size(chunk * kv_heads * dims.dk)), v(multistate::to_size(chunk * kv_heads * dims.dv)),
      out(multistate::to_size(chunk * dims.heads * dims.dv));
  for (int call = 0; call < chunks + singles; ++call) {
    for (auto* x : {&q, &k, &v})
      for (float& e : *x) e = 2 * normal(random);
    const int c = call < chunks ? chunk : 1;
    const step_io io{.q = q.data(), .k = k.data(), .v = v.data(), .out = out.data(), .c = c};
    step(std::span(&layer, 1), std::span(&io, 1), dims, scratch, attend);
    s.out.insert(s.out.end(), out.begin(), out.begin() + c * dims.heads * dims.dv);
    for (const lane_decision& lane : decider.last().lanes)
      for (const slot d : lane.dropped) s.dropped.push_back(static_cast<std::uint32_t>(d));
  }
  for (int lane = 0; lane < decider.lanes(); ++lane)
    for (const position p : decider.positions(lane)) s.kept.push_back(p);
  return s;
}

template <class P>
void expect_the_same_bits(const P& policy) {
  const tbb::global_control five_threads(tbb::global_control::max_allowed_parallelism, 5);
  for (const int kv_heads : {1, 2, 12}) {  // fewer than workers: the states of one head are shared out
    const seen alone = run<P, serial>(policy, kv_heads, nullptr, 1);
    ASSERT_FALSE(alone.rows.empty());
    ASSERT_FALSE(alone.dropped.empty());
    for (const int threads : {1, 2, 5}) {
      tbb::task_arena arena(threads);
      tbb_arena pool{arena};
      ASSERT_EQ(pool.workers(), threads);
      EXPECT_TRUE(run(policy, kv_heads, &pool, threads) == alone) << kv_heads << " heads, TBB, " << threads;
#if defined(_OPENMP)
      openmp team{threads};
      EXPECT_TRUE(run(policy, kv_heads, &team, threads) == alone) << kv_heads << " heads, OpenMP, " << threads;
#endif
    }
  }
}

TEST(tbb_arena, tova_has_the_bits_of_serial) { expect_the_same_bits(tova{.budget = 600}); }
TEST(tbb_arena, h2o_has_the_bits_of_serial) { expect_the_same_bits(h2o{.budget = 600}); }

/// Every task once, and no worker twice at a time, though the tasks wait for tasks of their own.
TEST(tbb_arena, no_worker_twice_at_a_time) {
  const tbb::global_control five_threads(tbb::global_control::max_allowed_parallelism, 5);
  for (const int threads : {1, 2, 5}) {
    tbb::task_arena arena(threads);
    tbb_arena pool{arena};
    std::array<std::atomic<int>, 200> times{};
    std::array<std::atomic<int>, 5> inside{};
    std::atomic<int> twice = 0, strangers = 0, inner = 0;
    pool(200, [&](int task, int worker) noexcept {
      ++times[multistate::to_size(task)];
      if (worker < 0 || worker >= threads) return void(++strangers);
      if (inside[multistate::to_size(worker)]++ != 0) ++twice;
      tbb::parallel_for(0, 8, [&](int) {
        ++inner;
        std::this_thread::sleep_for(std::chrono::microseconds(20));
      });
      --inside[multistate::to_size(worker)];
    });
    for (const auto& count : times) EXPECT_EQ(count, 1);
    EXPECT_EQ(twice, 0) << threads;
    EXPECT_EQ(strangers, 0) << threads;
    EXPECT_EQ(inner, 200 * 8);
    pool(0, [&](int, int) noexcept { ++strangers; });
    EXPECT_EQ(strangers, 0);
  }
}

/// The caller's thread, which waits for the last task, does not begin other work of the arena in the middle of the
/// call.
TEST(tbb_arena, the_caller_does_nothing_else_meanwhile) {
  using clock = std::chrono::steady_clock;
  const tbb::global_control two_threads(tbb::global_control::max_allowed_parallelism, 2);
  tbb::task_arena arena(2);
  tbb_arena pool{arena};
  tbb::task_group others;
  std::atomic<int> begun = 0, interrupted = 0;
  std::atomic<bool> calling = true;
  arena.execute([&] {
    const auto caller = std::this_thread::get_id();
    pool(2, [&](int, int) noexcept {
      ++begun;
      const auto start = clock::now();
      while (begun < 2 && clock::now() - start < std::chrono::seconds(20)) std::this_thread::yield();
      if (std::this_thread::get_id() == caller)
        others.run([&] { interrupted += calling && std::this_thread::get_id() == caller ? 1 : 0; });
      else
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    });
    calling = false;
    others.wait();
  });
  EXPECT_EQ(begun, 2);
  EXPECT_EQ(interrupted, 0);
}

}  // namespace
