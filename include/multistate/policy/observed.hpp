#pragma once

#include <multistate/policy/h2o.hpp>

namespace multistate {

/// Observed attention (kvpress ObservedAttentionPress at 8bb29b9): a name for H2O, normalised, without a recent part,
/// at the end of a prompt.
struct observed {
  static constexpr std::string_view name = "observed";
  int budget = 0;
  scope_kind scope = scope_kind::head;
  static constexpr auto options = std::tuple{policy_option{"scope", &observed::scope}};

  constexpr h2o same() const { return {.budget = budget, .scope = scope, .recent = 0, .normalised = true}; }
  constexpr evidence wants() const { return same().wants(); }
  constexpr const char* check(int lane_budget) const { return same().check(lane_budget); }
  constexpr protect keeps(int lane_budget) const { return same().keeps(lane_budget); }
  bool due(const moment& m) const noexcept { return m.when == phase::prompt_end || m.one_shot; }
  void observe(const lane_ref& lane, const rows& r) const noexcept { same().observe(lane, r); }
  std::span<const float> worth(const lane_ref& lane, const rows& r) const noexcept { return same().worth(lane, r); }
};
static_assert(policy<observed>);

}  // namespace multistate
