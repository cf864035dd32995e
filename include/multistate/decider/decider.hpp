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
#include <multistate/policy/adaptive_heads.hpp>
#include <multistate/policy/asked.hpp>
#include <multistate/policy/critical.hpp>
#include <multistate/policy/pyramid.hpp>
#include <multistate/policy/segments.hpp>
#include <multistate/policy/then.hpp>
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
  int layer = 0;   ///< which one; 0 where layers share their lanes
  int layers = 1;  ///< how many there are; where they share their lanes all are observed before each reduction
  int heads = 0;   ///< query heads of a layer; needed by a policy that is asked for each of them, else 0 will do
  int dk = 0;      ///< length of a key, and
  int dv = 0;      ///< of a value: for a policy that looks at stored ones or remembers vectors, else 0 will do
  rotary_angles angles = {};      ///< for a policy that wants them
  query_statistics queries = {};  ///< where they are known
  std::span<const float> output =
      {};  ///< W_o of the layer [hidden][heads * dv], for critical; must outlive the decider
};

namespace detail {

/// Says what is out of range, for any policy.
inline error check_sizes(const placement& where, const limits& room) noexcept {
  if (where.kv_heads < 1 || where.layers < 1 || where.layer < 0 || where.layer >= where.layers)
    return error(errc::bad_shape, "decider: kv_heads >= 1 and 0 <= layer < layers; got kv_heads=", where.kv_heads,
                 ", layer=", where.layer, ", layers=", where.layers);
  if (where.heads < 0 || where.heads > max_tokens || where.heads % where.kv_heads != 0)
    return error(errc::bad_shape, "decider: kv_heads must divide heads; got heads=", where.heads,
                 ", kv_heads=", where.kv_heads);
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
template <class P>
class decider {
  static_assert(detail::diagnose_decidable<P>());
  using asked = detail::asked<P>;

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
  /// From here on a policy that looks at stored keys or values reads them by `reader`, whose source must stay where it
  /// is: while a cycle is open it holds the live states in their slots, the appended ones too, and executes no
  /// decision before reduce() has returned. step() and one_shot() call it; another engine does before append().
  void read_from(const state_reader& reader) noexcept {
    if constexpr (asked::may_read) states_.reader = reader;
  }
  /// Whether the policy looks at stored keys or values.
  bool reads() const noexcept { return wants_states(wants_); }
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
  lane_plan plan() const noexcept { return {scope(), book_.budgets(), room_}; }
  /// The policy that decides.
  const P& settings() const noexcept
    requires policy<P>
  {
    return policy_.of;
  }
  scope_kind scope() const noexcept { return scope_; }
  /// What the policy looks at.
  const evidence& wants() const noexcept { return wants_; }
  /// The rows that attention has to deliver for it; `rows_known`: the same for all settings of P.
  needs rows_wanted() const noexcept { return rows_; }
  static constexpr bool rows_known = asked::rows_known;
  static constexpr needs known_rows = asked::rows;
  /// Whether it wants those of each query head apart, not summed.
  bool heads_apart() const noexcept { return asked::may_frame && planes_ > 1; }
  /// Whether enter() wants the tokens.
  bool enters() const noexcept { return wants_entries(wants_) || critical_; }
  /// Whether the policy keeps everything: its budget is room for all tokens there will be.
  bool unbounded() const noexcept { return policy_.unbounded(); }
  /// The limits given to make().
  const limits& room() const noexcept { return room_; }
  /// The layer that it decides for.
  const placement& where() const noexcept { return where_; }
  /// How many lanes there are: sets of states that one choice is made in.
  int lanes() const noexcept { return book_.lanes(); }
  /// Which lane holds the states of a KV head.
  int lane_of(int kv_head) const noexcept { return multistate::lane_of(scope_, kv_head); }
  /// States that a lane holds after a reduction, at most. Dealt anew at the end of a prompt where heads are adaptive.
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
  /// What the policy remembers of a lane.
  std::span<const float> numbers(int lane) const noexcept { return book_.numbers(lane); }
  /// All memory held, from make() on.
  std::size_t bytes() const noexcept {
    return book_.bytes() + journal_.bytes() + waiting_.bytes() + chosen_.bytes() + scratch_.bytes() + pooled_.bytes() +
           mixed_.bytes() + layer_mix_.bytes() + work_.bytes() + vectors_.bytes() + held_numbers_.bytes() +
           order_.bytes() + tier_.bytes() + held_in_.bytes() + worths_.bytes() + dealt_order_.bytes() + dealt_.bytes() +
           dealt_budgets_.bytes();
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
  template <decidable Q>
  bool take_over(const decider<Q>& other) noexcept;
  /// Bytes that save() fills now, between cycles. What is saved within one is no save: load() refuses it.
  std::size_t save_bytes() const noexcept { return detail::save_bytes(book_); }
  /// Writes all that is known, undo apart, to [save_bytes()]. Deciders that are equal write equal bytes.
  void save(std::span<std::byte> out) const noexcept {
    detail::save_book(out, open_ ? "a cycle!" : detail::decider_save, fingerprint(), past_, pins_, book_);
  }
  /// Restores what save() wrote of a decider made alike; undo starts anew. Anything else is refused and changes
  /// nothing. The states' save comes after it: states.load(saved, last()) refuses one of another moment.
  error load(std::span<const std::byte> in) noexcept;

 private:
  template <class>
  friend class decider;

  /// What was decided of one lane in this cycle.
  struct choice {
    bool made = false;
    int states = 0;   ///< that go: the first in book_.to_drop()
    int entered = 0;  ///< held tokens before which the lane's numbers are kept
    int entries = 0;  ///< calls of enter()
  };

  /// The numbers of a lane as they were before held token j entered, until it is known whether it stays.
  std::span<float> held_numbers(int lane, int j) noexcept {
    const std::size_t count = to_size(book_.numbers());
    return held_numbers_.span((to_size(lane) * to_size(room_.hold) + to_size(j)) * count, count);
  }
  static void copy(std::span<float> to, std::span<const float> from) noexcept {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = from[i];
  }

  static constexpr bool sees_rows = !asked::rows_known || asked::rows != needs::nothing;
  /// Which rows of this cycle are kept: each while nobody knows which tokens stay.
  detail::kept_rows kept() const noexcept {
    const int c = book_.appended();
    if (held_) return {c, false, 1};
    if constexpr (asked::rows_known && asked::rows == needs::last_row) return {1, false, 1};
    return {wants_.last < c ? wants_.last : c, wants_.sum, wants_.decay};
  }
  error size_lanes(std::span<const int> lane_budgets) noexcept;
  /// What the policy wants of a lane of this decider; the error says what is not known of it.
  error find_wants() noexcept;
  /// budget_ is what the frame gives to this layer. False when there is no memory to find out.
  bool find_budget() noexcept;
  bool allocate() noexcept;
  lane_ref view(int lane, int plane = 0) noexcept;
  /// Whether a lane is reduced after `tokens` tokens of this cycle.
  bool due(int lane, int tokens) const noexcept;
  /// What a lane that holds `n` states is reduced by.
  multistate::moment moment_of(int lane, int tokens) const noexcept;
  /// The frame of the tokens of this cycle.
  frame frame_now() const noexcept {
    if constexpr (asked::may_frame) return policy_.frame_at(phase_);
    return {};
  }
  /// Whether this reduction deals budgets anew.
  bool dealing(int accepted) const noexcept;
  void deal(int accepted) noexcept;
  /// The rows as the policy is given them, where they need not wait; else without data.
  rows ready(const rows& r) const noexcept;
  void decide(int lane, const rows& r, int accepted) noexcept;
  protection kept_in(int lane) const noexcept;
  /// Of a prompt: it ends where the tokens read so far end.
  void note_prompt() noexcept {
    if (phase_ == phase::decode) return;
    past_.prompt = next_position();
    if (policy_.paired()) past_.handed = next_position();
  }
  std::span<const float> worth(int lane, const rows& r, const protection& kept) noexcept;
  std::span<const float> mixed(int lane, const rows& r, const protection& kept, mix_kind mix) noexcept;
  int choose(int lane, std::span<const float> worth, const protection& kept, std::span<slot> out) noexcept;
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

  asked policy_{};
  evidence wants_{};
  needs rows_ = needs::nothing;
  scope_kind scope_ = scope_kind::layer;
  int planes_ = 1;         ///< query heads for which the policy is asked apart
  int budget_ = 0;         ///< of each lane, before budgets are dealt
  int every_ = 1;          ///< limits.every as given
  bool mixes_ = false;     ///< and its answers are mixed
  bool critical_ = false;  ///< the last column is projected_length() of each state's value
  bool deals_ = false;     ///< budgets are dealt at the end of a prompt
  int beyond_ = 0;         ///< states beyond its budget that a lane may hold between cycles
  placement where_{};
  limits room_{};
  phase phase_ = phase::decode;
  bool open_ = false;      ///< between append and reduce
  bool held_ = false;      ///< this cycle's rows wait one by one
  int tokens_ = 0;         ///< of this cycle; from its reduction on those that stay
  bool one_shot_ = false;  ///< this cycle is a whole prompt
  fault_kind fault_ = fault_kind::none;
  detail::milestones past_;
  detail::milestones began_;  ///< past_ before this cycle
  detail::pin_list pins_;
  detail::lane_book book_;
  detail::journal journal_;
  detail::waiting_rows waiting_;
  buffer<choice> chosen_;  ///< [lane]
  buffer<float> scratch_;  ///< [largest capacity], and so are the others, where they are needed
  buffer<float> pooled_, mixed_, layer_mix_;
  buffer<float> work_;          ///< as the policy wants it
  buffer<float> vectors_;       ///< [dk + dv] of a state that is read
  buffer<float> held_numbers_;  ///< [lane][hold][number]
  lane_states states_;
  buffer<slot> order_;
  buffer<std::uint8_t> tier_;
  buffer<int> held_in_;        ///< [segments]
  buffer<float> worths_;       ///< [lane][largest capacity] where budgets are dealt
  buffer<slot> dealt_order_;   ///< [lane][largest capacity]
  buffer<lane_worth> dealt_;   ///< [lane]
  buffer<int> dealt_budgets_;  ///< [lane]
  decision decision_;
};

template <class P>
result<decider<P>> decider<P>::make(const P& settings, const placement& where, const limits& room,
                                    std::span<const int> lane_budgets) noexcept {
  if (const error e = detail::check_sizes(where, room)) return e;
  decider d;
  d.policy_ = asked{settings};
  d.scope_ = d.policy_.scope();
  d.where_ = where;
  d.room_ = room;
  if (const error e = d.find_wants()) return e;
  d.rows_ = rows_of(d.wants_);
  d.every_ = room.every;
  if (rows_known && d.rows_ != known_rows && d.rows_ != needs::nothing)
    d.rows_ = known_rows;  // what attention is asked for at compile time: more than these settings need
  const frame frames[] = {d.policy_.frame_at(phase::prompt_end), d.policy_.frame_at(phase::decode)};
  int slack = d.policy_.room();
  for (const frame& f : frames) {
    if (f.every - 1 > slack) slack = f.every - 1;
    if (f.mix != mix_kind::mean) {
      if (where.heads == 0)
        return error(errc::bad_shape, d.policy_.name(), ": mix needs the number of query heads; got heads=0");
      const int layers = spans_layers(d.scope_) ? where.layers : 1;
      d.mixes_ = true;
      d.planes_ = where.heads / (by_head(d.scope_) ? where.kv_heads : 1) * layers;
    }
  }
  for (const frame& f : frames) d.critical_ = d.critical_ || f.critical > 0;
  if (d.critical_ && (where.heads < 1 || where.dv < 1 || where.output.empty() ||
                      where.output.size() % (to_size(where.heads) * to_size(where.dv)) != 0))
    return error(errc::bad_shape, d.policy_.name(),
                 ": critical needs the layer's output weights [hidden][heads * dv]; got ", where.output.size(),
                 " floats for heads=", where.heads, ", dv=", where.dv);
  if (slack > room.slack()) d.room_.every = slack + 1;
  d.deals_ = frames[0].heads == head_budgets::adaptive;
  d.beyond_ = d.room_.slack() + (d.policy_.waits() ? room.chunk : 0);
  d.budget_ = d.policy_.budget();
  if (frames[0].layers == layer_budgets::pyramid && !d.find_budget())
    return error(errc::out_of_memory, "decider: no memory for the budgets of ", where.layers, " layers");
  if (const error e = d.size_lanes(lane_budgets)) return e;
  if (!d.allocate()) return error(errc::out_of_memory, "decider: no memory for ", d.book_.slots(), " slots");
  d.book_.settle();
  d.decided();
  return d;
}

template <class P>
error decider<P>::find_wants() noexcept {
  const int layers = spans_layers(scope_) ? where_.layers : 1, kv = by_head(scope_) ? 1 : where_.kv_heads;
  states_.lane = {where_.heads / where_.kv_heads * kv * layers, kv * layers, where_.dk, where_.dv};
  states_.angles = where_.angles;
  states_.layer_heads = kv;
  states_.layer = spans_layers(scope_) ? 0 : where_.layer;
  states_.heads = where_.heads;
  states_.queries = where_.queries;
  const std::size_t all = to_size(where_.layers) * to_size(where_.heads) * to_size(where_.dk / 2);
  if (!where_.queries.mean.empty() && (where_.queries.mean.size() != 2 * all || where_.queries.magnitude.size() != all))
    return error(errc::bad_shape, policy_.name(), ": needs statistics of queries for layers=", where_.layers,
                 ", heads=", where_.heads, ", dk=", where_.dk);
  wants_ = policy_.wants(states_.lane);
  for (const int amount : {wants_.last, wants_.columns, wants_.lane_numbers, wants_.work, wants_.work_per_state})
    if (amount < 0) return error(errc::bad_policy, policy_.name(), ": what it wants must not be negative");
  if ((reads() || wants_.queries || wants_.angles) && (where_.heads < 1 || where_.dk < 1 || where_.dv < 1))
    return error(errc::bad_shape, policy_.name(),
                 ": needs the query heads and the lengths of keys and values; got heads=", where_.heads,
                 ", dk=", where_.dk, ", dv=", where_.dv);
  if (wants_entries(wants_) && wants_.lane_numbers > 0 && room_.hold > 0 && layers > 1)
    return error(errc::not_supported, policy_.name(), ": held tokens need a lane for each layer, scope head or layer");
  if (wants_.angles &&
      (where_.angles.frequencies.empty() || 2 * where_.angles.frequencies.size() > static_cast<std::size_t>(where_.dk)))
    return error(errc::bad_shape, policy_.name(), ": needs the rotary angles of keys; got ",
                 where_.angles.frequencies.size(), " frequencies for dk=", where_.dk);
  return {};
}

template <class P>
bool decider<P>::find_budget() noexcept {
  buffer<int> budgets;
  if (!budgets.allocate(to_size(where_.layers))) return false;
  // Those of a prompt that is long enough for the whole slope: memory is sized before there is a prompt.
  pyramid_budgets(max_tokens, budget_, policy_.keeps(phase::prompt_end, budget_).newest,
                  budgets.span(0, budgets.size()));
  budget_ = budgets[to_size(where_.layer)];
  return true;
}

template <class P>
error decider<P>::size_lanes(std::span<const int> lane_budgets) noexcept {
  const int lanes = lanes_of(scope_, where_.kv_heads);
  if (!lane_budgets.empty() && lane_budgets.size() != to_size(lanes))
    return error(errc::bad_budget, policy_.name(), ": needs one budget for each of ", lanes, " lanes; got ",
                 lane_budgets.size());
  if (!lane_budgets.empty() && deals_)
    return error(errc::bad_budget, policy_.name(), ": heads=adaptive deals the budgets of lanes itself");
  if (!book_.allocate_lanes(lanes) || !journal_.allocate_lanes(lanes) || !waiting_.allocate_lanes(lanes) ||
      !chosen_.allocate(to_size(lanes)))
    return error(errc::out_of_memory, "decider: no memory for ", lanes, " lanes");
  for (int i = 0; i < lanes; ++i) {
    const int budget = lane_budgets.empty() ? budget_ : lane_budgets[to_size(i)];
    if (const error e = policy_.check(budget)) return e;
    book_.size_lane(i, budget, room_, beyond_, deals_);
  }
  return {};
}

/// Memory of all lanes, sized. False when there is none.
template <class P>
bool decider<P>::allocate() noexcept {
  const int calls = room_.chunk > room_.prompt ? room_.chunk : room_.prompt;
  int queries = wants_.last < calls ? wants_.last : calls;
  if (room_.hold > queries) queries = room_.hold;
  const bool waits = rows_ != needs::nothing;
  if (!book_.allocate_slots(wants_.columns * planes_ + (critical_ ? 1 : 0), wants_.lane_numbers * planes_, room_) ||
      !waiting_.allocate(book_, waits ? queries : 0, waits && wants_.sum, planes_) ||
      !scratch_.allocate(book_.largest()) || !journal_.allocate(book_, room_))
    return false;
  if constexpr (asked::may_enter)
    if (!held_numbers_.allocate(to_size(lanes()) * to_size(room_.hold) * to_size(book_.numbers()))) return false;
  if constexpr (asked::may_pool)
    if (policy_.pools_worths() && !pooled_.allocate(book_.largest())) return false;
  if (wants_.order && !order_.allocate(book_.largest())) return false;
  if constexpr (asked::may_read) {
    const std::size_t work = to_size(wants_.work) + to_size(wants_.work_per_state) * book_.largest();
    if (!work_.allocate(work) || (reads() && !vectors_.allocate(to_size(where_.dk) + to_size(where_.dv)))) return false;
  }
  if constexpr (asked::may_frame) {
    const int segments[] = {policy_.frame_at(phase::prompt_end).segments, policy_.frame_at(phase::decode).segments};
    const int most = segments[0] > segments[1] ? segments[0] : segments[1];
    if ((mixes_ || critical_) && !mixed_.allocate(book_.largest())) return false;
    if (mixes_ && !layer_mix_.allocate(book_.largest())) return false;
    if (critical_ && (!order_.allocate(book_.largest()) || !tier_.allocate(book_.largest()))) return false;
    if (most > 0 &&
        (!order_.allocate(book_.largest()) || !tier_.allocate(book_.largest()) || !held_in_.allocate(to_size(most))))
      return false;
    const std::size_t all = to_size(lanes());
    if (deals_ && (!worths_.allocate(all * book_.largest()) || !dealt_order_.allocate(all * book_.largest()) ||
                   !dealt_.allocate(all) || !dealt_budgets_.allocate(all)))
      return false;
  }
  return true;
}

template <class P>
lane_ref decider<P>::view(int lane, int plane) noexcept {
  const detail::lane_book::lane& l = book_.at(lane);
  const std::size_t mine = to_size(wants_.columns) * to_size(l.capacity), own = to_size(wants_.lane_numbers);
  const std::size_t memory =
      wants_entries(wants_) ? 0 : to_size(plane);  // what enters is remembered for all query heads together
  if constexpr (asked::may_read) {
    states_.first_head = by_head(scope_) ? lane : 0;
    states_.room = vectors_.span(0, vectors_.size());
  }
  return {.positions = book_.positions(lane),
          .now = book_.next_position() - 1,
          .prompt = past_.prompt,
          .tokens = tokens_,
          .when = phase_,
          .layer = where_.layer,
          .lane = lane,
          .budget = l.budget,
          .query_head = planes_ > 1 ? plane : -1,
          .window = room_.window,
          .columns = book_.column_block(lane).subspan(mine * memory, mine),
          .column_stride = to_size(l.capacity),
          .numbers = book_.numbers(lane).subspan(own * memory, own),
          .scratch = scratch_.span(0, to_size(l.live)),
          .by_age = {},
          .work = work_.span(0, work_.size()),
          .states = asked::may_read ? &states_ : nullptr};
}

template <class P>
multistate::moment decider<P>::moment_of(int lane, int tokens) const noexcept {
  const int every = frame_now().every;
  return {.n = live(lane),
          .budget = budget(lane),
          .tokens = tokens,
          .one_shot = one_shot_,
          .when = phase_,
          .consumed = next_position(),
          .prompt = past_.prompt,
          .every = every > 1 ? every : every_};
}

template <class P>
bool decider<P>::due(int lane, int tokens) const noexcept {
  if (live(lane) <= budget(lane) || tokens == 0) return false;
  const multistate::moment m = moment_of(lane, tokens);
  return policy_.due(m, m.n >= m.budget + m.every);
}

template <class P>
const decision& decider<P>::fail(fault_kind why) noexcept {
  fault_ = why;
  book_.settle();
  return decided();
}

template <class P>
fault_kind decider<P>::refusal(int c, bool held) const noexcept {
  if (fault_ != fault_kind::none) return fault_;
  if (open_) return fault_kind::out_of_order;
  if (reads() && ((wants_.stored_keys && states_.reader.key == nullptr) ||
                  (wants_.stored_values && states_.reader.value == nullptr)))
    return fault_kind::no_reader;
  if (c < 1 || (held ? c > room_.hold : c > room_.chunk && (c > room_.prompt || next_position() > 0)))
    return fault_kind::wrong_count;
  for (int i = 0; i < lanes(); ++i)
    if (live(i) + c > (unbounded()       ? budget(i)
                       : c > room_.chunk ? capacity(i)
                                         : budget(i) + room_.slack() + room_.chunk))
      return fault_kind::wrong_count;
  return fault_kind::none;
}

template <class P>
const decision& decider<P>::close() noexcept {
  if (fault_ != fault_kind::none || open_) return fail(fault_or_order());
  book_.close_holes();
  return decided();
}

template <class P>
const decision& decider<P>::append(int c, phase when, bool held) noexcept {
  if (const fault_kind why = refusal(c, held); why != fault_kind::none) return fail(why);
  if (journal_.keeps()) journal_.begin(book_, past_, pins_);
  began_ = past_;
  open_ = true;
  held_ = held;
  phase_ = when;
  tokens_ = c;
  one_shot_ = c > room_.chunk;
  if constexpr (sees_rows) waiting_.clear();
  chosen_.fill({});
  book_.append(c);
  note_prompt();
  return decided();
}

template <class P>
void decider<P>::enter(int lane, int j, std::span<const float> key, std::span<const float> value,
                       std::span<const float> query) noexcept {
  if constexpr (asked::may_enter || asked::may_frame) {
    if (fault_ != fault_kind::none) return;
    MULTISTATE_ASSERT(open_ && j >= 0 && j < book_.appended());
    if (held_ && chosen_[to_size(lane)].entered == j) {
      copy(held_numbers(lane, j), book_.numbers(lane));
      ++chosen_[to_size(lane)].entered;
    }
    lane_ref entered = view(lane);
    const int heads = states_.layer_heads, calls = chosen_[to_size(lane)].entries++;
    entered.kv_head = calls / (heads * book_.appended()) * heads + calls % heads;
    const slot s = slots(lane)[to_size(j)];
    if (critical_)
      book_.column(lane, book_.columns() - 1)[index(s)] +=
          static_cast<float>(projected_length(where_.output, {where_.heads, where_.kv_heads, where_.dk, where_.dv},
                                              by_head(scope_) ? lane : entered.kv_head, value));
    policy_.enter(entered, s, key, value, query);
  }
}

template <class P>
bool decider<P>::needs_rows() const noexcept {
  if (!open_ || fault_ != fault_kind::none || rows_ == needs::nothing) return false;
  if (policy_.observes_rows()) return true;
  for (int i = 0; i < lanes(); ++i)
    if (due(i, book_.appended())) return true;
  return false;
}

template <class P>
fault_kind decider<P>::refusal(int lane, const rows& r) const noexcept {
  const int c = book_.appended();
  if (!open_) return fault_kind::out_of_order;
  if (lane < 0 || lane >= lanes() || r.n != live(lane) || r.queries < 1 || r.queries > c || r.heads < 1)
    return fault_kind::wrong_row;
  const detail::kept_rows keep = kept();
  // Several queries' rows hold whatever is kept of them; one row, only what it is.
  const int each = r.kind == rows_kind::each ? r.queries : r.kind == rows_kind::last || r.queries == 1 ? 1 : 0;
  const bool whole = r.sum != nullptr || (r.queries == c && (r.kind != rows_kind::last || c == 1));
  if (each < keep.each || (keep.sum && !whole)) return fault_kind::wrong_row;
  if (heads_apart() ? r.heads > 1 && r.head_stride == 0 : r.head_stride != 0) return fault_kind::wrong_row;
  if (heads_apart() && waiting_.heads(lane) + r.heads > planes_) return fault_kind::lane_observed_twice;
  return chosen_[to_size(lane)].made ? fault_kind::lane_observed_twice : fault_kind::none;
}

template <class P>
rows decider<P>::ready(const rows& r) const noexcept {
  const detail::kept_rows keep = kept();
  const int c = book_.appended();
  if (r.heads < planes_) return {};
  if (keep.sum && r.sum == nullptr && r.kind == rows_kind::each && r.queries > 1) return {};
  rows given = r;
  given.sum = !keep.sum ? nullptr : r.sum != nullptr ? r.sum : r.last().data();
  if (keep.each == 0) {
    given.data = given.sum;
    given.kind = rows_kind::sum;
    given.queries = c;
  } else if (wants_.last == 1 && !keep.sum) {
    given.data = r.last().data();
    given.kind = rows_kind::last;
    given.queries = c;
  } else {
    given.data = r.kind == rows_kind::each ? r.row(r.queries - keep.each).data() : r.data;
    given.kind = rows_kind::each;
    given.queries = keep.each;
  }
  return given;
}

template <class P>
void decider<P>::observe(int lane, const rows& r) noexcept {
  if constexpr (sees_rows) {
    if (fault_ != fault_kind::none || rows_ == needs::nothing) return;
    if (const fault_kind why = refusal(lane, r); why != fault_kind::none) return void(fail(why));
    if (scope_ == scope_kind::head && !held_)
      if (const rows given = ready(r); given.data != nullptr) {
        // A lane of one KV head gets no other rows: these need not be copied to wait.
        waiting_.count(lane, r.heads);
        return decide(lane, given, book_.appended());
      }
    if constexpr (asked::rows_known && asked::rows == needs::last_row && !asked::may_frame)
      if (!held_) return waiting_.add_row(lane, book_.at(lane), r.last(), r.heads, false);
    if constexpr (asked::rows_known && asked::rows == needs::row_sum && !asked::may_frame)
      if (!held_ && wants_.last == 0 && (r.sum != nullptr || r.kind != rows_kind::each || r.queries == 1))
        return waiting_.add_row(lane, book_.at(lane), r.total(), r.heads, true);
    waiting_.add(lane, book_.at(lane), r, kept());
  }
}

/// What is protected now. The newest are the newest that are held: after another policy's choices these lie apart.
template <class P>
protection decider<P>::kept_in(int lane) const noexcept {
  protection kept{policy_.keeps(phase_, budget(lane), moment_of(lane, tokens_)), next_position() - 1, pins_.span()};
  if (past_.handed == 0 || next_position() - past_.handed >= kept.structural.newest) return kept;
  slot s = book_.at(lane).newest;
  for (int i = 1; i < kept.structural.newest && s != no_slot; ++i) s = book_.older(lane, s);
  const position from = s == no_slot ? 0 : book_.position_of(lane, s);
  kept.structural.newest = static_cast<int>(kept.now - from < max_tokens ? kept.now - from + 1 : max_tokens);
  return kept;
}

template <class P>
bool decider<P>::dealing(int accepted) const noexcept {
  if (!deals_ || phase_ != phase::prompt_end) return false;
  for (int i = 0; i < lanes(); ++i)
    if (budget(i) != budget_ || !due(i, accepted)) return false;  // once, and where something has to go
  return true;
}

/// Lets the policy look at the rows of a cycle and chooses what goes. Once a cycle.
template <class P>
void decider<P>::decide(int lane, const rows& r, int accepted) noexcept {
  const detail::lane_book::lane& s = book_.at(lane);
  const bool deals = asked::may_frame && dealing(accepted);
  const int drop = due(lane, accepted) && !deals ? s.live - s.budget : 0;
  // A lane lies as far away as its states: what is read next is fetched meanwhile.
  if constexpr (asked::may_observe) {
    if (drop > 0 && policy_.keeps(phase_, s.budget).newest > 0) prefetch(positions(lane));
    if (rows_ != needs::nothing || !sees_rows) {
      if (!heads_apart()) policy_.observe(view(lane), r);
      for (int plane = 0; heads_apart() && plane < planes_; ++plane) policy_.observe(view(lane, plane), r.head(plane));
    }
  }
  for (int c = 0; c < book_.columns() && lane + 1 < lanes(); ++c) prefetch(column(lane + 1, c));
  chosen_[to_size(lane)] = {true, 0};
  if (drop == 0 && !deals) return;
  const protection kept = kept_in(lane);
  const std::span<const float> w = worth(lane, r, kept);
  if (deals) {
    for (std::size_t i = 0; i < w.size(); ++i) worths_[to_size(lane) * book_.largest() + i] = w[i];
    return;
  }
  chosen_[to_size(lane)].states = choose(lane, w, kept, book_.to_drop(lane, drop));
  MULTISTATE_ASSERT(chosen_[to_size(lane)].states == drop);
}

/// What the states of a lane are worth, [n] by slot; empty: the oldest goes.
template <class P>
std::span<const float> decider<P>::worth(int lane, const rows& r, const protection& kept) noexcept {
  if constexpr (!asked::may_score) {
    return {};
  } else {
    lane_ref all = view(lane);
    if (wants_.order) {
      const std::size_t n = book_.rank_order(lane, order_.span(0, book_.largest()));
      all.by_age = order_.span(0, n);
    }
    std::span<const float> w;
    if (asked::may_frame && mixes_)
      w = mixed(lane, r, kept, frame_now().mix);
    else
      w = policy_.worth(all, r);
    if constexpr (asked::may_pool) {
      if (w.empty() || !policy_.pools_worths()) return w;
      const std::span<float> worth = scratch_.span(0, w.size());
      if (w.data() != worth.data())
        for (std::size_t s = 0; s < w.size(); ++s) worth[s] = w[s];
      all.scratch = pooled_.span(0, w.size());
      policy_.pool(all, worth);
      return worth;
    }
    return w;
  }
}

/// The worths that the query heads of a lane give, as one; at scope model_head first in each layer, then their mean.
template <class P>
std::span<const float> decider<P>::mixed(int lane, const rows& r, const protection& kept, mix_kind mix) noexcept {
  const std::size_t n = to_size(live(lane));
  const std::span<float> all = mixed_.span(0, n), layer = layer_mix_.span(0, n);
  const bool greatest = detail::takes_greatest(mix), by_layer = scope_ == scope_kind::model_head;
  const int group = by_layer ? planes_ / where_.layers : planes_;
  for (int plane = 0; plane < planes_; ++plane) {
    const lane_ref view_of = view(lane, plane);
    const std::span<const float> w = policy_.worth(view_of, r.head(plane));
    if (w.empty()) return w;
    const std::span<float> own = scratch_.span(0, n);
    if (w.data() != own.data())
      for (std::size_t s = 0; s < n; ++s) own[s] = w[s];
    if (detail::normalises(mix))
      detail::normalise(own, [&](std::size_t s) { return !kept.covers(view_of.positions[s]); });
    detail::take_in(layer, own, greatest, plane % group == 0);
    if (plane % group == group - 1) detail::take_in(all, layer, false, plane < group);
  }
  const int layers = planes_ / group;
  const float each = 1.0f / static_cast<float>((greatest ? 1 : group) * layers);
  for (float& w : all) w *= each;
  return all;
}

/// Fills `out` by increasing position. Returns how many states there were to take.
template <class P>
int decider<P>::choose(int lane, std::span<const float> worth, const protection& kept, std::span<slot> out) noexcept {
  if (worth.empty()) {
    std::size_t taken = 0;
    for (slot s = book_.at(lane).oldest; s != no_slot && taken < out.size(); s = book_.younger(lane, s))
      if (!kept.covers(book_.position_of(lane, s))) out[taken++] = s;
    return static_cast<int>(taken);
  }
  std::span<std::uint8_t> tier;
  if constexpr (asked::may_frame) {
    if (const frame f = frame_now(); f.critical > 0) {
      const std::size_t n = worth.size();
      tier = tier_.span(0, n);
      mark_first_stage(worth, positions(lane), kept, static_cast<int>(f.critical * budget(lane)), order_.span(0, n),
                       tier);
      const std::span<float> second = mixed_.span(0, n);
      const std::span<const float> length = column(lane, book_.columns() - 1);
      for (std::size_t s = 0; s < n; ++s)
        second[s] = static_cast<float>((double{worth[s]} + f.critical_epsilon) * double{length[s]});
      worth = second;
    } else if (f.segments > 0) {
      tier = tier_.span(0, worth.size());
      mark_quotas(worth, positions(lane), kept, f.segments, f.quota, order_.span(0, worth.size()),
                  held_in_.span(0, to_size(f.segments)), tier);
    }
  }
  return static_cast<int>(lowest(worth, positions(lane), kept, out, tier));
}

/// Shares the budgets of all lanes by what decide() found their states worth, and chooses what goes.
template <class P>
void decider<P>::deal(int accepted) noexcept {
  const int k = budget_;
  for (int i = 0; i < lanes(); ++i) {
    int least = 1;
    while (least < k && (policy_.check(least) || !has_room_for(pins_, least, positions(i), next_position()))) ++least;
    const std::size_t at = to_size(i) * book_.largest(), n = to_size(live(i));
    dealt_[to_size(i)] = {worths_.span(at, n), positions(i), kept_in(i), least, dealt_order_.span(at, n)};
  }
  const auto floor = static_cast<int>(frame_now().floor * k);
  share_budgets(dealt_.span(0, dealt_.size()), floor, std::int64_t{k} * lanes(),
                dealt_budgets_.span(0, to_size(lanes())));
  for (int i = 0; i < lanes(); ++i) {
    const std::size_t at = to_size(i) * book_.largest(), n = to_size(live(i));
    const protection kept = kept_in(i);
    book_.set_budget(i, dealt_budgets_[to_size(i)]);
    const int drop = live(i) - budget(i);
    if (due(i, accepted) && drop > 0)
      chosen_[to_size(i)].states = choose(i, worths_.span(at, n), kept, book_.to_drop(i, drop));
  }
}

template <class P>
bool decider<P>::observed_all() const noexcept {
  for (int i = 0; i < lanes(); ++i)
    if (const int seen = waiting_.observations(i); seen == 0 || (spans_layers(scope_) && seen % where_.layers != 0) ||
                                                   (heads_apart() && waiting_.heads(i) != planes_))
      return false;
  return true;
}

template <class P>
const decision& decider<P>::reduce(int accepted) noexcept {
  if (fault_ != fault_kind::none || !open_) return fail(fault_or_order());
  const int appended = book_.appended();
  if (accepted < 0) accepted = appended;
  if (accepted > appended || (accepted < appended && !held_)) return fail(fault_kind::wrong_count);
  const bool rows_matter = accepted > 0 && needs_rows();
  if (rows_matter && !observed_all()) return fail(fault_kind::lane_not_observed);
  open_ = false;
  book_.accept(accepted);
  if constexpr (asked::may_enter)
    for (int i = 0; held_ && i < lanes(); ++i)
      if (accepted < chosen_[to_size(i)].entered) copy(book_.numbers(i), held_numbers(i, accepted));
  tokens_ = accepted;
  if (accepted > 0)
    note_prompt();
  else
    past_ = began_;
  const bool deals = asked::may_frame && dealing(accepted);
  for (int i = 0; i < lanes(); ++i)
    if (accepted > 0 && !chosen_[to_size(i)].made)
      decide(i,
             rows_matter ? waiting_.take(i, book_, accepted, {wants_.last, wants_.sum, wants_.decay}, held_) : rows{},
             accepted);
  if (deals) deal(accepted);
  for (int i = 0; i < lanes(); ++i)
    book_.drop(i, chosen_[to_size(i)].states, [&](const detail::reversal& how) {
      if (journal_.keeps()) journal_.note(i, how);
    });
  book_.finish(accepted);
  if (one_shot_ || deals)  // the states never had slots for such a prompt; or have others from now on
    journal_.clear();
  else if (journal_.keeps() && accepted > 0)
    journal_.end(accepted);
  return decided();
}

template <class P>
bool decider<P>::undo(int tokens) noexcept {
  const int cycles = undoable_cycles(tokens);
  if (cycles == 0) return false;
  const detail::cycle_mark& began = journal_.take_back(cycles, tokens, book_);
  past_ = began.past;
  pins_ = began.pins;
  decided();
  return true;
}

template <class P>
bool decider<P>::has_room_for(const detail::pin_list& pins, int budget, std::span<const position> held,
                              position next) const noexcept {
  const multistate::moment after{.budget = budget, .prompt = past_.prompt};
  protect structural = policy_.keeps(phase::decode, budget, after);
  const protect prompt = policy_.keeps(phase::prompt_end, budget, after);
  if (prompt.first > structural.first) structural.first = prompt.first;
  if (prompt.newest > structural.newest) structural.newest = prompt.newest;
  std::int64_t states = pins.reserved(structural, budget, next);
  for (const position p : held)
    if (p >= 0 && pins.protects(structural, p)) ++states;
  return states <= budget;
}

template <class P>
bool decider<P>::pin(position first, position last) noexcept {
  if (open_ || fault_ != fault_kind::none) return false;
  detail::pin_list more = pins_;
  if (first < 0 || last <= first || !more.add({first, last})) return false;
  for (int i = 0; i < lanes(); ++i)
    if (!has_room_for(more, budget(i), positions(i), next_position())) return false;
  pins_ = more;
  return true;
}

template <class P>
bool decider<P>::unpin(position first, position last) noexcept {
  return !open_ && fault_ == fault_kind::none && pins_.remove({first, last});
}

/// Equal for deciders made alike: names the policy, its settings and every size.
template <class P>
std::uint64_t decider<P>::fingerprint() const noexcept {
  std::uint64_t h = policy_.bits();
  const auto add = [&](std::uint64_t word) { h = mix(h ^ word); };
  for (int amount : {where_.kv_heads, where_.layer, where_.layers, where_.heads, room_.chunk, room_.hold, room_.undo,
                     room_.every, room_.prompt, room_.window})
    add(static_cast<std::uint64_t>(amount));
  for (const int each : book_.budgets()) add(static_cast<std::uint64_t>(deals_ ? budget_ : each));
  return h;
}

template <class P>
bool decider<P>::copy_from(const decider& other) noexcept {
  if (other.open_ || other.fault_ != fault_kind::none || fingerprint() != other.fingerprint()) return false;
  book_.copy_from(other.book_);
  journal_.copy_from(other.journal_);
  past_ = other.past_;
  pins_ = other.pins_;
  begin_anew();
  return true;
}

template <class P>
void decider<P>::restart(int layer) noexcept {
  MULTISTATE_ASSERT(layer >= 0);
  where_.layer = layer;
  past_ = {};
  pins_ = {};
  if (deals_)
    for (int i = 0; i < lanes(); ++i) book_.set_budget(i, budget_);
  book_.clear();
  journal_.clear();
  begin_anew();
}

template <class P>
template <decidable Q>
bool decider<P>::take_over(const decider<Q>& other) noexcept {
  if (other.open_ || other.fault_ != fault_kind::none) return false;
  if (lanes() != other.lanes() || where_.kv_heads != other.where_.kv_heads) return false;
  for (int i = 0; i < lanes(); ++i) {
    const detail::lane_book::lane& from = other.book_.at(i);
    if (from.live > budget(i) + room_.slack() || (from.hole != no_slot && !book_.keeps_holes())) return false;
    if (other.pins_.count > 0 && !has_room_for(other.pins_, budget(i), other.positions(i), other.next_position()))
      return false;
  }
  bool same = std::is_same_v<P, Q> && book_.columns() == other.book_.columns();
  const bool alike = same && policy_.bits() == other.policy_.bits();
  if constexpr (!policy<P>) same = alike;
  book_.take_over(other.book_, same && book_.numbers() == other.book_.numbers());
  journal_.clear();
  past_ = other.past_;
  if (!alike) past_.handed = other.next_position();
  pins_ = other.pins_;
  begin_anew();
  return true;
}

template <class P>
error decider<P>::load(std::span<const std::byte> in) noexcept {
  byte_reader from(in);
  detail::saved_head head;
  detail::saved_lane lane;
  std::int64_t total = 0;
  if (const error e = detail::read_head(from, policy_.name(), fingerprint(), head)) return e;
  byte_reader again = from;
  for (int i = 0; i < lanes(); ++i) {
    std::string_view wrong = detail::read_lane(from, head, book_, i, beyond_, deals_, lane);
    if (wrong.empty()) wrong = detail::check_lane(lane, head, policy_.keeps(phase::decode, lane.budget), lane.budget);
    if (!wrong.empty()) return detail::broken_save(policy_.name(), wrong);
    total += lane.budget;
  }
  if (deals_ && total != std::int64_t{budget_} * lanes())
    return detail::broken_save(policy_.name(), "a budget is out of range");
  if (from.left() != 0) return detail::broken_save(policy_.name(), "it is too long");
  book_.clear();
  for (int i = 0; i < lanes(); ++i) {
    detail::read_lane(again, head, book_, i, beyond_, deals_, lane);
    detail::take_lane(lane, book_, i);
  }
  book_.begin_at(head.moment, head.next_position);
  journal_.clear();
  past_ = head.past;
  pins_ = head.pins;
  begin_anew();
  return {};
}

}  // namespace multistate
