#pragma once

// Fork, hand-over, save and load of decider.hpp, which includes this file.

#include <multistate/decider/decider.hpp>
#include <multistate/util/bytes.hpp>
#include <multistate/util/hash.hpp>
#include <multistate/types/save_header.hpp>

namespace multistate {

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
  for (int i = 0; i < lanes_; ++i) add(static_cast<std::uint64_t>(budget(i)));
  return h;
}

template <policy P>
bool decider<P>::copy_from(const decider& other) noexcept {
  if (other.open_ || other.fault_ != fault_kind::none || fingerprint() != other.fingerprint()) return false;
  const auto copy = []<class T>(buffer<T>& to, const buffer<T>& from) {
    for (std::size_t i = 0; i < from.size(); ++i) to[i] = from[i];
  };
  copy(lane_, other.lane_);
  copy(positions_, other.positions_);
  copy(columns_, other.columns_);
  copy(order_, other.order_);
  copy(cycle_marks_, other.cycle_marks_);
  copy(operations_, other.operations_);
  copy(old_columns_, other.old_columns_);
  copy(journal_, other.journal_);
  pending_ = other.pending_;
  pins_ = other.pins_;
  for (int i = 0; i < max_pins; ++i) pin_[i] = other.pin_[i];
  next_position_ = other.next_position_;
  first_cycle_ = other.first_cycle_;
  cycles_ = other.cycles_;
  undoable_tokens_ = other.undoable_tokens_;
  begin_at(other.moment_);
  return true;
}

/// Between cycles, without a fault.
template <policy P>
void decider<P>::begin_at(std::uint64_t moment) noexcept {
  open_ = false;
  appended_ = 0;
  fault_ = fault_kind::none;
  took_over_ = false;
  moment_ = moment;
  settle();
}

template <policy P>
void decider<P>::restart(int layer) noexcept {
  MULTISTATE_ASSERT(layer >= 0);
  where_.layer = layer;
  for (int i = 0; i < lanes_; ++i) {
    lane_state& s = lane_[to_size(i)];
    s.live = 0;
    s.hole = no_slot;
    s.oldest = s.newest = none;
  }
  pending_ = pins_ = 0;
  for (auto& p : pin_) p = {};
  next_position_ = 0;
  forget_cycles();
  begin_at(0);
}

template <policy P>
template <policy Q>
bool decider<P>::take_over(const decider<Q>& other) noexcept {
  if (other.open_ || other.fault_ != fault_kind::none) return false;
  if (lanes_ != other.lanes_ || where_.kv_heads != other.where_.kv_heads) return false;
  const std::span<const position_range> pins(other.pin_, to_size(other.pins_));
  int pending = 0;
  for (int i = 0; i < lanes_; ++i) {
    const lane_state& s = lane_[to_size(i)];
    const auto& from = other.lane_[to_size(i)];
    if (from.live > s.budget + room_.slack() || (from.hole != no_slot && !keeps_holes())) return false;
    std::int64_t held = reserved(s, pins, other.next_position_);
    for (const position p : other.positions(i))
      if (p >= 0 && counts_as_pinned(s, pins, p)) ++held;
    if (!pins.empty() && held > s.budget) return false;
    if (from.live - s.budget > pending) pending = from.live - s.budget;
  }
  for (int i = 0; i < lanes_; ++i) {
    lane_state& s = lane_[to_size(i)];
    const auto& from = other.lane_[to_size(i)];
    s.live = from.live;
    s.hole = from.hole;
    s.oldest = from.oldest;
    s.newest = from.newest;
    for (std::size_t j = 0; j < to_size(extent(s)); ++j) {
      positions_[s.base + j] = other.positions_[from.base + j];
      order_[s.base + j] = {other.order_[from.base + j].next, other.order_[from.base + j].previous};
    }
    for (int c = 0; c < P::columns; ++c)
      for (std::size_t j = 0; j < to_size(extent(s)); ++j) {
        float& mine = columns_[P::columns * s.base + to_size(c) * to_size(s.capacity) + j];
        if constexpr (std::is_same_v<P, Q>)
          mine = other.column(i, c)[j];
        else
          mine = 0.0f;
      }
  }
  pins_ = other.pins_;
  for (int i = 0; i < max_pins; ++i) pin_[i] = other.pin_[i];
  next_position_ = other.next_position_;
  pending_ = pending;
  forget_cycles();
  begin_at(other.moment_);
  took_over_ = true;
  settle();
  return true;
}

template <policy P>
std::size_t decider<P>::save_bytes() const noexcept {
  std::size_t bytes =
      detail::save_header_bytes + 2 * sizeof(std::uint64_t) + sizeof(position) + 2 * sizeof(std::int32_t) + sizeof pin_;
  for (int i = 0; i < lanes_; ++i)
    bytes += sizeof(std::int32_t) + sizeof(slot) + lane_bytes(lane_[to_size(i)].live, lane_[to_size(i)].hole);
  return bytes;
}

