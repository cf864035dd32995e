#pragma once

#include <cstdint>
#include <span>

#include <multistate/select/lowest.hpp>

namespace multistate {

/// Which states a quota keeps (ours, after what pure scores lose): the positions read so far are cut into `segments` of
/// equal length, and each keeps its best states until it holds `quota` of them, protected ones counted, or all that it
/// has. tier [n] becomes 1 for those and 0 for others: a higher tier goes after all of a lower one. `order` [n] is
/// scratch, and so is held [segments].
inline void mark_quotas(std::span<const float> worth, std::span<const position> positions, const protection& kept,
                        int segments, int quota, std::span<slot> order, std::span<int> held,
                        std::span<std::uint8_t> tier) noexcept {
  const auto segment_of = [&](slot s) {
    return static_cast<std::size_t>(positions[index(s)] * segments / (kept.now + 1));
  };
  for (int& h : held) h = 0;
  std::size_t open = 0;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const slot s{static_cast<std::uint32_t>(i)};
    tier[i] = 0;
    if (kept.covers(positions[i]))
      ++held[segment_of(s)];
    else
      order[open++] = s;
  }
  detail::sort_by_worth(order.first(open), worth, positions);
  for (std::size_t i = open; i-- > 0;) {
    int& h = held[segment_of(order[i])];
    if (h >= quota) continue;
    ++h;
    tier[index(order[i])] = 1;
  }
}

}  // namespace multistate
