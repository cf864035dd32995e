#include <multistate/policies.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace {

using namespace multistate;

using ints = std::vector<int>;

template <policy P>
ints slots_of(const decider<P>& d, int lane = 0) {
  ints s;
  for (const slot x : d.slots(lane)) s.push_back(static_cast<int>(x));
  return s;
}
template <policy P>
ints by_slot(const decider<P>& d, int lane = 0) {
  ints s;
  for (const position p : d.positions(lane)) s.push_back(static_cast<int>(p));
  return s;
}
template <policy P>
ints kept(const decider<P>& d, int lane = 0) {
  std::vector<slot> order(static_cast<std::size_t>(d.live(lane)));
  EXPECT_EQ(d.rank_order(lane, order), order.size());
  ints s;
  for (const slot x : order) s.push_back(static_cast<int>(d.positions(lane)[index(x)]));
  return s;
}
ints dropped(const decision& d, int lane = 0) {
  ints s;
  for (const position p : d.lanes[static_cast<std::size_t>(lane)].dropped_positions) s.push_back(static_cast<int>(p));
  return s;
}
ints dropped_slots(const decision& d, int lane = 0) {
  ints s;
  for (const slot x : d.lanes[static_cast<std::size_t>(lane)].dropped) s.push_back(static_cast<int>(x));
  return s;
}
using pairs = std::vector<std::pair<int, int>>;
pairs moves(const decision& d, int lane = 0) {
  pairs s;
  for (const slot_move& m : d.lanes[static_cast<std::size_t>(lane)].moves)
    s.emplace_back(m.from == parked ? -1 : static_cast<int>(m.from), static_cast<int>(m.to));
  return s;
}
int hole(const decision& d, int lane = 0) {
  const slot h = d.lanes[static_cast<std::size_t>(lane)].hole;
  return h == no_slot ? -1 : static_cast<int>(h);
}
int live(const decision& d, int lane = 0) { return d.lanes[static_cast<std::size_t>(lane)].live; }

/// Hands every lane rows of one KV head, of the last query.
template <policy P>
void observe(decider<P>& d, const std::vector<float>& row, int lane = 0, int queries = 1) {
  const int n = static_cast<int>(row.size()) / queries;
  d.observe(lane, {.data = row.data(),
                   .stride = static_cast<std::size_t>(n),
                   .n = n,
                   .queries = queries,
                   .heads = 1,
                   .kind = queries == 1 && rows_of(P{}.wants()) == needs::row_sum ? rows_kind::sum : rows_kind::each});
}
template <policy P>
const decision& step(decider<P>& d, const std::vector<float>& row) {
  d.append(1);
  observe(d, row);
  return d.reduce();
}

template <policy P>
decider<P> make(const P& p, const limits& room = {}, const placement& where = {}) {
  return decider<P>::make(p, where, room).value();
}

// -- making one

template <policy P>
std::string refusal(const P& p, const placement& where, const limits& room, const ints& budgets = {}) {
  const auto r = decider<P>::make(p, where, room, budgets);
  return r ? "" : std::string(r.reason().message());
}

TEST(make, says_what_is_wrong) {
  const tova p{.budget = 4};
  EXPECT_EQ(refusal(p, {.kv_heads = 0}, {}),
            "decider: kv_heads >= 1 and 0 <= layer < layers; got kv_heads=0, layer=0, layers=1");
  EXPECT_EQ(refusal(p, {.layer = 2, .layers = 2}, {}),
            "decider: kv_heads >= 1 and 0 <= layer < layers; got kv_heads=1, layer=2, layers=2");
  EXPECT_EQ(refusal(p, {.layer = -1}, {}),
            "decider: kv_heads >= 1 and 0 <= layer < layers; got kv_heads=1, layer=-1, layers=1");
  EXPECT_EQ(refusal(p, {}, {.chunk = 0}),
            "limits: chunk and every must be at least 1, all others at least 0, none above 2^28; got chunk=0, hold=0, "
            "undo=0, "
            "every=1, prompt=0, window=0");
  EXPECT_NE(refusal(p, {}, {.every = 0}), "");
  EXPECT_NE(refusal(p, {}, {.undo = -1}), "");
  EXPECT_NE(refusal(p, {}, {.prompt = -1}), "");
  EXPECT_NE(refusal(p, {}, {.window = (1 << 28) + 1}), "");
  EXPECT_EQ(refusal(p, {}, {.chunk = 2, .hold = 3}), "limits: hold must be at most chunk; got hold=3, chunk=2");
  EXPECT_EQ(refusal(tova{}, {}, {}), "tova: budget must be 1 to 268435456 states; got 0");
  EXPECT_EQ(refusal(tova{.budget = 4, .scope = scope_kind::head}, {.kv_heads = 3}, {}, {4, 4}),
            "tova: needs one budget for each of 3 lanes; got 2");
  EXPECT_EQ(refusal(tova{.budget = 4, .scope = scope_kind::head}, {.kv_heads = 2}, {}, {4, 0}),
            "tova: budget must be 1 to 268435456 states; got 0");
  EXPECT_EQ(refusal(tova{.budget = 4, .scope = scope_kind::head, .pinned = 3}, {.kv_heads = 2}, {}, {4, 2}),
            "tova: needs pinned + newest <= budget; got budget=2, scope=head, pinned=3, newest=0");
}

