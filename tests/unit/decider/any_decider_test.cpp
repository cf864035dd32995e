#include <multistate/decider/any_decider.hpp>
#include <multistate/policies.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include <support/random.hpp>

using namespace multistate;

namespace {

std::vector<position> kept(std::span<const position> positions) {
  std::vector<position> out(positions.begin(), positions.end());
  std::erase(out, -1);
  std::sort(out.begin(), out.end());
  return out;
}

/// The same cycles through decider<P> and through any_decider: chunks, held ones, undo, a save.
template <policy P>
void expect_the_same(const P& settings) {
  const limits room{.chunk = 3, .hold = 3, .undo = 4};
  auto known = decider<P>::make(settings, {.kv_heads = 2}, room).value();
  auto any = policy_handle(settings).make_decider({.kv_heads = 2}, room).value();
  EXPECT_EQ(any.scope(), settings.scope);
  EXPECT_EQ(any.lanes(), known.lanes());
  EXPECT_EQ(any.wants(), settings.wants());
  support::generator g(7);
  std::vector<float> weights, key(4);
  for (int cycle = 0; cycle < 60; ++cycle) {
    const int c = 1 + cycle % 3;
    const bool held = cycle % 5 == 0;
    known.append(c, phase::decode, held);
    any.append(c, phase::decode, held);
    for (int h = 0; h < 2; ++h) {
      const int lane = known.lane_of(h);
      for (int j = 0; j < c; ++j) {
        for (float& x : key) x = static_cast<float>(g.normal());
        known.enter(lane, j, key, key, key);
        any.enter(lane, j, key, key, key);
      }
      const int n = known.live(lane);
      weights.resize(to_size(n * c));
      for (float& x : weights) x = static_cast<float>(g.uniform());
      const rows r{.data = weights.data(), .stride = to_size(n), .n = n, .queries = c};
      known.observe(lane, r);
      any.observe(lane, r);
    }
    known.reduce(held ? c - 1 : -1);
    any.reduce(held ? c - 1 : -1);
    ASSERT_EQ(known.fault(), fault_kind::none);
    ASSERT_EQ(any.fault(), fault_kind::none);
    if (cycle % 7 == 6) {
      EXPECT_EQ(known.undo(c), any.undo(c));
    }
    for (int lane = 0; lane < known.lanes(); ++lane)
      ASSERT_EQ(kept(any.positions(lane)), kept(known.positions(lane))) << P::name << ", cycle " << cycle;
    ASSERT_EQ(any.moment(), known.moment());
  }
  std::vector<std::byte> a(known.save_bytes()), b(any.save_bytes());
  known.save(a);
  any.save(b);
  EXPECT_EQ(a, b) << P::name;
}

TEST(any_decider, decides_what_the_decider_of_the_policy_decides) {
  expect_the_same(window{.budget = 8, .sinks = 2});
  expect_the_same(tova{.budget = 8});
  expect_the_same(h2o{.budget = 8, .recent = 2});
  expect_the_same(knorm{.budget = 8});
  expect_the_same(random_choice{.budget = 8, .seed = 3});
}

TEST(any_decider, copies_only_its_own_kind) {
  auto a = policy_handle(tova{.budget = 4}).make_decider({}).value();
  auto b = policy_handle(tova{.budget = 4}).make_decider({}).value();
  auto c = policy_handle(window{.budget = 4}).make_decider({}).value();
  EXPECT_TRUE(a.copy_from(b));
  EXPECT_FALSE(a.copy_from(c));
}

TEST(policy_handle, says_what_the_settings_say) {
  const policy_handle p(h2o{.budget = 16, .scope = scope_kind::layer});
  EXPECT_EQ(p.name(), "h2o");
  EXPECT_EQ(p.budget(), 16);
  EXPECT_EQ(p.str(), "h2o:16,scope=layer");
  EXPECT_EQ(p.str_without_budget(), "h2o,scope=layer");
  EXPECT_EQ(p.with_budget(32)->str(), "h2o:32,scope=layer");
  EXPECT_EQ(p.seed(), std::nullopt);
  EXPECT_FALSE(p.unbounded());
  EXPECT_TRUE(policy_handle(full{.budget = 1}).unbounded());
  EXPECT_EQ(p.with_budget(0).code(), errc::bad_budget);
}

TEST(policy_handle, another_seed_is_another_policy) {
  const policy_handle p(random_choice{.budget = 4});
  EXPECT_EQ(p.seed(), 0u);
  EXPECT_EQ(p.with_seed(9).seed(), 9u);
  EXPECT_EQ(p.with_seed(9).str(), "random:4,seed=9");
}

TEST(policy_entry, parses_its_own_policy) {
  const auto entries = entries_of(standard_policies{});
  ASSERT_EQ(entries.size(), 14u);
  EXPECT_EQ(entries[1].name, "window");
  EXPECT_TRUE(entries[1].takes_number);
  EXPECT_FALSE(entries[3].takes_number);
  EXPECT_EQ(entries[1].parse("window+4:64")->str(), "window+4:64");
  EXPECT_EQ(entries[1].parse("window:nine").code(), errc::bad_string);
}

}  // namespace
