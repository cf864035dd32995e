#pragma once

#include <multistate/policy/concept.hpp>

namespace multistate {

/// The unbounded transformer: never drops. Its budget is room for every token that will come, and more may not come;
/// its string has none.
struct full {
  static constexpr std::string_view name = "full";
  static constexpr std::tuple<> options{};
  static constexpr bool unbounded = true;
  int budget = 0;
  scope_kind scope = scope_kind::layer;

  constexpr evidence wants() const { return {}; }
  constexpr const char* check(int) const { return nullptr; }
  constexpr protect keeps(int lane_budget) const { return {lane_budget, 0}; }
};
static_assert(policy<full>);

}  // namespace multistate