TEST(make, capacity_is_budget_and_slack_and_chunk) {
  auto d = make(tova{.budget = 4}, {.chunk = 3, .every = 5});
  EXPECT_EQ(d.capacity(0), 4 + 4 + 3);
  EXPECT_EQ(d.budget(0), 4);
  EXPECT_EQ(d.lanes(), 1);
  EXPECT_EQ(d.live(0), 0);
  EXPECT_EQ(d.next_position(), 0);
  EXPECT_EQ(d.settings().budget, 4);
  EXPECT_EQ(d.room().every, 5);
  EXPECT_EQ(d.where().kv_heads, 1);
  EXPECT_EQ(make(tova{.budget = 4}, {.prompt = 100}).capacity(0), 100);
  EXPECT_EQ(make(tova{.budget = 4}, {.prompt = 2}).capacity(0), 5);
}

TEST(make, has_a_lane_for_each_head_or_one) {
  EXPECT_EQ(make(tova{.budget = 2, .scope = scope_kind::head}, {}, {.kv_heads = 3}).lanes(), 3);
  EXPECT_EQ(make(tova{.budget = 2, .scope = scope_kind::layer}, {}, {.kv_heads = 3}).lanes(), 1);
  EXPECT_EQ(make(tova{.budget = 2, .scope = scope_kind::model}, {}, {.kv_heads = 3, .layers = 4}).lanes(), 1);
}

TEST(make, bytes_grow_with_what_is_asked_for) {
  const auto bytes = [](const limits& room) { return make(h2o{.budget = 16}, room).bytes(); };
  EXPECT_GT(bytes({}), 0u);
  EXPECT_GT(bytes({.chunk = 8}), bytes({}));
  EXPECT_GT(bytes({.chunk = 8, .hold = 8}), bytes({.chunk = 8}));
  EXPECT_GT(bytes({.undo = 8}), bytes({}));
  EXPECT_GT(bytes({.prompt = 99}), bytes({}));
}

// -- the cycle

TEST(cycle, fills_slots_in_order_until_the_budget) {
  auto d = make(tova{.budget = 3});
  for (int t = 0; t < 3; ++t) {
    const decision& a = d.append(1);
    EXPECT_EQ(slots_of(d), (ints{t}));
    EXPECT_EQ(live(a), t + 1);
    EXPECT_EQ(moves(a), pairs{});
    observe(d, std::vector<float>(static_cast<std::size_t>(t + 1), 1.0f));
    const decision& r = d.reduce();
    EXPECT_EQ(dropped(r), ints{});
    EXPECT_EQ(live(r), t + 1);
    EXPECT_EQ(hole(r), -1);
  }
  EXPECT_EQ(kept(d), (ints{0, 1, 2}));
}

TEST(cycle, one_token_leaves_a_hole_that_the_next_one_refills) {
  auto d = make(tova{.budget = 3});
  for (int t = 0; t < 3; ++t) step(d, std::vector<float>(static_cast<std::size_t>(t + 1), 1.0f));
  const decision& r = step(d, {3, 1, 2, 4});
  EXPECT_EQ(dropped(r), (ints{1}));
  EXPECT_EQ(dropped_slots(r), (ints{1}));
  EXPECT_EQ(moves(r), pairs{});
  EXPECT_EQ(live(r), 3);
  EXPECT_EQ(hole(r), 1);
  EXPECT_EQ(by_slot(d), (ints{0, -1, 2, 3}));
  EXPECT_EQ(kept(d), (ints{0, 2, 3}));
  const decision& a = d.append(1);
  EXPECT_EQ(slots_of(d), (ints{1}));
  EXPECT_EQ(hole(a), -1);
  EXPECT_EQ(live(a), 4);
  EXPECT_EQ(by_slot(d), (ints{0, 4, 2, 3}));
  observe(d, {9, 1, 9, 9});
  const decision& b = d.reduce();  // the newest itself goes, from the middle
  EXPECT_EQ(dropped(b), (ints{4}));
  EXPECT_EQ(hole(b), 1);
  EXPECT_EQ(kept(d), (ints{0, 2, 3}));
}

