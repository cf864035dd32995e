#pragma once

#include <multistate/recurrent/update.hpp>

namespace multistate {

/// The delta rule (DeltaNet: Schlag et al. 2021, Yang et al. 2024): M = M + beta f(k) (v - M'f(k))'.
/// What the memory answers for the key is replaced by v in part; beta = 1 and a key of unit length: altogether.
/// With ELU + 1 and the normaliser it is the second rule of Infini-attention (Munkhdalai et al. 2024), whose answer is
/// M'f(k) / (f(k).z), nothing while the memory is empty.
template <class Feature = identity_feature, bool Normalised = false>
struct delta_rule {
  static constexpr std::string_view name = "delta";
  static constexpr bool normalised = Normalised, momentum = false;
  static constexpr int steps = 1;
  using feature = Feature;
  struct gates {
    float beta = 1;  ///< 0: nothing is written
  };

  constexpr memory_update update(const gates& g, int) const noexcept {
    return {.decay = 1, .rate = static_cast<double>(g.beta), .recall = 1, .carry = 0};
  }
};

}  // namespace multistate
