#pragma once

#include <multistate/recurrent/update.hpp>

namespace multistate {

/// Gated DeltaNet (Yang, Kautz and Hatamizadeh 2024): M = alpha M + beta k (v - alpha M'k)'. The memory decays first:
/// the error is that of the decayed one.
struct gated_delta_rule {
  static constexpr std::string_view name = "gated_delta";
  static constexpr bool normalised = false, momentum = false;
  static constexpr int steps = 1;
  using feature = identity_feature;
  struct gates {
    float beta = 1;   ///< 0: nothing is written
    float alpha = 1;  ///< 0: everything before is forgotten
  };

  constexpr memory_update update(const gates& g, int) const noexcept {
    const double alpha = static_cast<double>(g.alpha);
    return {.decay = alpha, .rate = static_cast<double>(g.beta), .recall = alpha, .carry = 0};
  }
};

}  // namespace multistate
