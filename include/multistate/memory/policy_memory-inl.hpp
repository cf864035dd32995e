// A layer's memory under a policy that is known here and nowhere above, compiled once for each SIMD target.

#if defined(MULTISTATE_MEMORY_POLICY_MEMORY_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_MEMORY_POLICY_MEMORY_INL_HPP_
#undef MULTISTATE_MEMORY_POLICY_MEMORY_INL_HPP_
#else
#define MULTISTATE_MEMORY_POLICY_MEMORY_INL_HPP_
#endif

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <multistate/attention/attend-inl.hpp>
#include <multistate/decider/any_decider.hpp>
#include <multistate/memory/memory_setup.hpp>
#include <multistate/memory/sequence_memory.hpp>
#include <multistate/memory/sequence_pool.hpp>
#include <multistate/policy/window.hpp>
#include <multistate/state/multi_state.hpp>
#include <multistate/step/one_shot.hpp>
#include <multistate/step/step.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {

namespace detail {

/// Attention that shows its tasks to an observer, with rows that the policy does not need where `tap` asks for them.
struct watched_attention {
  attention<serial> attend;
  memory_observer* observer;
  needs tap;
  int layer;
  std::span<std::byte> scratch;  ///< of the tapped rows

  /// Scratch beside that of step(): tasks of at most n states and so many queries.
  static std::size_t scratch_bytes(const shape& dims, needs tap, int n, int queries) noexcept {
    using multistate::detail::scratch;
    if (tap == needs::nothing) return 0;
    const auto tasks = static_cast<std::size_t>(dims.kv_heads);
    const std::size_t rows = tap == needs::each_row ? static_cast<std::size_t>(queries) : 1;
    return scratch::alignment_bytes + scratch::bytes<attention_task>(tasks) +
           tasks * rows * scratch::bytes<float>(static_cast<std::size_t>(n));
  }

  template <needs Want, class KeyFormat, class ValueFormat>
  void operator()(std::span<const attention_task> tasks) const noexcept {
    if constexpr (Want == needs::nothing) {
      if (observer != nullptr && tap != needs::nothing) return tapped<KeyFormat, ValueFormat>(tasks);
    }
    attend.template operator()<Want, KeyFormat, ValueFormat>(tasks);
    if (observer != nullptr) observer->attended(layer, tasks);
  }

 private:
  template <class KeyFormat, class ValueFormat>
  void tapped(std::span<const attention_task> tasks) const noexcept {
    multistate::detail::scratch memory(scratch);
    const auto copies = memory.template take<attention_task>(tasks.size());
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      attention_task& t = copies[i];
      t = tasks[i];
      const std::size_t rows = tap == needs::each_row ? static_cast<std::size_t>(t.queries) : 1;
      t.row_stride = multistate::detail::scratch::bytes<float>(static_cast<std::size_t>(t.kv.n)) / sizeof(float);
      t.row = memory.template take<float>(rows * t.row_stride).data();
    }
    const std::span<const attention_task> with_rows = copies;
    if (tap == needs::each_row)
      attend.template operator()<needs::each_row, KeyFormat, ValueFormat>(with_rows);
    else
      attend.template operator()<needs::last_row, KeyFormat, ValueFormat>(with_rows);
    observer->attended(layer, with_rows);
  }
};

/// What is left of an arena.
inline arena behind(const arena& memory, std::size_t bytes) noexcept {
  return memory.base == nullptr ? arena{} : arena{memory.base + bytes, memory.bytes - bytes};
}

/// Its address names a kind of decider and its formats.
template <class P, class KeyFormat, class ValueFormat>
inline constexpr char memory_type = 0;

/// What a memory is made for: a policy, or one whose type is not known where its memory is compiled.
template <class S>
concept policy_settings = decidable<S> || std::same_as<S, policy_handle>;

/// What names the decider of such settings.
template <policy_settings S>
using decided_by = std::conditional_t<std::same_as<S, policy_handle>, any_decider, S>;

