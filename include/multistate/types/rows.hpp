#pragma once

#include <cstddef>
#include <span>

namespace multistate {

/// Attention weights that were really multiplied with values, SUMMED over `heads` query heads; column = slot.
/// A learned sink takes its share, so a row may sum to less than `heads`. States a query can't see hold 0.
struct rows {
  const float* data = nullptr;  ///< [queries][n] f32, or [1][n] when summed
  std::size_t stride = 0;       ///< floats from one query to the next
  int n = 0;                    ///< states attended
  int queries = 1;              ///< tokens: the newest of the chunk, all of them unless only the last row is wanted
  int heads = 1;                ///< query heads summed in each row
  bool summed = false;          ///< one row: the sum over `queries`

  std::span<const float> row(int query) const noexcept {
    return {data + stride * static_cast<std::size_t>(query), static_cast<std::size_t>(n)};
  }
  std::span<const float> last() const noexcept { return row(summed ? 0 : queries - 1); }
};

}  // namespace multistate
