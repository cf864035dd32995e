#pragma once

#include <multistate/policy/concept.hpp>

namespace multistate {

/// Token Omission Via Attention (Oren et al. 2024, equation 9): drops the state that the current query attends least,
/// by the mean over the lane's query heads. The current token is a candidate like any other. Authors' code:
/// TOVACache.reduce at 9c7d09b. `pinned` first states stay (the paper's TOVA+i); `newest` serves engines that can't
/// drop the last token.
struct tova {
  static constexpr std::string_view name = "tova";
  int budget = 0;
  scope_kind scope = scope_kind::layer;
  int pinned = 0;
  int newest = 0;
  static constexpr auto options =
      std::tuple{policy_option{"scope", &tova::scope}, policy_option{"pinned", &tova::pinned},
                 policy_option{"newest", &tova::newest}};

  constexpr evidence wants() const { return {.last = 1}; }
  constexpr const char* check(int lane_budget) const {
    return pinned + newest <= lane_budget ? nullptr : "pinned + newest <= budget";
  }
  constexpr protect keeps(int) const { return {pinned, newest}; }
  std::span<const float> worth(const lane_ref&, const rows& r) const noexcept { return r.last(); }
};
static_assert(policy<tova>);

}  // namespace multistate
