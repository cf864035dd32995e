#include <multistate/policies.hpp>
#include <multistate/state/multi_state.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <algorithm>
#include <string>
#include <type_traits>
#include <vector>

#include <support/random.hpp>
#include <support/replace_new.hpp>

namespace {

using namespace multistate;

/// A decision that owns its lists.
struct decided {
  std::vector<slot> dropped = {};
  std::vector<position> positions = {};
  std::vector<slot_move> moves = {};
  int live = 0;
  slot hole = no_slot;
  lane_decision lane() const {
    return {.dropped = dropped, .dropped_positions = positions, .moves = moves, .live = live, .hole = hole};
  }
};
template <class State>
void execute(State& state, const std::vector<decided>& lanes) {
  std::vector<lane_decision> list;
  for (const decided& d : lanes) list.push_back(d.lane());
  state.apply(decision{.lanes = list});
}

/// Key x, x + 0.5, ... and value -x, ... of state number x.
std::vector<float> key_of(float x, int dk) {
  std::vector<float> k(multistate::to_size(dk));
  for (std::size_t i = 0; i < k.size(); ++i) k[i] = x + 0.5f * static_cast<float>(i);
  return k;
}
std::vector<float> value_of(float x, int dv) {
  std::vector<float> v(multistate::to_size(dv));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = -x - 0.25f * static_cast<float>(i);
  return v;
}

template <class K, class V>
float at(const std::byte* row, std::size_t i) {
  typename K::element e;
  std::memcpy(&e, row + i * sizeof e, sizeof e);
  return K::load(e);
}

/// Which states lie in slots [0, live) of a head, by their keys; checks that the values are those of the same states.
template <class K, class V>
std::vector<float> held(const multi_state<K, V>& state, int head) {
  extent e;
  const head_view view = state.view(head, e);
  EXPECT_EQ(view.n, state.live(head));
  EXPECT_EQ(view.extents.size(), 1u);
  EXPECT_EQ(view.extents[0].n, view.n);
  std::vector<float> found;
  for (std::size_t s = 0; s < multistate::to_size(view.n); ++s) {
    const float x = at<K, V>(e.k + s * e.k_stride, 0);
    found.push_back(x);
    for (std::size_t i = 0; i < multistate::to_size(state.dims().dk); ++i)
      EXPECT_EQ((at<K, V>(e.k + s * e.k_stride, i)), key_of(x, state.dims().dk)[i]);
    for (std::size_t i = 0; i < multistate::to_size(state.dims().dv); ++i)
      EXPECT_EQ((at<V, K>(e.v + s * e.v_stride, i)), value_of(x, state.dims().dv)[i]);
  }
  return found;
}

template <class State>
State make(const shape& dims, scope_kind scope, const std::vector<int>& budgets, const limits& room = {}) {
  return State::make(dims, {scope, budgets, room}).value();
}
template <class State>
void write(State& state, int head, int slot_number, float x) {
  const std::vector<slot> to{slot{static_cast<std::uint32_t>(slot_number)}};
  const auto k = key_of(x, state.dims().dk), v = value_of(x, state.dims().dv);
  state.write(head, to, k.data(), v.data(), 0, 0);
}

using floats = std::vector<float>;

struct f32_f32 {
  using k = f32;
  using v = f32;
};
struct f16_bf16 {
  using k = f16;
  using v = bf16;
};
struct bf16_f32 {
  using k = bf16;
  using v = f32;
};
template <class F>
class multi_state_of : public testing::Test {
 public:
  using type = multi_state<typename F::k, typename F::v>;
};
using formats = testing::Types<f32_f32, f16_bf16, bf16_f32>;
TYPED_TEST_SUITE(multi_state_of, formats);

TYPED_TEST(multi_state_of, writes_moves_and_drops) {
  using state = typename TestFixture::type;
  const shape dims{4, 2, 3, 5};
  auto m = make<state>(dims, scope_kind::layer, {3}, {.chunk = 2});
  EXPECT_EQ(m.capacity(0), 5);
  EXPECT_EQ(m.live(0), 0);
  execute(m, {{.live = 4}});
  for (int h = 0; h < 2; ++h)
    for (int s = 0; s < 4; ++s) write(m, h, s, static_cast<float>(10 * h + s));
  EXPECT_EQ(held(m, 0), (floats{0, 1, 2, 3}));
  EXPECT_EQ(held(m, 1), (floats{10, 11, 12, 13}));
  execute(m, {{.dropped = {slot{0}, slot{2}}, .positions = {0, 2}, .moves = {{slot{3}, slot{0}}}, .live = 2}});
  EXPECT_EQ(held(m, 0), (floats{3, 1}));
  EXPECT_EQ(held(m, 1), (floats{13, 11}));
}

TEST(multi_state, i8_rows_keep_their_scales) {
  const shape dims{2, 1, 3, 5};
  auto m = make<multi_state<i8>>(dims, scope_kind::layer, {3}, {.chunk = 2});
  EXPECT_EQ(m.state_bytes(dims), 3u + 4 + 5 + 4);
  execute(m, {{.live = 4}});
  for (int s = 0; s < 4; ++s) write(m, 0, s, std::ldexp(1.0f, 3 * s));  // each row has a scale of its own
  execute(m, {{.dropped = {slot{1}}, .positions = {1}, .moves = {{slot{3}, slot{1}}}, .live = 3}});
  auto copy = make<multi_state<i8>>(dims, scope_kind::layer, {3}, {.chunk = 2});
  std::vector<std::byte> saved(m.save_bytes());
  m.save(saved);
  ASSERT_EQ(copy.load(saved).code(), errc::ok);
  for (const auto& state : {&m, &copy}) {
    extent e;
    ASSERT_EQ(state->view(0, e).n, 3);
    for (const auto& [s, x] : {std::pair{0, 1.0f}, {1, 512.0f}, {2, 64.0f}}) {
      std::vector<float> k(3), v(5);
      load_row<i8>(k.data(), e.k + multistate::to_size(s) * e.k_stride, 3);
      load_row<i8>(v.data(), e.v + multistate::to_size(s) * e.v_stride, 5);
      for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(k[i], key_of(x, 3)[i], (x + 1) / 127 * 0.51);
      for (std::size_t i = 0; i < 5; ++i) EXPECT_NEAR(v[i], value_of(x, 5)[i], (x + 1) / 127 * 0.51);
    }
  }
}

TYPED_TEST(multi_state_of, writes_a_chunk_with_strides) {
  using state = typename TestFixture::type;
  const shape dims{2, 2, 2, 1};
  auto m = make<state>(dims, scope_kind::head, {2, 3}, {.chunk = 2});
  EXPECT_EQ(m.capacity(0), 4);
  EXPECT_EQ(m.capacity(1), 5);
  execute(m, {{.live = 2}, {.live = 2}});
  // [token][head][dk], [token][head][dv]
  const floats k{1, 1.5f, 2, 2.5f, 3, 3.5f, 4, 4.5f}, v{-1, -2, -3, -4};
  const std::vector<slot> to{slot{1}, slot{0}};
  for (int h = 0; h < 2; ++h) m.write(h, to, k.data() + 2 * h, v.data() + h, 4, 2);
  EXPECT_EQ(held(m, 0), (floats{3, 1}));
  EXPECT_EQ(held(m, 1), (floats{4, 2}));
}

TYPED_TEST(multi_state_of, undo_brings_dropped_states_back) {
  using state = typename TestFixture::type;
  auto m = make<state>({1, 1, 2, 3}, scope_kind::layer, {2}, {.undo = 3});
  execute(m, {{.live = 3}});
  for (int s = 0; s < 3; ++s) write(m, 0, s, static_cast<float>(s));
  execute(m, {{.dropped = {slot{0}}, .positions = {0}, .moves = {{slot{2}, slot{0}}}, .live = 2}});
  execute(m, {{.live = 3}});
  write(m, 0, 2, 7);
  execute(m, {{.dropped = {slot{1}}, .positions = {1}, .moves = {{slot{2}, slot{1}}}, .live = 2}});
  EXPECT_EQ(held(m, 0), (floats{2, 7}));
  execute(m, {{.moves = {{slot{1}, slot{2}}, {parked, slot{1}}}, .live = 2}});
  EXPECT_EQ(held(m, 0), (floats{2, 1}));
  execute(m, {{.moves = {{slot{0}, slot{2}}, {parked, slot{0}}}, .live = 2}});
  EXPECT_EQ(held(m, 0), (floats{0, 1}));
}

TYPED_TEST(multi_state_of, tells_of_every_state_that_leaves) {
  using state = typename TestFixture::type;
  auto m = make<state>({2, 2, 2, 3}, scope_kind::layer, {2});
  execute(m, {{.live = 3}});
  for (int h = 0; h < 2; ++h)
    for (int s = 0; s < 3; ++s) write(m, h, s, static_cast<float>(10 * h + s));
  const decided d{.dropped = {slot{1}}, .positions = {41}, .live = 2, .hole = slot{1}};
  const lane_decision lane = d.lane();
  int calls = 0;
  m.apply(decision{.lanes = {&lane, 1}}, [&](int head, position p, std::span<const float> k, std::span<const float> v) {
    EXPECT_EQ(head, calls++);
    EXPECT_EQ(p, 41);
    EXPECT_EQ(floats(k.begin(), k.end()), key_of(static_cast<float>(10 * head + 1), 2));
    EXPECT_EQ(floats(v.begin(), v.end()), value_of(static_cast<float>(10 * head + 1), 3));
  });
  EXPECT_EQ(calls, 2);
}

TYPED_TEST(multi_state_of, stores_survivors_of_a_prompt) {
  using state = typename TestFixture::type;
  auto m = make<state>({2, 2, 1, 1}, scope_kind::head, {3, 2});
  const decided first{.live = 3}, second{.live = 2, .hole = slot{1}};
  floats k, v;  // [token][head]
  for (int t = 0; t < 9; ++t)
    for (int h = 0; h < 2; ++h) {
      k.push_back(static_cast<float>(10 * h + t));
      v.push_back(-k.back());
    }
  m.write_kept(0, first.lane(), std::vector<position>{8, 0, 4}, k.data(), v.data(), 2, 2);
  m.write_kept(1, second.lane(), std::vector<position>{7, -1, 3}, k.data() + 1, v.data() + 1, 2, 2);
  EXPECT_EQ(held(m, 0), (floats{8, 0, 4}));
  const std::vector<lane_decision> closed{first.lane(),
                                          {.dropped = {}, .dropped_positions = {}, .moves = {}, .live = 2}};
  const slot_move close{slot{2}, slot{1}};
  std::vector<lane_decision> with_move = closed;
  with_move[1].moves = {&close, 1};
  m.apply(decision{.lanes = with_move});
  EXPECT_EQ(held(m, 1), (floats{17, 13}));
}

TYPED_TEST(multi_state_of, saves_loads_and_forks) {
  using state = typename TestFixture::type;
  const shape dims{2, 2, 3, 2};
  auto a = make<state>(dims, scope_kind::head, {3, 2}), b = make<state>(dims, scope_kind::head, {3, 2});
  execute(a, {{.live = 3}, {.live = 2}});
  for (int s = 0; s < 3; ++s) write(a, 0, s, static_cast<float>(s));
  for (int s = 0; s < 2; ++s) write(a, 1, s, static_cast<float>(10 + s));
  std::vector<std::byte> file(a.save_bytes());
  a.save(file);
  EXPECT_EQ(file.size(), 24 + 2 * 20 + 5 * state::state_bytes(dims));
  ASSERT_EQ(b.load(file).code(), errc::ok);
  EXPECT_EQ(held(b, 0), (floats{0, 1, 2}));
  EXPECT_EQ(held(b, 1), (floats{10, 11}));
  auto c = make<state>(dims, scope_kind::head, {3, 2});
  ASSERT_TRUE(c.copy_from(a));
  write(a, 0, 0, 5);
  EXPECT_EQ(held(c, 0), (floats{0, 1, 2}));
  EXPECT_EQ(held(c, 1), (floats{10, 11}));

  for (std::size_t n = 0; n < file.size(); ++n)
    ASSERT_EQ(c.load(std::span(file).first(n)).code(), errc::bad_input) << n;
  file.push_back(std::byte{0});
  EXPECT_EQ(c.load(file).message(), "multi_state: saved state can't be used: it is too long");
  file.pop_back();
  support::generator g(1);
  for (int round = 0; round < 3000; ++round) {
    auto hostile = file;
    hostile[24 + g.next() % (hostile.size() - 24)] = static_cast<std::byte>(g.next() & 0xff);
    auto d = make<state>(dims, scope_kind::head, {3, 2});
    if (d.load(hostile).code() != errc::ok) {
      ASSERT_EQ(d.live(0) + d.live(1), 0);
      continue;
    }
    ASSERT_LE(d.live(0), d.capacity(0));
    ASSERT_LE(d.live(1), d.capacity(1));
    ASSERT_TRUE(d.copy_from(d));
  }
  EXPECT_EQ(held(c, 0), (floats{0, 1, 2}));

  auto other = make<state>(dims, scope_kind::head, {3, 3});
  EXPECT_FALSE(other.copy_from(a));
  EXPECT_EQ(other.load(file).message(),
            "multi_state: saved state can't be used: it was made with other shapes, formats or sizes");
}

TYPED_TEST(multi_state_of, lies_in_the_callers_memory) {
  using state = typename TestFixture::type;
  const shape dims{3, 3, 5, 7};
  const std::vector<int> budgets{2, 4, 1};
  const limits room{.chunk = 2, .undo = 2};
  const lane_plan plan{scope_kind::head, budgets, room};
  const std::size_t bytes = state::bytes_needed(dims, plan);
  std::vector<std::byte> memory(bytes + 128, std::byte{0xab});
  std::byte* base = memory.data() + 64;
  auto m = state::make(dims, plan, {base, bytes}).value();
  for (int h = 0; h < 3; ++h) {
    std::vector<decided> lanes(3);
    for (int i = 0; i < 3; ++i) lanes[multistate::to_size(i)].live = m.capacity(i);
    execute(m, lanes);
    for (int s = 0; s < m.capacity(h); ++s) write(m, h, s, static_cast<float>(16 * h + s));
  }
  for (int h = 0; h < 3; ++h)
    for (int s = 0; s < m.capacity(h); ++s)
      EXPECT_EQ(held(m, h)[multistate::to_size(s)], static_cast<float>(16 * h + s));
  for (std::size_t i = 0; i < 64; ++i) {
    EXPECT_EQ(memory[i], std::byte{0xab});
    EXPECT_EQ(memory[64 + bytes + i], std::byte{0xab});
  }
  extent e;
  const decided none{.live = 1};
  execute(m, {none, none, none});
  m.view(2, e);
  EXPECT_GE(e.k, base);
  EXPECT_LT(e.v, base + bytes);
  const auto small = state::make(dims, plan, {base, bytes - 1});
  EXPECT_EQ(small.code(), errc::out_of_memory);
}

TYPED_TEST(multi_state_of, allocates_nothing_after_make) {
  using state = typename TestFixture::type;
  auto m = make<state>({1, 1, 4, 4}, scope_kind::layer, {2}, {.undo = 2});
  const std::size_t bytes = m.bytes();
  const floats row(4, 1.0f);
  const slot at{2};
  const decided add{.live = 3}, drop{.dropped = {slot{0}}, .positions = {0}, .moves = {{slot{2}, slot{0}}}, .live = 2};
  const lane_decision adds = add.lane(), drops = drop.lane();
  const std::size_t before = support::allocations();
  for (int i = 0; i < 1000; ++i) {
    m.apply(decision{.lanes = {&adds, 1}});
    m.write(0, {&at, 1}, row.data(), row.data(), 4, 4);
    m.apply(decision{.lanes = {&drops, 1}});
  }
  EXPECT_EQ(support::allocations(), before);
  EXPECT_EQ(m.bytes(), bytes);
}

template <class State>
std::string refusal(const shape& dims, scope_kind scope, const std::vector<int>& budgets, const limits& room = {},
                    arena memory = {}) {
  const auto r = State::make(dims, {scope, budgets, room}, memory);
  return r ? "" : std::string(r.reason().message());
}

TEST(multi_state, says_what_is_wrong) {
  using state = multi_state<f32>;
  const std::string shape_rule = "multi_state: needs kv_heads >= 1 dividing heads, dk >= 1 and dv >= 1; got heads=";
  EXPECT_EQ(refusal<state>({3, 2, 1, 1}, scope_kind::layer, {1}), shape_rule + "3, kv_heads=2, dk=1, dv=1");
  EXPECT_EQ(refusal<state>({0, 0, 1, 1}, scope_kind::layer, {1}), shape_rule + "0, kv_heads=0, dk=1, dv=1");
  EXPECT_EQ(refusal<state>({2, 2, 0, 1}, scope_kind::layer, {1}), shape_rule + "2, kv_heads=2, dk=0, dv=1");
  EXPECT_EQ(refusal<state>({2, 2, 1, -1}, scope_kind::layer, {1}), shape_rule + "2, kv_heads=2, dk=1, dv=-1");
  EXPECT_EQ(refusal<state>({2, 2, 1, 1}, scope_kind::head, {1}),
            "multi_state: needs one budget for each of 2 lanes; got 1");
  EXPECT_EQ(refusal<state>({2, 2, 1, 1}, scope_kind::layer, {0}),
            "multi_state: budget must be 1 to 268435456 states; got 0");
  EXPECT_EQ(refusal<state>({2, 2, 1, 1}, scope_kind::layer, {1}, {.chunk = 0}),
            "multi_state: chunk and every must be at least 1, undo at least 0; got chunk=0, every=1, undo=0");
  std::byte one{};
  EXPECT_EQ(refusal<state>({1, 1, 1, 1}, scope_kind::layer, {1}, {}, {&one, 1}),
            "multi_state: needs an arena of 128 bytes; got 1");
}

TEST(multi_state, refuses_sizes_whose_product_overflows) {
  using state = multi_state<f32>;
  constexpr int most = 1 << 28;
  // 16 heads x 2^29 rows x 2 x 2^30 bytes = 2^64, which is 0 in 64 bits
  EXPECT_NE(refusal<state>({16, 16, most, most}, scope_kind::layer, {most}, {.chunk = 1, .every = most}), "");
  std::byte one{};
  EXPECT_NE(refusal<state>({16, 16, most, most}, scope_kind::layer, {most}, {.chunk = 1, .every = most}, {&one, 1}),
            "");
  EXPECT_NE(refusal<state>({1, 1, most, most}, scope_kind::layer, {most}), "");
}

/// A decider and its states, token by token.
struct pair_of {
  multistate::decider<tova> decider = multistate::decider<tova>::make({.budget = 4}, {}, {.undo = 2}).value();
  multi_state<f32> states = multi_state<f32>::make({1, 1, 1, 1}, decider.plan()).value();

