#pragma once

#include <multistate/policy/concept.hpp>
#include <multistate/policy/running_sum.hpp>

namespace multistate {

/// Heavy-Hitter Oracle (Zhang et al. 2023): keeps the `recent` newest states and, of the others, those with the highest
/// attention accumulated over all queries so far. Authors' code: H2OKVCache_LayerWise at ac75c2a. `normalised` divides
/// by the number of queries that saw the state, which removes the favour for early tokens.
struct h2o {
  static constexpr std::string_view name = "h2o";
  int budget = 0;
  scope_kind scope = scope_kind::head;
  int recent = -1;  ///< -1: the newer half, budget - budget / 2
  bool normalised = false;
  static constexpr auto options = std::tuple{policy_option{"scope", &h2o::scope}, policy_option{"recent", &h2o::recent},
                                             policy_option{"normalised", &h2o::normalised}};

  constexpr evidence wants() const { return {.sum = true, .columns = 2}; }
  constexpr const char* check(int lane_budget) const {
    return recent >= -1 && recent <= lane_budget ? nullptr : "0 <= recent <= budget";
  }
  constexpr protect keeps(int lane_budget) const { return {0, recent < 0 ? lane_budget - lane_budget / 2 : recent}; }
  void observe(const lane_ref& lane, const rows& r) const noexcept {
    detail::accumulate(lane.column(0), lane.column(1), r.total());
  }
  std::span<const float> worth(const lane_ref& lane, const rows&) const noexcept {
    const auto sum = lane.column(0);
    if (!normalised) return sum;
    for (std::size_t s = 0; s < sum.size(); ++s) {
      const position seen_by = lane.now - lane.positions[s] + 1;
      const bool masked = lane.window > 0 && seen_by > lane.window;
      lane.scratch[s] = sum[s] / static_cast<float>(masked ? lane.window : seen_by);
    }
    return lane.scratch;
  }
};
static_assert(policy<h2o>);

}  // namespace multistate
