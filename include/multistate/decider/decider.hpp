#pragma once

#include <multistate/policy/concept.hpp>
#include <multistate/policy/settings.hpp>
#include <multistate/select/fold.hpp>
#include <multistate/select/lowest.hpp>
#include <multistate/util/buffer.hpp>
#include <multistate/types/decision.hpp>
#include <multistate/types/error.hpp>
#include <multistate/util/hash.hpp>
#include <multistate/util/prefetch.hpp>

namespace multistate {

/// Where a decider stands: which layer of how many, and the heads that it decides for.
struct placement {
  int kv_heads = 1;
  int layer = 0;   ///< which one; at scope model 0
  int layers = 1;  ///< at scope model: how many are observed before each reduction
};

/// Bookkeeping and policy memory of one (sequence, layer), or of one sequence at scope model: positions, order, rows
/// that wait, undo. Owns no keys, knows no engine, allocates in make() only. A cycle is append -> observe -> reduce:
///
///   decider.append(c)          places for c tokens, the same number in every lane; execute its moves, write states
///   decider.observe(lane, r)   the weights of each KV head (and each layer, at scope model), in head order
///   decider.reduce()           drops down to the budget; execute its moves
///
/// A call that breaks these rules changes nothing, in every build: its decision has a fault, which all that follow
/// repeat until clear_fault().
template <policy P>
class decider {
 public:
  using policy_type = P;

  /// `lane_budgets`: one per lane for ragged budgets, empty for P::budget each.
  static result<decider> make(const P& settings, const placement& where, const limits& room = {},
                              std::span<const int> lane_budgets = {}) noexcept;

  // ---- the cycle

  /// Enters c tokens at the next positions. Their slots are slots(lane); there are moves only where a hole has to
  /// close. Held: each row will be given, and waits until reduce(accepted) tells how many tokens stay. Precondition: 1
  /// <= c <= limits.chunk (limits.hold when held), or the whole one-shot prompt of up to limits.prompt tokens into an
  /// empty lane. `full` is given no more tokens than its budget.
  const decision& append(int c, phase when = phase::decode, bool held = false) noexcept;
  /// Places of the appended tokens, oldest first.
  std::span<const slot> slots(int lane) const noexcept {
    return fresh_.span(lane_[to_size(lane)].fresh, fault_ == fault_kind::none ? to_size(appended_) : 0);
  }
  /// Hands key, value and query of appended token j of one KV head, in float32 and before storage, to a policy that
  /// asks; the key before its rotation where you have it, so that equal ones tie.
  void enter(int lane, int j, std::span<const float> key, std::span<const float> value,
             std::span<const float> query) noexcept;
  /// Whether this cycle's rows can change anything: an engine may skip them where nothing will be dropped or
  /// remembered.
  bool needs_rows() const noexcept;
  /// Adds the weights of one KV head (or of more, already summed) over the lane's live slots. Copies what it needs. At
  /// scope head a lane has one KV head: one call a cycle, in which the policy looks at the row and chooses.
  void observe(int lane, const rows& r) noexcept;
  /// Ends the cycle: forgets appended tokens past `accepted` (-1: all stay) and their rows, then drops down to the
  /// budget. Precondition of accepted < c: the cycle is held. accepted = 0 leaves everything as before the cycle.
  const decision& reduce(int accepted = -1) noexcept;
  /// Whether undo(tokens) would.
  bool can_undo(int tokens) const noexcept { return cycles_of(tokens) > 0; }
  /// Takes back whole cycles that hold exactly `tokens` accepted tokens, at most limits.undo: afterwards everything is
  /// bit for bit as if they had never happened. The moves to execute are in last(). False changes nothing. A one-shot
  /// prompt can't be taken back. Pins go back too: to what they were when the oldest of these cycles began.
  bool undo(int tokens) noexcept;
  /// Closes holes (at most one a lane), so that the live slots are dense before the next append.
  const decision& close() noexcept;
  /// What the last append, reduce, undo or close did.
  const decision& last() const noexcept { return decision_; }

  // ---- faults