template <decidable P>
result<decider<P>> make_decider(const P& settings, const placement& where, const limits& room,
                                std::span<const int> lane_budgets) noexcept {
  return decider<P>::make(settings, where, room, lane_budgets);
}
inline result<any_decider> make_decider(const policy_handle& settings, const placement& where, const limits& room,
                                        std::span<const int> lane_budgets) {
  return settings.make_decider(where, room, lane_budgets);
}
template <decidable P>
scope_kind scope_of(const P& settings) noexcept {
  return multistate::detail::asked<P>{settings}.scope();
}
inline scope_kind scope_of(const policy_handle& settings) noexcept { return settings.scope(); }
template <decidable P>
evidence evidence_of(const P& settings) noexcept {
  return multistate::detail::asked<P>{settings}.wants();
}
inline evidence evidence_of(const policy_handle& settings) noexcept { return settings.wants(); }

/// P: a policy, or any_decider.
template <class P, class KeyFormat, class ValueFormat>
class policy_memory final : public layer_memory {
  using state = multi_state<KeyFormat, ValueFormat>;

 public:
  template <class Settings>
  static result<std::unique_ptr<layer_memory>> make(const Settings& settings, const memory_setup& setup, int layer,
                                                    std::span<const int> lane_budgets) {
    if (setup.layers < 1 || layer < 0 || layer >= setup.layers)
      return error(errc::bad_shape, "memory: needs 0 <= layer < layers; got layer=", layer, ", layers=", setup.layers);
    if (setup.tap != needs::nothing && setup.tap != needs::last_row && setup.tap != needs::each_row)
      return error(errc::bad_input, "memory: an observer can tap nothing, last_row or each_row");
    auto memory = std::unique_ptr<policy_memory>(new policy_memory);
    policy_memory& m = *memory;
    m.setup_ = setup;
    const bool whole = spans_layers(scope_of(settings));
    if (error e = m.take_own(layer, whole)) return e;
    m.setup_.room.window = m.setup_.attention.window;
    const limits& room = m.setup_.room;
    m.first_layer_ = whole ? 0 : layer;
    placement where{.kv_heads = setup.dims.kv_heads,
                    .layer = m.first_layer_,
                    .layers = setup.layers,
                    .heads = setup.dims.heads,
                    .dk = setup.dims.dk,
                    .dv = setup.dims.dv};
    if (setup.positions != position_mode::original && evidence_of(settings).queries)
      return error(errc::not_supported, "memory: a policy that looks at queries needs original positions");
    if (evidence_of(settings).angles)
      if (error e = m.find_angles(where.angles)) return e;
    auto decider = make_decider(settings, where, room, lane_budgets);
    if (!decider) return decider.reason();
    m.decider_ = std::move(*decider);

    const int layers = whole ? setup.layers : 1;
    arena rest = setup.states;
    for (int i = 0; i < layers; ++i) {
      auto made = state::make(setup.dims, m.decider_.plan(), rest);
      if (!made) return made.reason();
      m.states_.push_back(std::move(*made));
      rest = behind(rest, state::bytes_needed(setup.dims, m.decider_.plan()));
    }
    for (int lane = 0; lane < m.decider_.lanes(); ++lane)
      m.most_states_ = (std::max)(m.most_states_, m.decider_.capacity(lane));
    if (error e = m.make_angles()) return e;
    if (whole && layers > 1 && room.prompt > 0) {
      const auto floats = static_cast<std::size_t>(layers) * static_cast<std::size_t>(room.prompt) * m.token_floats();
      if (!m.prompt_.allocate(floats))
        return error(errc::out_of_memory, "memory: no memory for the keys of a one-shot prompt");
    }
    m.empty_decider_.resize(m.decider_.save_bytes());
    m.decider_.save(m.empty_decider_);
    m.empty_state_.resize(m.states_[0].save_bytes());
    m.states_[0].save(m.empty_state_);
    m.describe();
    return std::unique_ptr<layer_memory>(std::move(memory));
  }

