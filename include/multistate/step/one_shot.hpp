#pragma once

#include <cstring>

#include <multistate/step/step.hpp>

namespace multistate {

/// Stores what the reduction of a one-shot prompt left of one layer, and tells on_drop of the rest. io as it was given
/// to one_shot(), which calls this itself except where layers share their lanes: there it is due for every layer after
/// the last one.
template <class P, class State, class OnDrop = ignore_dropped>
void store_survivors(const layer_of<P, State>& layer, const step_io& io, const shape& dims,
                     OnDrop&& on_drop = {}) noexcept {
  State& state = layer.state();
  state.share(layer.decider->last());
  const auto hkv = static_cast<std::size_t>(dims.kv_heads), dk = static_cast<std::size_t>(dims.dk),
             dv = static_cast<std::size_t>(dims.dv);
  for (int h = 0; h < dims.kv_heads; ++h) {
    const auto at = static_cast<std::size_t>(h);
    const int lane = lane_of(layer.decider->scope(), h);
    const lane_decision& lane_kept = layer.decider->last().lanes[static_cast<std::size_t>(lane)];
    for (const position p : lane_kept.dropped_positions) {
      const std::size_t row = static_cast<std::size_t>(p) * hkv + at;
      on_drop(h, p, std::span<const float>(io.k + row * dk, dk), std::span<const float>(io.v + row * dv, dv));
    }
    state.write_kept(h, lane_kept, layer.decider->positions(lane), io.k + at * dk, io.v + at * dv, hkv * dk, hkv * dv);
  }
}

namespace detail {

/// The caller's keys and values of a one-shot prompt.
struct prompt_source {
  const float* k = nullptr;      ///< [tokens][Hkv][dk]
  const float* v = nullptr;      ///< [tokens][Hkv][dv]
  std::size_t heads = 0;         ///< Hkv
  std::size_t layer_stride = 0;  ///< floats from one layer's to the next one's

  /// Reads them by position. Valid as long as this stays where it is.
  state_reader reader() const noexcept {
    return {.from = this,
            .key =
                [](const void* from, int layer, int kv_head, slot, position p, std::span<float> out) noexcept {
                  const auto& own = *static_cast<const prompt_source*>(from);
                  own.copy(own.k, layer, kv_head, p, out);
                },
            .value =
                [](const void* from, int layer, int kv_head, slot, position p, std::span<float> out) noexcept {
                  const auto& own = *static_cast<const prompt_source*>(from);
                  own.copy(own.v, layer, kv_head, p, out);
                }};
  }

  void copy(const float* of, int layer, int kv_head, position p, std::span<float> out) const noexcept {
    const float* at = of + static_cast<std::size_t>(layer) * layer_stride +
                      (static_cast<std::size_t>(p) * heads + static_cast<std::size_t>(kv_head)) * out.size();
    std::memcpy(out.data(), at, out.size_bytes());
  }
};

template <needs Want, class P, class State, class Attend, class OnDrop>
void one_shot_with_rows(const layer_of<P, State>& layer, const step_io& io, const shape& dims,
                        std::span<std::byte> memory_bytes, const Attend& attend, OnDrop&& on_drop) noexcept {
  static_assert(attention_for<Attend, Want, f32, f32>,
                "the attention callable can't give the rows that this policy needs");
  scratch memory(memory_bytes);
  const auto hkv = static_cast<std::size_t>(dims.kv_heads), dk = static_cast<std::size_t>(dims.dk),
             dv = static_cast<std::size_t>(dims.dv);
  const auto tasks = memory.template take<attention_task>(hkv);
  const auto extents = memory.template take<extent>(hkv);
  const prompt_source source{.k = io.k, .v = io.v, .heads = hkv};
  if (layer.decider->reads() && !layer.shared()) layer.decider->read_from(source.reader());
  if (const fault_kind why = layer.first() ? layer.decider->refusal(io.c) : layer.decider->fault();
      why != fault_kind::none) {
    layer.decider->fail(why);
    return;
  }
  if (layer.first()) layer.decider->append(io.c, io.when);
  enter_tokens(*layer.decider, dims, io);
  make_tasks<Want>(
      tasks, *layer.decider, dims, io, 0, false,
      [&](int h) {
        const auto at = static_cast<std::size_t>(h);
        extents[at] = {.k = reinterpret_cast<const std::byte*>(io.k + at * dk),
                       .v = reinterpret_cast<const std::byte*>(io.v + at * dv),
                       .k_stride = hkv * dk * sizeof(float),
                       .v_stride = hkv * dv * sizeof(float),
                       .n = io.c};
        return head_view{.extents = {&extents[at], 1}, .positions = {}, .ranks = {}, .n = io.c};
      },
      memory);
  attend.template operator()<Want, f32, f32>(std::span<const attention_task>(tasks));
  observe_tasks<Want>(std::span<const attention_task>(tasks), *layer.decider, dims);
  if (layer.last()) layer.decider->reduce();
  if (!layer.shared()) store_survivors(layer, io, dims, on_drop);
}

}  // namespace detail

/// A whole prompt at once, into an empty memory: full causal attention over the caller's own keys and values, one
/// reduction (the authors' released code). io.c <= limits.prompt of the decider; the states need no room for the
/// prompt. Does nothing where the decider has a fault or io.c gives it one. Scratch: step_scratch_bytes with states =
/// queries = io.c. Where layers share a decider that reads stored keys or values, the caller says before the first of
/// them where all layers' are (decider::read_from): those of the others are not known here.
template <class P, class State, class Attend, class OnDrop = ignore_dropped>
void one_shot(const layer_of<P, State>& layer, const step_io& io, const shape& dims, std::span<std::byte> scratch,
              const Attend& attend, OnDrop&& on_drop = {}) noexcept {
  detail::with_step_wants<false>(*layer.decider, [&]<needs Want>() noexcept {
    detail::one_shot_with_rows<Want>(layer, io, dims, scratch, attend, on_drop);
  });
}

}  // namespace multistate
