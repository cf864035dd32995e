#pragma once

#include <cmath>

#include <multistate/policy/concept.hpp>

namespace multistate {

/// Keeps the states with the lowest key norms (Devoto et al. 2024, "A Simple and Effective L2 Norm-Based Strategy for
/// KV Cache Compression"; kvpress KnormPress at 8bb29b9). Needs no rows. Worth is minus the Euclidean norm of the key
/// before rotation and storage, summed over the lane's heads; the newest is a candidate. Equal keys tie, and the oldest
/// goes: an engine that hands in rotated keys gets their ties decided by the rounding of the rotation.
struct knorm {
  static constexpr std::string_view name = "knorm";
  int budget = 0;
  scope_kind scope = scope_kind::head;
  static constexpr auto options = std::tuple{policy_option{"scope", &knorm::scope}};

  constexpr evidence wants() const { return {.keys = true, .columns = 1}; }
  constexpr const char* check(int) const { return nullptr; }
  constexpr protect keeps(int) const { return {}; }
  void enter(const lane_ref& lane, slot s, std::span<const float> key, std::span<const float>,
             std::span<const float>) const noexcept {
    double square = 0;  // of exact products: the same bits with and without fused multiplication
    for (const float x : key) square += double{x} * double{x};
    lane.column(0)[index(s)] -= static_cast<float>(std::sqrt(square));
  }
  std::span<const float> worth(const lane_ref& lane, const rows&) const noexcept { return lane.column(0); }
};
static_assert(policy<knorm>);

}  // namespace multistate
