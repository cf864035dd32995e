#pragma once

#include <span>

#include <multistate/types/ids.hpp>

namespace multistate {

/// Copy the state at `from` over the one at `to`. A lane's moves are executed in order.
struct move {
  slot from = no_slot;  ///< or `aside`: bring back the state that was dropped last (undo only)
  slot to = no_slot;
  friend constexpr bool operator==(const move&, const move&) = default;
};

/// What happened to one lane. Refused tokens of a held chunk went first: they lay in the highest slots. Execute: put
/// `dropped` aside if undo is wanted, then do `moves`, then there are `live` states.
struct lane_decision {
  std::span<const slot> dropped;                ///< slots as they were before the moves, by increasing position
  std::span<const position> dropped_positions;  ///< the same states by position
  std::span<const move> moves;  ///< keep the live slots dense; none when the next token refills the hole
  int live = 0;                 ///< states there are afterwards
  slot hole = no_slot;          ///< at most one: then the live slots are [0, live] without it, until the next append
};

/// What one call of the decider did, for every lane. Valid until the next call that changes the decider.
struct decision {
  std::span<const lane_decision> lanes;
};

}  // namespace multistate
