#include <multistate/policies.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include <support/busy_policy.hpp>
#include <support/random.hpp>

namespace {

using namespace multistate;
using support::generator;

using bytes = std::vector<std::byte>;

template <policy P>
bytes saved(const decider<P>& d) {
  bytes out(d.save_bytes());
  d.save(out);
  return out;
}

/// One cycle of c tokens with rows and keys that depend on nothing but the generator.
template <policy P>
void step(decider<P>& d, generator& g, int c = 1) {
  d.append(c);
  for (int lane = 0; lane < d.lanes(); ++lane) {
    const auto n = static_cast<std::size_t>(d.live(lane)), queries = static_cast<std::size_t>(c);
    std::vector<float> row(n * queries), key(3);
    for (float& x : row) x = static_cast<float>(g.uniform());
    for (int j = 0; j < c; ++j) {
      for (float& x : key) x = static_cast<float>(g.normal());
      d.enter(lane, j, key, key, key);
    }
    d.observe(lane,
              {.data = row.data(), .stride = n, .n = d.live(lane), .queries = c, .heads = 1, .kind = rows_kind::each});
  }
  d.reduce();
}

template <class P>
class copies : public testing::Test {};
using all = testing::Types<full, window, h2o, tova, knorm, multistate::random_choice, foreign::busy>;
TYPED_TEST_SUITE(copies, all);

template <policy P>
decider<P> make(const limits& room = {.chunk = 3}, int budget = 6) {
  P p;
  p.budget = std::is_same_v<P, full> ? 200 : budget;
  p.scope = scope_kind::head;
  return decider<P>::make(p, {.kv_heads = 2}, room).value();
}

TYPED_TEST(copies, a_fork_goes_on_independently) {
  for (const limits& room : {limits{.chunk = 3}, limits{.chunk = 3, .undo = 4}}) {
    generator g(1);
    auto a = make<TypeParam>(room), b = make<TypeParam>(room);
    for (int t = 0; t < 20; ++t) step(a, g, g.between(1, 3));
    step(a, g);  // with a hole, where holes can be
    step(b, g);
    ASSERT_TRUE(b.copy_from(a));
    EXPECT_EQ(saved(a), saved(b));
    EXPECT_EQ(b.last().lanes.size(), 2u);
    EXPECT_EQ(b.last().lanes[1].live, b.live(1));
    const bytes before = saved(a);
    generator h = g;
    for (int t = 0; t < 10; ++t) step(b, g);
    EXPECT_EQ(saved(a), before);
    for (int t = 0; t < 10; ++t) step(a, h);
    EXPECT_EQ(saved(a), saved(b));
    EXPECT_EQ(a.undo(4), room.undo >= 4);
    EXPECT_EQ(b.undo(4), room.undo >= 4);
    EXPECT_EQ(saved(a), saved(b));
  }
}

TYPED_TEST(copies, a_fork_undoes_what_came_before_it) {
  const limits room{.chunk = 2, .undo = 5};
  generator g(2);
  auto a = make<TypeParam>(room), b = make<TypeParam>(room);
  for (int t = 0; t < 12; ++t) step(a, g);
  const bytes before = saved(a);
  step(a, g, 2);
  step(a, g);
  ASSERT_TRUE(b.copy_from(a));
  ASSERT_TRUE(b.undo(3));
  EXPECT_EQ(saved(b), before);
  EXPECT_NE(saved(a), before);
}

TYPED_TEST(copies, a_saved_state_goes_on_identically) {
  for (const limits& room : {limits{.chunk = 3, .every = 4}, limits{.chunk = 3, .undo = 4}}) {
    generator g(3);
    auto a = make<TypeParam>(room), b = make<TypeParam>(room);
    for (int t = 0; t < 21; ++t) step(a, g, g.between(1, 3));
    ASSERT_TRUE(a.pin(a.next_position() + 2, a.next_position() + 3));
    const bytes file = saved(a);
    const error e = b.load(file);
    ASSERT_EQ(e.code(), errc::ok) << e.message();
    EXPECT_EQ(saved(b), file);
    generator h = g;
    for (int t = 0; t < 15; ++t) step(a, g);
    for (int t = 0; t < 15; ++t) step(b, h);
    EXPECT_EQ(saved(a), saved(b));
  }
}

TYPED_TEST(copies, a_broken_file_is_refused_and_changes_nothing) {
  generator g(4);
  const limits room{.chunk = 3, .every = 3};
  auto a = make<TypeParam>(room), b = make<TypeParam>(room);
  for (int t = 0; t < 9; ++t) step(a, g, 2);
  for (int t = 0; t < 5; ++t) step(b, g);
  const bytes file = saved(a), before = saved(b);
  for (std::size_t n = 0; n < file.size(); ++n) {
    EXPECT_EQ(b.load(std::span(file).first(n)).code(), errc::bad_input) << n;
    ASSERT_EQ(saved(b), before) << n;
  }
  bytes longer = file;
  longer.push_back(std::byte{0});
  EXPECT_EQ(b.load(longer).message(), std::string(TypeParam::name) + ": saved state can't be used: it is too long");
  EXPECT_EQ(saved(b), before);
}

constexpr std::size_t names_end = 24;

/// Any file: loaded or not, the decider works on.
TYPED_TEST(copies, hostile_files_do_no_harm) {
  generator g(5);
  const limits room{.chunk = 2, .every = 3};
  auto a = make<TypeParam>(room);
  for (int t = 0; t < 30; ++t) step(a, g, g.between(1, 2));
  const bytes file = saved(a);
  int loaded = 0;
  for (int round = 0; round < 3000; ++round) {
    bytes hostile = file;
    for (int i = g.between(1, 3); i > 0; --i) {
      const auto at = names_end + g.next() % (hostile.size() - names_end);  // header and fingerprint stay
      hostile[at] = static_cast<std::byte>(
          g.chance(50) ? g.next() & 0xff : std::to_integer<std::uint64_t>(hostile[at]) ^ (1u << (g.next() & 7)));
    }
    auto b = make<TypeParam>(room);
    if (b.load(hostile).code() != errc::ok) continue;
    ++loaded;
    ASSERT_EQ(b.save_bytes(), hostile.size());
    if (b.next_position() > std::numeric_limits<position>::max() / 2) continue;  // see the_end_of_positions
    for (int t = 0; t < 8; ++t) {
      step(b, g, g.between(1, 2));
      for (int lane = 0; lane < 2; ++lane) {
        ASSERT_LE(b.live(lane), b.budget(lane) + room.slack()) << "round " << round;
        std::vector<slot> order(static_cast<std::size_t>(b.live(lane)));
        ASSERT_EQ(b.rank_order(lane, order), order.size());
      }
    }
  }
  EXPECT_GT(loaded, 0);
}

TEST(copies, files_of_other_kinds_versions_and_byte_orders_are_refused) {
  auto a = make<tova>(), b = make<tova>();
  const bytes file = saved(a);
  const auto with = [&](std::size_t at, std::initializer_list<int> values) {
    bytes other = file;
    for (const int v : values) other[at++] = static_cast<std::byte>(v);
    return std::string(b.load(other).message());
  };
  const std::string begin = "tova: saved state can't be used: ";
  EXPECT_EQ(with(0, {'m', 's', 'S', 'T', 'A', 'T', 'E', 'S'}), begin + "it does not begin with msDECIDE");
  EXPECT_EQ(with(12, {1, 0, 0, 0}), begin + "its format is version 1, this library reads version 2");
  EXPECT_EQ(with(12, {0, 0, 0, 0}), begin + "its format is version 0, this library reads version 2");
  EXPECT_EQ(with(8, {9}), begin + "its byte order is none");
  bytes swapped = file;
  for (const std::size_t at : {8u, 12u}) std::reverse(swapped.begin() + at, swapped.begin() + at + 4);
  EXPECT_EQ(b.load(swapped).message(), begin + "it was saved on a machine of the other byte order");
}

TEST(copies, refused_when_not_made_alike) {
  auto a = make<tova>();
  EXPECT_FALSE((a.copy_from(make<tova>({.chunk = 4}))));
  EXPECT_FALSE((a.copy_from(make<tova>({.chunk = 3}, 7))));
  auto pinned =
      decider<tova>::make({.budget = 6, .scope = scope_kind::head, .pinned = 1}, {.kv_heads = 2}, {.chunk = 3}).value();
  EXPECT_FALSE(a.copy_from(pinned));
  EXPECT_EQ(a.load(saved(pinned)).message(),
            "tova: saved state can't be used: it was made with another policy, other settings or sizes");
  EXPECT_TRUE((a.copy_from(make<tova>())));
  EXPECT_EQ(make<knorm>().load(saved(make<h2o>())).code(), errc::bad_input);
}

// What a file of `window`, one lane, holds: header, fingerprint, moment, next position, prompt, hand-over, pins, 8
// ranges, then budget, live, hole, positions by slot, slots by rank.
constexpr std::size_t moment_at = 24, next_at = 32, prompt_at = 40, pins_at = 56, ranges_at = 60,
                      budget_at = ranges_at + 8 * 16, live_at = budget_at + 4;

decider<window> one_lane(const limits& room, int budget = 4) {
  return decider<window>::make({.budget = budget}, {}, room).value();
}
bytes after(decider<window>& d, int tokens) {
  for (int t = 0; t < tokens; ++t) {
    d.append(1);
    d.reduce();
  }
  return saved(d);
}
template <class T>
void put(bytes& file, std::size_t at, T value) {
  ASSERT_LE(at + sizeof value, file.size());
  std::memcpy(file.data() + at, &value, sizeof value);
}

TEST(hostile, more_states_than_a_reduction_can_have_left) {
  auto a = one_lane({.every = 4});
  bytes file = after(a, 7);  // a budget of 4 and a slack of 3, all waiting for the next reduction
  ASSERT_EQ(a.live(0), 7);
  put(file, live_at, std::int32_t{8});
  auto b = one_lane({.every = 4});
  EXPECT_EQ(b.load(file).code(), errc::bad_input) << "one more would have been reduced";
}

TEST(hostile, states_at_the_moment_of_empty_lanes) {
  auto a = one_lane({});
  generator g(1);
  step(a, g);
  bytes file = saved(a);
  std::fill_n(file.begin() + moment_at, 8, std::byte{0});  // would go together with the states of any other moment
  EXPECT_EQ(one_lane({}).load(file).code(), errc::bad_input);
}

TEST(hostile, pins_of_everything) {
  auto a = one_lane({});
  bytes file = after(a, 4);
  for (std::int32_t pins = 1; pins <= 8; ++pins) {
    put(file, pins_at, pins);
    for (std::size_t i = 0; i < 8; ++i)
      put(file, ranges_at + 16 * i, position_range{0, std::numeric_limits<position>::max()});
    auto b = one_lane({});
    EXPECT_EQ(b.load(file).code(), errc::bad_input) << pins;
  }
}

TEST(hostile, the_end_of_positions) {
  auto a = one_lane({});
  bytes file = after(a, 4);
  put(file, next_at, std::numeric_limits<position>::max());
  auto b = one_lane({});
  EXPECT_EQ(b.load(file).code(), errc::bad_input) << "the next token would have no position";
}

TEST(hostile, counts_positions_and_holes_out_of_range) {
  auto a = one_lane({});
  const bytes file = after(a, 5);
  const auto refused = [&](std::size_t at, auto value) {
    bytes hostile = file;
    put(hostile, at, value);
    auto b = one_lane({});
    return b.load(hostile).code() == errc::bad_input && b.live(0) == 0;
  };
  EXPECT_TRUE(refused(next_at, position{-1}));
  EXPECT_TRUE(refused(next_at, position{4}));
  EXPECT_TRUE(refused(prompt_at, position{6}));
  EXPECT_TRUE(refused(prompt_at, position{-1}));
  EXPECT_TRUE(refused(prompt_at + 8, position{6}));
  EXPECT_TRUE(refused(budget_at, std::int32_t{0}));
  EXPECT_TRUE(refused(budget_at, std::int32_t{5}));
  EXPECT_TRUE(refused(pins_at, std::int32_t{9}));
  EXPECT_TRUE(refused(pins_at, std::int32_t{-1}));
  EXPECT_TRUE(refused(ranges_at, position_range{3, 2}));
  EXPECT_TRUE(refused(ranges_at, position_range{-3, 2}));
  EXPECT_TRUE(refused(live_at, std::int32_t{-1}));
  EXPECT_TRUE(refused(live_at, std::int32_t{5}));
  EXPECT_TRUE(refused(live_at, std::int32_t{2147483647}));
  EXPECT_TRUE(refused(live_at + 4, std::uint32_t{4}));
  EXPECT_TRUE(refused(live_at + 4, static_cast<std::uint32_t>(parked)));
  EXPECT_TRUE(refused(live_at + 8 + 8, position{99}));  // slot 1; slot 0 is the hole
  EXPECT_TRUE(refused(file.size() - 4, std::uint32_t{77}));
  EXPECT_TRUE(refused(file.size() - 4, std::uint32_t{0}));  // a slot twice, or the hole
}

TEST(take_over, positions_slots_and_pins_and_no_memory) {
  generator g(6);
  auto a = decider<h2o>::make({.budget = 6, .scope = scope_kind::layer}, {.kv_heads = 2}, {.chunk = 8}).value();
  step(a, g, 8);
  ASSERT_TRUE(a.pin(7, 8));
  auto b =
      decider<foreign::busy>::make({.budget = 6, .scope = scope_kind::layer}, {.kv_heads = 2}, {.chunk = 2}).value();
  ASSERT_TRUE(b.take_over(a));
  EXPECT_EQ(b.next_position(), 8);
  ASSERT_EQ(b.positions(0).size(), a.positions(0).size());
  for (std::size_t s = 0; s < 6; ++s) EXPECT_EQ(b.positions(0)[s], a.positions(0)[s]);
  for (int c = 0; c < foreign::busy::columns; ++c)
    for (const float x : b.column(0, c)) EXPECT_EQ(x, 0.0f);
  EXPECT_TRUE(b.unpin(7, 8));
  EXPECT_FALSE(b.undo(1));
  step(b, g, 2);
  EXPECT_EQ(b.live(0), 6);
}

TEST(take_over, by_the_same_policy_keeps_the_memory) {
  generator g(7);
  auto prompt =
      decider<h2o>::make({.budget = 6, .scope = scope_kind::head}, {.kv_heads = 2}, {.chunk = 2, .prompt = 40}).value();
  step(prompt, g, 40);
  auto layer = decider<h2o>::make({.budget = 6, .scope = scope_kind::head}, {.kv_heads = 2}, {.chunk = 2}).value();
  ASSERT_TRUE(layer.take_over(prompt));
  for (int lane = 0; lane < 2; ++lane)
    for (int c = 0; c < 2; ++c)
      for (std::size_t s = 0; s < 6; ++s) EXPECT_EQ(layer.column(lane, c)[s], prompt.column(lane, c)[s]);
  generator h = g;
  for (int t = 0; t < 9; ++t) {
    step(layer, g);
    step(prompt, h);
  }
  for (int lane = 0; lane < 2; ++lane)
    EXPECT_TRUE(std::equal(layer.positions(lane).begin(), layer.positions(lane).end(), prompt.positions(lane).begin()));
}

TEST(take_over, refused_when_it_does_not_fit) {
  auto a = one_lane({.chunk = 4}, 4);
  a.append(4);
  a.reduce();
  auto heads = decider<tova>::make({.budget = 4, .scope = scope_kind::head}, {.kv_heads = 2}).value();
  EXPECT_FALSE(heads.take_over(a));
  auto less = decider<tova>::make({.budget = 3}, {}).value();
  EXPECT_FALSE(less.take_over(a));
  a.append(1);
  a.reduce();
  auto undoes = decider<tova>::make({.budget = 4}, {}, {.undo = 2}).value();
  EXPECT_FALSE(undoes.take_over(a)) << "it keeps no holes";
  a.close();
  EXPECT_TRUE(undoes.take_over(a));
}

TEST(take_over, states_beyond_the_budget_go_with_the_next_reduction) {
  auto a = one_lane({.chunk = 8}, 8);
  a.append(8);
  a.reduce();
  auto b = decider<window>::make({.budget = 5}, {}, {.every = 4}).value();
  ASSERT_TRUE(b.take_over(a));
  for (int t = 0; t < 12; ++t) {  // 5 + 3 states are there already: slots for one more, not for four
    b.append(1);
    ASSERT_LE(b.live(0), b.capacity(0));
    b.reduce();
    ASSERT_LE(b.live(0), b.budget(0) + b.room().slack());
  }
}

TEST(take_over, pins_fit_the_new_budget) {
  auto a = one_lane({.chunk = 4}, 4);
  a.append(4);
  a.reduce();
  ASSERT_TRUE(a.pin(0, 4));
  auto b = decider<tova>::make({.budget = 4, .newest = 1}, {}).value();
  if (!b.take_over(a)) return;  // refusing is right
  EXPECT_FALSE(b.unpin(0, 4)) << "four pinned, one newest and a budget of four: nothing could be dropped";
}

}  // namespace
