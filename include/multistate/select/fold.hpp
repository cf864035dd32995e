#pragma once

#include <cstddef>
#include <cstring>
#include <span>

#include <multistate/util/assert.hpp>
#include <multistate/types/rows.hpp>

namespace multistate {

namespace detail {

/// to [n] += from [n]
inline void add_row(float* __restrict to, const float* __restrict from, std::size_t n) noexcept {
  constexpr std::size_t block = 32;  // a form that g++ makes vectors of at -O2, too; shorter ones it unrolls first
  std::size_t at = 0;
  for (; at + block <= n; at += block)
    for (std::size_t j = 0; j < block; ++j) to[at + j] += from[at + j];
  for (; at < n; ++at) to[at] += from[at];
}

}  // namespace detail

/// Heads to lane: adds `row` to `sum` (or replaces it, for the first); they must not overlap. Called in head order, so
/// that the bits do not depend on who computed which row when.
inline void fold(std::span<float> sum, std::span<const float> row, bool first) noexcept {
  MULTISTATE_ASSERT(sum.size() == row.size());
  if (first) {
    if (!row.empty()) std::memcpy(sum.data(), row.data(), row.size_bytes());
    return;
  }
  detail::add_row(sum.data(), row.data(), row.size());
}

/// The same with the sum over the queries of `r`, each older one counting `decay` times less, taken in double: a chunk
/// may hold many.
inline void fold_sum(std::span<float> sum, const rows& r, bool first, double decay = 1) noexcept {
  if (r.kind != rows_kind::each || r.queries == 1) return fold(sum, r.last(), first);
  constexpr std::size_t block = 64;
  double part[block];
  const bool fades = decay < 1;
  for (std::size_t at = 0; at < sum.size(); at += block) {
    const std::size_t width = sum.size() - at < block ? sum.size() - at : block;
    for (std::size_t s = 0; s < width; ++s) part[s] = first || fades ? 0.0 : double{sum[at + s]};
    for (int j = 0; j < r.queries; ++j) {
      const float* row = r.row(j).data() + at;
      if (fades)
        for (std::size_t s = 0; s < width; ++s) part[s] *= decay;
      for (std::size_t s = 0; s < width; ++s) part[s] += double{row[s]};
    }
    if (fades && !first)
      for (std::size_t s = 0; s < width; ++s) part[s] += double{sum[at + s]};
    for (std::size_t s = 0; s < width; ++s) sum[at + s] = static_cast<float>(part[s]);
  }
}

}  // namespace multistate