TEST(cycle, dropping_the_topmost_slot_leaves_no_hole) {
  auto d = make(tova{.budget = 1});
  step(d, {1});
  const decision& r = step(d, {2, 1});
  EXPECT_EQ(dropped(r), (ints{1}));
  EXPECT_EQ(hole(r), -1);
  EXPECT_EQ(moves(r), pairs{});
  EXPECT_EQ(by_slot(d), (ints{0}));
}

TEST(cycle, close_moves_the_topmost_into_the_hole) {
  auto d = make(tova{.budget = 2});
  step(d, {1});
  step(d, {1, 1});
  step(d, {0, 1, 1});
  EXPECT_EQ(hole(d.last()), 0);
  const decision& c = d.close();
  EXPECT_EQ(moves(c), (pairs{{2, 0}}));
  EXPECT_EQ(hole(c), -1);
  EXPECT_EQ(by_slot(d), (ints{2, 1}));
  EXPECT_EQ(kept(d), (ints{1, 2}));
  EXPECT_EQ(moves(d.close()), pairs{});
}

TEST(cycle, a_chunk_closes_the_hole_first) {
  auto d = make(tova{.budget = 2}, {.chunk = 2});
  step(d, {1});
  step(d, {1, 1});
  step(d, {0, 1, 1});
  const decision& a = d.append(2);
  EXPECT_EQ(moves(a), (pairs{{2, 0}}));
  EXPECT_EQ(slots_of(d), (ints{2, 3}));
  EXPECT_EQ(by_slot(d), (ints{2, 1, 3, 4}));
}

TEST(cycle, a_chunk_drops_many_with_at_most_as_many_moves) {
  auto d = make(tova{.budget = 3}, {.chunk = 6});
  d.append(6);
  observe(d, {5, 1, 1, 5, 0, 5});
  const decision& r = d.reduce();
  EXPECT_EQ(dropped(r), (ints{1, 2, 4}));
  EXPECT_EQ(dropped_slots(r), (ints{1, 2, 4}));
  EXPECT_EQ(moves(r), (pairs{{5, 1}, {3, 2}}));
  EXPECT_EQ(live(r), 3);
  EXPECT_EQ(hole(r), -1);
  EXPECT_EQ(by_slot(d), (ints{0, 5, 3}));
  EXPECT_EQ(kept(d), (ints{0, 3, 5}));
}

TEST(cycle, windows_drop_the_oldest_unprotected) {
  auto d = make(window{.budget = 3, .sinks = 1}, {.chunk = 4});
  d.append(4);
  EXPECT_EQ(dropped(d.reduce()), (ints{1}));
  d.append(3);
  EXPECT_EQ(dropped(d.reduce()), (ints{2, 3, 4}));
  EXPECT_EQ(kept(d), (ints{0, 5, 6}));
}

TEST(cycle, full_never_drops) {
  auto d = make(full{.budget = 5}, {.chunk = 5});
  d.append(5);
  EXPECT_EQ(dropped(d.reduce()), ints{});
  EXPECT_EQ(kept(d), (ints{0, 1, 2, 3, 4}));
}

TEST(cycle, memory_of_a_slot_starts_at_zero) {
  auto d = make(h2o{.budget = 2, .recent = 0});
  step(d, {1});
  step(d, {0.5f, 0.5f});
  step(d, {0.25f, 0.25f, 0.75f});  // scores 1.75, 0.75, 0.75: of equals the oldest
  EXPECT_EQ(kept(d), (ints{0, 2}));
  EXPECT_EQ(hole(d.last()), 1);
  d.append(1);
  EXPECT_EQ(d.column(0, 0)[1], 0.0f);
  EXPECT_EQ(d.column(0, 0)[0], 1.75f);
  EXPECT_EQ(d.column(0, 0)[2], 0.75f);
  observe(d, {0, 1, 0});
  d.reduce();
  EXPECT_EQ(kept(d), (ints{0, 3}));
}

