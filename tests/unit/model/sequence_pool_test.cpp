#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <multistate/util/openmp.hpp>
#include <multistate/model/decoder.hpp>
#include <multistate/memory/memory.hpp>
#include <multistate/memory/sequence_pool.hpp>
#include <multistate/policies.hpp>
#include <support/allocations.hpp>
#include <support/random.hpp>
#include <unit/model/models.hpp>

namespace {

using namespace multistate;
using support::kept;
using support::random_ids;
using support::random_model;

/// One call that a sequence saw.
struct event {
  std::vector<int> tokens;  ///< none: undo(1)
  attend_mode mode = attend_mode::together;
  int accepted = 0;  ///< of held ones
};

/// A sequence in the pool, and what is needed to tell its story again alone.
struct story {
  sequence_memory* memory = nullptr;
  std::vector<event> events;
  std::vector<float> logits;  ///< of all tokens of all calls, refused ones too
  bool waits = false;         ///< for reduce(accepted) of the last event
};

std::vector<std::vector<position>> all_kept(const sequence_memory& m) {
  std::vector<std::vector<position>> all;
  for (int l = 0; l < m.layers(); ++l)
    for (int lane = 0; lane < m.lanes(l); ++lane) all.push_back(kept(m, l, lane));
  return all;
}

template <class Decoder>
std::vector<float> tell(Decoder& d, sequence_memory& memory, const story& s) {
  std::vector<float> logits;
  for (std::size_t i = 0; i < s.events.size(); ++i) {
    const event& e = s.events[i];
    if (e.tokens.empty()) {
      memory.undo(1);
      continue;
    }
    const auto more = support::feed(d, memory, e.tokens, e.tokens.size(), e.mode);
    logits.insert(logits.end(), more.begin(), more.end());
    const bool waits = s.waits && i + 1 == s.events.size();
    if (e.mode == attend_mode::held && !waits) memory.reduce(e.accepted);
  }
  return logits;
}

/// 400 steps in which sequences join, fork and leave, and some of them get tokens, in one batch: each has the bits that
/// it has alone, and nothing is allocated.
template <class KeyFormat = f32, class ValueFormat = KeyFormat, policy P>
void come_and_go(const P& settings, position_mode positions = position_mode::original) {
  constexpr int capacity = 7, chunk = 3, steps = 400;
  const model_weights m = random_model({});
  const auto vocab = multistate::to_size(m.config.vocab);
  const memory_setup setup = setup_for(m.config, {.chunk = chunk, .hold = chunk, .undo = 1}, positions);
#if defined(_OPENMP)
  openmp exec{3};
#else
  serial exec;
#endif
  auto d = decoder<decltype(exec)>::make(m, capacity * chunk, exec).value();
  auto single = decoder<>::make(m, chunk).value();
  auto pool = make_sequence_pool<KeyFormat, ValueFormat>(capacity, settings, setup).value();

  support::generator g(1);
  std::vector<story> stories;  // of those in the pool
  std::vector<batch_item> batch;
  std::vector<float> logits(multistate::to_size(capacity * chunk) * vocab);
  std::size_t allocated = 0, tokens = 0;
  int joins = 0, forks = 0, leaves = 0, refused = 0;
  const auto count = [&allocated](auto&& f) {
    const std::size_t before = support::allocations();
    f();
    allocated += support::allocations() - before;
  };
  const auto check = [&](const story& s) {
    auto alone = make_memory<KeyFormat, ValueFormat>(settings, setup).value();
    EXPECT_TRUE(tell(single, alone, s) == s.logits);
    EXPECT_EQ(all_kept(alone), all_kept(*s.memory));
    EXPECT_EQ(alone.next_position(), s.memory->next_position());
  };
  {
    auto warm = make_memory<KeyFormat, ValueFormat>(settings, setup).value();
    ASSERT_EQ(d.reserve(warm).code(), errc::ok);
    support::feed(d, warm, std::vector<int>{1, 2}, 2);
  }

  for (int step = 0; step < steps; ++step) {
    const auto any = [&] { return multistate::to_size(g.between(0, static_cast<int>(stories.size()) - 1)); };
    if (g.between(0, 9) < 2) {
      story s;
      count([&] { s.memory = pool.join(); });
      EXPECT_EQ(s.memory == nullptr, stories.size() == multistate::to_size(capacity));
      s.memory == nullptr ? ++refused : ++joins;
      if (s.memory != nullptr) stories.push_back(s);
    }
    if (!stories.empty() && g.between(0, 9) < 3) {
      story s = stories[any()];
      sequence_memory* copy = nullptr;
      count([&] { copy = pool.fork(*s.memory); });
      EXPECT_EQ(copy == nullptr, stories.size() == multistate::to_size(capacity) || s.waits);
      copy == nullptr ? ++refused : ++forks;
      s.memory = copy;
      if (copy != nullptr) stories.push_back(s);
    }
    if (!stories.empty() && g.between(0, 9) < 3) {
      const std::size_t i = any();
      check(stories[i]);
      count([&] { pool.leave(stories[i].memory); });
      stories.erase(stories.begin() + static_cast<std::ptrdiff_t>(i));
      ++leaves;
    }
    ASSERT_EQ(pool.in_use(), static_cast<int>(stories.size()));

    batch.clear();
    std::vector<std::size_t> decider;
    std::vector<event> events;
    for (std::size_t i = 0; i < stories.size(); ++i) {
      story& s = stories[i];
      if (s.waits) {
        count([&] { EXPECT_TRUE(s.memory->reduce(s.events.back().accepted)); });
        s.waits = false;
      }
      if (g.between(0, 3) == 0) continue;
      event e;
      if (!s.events.empty() && g.between(0, 9) == 0) {
        s.memory->undo(1);
        s.events.push_back(e);
        continue;
      }
      e.tokens = random_ids(g.between(1, chunk), m.config.vocab, static_cast<std::uint64_t>(g.between(0, 1 << 20)));
      const bool one_by_one = s.memory->one_by_one() && g.between(0, 3) == 0;
      if (g.between(0, 4) == 0)
        e.mode = attend_mode::held, e.accepted = g.between(0, static_cast<int>(e.tokens.size()));
      else if (one_by_one)
        e.mode = attend_mode::one_by_one;
      decider.push_back(i);
      events.push_back(e);
    }
    std::size_t at = 0;
    for (std::size_t i = 0; i < decider.size(); ++i) {
      batch_item item{stories[decider[i]].memory, events[i].tokens, events[i].mode};
      item.want = logit_rows::all;
      item.logits = logits.data() + at * vocab;
      at += events[i].tokens.size();
      batch.push_back(item);
    }
    if (batch.empty()) continue;
    count([&] { ASSERT_EQ(std::string(d.forward(batch).message()), ""); });
    tokens += at;
    for (std::size_t i = 0; i < decider.size(); ++i) {
      story& s = stories[decider[i]];
      s.logits.insert(s.logits.end(), batch[i].logits, batch[i].logits + events[i].tokens.size() * vocab);
      s.waits = events[i].mode == attend_mode::held;
      s.events.push_back(events[i]);
    }
  }
  for (const story& s : stories) check(s);
  EXPECT_EQ(allocated, 0u);
  EXPECT_GT(joins, 20);
  EXPECT_GT(forks, 40);
  EXPECT_GT(leaves, 60);
  EXPECT_GT(refused, 10);
  EXPECT_GT(tokens, 1500u);
}

TEST(sequence_pool, window_sequences_have_the_bits_they_have_alone) {
  come_and_go(window{.budget = 6, .sinks = 2});
  come_and_go<bf16>(window{.budget = 6, .sinks = 2}, position_mode::in_cache);
}
TEST(sequence_pool, tova_sequences_have_the_bits_they_have_alone) {
  come_and_go(tova{.budget = 7}, position_mode::log);
  come_and_go<f16>(tova{.budget = 6, .scope = scope_kind::model});
}
TEST(sequence_pool, h2o_sequences_have_the_bits_they_have_alone) {
  come_and_go(h2o{.budget = 8});
  come_and_go<i8, f32>(h2o{.budget = 8, .scope = scope_kind::layer}, position_mode::in_cache);
}

struct fixture : ::testing::Test {
  model_weights m = random_model({});
  decoder<> d = decoder<>::make(m, 40).value();
  memory_setup setup = setup_for(m.config, {.chunk = 4, .hold = 4, .undo = 2});
  sequence_pool pool = make_sequence_pool(3, tova{.budget = 5}, setup).value();
  std::vector<int> ids = random_ids(20, m.config.vocab);
};
using pool_of_sequences = fixture;

TEST_F(pool_of_sequences, of_a_policy_without_its_type_is_the_same) {
  sequence_pool untyped = make_sequence_pool(3, policy_handle(tova{.budget = 5}), setup).value();
  auto *a = pool.join(), *b = untyped.join(), *beside = untyped.join();
  ASSERT_TRUE(a != nullptr && b != nullptr && beside != nullptr);
  EXPECT_EQ(a->bytes() - a->arena_bytes(), b->bytes() - b->arena_bytes());
  const auto others = random_ids(20, m.config.vocab, 2);
  support::feed(d, *beside, others, 4);  // its states lie in the same block
  EXPECT_EQ(support::feed(d, *a, ids, 4), support::feed(d, *b, ids, 4));
  EXPECT_EQ(all_kept(*a), all_kept(*b));
}

TEST_F(pool_of_sequences, says_when_it_is_full) {
  EXPECT_EQ(pool.capacity(), 3);
  auto* a = pool.join();
  auto* b = pool.join();
  ASSERT_TRUE(a != nullptr && b != nullptr && a != b);
  auto* c = pool.fork(*a);
  ASSERT_TRUE(c != nullptr && c != a && c != b);
  EXPECT_EQ(pool.in_use(), 3);
  EXPECT_EQ(pool.join(), nullptr);
  EXPECT_EQ(pool.fork(*a), nullptr);
  pool.leave(b);
  EXPECT_EQ(pool.in_use(), 2);
  EXPECT_EQ(pool.join(), b);
}

TEST_F(pool_of_sequences, a_fork_needs_its_like_at_rest) {
  auto stranger = make_memory(tova{.budget = 6}, setup).value();
  EXPECT_EQ(pool.fork(stranger), nullptr);
  auto outside = make_memory(tova{.budget = 5}, setup).value();  // need not be of the pool
  support::feed(d, outside, ids);
  auto* a = pool.fork(outside);
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(all_kept(*a), all_kept(outside));
  support::feed(d, *a, std::vector<int>{1, 2}, 2, attend_mode::held);
  EXPECT_EQ(pool.fork(*a), nullptr);
  EXPECT_EQ(pool.in_use(), 1);
  a->reduce(2);
  EXPECT_NE(pool.fork(*a), nullptr);
}

struct watcher : memory_observer {
  int calls = 0;
  std::vector<const std::byte*> keys, values;
  void attended(int, std::span<const attention_task> heads) noexcept override {
    ++calls;
    for (const attention_task& t : heads)
      for (const extent& e : t.kv.extents) keys.push_back(e.k), values.push_back(e.v);
  }
  void decided(int, const decision&) noexcept override { ++calls; }
};

TEST_F(pool_of_sequences, what_left_is_forgotten) {
  auto* a = pool.join();
  watcher seen;
  a->watch(&seen);
  ASSERT_TRUE(a->pin(0, 2));
  support::feed(d, *a, ids);
  support::feed(d, *a, std::vector<int>{1, 2}, 2, attend_mode::held);
  const int calls = seen.calls;
  EXPECT_GT(calls, 40);
  pool.leave(a);  // in the middle of a held call
  ASSERT_EQ(pool.join(), a);
  EXPECT_FALSE(a->held());
  EXPECT_EQ(a->next_position(), 0);
  EXPECT_EQ(a->live_bytes(), 0u);
  EXPECT_FALSE(a->undo(1));
  EXPECT_FALSE(a->unpin(0, 2));
  support::feed(d, *a, ids);
  EXPECT_EQ(seen.calls, calls);
}

TEST_F(pool_of_sequences, all_states_lie_in_one_block) {
  watcher seen;
  std::size_t bytes = 0, block = 0;
  for (int i = 0; i < 3; ++i) {
    auto* a = pool.join();
    a->watch(&seen);
    support::feed(d, *a, std::vector<int>{1});
    bytes += a->bytes();
    block += a->arena_bytes();
  }
  EXPECT_EQ(pool.bytes(), bytes);
  EXPECT_GT(block, 0u);
  EXPECT_LT(block, bytes);
  std::vector<std::uintptr_t> at;
  for (const auto* places : {&seen.keys, &seen.values})
    for (const std::byte* p : *places) at.push_back(reinterpret_cast<std::uintptr_t>(p));
  std::sort(at.begin(), at.end());
  EXPECT_EQ(at.size(), 3u * 2 * 2 * 2);  // sequences, layers, KV heads, keys and values
  EXPECT_EQ(std::unique(at.begin(), at.end()), at.end());
  EXPECT_EQ(at.front() % 64, 0u);
  EXPECT_LT(at.back() - at.front(), block);
}

TEST_F(pool_of_sequences, an_arena_that_is_too_small_is_refused) {
  const std::size_t bytes = make_memory(tova{.budget = 5}, setup).value().arena_bytes();
  alignas(64) static std::byte memory[1 << 16];
  ASSERT_LE(bytes, sizeof memory);
  setup.states = {memory, bytes};
  EXPECT_TRUE(static_cast<bool>(make_memory(tova{.budget = 5}, setup)));
  setup.states = {memory, bytes - 1};
  EXPECT_EQ(make_memory(tova{.budget = 5}, setup).code(), errc::out_of_memory);
}

TEST_F(pool_of_sequences, says_what_it_can_not_be) {
  EXPECT_EQ(make_sequence_pool(0, tova{.budget = 5}, setup).code(), errc::bad_limits);
  EXPECT_EQ(make_sequence_pool(-3, tova{.budget = 5}, setup).code(), errc::bad_limits);
  EXPECT_EQ(make_sequence_pool(2, tova{.budget = 0}, setup).code(), errc::bad_budget);
  EXPECT_EQ(make_sequence_pool(1 << 30, tova{.budget = 5000}, setup).code(), errc::out_of_memory);
}

#if !defined(NDEBUG) || defined(MULTISTATE_HARDENED)
TEST_F(pool_of_sequences, only_what_is_in_it_can_leave) {
  auto* a = pool.join();
  auto other = make_memory(tova{.budget = 5}, setup).value();
  pool.leave(a);
  EXPECT_DEATH(pool.leave(a), "");
  EXPECT_DEATH(pool.leave(&other), "");
  EXPECT_DEATH(pool.leave(nullptr), "");
}
#endif

}  // namespace
