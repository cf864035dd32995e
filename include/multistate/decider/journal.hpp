#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <multistate/decider/lane_book.hpp>
#include <multistate/decider/pins.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/util/buffer.hpp>

namespace multistate::detail {

/// What happened where in the sequence.
struct milestones {
  position prompt = 0;  ///< tokens read until the end of the last prompt
  position handed = 0;  ///< tokens read until another policy stopped to decide
};

/// What a cycle that can be taken back began with.
struct cycle_mark {
  int tokens = 0;  ///< accepted ones
  milestones past;
  pin_list pins;
  std::uint64_t moment = 0;
};

/// Undo of a lane_book: the newest cycles, the oldest of them at first_, as many as hold limits.undo tokens. Positions
/// and order come back by reversing what was done, step by step; a policy's numbers, being sums, by a
/// copy of what lies between two cycles. Without limits.undo nothing is kept. Allocates in allocate_lanes() and
/// allocate() only.
class journal {
 public:
  /// Memory for what is known of each lane; before allocate(). False when there is none.
  bool allocate_lanes(int lanes) noexcept { return lanes_.allocate(to_size(lanes)); }
  /// Memory for the cycles of `book`, whose slots are allocated. False when there is none.
  bool allocate(const lane_book& book, const limits& room) noexcept {
    undo_ = room.undo;
    steps_ = undo_ > 0 ? 2 * to_size(undo_ + room.slack()) : 0;
    for (int i = 0; i < book.lanes(); ++i) {
      lanes_[to_size(i)] = {.snapshot = slots_, .first = to_size(i) * steps_, .next = 0};
      slots_ += width(book, i);
    }
    const std::size_t cycles = undo_ > 0 ? to_size(undo_) + 1 : 0, steps = lanes_.size() * steps_;
    return marks_.allocate(cycles) && counts_.allocate(cycles * lanes_.size()) &&
           values_.allocate(cycles * to_size(book.columns()) * slots_) &&
           numbers_.allocate(cycles * to_size(book.numbers()) * lanes_.size()) && reversals_.allocate(steps) &&
           moves_.allocate(steps);
  }

  /// Whether cycles can be taken back at all; else they need not be told.
  bool keeps() const noexcept { return undo_ > 0; }
  /// How many of the newest cycles hold exactly `tokens` accepted tokens; 0: none do.
  int cycles_of(int tokens) const noexcept {
    int cycles = 0, held = 0;
    while (held < tokens && cycles < cycles_) held += marks_[ring(cycles_ - ++cycles)].tokens;
    return held == tokens ? cycles : 0;
  }

  /// Remembers how things are before a cycle.
  void begin(const lane_book& book, const milestones& past, const pin_list& pins) noexcept {
    const std::size_t cycle = ring(cycles_);
    marks_[cycle] = {.tokens = 0, .past = past, .pins = pins, .moment = book.moment()};
    for (int i = 0; i < book.lanes(); ++i) {
      steps_in(cycle, i) = 0;
      for (int c = 0; c < book.columns(); ++c) copy(old_column(cycle, book, i, c), book.column(i, c), book.at(i).live);
      copy(old_numbers(cycle, book, i), book.numbers(i), book.numbers());
    }
  }
  /// Remembers how to take back the next step of a lane in this cycle.
  void note(int i, const reversal& how) noexcept {
    history& h = lanes_[to_size(i)];
    reversals_[h.first + h.next] = how;
    h.next = (h.next + 1) % steps_;
    ++steps_in(ring(cycles_), i);
  }
  /// Makes the cycle one that can be taken back, and lets go of the oldest ones that no longer can.
  void end(int accepted) noexcept {
    marks_[ring(cycles_)].tokens = accepted;
    ++cycles_;
    tokens_ += accepted;
    while (tokens_ > undo_) {
      tokens_ -= marks_[ring(0)].tokens;
      first_ = (first_ + 1) % (undo_ + 1);
      --cycles_;
    }
  }

