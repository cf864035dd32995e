// Equal keys tie at whatever positions they stand, and the oldest goes: in the first layer the same token has the same
// key, before rotation.

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include <multistate/model/decoder.hpp>
#include <multistate/memory/memory.hpp>
#include <multistate/policies.hpp>
#include <unit/model/models.hpp>

namespace {

using namespace multistate;
using support::feed;
using support::kept;
using support::random_model;

constexpr int budget = 6, tokens = 70;
const support::model_sizes sizes{.head_dim = 16};
const std::vector<int> same(tokens, 5);

std::vector<position> newest(position end) {
  std::vector<position> all(budget);
  std::iota(all.begin(), all.end(), end - budget);
  return all;
}

sequence_memory memory_of(const model_config& c, position_mode at, const limits& room,
                          scope_kind scope = scope_kind::head) {
  return make_memory(knorm{.budget = budget, .scope = scope}, setup_for(c, room, at)).value();
}

class EqualKeys : public testing::TestWithParam<position_mode> {};

TEST_P(EqualKeys, leave_the_oldest_first) {
  const auto model = random_model(sizes);
  auto d = decoder<>::make(model, tokens).value();
  for (const scope_kind scope : {scope_kind::head, scope_kind::layer})
    for (const std::size_t chunk : {1u, 7u}) {
      auto m = memory_of(model.config, GetParam(), {.chunk = static_cast<int>(chunk)}, scope);
      for (std::size_t at = 0; at + chunk <= same.size(); at += chunk) {
        feed(d, m, std::span(same).subspan(at, chunk), chunk);
        const auto end = static_cast<position>(at + chunk);
        for (int lane = 0; lane < m.lanes(0) && end >= budget; ++lane)
          EXPECT_EQ(kept(m, 0, lane), newest(end)) << "chunks of " << chunk << ", lane " << lane;
      }
    }
}

TEST_P(EqualKeys, leave_the_oldest_first_in_other_ways_to_read) {
  const auto model = random_model(sizes);
  auto d = decoder<>::make(model, tokens).value();
  auto one_by_one = memory_of(model.config, GetParam(), {});
  feed(d, one_by_one, same, tokens, attend_mode::one_by_one);
  EXPECT_EQ(kept(one_by_one, 0, 0), newest(tokens));
  auto whole = memory_of(model.config, GetParam(), {.prompt = tokens});
  feed(d, whole, same, tokens, attend_mode::one_shot);
  EXPECT_EQ(kept(whole, 0, 0), newest(tokens));
  auto held = memory_of(model.config, GetParam(), {.chunk = 5, .hold = 5});
  for (position end = 3; end < tokens; end += 3) {
    feed(d, held, std::span(same).first(5), 5, attend_mode::held);
    ASSERT_TRUE(held.reduce(3));
    if (end >= budget) {
      EXPECT_EQ(kept(held, 0, 1), newest(end));
    }
  }
}

TEST_P(EqualKeys, leave_the_oldest_first_after_an_undo) {
  const auto model = random_model(sizes);
  auto d = decoder<>::make(model, tokens).value();
  auto m = memory_of(model.config, GetParam(), {.undo = 8});
  feed(d, m, std::span(same).first(40));
  ASSERT_TRUE(m.undo(8));
  EXPECT_EQ(kept(m, 0, 0), newest(32));
  feed(d, m, std::span(same).first(20));
  EXPECT_EQ(kept(m, 0, 0), newest(52));
}

INSTANTIATE_TEST_SUITE_P(key_norm, EqualKeys,
                         testing::Values(position_mode::original, position_mode::in_cache, position_mode::log));

// At scope model the first layer's equal keys are joined by those above, whose caches differ: with one layer all tie.
TEST(key_norm, equal_keys_tie_at_scope_model) {
  const auto model = random_model({.layers = 1, .head_dim = 16});
  auto d = decoder<>::make(model, tokens).value();
  auto m = memory_of(model.config, position_mode::original, {.chunk = 1}, scope_kind::model);
  feed(d, m, same);
  EXPECT_EQ(kept(m, 0, 0), newest(tokens));
}

}  // namespace