  fault_kind fault() const noexcept { return fault_; }
  /// Goes on where the fault came up. Of a reduce() without all rows: observe what is missing, and reduce again.
  void clear_fault() noexcept {
    fault_ = fault_kind::none;
    decision_.fault = fault_;
  }
  /// Why append() would not take the tokens.
  fault_kind refusal(int c, bool held = false) const noexcept;
  /// For who executes decisions and can't: changes nothing, and lets all decisions repeat the fault.
  const decision& fail(fault_kind why) noexcept;

  // ---- protection at run time

  /// Positions [first, last) are not dropped until unpin; they count against the budget. False, and nothing changed,
  /// when more than some lane's budget would be protected, there are `max_pins` ranges already, or within a cycle.
  bool pin(position first, position last) noexcept;
  /// False when there is no such pin, or within a cycle.
  bool unpin(position first, position last) noexcept;
  static constexpr int max_pins = 8;

  // ---- what there is

  /// What the states of this decider need.
  lane_plan plan() const noexcept { return {settings_.scope, budgets_.span(0, budgets_.size()), room_}; }
  const P& settings() const noexcept { return settings_; }
  scope_kind scope() const noexcept { return settings_.scope; }
  /// What the policy reads.
  static constexpr needs wants() noexcept { return P::wants; }
  /// Whether the policy keeps everything: its budget is room for all tokens there will be.
  static constexpr bool unbounded() noexcept { return has_no_budget<P>; }
  const limits& room() const noexcept { return room_; }
  const placement& where() const noexcept { return where_; }
  int lanes() const noexcept { return lanes_; }
  /// Which lane holds the states of a KV head.
  int lane_of(int kv_head) const noexcept { return multistate::lane_of(settings_.scope, kv_head); }
  int budget(int lane) const noexcept { return lane_[to_size(lane)].budget; }
  int capacity(int lane) const noexcept { return lane_[to_size(lane)].capacity; }
  int live(int lane) const noexcept { return lane_[to_size(lane)].live; }
  /// [n] by slot; -1 at a hole.
  std::span<const position> positions(int lane) const noexcept {
    return positions_.span(lane_[to_size(lane)].base, to_size(extent(lane_[to_size(lane)])));
  }
  /// The next token's.
  position next_position() const noexcept { return next_position_; }
  /// Names what was decided so far: states that have executed it are at the same moment.
  std::uint64_t moment() const noexcept { return moment_; }
  /// Slots by increasing position; returns the number of live states, fills at most out.size().
  std::size_t rank_order(int lane, std::span<slot> out) const noexcept;
  /// Rank of each slot, [n] by slot: angles of in-cache positions.
  void ranks(int lane, std::span<std::uint32_t> by_slot) const noexcept;
  /// Runs of kept positions, increasing; the complement is what an engine removes. Returns how many there are.
  std::size_t kept_ranges(int lane, std::span<position_range> out) const noexcept;
  /// Runs of kept states in ranks before the last reduction, increasing. Returns how many there are.
  std::size_t kept_ranks(int lane, std::span<rank_range> out) const noexcept;
  /// Policy memory column, [n] by slot.
  std::span<const float> column(int lane, int i) const noexcept {
    const lane_state& s = lane_[to_size(lane)];
    return columns_.span(P::columns * s.base + to_size(i) * to_size(s.capacity), to_size(extent(s)));
  }
  /// All memory held, from make() on.
  std::size_t bytes() const noexcept {
    return positions_.bytes() + columns_.bytes() + order_.bytes() + waiting_.bytes() + scratch_.bytes() +
           fresh_.bytes() + dropped_.bytes() + dropped_positions_.bytes() + moves_.bytes() + lane_.bytes() +
           budgets_.bytes() + lane_decisions_.bytes() + cycles_buffer_bytes();
  }

  // ---- copies

