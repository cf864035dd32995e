#pragma once

#include <cstdint>
#include <span>

#include <multistate/select/lowest.hpp>

namespace multistate {

/// What one lane brings to the sharing of budgets.
struct lane_worth {
  std::span<const float> worth;         ///< [n] by slot
  std::span<const position> positions;  ///< [n] by slot
  protection kept;
  int least = 1;          ///< no smaller budget will do
  std::span<slot> order;  ///< [n] scratch
};

/// AdaKV (Feng et al. 2024, arXiv 2407.11550; kvpress AdaKVPress at 8bb29b9): of `total` states each lane first gets
/// its `floor` best ones, protected ones before all others; the rest go to the highest worths of all lanes together.
/// budgets [lane]. Precondition: the lanes hold more than `total`, and what is protected fits.
inline void share_budgets(std::span<lane_worth> lanes, int floor, std::int64_t total, std::span<int> budgets) noexcept {
  // budgets[i] counts what lane i has been given; its candidates are sorted, and the best that is left comes last.
  const auto next = [&](const lane_worth& l) {
    const slot s = l.order.back();
    return detail::candidate{detail::worth_key(l.worth[index(s)]), l.positions[index(s)]};
  };
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    lane_worth& l = lanes[i];
    std::size_t open = 0;
    for (std::size_t s = 0; s < l.positions.size(); ++s)
      if (!l.kept.covers(l.positions[s])) l.order[open++] = slot{static_cast<std::uint32_t>(s)};
    const int held = static_cast<int>(l.positions.size()), closed = held - static_cast<int>(open);
    detail::sort_by_worth(l.order.first(open), l.worth, l.positions);
    int given = closed > floor ? closed : floor;
    given = given > l.least ? given : l.least;
    budgets[i] = given < held ? given : held;
    l.order = l.order.first(to_size(held - budgets[i]));
    total -= budgets[i];
  }
  for (; total > 0; --total) {
    std::size_t best = lanes.size();
    for (std::size_t i = 0; i < lanes.size(); ++i)
      if (!lanes[i].order.empty() && (best == lanes.size() || next(lanes[best]) < next(lanes[i]))) best = i;
    if (best == lanes.size()) return;
    ++budgets[best];
    lanes[best].order = lanes[best].order.first(lanes[best].order.size() - 1);
  }
}

}  // namespace multistate
