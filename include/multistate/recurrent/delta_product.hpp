#pragma once

#include <multistate/recurrent/update.hpp>

namespace multistate {

/// DeltaProduct (Siems et al. 2025): n delta steps a token, each with a key, value and beta of its own, so that the
/// token's transition is a product of n Householder matrices: M = alpha M, then for j = 0 to n - 1
/// M = M + beta_j k_j (v_j - M'k_j)'.
struct delta_product_rule {
  static constexpr std::string_view name = "delta_product";
  static constexpr bool normalised = false, momentum = false;
  int steps = 2;  ///< n
  using feature = identity_feature;
  struct gates {
    float beta = 1;   ///< of this step, 0 to 2
    float alpha = 1;  ///< of the token; that of its first step counts
  };

  constexpr memory_update update(const gates& g, int step) const noexcept {
    const double alpha = step == 0 ? static_cast<double>(g.alpha) : 1.0;
    return {.decay = alpha, .rate = static_cast<double>(g.beta), .recall = alpha, .carry = 0};
  }
};

}  // namespace multistate
