#pragma once

#include <bit>
#include <cstdint>
#include <span>

#include <multistate/util/assert.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/shape.hpp>

namespace multistate {

constexpr bool pinned(std::span<const position_range> pins, position p) noexcept {
  for (const auto& pin : pins)
    if (p >= pin.first && p < pin.last) return true;
  return false;
}

/// Which states may not be dropped, whatever their worth.
struct protection {
  protect structural;
  position now = 0;  ///< the newest token
  std::span<const position_range> pins;

  constexpr bool covers(position p) const noexcept {
    return p < structural.first || p > now - structural.newest || pinned(pins, p);
  }
};

namespace detail {

/// Orders like the float, NaN below everything, -0 equal to +0; whole numbers, so that -ffast-math can't change it.
constexpr std::int32_t worth_key(float worth) noexcept {
  const auto bits = std::bit_cast<std::int32_t>(worth);
  const std::int32_t magnitude = bits & 0x7fffffff, sign = bits >> 31;
  return magnitude > 0x7f800000 ? -0x7fffffff - 1 : (magnitude ^ sign) - sign;
}

struct candidate {
  std::int32_t key;
  position pos;
  /// Lower worth goes first; of equals the oldest.
  friend constexpr bool operator<(const candidate& a, const candidate& b) noexcept {
    return a.key != b.key ? a.key < b.key : a.pos < b.pos;
  }
};

/// Sinks the element at i of a heap whose top is the greatest by `less`.
template <class Less>
constexpr void sift_down(std::span<slot> heap, std::size_t i, Less less) noexcept {
  for (;;) {
    std::size_t child = 2 * i + 1;
    if (child >= heap.size()) return;
    if (child + 1 < heap.size() && less(heap[child], heap[child + 1])) ++child;
    if (!less(heap[i], heap[child])) return;
    const slot up = heap[child];
    heap[child] = heap[i];
    heap[i] = up;
    i = child;
  }
}

template <class Less>
constexpr void make_heap(std::span<slot> heap, Less less) noexcept {
  for (std::size_t i = heap.size() / 2; i-- > 0;) sift_down(heap, i, less);
}

template <class Less>
constexpr void sort_heap(std::span<slot> heap, Less less) noexcept {
  for (std::size_t end = heap.size(); end > 1; --end) {
    const slot top = heap[0];
    heap[0] = heap[end - 1];
    heap[end - 1] = top;
    sift_down(heap.first(end - 1), 0, less);
  }
}

/// Sorts slots by what goes first: the lowest worth, of equals the oldest.
inline void sort_by_worth(std::span<slot> slots, std::span<const float> worth,
                          std::span<const position> positions) noexcept {
  const auto at = [&](slot s) { return candidate{worth_key(worth[index(s)]), positions[index(s)]}; };
  const auto less = [&](slot a, slot b) { return at(a) < at(b); };
  make_heap(slots, less);
  sort_heap(slots, less);
}

/// The lowest key(i), i < n, and how far it has to be looked for; a form that compilers turn into vectors.
struct lowest_key {
  std::int32_t key;
  std::size_t first, last;  ///< whoever has it lies in [first, last)
};
template <class Key>
lowest_key find_lowest(std::size_t n, const Key& key) noexcept {
  constexpr std::size_t block = 32;
  lowest_key best{0x7fffffff, 0, 0};  // no float has this key
  std::size_t at = 0;
  for (; at + block <= n; at += block) {
    std::int32_t keys[block];
    for (std::size_t j = 0; j < block; ++j) keys[j] = key(at + j);
    std::int32_t low = keys[0];
    for (std::size_t j = 0; j < block; ++j) low = keys[j] < low ? keys[j] : low;
    if (low > best.key) continue;
    if (low < best.key) best = {low, at, at};
    best.last = at + block;
  }
  for (; at < n; ++at) {
    const std::int32_t k = key(at);
    if (k > best.key) continue;
    if (k < best.key) best = {k, at, at};
    best.last = at + 1;
  }
  return best;
}

/// lowest() for one state and no pins, which is every step of most decodes: first for the lowest worth, then for the
/// oldest that has it. Number: what holds every position; twice as many of 32 bits are compared at once. Positions may
/// be far from the processor: where nothing is protected they are read only to tell equals apart.
template <class Number>
std::size_t lowest_one(std::span<const float> worth, std::span<const position> positions, const protection& kept,
                       slot& out) noexcept {
  const auto first = static_cast<Number>(kept.structural.first);
  const auto last = static_cast<Number>(kept.now - kept.structural.newest);
  const auto open = [&](std::size_t i) {
    const auto p = static_cast<Number>(positions[i]);
    return (p >= first) & (p <= last);
  };
  const auto take = [&](const lowest_key& best, const auto& candidate) -> std::size_t {
    std::size_t taken = 0;
    for (std::size_t i = best.first; i < best.last; ++i) {
      if (worth_key(worth[i]) != best.key || !candidate(i)) continue;
      if (taken == 1 && positions[i] > positions[index(out)]) continue;
      out = slot{static_cast<std::uint32_t>(i)};
      taken = 1;
    }
    return taken;
  };
  if (kept.structural.first == 0 && kept.structural.newest == 0)
    return take(find_lowest(worth.size(), [&](std::size_t i) { return worth_key(worth[i]); }),
                [](std::size_t) { return true; });
  return take(find_lowest(worth.size(),
                          [&](std::size_t i) {
                            const std::int32_t k = worth_key(worth[i]);
                            const bool candidate = open(i);
                            return candidate ? k : 0x7fffffff;
                          }),
              open);
}

}  // namespace detail

/// The one ranking. Fills `out` with the out.size() unprotected slots of lowest tier, of these of lowest worth, by
/// increasing position. NaN ranks lowest; of equals the oldest goes first. worth, positions and, unless it is empty,
/// tier are [n] by slot, all of them live. Returns how many there were to take: fewer than out.size() only when more is
/// protected than may stay.
inline std::size_t lowest(std::span<const float> worth, std::span<const position> positions, const protection& kept,
                          std::span<slot> out, std::span<const std::uint8_t> tier = {}) noexcept {
  MULTISTATE_ASSERT(worth.size() == positions.size());
  if (out.empty()) return 0;
  constexpr position narrow = 0x7fffffff;
  if (out.size() == 1 && kept.pins.empty() && tier.empty())
    return kept.now <= narrow ? detail::lowest_one<std::int32_t>(worth, positions, kept, out[0])
                              : detail::lowest_one<position>(worth, positions, kept, out[0]);
  const auto at = [&](slot s) { return detail::candidate{detail::worth_key(worth[index(s)]), positions[index(s)]}; };
  const auto less = [&](slot a, slot b) {
    if (!tier.empty() && tier[index(a)] != tier[index(b)]) return tier[index(a)] < tier[index(b)];
    return at(a) < at(b);
  };
  std::size_t taken = 0;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const slot s{static_cast<std::uint32_t>(i)};
    if (taken == out.size() && !less(s, out[0])) continue;
    if (kept.covers(positions[i])) continue;
    if (taken < out.size()) {
      out[taken++] = s;
      if (taken == out.size()) detail::make_heap(out, less);
    } else {
      out[0] = s;
      detail::sift_down(out, 0, less);
    }
  }
  const auto found = out.first(taken);
  const auto older = [&](slot a, slot b) { return positions[index(a)] < positions[index(b)]; };
  detail::make_heap(found, older);
  detail::sort_heap(found, older);
  return taken;
}

