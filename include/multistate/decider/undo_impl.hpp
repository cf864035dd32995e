#pragma once

// Undo of decider.hpp, which includes this file.

#include <multistate/decider/decider.hpp>

namespace multistate {

template <policy P>
void decider<P>::begin_cycle() noexcept {
  const std::size_t at = ring(cycles_);
  cycle_mark& mark = cycle_marks_[at];
  mark.pending = pending_;
  mark.pins = pins_;
  mark.moment = moment_;
  for (int i = 0; i < max_pins; ++i) mark.pin[i] = pin_[i];
  for (int i = 0; i < lanes_; ++i) {
    const lane_state& s = lane_[to_size(i)];
    operations_[at * to_size(lanes_) + to_size(i)] = 0;
    const std::size_t to = P::columns * (at * snapshot_slots_ + s.snapshot), width = to_size(s.budget + room_.slack());
    for (std::size_t c = 0; c < to_size(P::columns); ++c)
      for (std::size_t j = 0; j < to_size(s.live); ++j)
        old_columns_[to + c * width + j] = columns_[P::columns * s.base + c * to_size(s.capacity) + j];
  }
}

template <policy P>
void decider<P>::note(int lane, const reversal& how) noexcept {
  lane_state& s = lane_[to_size(lane)];
  journal_[s.journal + s.journal_end] = how;
  s.journal_end = (s.journal_end + 1) % journal_size();
  ++operations_[ring(cycles_) * to_size(lanes_) + to_size(lane)];
}

/// Makes a cycle one that can be taken back, and lets go of the oldest ones that no longer can.
template <policy P>
void decider<P>::end_cycle(int accepted) noexcept {
  if (appended_ > room_.chunk) return forget_cycles();  // a one-shot prompt: the states never had slots for it
  cycle_marks_[ring(cycles_)].tokens = accepted;
  ++cycles_;
  undoable_tokens_ += accepted;
  while (undoable_tokens_ > room_.undo) {
    undoable_tokens_ -= cycle_marks_[ring(0)].tokens;
    first_cycle_ = (first_cycle_ + 1) % (room_.undo + 1);
    --cycles_;
  }
}

template <policy P>
void decider<P>::reverse(int lane, const reversal& how) noexcept {
  lane_state& s = lane_[to_size(lane)];
  const std::uint32_t to = raw(how.back.to);
  if (how.back.from != parked) return relocate(s, raw(how.back.from), to);
  const std::uint32_t after = how.before == none ? s.oldest : order_[s.base + how.before].next;
  positions_[s.base + to] = how.at;
  order_[s.base + to] = {after, how.before};
  (how.before == none ? s.oldest : order_[s.base + how.before].next) = to;
  (after == none ? s.newest : order_[s.base + after].previous) = to;
  ++s.live;
}

template <policy P>
int decider<P>::cycles_of(int tokens) const noexcept {
  if (open_ || fault_ != fault_kind::none) return 0;
  int cycles = 0, held = 0;
  while (held < tokens && cycles < cycles_) held += cycle_marks_[ring(cycles_ - ++cycles)].tokens;
  return held == tokens ? cycles : 0;
}

template <policy P>
bool decider<P>::undo(int tokens) noexcept {
  const int cycles = cycles_of(tokens);
  if (cycles == 0) return false;
  before_ = moment_;
  moment_ = cycle_marks_[ring(cycles_ - cycles)].moment;
  const std::size_t first = ring(cycles_ - cycles);
  for (int i = 0; i < lanes_; ++i) {
    lane_state& s = lane_[to_size(i)];
    int moves = 0;
    for (int c = cycles_ - 1; c >= cycles_ - cycles; --c) {
      for (int o = operations_[ring(c) * to_size(lanes_) + to_size(i)]; o > 0; --o) {
        s.journal_end = (s.journal_end == 0 ? journal_size() : s.journal_end) - 1;
        const reversal& how = journal_[s.journal + s.journal_end];
        reverse(i, how);
        undo_moves_[s.journal + to_size(moves++)] = how.back;
      }
      for (int j = cycle_marks_[ring(c)].tokens; j > 0; --j) {  // they lie on top again
        unlink(s, static_cast<std::uint32_t>(--s.live));
        positions_[s.base + to_size(s.live)] = -1;
      }
    }
    const std::size_t from = P::columns * (first * snapshot_slots_ + s.snapshot),
                      width = to_size(s.budget + room_.slack());
    for (std::size_t c = 0; c < to_size(P::columns); ++c)
      for (std::size_t j = 0; j < to_size(s.live); ++j)
        columns_[P::columns * s.base + c * to_size(s.capacity) + j] = old_columns_[from + c * width + j];
    report(i, 0, 0);
    lane_decisions_[to_size(i)].moves = undo_moves_.span(s.journal, to_size(moves));
  }
  const cycle_mark& mark = cycle_marks_[first];
  pending_ = mark.pending;
  pins_ = mark.pins;
  for (int i = 0; i < max_pins; ++i) pin_[i] = mark.pin[i];
  next_position_ -= tokens;
  undoable_tokens_ -= tokens;
  cycles_ -= cycles;
  return true;
}

}  // namespace multistate
