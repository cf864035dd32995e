#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>

#include <multistate/decider/journal.hpp>
#include <multistate/decider/lane_book.hpp>
#include <multistate/decider/pins.hpp>
#include <multistate/decider/snapshot.hpp>
#include <multistate/decider/waiting_rows.hpp>
#include <multistate/policy/concept.hpp>
#include <multistate/policy/settings.hpp>
#include <multistate/select/lowest.hpp>
#include <multistate/types/decision.hpp>
#include <multistate/types/error.hpp>
#include <multistate/util/buffer.hpp>
#include <multistate/util/bytes.hpp>
#include <multistate/util/hash.hpp>
#include <multistate/util/prefetch.hpp>

namespace multistate {

/// Where a decider stands: which layer of how many, and the heads that it decides for.
struct placement {
  int kv_heads = 1;
  int layer = 0;   ///< which one; at scope model 0
  int layers = 1;  ///< at scope model: how many are observed before each reduction
};

namespace detail {

/// Says what is out of range, for any policy.
inline error check_sizes(const placement& where, const limits& room) noexcept {
  if (where.kv_heads < 1 || where.layers < 1 || where.layer < 0 || where.layer >= where.layers)
    return error(errc::bad_shape, "decider: kv_heads >= 1 and 0 <= layer < layers; got kv_heads=", where.kv_heads,
                 ", layer=", where.layer, ", layers=", where.layers);
  for (int amount : {room.chunk - 1, room.hold, room.undo, room.every - 1, room.prompt, room.window})
    if (amount < 0 || amount > max_tokens)
      return error(errc::bad_limits,
                   "limits: chunk and every must be at least 1, all others at least 0, none above 2^28; got chunk=",
                   room.chunk, ", hold=", room.hold, ", undo=", room.undo, ", every=", room.every,
                   ", prompt=", room.prompt, ", window=", room.window);
  if (room.hold > room.chunk)
    return error(errc::bad_limits, "limits: hold must be at most chunk; got hold=", room.hold, ", chunk=", room.chunk);
  return {};
}

}  // namespace detail

/// Bookkeeping and policy columns of one (sequence, layer), or of one sequence at scope model: positions, order, rows
/// that wait, undo. Owns no keys, knows no engine, allocates in make() only. What is here asks the policy: lane_book
/// knows where tokens lie, waiting_rows what was observed, journal how to go back. A cycle is append -> observe ->
/// reduce:
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

  /// A decider without tokens. `lane_budgets`: one per lane for ragged budgets, empty for P::budget each. The error
  /// says which setting, budget or size is out of range, or that there is no memory.
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
    return fault_ == fault_kind::none ? book_.fresh(lane) : std::span<const slot>();
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
  /// Whether undo(tokens) would take them back.
  bool can_undo(int tokens) const noexcept { return undoable_cycles(tokens) > 0; }
  /// Takes back whole cycles that hold exactly `tokens` accepted tokens, at most limits.undo: afterwards everything is
  /// bit for bit as if they had never happened. The moves to execute are in last(). False changes nothing. A one-shot
  /// prompt can't be taken back. Pins go back too: to what they were when the oldest of these cycles began.
  bool undo(int tokens) noexcept;
  /// Closes holes (at most one a lane), so that the live slots are dense before the next append.
  const decision& close() noexcept;
  /// What the last append, reduce, undo or close did.
  const decision& last() const noexcept { return decision_; }

  // ---- faults

  /// What was done wrong, and stands in the way; none: nothing.
  fault_kind fault() const noexcept { return fault_; }
  /// Goes on where the fault came up. Of a reduce() without all rows: observe what is missing, and reduce again.
  void clear_fault() noexcept {
    fault_ = fault_kind::none;
    decision_.fault = fault_;
  }
  /// Why append() would not take c tokens; none: it would.
  fault_kind refusal(int c, bool held = false) const noexcept;
  /// For who executes decisions and can't: changes nothing, and lets all decisions repeat the fault.
  const decision& fail(fault_kind why) noexcept;

  // ---- protection at run time