  /// Takes back the newest cycles, which hold `tokens` tokens. Returns what the oldest of them began with.
  const cycle_mark& take_back(int cycles, int tokens, lane_book& book) noexcept {
    const std::size_t oldest = ring(cycles_ - cycles);
    book.rewind(marks_[oldest].moment, tokens);
    for (int i = 0; i < book.lanes(); ++i) {
      const int moves = reverse_steps(i, cycles, book);
      for (int c = 0; c < book.columns(); ++c) copy(book.column(i, c), old_column(oldest, book, i, c), book.at(i).live);
      copy(book.numbers(i), old_numbers(oldest, book, i), book.numbers());
      book.report_reversed(i, moves_.span(lanes_[to_size(i)].first, to_size(moves)));
    }
    tokens_ -= tokens;
    cycles_ -= cycles;
    return marks_[oldest];
  }
  /// Lets go of all cycles.
  void clear() noexcept { first_ = cycles_ = tokens_ = 0; }
  /// Becomes a copy of a journal of the same sizes.
  void copy_from(const journal& other) noexcept {
    first_ = other.first_;
    cycles_ = other.cycles_;
    tokens_ = other.tokens_;
    lanes_.copy_from(other.lanes_);
    marks_.copy_from(other.marks_);
    counts_.copy_from(other.counts_);
    values_.copy_from(other.values_);
    numbers_.copy_from(other.numbers_);
    reversals_.copy_from(other.reversals_);
  }
  /// All memory held, from allocate() on.
  std::size_t bytes() const noexcept {
    return lanes_.bytes() + marks_.bytes() + counts_.bytes() + values_.bytes() + numbers_.bytes() + reversals_.bytes() +
           moves_.bytes();
  }

 private:
  /// Where the steps and old columns of one lane lie.
  struct history {
    std::size_t snapshot = 0;  ///< of its slots among those of all lanes
    std::size_t first = 0;     ///< of its ring in reversals_
    std::size_t next = 0;      ///< place in the ring of the step to come
  };

  /// Place of a cycle; one more than `undo` of them, for the cycle under way.
  std::size_t ring(int age) const noexcept { return to_size((first_ + age) % (undo_ + 1)); }
  /// Slots of a lane whose columns are kept: all that can be live between cycles.
  static std::size_t width(const lane_book& book, int i) noexcept { return to_size(book.at(i).settled); }
  int& steps_in(std::size_t cycle, int i) noexcept { return counts_[cycle * lanes_.size() + to_size(i)]; }
  std::span<float> old_column(std::size_t cycle, const lane_book& book, int i, int c) noexcept {
    const std::size_t at = to_size(book.columns()) * (cycle * slots_ + lanes_[to_size(i)].snapshot);
    return values_.span(at + to_size(c) * width(book, i), width(book, i));
  }
  std::span<float> old_numbers(std::size_t cycle, const lane_book& book, int i) noexcept {
    const std::size_t count = to_size(book.numbers());
    return numbers_.span((cycle * lanes_.size() + to_size(i)) * count, count);
  }
  static void copy(std::span<float> to, std::span<const float> from, int live) noexcept {
    if (live > 0) std::memcpy(to.data(), from.data(), to_size(live) * sizeof(float));
  }
  /// Reverses a lane's steps of the newest cycles and removes their tokens. Returns how many moves that takes.
  int reverse_steps(int i, int cycles, lane_book& book) noexcept {
    history& h = lanes_[to_size(i)];
    int moves = 0;
    for (int age = cycles_ - 1; age >= cycles_ - cycles; --age) {
      for (int step = steps_in(ring(age), i); step > 0; --step) {
        h.next = (h.next == 0 ? steps_ : h.next) - 1;
        const reversal& how = reversals_[h.first + h.next];
        book.reverse(i, how);
        moves_[h.first + to_size(moves++)] = how.back;
      }
      book.remove_newest(i, marks_[ring(age)].tokens);  // they lie on top again
    }
    return moves;
  }

  int undo_ = 0;
  int first_ = 0;          ///< place of the oldest cycle
  int cycles_ = 0;         ///< that can be taken back
  int tokens_ = 0;         ///< that they hold
  std::size_t steps_ = 0;  ///< room for those of one lane
  std::size_t slots_ = 0;  ///< of all lanes, in a copy of the columns
  buffer<history> lanes_;
  buffer<cycle_mark> marks_;    ///< [cycle]
  buffer<int> counts_;          ///< [cycle][lane] steps
  buffer<float> values_;        ///< [cycle][lane][column][slot]
  buffer<float> numbers_;       ///< [cycle][lane][number]
  buffer<reversal> reversals_;  ///< [lane][step], a ring each
  buffer<slot_move> moves_;     ///< [lane][step] what states have to do for the last undo
};

}  // namespace multistate::detail