  void attend(int layer, const step_io& io, attend_mode mode, memory_observer* observer,
              std::span<std::byte> scratch) noexcept override {
    if (mode == attend_mode::one_shot) return whole_prompt(layer, io, observer, scratch);
    if (mode != attend_mode::one_by_one || io.c == 1)
      return cycle(layer, io, mode == attend_mode::held, observer, scratch);
    MULTISTATE_ASSERT(states_.size() == 1);
    const shape& d = setup_.dims;
    step_io one = io;
    one.c = 1;
    for (int j = 0; j < io.c; ++j) {
      one.when = io.when == phase::prompt_end && j + 1 < io.c ? phase::prompt : io.when;
      cycle(layer, one, false, observer, scratch);
      one.q += to_size(d.heads) * to_size(d.dk);
      one.k += to_size(d.kv_heads) * to_size(d.dk);
      if (one.k_pre != nullptr) one.k_pre += to_size(d.kv_heads) * to_size(d.dk);
      one.v += to_size(d.kv_heads) * to_size(d.dv);
      one.out += to_size(d.heads) * to_size(d.dv);
    }
  }

  void reduce(int accepted, memory_observer* observer) noexcept override {
    const multistate::decision& decision = decider_.reduce(accepted);
    for (state& s : states_) s.apply(decision);
    if (observer != nullptr) observer->decided(first_layer_ + static_cast<int>(states_.size()) - 1, decision);
  }
  bool can_undo(int tokens) const noexcept override { return decider_.can_undo(tokens); }
  void undo(int tokens) noexcept override {
    decider_.undo(tokens);
    for (state& s : states_) s.apply(decider_.last());
  }
  /// A layer with a window of its own has no room for pins: what is behind its window is never seen.
  bool pin(position first, position last) noexcept override { return own_window_ || decider_.pin(first, last); }
  bool unpin(position first, position last) noexcept override { return own_window_ || decider_.unpin(first, last); }
  void reset() noexcept override {
    overflowed_.reset();
    decider_.restart(first_layer_);
    [[maybe_unused]] bool done = true;
    for (state& s : states_) done = !s.load(empty_state_) && done;
    MULTISTATE_ASSERT(done);
  }
  bool alike(const layer_memory& other) const noexcept override {
    if (other.properties().type != properties_.type) return false;
    const auto& o = static_cast<const policy_memory&>(other);  // saved empty memories begin with what names all sizes
    return states_.size() == o.states_.size() && empty_decider_ == o.empty_decider_ && empty_state_ == o.empty_state_ &&
           properties_.positions == o.properties_.positions && first_layer_ == o.first_layer_;
  }
  void copy_from(const layer_memory& other) noexcept override {
    const auto& o = static_cast<const policy_memory&>(other);
    overflowed_ = o.overflowed_;
    [[maybe_unused]] bool done = decider_.copy_from(o.decider_);
    for (std::size_t i = 0; i < states_.size(); ++i) done = states_[i].copy_from(o.states_[i]) && done;
    MULTISTATE_ASSERT(done);
  }

  position next_position() const noexcept override { return decider_.next_position(); }
  int budget(int lane) const noexcept override { return decider_.budget(lane); }
  int live(int lane) const noexcept override { return decider_.live(lane); }
  std::span<const position> positions(int lane) const noexcept override { return decider_.positions(lane); }

 private:
  bool sees_rows() const noexcept { return decider_.rows_wanted() != needs::nothing; }

  policy_memory() = default;

  std::size_t token_floats() const noexcept {
    return to_size(setup_.dims.kv_heads) * (to_size(setup_.dims.dk) + to_size(setup_.dims.dv));
  }
  std::size_t step_bytes() const noexcept {
    const shape& d = setup_.dims;
    const limits& room = setup_.room;
    const auto of = [&](bool hold, int states, int queries) {
      return step_scratch_bytes(decider_.wants(), hold, d, 1, states, queries, decider_.heads_apart());
    };
    std::size_t bytes = of(false, most_states_, room.chunk);
    if (room.hold > 0) bytes = (std::max)(bytes, of(true, most_states_, room.hold));
    return room.prompt > 0 ? (std::max)(bytes, of(false, room.prompt, room.prompt)) : bytes;
  }
  int most_queries() const noexcept { return (std::max)(setup_.room.chunk, setup_.room.prompt); }
  std::size_t attend_bytes() const noexcept {
    return attend_scratch_bytes(setup_.dims, most_states_, most_queries(), 1, rotation_.has_value());
  }

