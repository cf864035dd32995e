#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <multistate/types/ids.hpp>

namespace multistate {

/// Copy the state at `from` over the one at `to`. A lane's moves are executed in order.
struct slot_move {
  slot from = no_slot;  ///< or `parked`: bring back the state that was dropped last (undo only)
  slot to = no_slot;
  friend constexpr bool operator==(const slot_move&, const slot_move&) = default;
};

/// What happened to one lane. Refused tokens of a held chunk went first: they lay in the highest slots. Execute: put
/// `dropped` aside if undo is wanted, then do `moves`, then there are `live` states.
struct lane_decision {
  std::span<const slot> dropped;                ///< slots as they were before the moves, by increasing position
  std::span<const position> dropped_positions;  ///< the same states by position
  std::span<const slot_move> moves;  ///< keep the live slots dense; none when the next token refills the hole
  int live = 0;                      ///< states there are afterwards
  int budget = 0;                    ///< states that the lane holds from now on; 0: as before
  slot hole = no_slot;       ///< at most one: then the live slots are [0, live] without it, until the next append
  std::uint64_t before = 0;  ///< names the moment that states have to be at to execute this; 0: an empty lane
  std::uint64_t moment = 0;  ///< and the one that they are at afterwards
};

/// What a caller did wrong in the cycle. Nothing was changed by it, and nothing is until clear_fault().
enum class fault_kind : std::uint8_t {
  none,
  lane_not_observed,    ///< reduce() without the rows of all lanes, or at scope model of all layers
  lane_observed_twice,  ///< observe() of a lane of one KV head again
  wrong_row,            ///< observe() of no lane, of another number of states than there are live, or of other tokens
  wrong_count,          ///< append() of more tokens than there is room for; reduce() of more than these, or not held
  out_of_order,         ///< append() before the reduce() of the cycle, others before its append()
  other_moment,         ///< step() over states that have not executed the decider's decisions
  no_reader             ///< append() under a policy that reads keys or values, before read_from()
};

constexpr std::string_view message(fault_kind f) noexcept {
  switch (f) {
    case fault_kind::none:
      return "no fault";
    case fault_kind::lane_not_observed:
      return "reduce() before the rows of every lane were observed";
    case fault_kind::lane_observed_twice:
      return "a lane of one KV head was observed twice in a cycle";
    case fault_kind::wrong_row:
      return "a row is not that of a lane's live states and appended tokens";
    case fault_kind::wrong_count:
      return "more tokens than there is room for, or fewer accepted though not held";
    case fault_kind::out_of_order:
      return "append(), observe(), reduce() did not follow one another";
    case fault_kind::other_moment:
      return "the states have not executed the decider's decisions";
    case fault_kind::no_reader:
      return "the policy reads stored keys or values, and nobody said where they are: read_from()";
  }
  return "unknown fault";
}

/// What one call of the decider did, for every lane. Valid until the next call that changes the decider.
struct decision {
  std::span<const lane_decision> lanes;
  fault_kind fault = fault_kind::none;  ///< else nothing was entered and nothing dropped
};

}  // namespace multistate
