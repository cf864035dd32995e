#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <tuple>

#include <multistate/policy/frame.hpp>
#include <multistate/policy/settings.hpp>
#include <multistate/util/hash.hpp>

namespace multistate {

namespace detail {

/// How a decider asks a policy, whatever members it has: hooks that are missing answer what their absence means. Two
/// policies in turn (then.hpp) and one whose type is not known (policy_value.hpp) have versions of their own.
template <class P>
struct asked {
  P of{};

  /// Whether the compiler knows which rows it is given.
  static constexpr bool rows_known = fixed_wants<P>;
  static constexpr needs rows = rows_of(default_evidence<P>());
  static constexpr bool may_pool = pools<P>;
  static constexpr bool may_observe = observes<P>;
  static constexpr bool may_enter = enters<P>;
  static constexpr bool may_score = scores<P>;
  static constexpr bool may_frame = has_frame<P>;
  static constexpr bool may_read =
      !fixed_wants<P> || wants_states(default_evidence<P>()) || default_evidence<P>().angles;

  std::string_view name() const noexcept { return P::name; }
  int budget() const noexcept { return of.budget; }
  scope_kind scope() const noexcept { return of.scope; }
  /// Whether another policy decides while a prompt is read.
  bool paired() const noexcept { return false; }
  bool unbounded() const noexcept { return has_no_budget<P>; }
  /// `lane`: heads and lengths of vectors of a lane, for a policy whose memory depends on them.
  evidence wants([[maybe_unused]] const shape& lane = {}) const noexcept {
    if constexpr (requires { of.wants(lane); })
      return of.wants(lane);
    else
      return of.wants();
  }
  bool observes_rows() const noexcept { return observes<P>; }
  error check(int budget) const noexcept {
    const error e = check_settings(of, budget);
    return e ? e : check_frame(P::name, frame_at(phase::decode), wants(), scores<P>, of.scope, budget);
  }
  /// `m`: of what is reduced, for a policy that protects by it.
  protect keeps([[maybe_unused]] phase when, int budget, [[maybe_unused]] const moment& m = {}) const noexcept {
    if constexpr (requires { of.keeps(budget, m); })
      return of.keeps(budget, m);
    else
      return of.keeps(budget);
  }
  /// `usual`: what it is without a rule of the policy's own.
  bool due([[maybe_unused]] const moment& m, bool usual) const noexcept {
    if constexpr (has_due<P>) return of.due(m);
    return usual;
  }
  /// Whether it has a rule of its own.
  bool waits() const noexcept { return has_due<P>; }
  int room() const noexcept {
    if constexpr (has_room<P>) return of.room();
    return 0;
  }
  void observe([[maybe_unused]] const lane_ref& lane, [[maybe_unused]] const multistate::rows& r) const noexcept {
    if constexpr (observes<P>) of.observe(lane, r);
  }
  /// Empty: the oldest goes.
  std::span<const float> worth([[maybe_unused]] const lane_ref& lane,
                               [[maybe_unused]] const multistate::rows& r) const noexcept {
    if constexpr (scores<P>) return of.worth(lane, r);
    return {};
  }
  /// Whether pool() does anything.
  bool pools_worths() const noexcept { return pools<P>; }
  void pool([[maybe_unused]] const lane_ref& lane, [[maybe_unused]] std::span<float> worth) const noexcept {
    if constexpr (pools<P>) of.pool(lane, worth);
  }
  void enter([[maybe_unused]] const lane_ref& lane, [[maybe_unused]] slot s,
             [[maybe_unused]] std::span<const float> key, [[maybe_unused]] std::span<const float> value,
             [[maybe_unused]] std::span<const float> query) const noexcept {
    if constexpr (enters<P>) of.enter(lane, s, key, value, query);
  }
  frame frame_at([[maybe_unused]] phase when) const noexcept {
    if constexpr (has_frame<P>) return of.frame_at(when);
    return {};
  }
  /// Equal for equal settings: names the policy and all of them.
  std::uint64_t bits() const noexcept {
    std::uint64_t h = 0;
    const auto add = [&](std::uint64_t word) { h = mix(h ^ word); };
    for (char c : std::string_view(P::name)) add(static_cast<unsigned char>(c));
    std::apply([&](const auto&... o) { (add(setting_bits(of.*o.member)), ...); }, P::options);
    add(static_cast<std::uint64_t>(of.scope));
    if (const frame f = frame_at(phase::decode); !(f == frame{}))
      std::apply([&](const auto&... o) { (add(setting_bits(f.*o.member)), ...); }, frame::options);
    return h;
  }
};

/// Whether P is no policy, but stands for some.
template <class P>
inline constexpr bool stands_for_policies = false;

/// Says which member a policy lacks.
template <class P>
consteval bool diagnose_decidable() {
  if constexpr (stands_for_policies<P>)
    return true;
  else
    return diagnose_policy<P>();
}

}  // namespace detail

/// What a decider takes: a policy, two in turn (then), or one whose type is not known (policy_value).
template <class P>
concept decidable = policy<P> || detail::stands_for_policies<P>;

}  // namespace multistate
