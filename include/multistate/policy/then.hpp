#pragma once

#include <multistate/policy/asked.hpp>

namespace multistate {

/// Two policies in turn: `prompt` decides while a prompt is read, `decode` afterwards. Both observe from the first
/// token on. The budget is the first one's, and both have its scope. `snapkv:512/tova`.
template <class P, class D>
struct then {
  P prompt{};
  D decode{};
};

namespace detail {

template <class P, class D>
inline constexpr bool stands_for_policies<then<P, D>> = decidable<P> && decidable<D>;

template <class P, class D>
struct asked<then<P, D>> {
  asked() = default;
  asked(const then<P, D>& settings) noexcept  // NOLINT(google-explicit-constructor)
      : first{settings.prompt}, second{settings.decode} {}

  asked<P> first{};
  asked<D> second{};

  static constexpr bool rows_known = asked<P>::rows_known && asked<D>::rows_known;
  static constexpr needs rows = [] {
    const needs both = asked<P>::rows | asked<D>::rows;
    return any(both & needs::last_row) && both != needs::last_row ? needs::each_row | (both & needs::row_sum) : both;
  }();
  static constexpr bool may_pool = asked<P>::may_pool || asked<D>::may_pool;
  static constexpr bool may_observe = asked<P>::may_observe || asked<D>::may_observe;
  static constexpr bool may_enter = asked<P>::may_enter || asked<D>::may_enter;
  static constexpr bool may_score = asked<P>::may_score || asked<D>::may_score;
  static constexpr bool may_frame = asked<P>::may_frame || asked<D>::may_frame;
  static constexpr bool may_read = asked<P>::may_read || asked<D>::may_read;

  /// No policy for prompts: the second acts always.
  bool alone() const noexcept {
    if constexpr (requires { first.of.empty(); }) return first.of.empty();
    return false;
  }
  /// Calls f with the policy that decides in a phase, and where its columns and numbers begin.
  template <class F>
  decltype(auto) acting(phase when, const F& f, const lane_ref& lane = {}) const noexcept {
    if (alone()) return f(second, evidence{});
    if (when != phase::decode) return f(first, evidence{});
    return f(second, first_wants(lane));
  }

  bool paired() const noexcept { return !alone(); }
  std::string_view name() const noexcept { return alone() ? second.name() : first.name(); }
  int budget() const noexcept { return alone() ? second.budget() : first.budget(); }
  scope_kind scope() const noexcept { return alone() ? second.scope() : first.scope(); }
  bool unbounded() const noexcept { return alone() ? second.unbounded() : false; }
  evidence wants(const shape& lane = {}) const noexcept {
    evidence e = second.wants(lane);
    if (alone()) return e;
    const evidence p = first.wants(lane);
    if (p.last > e.last) e.last = p.last;
    if (p.sum) e.decay = p.decay;
    e.sum = e.sum || p.sum;
    e.keys = e.keys || p.keys;
    e.values = e.values || p.values;
    e.queries = e.queries || p.queries;
    e.stored_keys = e.stored_keys || p.stored_keys;
    e.stored_values = e.stored_values || p.stored_values;
    e.angles = e.angles || p.angles;
    e.order = e.order || p.order;
    if (p.work > e.work) e.work = p.work;
    if (p.work_per_state > e.work_per_state) e.work_per_state = p.work_per_state;
    e.columns += p.columns;
    e.lane_numbers += p.lane_numbers;
    return e;
  }
  bool observes_rows() const noexcept { return second.observes_rows() || (!alone() && first.observes_rows()); }
  error check(int budget) const noexcept {
    if (const error e = second.check(budget)) return e;
    if (alone()) return {};
    if (const error e = first.check(budget)) return e;
    const evidence p = first.wants(), d = second.wants();
    if (second.scope() != first.scope())
      return error(errc::bad_policy, first.name(), "/", second.name(), ": both need the same scope");
    if (p.sum && d.sum && (p.decay < d.decay || p.decay > d.decay))
      return error(errc::bad_policy, first.name(), "/", second.name(),
                   ": both sum rows, so they need the same decay; got ", p.decay, " and ", d.decay);
    if (first.unbounded() || second.unbounded())
      return error(errc::bad_policy, first.name(), "/", second.name(), ": both need a budget");
    return {};
  }
  protect keeps(phase when, int budget, const moment& m = {}) const noexcept {
    return acting(when, [&](const auto& p, const evidence&) { return p.keeps(when, budget, m); });
  }
  bool due(const moment& m, bool usual) const noexcept {
    return acting(m.when, [&](const auto& p, const evidence&) { return p.due(m, usual); });
  }
  bool waits() const noexcept { return second.waits() || (!alone() && first.waits()); }
  int room() const noexcept {
    const int most = alone() ? 0 : first.room();
    return second.room() > most ? second.room() : most;
  }
  void observe(const lane_ref& lane, const multistate::rows& r) const noexcept {
    if (alone()) return second.observe(lane, r);
    first.observe(lane, r);
    second.observe(behind(lane, first_wants(lane)), r);
  }
  std::span<const float> worth(const lane_ref& lane, const multistate::rows& r) const noexcept {
    return acting(
        lane.when, [&](const auto& p, const evidence& before) { return p.worth(behind(lane, before), r); }, lane);
  }
  bool pools_worths() const noexcept { return second.pools_worths() || (!alone() && first.pools_worths()); }
  void pool(const lane_ref& lane, std::span<float> worth) const noexcept {
    acting(
        lane.when, [&](const auto& p, const evidence& before) { p.pool(behind(lane, before), worth); }, lane);
  }
  void enter(const lane_ref& lane, slot s, std::span<const float> key, std::span<const float> value,
             std::span<const float> query) const noexcept {
    if (alone()) return second.enter(lane, s, key, value, query);
    first.enter(lane, s, key, value, query);
    second.enter(behind(lane, first_wants(lane)), s, key, value, query);
  }
  frame frame_at(phase when) const noexcept {
    return acting(when, [&](const auto& p, const evidence&) { return p.frame_at(when); });
  }
  std::uint64_t bits() const noexcept { return alone() ? second.bits() : mix(first.bits() ^ mix(second.bits())); }

 private:
  evidence first_wants(const lane_ref& lane) const noexcept {
    return first.wants(lane.states != nullptr ? lane.states->lane : shape{});
  }
  /// The lane as the second policy sees it, whose memory lies behind the first one's.
  static lane_ref behind(const lane_ref& lane, const evidence& first) noexcept {
    lane_ref l = lane;
    l.columns = lane.columns.subspan(lane.column_stride * to_size(first.columns));
    l.numbers = lane.numbers.subspan(to_size(first.lane_numbers));
    return l;
  }
};

}  // namespace detail

}  // namespace multistate
