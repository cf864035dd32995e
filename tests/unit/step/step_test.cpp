#include <multistate/policies.hpp>
#include <multistate/state/multi_state.hpp>
#include <multistate/step/one_shot.hpp>
#include <multistate/step/step.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include <support/allocations.hpp>
#include <support/attend.hpp>
#include <support/busy_policy.hpp>
#include <support/random.hpp>

namespace {

using namespace multistate;
using state = multi_state<f32>;

/// Attention that has rows for nobody, and one that has the last row only.
struct no_rows {
  template <needs Want, class K, class V>
    requires(Want == needs::nothing)
  void operator()(std::span<const attention_task>) const noexcept {}
};
struct last_row_only {
  template <needs Want, class K, class V>
    requires(Want == needs::nothing || Want == needs::last_row)
  void operator()(std::span<const attention_task>) const noexcept {}
};
static_assert(attention_for<no_rows, needs::nothing, f32, f32> && !attention_for<no_rows, needs::last_row, f32, f32>);
static_assert(attention_for<last_row_only, needs::last_row, f32, f16> &&
              !attention_for<last_row_only, needs::row_sum, f32, f32>);
static_assert(attention_for<support::plain_attention, needs::each_row, f16, bf16>);
static_assert(step_wants<tova> == needs::last_row && step_wants<tova, true> == needs::each_row);
static_assert(step_wants<h2o> == needs::row_sum && step_wants<knorm> == needs::nothing &&
              step_wants<knorm, true> == needs::nothing);
static_assert(step_wants<foreign::busy> == needs::each_row);

/// What a task was given, so that tests can look at it.
struct recorded {
  int n, queries, kv_head, sequence;
  position first;
  std::size_t q_at, out_at;
  std::vector<position> positions;
  std::vector<std::uint32_t> ranks;
  std::vector<float> keys;  // the first number of each
};
struct recorder {
  support::plain_attention attention;
  const float* q;
  const float* out;
  std::vector<recorded>* seen;
  template <needs Want, class K, class V>
  void operator()(std::span<const attention_task> tasks) const noexcept {
    for (const attention_task& t : tasks) {
      recorded r{.n = t.kv.n,
                 .queries = t.queries,
                 .kv_head = t.kv_head,
                 .sequence = t.sequence,
                 .first = t.first,
                 .q_at = static_cast<std::size_t>(t.q - q),
                 .out_at = static_cast<std::size_t>(t.out - out),
                 .positions = {t.kv.positions.begin(), t.kv.positions.end()},
                 .ranks = {t.kv.ranks.begin(), t.kv.ranks.end()},
                 .keys = {}};
      for (std::size_t s = 0; s < multistate::to_size(t.kv.n); ++s) {
        float x = 0;
        std::memcpy(&x, t.kv.extents[0].k + s * t.kv.extents[0].k_stride, sizeof x);
        r.keys.push_back(x);
      }
      seen->push_back(r);
    }
    attention.operator()<Want, K, V>(tasks);
  }
};

struct sequence {
  shape dims{4, 2, 3, 2};
  int count = 12;
  std::vector<float> q, k, v, out;
  explicit sequence(std::uint64_t seed = 1, int tokens = 12) : count(tokens) {
    support::generator g(seed);
    const auto fill = [&](std::vector<float>& x, int heads, int width) {
      x.resize(multistate::to_size(count * heads * width));
      for (float& f : x) f = static_cast<float>(g.normal());
    };
    fill(q, dims.heads, dims.dk);
    fill(k, dims.kv_heads, dims.dk);
    fill(v, dims.kv_heads, dims.dv);
    for (int t = 0; t < count; ++t)
      for (int h = 0; h < dims.kv_heads; ++h)
        k[multistate::to_size((t * dims.kv_heads + h) * dims.dk)] = static_cast<float>(t) * 0.01f;  // names the token
    out.resize(multistate::to_size(count * dims.heads * dims.dv));
  }
  step_io io(int from, int c) {
    return {.q = q.data() + multistate::to_size(from * dims.heads * dims.dk),
            .k = k.data() + multistate::to_size(from * dims.kv_heads * dims.dk),
            .v = v.data() + multistate::to_size(from * dims.kv_heads * dims.dv),
            .out = out.data() + multistate::to_size(from * dims.heads * dims.dv),
            .c = c};
  }
};

template <policy P>
struct memory {
  multistate::decider<P> decider;
  std::vector<state> states;
  memory(const P& p, const shape& dims, const limits& room = {}, int layers = 1)
      : decider(
            multistate::decider<P>::make(p, {.kv_heads = dims.kv_heads, .layer = 0, .layers = layers}, room).value()) {
    for (int i = 0; i < layers; ++i) states.push_back(state::make(dims, decider.plan()).value());
  }
  layer_of<P, state> layer(int i = 0) { return {.decider = &decider, .states = states, .layer = i}; }
};

template <bool Hold = false, policy P, class Attend>
void one(memory<P>& m, const step_io& io, const shape& dims, const Attend& attend, int layer = 0) {
  static std::vector<std::byte> scratch(1 << 16);
  const auto where = m.layer(layer);
  const int states = 64;
  const std::size_t bytes = step_scratch_bytes<P, Hold>(dims, 1, states, io.c);
  ASSERT_LE(bytes, scratch.size());
  step<Hold>(std::span<const layer_of<P, state>>(&where, 1), std::span<const step_io>(&io, 1), dims,
             std::span(scratch).first(bytes), attend);
}

template <policy P>
std::vector<position> kept(const decider<P>& d, int lane = 0) {
  std::vector<slot> order(multistate::to_size(d.live(lane)));
  d.rank_order(lane, order);
  std::vector<position> p;
  p.reserve(order.size());
  for (const slot s : order) p.push_back(d.positions(lane)[index(s)]);
  return p;
}

TEST(step, attends_over_budget_and_one_more) {
  sequence x;
  std::vector<recorded> seen;
  memory<tova> m({.budget = 3}, x.dims);
  for (int t = 0; t < 6; ++t)
    one(m, x.io(t, 1), x.dims, recorder{support::plain_attention(x.dims), x.q.data(), x.out.data(), &seen});
  ASSERT_EQ(seen.size(), 12u);  // two heads
  for (int t = 0; t < 6; ++t)
    for (int h = 0; h < 2; ++h) {
      const recorded& r = seen[multistate::to_size(2 * t + h)];
      EXPECT_EQ(r.n, std::min(t + 1, 4));
      EXPECT_EQ(r.kv_head, h);
      EXPECT_EQ(r.queries, 1);
      EXPECT_EQ(r.first, t);
      EXPECT_EQ(r.q_at, multistate::to_size(t * 12 + h * 6));  // query heads 2h and 2h + 1
      EXPECT_EQ(r.out_at, multistate::to_size(t * 8 + h * 4));
      EXPECT_TRUE(r.ranks.empty());
      ASSERT_EQ(r.positions.size(), multistate::to_size(r.n));
      for (std::size_t s = 0; s < r.positions.size(); ++s)
        EXPECT_EQ(r.keys[s], static_cast<float>(r.positions[s]) * 0.01f);
    }
  EXPECT_EQ(m.decider.live(0), 3);
  EXPECT_EQ(m.states[0].live(0), 3);
}

TEST(step, gives_ranks_for_positions_in_the_cache) {
  sequence x;
  std::vector<recorded> seen;
  memory<tova> m({.budget = 3, .scope = scope_kind::head}, x.dims);
  for (int t = 0; t < 8; ++t) {
    step_io io = x.io(t, 1);
    io.unrotated = true;
    one(m, io, x.dims, recorder{support::plain_attention(x.dims), x.q.data(), x.out.data(), &seen});
  }
  for (const recorded& r : seen) {
    ASSERT_EQ(r.ranks.size(), multistate::to_size(r.n));
    for (std::size_t a = 0; a < r.ranks.size(); ++a)
      for (std::size_t b = 0; b < r.ranks.size(); ++b)
        EXPECT_EQ(r.ranks[a] < r.ranks[b], r.positions[a] < r.positions[b]);
  }
}

TEST(step, a_chunk_lies_in_the_last_slots) {
  sequence x;
  std::vector<recorded> seen;
  memory<h2o> m({.budget = 3, .scope = scope_kind::layer}, x.dims, {.chunk = 4});
  const recorder attend{support::plain_attention(x.dims), x.q.data(), x.out.data(), &seen};
  one(m, x.io(0, 4), x.dims, attend);
  one(m, x.io(4, 1), x.dims, attend);  // leaves a hole, perhaps
  one(m, x.io(5, 4), x.dims, attend);
  const recorded& r = seen[4];
  EXPECT_EQ(r.n, 7);
  EXPECT_EQ(r.queries, 4);
  for (int j = 0; j < 4; ++j) EXPECT_EQ(r.positions[multistate::to_size(3 + j)], 5 + j);
  EXPECT_EQ(kept(m.decider).size(), 3u);
}

TEST(step, sequences_of_a_batch_have_chunks_of_their_own) {
  sequence x(1), y(2), x1(1), y1(2);
  memory<tova> a({.budget = 2}, x.dims, {.chunk = 3}), b({.budget = 4}, x.dims, {.chunk = 3}),
      a1({.budget = 2}, x.dims, {.chunk = 3}), b1({.budget = 4}, x.dims, {.chunk = 3});
  const support::plain_attention attend(x.dims);
  std::vector<std::byte> scratch(step_scratch_bytes<tova>(x.dims, 2, 7, 3));
  const std::vector<layer_of<tova, state>> layers{a.layer(), b.layer()};
  for (int t = 0; t < 4; ++t) {
    const std::vector<step_io> io{x.io(3 * t, 3), y.io(t, 1)};
    step(std::span<const layer_of<tova, state>>(layers), std::span<const step_io>(io), x.dims, scratch, attend);
    one(a1, x1.io(3 * t, 3), x.dims, attend);
    one(b1, y1.io(t, 1), x.dims, attend);
  }
  EXPECT_EQ(x.out, x1.out);
  EXPECT_EQ(y.out, y1.out);
  EXPECT_EQ(kept(a.decider), kept(a1.decider));
  EXPECT_EQ(kept(b.decider), kept(b1.decider));
}

TEST(step, scope_model_reduces_after_the_last_layer) {
  sequence x(1), y(2);
  memory<tova> m({.budget = 2, .scope = scope_kind::model}, x.dims, {}, 2);
  const support::plain_attention attend(x.dims);
  for (int t = 0; t < 5; ++t) {
    one(m, x.io(t, 1), x.dims, attend, 0);
    EXPECT_EQ(m.decider.live(0), std::min(t + 1, 3));
    one(m, y.io(t, 1), x.dims, attend, 1);
    EXPECT_EQ(m.decider.live(0), std::min(t + 1, 2));
    EXPECT_EQ(m.states[0].live(0), m.decider.live(0));
    EXPECT_EQ(m.states[1].live(1), m.decider.live(0));
  }
}

TEST(step, held_rows_wait_for_the_caller) {
  sequence x;
  const support::plain_attention attend(x.dims);
  memory<tova> m({.budget = 3}, x.dims, {.chunk = 4, .hold = 4}), plain({.budget = 3}, x.dims, {.chunk = 4});
  one<true>(m, x.io(0, 4), x.dims, attend);
  const std::vector<float> held(x.out.begin(), x.out.begin() + 2 * 8);
  EXPECT_EQ(m.decider.live(0), 4);
  m.states[0].apply(m.decider.reduce(2));
  EXPECT_EQ(kept(m.decider), (std::vector<position>{0, 1}));
  std::fill(x.out.begin(), x.out.end(), 0.0f);
  one(plain, x.io(0, 2), x.dims, attend);
  EXPECT_EQ(std::vector<float>(x.out.begin(), x.out.begin() + 2 * 8), held);
  one<true>(m, x.io(2, 4), x.dims, attend);
  m.states[0].apply(m.decider.reduce());
  one(plain, x.io(2, 4), x.dims, attend);
  EXPECT_EQ(kept(m.decider), kept(plain.decider));
}

TEST(step, one_token_goes_through_plain_step_where_rows_could_be_held) {
  sequence x;
  const support::plain_attention attend(x.dims);
  memory<h2o> m({.budget = 3, .scope = scope_kind::layer}, x.dims, {.chunk = 4, .hold = 4}),
      plain({.budget = 3, .scope = scope_kind::layer}, x.dims);
  for (int t = 0; t < 8; ++t) {
    one(m, x.io(t, 1), x.dims, attend);
    one(plain, x.io(t, 1), x.dims, attend);
  }
  EXPECT_EQ(kept(m.decider), kept(plain.decider));
}

TEST(one_shot, keeps_what_one_large_chunk_keeps) {
  sequence x(3), y(3);
  const support::plain_attention attend(x.dims);
  memory<h2o> a({.budget = 3}, x.dims, {.prompt = 9}), b({.budget = 3}, x.dims, {.chunk = 9});
  EXPECT_EQ(a.states[0].capacity(0), 4);  // no room for the prompt
  std::vector<std::byte> scratch(step_scratch_bytes<h2o>(x.dims, 1, 9, 9));
  one_shot(a.layer(), x.io(0, 9), x.dims, scratch, attend);
  one(b, y.io(0, 9), x.dims, attend);
  for (int t = 9; t < 12; ++t) {
    one(a, x.io(t, 1), x.dims, attend);
    one(b, y.io(t, 1), x.dims, attend);
  }
  for (int lane = 0; lane < 2; ++lane) EXPECT_EQ(kept(a.decider, lane), kept(b.decider, lane));
  for (std::size_t i = 0; i < x.out.size(); ++i) EXPECT_NEAR(x.out[i], y.out[i], 1e-6f);
}

TEST(one_shot, of_all_layers_at_scope_model) {
  sequence x(3), y(4);
  const support::plain_attention attend(x.dims);
  memory<knorm> a({.budget = 3, .scope = scope_kind::model}, x.dims, {.prompt = 9}, 2),
      b({.budget = 3, .scope = scope_kind::model}, x.dims, {.chunk = 9}, 2);
  std::vector<std::byte> scratch(step_scratch_bytes<knorm>(x.dims, 1, 9, 9));
  one_shot(a.layer(0), x.io(0, 9), x.dims, scratch, attend);
  EXPECT_EQ(a.decider.live(0), 9);
  one_shot(a.layer(1), y.io(0, 9), x.dims, scratch, attend);
  store_survivors(a.layer(0), x.io(0, 9), x.dims);
  store_survivors(a.layer(1), y.io(0, 9), x.dims);
  one(b, x.io(0, 9), x.dims, attend, 0);
  one(b, y.io(0, 9), x.dims, attend, 1);
  EXPECT_EQ(kept(a.decider), kept(b.decider));
  EXPECT_EQ(a.decider.live(0), 3);
  EXPECT_EQ(a.states[1].live(0), 3);
}

// Norms 0, 1, ... of the keys before rotation, whatever the rotated ones have.
TEST(step, hands_in_keys_before_their_rotation) {
  sequence x(6);
  std::vector<float> before(x.k.size());
  for (int t = 0; t < x.count; ++t)
    for (int h = 0; h < x.dims.kv_heads; ++h)
      before[multistate::to_size((t * x.dims.kv_heads + h) * x.dims.dk)] = static_cast<float>(x.count - t);
  const auto io = [&](int from, int c) {
    step_io out = x.io(from, c);
    out.k_pre = before.data() + multistate::to_size(from * x.dims.kv_heads * x.dims.dk);
    return out;
  };
  const support::plain_attention attend(x.dims);
  const std::vector<position> newest{8, 9, 10, 11};
  memory<knorm> steps({.budget = 4}, x.dims), chunks({.budget = 4}, x.dims, {.chunk = 3}),
      prompt({.budget = 4}, x.dims, {.prompt = 12});
  for (int t = 0; t < 12; ++t) one(steps, io(t, 1), x.dims, attend);
  for (int t = 0; t < 12; t += 3) one(chunks, io(t, 3), x.dims, attend);
  std::vector<std::byte> scratch(step_scratch_bytes<knorm>(x.dims, 1, 12, 12));
  one_shot(prompt.layer(), io(0, 12), x.dims, scratch, attend);
  for (auto* m : {&steps, &chunks, &prompt})
    for (int lane = 0; lane < 2; ++lane) EXPECT_EQ(kept(m->decider, lane), newest);
}

TEST(one_shot, then_held_tokens) {
  sequence x(5);
  const support::plain_attention attend(x.dims);
  memory<h2o> m({.budget = 3}, x.dims, {.chunk = 2, .hold = 2, .prompt = 8}),
      plain({.budget = 3}, x.dims, {.chunk = 2, .prompt = 8});
  std::vector<std::byte> scratch(step_scratch_bytes<h2o>(x.dims, 1, 9, 9));
  for (auto* each : {&plain, &m}) one_shot(each->layer(), x.io(0, 8), x.dims, scratch, attend);
  one<true>(m, x.io(8, 2), x.dims, attend);
  m.states[0].apply(m.decider.reduce());
  one(plain, x.io(8, 2), x.dims, attend);
  for (int lane = 0; lane < 2; ++lane) EXPECT_EQ(kept(m.decider, lane), kept(plain.decider, lane));
}

TEST(step, allocates_nothing) {
  sequence x;
  support::plain_attention attend(x.dims);
  memory<h2o> m({.budget = 3}, x.dims, {.chunk = 2, .undo = 2});
  one(m, x.io(0, 2), x.dims, attend);
  one(m, x.io(2, 2), x.dims, attend);
  one(m, x.io(4, 2), x.dims, attend);
  const std::size_t before = support::allocations();
  for (int i = 0; i < 100; ++i) {
    one(m, x.io(0, 2), x.dims, attend);
    one(m, x.io(2, 1), x.dims, attend);
    ASSERT_TRUE(m.decider.undo(1));
    m.states[0].apply(m.decider.last());
  }
  EXPECT_EQ(support::allocations(), before);
}

TEST(step, does_nothing_over_states_of_another_moment) {
  sequence s;
  memory<tova> m({.budget = 3}, s.dims), other({.budget = 3}, s.dims);
  const support::plain_attention attend(s.dims);
  for (int t = 0; t < 6; ++t) one(m, s.io(t, 1), s.dims, attend);
  for (int t = 0; t < 7; ++t) one(other, s.io(t, 1), s.dims, attend);
  std::swap(m.states, other.states);
  const std::vector<float> out = s.out;
  const auto before = kept(m.decider);
  one(m, s.io(6, 1), s.dims, attend);
  EXPECT_EQ(m.decider.fault(), fault_kind::other_moment);
  EXPECT_EQ(kept(m.decider), before);
  EXPECT_EQ(s.out, out);
  one(m, s.io(6, 1), s.dims, attend);  // and again
  EXPECT_EQ(m.decider.last().fault, fault_kind::other_moment);

  std::swap(m.states, other.states);
  m.decider.clear_fault();
  one(m, s.io(6, 1), s.dims, attend);
  EXPECT_EQ(m.decider.fault(), fault_kind::none);
  EXPECT_EQ(kept(m.decider), kept(other.decider));
}

TEST(step, does_nothing_for_anyone_where_one_can_not_go_on) {
  sequence s;
  memory<tova> a({.budget = 3}, s.dims), b({.budget = 3}, s.dims);
  const support::plain_attention attend(s.dims);
  for (int t = 0; t < 2; ++t) one(a, s.io(t, 1), s.dims, attend), one(b, s.io(t, 1), s.dims, attend);
  const layer_of<tova, state> layers[] = {a.layer(), b.layer()};
  const step_io ios[] = {s.io(2, 1), s.io(2, 2)};  // two tokens are more than limits.chunk
  std::vector<std::byte> scratch(step_scratch_bytes<tova>(s.dims, 2, 8, 2));
  step(std::span<const layer_of<tova, state>>(layers), std::span<const step_io>(ios), s.dims, scratch, attend);
  EXPECT_EQ(a.decider.fault(), fault_kind::none);
  EXPECT_EQ(b.decider.fault(), fault_kind::wrong_count);
  EXPECT_EQ(a.decider.next_position(), 2);
  EXPECT_EQ(b.decider.next_position(), 2);
  memory<tova> p({.budget = 3}, s.dims, {.prompt = 5});
  const auto where = p.layer();
  std::vector<std::byte> more(step_scratch_bytes<tova>(s.dims, 1, 6, 6));
  one_shot(where, s.io(0, 6), s.dims, more, attend);
  EXPECT_EQ(p.decider.fault(), fault_kind::wrong_count);
  EXPECT_EQ(p.decider.next_position(), 0);
}

}  // namespace
