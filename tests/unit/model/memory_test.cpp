#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <multistate/model/decoder.hpp>
#include <multistate/memory/memory.hpp>
#include <multistate/policies.hpp>
#include <unit/model/memories.hpp>
#include <unit/model/models.hpp>

namespace {

using namespace multistate;
using support::expect_same_states;
using support::feed;
using support::furthest;
using support::kept;
using support::random_ids;
using support::random_model;

const std::vector<support::make_kind> kinds = support::memory_kinds();

struct fixture : ::testing::Test {
  model_weights m = random_model({});
  std::vector<int> ids = random_ids(60, m.config.vocab);
  decoder<> d = decoder<>::make(m, 60).value();
  std::span<const int> part(std::size_t first, std::size_t count) const { return std::span(ids).subspan(first, count); }
};
using memory_of_a_sequence = fixture;

TEST_F(memory_of_a_sequence, forks_go_on_independently) {
  for (const auto& make : kinds)
    for (const position_mode at : {position_mode::original, position_mode::in_cache, position_mode::log}) {
      auto a = make(m.config, {.undo = 3}, at), b = make(m.config, {.undo = 3}, at),
           c = make(m.config, {.undo = 3}, at);
      feed(d, a, part(0, 20));
      ASSERT_TRUE(b.copy_from(a));
      ASSERT_TRUE(c.copy_from(a));
      expect_same_states(a, b);
      const auto other = feed(d, b, part(40, 15));
      const auto expected = feed(d, a, part(20, 15));
      EXPECT_EQ(feed(d, c, part(20, 15)), expected);
      EXPECT_NE(other, expected);
      EXPECT_TRUE(c.undo(2));
      EXPECT_TRUE(a.undo(2));
      expect_same_states(c, a);
    }
}

TEST_F(memory_of_a_sequence, forks_only_from_its_like) {
  for (std::size_t i = 0; i < kinds.size(); ++i)
    for (std::size_t j = 0; j < kinds.size(); ++j) {
      auto a = kinds[i](m.config, {}, position_mode::original);
      const auto b = kinds[j](m.config, {}, position_mode::original);
      EXPECT_EQ(a.copy_from(b), i == j);
    }
  auto a = kinds[1](m.config, {}, position_mode::original);
  EXPECT_FALSE(a.copy_from(kinds[1](m.config, {}, position_mode::in_cache)));
  a = kinds[1](m.config, {}, position_mode::in_cache);
  EXPECT_FALSE(a.copy_from(kinds[1](m.config, {}, position_mode::log)));
  a = kinds[1](m.config, {}, position_mode::original);
  EXPECT_FALSE(a.copy_from(kinds[1](m.config, {.chunk = 2}, position_mode::original)));
  EXPECT_FALSE(a.copy_from(make_memory(tova{.budget = 8}, setup_for(m.config)).value()));
  EXPECT_FALSE(a.copy_from(make_memory<f16>(tova{.budget = 7}, setup_for(m.config)).value()));
}

TEST_F(memory_of_a_sequence, undo_equals_never_happened) {
  for (const auto& make : kinds)
    for (const position_mode at : {position_mode::original, position_mode::in_cache, position_mode::log}) {
      auto never = make(m.config, {.undo = 6}, at), undone = make(m.config, {.undo = 6}, at);
      feed(d, never, part(0, 25));
      feed(d, undone, part(0, 25));
      feed(d, undone, part(40, 6));
      EXPECT_FALSE(undone.undo(7));
      ASSERT_TRUE(undone.undo(2));
      ASSERT_TRUE(undone.undo(4));
      expect_same_states(undone, never);
      EXPECT_EQ(feed(d, undone, part(25, 20)), feed(d, never, part(25, 20)));
    }
}

TEST_F(memory_of_a_sequence, undo_changes_all_layers_or_none) {
  for (const std::vector<int>& undo : {std::vector{4, 0, 4}, {0, 4, 4}, {4, 4, 0}, {4, 2, 3}}) {
    std::vector<std::unique_ptr<layer_memory>> parts;
    for (int l = 0; l < m.config.layers; ++l)
      parts.push_back(
          make_layer_memory(tova{.budget = 6}, setup_for(m.config, {.undo = undo[multistate::to_size(l)]}), l).value());
    auto memory = sequence_memory::make(std::move(parts)).value();
    feed(d, memory, part(0, 10));
    std::vector<std::vector<position>> before;
    for (int l = 0; l < memory.layers(); ++l) before.push_back(kept(memory, l, 0));
    const int least = *std::min_element(undo.begin(), undo.begin() + m.config.layers);
    EXPECT_FALSE(memory.undo(least + 1));
    for (int l = 0; l < memory.layers(); ++l) EXPECT_EQ(kept(memory, l, 0), before[multistate::to_size(l)]) << l;
    EXPECT_EQ(memory.next_position(), 10);
    EXPECT_EQ(memory.undo(least), least > 0);
    for (int l = 0; l < memory.layers(); ++l) EXPECT_EQ(kept(memory, l, 0).back(), 9 - least) << l;
  }
}

TEST_F(memory_of_a_sequence, held_tokens_count_once_they_are_accepted) {
  const limits room{.chunk = 5, .hold = 5, .prompt = 25};
  for (const auto& make : kinds)
    for (int accepted = 0; accepted <= 5; ++accepted) {
      auto held = make(m.config, room, position_mode::original), plain = make(m.config, room, position_mode::original);
      for (auto* memory : {&held, &plain}) feed(d, *memory, part(0, 25), 25, attend_mode::one_shot);
      const auto seen = feed(d, held, part(25, 5), 5, attend_mode::held);
      EXPECT_TRUE(held.held());
      const batch_item next{&held, part(30, 1)};
      EXPECT_EQ(std::string(d.forward({&next, 1}).message()), "batch item 0: its memory waits for reduce(accepted)");
      EXPECT_FALSE(held.undo(1));
      EXPECT_FALSE(held.reduce(6));
      ASSERT_TRUE(held.reduce(accepted));
      EXPECT_FALSE(held.reduce(0));
      if (accepted > 0) {
        const auto expected = feed(d, plain, part(25, multistate::to_size(accepted)), multistate::to_size(accepted));
        EXPECT_TRUE(std::equal(expected.begin(), expected.end(), seen.begin()));
      }
      expect_same_states(held, plain);
      EXPECT_EQ(feed(d, held, part(50, 10)), feed(d, plain, part(50, 10)));
    }
}

TEST_F(memory_of_a_sequence, holding_changes_nothing_where_all_is_accepted) {
  for (const auto& make : kinds) {
    auto plain = make(m.config, {.chunk = 4}, position_mode::original),
         held = make(m.config, {.chunk = 4, .hold = 4}, position_mode::original);
    EXPECT_EQ(feed(d, plain, part(0, 40), 4), feed(d, held, part(0, 40), 4));
    expect_same_states(plain, held);
  }
}

TEST_F(memory_of_a_sequence, reset_makes_it_as_new) {
  for (const auto& make : kinds) {
    auto used = make(m.config, {.chunk = 3, .hold = 3, .undo = 4}, position_mode::in_cache),
         fresh = make(m.config, {.chunk = 3, .hold = 3, .undo = 4}, position_mode::in_cache);
    feed(d, used, part(0, 31), 3);
    EXPECT_TRUE(used.pin(31, 33));
    feed(d, used, part(31, 3), 3, attend_mode::held);
    used.reset();
    EXPECT_FALSE(used.held());
    EXPECT_FALSE(used.undo(1));
    EXPECT_EQ(used.live_bytes(), 0u);
    EXPECT_EQ(feed(d, used, part(5, 40)), feed(d, fresh, part(5, 40)));
    expect_same_states(used, fresh);
  }
}

TEST_F(memory_of_a_sequence, pinned_tokens_stay_in_every_layer) {
  for (const auto& make : kinds) {
    auto memory = make(m.config, {}, position_mode::original);
    EXPECT_FALSE(memory.pin(0, 20));
    ASSERT_TRUE(memory.pin(2, 4));
    feed(d, memory, part(0, 40));
    for (int l = 0; l < memory.layers(); ++l)
      for (int lane = 0; lane < memory.lanes(l); ++lane) {
        const auto there = kept(memory, l, lane);
        for (const position p : {2, 3}) EXPECT_TRUE(std::find(there.begin(), there.end(), p) != there.end());
      }
    EXPECT_TRUE(memory.unpin(2, 4));
    EXPECT_FALSE(memory.unpin(2, 4));
  }
}

struct recorder : memory_observer {
  struct call {
    int layer;
    position first;
    int queries;
    std::vector<std::vector<position>> positions;  // [heads][n]
    std::vector<std::vector<float>> rows;          // [heads][n], of the last query; empty when there is none
  };
  bool each_row = false;
  std::vector<call> calls;
  std::vector<std::pair<int, std::size_t>> decisions;  // layer, dropped in lane 0