TEST(cycle, memory_moves_with_its_slot) {
  auto d = make(h2o{.budget = 2, .recent = 0}, {.chunk = 4});
  d.append(4);
  const std::vector<float> sum{0.1f, 0.2f, 0.3f, 0.4f};
  d.observe(0, {.data = sum.data(), .stride = 4, .n = 4, .queries = 4, .heads = 1, .kind = rows_kind::sum});
  d.reduce();
  EXPECT_EQ(by_slot(d), (ints{3, 2}));
  EXPECT_EQ(d.column(0, 0)[0], 0.4f);
  EXPECT_EQ(d.column(0, 0)[1], 0.3f);
}

TEST(cycle, every_m_waits_with_slack) {
  auto d = make(window{.budget = 2}, {.every = 3});
  ints sizes;
  for (int t = 0; t < 9; ++t) {
    d.append(1);
    d.reduce();
    sizes.push_back(d.live(0));
  }
  EXPECT_EQ(sizes, (ints{1, 2, 3, 4, 2, 3, 4, 2, 3}));
  auto c = make(window{.budget = 2}, {.chunk = 4, .every = 3});
  c.append(2);
  c.reduce();
  c.append(4);
  EXPECT_EQ(dropped(c.reduce()), (ints{0, 1, 2, 3}));
}

TEST(cycle, one_shot_prompt_is_longer_than_capacity) {
  auto d = make(tova{.budget = 2}, {.prompt = 5});
  d.append(5);
  observe(d, {1, 5, 2, 4, 3});
  EXPECT_EQ(dropped(d.reduce()), (ints{0, 2, 4}));
  EXPECT_EQ(kept(d), (ints{1, 3}));
  step(d, {5, 5, 0});
  EXPECT_EQ(kept(d), (ints{1, 3}));
  EXPECT_EQ(d.next_position(), 6);
}

// -- rows

TEST(observe, folds_heads_into_lanes) {
  auto d = make(tova{.budget = 1}, {}, {.kv_heads = 2});
  d.append(1);
  observe(d, {1});
  observe(d, {1});
  d.reduce();
  d.append(1);
  observe(d, {0.9f, 0.1f});
  observe(d, {0.2f, 0.8f});  // sums 1.1 and 0.9
  d.reduce();
  EXPECT_EQ(kept(d), (ints{0}));
}

TEST(observe, heads_of_their_own_decide_for_themselves) {
  auto d = make(tova{.budget = 1, .scope = scope_kind::head}, {}, {.kv_heads = 2});
  d.append(1);
  observe(d, {1}, 0);
  observe(d, {1}, 1);
  d.reduce();
  d.append(1);
  observe(d, {0.9f, 0.1f}, 0);
  observe(d, {0.2f, 0.8f}, 1);
  const decision& r = d.reduce();
  EXPECT_EQ(dropped(r, 0), (ints{1}));
  EXPECT_EQ(dropped(r, 1), (ints{0}));
  EXPECT_EQ(kept(d, 0), (ints{0}));
  EXPECT_EQ(kept(d, 1), (ints{1}));
}

TEST(observe, rows_may_be_overwritten_before_the_reduction) {
  for (const scope_kind scope : {scope_kind::head, scope_kind::layer}) {
    auto d = make(tova{.budget = 2, .scope = scope}, {.chunk = 3});
    d.append(3);
    std::vector<float> row{0.5f, 0.1f, 0.4f};
    observe(d, row);
    row = {0, 1, 1};
    EXPECT_EQ(dropped(d.reduce()), (ints{1}));
  }
}

TEST(observe, layers_are_folded_at_scope_model) {
  auto d = make(tova{.budget = 1, .scope = scope_kind::model}, {}, {.layers = 3});
  d.append(1);
  for (int layer = 0; layer < 3; ++layer) observe(d, {1});
  d.reduce();
  d.append(1);
  observe(d, {0.9f, 0.1f});
  observe(d, {0.2f, 0.8f});
  observe(d, {0.2f, 0.8f});
  d.reduce();
  EXPECT_EQ(kept(d), (ints{1}));
}

TEST(observe, last_row_of_a_chunk_is_its_last_querys) {
  auto d = make(tova{.budget = 1}, {.chunk = 2});
  d.append(2);
  observe(d, {9, 0, 1, 2}, 0, 2);  // the first query's row does not count
  d.reduce();
  EXPECT_EQ(kept(d), (ints{1}));
}