  /// Becomes a copy that goes on independently, undo included. False, and nothing changed, when the two were not made
  /// alike, and of one with a fault or within a cycle.
  bool copy_from(const decider& other) noexcept;
  /// Forgets everything; from now on decides for this layer.
  void restart(int layer) noexcept;
  /// Takes the states over from another decider: positions, slots and pins. So a prompt policy hands over to a decode
  /// policy, whose memory starts at zero, and one decider with room for a prompt serves all layers, each of which takes
  /// over (the same policy keeps its memory). Undo ends here. False, and nothing changed, when they do not fit.
  /// States that executed the other's decisions go on; others have to apply() the next decision and be written anew.
  template <policy Q>
  bool take_over(const decider<Q>& other) noexcept;
  /// Bytes that save() fills now, between cycles. What is saved within one is no save: load() refuses it.
  std::size_t save_bytes() const noexcept;
  void save(std::span<std::byte> out) const noexcept;
  /// Restores what save() wrote of a decider made alike; undo starts anew. Anything else is refused and changes
  /// nothing. The states' save comes after it: states.load(saved, last()) refuses one of another moment.
  error load(std::span<const std::byte> in) noexcept;

 private:
  template <policy>
  friend class decider;

  static constexpr std::uint32_t none = 0xffffffffu;

  struct lane_state {
    std::size_t base = 0;         ///< of its slots in the arrays by slot
    std::size_t fresh = 0;        ///< of its places in fresh_
    std::size_t drops = 0;        ///< of its places in dropped_ and moves_
    std::size_t snapshot = 0;     ///< of its slots in a snapshot of columns
    std::size_t journal = 0;      ///< of its reversals
    std::size_t journal_end = 0;  ///< where the next one goes
    int budget = 0;
    int capacity = 0;
    int live = 0;
    slot hole = no_slot;
    std::uint32_t oldest = none;  ///< live slots form a list by position
    std::uint32_t newest = none;
    int observations = 0;    ///< in this cycle
    int observed_heads = 0;  ///< of the rows that wait
    bool decided = false;    ///< in this cycle
    int chosen = 0;          ///< states that go: the first in dropped_
  };
  struct links {
    std::uint32_t next = none;
    std::uint32_t previous = none;
  };
  /// How to reverse a drop (from `parked` to its slot, position and place in the list) or a move.
  struct reversal {
    slot_move back;
    position at = -1;
    std::uint32_t before = none;
  };
  /// A cycle that can be taken back: what it began with.
  struct cycle_mark {
    int tokens;
    int pending;
    int pins;
    std::uint64_t moment;
    position_range pin[max_pins];
  };

  static constexpr std::uint32_t raw(slot s) noexcept { return static_cast<std::uint32_t>(s); }
  static constexpr int extent(const lane_state& s) noexcept { return s.live + (s.hole == no_slot ? 0 : 1); }
  static constexpr int waiting_rows(const limits& room) noexcept {
    const int each = any(P::wants & needs::each_row) ? (room.chunk > room.prompt ? room.chunk : room.prompt) : 1;
    return room.hold > each ? room.hold : each;
  }
  static constexpr bool sees_rows = any(rows_of(P::wants));

  bool keeps_holes() const noexcept { return room_.undo == 0 && room_.hold == 0; }
  lane_ref view(int lane) noexcept;
  rows waiting(int lane, int accepted) noexcept;
  protection protected_in(const lane_state& s) const noexcept {
    return {settings_.keeps(s.budget), next_position_ - 1, {pin_, to_size(pins_)}};
  }
  std::int64_t reserved(const lane_state& s, std::span<const position_range> pins, position next) const noexcept;
  bool counts_as_pinned(const lane_state& s, std::span<const position_range> pins, position p) const noexcept {
    return p >= settings_.keeps(s.budget).first && pinned(pins, p);
  }
  void link_newest(lane_state& s, std::uint32_t at) noexcept;
  void unlink(lane_state& s, std::uint32_t at) noexcept;
  void relocate(lane_state& s, std::uint32_t from, std::uint32_t to) noexcept;
  void close_hole(lane_state& s, int& moves) noexcept;
  void report(int lane, int dropped, int moves) noexcept;
  /// Whether `tokens` more make a reduction.
  bool due(int tokens) const noexcept { return pending_ + tokens >= room_.every; }
  void decide(int lane, const rows& r, int accepted) noexcept;
  int choose(int lane, const rows& r, int drop) noexcept;
  void drop_chosen(int lane, int& moves) noexcept;

