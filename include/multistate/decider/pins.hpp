#pragma once

#include <cstdint>
#include <span>

#include <multistate/select/lowest.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/shape.hpp>

namespace multistate::detail {

/// Ranges of positions that a caller protects at run time. They may overlap; unused places are {}, so that equal lists
/// are equal bytes.
struct pin_list {
  static constexpr int most = 8;
  position_range ranges[most] = {};  ///< [count]
  int count = 0;

  /// The ranges in use: [count].
  std::span<const position_range> span() const noexcept { return {ranges, to_size(count)}; }
  /// Adds a range. False, and nothing changed, when there are `most` already.
  bool add(const position_range& r) noexcept {
    if (count == most) return false;
    ranges[count++] = r;
    return true;
  }
  /// Removes one such range. False when there is none.
  bool remove(const position_range& r) noexcept {
    for (int i = 0; i < count; ++i)
      if (ranges[i] == r) {
        for (--count; i < count; ++i) ranges[i] = ranges[i + 1];
        ranges[count] = {};
        return true;
      }
    return false;
  }

  /// Whether a live state at position p is protected by a pin and is not one of the structural first ones already.
  bool protects(const protect& structural, position p) const noexcept {
    return p >= structural.first && pinned(span(), p);
  }
  /// States of a lane that may never go, without the live pinned ones: the structural first and newest, and the pinned
  /// positions from `next`, the next token's, on. More than the budget (its exact number is not counted) when they
  /// exceed it.
  std::int64_t reserved(const protect& structural, int budget, position next) const noexcept {
    std::int64_t states = std::int64_t{structural.first} + structural.newest;
    position done = next > structural.first ? next : structural.first;  // what lies before is live or counted
    for (;;) {                                                          // the ranges in order, each position once
      const position_range* nearest = nullptr;
      for (const auto& r : span())
        if (r.last > done && (nearest == nullptr || r.first < nearest->first)) nearest = &r;
      if (nearest == nullptr) return states;
      const position from = nearest->first > done ? nearest->first : done;
      if (nearest->last - from > budget - states) return std::int64_t{budget} + 1;
      states += nearest->last - from;
      done = nearest->last;
    }
  }
};

}  // namespace multistate::detail