TEST(observe, row_sum_adds_the_chunk_up) {
  for (const bool summed : {false, true}) {
    auto d = make(h2o{.budget = 1, .recent = 0}, {.chunk = 2});
    d.append(2);
    const std::vector<float> each{1, 0, 0.25f, 0.75f}, sum{1.25f, 0.75f};
    d.observe(0, {.data = summed ? sum.data() : each.data(),
                  .stride = 2,
                  .n = 2,
                  .queries = 2,
                  .heads = 1,
                  .kind = summed ? rows_kind::sum : rows_kind::each});
    d.reduce();
    EXPECT_EQ(kept(d), (ints{0}));
    EXPECT_EQ(d.column(0, 0)[0], 1.25f);
  }
}

TEST(observe, windows_ignore_rows) {
  auto d = make(window{.budget = 1});
  d.append(1);
  observe(d, {1});
  d.reduce();
  EXPECT_EQ(d.live(0), 1);
}

TEST(observe, nan_rows_go_first_and_break_nothing) {
  auto d = make(tova{.budget = 2}, {.chunk = 3});
  d.append(3);
  observe(d, {0.5f, std::numeric_limits<float>::quiet_NaN(), 0.1f});
  d.reduce();
  EXPECT_EQ(kept(d), (ints{0, 2}));
}

TEST(enter, hands_keys_to_the_policy_for_each_head_of_the_lane) {
  auto d = make(knorm{.budget = 2, .scope = scope_kind::layer}, {.chunk = 3}, {.kv_heads = 2});
  d.append(3);
  const std::vector<std::vector<float>> keys{{3}, {1}, {2}};
  for (int j = 0; j < 3; ++j)
    for (int h = 0; h < 2; ++h) d.enter(0, j, keys[static_cast<std::size_t>(j)], {}, {});
  EXPECT_EQ(d.column(0, 0)[0], -6.0f);
  EXPECT_EQ(dropped(d.reduce()), (ints{0}));
}

// -- held rows

TEST(hold, refused_tokens_and_their_rows_are_forgotten) {
  auto d = make(h2o{.budget = 3, .recent = 0}, {.chunk = 4, .hold = 4});
  d.append(2);
  observe(d, {1, 0, 0.5f, 0.5f}, 0, 2);
  d.reduce();
  d.append(3, phase::decode, true);
  observe(d, {0.25f, 0.25f, 0.5f, 0, 0, 0, 0, 0, 1, 0, 9, 9, 9, 9, 9}, 0, 3);
  const decision& r = d.reduce(1);
  EXPECT_EQ(d.next_position(), 3);
  EXPECT_EQ(live(r), 3);
  EXPECT_EQ(kept(d), (ints{0, 1, 2}));
  EXPECT_EQ(d.column(0, 0)[0], 1.75f);
  EXPECT_EQ(d.column(0, 0)[1], 0.75f);
  EXPECT_EQ(d.column(0, 0)[2], 0.5f);
}

TEST(hold, the_last_accepted_row_decides) {
  auto d = make(tova{.budget = 1}, {.chunk = 3, .hold = 3});
  d.append(3, phase::decode, true);
  observe(d, {1, 0, 0, 0.4f, 0.6f, 0, 0, 0, 1}, 0, 3);
  EXPECT_EQ(dropped(d.reduce(2)), (ints{0}));
  EXPECT_EQ(kept(d), (ints{1}));
}

TEST(hold, accepting_none_leaves_everything_as_before) {
  auto d = make(h2o{.budget = 2, .recent = 0}, {.chunk = 2, .hold = 2});
  d.append(1);
  observe(d, {1});
  d.reduce();
  std::vector<std::byte> before(d.save_bytes());
  d.save(before);
  d.append(2, phase::decode, true);
  observe(d, {0.5f, 0.5f, 0, 0.2f, 0.3f, 0.5f}, 0, 2);
  d.reduce(0);
  std::vector<std::byte> after(d.save_bytes());
  d.save(after);
  EXPECT_EQ(before, after);
  EXPECT_EQ(d.next_position(), 1);
}

