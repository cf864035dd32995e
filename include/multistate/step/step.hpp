#pragma once

#include <cstdint>

#include <multistate/decider/decider.hpp>
#include <multistate/state/multi_state.hpp>
#include <multistate/util/scratch.hpp>
#include <multistate/types/task.hpp>

namespace multistate {

namespace detail {
template <class P>
struct decider_choice {
  using type = P;
};
template <decidable P>
struct decider_choice<P> {
  using type = decider<P>;
};
}  // namespace detail

/// The decider of a policy; a decider that hides its policy's type (any_decider) is its own.
template <class P>
using decider_of = typename detail::decider_choice<P>::type;

/// One sequence's memory of one layer: the decider and the states it decides on. P: a policy, or any_decider.
template <class P, class State>
struct layer_of {
  decider_of<P>* decider = nullptr;  ///< where layers share their lanes the same one in every layer
  std::span<State> states;           ///< this layer's; where they share all layers'
  int layer = 0;                     ///< and which of them

  bool shared() const noexcept { return spans_layers(decider->scope()); }
  bool first() const noexcept { return !shared() || layer == 0; }
  bool last() const noexcept { return !shared() || static_cast<std::size_t>(layer) + 1 == states.size(); }
  State& state() const noexcept {
    MULTISTATE_ASSERT(shared() ? static_cast<std::size_t>(layer) < states.size() : states.size() == 1);
    return states[shared() ? static_cast<std::size_t>(layer) : 0];
  }
};

/// New tokens of one sequence: keys and queries rotated, or un-rotated with in-cache or log positions.
struct step_io {
  const float* q = nullptr;  ///< [c][H][dk]
  const float* k = nullptr;  ///< [c][Hkv][dk]
  const float* v = nullptr;  ///< [c][Hkv][dv]
  float* out = nullptr;      ///< [c][H][dv]
  int c = 1;
  phase when = phase::decode;
  bool unrotated = false;  ///< attention turns keys and queries itself: give it the ranks
  /// [c][Hkv][dk] the keys before they were rotated, for policies that look at keys; null: k.
  const float* k_pre = nullptr;
};

/// Attention as a callable: attend.template operator()<W, KeyFormat, ValueFormat>(tasks) attends all tasks and, where W
/// asks, writes their rows. One that can't give W must not have that operator.
template <class A, needs W, class KeyFormat, class ValueFormat>
concept attention_for = requires(const A& attend, std::span<const attention_task> tasks) {
  { attend.template operator()<W, KeyFormat, ValueFormat>(tasks) } noexcept;
};

/// The rows that step() asks of attention for a policy that is given `wanted`; held rows are asked one by one.
constexpr needs rows_asked(needs wanted, bool hold) noexcept {
  return wanted == needs::nothing ? needs::nothing : hold ? needs::each_row : wanted;
}
template <policy P, bool Hold = false>
inline constexpr needs step_wants = rows_asked(rows_of(detail::default_evidence<P>()), Hold);

/// How many rows of each of `planes` heads, of which one is made of `queries` queries, with their sum where it is
/// asked for beside them.
constexpr int row_count(const evidence& wants, needs asked, int queries, bool hold) noexcept {
  if (asked == needs::nothing) return 0;
  const int each = hold || wants.last > queries ? queries : wants.last;
  return each + (any(asked & needs::row_sum) ? 1 : 0);
}

/// Scratch of step() and one_shot(): `sequences` at once, lanes of at most `states` slots, chunks of at most `queries`
/// tokens. `apart`: rows of each query head.
constexpr std::size_t step_scratch_bytes(const evidence& wants, bool hold, const shape& dims, int sequences, int states,
                                         int queries, bool apart = false) noexcept {
  using detail::scratch;
  const auto tasks = static_cast<std::size_t>(sequences) * static_cast<std::size_t>(dims.kv_heads);
  const auto n = static_cast<std::size_t>(states);
  const auto rows = static_cast<std::size_t>(row_count(wants, rows_asked(rows_of(wants), hold), queries, hold)) *
                    static_cast<std::size_t>(apart ? dims.group() : 1);
  return scratch::alignment_bytes + scratch::bytes<attention_task>(tasks) + scratch::bytes<extent>(tasks) +
         tasks * (rows * scratch::bytes<float>(n) + scratch::bytes<std::uint32_t>(n));
}

template <policy P, bool Hold = false>
constexpr std::size_t step_scratch_bytes(const shape& dims, int sequences, int states, int queries) noexcept {
  return step_scratch_bytes(detail::default_evidence<P>(), Hold, dims, sequences, states, queries);
}

namespace detail {

/// Calls f.operator()<W>() with the rows W that a step asks of attention: one instance where they are the same for all
/// settings of the policy, else what the decider says.
template <bool Hold, class Decider, class F>
void with_step_wants(const Decider& decider, const F& f) noexcept {
  if constexpr (Decider::rows_known) {
    f.template operator()<rows_asked(Decider::known_rows, Hold)>();
  } else {
    switch (rows_asked(decider.rows_wanted(), Hold)) {
      case needs::last_row:
        return f.template operator()<needs::last_row>();
      case needs::row_sum:
        return f.template operator()<needs::row_sum>();
      case needs::each_row:
        return f.template operator()<needs::each_row>();
      case needs::rows_and_sum:
        return f.template operator()<needs::rows_and_sum>();
      default:
        return f.template operator()<needs::nothing>();
    }
  }
}

/// The attention tasks of one sequence: its chunk over what `view_of(kv_head)` shows.
template <needs Want, class Decider, class View>
void make_tasks(std::span<attention_task> tasks, const Decider& decider, const shape& dims, const step_io& io,
                int sequence, bool hold, View&& view_of, scratch& memory) noexcept {
  const auto heads = static_cast<std::size_t>(dims.heads), group = static_cast<std::size_t>(dims.group());
  const auto dk = static_cast<std::size_t>(dims.dk), dv = static_cast<std::size_t>(dims.dv);
  std::span<std::uint32_t> ranks;
  int ranked = -1;
  for (int h = 0; h < dims.kv_heads; ++h) {
    const int lane = lane_of(decider.scope(), h);
    attention_task& t = tasks[static_cast<std::size_t>(h)];
    t = {};
    t.kv = view_of(h);
    const auto n = static_cast<std::size_t>(t.kv.n);
    if (io.unrotated && lane != ranked) {
      ranks = memory.take<std::uint32_t>(n);
      decider.ranks(lane, ranks);
      ranked = lane;
    }
    t.kv.positions = decider.positions(lane);
    t.kv.ranks = ranks;
    t.q = io.q + static_cast<std::size_t>(h) * group * dk;
    t.q_stride = heads * dk;
    t.out = io.out + static_cast<std::size_t>(h) * group * dv;
    t.out_stride = heads * dv;
    if constexpr (Want != needs::nothing) {
      const evidence& wants = decider.wants();
      const std::size_t rows = static_cast<std::size_t>(row_count(wants, Want, io.c, hold));
      t.row_stride = scratch::bytes<float>(n) / sizeof(float);
      t.head_stride = decider.heads_apart() ? rows * t.row_stride : 0;
      t.row = memory.take<float>((decider.heads_apart() ? group : 1) * rows * t.row_stride).data();
      t.row_queries = hold ? 0 : wants.last;
      t.decay = wants.decay;
      if (Want == needs::rows_and_sum) t.sum = t.row + (rows - 1) * t.row_stride;
    }
    t.first = decider.next_position() - io.c;
    t.queries = io.c;
    t.sequence = sequence;
    t.kv_head = h;
  }
}

/// Hands the rows of one sequence to its decider, in head order.
template <needs Want, class Decider>
void observe_tasks(std::span<const attention_task> tasks, Decider& decider, const shape& dims) noexcept {
  if constexpr (Want != needs::nothing) {
    for (const attention_task& t : tasks)
      decider.observe(
          lane_of(decider.scope(), t.kv_head),
          {.data = t.row,
           .stride = t.row_stride,
           .n = t.kv.n,
           .queries =
               Want == needs::row_sum || t.row_queries == 0 || t.row_queries > t.queries ? t.queries : t.row_queries,
           .heads = dims.group(),
           .kind = Want == needs::row_sum    ? rows_kind::sum
                   : Want == needs::last_row ? rows_kind::last
                                             : rows_kind::each,
           .sum = t.sum,
           .head_stride = t.head_stride});
  }
}

template <class Decider>
void enter_tokens(Decider& decider, const shape& dims, const step_io& io) noexcept {
  if (decider.enters()) {
    const auto hkv = static_cast<std::size_t>(dims.kv_heads), group = static_cast<std::size_t>(dims.group());
    const auto dk = static_cast<std::size_t>(dims.dk), dv = static_cast<std::size_t>(dims.dv);
    const float* keys = io.k_pre != nullptr ? io.k_pre : io.k;
    for (std::size_t j = 0; j < static_cast<std::size_t>(io.c); ++j)
      for (std::size_t h = 0; h < hkv; ++h)
        decider.enter(lane_of(decider.scope(), static_cast<int>(h)), static_cast<int>(j),
                      {keys + (j * hkv + h) * dk, dk}, {io.v + (j * hkv + h) * dv, dv},
                      {io.q + (j * hkv + h) * group * dk, group * dk});
  }
}

/// Reads what the states of a layer hold, or of all layers that share a decider.
template <class State>
state_reader reader_of(std::span<State> states) noexcept {
  return {
      .from = states.data(),
      .key = [](const void* from, int layer, int kv_head, slot s, position,
                std::span<float> out) noexcept { static_cast<const State*>(from)[layer].read_key(kv_head, s, out); },
      .value =
          [](const void* from, int layer, int kv_head, slot s, position, std::span<float> out) noexcept {
            static_cast<const State*>(from)[layer].read_value(kv_head, s, out);
          }};
}

/// Whether a step can begin: every decider takes the tokens, all states are at its moment. Where not, the decider gets
/// the fault.
template <class P, class State>
bool ready(const layer_of<P, State>& layer, int c, bool held) noexcept {
  auto& decider = *layer.decider;
  fault_kind why = layer.first() ? decider.refusal(c, held) : decider.fault();
  if (why == fault_kind::none &&
      !layer.state().executed(layer.first() ? decider.moment() : decider.last().lanes[0].before))
    why = fault_kind::other_moment;
  if (why != fault_kind::none) decider.fail(why);
  return why == fault_kind::none;
}

template <needs Want, bool Hold, class P, class State, class Attend, class OnDrop>
void step_with_rows(std::span<const layer_of<P, State>> layers, std::span<const step_io> io, const shape& dims,
                    std::span<std::byte> memory_bytes, const Attend& attend, OnDrop&& on_drop) noexcept {
  using keys = typename State::key_format;
  using values = typename State::value_format;
  static_assert(attention_for<Attend, Want, keys, values>,
                "the attention callable can't give the rows that this policy needs");
  scratch memory(memory_bytes);
  for (const auto& layer : layers)
    if (layer.decider->reads()) layer.decider->read_from(reader_of(layer.states));
  bool all_ready = true;
  for (std::size_t i = 0; i < layers.size(); ++i) all_ready = ready(layers[i], io[i].c, Hold) && all_ready;
  if (!all_ready) return;
  const auto hkv = static_cast<std::size_t>(dims.kv_heads);
  const auto tasks = memory.template take<attention_task>(layers.size() * hkv);
  const auto extents = memory.template take<extent>(layers.size() * hkv);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const auto& layer = layers[i];
    if (layer.first()) layer.decider->append(io[i].c, io[i].when, Hold);
    State& state = layer.state();
    state.apply(layer.decider->last());
    for (int h = 0; h < dims.kv_heads; ++h) {
      const auto at = static_cast<std::size_t>(h);
      state.write(h, layer.decider->slots(lane_of(layer.decider->scope(), h)),
                  io[i].k + at * static_cast<std::size_t>(dims.dk), io[i].v + at * static_cast<std::size_t>(dims.dv),
                  hkv * static_cast<std::size_t>(dims.dk), hkv * static_cast<std::size_t>(dims.dv));
    }
    enter_tokens(*layer.decider, dims, io[i]);
    make_tasks<Want>(
        tasks.subspan(i * hkv, hkv), *layer.decider, dims, io[i], static_cast<int>(i), Hold,
        [&](int h) { return state.view(h, extents[i * hkv + static_cast<std::size_t>(h)]); }, memory);
  }
  attend.template operator()<Want, keys, values>(std::span<const attention_task>(tasks));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const auto& layer = layers[i];
    observe_tasks<Want>(tasks.subspan(i * hkv, hkv), *layer.decider, dims);
    if constexpr (!Hold) {
      if (!layer.last()) continue;
      const multistate::decision& decision = layer.decider->reduce();
      for (State& state : layer.states) state.apply(decision, on_drop);
    }
  }
}

}  // namespace detail

/// One layer of any number of sequences in the paper's order (Oren et al. 2024, section 4): append, attend over all
/// states with the new ones and those about to go, observe, drop. Sequences may have different chunks. Hold: rows wait
/// and nothing is dropped; once it is known how many of the c <= limits.hold tokens are accepted the caller executes
/// states.apply(decider.reduce(accepted)) in every layer. on_drop as in multi_state::apply. Where a decider has a
/// fault, or gets one because of its states or of io.c, the step does nothing for anyone. Precondition: scratch of
/// step_scratch_bytes.
template <bool Hold = false, class P, class State, class Attend, class OnDrop = ignore_dropped>
void step(std::span<const layer_of<P, State>> layers, std::span<const step_io> io, const shape& dims,
          std::span<std::byte> scratch, const Attend& attend, OnDrop&& on_drop = {}) noexcept {
  MULTISTATE_ASSERT(layers.size() == io.size());
  if (layers.empty()) return;
  detail::with_step_wants<Hold>(*layers[0].decider, [&]<needs Want>() noexcept {
    detail::step_with_rows<Want, Hold>(layers, io, dims, scratch, attend, on_drop);
  });
}

}  // namespace multistate
