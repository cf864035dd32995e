#include <multistate/policies.hpp>

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace {

using namespace multistate;

/// What was done wrong must have left everything as it was.
template <policy P>
struct snapshot {
  std::vector<std::vector<position>> kept;
  position next;

  explicit snapshot(const decider<P>& d) : next(d.next_position()) {
    for (int lane = 0; lane < d.lanes(); ++lane) kept.emplace_back(d.positions(lane).begin(), d.positions(lane).end());
  }
  bool operator==(const snapshot&) const = default;
};

template <policy P>
void expect_refused(decider<P>& d, const multistate::decision& decision, fault_kind why) {
  EXPECT_EQ(decision.fault, why);
  EXPECT_EQ(d.fault(), why);
  for (int lane = 0; lane < d.lanes(); ++lane) {
    const lane_decision& x = decision.lanes[static_cast<std::size_t>(lane)];
    EXPECT_TRUE(x.dropped.empty() && x.dropped_positions.empty() && x.moves.empty());
    EXPECT_EQ(x.live, d.live(lane));
    EXPECT_TRUE(d.slots(lane).empty());
  }
}

const std::array<float, 16> row = {.5f, .1f, .2f, .3f, .4f, .5f, .6f, .7f, .8f};

template <policy P>
void observe(decider<P>& d, int lane) {
  d.observe(lane, {.data = row.data(), .n = d.live(lane)});
}
template <policy P>
const decision& token(decider<P>& d) {
  d.append(1);
  for (int lane = 0; lane < d.lanes(); ++lane) observe(d, lane);
  return d.reduce();
}

decider<h2o> eight_lanes() { return decider<h2o>::make({.budget = 4}, {.kv_heads = 8}).value(); }

TEST(fault, a_reduction_of_lanes_that_were_not_observed_drops_nothing) {
  auto d = eight_lanes(), right = eight_lanes();
  for (int t = 0; t < 6; ++t) token(d), token(right);
  d.append(1);
  observe(d, 0);
  const snapshot before(d);
  expect_refused(d, d.reduce(), fault_kind::lane_not_observed);
  for (int t = 0; t < 20; ++t) {  // an engine that does not look goes on, and nothing happens
    expect_refused(d, d.append(1), fault_kind::lane_not_observed);
    EXPECT_FALSE(d.needs_rows());
    observe(d, 0);
    expect_refused(d, d.reduce(), fault_kind::lane_not_observed);
    expect_refused(d, d.close(), fault_kind::lane_not_observed);
    EXPECT_FALSE(d.undo(1) || d.pin(0, 1) || d.unpin(0, 1));
  }
  EXPECT_EQ(snapshot(d), before);

  d.clear_fault();
  EXPECT_EQ(d.last().fault, fault_kind::none);
  EXPECT_EQ(d.slots(3).size(), 1u);
  expect_refused(d, d.reduce(), fault_kind::lane_not_observed);  // still
  d.clear_fault();
  for (int lane = 1; lane < 8; ++lane) observe(d, lane);
  EXPECT_EQ(d.reduce().fault, fault_kind::none);
  token(right);
  EXPECT_EQ(snapshot(d), snapshot(right));
  EXPECT_EQ(d.moment(), right.moment());
  EXPECT_EQ(token(d).lanes[7].dropped_positions[0], token(right).lanes[7].dropped_positions[0]);
}

TEST(fault, the_first_token_counts) {
  auto d = eight_lanes();
  d.append(1);
  expect_refused(d, d.reduce(), fault_kind::lane_not_observed);
  d.restart(0);
  EXPECT_EQ(token(d).fault, fault_kind::none);
}

TEST(fault, rows_that_do_not_matter_may_be_missing) {
  auto d = decider<tova>::make({.budget = 3, .scope = scope_kind::head}, {.kv_heads = 2}).value();
  for (int t = 0; t < 3; ++t) {
    d.append(1);
    EXPECT_EQ(d.reduce().fault, fault_kind::none);
  }
  d.append(1);
  expect_refused(d, d.reduce(), fault_kind::lane_not_observed);
}

TEST(fault, a_layer_that_was_not_observed) {
  auto d = decider<tova>::make({.budget = 1, .scope = scope_kind::model}, {.kv_heads = 1, .layers = 3}).value();
  d.append(1);
  d.reduce();
  d.append(1);
  observe(d, 0), observe(d, 0);
  expect_refused(d, d.reduce(), fault_kind::lane_not_observed);
  d.clear_fault();
  observe(d, 0);
  EXPECT_EQ(d.reduce().lanes[0].dropped.size(), 1u);
}

TEST(fault, held_rows) {
  auto d =
      decider<tova>::make({.budget = 2, .scope = scope_kind::head}, {.kv_heads = 2}, {.chunk = 3, .hold = 3}).value();
  d.append(3, phase::decode, true);
  d.observe(1, {.data = row.data(), .stride = 3, .n = 3, .queries = 3});
  const snapshot before(d);
  expect_refused(d, d.reduce(3), fault_kind::lane_not_observed);
  EXPECT_EQ(snapshot(d), before);
  d.clear_fault();
  EXPECT_EQ(d.reduce(0).fault, fault_kind::none);  // none stay: nothing to decide
  EXPECT_EQ(d.next_position(), 0);
}

TEST(fault, a_lane_of_one_head_has_one_row) {
  auto d = eight_lanes();
  d.append(1);
  for (int h = 0; h < 8; ++h) observe(d, 0);
  expect_refused(d, d.reduce(), fault_kind::lane_observed_twice);
  EXPECT_FLOAT_EQ(d.column(0, 0)[0], row[0]);
}

TEST(fault, rows_of_something_else) {
  for (const auto& [lane, r] : std::vector<std::pair<int, rows>>{{8, {.data = row.data(), .n = 1}},
                                                                 {-1, {.data = row.data(), .n = 1}},
                                                                 {0, {.data = row.data(), .n = 2}},
                                                                 {0, {.data = row.data(), .n = 0}},
                                                                 {0, {.data = row.data(), .n = 1, .queries = 2}},
                                                                 {0, {.data = row.data(), .n = 1, .queries = 0}}}) {
    auto d = eight_lanes();
    d.append(1);
    d.observe(lane, r);
    expect_refused(d, d.reduce(), fault_kind::wrong_row);
    expect_refused(d, d.append(1), fault_kind::wrong_row);
  }
}

TEST(fault, one_row_for_many_queries) {
  const std::vector<float> weights(2, 0.5f);
  const auto observed = [&](auto d, rows_kind kind, bool held) {
    d.append(2, phase::decode, held);
    d.observe(0, {.data = weights.data(), .n = 2, .queries = 2, .kind = kind});
    return d.fault();
  };
  const limits room{.chunk = 2, .hold = 2};
  const auto sums = [&] { return decider<h2o>::make({.budget = 2}, {}, room).value(); };
  const auto lasts = [&] { return decider<tova>::make({.budget = 2}, {}, room).value(); };
  EXPECT_EQ(observed(sums(), rows_kind::sum, false), fault_kind::none);
  EXPECT_EQ(observed(sums(), rows_kind::last, false), fault_kind::wrong_row);
  EXPECT_EQ(observed(lasts(), rows_kind::last, false), fault_kind::none);
  EXPECT_EQ(observed(lasts(), rows_kind::sum, false), fault_kind::wrong_row);
  // Held rows wait one by one.
  EXPECT_EQ(observed(sums(), rows_kind::sum, true), fault_kind::wrong_row);
  EXPECT_EQ(observed(lasts(), rows_kind::last, true), fault_kind::wrong_row);
}

TEST(fault, calls_out_of_order) {
  auto d = eight_lanes();
  const snapshot empty(d);
  expect_refused(d, d.reduce(), fault_kind::out_of_order);
  d.clear_fault();
  observe(d, 0);
  EXPECT_EQ(d.fault(), fault_kind::out_of_order);
  d.clear_fault();
  EXPECT_EQ(snapshot(d), empty);
  for (int t = 0; t < 100; ++t) d.append(1);  // reduce() forgotten: no lane overflows
  EXPECT_EQ(d.fault(), fault_kind::out_of_order);
  EXPECT_EQ(d.live(7), 1);
  d.clear_fault();
  expect_refused(d, d.close(), fault_kind::out_of_order);
}

TEST(fault, tokens_there_is_no_room_for) {
  auto d = decider<tova>::make({.budget = 4}, {}, {.chunk = 2, .hold = 1}).value();
  for (const auto& [c, held] : std::vector<std::pair<int, bool>>{{0, false}, {-1, false}, {3, false}, {2, true}}) {
    expect_refused(d, d.append(c, phase::decode, held), fault_kind::wrong_count);
    d.clear_fault();
  }
  d.append(2);
  expect_refused(d, d.reduce(1), fault_kind::wrong_count);  // not held
  d.clear_fault();
  expect_refused(d, d.reduce(3), fault_kind::wrong_count);
  auto f = decider<full>::make({.budget = 3}, {}).value();
  for (int t = 0; t < 10; ++t) f.append(1), f.reduce();
  EXPECT_EQ(f.fault(), fault_kind::wrong_count);
  EXPECT_EQ(f.live(0), 3);
}

TEST(fault, copies_are_of_what_is_whole) {
  auto d = eight_lanes(), other = eight_lanes();
  token(other);
  d.append(1);
  EXPECT_FALSE(other.copy_from(d));
  std::vector<std::byte> saved(d.save_bytes());
  d.save(saved);
  EXPECT_EQ(other.load(saved).code(), errc::bad_input);
  EXPECT_EQ(other.next_position(), 1);
  d.reduce();
  EXPECT_EQ(d.fault(), fault_kind::lane_not_observed);
  EXPECT_FALSE(other.take_over(d));
  EXPECT_TRUE(d.copy_from(other));  // ends what was wrong with it
  EXPECT_EQ(token(d).fault, fault_kind::none);
}

TEST(fault, each_has_a_message) {
  for (int f = 0; f <= static_cast<int>(fault_kind::no_reader); ++f)
    EXPECT_NE(message(static_cast<fault_kind>(f)), message(static_cast<fault_kind>(99))) << f;
}

}  // namespace