  /// Positions [first, last) are not dropped until unpin; they count against the budget. False, and nothing changed,
  /// when more than some lane's budget would be protected, there are `max_pins` ranges already, or within a cycle.
  bool pin(position first, position last) noexcept;
  /// Removes the pin of exactly these positions. False when there is none, or within a cycle.
  bool unpin(position first, position last) noexcept;
  /// Most ranges pinned at a time.
  static constexpr int max_pins = detail::pin_list::most;

  // ---- what there is

  /// What the states of this decider need.
  lane_plan plan() const noexcept { return {settings_.scope, book_.budgets(), room_}; }
  /// The policy that decides.
  const P& settings() const noexcept { return settings_; }
  scope_kind scope() const noexcept { return settings_.scope; }
  /// What the policy reads.
  static constexpr needs wants() noexcept { return P::wants; }
  /// Whether the policy keeps everything: its budget is room for all tokens there will be.
  static constexpr bool unbounded() noexcept { return has_no_budget<P>; }
  /// The limits given to make().
  const limits& room() const noexcept { return room_; }
  /// The layer that it decides for.
  const placement& where() const noexcept { return where_; }
  /// How many lanes there are: sets of states that one choice is made in.
  int lanes() const noexcept { return book_.lanes(); }
  /// Which lane holds the states of a KV head.
  int lane_of(int kv_head) const noexcept { return multistate::lane_of(settings_.scope, kv_head); }
  /// States that a lane holds after a reduction, at most.
  int budget(int lane) const noexcept { return book_.at(lane).budget; }
  /// Slots of a lane.
  int capacity(int lane) const noexcept { return book_.at(lane).capacity; }
  /// States that a lane holds now.
  int live(int lane) const noexcept { return book_.at(lane).live; }
  /// Positions of a lane's states, [n] by slot; -1 at a hole.
  std::span<const position> positions(int lane) const noexcept { return book_.positions(lane); }
  /// The position of the next token.
  position next_position() const noexcept { return book_.next_position(); }
  /// Names what was decided so far: states that have executed it are at the same moment.
  std::uint64_t moment() const noexcept { return book_.moment(); }
  /// Slots by increasing position; returns the number of live states, fills at most out.size().
  std::size_t rank_order(int lane, std::span<slot> out) const noexcept { return book_.rank_order(lane, out); }
  /// Rank of each slot, [n] by slot: angles of in-cache positions.
  void ranks(int lane, std::span<std::uint32_t> by_slot) const noexcept { book_.ranks(lane, by_slot); }
  /// Runs of kept positions, increasing; the complement is what an engine removes. Returns how many there are.
  std::size_t kept_ranges(int lane, std::span<position_range> out) const noexcept {
    return book_.kept_ranges(lane, out);
  }
  /// Runs of kept states in ranks before the last reduction, increasing. Returns how many there are.
  std::size_t kept_ranks(int lane, std::span<rank_range> out) const noexcept { return book_.kept_ranks(lane, out); }
  /// Column i of a lane, [n] by slot.
  std::span<const float> column(int lane, int i) const noexcept { return book_.column(lane, i); }
  /// All memory held, from make() on.
  std::size_t bytes() const noexcept {
    return book_.bytes() + journal_.bytes() + waiting_.bytes() + chosen_.bytes() + scratch_.bytes();
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
  std::size_t save_bytes() const noexcept { return detail::save_bytes(book_); }
  /// Writes all that is known, undo apart, to [save_bytes()]. Deciders that are equal write equal bytes.
  void save(std::span<std::byte> out) const noexcept {
    detail::save_book(out, open_ ? "a cycle!" : detail::decider_save, fingerprint(), pending_, pins_, book_);
  }
  /// Restores what save() wrote of a decider made alike; undo starts anew. Anything else is refused and changes
  /// nothing. The states' save comes after it: states.load(saved, last()) refuses one of another moment.
  error load(std::span<const std::byte> in) noexcept;

 private:
  template <policy>
  friend class decider;

  /// What was decided of one lane in this cycle.
  struct choice {
    bool made = false;
    int states = 0;  ///< that go: the first in book_.to_drop()
  };

  static constexpr bool sees_rows = any(rows_of(P::wants));
  /// The rows that the policy looks at.
  static constexpr rows_kind wanted = any(P::wants & needs::each_row)  ? rows_kind::each
                                      : any(P::wants & needs::row_sum) ? rows_kind::sum
                                                                       : rows_kind::last;
  /// How they wait: one by one while nobody knows which tokens stay.
  rows_kind kept() const noexcept { return held_ ? rows_kind::each : wanted; }
  static constexpr int most_waiting(const limits& room) noexcept {
    if (!sees_rows) return 0;
    const int each = wanted == rows_kind::each ? (room.chunk > room.prompt ? room.chunk : room.prompt) : 1;
    return room.hold > each ? room.hold : each;
  }
  lane_ref view(int lane) noexcept;
  /// Whether `tokens` more make a reduction.
  bool due(int tokens) const noexcept { return pending_ + tokens >= room_.every; }
  void decide(int lane, const rows& r, int accepted) noexcept;
  int choose(int lane, const rows& r, std::span<slot> out) noexcept;
  /// Whether the rows of a cycle in which they matter are all there.
  bool observed_all() const noexcept;
  fault_kind refusal(int lane, const rows& r) const noexcept;
  fault_kind fault_or_order() const noexcept { return fault_ == fault_kind::none ? fault_kind::out_of_order : fault_; }
  /// The book's decisions as the last call's.
  const decision& decided() noexcept { return decision_ = {book_.decisions(), fault_}; }
  /// Between cycles, without a fault, the book settled.
  void begin_anew() noexcept {
    open_ = false;
    fault_ = fault_kind::none;
    decided();
  }
  /// How many cycles undo(tokens) would take back.
  int undoable_cycles(int tokens) const noexcept {
    return open_ || fault_ != fault_kind::none ? 0 : journal_.cycles_of(tokens);
  }
  /// Whether a lane has room for what is protected in it. `held`: positions of its states, -1 for none.
  bool has_room_for(const detail::pin_list& pins, int budget, std::span<const position> held,
                    position next) const noexcept;
  std::uint64_t fingerprint() const noexcept;

  P settings_{};
  placement where_{};
  limits room_{};
  phase phase_ = phase::decode;
  bool open_ = false;  ///< between append and reduce
  bool held_ = false;  ///< this cycle's rows wait one by one
  fault_kind fault_ = fault_kind::none;
  int pending_ = 0;  ///< tokens since the last reduction, for limits.every
  detail::pin_list pins_;
  detail::lane_book book_;
  detail::journal journal_;
  detail::waiting_rows waiting_;
  buffer<choice> chosen_;  ///< [lane]
  buffer<float> scratch_;  ///< [largest capacity]
  decision decision_;
};

template <policy P>
result<decider<P>> decider<P>::make(const P& settings, const placement& where, const limits& room,
                                    std::span<const int> lane_budgets) noexcept {
  static_assert(diagnose_policy<P>());
  static_assert(!sees_rows || rows_of(P::wants) == needs::last_row || rows_of(P::wants) == needs::row_sum ||
                    rows_of(P::wants) == needs::each_row,
                "a policy wants one kind of rows: last_row, row_sum or each_row (docs/write-a-policy.md)");
  if (const error e = detail::check_sizes(where, room)) return e;
  const int lanes = lanes_of(settings.scope, where.kv_heads);
  if (!lane_budgets.empty() && lane_budgets.size() != to_size(lanes))
    return error(errc::bad_budget, P::name, ": needs one budget for each of ", lanes, " lanes; got ",
                 lane_budgets.size());
  decider d;
  d.settings_ = settings;
  d.where_ = where;
  d.room_ = room;
  if (!d.book_.allocate_lanes(lanes) || !d.journal_.allocate_lanes(lanes) || !d.waiting_.allocate_lanes(lanes) ||
      !d.chosen_.allocate(to_size(lanes)))
    return error(errc::out_of_memory, "decider: no memory for ", lanes, " lanes");
  for (int i = 0; i < lanes; ++i) {
    const int budget = lane_budgets.empty() ? settings.budget : lane_budgets[to_size(i)];
    if (const error e = check_settings(settings, budget)) return e;
    d.book_.size_lane(i, budget, room);
  }
  if (!d.book_.allocate_slots(P::columns, room) || !d.waiting_.allocate(d.book_, most_waiting(room)) ||
      !d.scratch_.allocate(d.book_.largest()) || !d.journal_.allocate(d.book_, room))
    return error(errc::out_of_memory, "decider: no memory for ", d.book_.slots(), " slots");
  d.book_.settle();
  d.decided();
  return d;
}

template <policy P>
lane_ref decider<P>::view(int lane) noexcept {
  const detail::lane_book::lane& l = book_.at(lane);
  return {.positions = book_.positions(lane),
          .now = book_.next_position() - 1,
          .when = phase_,
          .layer = where_.layer,
          .lane = lane,
          .budget = l.budget,
          .window = room_.window,
          .columns = book_.column_block(lane),
          .column_stride = to_size(l.capacity),
          .scratch = scratch_.span(0, to_size(l.live))};
}

template <policy P>
const decision& decider<P>::fail(fault_kind why) noexcept {
  fault_ = why;
  book_.settle();
  return decided();
}

template <policy P>
fault_kind decider<P>::refusal(int c, bool held) const noexcept {
  if (fault_ != fault_kind::none) return fault_;
  if (open_) return fault_kind::out_of_order;
  if (c < 1 || (held ? c > room_.hold : c > room_.chunk && (c > room_.prompt || next_position() > 0)))
    return fault_kind::wrong_count;
  for (int i = 0; i < lanes(); ++i)
    if (live(i) + c > (has_no_budget<P> ? budget(i) : capacity(i))) return fault_kind::wrong_count;
  return fault_kind::none;
}

template <policy P>
const decision& decider<P>::close() noexcept {
  if (fault_ != fault_kind::none || open_) return fail(fault_or_order());
  book_.close_holes();
  return decided();
}

template <policy P>
const decision& decider<P>::append(int c, phase when, bool held) noexcept {
  if (const fault_kind why = refusal(c, held); why != fault_kind::none) return fail(why);
  if (journal_.keeps()) journal_.begin(book_, pending_, pins_);
  open_ = true;
  held_ = held;
  phase_ = when;
  if constexpr (sees_rows) waiting_.clear();
  chosen_.fill({});
  book_.append(c);
  return decided();
}

template <policy P>
void decider<P>::enter(int lane, int j, std::span<const float> key, std::span<const float> value,
                       std::span<const float> query) noexcept {
  if constexpr (enters<P>) {
    if (fault_ != fault_kind::none) return;
    MULTISTATE_ASSERT(open_ && j >= 0 && j < book_.appended());
    settings_.enter(view(lane), slots(lane)[to_size(j)], key, value, query);
  }
}

template <policy P>
bool decider<P>::needs_rows() const noexcept {
  if (!open_ || fault_ != fault_kind::none) return false;
  if constexpr (!sees_rows) return false;
  if constexpr (observes<P>) return true;
  if (!due(book_.appended())) return false;
  for (int i = 0; i < lanes(); ++i)
    if (live(i) > budget(i)) return true;
  return false;
}

template <policy P>
fault_kind decider<P>::refusal(int lane, const rows& r) const noexcept {
  if (!open_) return fault_kind::out_of_order;
  if (lane < 0 || lane >= lanes() || r.n != live(lane) || r.queries < 1 || r.queries > book_.appended())
    return fault_kind::wrong_row;
  if (kept() != rows_kind::last && r.queries != book_.appended()) return fault_kind::wrong_row;
  // Several queries' rows hold whatever is kept of them; one row, only what it is.
  if (r.queries > 1 && r.kind != rows_kind::each && r.kind != kept()) return fault_kind::wrong_row;
  return chosen_[to_size(lane)].made ? fault_kind::lane_observed_twice : fault_kind::none;
}

template <policy P>
void decider<P>::observe(int lane, const rows& r) noexcept {
  if constexpr (sees_rows) {
    if (fault_ != fault_kind::none) return;
    if (const fault_kind why = refusal(lane, r); why != fault_kind::none) return void(fail(why));
    const bool one_row =
        kept() == rows_kind::last || (kept() == rows_kind::sum && (r.kind == rows_kind::sum || r.queries == 1));
    if (settings_.scope != scope_kind::head || !one_row) return waiting_.add(lane, book_.at(lane), r, kept());
    // A lane of one KV head gets no other row: this one need not be copied to wait.
    waiting_.count(lane, r.heads);
    decide(lane, {.data = r.last().data(), .n = r.n, .queries = book_.appended(), .heads = r.heads, .kind = kept()},
           book_.appended());
  }
}

/// Lets the policy look at the rows of a cycle and chooses what goes. Once a cycle.
template <policy P>
void decider<P>::decide(int lane, const rows& r, int accepted) noexcept {
  const detail::lane_book::lane& s = book_.at(lane);
  const int drop = due(accepted) && s.live > s.budget ? s.live - s.budget : 0;
  // A lane lies as far away as its states: what is read next is fetched meanwhile.
  if constexpr (observes<P>) {
    if (drop > 0 && settings_.keeps(s.budget).newest > 0) prefetch(positions(lane));
    settings_.observe(view(lane), r);
  }
  for (int c = 0; c < P::columns && lane + 1 < lanes(); ++c) prefetch(column(lane + 1, c));
  chosen_[to_size(lane)] = {true, drop == 0 ? 0 : choose(lane, r, book_.to_drop(lane, drop))};
  MULTISTATE_ASSERT(chosen_[to_size(lane)].states == drop);
}

/// Fills `out` by increasing position. Returns how many states there were to take.
template <policy P>
int decider<P>::choose(int lane, const rows& r, std::span<slot> out) noexcept {
  const protection kept{settings_.keeps(budget(lane)), next_position() - 1, pins_.span()};
  if constexpr (scores<P>) {
    const lane_ref all = view(lane);
    return static_cast<int>(lowest(settings_.worth(all, r), all.positions, kept, out));
  } else {
    std::size_t taken = 0;
    for (slot s = book_.at(lane).oldest; s != no_slot && taken < out.size(); s = book_.younger(lane, s))
      if (!kept.covers(book_.position_of(lane, s))) out[taken++] = s;
    return static_cast<int>(taken);
  }
}

template <policy P>
bool decider<P>::observed_all() const noexcept {
  for (int i = 0; i < lanes(); ++i)
    if (const int seen = waiting_.observations(i);
        seen == 0 || (settings_.scope == scope_kind::model && seen % where_.layers != 0))
      return false;
  return true;
}

template <policy P>
const decision& decider<P>::reduce(int accepted) noexcept {
  if (fault_ != fault_kind::none || !open_) return fail(fault_or_order());
  const int appended = book_.appended();
  if (accepted < 0) accepted = appended;
  if (accepted > appended || (accepted < appended && !held_)) return fail(fault_kind::wrong_count);
  const bool rows_matter = accepted > 0 && needs_rows();
  if (rows_matter && !observed_all()) return fail(fault_kind::lane_not_observed);
  open_ = false;
  book_.accept(accepted);
  for (int i = 0; i < lanes(); ++i) {
    if (accepted > 0 && !chosen_[to_size(i)].made)
      decide(i, rows_matter ? waiting_.take(i, book_, accepted, kept(), wanted) : rows{}, accepted);
    book_.drop(i, chosen_[to_size(i)].states, [&](const detail::reversal& how) {
      if (journal_.keeps()) journal_.note(i, how);
    });
  }
  book_.finish(accepted);
  pending_ = due(accepted) ? 0 : pending_ + accepted;
  if (appended > room_.chunk)  // a one-shot prompt: the states never had slots for it
    journal_.clear();
  else if (journal_.keeps() && accepted > 0)
    journal_.end(accepted);
  return decided();
}

template <policy P>
bool decider<P>::undo(int tokens) noexcept {
  const int cycles = undoable_cycles(tokens);
  if (cycles == 0) return false;
  const detail::cycle_mark& began = journal_.take_back(cycles, tokens, book_);
  pending_ = began.pending;
  pins_ = began.pins;
  decided();
  return true;
}

template <policy P>
bool decider<P>::has_room_for(const detail::pin_list& pins, int budget, std::span<const position> held,
                              position next) const noexcept {
  const protect structural = settings_.keeps(budget);
  std::int64_t states = pins.reserved(structural, budget, next);
  for (const position p : held)
    if (p >= 0 && pins.protects(structural, p)) ++states;
  return states <= budget;
}

template <policy P>
bool decider<P>::pin(position first, position last) noexcept {
  if (open_ || fault_ != fault_kind::none) return false;
  detail::pin_list more = pins_;
  if (first < 0 || last <= first || !more.add({first, last})) return false;
  for (int i = 0; i < lanes(); ++i)
    if (!has_room_for(more, budget(i), positions(i), next_position())) return false;
  pins_ = more;
  return true;
}

template <policy P>
bool decider<P>::unpin(position first, position last) noexcept {
  return !open_ && fault_ == fault_kind::none && pins_.remove({first, last});
}

/// Equal for deciders made alike: names the policy, its settings and every size.
template <policy P>
std::uint64_t decider<P>::fingerprint() const noexcept {
  std::uint64_t h = 0;
  const auto add = [&](std::uint64_t word) { h = mix(h ^ word); };
  for (char c : std::string_view(P::name)) add(static_cast<unsigned char>(c));
  std::apply([&](const auto&... o) { (add(detail::setting_bits(settings_.*o.member)), ...); }, P::options);
  add(static_cast<std::uint64_t>(settings_.scope));
  for (int amount : {where_.kv_heads, where_.layer, where_.layers, room_.chunk, room_.hold, room_.undo, room_.every,
                     room_.prompt, room_.window})
    add(static_cast<std::uint64_t>(amount));
  for (const int each : book_.budgets()) add(static_cast<std::uint64_t>(each));
  return h;
}

template <policy P>
bool decider<P>::copy_from(const decider& other) noexcept {
  if (other.open_ || other.fault_ != fault_kind::none || fingerprint() != other.fingerprint()) return false;
  book_.copy_from(other.book_);
  journal_.copy_from(other.journal_);
  pending_ = other.pending_;
  pins_ = other.pins_;
  begin_anew();
  return true;
}

template <policy P>
void decider<P>::restart(int layer) noexcept {
  MULTISTATE_ASSERT(layer >= 0);
  where_.layer = layer;
  pending_ = 0;
  pins_ = {};
  book_.clear();
  journal_.clear();
  begin_anew();
}

template <policy P>
template <policy Q>
bool decider<P>::take_over(const decider<Q>& other) noexcept {
  if (other.open_ || other.fault_ != fault_kind::none) return false;
  if (lanes() != other.lanes() || where_.kv_heads != other.where_.kv_heads) return false;
  int pending = 0;
  for (int i = 0; i < lanes(); ++i) {
    const detail::lane_book::lane& from = other.book_.at(i);
    if (from.live > budget(i) + room_.slack() || (from.hole != no_slot && !book_.keeps_holes())) return false;
    if (other.pins_.count > 0 && !has_room_for(other.pins_, budget(i), other.positions(i), other.next_position()))
      return false;
    if (from.live - budget(i) > pending) pending = from.live - budget(i);
  }
  book_.take_over(other.book_, std::is_same_v<P, Q>);
  journal_.clear();
  pending_ = pending;
  pins_ = other.pins_;
  begin_anew();
  return true;
}

template <policy P>
error decider<P>::load(std::span<const std::byte> in) noexcept {
  byte_reader from(in);
  detail::saved_head head;
  detail::saved_lane lane;
  if (const error e = detail::read_head(from, P::name, fingerprint(), room_.every, head)) return e;
  byte_reader again = from;
  for (int i = 0; i < lanes(); ++i) {
    std::string_view wrong = detail::read_lane(from, head, book_, i, lane);
    if (wrong.empty()) wrong = detail::check_lane(lane, head, settings_.keeps(budget(i)), budget(i));
    if (!wrong.empty()) return detail::broken_save(P::name, wrong);
  }
  if (from.left() != 0) return detail::broken_save(P::name, "it is too long");
  book_.clear();
  for (int i = 0; i < lanes(); ++i) {
    detail::read_lane(again, head, book_, i, lane);
    detail::take_lane(lane, book_, i);
  }
  book_.begin_at(head.moment, head.next_position);
  journal_.clear();
  pending_ = head.pending;
  pins_ = head.pins;
  begin_anew();
  return {};
}

}  // namespace multistate