  /// The window and angles of its layer, where layers differ.
  error take_own(int layer, bool whole) {
    const std::vector<layer_attention> own = std::exchange(setup_.own, {});
    if (own.empty()) return {};
    if (own.size() != to_size(setup_.layers))
      return error(errc::bad_shape, "memory: needs what is a layer's own for ", setup_.layers, " layers; got ",
                   own.size());
    const layer_attention& mine = own[to_size(layer)];
    for (const layer_attention& other : own)
      if (whole && (other.window > 0 || (setup_.positions != position_mode::original && !(other == mine))))
        return error(errc::not_supported, "memory: scope model needs layers without windows of their own, and the ",
                     "same angles in all where positions are in-cache or log");
    setup_.attention.window = mine.window;
    setup_.rope = mine.rope;
    own_window_ = mine.window > 0;
    return {};
  }

  /// The angles of its layer, for a policy that wants them; none where the setup says nothing of them.
  error find_angles(rotary_angles& angles) {
    if (setup_.rope.dim == 0) return {};
    auto made = rope::make(setup_.rope);
    if (!made) return made.reason();
    const rope& rotation = policy_rotation_.emplace(std::move(*made));
    angles = {.frequencies = rotation.inv_freq(),
              .adjacent = setup_.rope.pairing == rope_pairing::adjacent,
              .factor = setup_.rope.attention_factor,
              .applied = setup_.positions == position_mode::original};
    return {};
  }

  error make_angles() {
    if (setup_.positions == position_mode::original) return {};
    if (setup_.positions == position_mode::log) {
      auto made = rope::make(setup_.rope);
      if (!made) return made.reason();
      setup_.attention.log = &rotation_.emplace(std::move(*made));
    } else {
      if (setup_.angles == nullptr || setup_.angles->ranks() < most_states_ ||
          !(setup_.angles->rotation().config() == setup_.rope)) {
        auto made = angle_table::make(setup_.rope, most_states_);
        if (!made) return made.reason();
        setup_.angles = std::make_shared<const angle_table>(std::move(*made));
      }
      setup_.attention.in_cache = setup_.angles.get();
    }
    if (const int dim = setup_.attention.rotation()->config().dim; dim > setup_.dims.dk)
      return error(errc::bad_shape, "memory: rope turns ", dim, " elements of keys that have ", setup_.dims.dk);
    return {};
  }

  void describe() noexcept {
    properties_.dims = setup_.dims;
    properties_.room = setup_.room;
    properties_.scope = decider_.scope();
    properties_.lanes = decider_.lanes();
    properties_.layers = static_cast<int>(states_.size());
    if (decider_.unbounded()) properties_.most_tokens = decider_.budget(0);
    properties_.positions = setup_.positions;
    properties_.bytes = decider_.bytes() + prompt_.bytes();
    for (const state& s : states_) properties_.bytes += s.bytes();
    properties_.arena_bytes = states_.size() * state::bytes_needed(setup_.dims, decider_.plan());
    properties_.state_bytes = state::state_bytes(setup_.dims);
    properties_.scratch_bytes = step_bytes() + attend_bytes();
    if (!sees_rows())
      properties_.scratch_bytes +=
          watched_attention::scratch_bytes(setup_.dims, setup_.tap, most_states_, most_queries());
    properties_.angles = setup_.angles;
    properties_.type = &memory_type<P, KeyFormat, ValueFormat>;
  }

  layer_of<P, state> place(int layer) noexcept { return {&decider_, states_, layer}; }
  watched_attention attention_of(int layer, memory_observer* observer, std::span<std::byte> scratch) const noexcept {
    const std::size_t bytes = attend_bytes();
    return {{setup_.dims, setup_.attention, nullptr, scratch.first(bytes)},
            observer,
            setup_.tap,
            first_layer_ + layer,
            scratch.subspan(bytes)};
  }