TEST(hold, tokens_that_are_not_held_go_on_as_ever) {
  auto d = make(h2o{.budget = 2, .recent = 0}, {.chunk = 4, .hold = 2});
  d.append(4);
  const std::vector<float> sum{0.1f, 0.2f, 0.3f, 0.4f};
  d.observe(0, {.data = sum.data(), .stride = 4, .n = 4, .queries = 4, .heads = 1, .kind = rows_kind::sum});
  d.reduce();
  EXPECT_EQ(kept(d), (ints{2, 3}));
  d.append(2, phase::decode, true);
  observe(d, {1, 0, 0.5f, 0, 1, 0, 0, 0.25f}, 0, 2);
  d.reduce(1);
  EXPECT_EQ(d.next_position(), 5);
  EXPECT_EQ(by_slot(d), (ints{3, 4}));  // 2 stood at 0.3, 4 has 0.5
}

// -- undo

TEST(undo, brings_slots_and_memory_back) {
  auto d = make(h2o{.budget = 2, .recent = 0}, {.undo = 3});
  step(d, {1});
  step(d, {0.5f, 0.5f});
  const ints before = by_slot(d);
  const std::vector<float> memory(d.column(0, 0).begin(), d.column(0, 0).end());
  step(d, {0.5f, 0.2f, 0.3f});  // drops 2, which is topmost
  step(d, {0.1f, 0.1f, 3});     // drops 1: 3 moves into its slot
  EXPECT_EQ(kept(d), (ints{0, 3}));
  EXPECT_EQ(moves(d.last()), (pairs{{2, 1}}));
  ASSERT_TRUE(d.undo(2));
  EXPECT_EQ(by_slot(d), before);
  EXPECT_EQ(std::vector<float>(d.column(0, 0).begin(), d.column(0, 0).end()), memory);
  EXPECT_EQ(d.next_position(), 2);
  EXPECT_EQ(moves(d.last()), (pairs{{1, 2}, {-1, 1}, {-1, 2}}));
  EXPECT_EQ(live(d.last()), 2);
}

TEST(undo, takes_back_whole_cycles_only) {
  auto d = make(window{.budget = 4}, {.chunk = 3, .undo = 5});
  for (const int c : {1, 3, 2}) {
    d.append(c);
    d.reduce();
  }
  EXPECT_FALSE(d.undo(0));
  EXPECT_FALSE(d.undo(-1));
  EXPECT_FALSE(d.undo(1));
  EXPECT_FALSE(d.undo(3));
  EXPECT_FALSE(d.undo(6));  // more than limits.undo
  EXPECT_EQ(d.next_position(), 6);
  ASSERT_TRUE(d.undo(2));
  EXPECT_EQ(kept(d), (ints{0, 1, 2, 3}));
  ASSERT_TRUE(d.undo(3));
  EXPECT_EQ(kept(d), (ints{0}));
  EXPECT_FALSE(d.undo(1));
}

TEST(undo, a_cycle_longer_than_the_limit_ends_what_can_be_undone) {
  auto d = make(window{.budget = 4}, {.chunk = 4, .undo = 3});
  d.append(1);
  d.reduce();
  d.append(4);
  d.reduce();
  EXPECT_FALSE(d.undo(4));
  EXPECT_FALSE(d.undo(1));
}

TEST(undo, counts_every_again) {
  auto d = make(window{.budget = 2}, {.undo = 2, .every = 3});
  for (int t = 0; t < 5; ++t) {
    d.append(1);
    d.reduce();
  }
  EXPECT_EQ(d.live(0), 2);
  ASSERT_TRUE(d.undo(2));
  EXPECT_EQ(d.live(0), 3);
  ints sizes;
  for (int t = 0; t < 3; ++t) {
    d.append(1);
    d.reduce();
    sizes.push_back(d.live(0));
  }
  EXPECT_EQ(sizes, (ints{4, 2, 3}));
}

TEST(undo, a_one_shot_prompt_stays) {
  auto d = make(window{.budget = 2}, {.undo = 8, .prompt = 5});
  d.append(5);
  d.reduce();
  EXPECT_FALSE(d.undo(5));
  d.append(1);
  d.reduce();
  EXPECT_TRUE(d.undo(1));
  EXPECT_EQ(kept(d), (ints{3, 4}));
}

TEST(undo, none_without_a_limit) {
  auto d = make(window{.budget = 2});
  d.append(1);
  d.reduce();
  EXPECT_FALSE(d.undo(1));
}

// -- pins

