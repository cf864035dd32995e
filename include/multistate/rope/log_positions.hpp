#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include <multistate/util/assert.hpp>
#include <multistate/types/ids.hpp>

namespace multistate {

/// What a gap between neighbours counts with log positions: itself, above 10 ln(ln gap). It jumps down there, to 0.87
/// at 11, as printed by Oren et al. 2024, section 7.2.
inline double log_gap(double gap) noexcept { return gap > 10.0 ? std::log(std::log(gap)) : gap; }

/// Log positions, by_rank [n], of states whose positions and ranks are [n] by slot: the oldest stands at 0, each other
/// one log_gap behind its neighbour in rank. Rotary products know differences only, so where the sum begins does not
/// matter. Queries count as states: each stands where its own key does.
inline void log_positions(std::span<const position> positions, std::span<const std::uint32_t> ranks,
                          std::span<double> by_rank) noexcept {
  const std::size_t n = by_rank.size();
  MULTISTATE_ASSERT(positions.size() >= n && ranks.size() >= n);
  for (std::size_t s = 0; s < n; ++s)  // from one of them on: doubles hold whole numbers up to 2^53
    by_rank[ranks[s]] = static_cast<double>(positions[s] - positions[0]);
  double neighbour = n > 0 ? by_rank[0] : 0.0, sum = 0.0;
  for (double& x : by_rank) {
    sum += log_gap(x - neighbour);
    neighbour = x;
    x = sum;
  }
}

}  // namespace multistate
