#pragma once

#include <multistate/recurrent/update.hpp>

namespace multistate {

/// Linear attention (Katharopoulos et al. 2020): M = M + f(k) v', and with the normaliser z = z + f(k).
/// Retrieval: M'f(q), with the normaliser M'f(q) / (f(q).z).
template <class Feature = identity_feature, bool Normalised = false>
struct sum_rule {
  static constexpr std::string_view name = "sum";
  static constexpr bool normalised = Normalised, momentum = false;
  static constexpr int steps = 1;
  using feature = Feature;
  struct gates {};

  constexpr memory_update update(const gates&, int) const noexcept { return {}; }
};

}  // namespace multistate