TEST(pin, stays_until_unpinned) {
  auto d = make(window{.budget = 2});
  step(d, {});
  EXPECT_TRUE(d.pin(0, 1));
  for (int t = 0; t < 3; ++t) step(d, {});
  EXPECT_EQ(kept(d), (ints{0, 3}));
  EXPECT_FALSE(d.unpin(0, 2));
  EXPECT_TRUE(d.unpin(0, 1));
  EXPECT_FALSE(d.unpin(0, 1));
  step(d, {});
  EXPECT_EQ(kept(d), (ints{3, 4}));
}

TEST(pin, refused_or_released_leaves_nothing_behind) {
  const auto saved = [](const auto& d) {
    std::vector<std::byte> bytes(d.save_bytes());
    d.save(bytes);
    return bytes;
  };
  auto untouched = make(window{.budget = 2}, {});
  auto d = make(window{.budget = 2}, {});
  EXPECT_FALSE(d.pin(0, 3));
  EXPECT_EQ(saved(d), saved(untouched));
  EXPECT_TRUE(d.pin(0, 1));
  EXPECT_TRUE(d.unpin(0, 1));
  EXPECT_EQ(saved(d), saved(untouched));
}

TEST(pin, goes_back_to_what_it_was_when_an_undone_cycle_began) {
  auto d = make(window{.budget = 4}, {.undo = 2});
  d.append(1);
  d.reduce();
  EXPECT_TRUE(d.pin(0, 1));
  ASSERT_TRUE(d.undo(1));
  EXPECT_FALSE(d.unpin(0, 1));
}

TEST(pin, counts_against_the_budget) {
  auto d = make(window{.budget = 4, .sinks = 1}, {.chunk = 4});
  d.append(4);
  d.reduce();
  EXPECT_FALSE(d.pin(0, 5));  // 0 is a sink, 1 to 3 live, 4 to come
  EXPECT_TRUE(d.pin(0, 4));
  EXPECT_FALSE(d.pin(4, 5));
  EXPECT_TRUE(d.pin(1, 3));  // once more the same ones
  EXPECT_TRUE(d.unpin(0, 4));
  EXPECT_TRUE(d.pin(4, 5));
  EXPECT_FALSE(d.pin(5, 6));
}

TEST(pin, refuses_what_is_no_range_and_too_many) {
  auto d = make(window{.budget = 20});
  EXPECT_FALSE(d.pin(-1, 2));
  EXPECT_FALSE(d.pin(3, 3));
  EXPECT_FALSE(d.pin(3, 2));
  for (int i = 0; i < decider<window>::max_pins; ++i) EXPECT_TRUE(d.pin(2 * i, 2 * i + 1));
  EXPECT_FALSE(d.pin(100, 101));
}

TEST(pin, of_everything_to_come_is_more_than_any_budget) {
  constexpr position end = std::numeric_limits<position>::max();
  auto d = make(window{.budget = 8, .sinks = 4});
  EXPECT_FALSE(d.pin(0, end));
  EXPECT_FALSE(d.pin(5, end));
  auto h = make(h2o{.budget = 8});
  EXPECT_FALSE(h.pin(0, end));
}

TEST(pin, of_tokens_that_are_gone_costs_nothing) {
  auto d = make(window{.budget = 2}, {.chunk = 4});
  d.append(4);
  d.reduce();
  EXPECT_TRUE(d.pin(0, 2));
  EXPECT_TRUE(d.pin(2, 4));
  EXPECT_FALSE(d.pin(4, 5));
}

TEST(pin, is_counted_in_the_smallest_lane) {
  auto d = decider<tova>::make({.budget = 8, .scope = scope_kind::head}, {.kv_heads = 2}, {}, ints{8, 2}).value();
  EXPECT_TRUE(d.pin(0, 2));
  EXPECT_FALSE(d.pin(2, 3));
}

TEST(pin, is_taken_back_with_the_cycle_before_it) {
  auto d = make(window{.budget = 2}, {.undo = 2});
  step(d, {});
  EXPECT_TRUE(d.pin(0, 1));
  step(d, {});
  EXPECT_TRUE(d.unpin(0, 1));
  ASSERT_TRUE(d.undo(1));
  EXPECT_TRUE(d.unpin(0, 1));  // pinned again, as before that cycle
}

// -- rows that change nothing

