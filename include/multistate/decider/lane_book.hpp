#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <multistate/types/decision.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/util/assert.hpp>
#include <multistate/util/buffer.hpp>
#include <multistate/util/hash.hpp>

namespace multistate::detail {

/// How to take back one step of a reduction: the drop of a state, or the move of one.
struct reversal {
  slot_move back;        ///< the move the other way; from `parked` where the state was dropped
  position at = -1;      ///< position of the dropped state
  slot older = no_slot;  ///< the dropped state's neighbour by position; no_slot: it was the oldest
};

/// Joins increasing numbers to runs [first, last). Counts all runs, and writes those that `out` has room for.
template <class Range>
class run_writer {
  using number = decltype(Range::first);

 public:
  explicit run_writer(std::span<Range> out) noexcept : out_(out) {}
  void add(number n) noexcept {
    if (count_ == 0 || n != last_) {
      if (count_ < out_.size()) out_[count_].first = n;
      ++count_;
    }
    last_ = n + 1;
    if (count_ <= out_.size()) out_[count_ - 1].last = last_;
  }
  std::size_t count() const noexcept { return count_; }

 private:
  std::span<Range> out_;
  std::size_t count_ = 0;
  number last_ = -1;
};

/// Which token lies in which slot, for every lane of one decider: positions, order by position, holes, what the last
/// call did to each lane, and the moment that names all of it. Knows no policy: a policy's columns are numbers that
/// move with their slot. Follows the decider's cycle without checking it. Allocates in allocate_lanes() and
/// allocate_slots() only.
class lane_book {
 public:
  /// One lane: its place in the arrays, and what it holds.
  struct lane {
    std::size_t base = 0;   ///< of its slots in the arrays by slot
    std::size_t fresh = 0;  ///< of its places for appended tokens
    std::size_t drops = 0;  ///< of its places for dropped states and moves
    int budget = 0;
    int capacity = 0;
    int settled = 0;  ///< states between two cycles, at most
    int live = 0;
    slot hole = no_slot;
    slot oldest = no_slot;  ///< live slots form a list by position
    slot newest = no_slot;
    /// Slots in use, a hole included.
    int extent() const noexcept { return live + (hole == no_slot ? 0 : 1); }
  };

  // ---- making one

  /// The first step: lanes without slots. False when there is no memory.
  bool allocate_lanes(int lanes) noexcept {
    return lanes_.allocate(to_size(lanes)) && budgets_.allocate(to_size(lanes)) && decisions_.allocate(to_size(lanes));
  }
  /// The second, once for each lane in order: what it has room for, in states and tokens. `beyond`: so many more
  /// than its budget it may hold between cycles. `dealt`: budgets will be dealt anew, and a lane may keep all that it
  /// holds at that moment.
  void size_lane(int i, int budget, const limits& room, int beyond, bool dealt) noexcept;
  /// The third: memory for all lanes, with `columns` numbers for each slot and `numbers` for each lane. False when
  /// there is none.
  bool allocate_slots(int columns, int numbers, const limits& room) noexcept;

  // ---- what there is

  /// How many lanes there are.
  int lanes() const noexcept { return static_cast<int>(lanes_.size()); }
  /// Lane i.
  const lane& at(int i) const noexcept { return lanes_[to_size(i)]; }
  /// Budgets in states, [lane].
  std::span<const int> budgets() const noexcept { return budgets_.span(0, budgets_.size()); }
  /// Gives a lane another budget. Precondition: at most what it holds, or what it was made with.
  void set_budget(int i, int budget) noexcept { lanes_[to_size(i)].budget = budgets_[to_size(i)] = budget; }
  /// Slots of all lanes, used or not.
  std::size_t slots() const noexcept { return slots_; }
  /// Slots of the largest lane, used or not.
  std::size_t largest() const noexcept { return largest_; }
  /// Numbers for each slot.
  int columns() const noexcept { return columns_; }
  /// Numbers for each lane, and those of lane i.
  int numbers() const noexcept { return numbers_count_; }
  std::span<float> numbers(int i) noexcept {
    return numbers_.span(to_size(i) * to_size(numbers_count_), to_size(numbers_count_));
  }
  std::span<const float> numbers(int i) const noexcept {
    return numbers_.span(to_size(i) * to_size(numbers_count_), to_size(numbers_count_));
  }
  /// Whether one dropped state leaves a hole for the next token; else the newest slot is moved into it.
  bool keeps_holes() const noexcept { return keeps_holes_; }