  /// Place of a cycle that can be taken back; one more than `undo`, for the cycle under way.
  std::size_t ring(int age) const noexcept { return to_size((first_cycle_ + age) % (room_.undo + 1)); }
  std::size_t journal_size() const noexcept { return room_.undo > 0 ? 2 * to_size(room_.undo + room_.slack()) : 0; }
  fault_kind refusal(int lane, const rows& r, bool each, bool sum) const noexcept;
  fault_kind fault_or_order() const noexcept { return fault_ == fault_kind::none ? fault_kind::out_of_order : fault_; }
  /// How many cycles hold exactly `tokens`; 0: none do.
  int cycles_of(int tokens) const noexcept;
  void begin_cycle() noexcept;
  void end_cycle(int accepted) noexcept;
  void note(int lane, const reversal& how) noexcept;
  void reverse(int lane, const reversal& how) noexcept;
  void forget_cycles() noexcept { first_cycle_ = cycles_ = undoable_tokens_ = 0; }
  std::size_t cycles_buffer_bytes() const noexcept {
    return cycle_marks_.bytes() + operations_.bytes() + old_columns_.bytes() + journal_.bytes() + undo_moves_.bytes();
  }
  void settle() noexcept;
  void begin_at(std::uint64_t moment) noexcept;
  /// The moment that states have to be at for the next decision.
  std::uint64_t asked_moment() const noexcept { return took_over_ ? 0 : moment_; }
  std::uint64_t fingerprint() const noexcept;
  static std::size_t lane_bytes(int live, slot hole) noexcept;

  P settings_{};
  placement where_{};
  limits room_{};
  int lanes_ = 0;
  int appended_ = 0;
  int pending_ = 0;  ///< tokens since the last reduction, for limits.every
  int pins_ = 0;
  position_range pin_[max_pins] = {};
  phase phase_ = phase::decode;
  bool open_ = false;  ///< between append and reduce
  bool held_ = false;  ///< this cycle's rows wait one by one
  fault_kind fault_ = fault_kind::none;
  position next_position_ = 0;
  std::uint64_t before_ = 0;        ///< moment before the last decision
  std::uint64_t moment_ = 0;        ///< after it: a hash of what was decided since the lanes were empty
  std::uint64_t cycle_moment_ = 0;  ///< before the cycle under way
  bool took_over_ = false;          ///< since the last append: states may be others, written anew

  buffer<lane_state> lane_;
  buffer<int> budgets_;         ///< [lane]
  buffer<position> positions_;  ///< [lane][capacity]
  buffer<float> columns_;       ///< [lane][column][capacity]
  buffer<links> order_;         ///< [lane][capacity] neighbours by position
  buffer<float> waiting_;       ///< [lane][rows][capacity]
  buffer<float> scratch_;       ///< [largest capacity]
  buffer<slot> fresh_;          ///< [lane][chunk or prompt]
  buffer<slot> dropped_;        ///< [lane][most dropped at once]
  buffer<position> dropped_positions_;
  buffer<slot_move> moves_;  ///< [lane][most moves at once]
  buffer<lane_decision> lane_decisions_;
  decision decision_;

  // Undo: a ring of cycles, the oldest at first_cycle_. Positions and order come back by reversing what was done;
  // policy memory, being sums, by a copy of slots [0, budget + slack) of each lane.
  int first_cycle_ = 0;
  int cycles_ = 0;
  int undoable_tokens_ = 0;
  std::size_t snapshot_slots_ = 0;  ///< of all lanes
  buffer<cycle_mark> cycle_marks_;  ///< [cycle]
  buffer<int> operations_;          ///< [cycle][lane] in the journal
  buffer<float> old_columns_;       ///< [cycle][lane][column][slot]
  buffer<reversal> journal_;        ///< [lane][operation], a ring
  buffer<slot_move> undo_moves_;    ///< [lane][operation]
};

}  // namespace multistate

#include <multistate/decider/decider_impl.hpp>
