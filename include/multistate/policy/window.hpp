#pragma once

#include <multistate/policy/concept.hpp>

namespace multistate {

/// Window(k) keeps the k newest (Wang et al. 2019). Window+i keeps the first i and the newest k - i
/// (Xiao et al. 2023, StreamingLLM, i = 4; Han et al. 2023).
struct window {
  static constexpr std::string_view name = "window";
  int budget = 0;
  scope_kind scope = scope_kind::layer;
  int sinks = 0;
  static constexpr auto options = std::tuple{policy_option{"+", &window::sinks}};

  constexpr evidence wants() const { return {}; }
  constexpr const char* check(int lane_budget) const { return sinks <= lane_budget ? nullptr : "sinks <= budget"; }
  constexpr protect keeps(int) const { return {sinks, 0}; }
};
static_assert(policy<window>);

}  // namespace multistate