  /// Positions of a lane's states, [extent] by slot; -1 at a hole.
  std::span<const position> positions(int i) const noexcept {
    return positions_.span(at(i).base, to_size(at(i).extent()));
  }
  /// One column of a lane, [extent] by slot.
  std::span<const float> column(int i, int c) const noexcept {
    return values_.span(column_base(at(i), c), to_size(at(i).extent()));
  }
  std::span<float> column(int i, int c) noexcept {
    return values_.span(column_base(at(i), c), to_size(at(i).extent()));
  }
  /// All columns of a lane, `capacity` numbers each.
  std::span<float> column_block(int i) noexcept {
    return values_.span(column_base(at(i), 0), to_size(columns_) * to_size(at(i).capacity));
  }
  /// The live slot with the next higher position; no_slot after the newest.
  slot younger(int i, slot s) const noexcept { return order_[at(i).base + index(s)].younger; }
  /// The live slot with the next lower position; no_slot before the oldest.
  slot older(int i, slot s) const noexcept { return order_[at(i).base + index(s)].older; }
  /// Position of the state in a slot.
  position position_of(int i, slot s) const noexcept { return positions_[at(i).base + index(s)]; }
  /// The position of the next token.
  position next_position() const noexcept { return next_position_; }
  /// Tokens of the last append().
  int appended() const noexcept { return appended_; }
  /// Slots of those tokens in a lane, oldest first: [appended].
  std::span<const slot> fresh(int i) const noexcept { return fresh_.span(at(i).fresh, to_size(appended_)); }
  /// A hash of what was decided since the lanes were empty; 0: nothing.
  std::uint64_t moment() const noexcept { return moment_; }
  /// What the last change did, [lane].
  std::span<const lane_decision> decisions() const noexcept { return decisions_.span(0, decisions_.size()); }

  /// Live slots by increasing position, as many as fit in `out`. Returns how many there are.
  std::size_t rank_order(int i, std::span<slot> out) const noexcept;
  /// Rank of each live slot, [extent] by slot.
  void ranks(int i, std::span<std::uint32_t> by_slot) const noexcept;
  /// Runs of live positions, as many as fit in `out`. Returns how many there are.
  std::size_t kept_ranges(int i, std::span<position_range> out) const noexcept;
  /// Runs of live states in ranks before the last reduction, as many as fit in `out`. Returns how many there are.
  std::size_t kept_ranks(int i, std::span<rank_range> out) const noexcept;
  /// All memory held, from allocate_slots() on.
  std::size_t bytes() const noexcept {
    return lanes_.bytes() + budgets_.bytes() + positions_.bytes() + values_.bytes() + numbers_.bytes() +
           order_.bytes() + fresh_.bytes() + dropped_.bytes() + dropped_positions_.bytes() + moves_.bytes() +
           decisions_.bytes();
  }

  // ---- a cycle: append, accept, drop of each lane, finish

  /// Enters c tokens in every lane, their columns zero. Precondition: there is room.
  void append(int c) noexcept;
  /// Begins the reduction: forgets the newest appended tokens until `accepted` are left. Precondition: then they lie in
  /// the highest slots, which is so where no holes are kept.
  void accept(int accepted) noexcept;
  /// Where to write which states of a lane go, by increasing position: [count].
  std::span<slot> to_drop(int i, int count) noexcept { return dropped_.span(at(i).drops, to_size(count)); }
  /// Drops the first `count` of to_drop(). The live slots are dense afterwards, or one hole waits for the next token.
  /// note(reversal) is told how to take back each step.
  template <class Note>
  void drop(int i, int count, const Note& note) noexcept;
  /// Ends the reduction: names the moment after it.
  void finish(int accepted) noexcept;

