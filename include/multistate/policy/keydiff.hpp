#pragma once

#include <cmath>

#include <multistate/policy/concept.hpp>

namespace multistate {

/// KeyDiff (Park et al. 2025, arXiv 2504.15364; kvpress KeyDiffPress at 8bb29b9): keeps the states whose keys differ
/// most from the others. Worth is minus the cosine between the key and the mean of the unit keys held, summed over the
/// lane's heads; the newest is a candidate. Needs no rows. Keys as they are stored, with their angles.
struct keydiff {
  static constexpr std::string_view name = "keydiff";
  int budget = 0;
  scope_kind scope = scope_kind::head;
  static constexpr auto options = std::tuple{policy_option{"scope", &keydiff::scope}};

  constexpr evidence wants(const shape& lane = {}) const { return {.stored_keys = true, .work = lane.dk}; }
  constexpr const char* check(int) const { return nullptr; }
  constexpr protect keeps(int) const { return {}; }
  std::span<const float> worth(const lane_ref& lane, const rows&) const noexcept {
    const std::span<float> anchor = lane.work.first(to_size(lane.states->lane.dk));
    for (float& w : lane.scratch) w = 0;
    for (int head = 0; head < lane.states->lane.kv_heads; ++head) {
      for (float& x : anchor) x = 0;
      each_key(lane, head, [&](slot, std::span<const float> key, double length) {
        for (std::size_t i = 0; i < key.size(); ++i) anchor[i] += static_cast<float>(double{key[i]} / length);
      });
      const double reach = norm(anchor);
      each_key(lane, head, [&](slot s, std::span<const float> key, double length) {
        double dot = 0;
        for (std::size_t i = 0; i < key.size(); ++i) dot += double{key[i]} * double{anchor[i]};
        lane.scratch[index(s)] -= static_cast<float>(dot / (length * reach));
      });
    }
    return lane.scratch;
  }

 private:
  /// Never 0, so that a key of zeros has the cosine 0.
  static double norm(std::span<const float> x) noexcept {
    double square = 1e-24;
    for (const float e : x) square += double{e} * double{e};
    return std::sqrt(square);
  }
  template <class F>
  static void each_key(const lane_ref& lane, int head, const F& f) noexcept {
    for (std::size_t i = 0; i < lane.positions.size(); ++i) {
      const slot s{static_cast<std::uint32_t>(i)};
      const std::span<const float> key = lane.key(head, s);
      f(s, key, norm(key));
    }
  }
};
static_assert(policy<keydiff>);

}  // namespace multistate