  void token() {
    const float key = static_cast<float>(decider.next_position()), row[5] = {.3f, .1f, .2f, .4f, .5f};
    ASSERT_TRUE(states.apply(decider.append(1)));
    states.write(0, decider.slots(0), &key, &key, 1, 1);
    decider.observe(0, {.data = row, .n = decider.live(0)});
    ASSERT_TRUE(states.apply(decider.reduce()));
  }
  template <class T>
  static std::vector<std::byte> saved(const T& x) {
    std::vector<std::byte> file(x.save_bytes());
    x.save(file);
    return file;
  }
};

TEST(multi_state, saves_of_two_moments_do_not_go_together) {
  pair_of a;
  std::vector<std::vector<std::byte>> deciders, states;
  for (int t = 0; t < 12; ++t) {
    deciders.push_back(pair_of::saved(a.decider));
    states.push_back(pair_of::saved(a.states));
    a.token();
  }
  for (std::size_t i = 1; i < deciders.size(); ++i)
    for (std::size_t j = 1; j < states.size(); ++j) {
      pair_of b;
      ASSERT_EQ(b.decider.load(deciders[i]).code(), errc::ok);
      const error e = b.states.load(states[j], b.decider.last());
      ASSERT_EQ(!e, i == j) << i << " " << j;
      if (i == j) {
        b.token();
        continue;
      }
      EXPECT_EQ(e.message(), "multi_state: saved state can't be used: it was saved at another moment than the decider");
      ASSERT_EQ(b.states.load(states[j]).code(), errc::ok);  // not told of the decider
      const int live = b.states.live(0);
      EXPECT_FALSE(b.states.apply(b.decider.append(1)));
      EXPECT_EQ(b.states.live(0), live);
    }
}

TEST(multi_state, undone_tokens_leave_no_mark_on_the_moment) {
  pair_of a, b;
  for (int t = 0; t < 7; ++t) a.token(), b.token();
  b.token(), b.token();
  EXPECT_NE(a.decider.moment(), b.decider.moment());
  ASSERT_TRUE(b.decider.undo(2));
  ASSERT_TRUE(b.states.apply(b.decider.last()));
  EXPECT_EQ(pair_of::saved(a.decider), pair_of::saved(b.decider));
  EXPECT_EQ(pair_of::saved(a.states), pair_of::saved(b.states));
}

TEST(multi_state, decisions_are_executed_once_and_all) {
  pair_of a;
  for (int t = 0; t < 6; ++t) a.token();
  const decision& first = a.decider.append(1);
  EXPECT_TRUE(a.states.apply(first));
  EXPECT_FALSE(a.states.apply(first));
  a.decider.restart(0);  // empty lanes: whatever the states hold is of no account
  a.token();
}

TEST(multi_state, after_a_take_over_states_go_on_or_are_written_anew) {
  pair_of a, b, c;
  for (int t = 0; t < 6; ++t) a.token();
  ASSERT_TRUE(b.decider.take_over(a.decider));
  EXPECT_TRUE(a.states.executed(b.decider.moment()));
  EXPECT_FALSE(b.states.executed(b.decider.moment()));
  EXPECT_TRUE(b.states.apply(b.decider.close()));  // and write() each slot
  EXPECT_EQ(b.states.live(0), a.states.live(0));
  b.token();
  ASSERT_TRUE(c.decider.take_over(a.decider));
  std::swap(a.states, c.states);
  c.token();
}

TEST(multi_state, says_which_other_files_it_was_given) {
  pair_of a;
  auto file = pair_of::saved(a.states);
  const std::string begin = "multi_state: saved state can't be used: ";
  EXPECT_EQ(a.states.load(pair_of::saved(a.decider)).message(), begin + "it does not begin with msSTATES");
  std::reverse(file.begin() + 8, file.begin() + 12);
  EXPECT_EQ(a.states.load(file).message(), begin + "it was saved on a machine of the other byte order");
  std::reverse(file.begin() + 8, file.begin() + 12);
  file[12] = std::byte{7};
  EXPECT_EQ(a.states.load(file).message(), begin + "its format is version 7, this library reads version 2");
}

TYPED_TEST(multi_state_of, tells_states_that_are_not_finite) {
  using state = typename TestFixture::type;
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const float bad : {nan, inf, -inf, 1e5f}) {
    const bool holds = bad == 1e5f && !std::is_same_v<typename state::key_format, f16>;  // too much for f16
    auto m = make<state>({2, 2, 2, 1}, scope_kind::head, {3, 3});
    execute(m, {{.live = 2}, {.live = 2}});
    const float good[2] = {1, 2}, key[2] = {1, bad};
    const slot one[] = {slot{0}}, two[] = {slot{1}};
    for (int h = 0; h < 2; ++h) m.write(h, one, good, good, 2, 1), m.write(h, two, good, good, 2, 1);
    EXPECT_TRUE(m.finite(0) && m.finite(1));
    m.write(1, two, key, good, 2, 1);
    EXPECT_TRUE(m.finite(0));
    EXPECT_TRUE(m.finite(1, one));
    EXPECT_EQ(m.finite(1, two), holds) << bad;
    EXPECT_EQ(m.finite(1), holds) << bad;
  }
}

}  // namespace
