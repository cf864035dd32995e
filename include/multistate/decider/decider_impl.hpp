#pragma once

// Definitions of decider.hpp, which includes this file.

#include <multistate/decider/decider.hpp>

namespace multistate {

template <policy P>
result<decider<P>> decider<P>::make(const P& settings, const placement& where, const limits& room,
                                    std::span<const int> lane_budgets) noexcept {
  static_assert(diagnose_policy<P>());
  static_assert(!sees_rows || rows_of(P::wants) == needs::last_row || rows_of(P::wants) == needs::row_sum ||
                    rows_of(P::wants) == needs::each_row,
                "a policy wants one kind of rows: last_row, row_sum or each_row (docs/write-a-policy.md)");
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
  decider d;
  d.settings_ = settings;
  d.where_ = where;
  d.room_ = room;
  d.lanes_ = lanes_of(settings.scope, where.kv_heads);
  if (!lane_budgets.empty() && lane_budgets.size() != to_size(d.lanes_))
    return error(errc::bad_budget, P::name, ": needs one budget for each of ", d.lanes_, " lanes; got ",
                 lane_budgets.size());
  if (!d.lane_.allocate(to_size(d.lanes_)) || !d.budgets_.allocate(to_size(d.lanes_)))
    return error(errc::out_of_memory, "decider: no memory for ", d.lanes_, " lanes");

  std::size_t slots = 0, drops = 0, fresh = 0, journal = 0, largest = 0;
  const int most_fresh = room.chunk > room.prompt ? room.chunk : room.prompt;
  for (int i = 0; i < d.lanes_; ++i) {
    const int budget = lane_budgets.empty() ? settings.budget : lane_budgets[to_size(i)];
    if (const error e = check_settings(settings, budget)) return e;
    lane_state& s = d.lane_[to_size(i)];
    s.budget = d.budgets_[to_size(i)] = budget;
    s.capacity = budget + room.slack() + room.chunk;
    if (s.capacity < room.prompt) s.capacity = room.prompt;
    s.base = slots;
    s.fresh = fresh;
    s.drops = drops;
    s.snapshot = d.snapshot_slots_;
    s.journal = journal;
    slots += to_size(s.capacity);
    fresh += to_size(most_fresh);
    drops += to_size(s.capacity - budget) + 1;
    d.snapshot_slots_ += to_size(budget + room.slack());
    journal += d.journal_size();
    if (to_size(s.capacity) > largest) largest = to_size(s.capacity);
  }
  const std::size_t cycles = room.undo > 0 ? to_size(room.undo) + 1 : 0, columns = to_size(P::columns);
  const bool enough =
      d.positions_.allocate(slots) && d.columns_.allocate(columns * slots) && d.order_.allocate(slots) &&
      (!sees_rows || d.waiting_.allocate(to_size(waiting_rows(room)) * slots)) && d.scratch_.allocate(largest) &&
      d.fresh_.allocate(fresh) && d.dropped_.allocate(drops) && d.dropped_positions_.allocate(drops) &&
      d.moves_.allocate(drops) && d.undo_moves_.allocate(journal) && d.lane_decisions_.allocate(to_size(d.lanes_)) &&
      d.cycle_marks_.allocate(cycles) && d.operations_.allocate(cycles * to_size(d.lanes_)) &&
      d.old_columns_.allocate(cycles * columns * d.snapshot_slots_) && d.journal_.allocate(journal);
  if (!enough) return error(errc::out_of_memory, "decider: no memory for ", slots, " slots");
  d.settle();
  return d;
}

template <policy P>
void decider<P>::settle() noexcept {
  before_ = asked_moment();
  for (int i = 0; i < lanes_; ++i) report(i, 0, 0);
}

template <policy P>
lane_ref decider<P>::view(int lane) noexcept {
  const lane_state& s = lane_[to_size(lane)];
  const std::size_t n = to_size(s.live);
  return {.positions = positions_.span(s.base, n),
          .now = next_position_ - 1,
          .when = phase_,
          .layer = where_.layer,
          .lane = lane,
          .budget = s.budget,
          .window = room_.window,
          .columns = columns_.span(P::columns * s.base, to_size(P::columns) * to_size(s.capacity)),
          .column_stride = to_size(s.capacity),
          .scratch = scratch_.span(0, n)};
}

template <policy P>
void decider<P>::link_newest(lane_state& s, std::uint32_t at) noexcept {
  order_[s.base + at] = {none, s.newest};
  (s.newest == none ? s.oldest : order_[s.base + s.newest].next) = at;
  s.newest = at;
}

template <policy P>
void decider<P>::unlink(lane_state& s, std::uint32_t at) noexcept {
  const auto [after, before] = order_[s.base + at];
  (before == none ? s.oldest : order_[s.base + before].next) = after;
  (after == none ? s.newest : order_[s.base + after].previous) = before;
}

/// Everything that is known of a slot moves with it.
template <policy P>
void decider<P>::relocate(lane_state& s, std::uint32_t from, std::uint32_t to) noexcept {
  positions_[s.base + to] = positions_[s.base + from];
  positions_[s.base + from] = -1;
  for (int c = 0; c < P::columns; ++c) {
    const std::size_t column = P::columns * s.base + to_size(c) * to_size(s.capacity);
    columns_[column + to] = columns_[column + from];
  }
  const auto [after, before] = order_[s.base + to] = order_[s.base + from];
  (before == none ? s.oldest : order_[s.base + before].next) = to;
  (after == none ? s.newest : order_[s.base + after].previous) = to;
}

template <policy P>
void decider<P>::close_hole(lane_state& s, int& moves) noexcept {
  if (s.hole == no_slot) return;
  const auto top = static_cast<std::uint32_t>(s.live);
  relocate(s, top, raw(s.hole));
  moves_[s.drops + to_size(moves++)] = {slot{top}, s.hole};
  s.hole = no_slot;
}

template <policy P>
void decider<P>::report(int lane, int dropped, int moves) noexcept {
  const lane_state& s = lane_[to_size(lane)];
  lane_decisions_[to_size(lane)] = {.dropped = dropped_.span(s.drops, to_size(dropped)),
                                    .dropped_positions = dropped_positions_.span(s.drops, to_size(dropped)),
                                    .moves = moves_.span(s.drops, to_size(moves)),
                                    .live = s.live,
                                    .hole = s.hole,
                                    .before = before_,
                                    .moment = moment_};
  decision_ = {lane_decisions_.span(0, lane_decisions_.size()), fault_};
}

template <policy P>
const decision& decider<P>::fail(fault_kind why) noexcept {
  fault_ = why;
  settle();
  return decision_;
}

template <policy P>
fault_kind decider<P>::refusal(int c, bool held) const noexcept {
  if (fault_ != fault_kind::none) return fault_;
  if (open_) return fault_kind::out_of_order;
  if (c < 1 || (held ? c > room_.hold : c > room_.chunk && (c > room_.prompt || next_position_ > 0)))
    return fault_kind::wrong_count;
  for (int i = 0; i < lanes_; ++i)
    if (live(i) + c > (has_no_budget<P> ? budget(i) : capacity(i))) return fault_kind::wrong_count;
  return fault_kind::none;
}

template <policy P>
const decision& decider<P>::close() noexcept {
  if (fault_ != fault_kind::none || open_) return fail(fault_or_order());
  before_ = asked_moment();
  const std::uint64_t closed = mix(moment_ + 1);
  for (int i = 0; i < lanes_; ++i)
    if (lane_[to_size(i)].hole != no_slot) moment_ = closed;
  for (int i = 0; i < lanes_; ++i) {
    int moves = 0;
    close_hole(lane_[to_size(i)], moves);
    report(i, 0, moves);
  }
  return decision_;
}

template <policy P>
const decision& decider<P>::append(int c, phase when, bool held) noexcept {
  if (const fault_kind why = refusal(c, held); why != fault_kind::none) return fail(why);
  if (room_.undo > 0) begin_cycle();
  before_ = asked_moment();
  cycle_moment_ = moment_;
  took_over_ = false;
  moment_ = mix(moment_ ^ static_cast<std::uint64_t>(c));
  open_ = true;
  held_ = held;
  appended_ = c;
  phase_ = when;
  for (int i = 0; i < lanes_; ++i) {
    lane_state& s = lane_[to_size(i)];
    s.observations = s.observed_heads = 0;
    s.decided = false;
    s.chosen = 0;
    int moves = 0;
    if (c > 1) close_hole(s, moves);
    for (int j = 0; j < c; ++j) {
      const std::uint32_t at = s.hole == no_slot ? static_cast<std::uint32_t>(s.live) : raw(s.hole);
      s.hole = no_slot;
      ++s.live;
      fresh_[s.fresh + to_size(j)] = slot{at};
      positions_[s.base + at] = next_position_ + j;
      for (int k = 0; k < P::columns; ++k) columns_[P::columns * s.base + to_size(k) * to_size(s.capacity) + at] = 0.0f;
      link_newest(s, at);
    }
    report(i, 0, moves);
  }
  next_position_ += c;
  return decision_;
}

template <policy P>
void decider<P>::enter(int lane, int j, std::span<const float> key, std::span<const float> value,
                       std::span<const float> query) noexcept {
  if constexpr (enters<P>) {
    if (fault_ != fault_kind::none) return;
    MULTISTATE_ASSERT(open_ && j >= 0 && j < appended_);
    settings_.enter(view(lane), slots(lane)[to_size(j)], key, value, query);
  }
}

template <policy P>
bool decider<P>::needs_rows() const noexcept {
  if (!open_ || fault_ != fault_kind::none) return false;
  if constexpr (!sees_rows) return false;
  if constexpr (observes<P>) return true;
  if (!due(appended_)) return false;
  for (int i = 0; i < lanes_; ++i)
    if (live(i) > budget(i)) return true;
  return false;
}

/// `each`: every row is wanted; `sum`: theirs.
template <policy P>
fault_kind decider<P>::refusal(int lane, const rows& r, bool each, bool sum) const noexcept {
  if (!open_) return fault_kind::out_of_order;
  if (lane < 0 || lane >= lanes_ || r.n != live(lane) || r.queries < 1 || r.queries > appended_)
    return fault_kind::wrong_row;
  if ((each || sum) && r.queries != appended_) return fault_kind::wrong_row;
  if (r.queries > 1 && r.kind == (sum ? rows_kind::last : rows_kind::sum)) return fault_kind::wrong_row;
  return lane_[to_size(lane)].decided ? fault_kind::lane_observed_twice : fault_kind::none;
}

template <policy P>
void decider<P>::observe(int lane, const rows& r) noexcept {
  if constexpr (sees_rows) {
    if (fault_ != fault_kind::none) return;
    const bool each = held_ || any(P::wants & needs::each_row), sum = !each && any(P::wants & needs::row_sum);
    if (const fault_kind why = refusal(lane, r, each, sum); why != fault_kind::none) return void(fail(why));
    lane_state& s = lane_[to_size(lane)];
    const bool first = s.observations++ == 0;
    const std::size_t n = to_size(r.n), stride = to_size(s.capacity);
    const std::size_t at = to_size(waiting_rows(room_)) * s.base;
    s.observed_heads += r.heads;
    // A lane of one KV head gets no other row: this one need not be copied to wait.
    if (settings_.scope == scope_kind::head && !each && (!sum || r.kind == rows_kind::sum || r.queries == 1))
      return decide(lane,
                    {.data = r.last().data(),
                     .n = r.n,
                     .queries = appended_,
                     .heads = r.heads,
                     .kind = sum ? rows_kind::sum : rows_kind::last},
                    appended_);
    if (each) {
      for (int j = 0; j < r.queries; ++j) fold(waiting_.span(at + to_size(j) * stride, n), r.row(j), first);
    } else if (sum) {
      fold_sum(waiting_.span(at, n), r, first);
    } else {
      fold(waiting_.span(at, n), r.last(), first);
    }
  }
}

/// The folded rows of the accepted tokens, over the states that are live once the others are forgotten. Once a cycle.
template <policy P>
rows decider<P>::waiting(int lane, int accepted) noexcept {
  rows r;
  if constexpr (sees_rows) {
    const lane_state& s = lane_[to_size(lane)];
    const std::size_t stride = to_size(s.capacity);
    const std::size_t at = to_size(waiting_rows(room_)) * s.base;
    r = {.data = waiting_.data() + at,
         .stride = stride,
         .n = s.live,
         .queries = accepted,
         .heads = s.observed_heads,
         .kind = rows_kind::each};
    if (any(P::wants & needs::each_row)) return r;
    if (held_ && any(P::wants & needs::row_sum)) fold_sum(waiting_.span(at, to_size(s.live)), r, true);
    if (any(P::wants & needs::row_sum))
      r.kind = rows_kind::sum;
    else if (!held_)
      r.kind = rows_kind::last;
  }
  return r;
}

/// Lets the policy look at the rows of a cycle and chooses what goes. Once a cycle.
template <policy P>
void decider<P>::decide(int lane, const rows& r, int accepted) noexcept {
  lane_state& s = lane_[to_size(lane)];
  s.decided = true;
  const int drop = due(accepted) && s.live > s.budget ? s.live - s.budget : 0;
  // A lane lies as far away as its states: what is read next is fetched meanwhile.
  if constexpr (observes<P>) {
    if (drop > 0 && settings_.keeps(s.budget).newest > 0) prefetch(positions(lane));
    settings_.observe(view(lane), r);
  }
  for (int c = 0; c < P::columns && lane + 1 < lanes_; ++c) prefetch(column(lane + 1, c));
  s.chosen = drop == 0 ? 0 : choose(lane, r, drop);
  MULTISTATE_ASSERT(s.chosen == drop);
}

/// Fills dropped_ of the lane by increasing position.
template <policy P>
int decider<P>::choose(int lane, const rows& r, int drop) noexcept {
  const lane_state& s = lane_[to_size(lane)];
  const auto out = dropped_.span(s.drops, to_size(drop));
  const protection kept = protected_in(s);
  if constexpr (scores<P>) {
    const lane_ref all = view(lane);
    return static_cast<int>(lowest(settings_.worth(all, r), all.positions, kept, out));
  } else {
    int taken = 0;
    for (std::uint32_t at = s.oldest; at != none && taken < drop; at = order_[s.base + at].next)
      if (!kept.covers(positions_[s.base + at])) out[to_size(taken++)] = slot{at};
    return taken;
  }
}

/// Removes the chosen states; the live slots are dense afterwards, or one hole waits for the next token.
template <policy P>
void decider<P>::drop_chosen(int lane, int& moves) noexcept {
  lane_state& s = lane_[to_size(lane)];
  const int drop = s.chosen;
  for (int i = 0; i < drop; ++i) {
    const std::uint32_t at = raw(dropped_[s.drops + to_size(i)]);
    dropped_positions_[s.drops + to_size(i)] = positions_[s.base + at];
    if (room_.undo > 0) note(lane, {{parked, slot{at}}, positions_[s.base + at], order_[s.base + at].previous});
    positions_[s.base + at] = -1;
    unlink(s, at);
  }
  const int top = s.live;
  s.live -= drop;
  if (drop == 1 && keeps_holes()) {
    if (raw(dropped_[s.drops]) < static_cast<std::uint32_t>(s.live)) s.hole = dropped_[s.drops];
    return;
  }
  auto from = static_cast<std::uint32_t>(top);
  for (int i = 0; i < drop; ++i) {
    const slot to = dropped_[s.drops + to_size(i)];
    if (raw(to) >= static_cast<std::uint32_t>(s.live)) continue;
    do --from;
    while (positions_[s.base + from] < 0);
    relocate(s, from, raw(to));
    moves_[s.drops + to_size(moves++)] = {slot{from}, to};
    if (room_.undo > 0) note(lane, {{to, slot{from}}});
  }
}

template <policy P>
const decision& decider<P>::reduce(int accepted) noexcept {
  if (fault_ != fault_kind::none || !open_) return fail(fault_or_order());
  if (accepted < 0) accepted = appended_;
  if (accepted > appended_ || (accepted < appended_ && !held_)) return fail(fault_kind::wrong_count);
  const bool rows_matter = accepted > 0 && needs_rows();
  for (int i = 0; rows_matter && i < lanes_; ++i)
    if (const int seen = lane_[to_size(i)].observations;
        seen == 0 || (settings_.scope == scope_kind::model && seen % where_.layers != 0))
      return fail(fault_kind::lane_not_observed);
  open_ = false;
  next_position_ -= appended_ - accepted;
  before_ = moment_;
  std::uint64_t gone = 0;
  for (int i = 0; i < lanes_; ++i) {
    lane_state& s = lane_[to_size(i)];
    for (int j = appended_; j > accepted; --j) {  // no holes where tokens can be refused: they lie on top
      const std::uint32_t at = static_cast<std::uint32_t>(--s.live);
      unlink(s, at);
      positions_[s.base + at] = -1;
    }
    int moves = 0;
    if (accepted > 0) {
      if (!s.decided) decide(i, rows_matter ? waiting(i, accepted) : rows{}, accepted);
      drop_chosen(i, moves);
    }
    report(i, s.chosen, moves);
    for (const position p : lane_decisions_[to_size(i)].dropped_positions)
      gone += mix(static_cast<std::uint64_t>(p) ^ static_cast<std::uint64_t>(i) << 56);
  }
  moment_ = accepted == 0 ? cycle_moment_ : mix(cycle_moment_ ^ mix(gone + static_cast<std::uint64_t>(accepted)));
  for (lane_decision& x : lane_decisions_.span(0, lane_decisions_.size())) x.moment = moment_;
  pending_ = due(accepted) ? 0 : pending_ + accepted;
  if (room_.undo > 0 && accepted > 0) end_cycle(accepted);
  return decision_;
}

/// States of a lane that may never go, those to come included, or more than the budget when that is exceeded; the
/// caller adds the live ones that are pinned.
template <policy P>
std::int64_t decider<P>::reserved(const lane_state& s, std::span<const position_range> pins,
                                  position next) const noexcept {
  const protect structural = settings_.keeps(s.budget);
  std::int64_t count = std::int64_t{structural.first} + structural.newest;
  position done = next > structural.first ? next : structural.first;  // what lies before is live or counted
  for (;;) {                                                          // the ranges in order, each position once
    const position_range* nearest = nullptr;
    for (const auto& p : pins)
      if (p.last > done && (nearest == nullptr || p.first < nearest->first)) nearest = &p;
    if (nearest == nullptr) return count;
    const position from = nearest->first > done ? nearest->first : done;
    if (nearest->last - from > s.budget - count) return std::int64_t{s.budget} + 1;
    count += nearest->last - from;
    done = nearest->last;
  }
}

template <policy P>
bool decider<P>::pin(position first, position last) noexcept {
  if (open_ || fault_ != fault_kind::none) return false;
  if (first < 0 || last <= first || pins_ == max_pins) return false;
  pin_[pins_] = {first, last};
  const std::span<const position_range> pins(pin_, to_size(pins_ + 1));
  for (int i = 0; i < lanes_; ++i) {
    const lane_state& s = lane_[to_size(i)];
    std::int64_t held = reserved(s, pins, next_position_);
    for (std::uint32_t at = s.oldest; at != none; at = order_[s.base + at].next)
      held += counts_as_pinned(s, pins, positions_[s.base + at]) ? 1 : 0;
    if (held > s.budget) {
      pin_[pins_] = {};
      return false;
    }
  }
  ++pins_;
  return true;
}

template <policy P>
bool decider<P>::unpin(position first, position last) noexcept {
  if (open_ || fault_ != fault_kind::none) return false;
  for (int i = 0; i < pins_; ++i)
    if (pin_[i] == position_range{first, last}) {
      for (--pins_; i < pins_; ++i) pin_[i] = pin_[i + 1];
      pin_[pins_] = {};  // equal deciders save equal bytes
      return true;
    }
  return false;
}

template <policy P>
std::size_t decider<P>::rank_order(int lane, std::span<slot> out) const noexcept {
  const lane_state& s = lane_[to_size(lane)];
  std::size_t rank = 0;
  for (std::uint32_t at = s.oldest; at != none; at = order_[s.base + at].next, ++rank)
    if (rank < out.size()) out[rank] = slot{at};
  return rank;
}

template <policy P>
void decider<P>::ranks(int lane, std::span<std::uint32_t> by_slot) const noexcept {
  const lane_state& s = lane_[to_size(lane)];
  MULTISTATE_ASSERT(by_slot.size() >= to_size(extent(s)));
  std::uint32_t rank = 0;
  for (std::uint32_t at = s.oldest; at != none; at = order_[s.base + at].next) by_slot[at] = rank++;
}

template <policy P>
std::size_t decider<P>::kept_ranges(int lane, std::span<position_range> out) const noexcept {
  const lane_state& s = lane_[to_size(lane)];
  std::size_t count = 0;
  position last = -1;
  for (std::uint32_t at = s.oldest; at != none; at = order_[s.base + at].next) {
    const position p = positions_[s.base + at];
    if (count == 0 || p != last) {
      if (count < out.size()) out[count].first = p;
      ++count;
    }
    last = p + 1;
    if (count <= out.size()) out[count - 1].last = last;
  }
  return count;
}

template <policy P>
std::size_t decider<P>::kept_ranks(int lane, std::span<rank_range> out) const noexcept {
  const lane_state& s = lane_[to_size(lane)];
  const auto gone = lane_decisions_[to_size(lane)].dropped_positions;
  std::size_t count = 0, skipped = 0;
  int rank = 0, last = -1;
  for (std::uint32_t at = s.oldest; at != none; at = order_[s.base + at].next, ++rank) {
    for (; skipped < gone.size() && gone[skipped] < positions_[s.base + at]; ++skipped) ++rank;
    if (count == 0 || rank != last) {
      if (count < out.size()) out[count].first = rank;
      ++count;
    }
    last = rank + 1;
    if (count <= out.size()) out[count - 1].last = last;
  }
  return count;
}

}  // namespace multistate

#include <multistate/decider/copies_impl.hpp>
#include <multistate/decider/undo_impl.hpp>