/// Positions by slot, slots by rank, columns.
template <policy P>
std::size_t decider<P>::lane_bytes(int live, slot hole) noexcept {
  const std::size_t slots = to_size(live) + (hole == no_slot ? 0 : 1);
  return slots * sizeof(position) + to_size(live) * sizeof(std::uint32_t) + to_size(P::columns) * slots * sizeof(float);
}

template <policy P>
void decider<P>::save(std::span<std::byte> out) const noexcept {
  MULTISTATE_ASSERT(out.size() == save_bytes());
  byte_writer to(out);
  detail::put_save_header(to, open_ ? "a cycle!" : detail::decider_save);
  to.put(fingerprint());
  to.put(moment_);
  to.put(next_position_);
  to.put(std::int32_t{pending_});
  to.put(std::int32_t{pins_});
  for (const auto& p : pin_) to.put(p);
  for (int i = 0; i < lanes_; ++i) {
    const lane_state& s = lane_[to_size(i)];
    to.put(std::int32_t{s.live});
    to.put(s.hole);
    to.put(std::as_bytes(positions(i)));
    for (std::uint32_t at = s.oldest; at != none; at = order_[s.base + at].next) to.put(at);
    for (int c = 0; c < P::columns; ++c) to.put(std::as_bytes(column(i, c)));
  }
}

template <policy P>
error decider<P>::load(std::span<const std::byte> in) noexcept {
  const auto broken = [](std::string_view reason) {
    return error(errc::bad_input, P::name, ": saved state can't be used: ", reason);
  };
  for (const bool commit : {false, true}) {  // read without touching anything, then again to take it over
    byte_reader from(in);
    if (const error e = detail::take_save_header(from, detail::decider_save, P::name)) return e;
    if (from.get<std::uint64_t>() != fingerprint())
      return broken("it was made with another policy, other settings or sizes");
    const auto moment = from.get<std::uint64_t>();
    const auto next_position = from.get<position>();
    const auto pending = from.get<std::int32_t>();
    const auto pins = from.get<std::int32_t>();
    constexpr position most = position{1} << 62;
    if (next_position < 0 || next_position > most || pending < 0 || pending >= room_.every || pins < 0 ||
        pins > max_pins)
      return broken("a count is out of range");
    position_range pin[max_pins];
    for (auto& p : pin) {
      p = from.get<position_range>();
      if (p.first < 0 || p.last < p.first) return broken("a pin is out of range");
    }
    if (commit) {
      next_position_ = next_position;
      moment_ = moment;
      pending_ = pending;
      pins_ = pins;
      for (int i = 0; i < max_pins; ++i) pin_[i] = pin[i];
      forget_cycles();
    }
    for (int i = 0; i < lanes_; ++i) {
      lane_state& s = lane_[to_size(i)];
      const auto live = from.get<std::int32_t>();
      const auto hole = from.get<slot>();
      if (live < 0 || live > s.budget + pending) return broken("a lane holds more states than its budget");
      if (live > 0 && moment == 0) return broken("its moment is that of empty lanes");
      if (hole != no_slot && (!keeps_holes() || index(hole) >= to_size(live))) return broken("a hole is out of range");
      byte_reader lane(from.take(lane_bytes(live, hole)));
      if (from.failed()) return broken("it is cut short");
      const std::size_t slots = to_size(live) + (hole == no_slot ? 0 : 1);
      const auto positions = lane.take(slots * sizeof(position)),
                 order = lane.take(to_size(live) * sizeof(std::uint32_t));
      const std::span<const position_range> pinned_ranges(pin, to_size(pins));
      std::int64_t held = reserved(s, pinned_ranges, next_position);
      position last = -1;
      for (std::size_t rank = 0; rank < to_size(live); ++rank) {
        const auto at = load_at<std::uint32_t>(order, rank * sizeof(std::uint32_t));
        if (at >= slots || slot{at} == hole) return broken("a slot is out of range");
        const auto p = load_at<position>(positions, at * sizeof(position));
        if (p <= last || p >= next_position) return broken("positions do not increase");
        if (counts_as_pinned(s, pinned_ranges, p)) ++held;
        last = p;
      }
      if (pins > 0 && held > s.budget) return broken("more is pinned than the budget holds");
      if (!commit) continue;
      s.live = live;
      s.hole = hole;
      s.oldest = s.newest = none;
      for (std::size_t rank = 0; rank < to_size(live); ++rank) {
        const auto at = load_at<std::uint32_t>(order, rank * sizeof(std::uint32_t));
        positions_[s.base + at] = load_at<position>(positions, at * sizeof(position));
        link_newest(s, at);
      }
      if (hole != no_slot) positions_[s.base + index(hole)] = -1;
      for (std::size_t c = 0; c < to_size(P::columns); ++c)
        for (std::size_t j = 0; j < slots; ++j)
          columns_[P::columns * s.base + c * to_size(s.capacity) + j] = lane.template get<float>();
    }
    if (from.failed() || from.left() != 0) return broken(from.failed() ? "it is cut short" : "it is too long");
  }
  begin_at(moment_);
  return {};
}

}  // namespace multistate
