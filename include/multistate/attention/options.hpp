#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

#include <multistate/rope/angle_table.hpp>
#include <multistate/simd/width.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/task.hpp>
#include <multistate/types/shape.hpp>

namespace multistate {

/// What real models add to softmax(q.k / sqrt(dk)). Spans and tables are the caller's, and outlive the calls.
/// logit = scale * q.k, or softcap * tanh(scale * q.k / softcap), then - slope * (own - position).
struct attention_options {
  float scale = 0.0f;                       ///< 0: 1 / sqrt(dk)
  float softcap = 0.0f;                     ///< 0: none
  int window = 0;                           ///< a query sees positions > own - window only; 0: all
  std::span<const float> sink_logits = {};  ///< [H] a learned sink takes its share of the softmax, with a zero value
  std::span<const float> alibi = {};        ///< [H] slopes (Press et al. 2022)
  const angle_table* in_cache = nullptr;    ///< set: keys and queries come un-rotated, the angle of a slot is its rank,
                                            ///< that of query j is n - queries + j
  const rope* log = nullptr;                ///< instead of in_cache: the same with the log_positions() of these ranks,
                                            ///< whose cosines and sines are computed anew for every key read

  /// What turns keys and queries that come un-rotated; null: they come rotated.
  const rope* rotation() const noexcept { return in_cache != nullptr ? &in_cache->rotation() : log; }
};

/// The rows attention writes for what is wanted: the last row beside others is one of each row's.
constexpr needs rows_given(needs want) noexcept {
  if (want == needs::last_row || !any(want & needs::last_row)) return want;
  return (want & needs::row_sum) | needs::each_row;
}

/// How many of a task's newest queries have a row each.
constexpr int row_queries(needs rows, const attention_task& task) noexcept {
  if (rows == needs::last_row) return 1;
  if (!any(rows & needs::each_row)) return 0;
  return task.row_queries == 0 || task.row_queries > task.queries ? task.queries : task.row_queries;
}

namespace detail {

inline constexpr std::size_t attention_pad = widest_vector;  ///< floats
inline constexpr std::size_t attention_row_block = 32;  ///< most states whose keys or values are worked on together
inline constexpr std::size_t attention_part = 256;      ///< states whose softmax is taken together
inline constexpr std::size_t attention_columns = 16;    ///< (token, query head) pairs of a chunk that share one pass

inline float attention_scale(const attention_options& options, const shape& dims) noexcept {
  const bool given = options.scale < 0.0f || options.scale > 0.0f;
  return given ? options.scale : static_cast<float>(1.0 / std::sqrt(static_cast<double>(dims.dk)));
}

constexpr std::size_t padded(std::size_t floats) noexcept {
  return (floats + attention_pad - 1) / attention_pad * attention_pad;
}

/// From one query of whole numbers to the next: 16-bit ones fill the same vectors twice.
constexpr std::size_t rounded_stride(std::size_t dk) noexcept { return 2 * padded((dk + 1) / 2); }

/// Tokens of a chunk that share one pass over the keys.
constexpr std::size_t attention_tokens(int group, int queries) noexcept {
  const std::size_t fit = std::max<std::size_t>(1, attention_columns / static_cast<std::size_t>(group));
  return (std::min)(fit, static_cast<std::size_t>(queries));
}

/// Parts in which n states are worked on: of attention_part states, the last one of what is left, from half as many to
/// half as many again. So one state more than a round budget has no part of its own.
constexpr std::size_t attention_parts(std::size_t n) noexcept {
  return std::max<std::size_t>(n > 0 ? 1 : 0, (n + attention_part / 2) / attention_part);
}
inline constexpr std::size_t largest_part = attention_part + attention_part / 2;
constexpr std::size_t part_end(std::size_t part, std::size_t n) noexcept {
  return part + 1 == attention_parts(n) ? n : (part + 1) * attention_part;
}

/// Where one worker's scratch holds what, in floats from its start; every part starts on a cache line.
struct attention_layout {
  std::size_t stride = 0;        ///< floats from one column's weights to the next; not a multiple of a page
  std::size_t partial_size = 0;  ///< floats of one part's weighted values

  std::size_t queries = 0;   ///< [columns][padded(dk)] rotated, padded, and scaled unless they are rounded
  std::size_t rounded = 0;   ///< [columns][rounded_stride(dk)] int16, for keys in i8
  std::size_t steps = 0;     ///< [columns] what these are multiplied by
  std::size_t unpacked = 0;  ///< [attention_row_block][padded(max(dk, dv))] a block as floats
  std::size_t scaled = 0;    ///< [columns][attention_row_block] weights times their rows' scales
  std::size_t weights = 0;   ///< [columns][stride]
  std::size_t partials = 0;  ///< [parts][columns][padded(dv)] where threads share a task, else of one part
  std::size_t maxima = 0;    ///< [parts][columns] of the logits, then what weights are multiplied by
  std::size_t totals = 0;    ///< [parts][columns] of the weights
  std::size_t running = 0;   ///< [columns] max and sum up to a part
  std::size_t index = 0;     ///< [n] slots seen through a window, as uint32
  std::size_t sums = 0;      ///< [G][n] row sums of a chunk, as double; [n] where heads are summed
  std::size_t places = 0;    ///< [n] log positions by rank, as double; where log is set
  std::size_t angles = 0;    ///< [padded(dk)] cosines and sines at one of them; where log is set
  std::size_t floats = 0;    ///< of one worker

  constexpr attention_layout(const shape& dims, int max_n, int max_queries, int workers, bool log) noexcept {
    const auto n = padded(static_cast<std::size_t>(max_n));
    const std::size_t group = static_cast<std::size_t>(dims.group());
    const std::size_t columns = attention_tokens(dims.group(), max_queries) * group;
    const std::size_t dk = padded(static_cast<std::size_t>(dims.dk));
    const std::size_t dv = padded(static_cast<std::size_t>(dims.dv));
    const std::size_t parts = attention_parts(n);
    stride = n + attention_pad;
    partial_size = columns * dv;
    rounded = queries + columns * dk;
    steps = rounded + columns * rounded_stride(dk) / 2;
    unpacked = steps + padded(columns);
    scaled = unpacked + attention_row_block * (std::max)(dk, dv);
    weights = scaled + columns * attention_row_block;
    partials = weights + columns * stride;
    maxima = partials + partial_size * (workers > 1 ? parts : 1);
    totals = maxima + padded(parts * columns);
    running = totals + padded(parts * columns);
    index = running + padded(2 * columns);
    sums = index + n;
    places = sums + (max_queries > 1 ? 2 * group * n : 0);
    angles = places + (log ? 2 * n : 0);
    floats = angles + (log ? dk : 0);
  }
};

}  // namespace detail

/// Scratch for calls whose tasks have at most max_n states and max_queries tokens, by an executor of so many workers;
/// `log`: with attention_options::log.
/// The same on every SIMD target.
constexpr std::size_t attend_scratch_bytes(const shape& dims, int max_n, int max_queries = 1, int workers = 1,
                                           bool log = false) noexcept {
  constexpr std::size_t line = detail::attention_pad * sizeof(float);
  const detail::attention_layout layout(dims, max_n, max_queries, workers, log);
  return layout.floats * sizeof(float) * static_cast<std::size_t>(workers) + line;
}

}  // namespace multistate
