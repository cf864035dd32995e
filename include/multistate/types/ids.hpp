#pragma once

#include <cstddef>
#include <cstdint>

#include <multistate/util/assert.hpp>

namespace multistate {

/// A count or index of the settings as the size it is in memory. Precondition: n >= 0.
constexpr std::size_t to_size(int n) noexcept {
  MULTISTATE_ASSERT(n >= 0);
  return static_cast<std::size_t>(n);
}

/// Which token of the sequence, from 0. Reused only by a token that replaces an undone one.
using position = std::int64_t;

/// Where a token's states lie in a lane. Says nothing about age: live slots are [0, n) in any order.
enum class slot : std::uint32_t {};

inline constexpr slot no_slot{0xffffffffu};

/// As the source of a move: the state that was dropped last and not brought back yet.
inline constexpr slot parked{0xfffffffeu};

constexpr std::size_t index(slot s) noexcept { return static_cast<std::size_t>(s); }

/// What shares one decision (one lane): each KV head, all heads of a layer, all layers, or one KV head of all layers.
enum class scope_kind : std::uint8_t { head, layer, model, model_head };

/// Whether all layers share their lanes: decided once, after the last one.
constexpr bool spans_layers(scope_kind scope) noexcept {
  return scope == scope_kind::model || scope == scope_kind::model_head;
}

/// What the tokens of a call are: more of a prompt follows, they end one, or neither.
enum class phase : std::uint8_t { prompt, prompt_end, decode };

/// Rows that attention delivers.
enum class needs : unsigned {
  nothing = 0,
  last_row = 1,  ///< the row of the chunk's last query
  row_sum = 2,   ///< the sum of the chunk's rows
  each_row = 4,  ///< the rows of the chunk's newest queries, or of all of them
  rows_and_sum = each_row | row_sum,
};

constexpr needs operator|(needs a, needs b) noexcept {
  return static_cast<needs>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
constexpr needs operator&(needs a, needs b) noexcept {
  return static_cast<needs>(static_cast<unsigned>(a) & static_cast<unsigned>(b));
}
constexpr bool any(needs a) noexcept { return a != needs::nothing; }

}  // namespace multistate
