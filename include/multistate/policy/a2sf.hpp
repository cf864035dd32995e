#pragma once

#include <cmath>

#include <multistate/policy/concept.hpp>
#include <multistate/policy/running_sum.hpp>

namespace multistate {

/// Accumulative attention with a forgetting factor (A2SF, Jo & Shin 2024, arXiv 2407.20485): as H2O, but what a query
/// gave counts `decay` times less with each token after it: sum over queries q of decay^(now - q) row_q. 1 is H2O; 0 is
/// TOVA with a recent part. Authors' code: a2s_base_mask at a4360f1, LlamaKVCache.update at fd63e32.
struct a2sf {
  static constexpr std::string_view name = "a2sf";
  int budget = 0;
  scope_kind scope = scope_kind::head;
  double decay = 0.97857;  ///< half of it is left after 32 tokens
  int recent = -1;         ///< -1: the newer half, budget - budget / 2
  static constexpr auto options = std::tuple{policy_option{"scope", &a2sf::scope}, policy_option{"decay", &a2sf::decay},
                                             policy_option{"recent", &a2sf::recent}};

  constexpr evidence wants() const { return {.sum = true, .decay = decay, .columns = 2}; }
  constexpr const char* check(int lane_budget) const {
    if (!(decay >= 0 && decay <= 1)) return "0 <= decay <= 1";
    return recent >= -1 && recent <= lane_budget ? nullptr : "0 <= recent <= budget";
  }
  constexpr protect keeps(int lane_budget) const { return {0, recent < 0 ? lane_budget - lane_budget / 2 : recent}; }
  void observe(const lane_ref& lane, const rows& r) const noexcept {
    if (decay < 1) detail::fade(lane.column(0), lane.column(1), std::pow(decay, lane.tokens));
    detail::accumulate(lane.column(0), lane.column(1), r.total());
  }
  std::span<const float> worth(const lane_ref& lane, const rows&) const noexcept { return lane.column(0); }
};
static_assert(policy<a2sf>);

}  // namespace multistate
