#pragma once

#include <cstddef>
#include <span>

#include <multistate/types/ids.hpp>

namespace multistate {

/// Reads keys and values where somebody stores them, one state at a time, in float32: that of KV head `kv_head` in slot
/// `s`, which is the token at position `p`; of `layer` where layers share their lanes, else that is 0.
struct state_reader {
  using read = void(const void* from, int layer, int kv_head, slot s, position p, std::span<float> out) noexcept;

  const void* from = nullptr;  ///< what both functions are given
  read* key = nullptr;         ///< fills out [dk]
  read* value = nullptr;       ///< fills out [dv]
};

/// Rotary angles of a layer: what a policy needs to turn vectors itself. The frequencies must outlive whoever has them.
struct rotary_angles {
  std::span<const double> frequencies;  ///< [pairs] radians per position; none: nothing is turned
  bool adjacent = false;                ///< elements (2i, 2i + 1) turn together, else (i, i + pairs)
  double factor = 1;                    ///< what cosines and sines are multiplied by
  bool applied = true;                  ///< the keys and queries that a decider is shown have their angles

  /// The elements that turn together as pair i.
  constexpr std::size_t first(std::size_t i) const noexcept { return adjacent ? 2 * i : i; }
  constexpr std::size_t second(std::size_t i) const noexcept { return adjacent ? 2 * i + 1 : i + frequencies.size(); }
};

}  // namespace multistate