/// The blocks to drop, for engines that free whole blocks: worth [n] in the engine's logical order, `block` states each
/// (the last may be shorter, and counts by its mean like the others). `kept` protects its first and newest BLOCKS.
/// Fills `out` with block indices, increasing; NaN lowest, of equals the oldest. Returns how many there were to take.
inline std::size_t lowest_blocks(std::span<const float> worth, int block, protect kept,
                                 std::span<std::uint32_t> out) noexcept {
  MULTISTATE_ASSERT(block > 0);
  const std::size_t size = static_cast<std::size_t>(block);
  const std::size_t blocks = (worth.size() + size - 1) / size;
  const auto mean = [&](std::size_t b) {
    const auto part = worth.subspan(b * size, b * size + size <= worth.size() ? size : worth.size() - b * size);
    float sum = 0;
    for (float w : part) sum += w;
    return sum / static_cast<float>(part.size());
  };
  const auto first = static_cast<std::size_t>(kept.first);
  const std::size_t end =
      blocks - (static_cast<std::size_t>(kept.newest) < blocks ? static_cast<std::size_t>(kept.newest) : blocks);
  std::size_t taken = 0;
  detail::candidate floor{-0x7fffffff - 1,
                          -1};  // everything up to here is taken: no memory, and few blocks go at a time
  for (; taken < out.size(); ++taken) {
    detail::candidate best{0x7fffffff, static_cast<position>(blocks)};
    for (std::size_t b = first; b < end; ++b) {
      const detail::candidate c{detail::worth_key(mean(b)), static_cast<position>(b)};
      if (floor < c && c < best) best = c;
    }
    if (best.pos == static_cast<position>(blocks)) break;
    floor = best;
    out[taken] = static_cast<std::uint32_t>(best.pos);
  }
  for (std::size_t i = 1; i < taken; ++i)
    for (std::size_t j = i; j > 0 && out[j] < out[j - 1]; --j) {
      const std::uint32_t b = out[j];
      out[j] = out[j - 1];
      out[j - 1] = b;
    }
  return taken;
}

}  // namespace multistate