TEST(needs_rows, when_something_will_be_dropped_or_remembered) {
  auto t = make(tova{.budget = 2}, {.every = 2});
  std::vector<bool> asked;
  for (int i = 0; i < 6; ++i) {
    t.append(1);
    asked.push_back(t.needs_rows());
    if (asked.back()) observe(t, std::vector<float>(static_cast<std::size_t>(t.live(0)), 1.0f));
    t.reduce();
  }
  EXPECT_EQ(asked, (std::vector<bool>{false, false, false, true, false, true}));
  auto h = make(h2o{.budget = 2});
  h.append(1);
  EXPECT_TRUE(h.needs_rows());
  auto w = make(window{.budget = 1});
  w.append(1);
  w.reduce();
  w.append(1);
  EXPECT_FALSE(w.needs_rows());
}

TEST(restart, forgets_everything) {
  auto d = make(h2o{.budget = 2, .recent = 0}, {.undo = 2}, {.layers = 3}),
       fresh = make(h2o{.budget = 2, .recent = 0}, {.undo = 2}, {.layer = 2, .layers = 3});
  for (int t = 0; t < 3; ++t) step(d, std::vector<float>(static_cast<std::size_t>(std::min(t + 1, 3)), 1.0f));
  EXPECT_TRUE(d.pin(0, 1));
  d.restart(2);
  EXPECT_EQ(d.where().layer, 2);
  EXPECT_EQ(d.live(0), 0);
  EXPECT_EQ(live(d.last()), 0);
  EXPECT_FALSE(d.undo(1));
  EXPECT_FALSE(d.unpin(0, 1));
  for (auto* each : {&d, &fresh}) {
    step(*each, {1});
    step(*each, {0.5f, 0.5f});
    step(*each, {0.5f, 0.25f, 0.25f});
  }
  EXPECT_EQ(by_slot(d), by_slot(fresh));
  for (int c = 0; c < 2; ++c)
    for (std::size_t s = 0; s < 2; ++s) EXPECT_EQ(d.column(0, c)[s], fresh.column(0, c)[s]);
}

// -- what there is

TEST(ranges, of_positions_and_ranks) {
  auto d = make(tova{.budget = 4}, {.chunk = 8});
  d.append(8);
  observe(d, {9, 9, 0, 0, 9, 0, 0, 9});
  d.reduce();
  std::vector<position_range> r(8);
  ASSERT_EQ(d.kept_ranges(0, r), 3u);
  EXPECT_EQ(r[0], (position_range{0, 2}));
  EXPECT_EQ(r[1], (position_range{4, 5}));
  EXPECT_EQ(r[2], (position_range{7, 8}));
  std::vector<rank_range> k(8);
  ASSERT_EQ(d.kept_ranks(0, k), 3u);  // the first reduction: ranks were positions
  EXPECT_EQ(k[0], (rank_range{0, 2}));
  EXPECT_EQ(k[2], (rank_range{7, 8}));
  d.append(2);
  observe(d, {9, 0, 9, 0, 9, 9});  // by slot: 0, 1, 7, 4 or so; whatever they are, two go
  d.reduce();
  const ints now = kept(d);
  ASSERT_EQ(now.size(), 4u);
  const std::size_t runs = d.kept_ranks(0, k);
  ints ranks;
  const ints before{0, 1, 4, 7, 8, 9};
  for (std::size_t i = 0; i < runs; ++i)
    for (int rank = k[i].first; rank < k[i].last; ++rank) ranks.push_back(before[static_cast<std::size_t>(rank)]);
  EXPECT_EQ(ranks, now);
  std::vector<position_range> one(1);
  EXPECT_EQ(d.kept_ranges(0, one), d.kept_ranges(0, r));  // the number there are, though only one fits
  EXPECT_EQ(one[0], r[0]);
}

TEST(ranks, by_slot) {
  auto d = make(tova{.budget = 3});
  for (int t = 0; t < 3; ++t) step(d, std::vector<float>(static_cast<std::size_t>(t + 1), 1.0f));
  step(d, {0, 1, 1, 1});
  d.append(1);  // slot 0 holds the newest
  std::vector<std::uint32_t> r(4);
  d.ranks(0, r);
  EXPECT_EQ(r, (std::vector<std::uint32_t>{3, 0, 1, 2}));
}

TEST(rank_order, fills_what_fits) {
  auto d = make(window{.budget = 3}, {.chunk = 3});
  d.append(3);
  d.reduce();
  std::vector<slot> two(2);
  EXPECT_EQ(d.rank_order(0, two), 3u);
  EXPECT_EQ(index(two[1]), 1u);
}

}  // namespace