  // ---- between cycles

  /// Moves the newest slot of each lane that has a hole into it.
  void close_holes() noexcept;
  /// The decisions now say that nothing was done.
  void settle() noexcept;
  /// Forgets all states; settles.
  void clear() noexcept;
  /// Becomes a copy of a book of the same sizes; settles.
  void copy_from(const lane_book& other) noexcept;
  /// Takes over the states of a book of as many lanes, in which they fit; settles. The columns are copied, or zero. The
  /// next decision is for states of any moment: they may be others, written anew.
  void take_over(const lane_book& other, bool with_columns) noexcept;

  // ---- taking back: rewind, then for each lane reverse and remove_newest in any number, report_reversed

  /// Goes back to a moment that was `tokens` tokens ago.
  void rewind(std::uint64_t moment, int tokens) noexcept;
  /// Takes back one step of a lane; the last one first.
  void reverse(int i, const reversal& how) noexcept;
  /// Forgets the newest tokens of a lane. Precondition: they lie in the highest slots.
  void remove_newest(int i, int tokens) noexcept;
  /// The decision of a lane that was taken back: what states have to do, from memory that stays.
  void report_reversed(int i, std::span<const slot_move> moves) noexcept {
    report(i, 0, 0);
    decisions_[to_size(i)].moves = moves;
  }

  // ---- writing a lane anew: clear, then place, leave_hole and columns, begin_at

  /// Enters a token that is younger than all in the lane.
  void place(int i, slot s, position p) noexcept {
    lane& l = lanes_[to_size(i)];
    positions_[l.base + index(s)] = p;
    link_newest(l, s);
    ++l.live;
  }
  /// Makes a free slot the lane's hole.
  void leave_hole(int i, slot s) noexcept {
    lane& l = lanes_[to_size(i)];
    l.hole = s;
    positions_[l.base + index(s)] = -1;
  }
  /// Where the sequence is; settles.
  void begin_at(std::uint64_t moment, position next_position) noexcept;

 private:
  struct neighbours {
    slot younger = no_slot;
    slot older = no_slot;
  };

  std::size_t column_base(const lane& l, int c) const noexcept {
    return to_size(columns_) * l.base + to_size(c) * to_size(l.capacity);
  }
  void link_newest(lane& l, slot s) noexcept;
  void unlink(lane& l, slot s) noexcept;
  void relocate(lane& l, slot from, slot to) noexcept;
  int close_hole(lane& l) noexcept;
  template <class Note>
  int fill_gaps(lane& l, int count, const Note& note) noexcept;
  void report(int i, int dropped, int moves) noexcept;
  /// The moment that states have to be at for the next decision.
  std::uint64_t asked_moment() const noexcept { return took_over_ ? 0 : moment_; }

