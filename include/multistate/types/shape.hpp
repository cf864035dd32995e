#pragma once

#include <span>

#include <multistate/types/ids.hpp>

namespace multistate {

/// Most states, tokens or settings of any kind; sums of a few of them do not overflow.
inline constexpr int max_tokens = 1 << 28;

/// One attention layer. Query head h reads KV head h / group().
struct shape {
  int heads = 0;     ///< H
  int kv_heads = 0;  ///< Hkv, divides H
  int dk = 0;        ///< key (and query) dimension
  int dv = 0;        ///< value dimension
  constexpr int group() const noexcept { return heads / kv_heads; }
  friend constexpr bool operator==(const shape&, const shape&) = default;
};

/// Amounts in tokens that size everything at construction.
/// Capacity of a lane = budget + (every - 1) + chunk, for the decider at least `prompt`.
struct limits {
  int chunk = 1;   ///< most tokens attended together
  int hold = 0;    ///< most tokens whose rows wait for reduce(accepted); 0: rows are folded at once
  int undo = 0;    ///< tokens that undo() can take back
  int every = 1;   ///< a lane is reduced once it holds so many more than its budget (slack = every - 1)
  int prompt = 0;  ///< longest one-shot prompt, attended from the caller's keys and values; 0: none
  int window = 0;  ///< the model's own sliding-window mask; 0: none
  constexpr int slack() const noexcept { return every - 1; }
  friend constexpr bool operator==(const limits&, const limits&) = default;
};

/// Which states may never be dropped: the first `first` positions and the `newest` newest.
struct protect {
  int first = 0;
  int newest = 0;
};

/// A range of positions [first, last).
struct position_range {
  position first = 0;
  position last = 0;
  friend constexpr bool operator==(const position_range&, const position_range&) = default;
};

/// A run of ranks [first, last).
struct rank_range {
  int first = 0;
  int last = 0;
  friend constexpr bool operator==(const rank_range&, const rank_range&) = default;
};

/// What a decider asks of the states that execute its decisions.
struct lane_plan {
  scope_kind scope = scope_kind::layer;
  std::span<const int> budgets;  ///< [lane]
  limits room;
};

/// Whether each KV head is a lane of its own.
constexpr bool by_head(scope_kind scope) noexcept {
  return scope == scope_kind::head || scope == scope_kind::model_head;
}

/// Lane of a KV head.
constexpr int lane_of(scope_kind scope, int kv_head) noexcept { return by_head(scope) ? kv_head : 0; }

/// Lanes that one decider holds.
constexpr int lanes_of(scope_kind scope, int kv_heads) noexcept { return by_head(scope) ? kv_heads : 1; }

}  // namespace multistate
