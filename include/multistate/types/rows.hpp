#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace multistate {

/// Which rows of a chunk's queries there are.
enum class rows_kind : std::uint8_t {
  each,  ///< one row for each query
  last,  ///< one row, that of the newest query
  sum,   ///< one row, the sum of the rows of all queries
};

/// The attention weights that the queries of one call gave to a lane's slots: those that values were multiplied with,
/// summed over `heads` query heads. A learned sink takes its share, so a row may sum to less than `heads`. A state that
/// a query can't see has weight 0.
struct rows {
  const float* data = nullptr;  ///< [queries][n] where kind is each, else [n]
  std::size_t stride = 0;       ///< floats from one query to the next
  int n = 0;                    ///< states attended
  int queries = 1;              ///< tokens that the rows are of, up to the newest one of the chunk
  int heads = 1;                ///< query heads summed in each row
  rows_kind kind = rows_kind::each;
  const float* sum = nullptr;   ///< [n] beside rows of some queries: the sum over all queries of the call
  std::size_t head_stride = 0;  ///< 0, or heads are not summed: floats from one query head's rows (and sum) to the next

  /// The row of one query, oldest first: [n]. Precondition: kind is each.
  std::span<const float> row(int query) const noexcept {
    return {data + stride * static_cast<std::size_t>(query), static_cast<std::size_t>(n)};
  }
  /// Rows that there are one by one.
  int recorded() const noexcept { return kind == rows_kind::each ? queries : 1; }
  /// The newest query's row, or the sum where kind is sum: [n].
  std::span<const float> last() const noexcept { return row(kind == rows_kind::each ? queries - 1 : 0); }
  /// The sum over all queries of the call: [n]. Precondition: it was asked for.
  std::span<const float> total() const noexcept { return {sum != nullptr ? sum : data, static_cast<std::size_t>(n)}; }
  /// The rows of one query head alone. Precondition: heads are not summed.
  rows head(int h) const noexcept {
    rows one = *this;
    const std::size_t at = head_stride * static_cast<std::size_t>(h);
    one.data = data == nullptr ? nullptr : data + at;
    one.sum = sum == nullptr ? nullptr : sum + at;
    one.heads = 1;
    one.head_stride = 0;
    return one;
  }
};

}  // namespace multistate