  bool keeps_holes_ = false;
  int columns_ = 0;
  int numbers_count_ = 0;
  int appended_ = 0;
  position next_position_ = 0;
  std::uint64_t before_ = 0;        ///< moment before the last decision
  std::uint64_t moment_ = 0;        ///< moment after it
  std::uint64_t cycle_moment_ = 0;  ///< before the cycle under way
  std::uint64_t gone_ = 0;          ///< a hash of what it dropped
  bool took_over_ = false;          ///< since the last append
  std::size_t slots_ = 0, largest_ = 0, places_fresh_ = 0, places_dropped_ = 0;
  buffer<lane> lanes_;
  buffer<int> budgets_;         ///< [lane]
  buffer<position> positions_;  ///< [lane][capacity]
  buffer<float> values_;        ///< [lane][column][capacity]
  buffer<float> numbers_;       ///< [lane][numbers]
  buffer<neighbours> order_;    ///< [lane][capacity]
  buffer<slot> fresh_;          ///< [lane][chunk or prompt]
  buffer<slot> dropped_;        ///< [lane][most dropped at once]
  buffer<position> dropped_positions_;
  buffer<slot_move> moves_;  ///< [lane][most moves at once]
  buffer<lane_decision> decisions_;
};

inline void lane_book::size_lane(int i, int budget, const limits& room, int beyond, bool dealt) noexcept {
  lane& l = lanes_[to_size(i)];
  l.budget = budgets_[to_size(i)] = budget;
  l.capacity = budget + room.slack() + room.chunk;
  if (l.capacity < room.prompt) l.capacity = room.prompt;
  l.settled = (dealt ? l.capacity : budget) + beyond;
  if (dealt) l.capacity += room.slack() + room.chunk;
  l.base = slots_;
  l.fresh = places_fresh_;
  l.drops = places_dropped_;
  slots_ += to_size(l.capacity);
  places_fresh_ += to_size(room.chunk > room.prompt ? room.chunk : room.prompt);
  places_dropped_ += to_size(dealt ? l.capacity : l.capacity - budget) + 1;
  if (to_size(l.capacity) > largest_) largest_ = to_size(l.capacity);
}

inline bool lane_book::allocate_slots(int columns, int numbers, const limits& room) noexcept {
  columns_ = columns;
  numbers_count_ = numbers;
  keeps_holes_ = room.undo == 0 && room.hold == 0;
  return positions_.allocate(slots_) && values_.allocate(to_size(columns) * slots_) && order_.allocate(slots_) &&
         numbers_.allocate(to_size(numbers) * lanes_.size()) && fresh_.allocate(places_fresh_) &&
         dropped_.allocate(places_dropped_) && dropped_positions_.allocate(places_dropped_) &&
         moves_.allocate(places_dropped_);
}

inline void lane_book::link_newest(lane& l, slot s) noexcept {
  order_[l.base + index(s)] = {no_slot, l.newest};
  (l.newest == no_slot ? l.oldest : order_[l.base + index(l.newest)].younger) = s;
  l.newest = s;
}

inline void lane_book::unlink(lane& l, slot s) noexcept {
  const auto [younger, older] = order_[l.base + index(s)];
  (older == no_slot ? l.oldest : order_[l.base + index(older)].younger) = younger;
  (younger == no_slot ? l.newest : order_[l.base + index(younger)].older) = older;
}

/// Everything that is known of a slot moves with it.
inline void lane_book::relocate(lane& l, slot from, slot to) noexcept {
  positions_[l.base + index(to)] = positions_[l.base + index(from)];
  positions_[l.base + index(from)] = -1;
  for (int c = 0; c < columns_; ++c) {
    const std::size_t column = column_base(l, c);
    values_[column + index(to)] = values_[column + index(from)];
  }
  const auto [younger, older] = order_[l.base + index(to)] = order_[l.base + index(from)];
  (older == no_slot ? l.oldest : order_[l.base + index(older)].younger) = to;
  (younger == no_slot ? l.newest : order_[l.base + index(younger)].older) = to;
}

/// Returns how many moves that took.
inline int lane_book::close_hole(lane& l) noexcept {
  if (l.hole == no_slot) return 0;
  const slot top{static_cast<std::uint32_t>(l.live)};
  relocate(l, top, l.hole);
  moves_[l.drops] = {top, l.hole};
  l.hole = no_slot;
  return 1;
}

inline void lane_book::report(int i, int dropped, int moves) noexcept {
  const lane& l = lanes_[to_size(i)];
  decisions_[to_size(i)] = {.dropped = dropped_.span(l.drops, to_size(dropped)),
                            .dropped_positions = dropped_positions_.span(l.drops, to_size(dropped)),
                            .moves = moves_.span(l.drops, to_size(moves)),
                            .live = l.live,
                            .budget = l.budget,
                            .hole = l.hole,
                            .before = before_,
                            .moment = moment_};
}

inline void lane_book::append(int c) noexcept {
  before_ = asked_moment();
  cycle_moment_ = moment_;
  took_over_ = false;
  moment_ = mix(moment_ ^ static_cast<std::uint64_t>(c));
  appended_ = c;
  for (int i = 0; i < lanes(); ++i) {
    lane& l = lanes_[to_size(i)];
    const int moves = c > 1 ? close_hole(l) : 0;
    for (int j = 0; j < c; ++j) {
      const slot s = l.hole == no_slot ? slot{static_cast<std::uint32_t>(l.live)} : l.hole;
      l.hole = no_slot;
      fresh_[l.fresh + to_size(j)] = s;
      place(i, s, next_position_ + j);
      for (int k = 0; k < columns_; ++k) values_[column_base(l, k) + index(s)] = 0.0f;
    }
    report(i, 0, moves);
  }
  next_position_ += c;
}

inline void lane_book::accept(int accepted) noexcept {
  before_ = moment_;
  gone_ = 0;
  if (accepted == appended_) return;
  next_position_ -= appended_ - accepted;
  for (int i = 0; i < lanes(); ++i) remove_newest(i, appended_ - accepted);
}

inline void lane_book::remove_newest(int i, int tokens) noexcept {
  lane& l = lanes_[to_size(i)];
  for (int j = 0; j < tokens; ++j) {
    const slot s{static_cast<std::uint32_t>(--l.live)};
    unlink(l, s);
    positions_[l.base + index(s)] = -1;
  }
}

template <class Note>
void lane_book::drop(int i, int count, const Note& note) noexcept {
  lane& l = lanes_[to_size(i)];
  for (int k = 0; k < count; ++k) {
    const slot s = dropped_[l.drops + to_size(k)];
    const position p = positions_[l.base + index(s)];
    dropped_positions_[l.drops + to_size(k)] = p;
    gone_ += mix(static_cast<std::uint64_t>(p) ^ static_cast<std::uint64_t>(i) << 56);
    note(reversal{{parked, s}, p, order_[l.base + index(s)].older});
    positions_[l.base + index(s)] = -1;
    unlink(l, s);
  }
  l.live -= count;
  int moves = 0;
  if (count != 1 || !keeps_holes_)
    moves = fill_gaps(l, count, note);
  else if (index(dropped_[l.drops]) < to_size(l.live))
    l.hole = dropped_[l.drops];
  report(i, count, moves);
}

/// Moves the highest live slots into the gaps that `count` dropped states left below them. Returns how many it moved.
template <class Note>
int lane_book::fill_gaps(lane& l, int count, const Note& note) noexcept {
  int moves = 0;
  auto top = static_cast<std::uint32_t>(l.live + count);
  for (int k = 0; k < count; ++k) {
    const slot to = dropped_[l.drops + to_size(k)];
    if (index(to) >= to_size(l.live)) continue;
    do --top;
    while (positions_[l.base + top] < 0);
    relocate(l, slot{top}, to);
    moves_[l.drops + to_size(moves++)] = {slot{top}, to};
    note(reversal{{to, slot{top}}});
  }
  return moves;
}

inline void lane_book::finish(int accepted) noexcept {
  moment_ = accepted == 0 ? cycle_moment_ : mix(cycle_moment_ ^ mix(gone_ + static_cast<std::uint64_t>(accepted)));
  for (int i = 0; i < lanes(); ++i) decisions_[to_size(i)].moment = moment_;
}

inline void lane_book::close_holes() noexcept {
  before_ = asked_moment();
  const std::uint64_t closed = mix(moment_ + 1);
  for (int i = 0; i < lanes(); ++i)
    if (at(i).hole != no_slot) moment_ = closed;
  for (int i = 0; i < lanes(); ++i) report(i, 0, close_hole(lanes_[to_size(i)]));
}

inline void lane_book::settle() noexcept {
  before_ = asked_moment();
  for (int i = 0; i < lanes(); ++i) report(i, 0, 0);
}

inline void lane_book::clear() noexcept {
  for (int i = 0; i < lanes(); ++i) {
    lane& l = lanes_[to_size(i)];
    l.live = 0;
    l.hole = l.oldest = l.newest = no_slot;
  }
  numbers_.fill(0);
  begin_at(0, 0);
}

inline void lane_book::begin_at(std::uint64_t moment, position next_position) noexcept {
  appended_ = 0;
  took_over_ = false;
  moment_ = moment;
  next_position_ = next_position;
  settle();
}

inline void lane_book::copy_from(const lane_book& other) noexcept {
  lanes_.copy_from(other.lanes_);
  budgets_.copy_from(other.budgets_);
  numbers_.copy_from(other.numbers_);
  positions_.copy_from(other.positions_);
  values_.copy_from(other.values_);
  order_.copy_from(other.order_);
  begin_at(other.moment_, other.next_position_);
}

inline void lane_book::take_over(const lane_book& other, bool with_columns) noexcept {
  for (int i = 0; i < lanes(); ++i) {
    lane& l = lanes_[to_size(i)];
    const lane& from = other.at(i);
    l.live = from.live;
    l.hole = from.hole;
    l.oldest = from.oldest;
    l.newest = from.newest;
    for (std::size_t s = 0; s < to_size(l.extent()); ++s) {
      positions_[l.base + s] = other.positions_[from.base + s];
      order_[l.base + s] = other.order_[from.base + s];
    }
    for (int c = 0; c < columns_; ++c)
      for (std::size_t s = 0; s < to_size(l.extent()); ++s)
        values_[column_base(l, c) + s] = with_columns ? other.values_[other.column_base(from, c) + s] : 0.0f;
  }
  if (with_columns)
    numbers_.copy_from(other.numbers_);
  else
    numbers_.fill(0);
  begin_at(other.moment_, other.next_position_);
  took_over_ = true;
  settle();
}

inline void lane_book::rewind(std::uint64_t moment, int tokens) noexcept {
  before_ = moment_;
  moment_ = moment;
  next_position_ -= tokens;
}

inline void lane_book::reverse(int i, const reversal& how) noexcept {
  lane& l = lanes_[to_size(i)];
  const slot s = how.back.to;
  if (how.back.from != parked) return relocate(l, how.back.from, s);
  const slot younger = how.older == no_slot ? l.oldest : order_[l.base + index(how.older)].younger;
  positions_[l.base + index(s)] = how.at;
  order_[l.base + index(s)] = {younger, how.older};
  (how.older == no_slot ? l.oldest : order_[l.base + index(how.older)].younger) = s;
  (younger == no_slot ? l.newest : order_[l.base + index(younger)].older) = s;
  ++l.live;
}

inline std::size_t lane_book::rank_order(int i, std::span<slot> out) const noexcept {
  std::size_t rank = 0;
  for (slot s = at(i).oldest; s != no_slot; s = younger(i, s), ++rank)
    if (rank < out.size()) out[rank] = s;
  return rank;
}

inline void lane_book::ranks(int i, std::span<std::uint32_t> by_slot) const noexcept {
  MULTISTATE_ASSERT(by_slot.size() >= to_size(at(i).extent()));
  std::uint32_t rank = 0;
  for (slot s = at(i).oldest; s != no_slot; s = younger(i, s)) by_slot[index(s)] = rank++;
}

inline std::size_t lane_book::kept_ranges(int i, std::span<position_range> out) const noexcept {
  detail::run_writer runs(out);
  for (slot s = at(i).oldest; s != no_slot; s = younger(i, s)) runs.add(position_of(i, s));
  return runs.count();
}

inline std::size_t lane_book::kept_ranks(int i, std::span<rank_range> out) const noexcept {
  const auto gone = decisions_[to_size(i)].dropped_positions;
  detail::run_writer runs(out);
  std::size_t skipped = 0;
  int rank = 0;
  for (slot s = at(i).oldest; s != no_slot; s = younger(i, s), ++rank) {
    for (; skipped < gone.size() && gone[skipped] < position_of(i, s); ++skipped) ++rank;
    runs.add(rank);
  }
  return runs.count();
}

}  // namespace multistate::detail