  /// One call of step().
  void cycle(int layer, step_io io, bool hold, memory_observer* observer, std::span<std::byte> scratch) noexcept {
    io.unrotated = properties_.unrotated();
    const layer_of<P, state> at = place(layer);
    const watched_attention attend = attention_of(layer, observer, scratch.subspan(step_bytes()));
    const std::span<const layer_of<P, state>> layers(&at, 1);
    const std::span<const step_io> ios(&io, 1);
    const position first = decider_.next_position() - (at.first() ? 0 : io.c);
    for (int j = 0; j < io.c && !overflowed_; ++j) look_at(layer, io, j, first + j);
    if (hold) return step<true>(layers, ios, setup_.dims, scratch.first(step_bytes()), attend);
    step(layers, ios, setup_.dims, scratch.first(step_bytes()), attend);
    if (at.last() && observer != nullptr) observer->decided(first_layer_ + layer, decider_.last());
  }

  void whole_prompt(int layer, step_io io, memory_observer* observer, std::span<std::byte> scratch) noexcept {
    io.unrotated = properties_.unrotated();
    const layer_of<P, state> at = place(layer);
    if (states_.size() > 1) keep_prompt(layer, io);  // the decision comes after the last layer
    if (decider_.reads() && at.shared()) {
      const step_io first = states_.size() > 1 ? kept_prompt(0, io) : io;
      source_ = {.k = first.k,
                 .v = first.v,
                 .heads = to_size(setup_.dims.kv_heads),
                 .layer_stride = to_size(setup_.room.prompt) * token_floats()};
      decider_.read_from(source_.reader());
    }
    one_shot(at, io, setup_.dims, scratch.first(step_bytes()),
             attention_of(layer, observer, scratch.subspan(step_bytes())));
    if (!at.last()) return;
    const int layers = static_cast<int>(states_.size());
    if (at.shared())
      for (int l = 0; l < layers; ++l) store_survivors(place(l), layers > 1 ? kept_prompt(l, io) : io, setup_.dims);
    for (int l = 0; l < layers; ++l)
      for (int lane = 0; lane < decider_.lanes(); ++lane)
        for (const position p : decider_.positions(lane))
          if (p >= 0 && (!overflowed_ || (overflowed_->layer == first_layer_ + l && p < overflowed_->at)))
            look_at(l, layers > 1 ? kept_prompt(l, io) : io, static_cast<int>(p), p);
    if (observer != nullptr) observer->decided(first_layer_ + layer, decider_.last());
  }
  /// Notes whether token j of io, at position p, has what the formats can't hold.
  void look_at(int layer, const step_io& io, int j, position p) noexcept {
    const std::size_t hkv = to_size(setup_.dims.kv_heads), keys = hkv * to_size(setup_.dims.dk),
                      values = hkv * to_size(setup_.dims.dv);
    if (overflows<KeyFormat>(io.k + to_size(j) * keys, keys))
      overflowed_ = {first_layer_ + layer, p, KeyFormat::name};
    else if (overflows<ValueFormat>(io.v + to_size(j) * values, values))
      overflowed_ = {first_layer_ + layer, p, ValueFormat::name};
  }
  /// prompt_ is [layers][k [L][Hkv][dk], v [L][Hkv][dv]].
  step_io kept_prompt(int layer, step_io io) noexcept {
    float* k = prompt_.data() + to_size(layer) * to_size(setup_.room.prompt) * token_floats();
    io.k = k;
    io.v = k + to_size(io.c) * to_size(setup_.dims.kv_heads) * to_size(setup_.dims.dk);
    return io;
  }
  void keep_prompt(int layer, const step_io& io) noexcept {
    const step_io to = kept_prompt(layer, io);
    const std::size_t tokens = to_size(io.c) * to_size(setup_.dims.kv_heads);
    std::memcpy(const_cast<float*>(to.k), io.k, tokens * to_size(setup_.dims.dk) * sizeof(float));
    std::memcpy(const_cast<float*>(to.v), io.v, tokens * to_size(setup_.dims.dv) * sizeof(float));
  }

