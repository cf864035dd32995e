// What may run at the same time; built with -fsanitize=thread by the preset tsan.
#include <multistate/model/decoder.hpp>
#include <multistate/memory/memory.hpp>
#include <multistate/multistate.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <span>
#include <thread>
#include <vector>

#include <support/random.hpp>
#include <support/thread_pool.hpp>
#include <unit/model/models.hpp>

namespace {

using namespace multistate;
using support::random_model;
using support::thread_pool;

static_assert(executor<thread_pool>);

/// Outs of a layer that forgets, over 600 states and more: long enough for threads to share one head.
template <class E>
std::vector<float> run_layer(E* exec, int workers, std::uint64_t seed, int tokens) {
  const shape dims{.heads = 4, .kv_heads = 2, .dk = 8, .dv = 8};
  constexpr int chunk = 50;
  const h2o policy{.budget = 600};
  auto decider = multistate::decider<h2o>::make(policy, {.kv_heads = 2}, {.chunk = chunk}).value();
  auto states = multi_state<f16>::make(dims, decider.plan()).value();
  const layer_of<h2o, multi_state<f16>> layer{&decider, {&states, 1}};
  const int most = policy.budget + chunk;
  std::vector<std::byte> scratch(step_scratch_bytes<h2o>(dims, 1, most, chunk)),
      attention_scratch(attend_scratch_bytes(dims, most, chunk, workers));
  const attention<E> attend{dims, {}, exec, attention_scratch};
  support::generator g(seed);
  std::vector<float> q(multistate::to_size(chunk * 32)), k(multistate::to_size(chunk * 16)),
      v(multistate::to_size(chunk * 16)), out(multistate::to_size(chunk * 32)), all;
  for (int t = 0; t < tokens; ++t) {
    const int c = decider.next_position() < policy.budget ? chunk : 1;
    for (auto* x : {&q, &k, &v})
      for (float& e : *x) e = static_cast<float>(g.normal());
    const step_io io{.q = q.data(), .k = k.data(), .v = v.data(), .out = out.data(), .c = c};
    step(std::span<const layer_of<h2o, multi_state<f16>>>(&layer, 1), std::span<const step_io>(&io, 1), dims, scratch,
         attend);
    all.insert(all.end(), out.begin(), out.begin() + c * 32);
  }
  return all;
}

TEST(threads, that_share_a_layer_give_the_bits_of_one) {
  thread_pool pool(4);
  serial one;
  EXPECT_EQ(run_layer(&pool, 4, 1, 40), run_layer(&one, 1, 1, 40));
}

TEST(threads, with_deciders_and_states_of_their_own_share_nothing) {
  std::vector<std::vector<float>> outs(4);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < outs.size(); ++i)
    threads.emplace_back([&outs, i] {
      serial one;
      outs[i] = run_layer(&one, 1, i % 2, 20);
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(outs[0], outs[2]);
  EXPECT_EQ(outs[1], outs[3]);
  EXPECT_NE(outs[0], outs[1]);
}

TEST(threads, share_a_model) {
  const model_weights m = random_model({});
  std::vector<std::vector<float>> logits(3, std::vector<float>(multistate::to_size(m.config.vocab)));
  std::vector<std::thread> threads;
  for (auto& mine : logits)
    threads.emplace_back([&m, &mine] {
      auto d = decoder<>::make(m, 1).value();
      auto memory = make_memory(tova{.budget = 6}, setup_for(m.config)).value();
      for (int t = 0; t < 40; ++t) {
        const int id = t * 7 % m.config.vocab;
        const batch_item item{.memory = &memory, .tokens = {&id, 1}, .want = logit_rows::last, .logits = mine.data()};
        (void)d.forward({&item, 1});
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(logits[0], logits[1]);
  EXPECT_EQ(logits[0], logits[2]);
}

/// Sequences join, fork and leave between calls that threads share; each gets what it would have got alone.
TEST(threads, share_a_pool_of_sequences) {
  const model_weights m = random_model({});
  const auto vocab = multistate::to_size(m.config.vocab);
  const auto setup = setup_for(m.config, {.chunk = 3, .undo = 2});
  thread_pool workers(4);
  auto together = decoder<thread_pool>::make(m, 15, workers).value();
  auto alone = decoder<>::make(m, 3).value();
  auto pool = make_sequence_pool<i8>(5, h2o{.budget = 6}, setup).value();
  struct story {
    sequence_memory* memory;
    std::vector<std::vector<int>> calls;
    std::vector<float> logits;
  };
  std::vector<story> stories;
  support::generator g(1);
  for (int round = 0; round < 60; ++round) {
    if (g.chance(40))
      if (sequence_memory* joined = pool.join()) stories.push_back({joined, {}, {}});
    if (!stories.empty() && g.chance(20)) {
      story copy = stories[g.next() % stories.size()];
      copy.memory = pool.fork(*copy.memory);
      if (copy.memory != nullptr) stories.push_back(copy);
    }
    if (stories.size() == 5) {
      auto memory = make_memory<i8>(h2o{.budget = 6}, setup).value();
      std::vector<float> expected, row(3 * vocab);
      for (const std::vector<int>& tokens : stories[0].calls) {
        const batch_item item{.memory = &memory, .tokens = tokens, .want = logit_rows::all, .logits = row.data()};
        ASSERT_EQ(alone.forward({&item, 1}).code(), errc::ok);
        expected.insert(expected.end(), row.begin(), row.begin() + static_cast<std::ptrdiff_t>(tokens.size() * vocab));
      }
      EXPECT_EQ(stories[0].logits, expected) << round;
      pool.leave(stories[0].memory);
      stories.erase(stories.begin());
    }
    std::vector<batch_item> batch;
    std::vector<std::vector<float>> logits(stories.size(), std::vector<float>(3 * vocab));
    for (std::size_t i = 0; i < stories.size(); ++i) {
      std::vector<int> tokens;
      for (int c = g.between(1, 3); c > 0; --c) tokens.push_back(g.between(0, m.config.vocab - 1));
      stories[i].calls.push_back(tokens);
      batch.push_back({.memory = stories[i].memory,
                       .tokens = stories[i].calls.back(),
                       .want = logit_rows::all,
                       .logits = logits[i].data()});
    }
    if (batch.empty()) continue;
    ASSERT_EQ(together.forward(batch).code(), errc::ok);
    for (std::size_t i = 0; i < stories.size(); ++i)
      stories[i].logits.insert(stories[i].logits.end(), logits[i].begin(),
                               logits[i].begin() + static_cast<std::ptrdiff_t>(batch[i].tokens.size() * vocab));
  }
}

}  // namespace
