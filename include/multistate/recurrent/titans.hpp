#pragma once

#include <multistate/recurrent/update.hpp>

namespace multistate {

/// The linear memory of Titans (Behrouz, Zhong and Mirrokni 2024): one step of gradient descent with momentum and
/// forgetting. S = eta S - theta g, then M = (1 - alpha) M + S, with g = 2 k (M'k - v)', the gradient of |M'k - v|^2 at
/// the M before. The paper's section on parallel training writes g without the factor 2.
struct titans_rule {
  static constexpr std::string_view name = "titans";
  static constexpr bool normalised = false, momentum = true;
  static constexpr int steps = 1;
  double factor = 2;  ///< of the gradient; 1: as in parallel training
  using feature = identity_feature;
  struct gates {
    float theta = 1;  ///< how far a step goes
    float eta = 0;    ///< what the last step counts
    float alpha = 0;  ///< what is forgotten; 1: everything
  };

  constexpr memory_update update(const gates& g, int) const noexcept {
    return {.decay = 1 - static_cast<double>(g.alpha),
            .rate = factor * static_cast<double>(g.theta),
            .recall = 1,
            .carry = static_cast<double>(g.eta)};
  }
};

}  // namespace multistate