  memory_setup setup_;
  std::optional<rope> rotation_;              ///< log positions only
  std::optional<rope> policy_rotation_;       ///< where the policy wants angles
  multistate::detail::prompt_source source_;  ///< of a one-shot prompt
  decider_of<P> decider_;
  std::vector<state> states_;  ///< one, or one for each layer at scope model
  int first_layer_ = 0;
  int most_states_ = 0;      ///< attended at once
  bool own_window_ = false;  ///< of the layer, beside the policy
  buffer<float> prompt_;
  std::vector<std::byte> empty_decider_, empty_state_;
};

}  // namespace detail

/// Memory of one layer of a sequence, or of all its layers at scope model (then `layer` does not matter). `settings`: a
/// policy or a policy_handle, as in what follows.
/// `lane_budgets`: one per lane for ragged budgets, empty for the settings' own. A layer with a window of its own
/// (memory_setup::own) keeps what that shows, Window(window - 1), in place of `settings`, which must be a
/// policy_handle.
template <class KeyFormat = f32, class ValueFormat = KeyFormat, detail::policy_settings S>
result<std::unique_ptr<layer_memory>> make_layer_memory(const S& settings, const memory_setup& setup, int layer,
                                                        std::span<const int> lane_budgets = {}) {
  const bool has_own = layer >= 0 && static_cast<std::size_t>(layer) < setup.own.size();
  const int own_window = has_own ? setup.own[to_size(layer)].window : 0;
  if (own_window > 0 && !spans_layers(detail::scope_of(settings))) {
    if constexpr (std::same_as<S, policy_handle>)
      return detail::policy_memory<any_decider, KeyFormat, ValueFormat>::make(
          policy_handle(window{.budget = (std::max)(1, own_window - 1)}), setup, layer, {});
    else
      return error(errc::not_supported, "memory: layer ", layer, " has a window of its own; needs a policy_handle");
  }
  return detail::policy_memory<detail::decided_by<S>, KeyFormat, ValueFormat>::make(settings, setup, layer,
                                                                                    lane_budgets);
}

/// Memory of a sequence whose layers are all alike. For layers that differ: make_layer_memory() for each, then
/// sequence_memory::make().
template <class KeyFormat = f32, class ValueFormat = KeyFormat, detail::policy_settings S>
result<sequence_memory> make_memory(const S& settings, memory_setup setup, std::span<const int> lane_budgets = {}) {
  std::vector<std::unique_ptr<layer_memory>> parts;
  for (int layer = 0; layer < setup.layers;) {
    auto part = make_layer_memory<KeyFormat, ValueFormat>(settings, setup, layer, lane_budgets);
    if (!part) return part.reason();
    layer += (*part)->properties().layers;
    setup.angles = (*part)->properties().angles;
    setup.states = detail::behind(setup.states, (*part)->properties().arena_bytes);
    parts.push_back(std::move(*part));
  }
  return sequence_memory::make(std::move(parts));
}

/// A pool of sequences that make_memory() would make.
template <class KeyFormat = f32, class ValueFormat = KeyFormat, detail::policy_settings S>
result<sequence_pool> make_sequence_pool(int count, const S& settings, memory_setup setup,
                                         std::span<const int> lane_budgets = {}) {
  if (setup.positions == position_mode::in_cache) {  // one table for all
    auto layer = make_layer_memory<KeyFormat, ValueFormat>(settings, setup, 0, lane_budgets);
    if (!layer) return layer.reason();
    setup.angles = (*layer)->properties().angles;
  }
  return sequence_pool::make(count, [&](const arena& states) {
    setup.states = states;
    return make_memory<KeyFormat, ValueFormat>(settings, setup, lane_budgets);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_MEMORY_POLICY_MEMORY_INL_HPP_
