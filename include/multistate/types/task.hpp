#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <multistate/types/ids.hpp>

namespace multistate {

/// Dense rows of keys and values in memory: own, pooled, paged or foreign. No alignment is asked for.
struct extent {
  const std::byte* k = nullptr;  ///< [n][dk] elements of the key format, rows k_stride bytes apart
  const std::byte* v = nullptr;  ///< [n][dv] elements of the value format, rows v_stride bytes apart
  std::size_t k_stride = 0;
  std::size_t v_stride = 0;
  int n = 0;
};

/// The states that one KV head attends: slots [0, n) in the order of the extents.
struct head_view {
  std::span<const extent> extents;
  std::span<const position> positions;   ///< [n] by slot; read for a window mask, ALiBi or log positions only
  std::span<const std::uint32_t> ranks;  ///< [n] by slot; read for in-cache or log positions only
  int n = 0;
};

/// One sequence x one KV head; a batch is just more tasks. The tokens of a chunk lie in the last `queries` slots,
/// in order; query j sees slots [0, n - queries + j]. A single query sees all n.
struct attention_task {
  head_view kv;
  const float* q = nullptr;  ///< [queries][G][dk], token j at q + j * q_stride
  std::size_t q_stride = 0;
  float* out = nullptr;  ///< [queries][G][dv], token j at out + j * out_stride
  std::size_t out_stride = 0;
  float* row = nullptr;  ///< weights summed over the group: [n] for last_row and row_sum, [row_queries][n] for each_row
  float* sum = nullptr;  ///< [n] the sum over all queries, where each_row and row_sum are asked for together
  std::size_t row_stride = 0;
  std::size_t head_stride =
      0;               ///< 0, or the G query heads are not summed: floats from one's rows (and sum) to the next
  double decay = 1;    ///< in a sum each older query counts `decay` times less
  position first = 0;  ///< position of the first query
  int queries = 1;
  int row_queries = 0;  ///< for each_row: so many of the newest queries have rows; 0: all
  int sequence = 0;
  int kv_head = 0;
};

}  // namespace multistate
