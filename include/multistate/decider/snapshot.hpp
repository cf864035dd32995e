#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <multistate/decider/journal.hpp>
#include <multistate/decider/lane_book.hpp>
#include <multistate/decider/pins.hpp>
#include <multistate/types/error.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/save_header.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/util/assert.hpp>
#include <multistate/util/bytes.hpp>

// The bytes of a decider's save (docs/formats.md). A save is read into values that point into it, all of them are
// checked, and only then a book takes them over.

namespace multistate::detail {

/// What stands in front of the lanes.
struct saved_head {
  std::uint64_t moment = 0;
  position next_position = 0;
  milestones past;
  pin_list pins;
};

/// One lane: views of the save, unaligned.
struct saved_lane {
  int budget = 0;
  int live = 0;
  slot hole = no_slot;
  std::span<const std::byte> positions;  ///< [slots]
  std::span<const std::byte> order;      ///< [live] slots by rank
  std::span<const std::byte> columns;    ///< [column][slots]
  std::span<const std::byte> numbers;    ///< [number]

  /// Slots in use, a hole included.
  std::size_t slots() const noexcept { return to_size(live) + (hole == no_slot ? 0 : 1); }
  /// The slot of one rank.
  slot by_rank(std::size_t rank) const noexcept { return load_at<slot>(order, rank * sizeof(slot)); }
  /// The position of the state in a slot.
  position at(slot s) const noexcept { return load_at<position>(positions, index(s) * sizeof(position)); }
};

/// Bytes of a lane behind its budget, the number of its states and its hole.
inline std::size_t saved_lane_bytes(int live, std::size_t slots, const lane_book& book) noexcept {
  return slots * sizeof(position) + to_size(live) * sizeof(slot) +
         (to_size(book.columns()) * slots + to_size(book.numbers())) * sizeof(float);
}

/// Bytes of a save of `book` as it is now.
inline std::size_t save_bytes(const lane_book& book) noexcept {
  std::size_t bytes = save_header_bytes + 2 * sizeof(std::uint64_t) + 3 * sizeof(position) + sizeof(std::int32_t) +
                      sizeof(pin_list::ranges);
  for (int i = 0; i < book.lanes(); ++i)
    bytes +=
        2 * sizeof(std::int32_t) + sizeof(slot) + saved_lane_bytes(book.at(i).live, to_size(book.at(i).extent()), book);
  return bytes;
}

/// Fills `out`, [save_bytes(book)]. `magic`: its first eight letters; `fingerprint`: equal for deciders made alike.
inline void save_book(std::span<std::byte> out, std::string_view magic, std::uint64_t fingerprint,
                      const milestones& past, const pin_list& pins, const lane_book& book) noexcept {
  MULTISTATE_ASSERT(out.size() == save_bytes(book));
  byte_writer to(out);
  put_save_header(to, magic);
  to.put(fingerprint);
  to.put(book.moment());
  to.put(book.next_position());
  to.put(past);
  to.put(std::int32_t{pins.count});
  to.put(pins.ranges);
  for (int i = 0; i < book.lanes(); ++i) {
    const lane_book::lane& l = book.at(i);
    to.put(std::int32_t{l.budget});
    to.put(std::int32_t{l.live});
    to.put(l.hole);
    to.put(std::as_bytes(book.positions(i)));
    for (slot s = l.oldest; s != no_slot; s = book.younger(i, s)) to.put(s);
    for (int c = 0; c < book.columns(); ++c) to.put(std::as_bytes(book.column(i, c)));
    to.put(std::as_bytes(book.numbers(i)));
  }
}

/// Says why a save of this policy is refused.
inline error broken_save(std::string_view policy, std::string_view reason) noexcept {
  return error(errc::bad_input, policy, ": saved state can't be used: ", reason);
}

/// Reads what stands in front of the lanes. The error, with the policy in front, says what is wrong with it.
inline error read_head(byte_reader& from, std::string_view policy, std::uint64_t fingerprint,
                       saved_head& head) noexcept {
  if (const error e = take_save_header(from, decider_save, policy)) return e;
  if (from.get<std::uint64_t>() != fingerprint)
    return broken_save(policy, "it was made with another policy, other settings or sizes");
  head.moment = from.get<std::uint64_t>();
  head.next_position = from.get<position>();
  head.past = from.get<milestones>();
  head.pins.count = from.get<std::int32_t>();
  constexpr position most = position{1} << 62;
  if (head.next_position < 0 || head.next_position > most || head.past.prompt < 0 || head.past.handed < 0 ||
      head.past.prompt > head.next_position || head.past.handed > head.next_position || head.pins.count < 0 ||
      head.pins.count > pin_list::most)
    return broken_save(policy, "a count is out of range");
  for (position_range& r : head.pins.ranges) {
    r = from.get<position_range>();
    if (r.first < 0 || r.last < r.first) return broken_save(policy, "a pin is out of range");
  }
  return {};
}

/// Reads the next lane of a save, which is to be lane i of the book; it may hold `beyond` states more than its budget,
/// and where budgets are `dealt` that may be any. Returns what is wrong with its sizes; nothing: "".
inline std::string_view read_lane(byte_reader& from, const saved_head& head, const lane_book& book, int i, int beyond,
                                  bool dealt, saved_lane& lane) noexcept {
  lane.budget = from.get<std::int32_t>();
  lane.live = from.get<std::int32_t>();
  lane.hole = from.get<slot>();
  if (dealt ? lane.budget < 1 || lane.budget > book.at(i).settled - beyond : lane.budget != book.at(i).budget)
    return "a budget is out of range";
  if (lane.live < 0 || lane.live > lane.budget + beyond) return "a lane holds more states than its budget";
  if (lane.live > 0 && head.moment == 0) return "its moment is that of empty lanes";
  if (lane.hole != no_slot && (!book.keeps_holes() || index(lane.hole) >= to_size(lane.live)))
    return "a hole is out of range";
  byte_reader body(from.take(saved_lane_bytes(lane.live, lane.slots(), book)));
  if (from.failed()) return "it is cut short";
  lane.positions = body.take(lane.slots() * sizeof(position));
  lane.order = body.take(to_size(lane.live) * sizeof(slot));
  lane.columns = body.take(to_size(book.columns()) * lane.slots() * sizeof(float));
  lane.numbers = body.take(body.left());
  return {};
}

/// Looks at the states of a lane that read_lane() took. `structural`: what the policy protects of it. Returns what is
/// wrong with them; nothing: "".
inline std::string_view check_lane(const saved_lane& lane, const saved_head& head, const protect& structural,
                                   int budget) noexcept {
  std::int64_t held = head.pins.reserved(structural, budget, head.next_position);
  position last = -1;
  for (std::size_t rank = 0; rank < to_size(lane.live); ++rank) {
    const slot s = lane.by_rank(rank);
    if (index(s) >= lane.slots() || s == lane.hole) return "a slot is out of range";
    const position p = lane.at(s);
    if (p <= last || p >= head.next_position) return "positions do not increase";
    if (head.pins.protects(structural, p)) ++held;
    last = p;
  }
  return head.pins.count > 0 && held > budget ? "more is pinned than the budget holds" : std::string_view();
}

/// Writes a checked lane into an empty one of the book.
inline void take_lane(const saved_lane& lane, lane_book& book, int i) noexcept {
  book.set_budget(i, lane.budget);
  for (std::size_t rank = 0; rank < to_size(lane.live); ++rank)
    book.place(i, lane.by_rank(rank), lane.at(lane.by_rank(rank)));
  if (lane.hole != no_slot) book.leave_hole(i, lane.hole);
  byte_reader numbers(lane.columns);
  for (int c = 0; c < book.columns(); ++c)
    for (float& number : book.column(i, c)) number = numbers.get<float>();
  byte_reader own(lane.numbers);
  for (float& number : book.numbers(i)) number = own.get<float>();
}

}  // namespace multistate::detail
