#pragma once

#include <memory>
#include <vector>

#include <multistate/attention/options.hpp>
#include <multistate/memory/layer_attention.hpp>
#include <multistate/rope/config.hpp>
#include <multistate/state/multi_state.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/shape.hpp>

namespace multistate {

/// Which angle a rotary key has: that of its token; that of its rank among the kept ones (Xiao et al. 2023); or that of
/// its log position, the running sum of gaps between the kept ones with long gaps cut short (Oren et al. 2024).
enum class position_mode : std::uint8_t { original, in_cache, log };

/// What the memories of one sequence's layers have in common, whatever their policies.
struct memory_setup {
  shape dims;
  int layers = 1;
  limits room;
  attention_options attention;  ///< `in_cache` and `log` are filled in; `window` goes into `room` too
  position_mode positions = position_mode::original;
  rope_config rope;  ///< in-cache and log positions only
  /// [layers] in place of `rope` and of the attention's window, where layers differ; empty: they don't. A layer with a
  /// window remembers what that shows, under no other policy.
  std::vector<layer_attention> own;
  std::shared_ptr<const angle_table>
      angles;  ///< in-cache positions: made where it is missing or short; share it among many
  /// Rows that an observer sees under a policy that needs none: nothing, last_row or each_row.
  needs tap = needs::nothing;
  /// Where keys and values go, layer after layer: sequence_memory::arena_bytes(). Null: allocations of their own.
  arena states;
};

}  // namespace multistate