  void attended(int layer, std::span<const attention_task> heads) noexcept override {
    call c{layer, heads[0].first, heads[0].queries, {}, {}};
    for (const attention_task& t : heads) {
      c.positions.emplace_back(t.kv.positions.begin(), t.kv.positions.begin() + t.kv.n);
      if (t.row == nullptr) continue;
      const float* last = t.row + (each_row ? t.row_stride * multistate::to_size(t.queries - 1) : 0);
      c.rows.emplace_back(last, last + t.kv.n);
    }
    calls.push_back(c);
  }
  void decided(int layer, const multistate::decision& decision) noexcept override {
    decisions.emplace_back(layer, decision.lanes[0].dropped.size());
  }
};

TEST_F(memory_of_a_sequence, an_observer_sees_rows_of_full_that_full_does_not_need) {
  for (const needs tap : {needs::last_row, needs::each_row}) {
    memory_setup setup = setup_for(m.config, {.chunk = 4});
    setup.tap = tap;
    auto tapped = make_memory(full{.budget = 60}, setup).value();
    auto plain = make_memory(full{.budget = 60}, setup_for(m.config, {.chunk = 4})).value();
    auto same = make_memory(tova{.budget = 60}, setup_for(m.config, {.chunk = 4})).value();  // last rows by itself
    recorder seen, expected, blind;
    seen.each_row = tap == needs::each_row;
    tapped.watch(&seen);
    plain.watch(&blind);
    same.watch(&expected);
    for (const std::size_t chunk : {1u, 4u}) {
      const auto logits = feed(d, plain, part(0, 16), chunk);
      EXPECT_EQ(feed(d, tapped, part(0, 16), chunk), logits);
      feed(d, same, part(0, 16), chunk);
    }
    ASSERT_EQ(seen.calls.size(), 2u * (16 + 4));
    ASSERT_EQ(expected.calls.size(), seen.calls.size());
    for (std::size_t i = 0; i < seen.calls.size(); ++i) {
      EXPECT_EQ(seen.calls[i].layer, static_cast<int>(i % 2));
      EXPECT_EQ(seen.calls[i].positions, expected.calls[i].positions);
      ASSERT_EQ(seen.calls[i].rows.size(), 2u);
      EXPECT_EQ(seen.calls[i].rows, expected.calls[i].rows);
      EXPECT_TRUE(blind.calls[i].rows.empty());
      double sum = 0;
      for (const float w : seen.calls[i].rows[0]) sum += double{w};
      EXPECT_NEAR(sum, 2.0, 1e-5);  // two query heads a KV head
    }
    EXPECT_EQ(seen.decisions.size(), seen.calls.size());
  }
}

TEST_F(memory_of_a_sequence, an_observer_sees_each_decision_once) {
  for (const auto& make : kinds)
    for (const int hold : {0, 1}) {
      auto memory = make(m.config, {.hold = hold}, position_mode::original);
      recorder seen;
      memory.watch(&seen);
      feed(d, memory, part(0, 20));
      EXPECT_EQ(seen.calls.size(), 40u);
      const bool whole = memory.scope(0) == scope_kind::model;
      ASSERT_EQ(seen.decisions.size(), whole ? 20u : 40u);
      std::size_t dropped = 0;
      for (const auto& [layer, count] : seen.decisions) {
        EXPECT_TRUE(!whole || layer == 1);
        if (layer == 1) dropped += count;
      }
      EXPECT_EQ(dropped, 20u - multistate::to_size(memory.live(1, 0)));
    }
}

TEST_F(memory_of_a_sequence, narrow_formats_are_close_and_smaller) {
  const auto setup = setup_for(m.config);
  auto wide = make_memory(full{.budget = 40}, setup).value();
  auto half = make_memory<f16>(full{.budget = 40}, setup).value();
  auto brain = make_memory<bf16>(full{.budget = 40}, setup).value();
  auto mixed = make_memory<f16, f32>(full{.budget = 40}, setup).value();
  const auto expected = feed(d, wide, part(0, 40));
  const auto off = [&](sequence_memory& memory) { return furthest(feed(d, memory, part(0, 40)), expected); };
  EXPECT_LT(off(half), 0.02);
  EXPECT_LT(off(brain), 0.15);
  EXPECT_LT(off(mixed), 0.02);
  EXPECT_EQ(wide.live_bytes(), 2u * 2 * 40 * (6 + 6) * 4);
  EXPECT_EQ(half.live_bytes(), wide.live_bytes() / 2);
  EXPECT_EQ(mixed.live_bytes(), wide.live_bytes() * 3 / 4);
  EXPECT_GT(wide.bytes(), wide.live_bytes());
}

TEST_F(memory_of_a_sequence, lanes_may_have_budgets_of_their_own) {
  auto memory =
      make_memory(tova{.budget = 0, .scope = scope_kind::head}, setup_for(m.config), std::vector<int>{3, 9}).value();
  feed(d, memory, part(0, 30));
  for (int l = 0; l < 2; ++l) {
    EXPECT_EQ(memory.live(l, 0), 3);
    EXPECT_EQ(memory.live(l, 1), 9);
  }
  EXPECT_EQ(memory.live_bytes(), 2u * (3 + 9) * (6 + 6) * 4);
}

TEST_F(memory_of_a_sequence, says_what_it_can_not_be) {
  EXPECT_EQ(make_memory(tova{.budget = 0}, setup_for(m.config)).code(), errc::bad_budget);
  EXPECT_EQ(make_memory(tova{.budget = 3, .pinned = 4}, setup_for(m.config)).code(), errc::bad_policy);
  EXPECT_EQ(make_memory(tova{.budget = 3}, setup_for(m.config, {.chunk = 0})).code(), errc::bad_limits);
  EXPECT_EQ(make_memory(tova{.budget = 3}, setup_for(m.config, {.hold = 2})).code(), errc::bad_limits);
  memory_setup setup = setup_for(m.config);
  setup.layers = 0;
  EXPECT_EQ(make_memory(tova{.budget = 3}, setup).code(), errc::bad_shape);
  setup = setup_for(m.config);
  setup.tap = needs::row_sum;
  EXPECT_EQ(make_memory(tova{.budget = 3}, setup).code(), errc::bad_input);
  for (const position_mode at : {position_mode::in_cache, position_mode::log})
    for (const int dim : {5, 8}) {  // odd; more than a head has
      setup = setup_for(m.config, {}, at);
      setup.rope.dim = dim;
      EXPECT_EQ(make_memory(tova{.budget = 3}, setup).code(), errc::bad_shape);
    }
  EXPECT_EQ(make_layer_memory(tova{.budget = 3}, setup_for(m.config), 2).code(), errc::bad_shape);
  EXPECT_EQ(sequence_memory::make({}).code(), errc::bad_shape);
}

TEST_F(memory_of_a_sequence, notes_what_its_format_cannot_hold) {
  const auto try_it = [&]<class Format>(Format, attend_mode mode, bool keys) {
    model_weights large = m;
    for (float& x : keys ? large.layers[1].k : large.layers[1].v) x *= 3e5f;
    auto big = decoder<>::make(large, 60).value();
    auto memory = make_memory<Format>(window{.budget = 7}, setup_for(m.config, {.chunk = 12, .prompt = 12})).value();
    const std::span<const int> tokens = part(0, 12);
    const batch_item item{.memory = &memory, .tokens = tokens, .mode = mode};
    const error e = big.forward({&item, 1});
    const auto overflow = memory.overflowed();
    EXPECT_EQ(e.code() == errc::overflow, overflow.has_value());
    if (!overflow) return position{-1};
    EXPECT_EQ(overflow->layer, 1);
    EXPECT_EQ(overflow->format, Format::name);
    EXPECT_EQ(big.forward({&item, 1}).code(), errc::overflow) << "until it is reset";
    auto fork = make_memory<Format>(window{.budget = 7}, setup_for(m.config, {.chunk = 12, .prompt = 12})).value();
    EXPECT_TRUE(fork.copy_from(memory));
    EXPECT_TRUE(fork.overflowed());
    memory.reset();
    EXPECT_FALSE(memory.overflowed());
    const batch_item again{.memory = &memory, .tokens = tokens, .mode = mode};
    EXPECT_EQ(d.forward({&again, 1}).code(), errc::ok) << "the same memory under a model that fits";
    return overflow->at;
  };
  for (const bool keys : {true, false}) {
    for (const attend_mode mode : {attend_mode::together, attend_mode::one_by_one})
      EXPECT_EQ(try_it(f16(), mode, keys), 0);
    EXPECT_EQ(try_it(f16(), attend_mode::one_shot, keys), 5) << "the first one that is kept";
    EXPECT_EQ(try_it(f32(), attend_mode::together, keys), -1);
    EXPECT_EQ(try_it(bf16(), attend_mode::together, keys), -1);
    EXPECT_EQ(try_it(i8(), attend_mode::together, keys), -1);
  }
}

TEST_F(memory_of_a_sequence, does_not_take_a_broken_model_for_an_overflow) {
  for (const float bad : {HUGE_VALF, std::nanf("")}) {
    model_weights broken = m;
    broken.layers[0].k[0] = bad;
    auto model = decoder<>::make(broken, 60).value();
    auto memory = make_memory<f16>(window{.budget = 7}, setup_for(m.config, {})).value();
    const batch_item item{.memory = &memory, .tokens = part(0, 1)};
    EXPECT_EQ(model.forward({&item, 1}).code(), errc::ok);
    EXPECT_FALSE(memory.overflowed());
  }
}

}  // namespace
