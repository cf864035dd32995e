#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include <multistate/util/buffer.hpp>
#include <multistate/util/bytes.hpp>
#include <multistate/types/decision.hpp>
#include <multistate/types/error.hpp>
#include <multistate/format/element.hpp>
#include <multistate/util/hash.hpp>
#include <multistate/types/save_header.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/types/task.hpp>

namespace multistate {

/// The caller's memory for states, for instance a pool of many sequences; on 64-byte boundaries it is as fast as our
/// own.
struct arena {
  std::byte* base = nullptr;  ///< null: one allocation of its own
  std::size_t bytes = 0;
};

/// What apply() does with a dropped state unless told otherwise.
struct ignore_dropped {
  void operator()(int, position, std::span<const float>, std::span<const float>) const noexcept {}
};

/// Keys and values of one (sequence, layer), [kv_head][slot][dk] and [kv_head][slot][dv], each in a format of its own.
/// Executes decisions; makes none. Capacity of a lane is budget + slack + chunk, for the
/// budget that the last decision gave it; dropped states that undo may want back
/// lie apart. Nothing is allocated after make().
template <class KeyFormat, class ValueFormat = KeyFormat>
class multi_state {
 public:
  /// How a key is stored.
  using key_format = KeyFormat;
  /// How a value is stored.
  using value_format = ValueFormat;

  /// Bytes of the rows: what an arena must hold. Precondition: make() would take this shape and plan.
  static std::size_t bytes_needed(const shape& dims, const lane_plan& plan) noexcept {
    std::size_t bytes = 0;
    for (int h = 0; h < dims.kv_heads; ++h)
      bytes += head_bytes(dims, plan.budgets[to_size(lane_of(plan.scope, h))], plan.room);
    return bytes;
  }

  /// `plan`: the decider's plan(), whose decisions will be executed here; limits.prompt and hold do not matter.
  static result<multi_state> make(const shape& dims, const lane_plan& plan, arena memory = {}) noexcept {
    if (const error e = check(dims, plan)) return e;
    const limits& room = plan.room;
    multi_state m;
    m.dims_ = dims;
    m.scope_ = plan.scope;
    if (!m.heads_.allocate(to_size(dims.kv_heads)))
      return error(errc::out_of_memory, "multi_state: no memory for ", dims.kv_heads, " heads");
    const std::size_t bytes = bytes_needed(dims, plan);
    if (memory.base != nullptr) {
      if (memory.bytes < bytes)
        return error(errc::out_of_memory, "multi_state: needs an arena of ", bytes, " bytes; got ", memory.bytes);
      m.base_ = memory.base;
      m.bytes_ = bytes;
    } else {
      if (!m.own_.allocate(bytes))
        return error(errc::out_of_memory, "multi_state: no memory for ", bytes, " bytes of states");
      m.base_ = m.own_.data();
      m.bytes_ = bytes;
    }
    if (!m.decoded_.allocate(to_size(dims.dk) + to_size(dims.dv)))
      return error(errc::out_of_memory, "multi_state: no memory for one state");
    std::byte* at = m.base_;
    for (int h = 0; h < dims.kv_heads; ++h) {
      head& x = m.heads_[to_size(h)];
      const int budget = plan.budgets[to_size(lane_of(plan.scope, h))];
      x.capacity = budget + room.slack() + room.chunk;
      x.made_capacity = x.capacity;
      x.parked_places = parked_states(room);
      x.keys = at;
      x.values = at + keys_bytes(dims, x.capacity + x.parked_places);
      at += head_bytes(dims, budget, room);
    }
    m.beyond_ = room.slack() + room.chunk;
    return m;
  }

  /// Executes what a decider decided. False, and nothing done, when a decision before it was not executed, or others
  /// were: then these are the states of another moment. on_drop(kv_head, position, key [dk], value [dv]) is told of
  /// every state that leaves, in float32; with undo, also of one that comes back later.
  template <class OnDrop = ignore_dropped>
  bool apply(const multistate::decision& decision, OnDrop&& on_drop = {}) noexcept {
    if (!executed(decision.lanes[0].before)) return false;
    for (int h = 0; h < dims_.kv_heads; ++h) {
      head& x = heads_[to_size(h)];
      const lane_decision& lane = decision.lanes[to_size(lane_of(scope_, h))];
      for (std::size_t i = 0; i < lane.dropped.size(); ++i) {
        const std::size_t s = index(lane.dropped[i]);
        if constexpr (!std::is_same_v<std::remove_cvref_t<OnDrop>, ignore_dropped>) {
          decode(x, s);
          on_drop(h, lane.dropped_positions[i], std::span<const float>(decoded_.span(0, to_size(dims_.dk))),
                  std::span<const float>(decoded_.span(to_size(dims_.dk), to_size(dims_.dv))));
        }
        if (x.parked_places > 0) {
          copy_row(x, s, to_size(x.capacity + x.next_parked));
          x.next_parked = (x.next_parked + 1) % x.parked_places;
        }
      }
      for (const slot_move& m : lane.moves) {
        if (m.from == parked) x.next_parked = (x.next_parked == 0 ? x.parked_places : x.next_parked) - 1;
        copy_row(x, m.from == parked ? to_size(x.capacity + x.next_parked) : index(m.from), index(m.to));
      }
      MULTISTATE_ASSERT(lane.live + (lane.hole == no_slot ? 0 : 1) <= x.capacity);
      x.live = lane.live;
      x.hole = lane.hole;
      x.moment = lane.moment;
    }
    share(decision);
    return true;
  }

  /// Gives each lane the room that the decision's budgets ask for, where they are others than before: then all states
  /// are moved in the same memory. apply() does so itself. Nothing where their sum is not that of the budgets which
  /// these states were made for.
  void share(const multistate::decision& decision) noexcept {
    bool same = true;
    std::int64_t more = 0;
    for (int h = 0; h < dims_.kv_heads; ++h) {
      const int capacity = decision.lanes[to_size(lane_of(scope_, h))].budget + beyond_;
      same = same && heads_[to_size(h)].capacity == capacity;
      more += capacity - heads_[to_size(h)].made_capacity;
    }
    if (same || more != 0) return;
    for (int h = 0; h < dims_.kv_heads; ++h)
      heads_[to_size(h)].wanted = decision.lanes[to_size(lane_of(scope_, h))].budget + beyond_;
    lay_out();
  }

  /// Whether these are the states at a decider's moment(), or may become it: lanes are empty at 0, whatever lies in
  /// them.
  bool executed(std::uint64_t moment) const noexcept {
    bool all = true;
    for (std::size_t h = 0; h < heads_.size(); ++h) all = all && heads_[h].moment == moment;
    return all || moment == 0;
  }

  /// Stores new states of one KV head, converting; what a format can't hold, finite() tells: token j from k + j *
  /// k_stride and v + j * v_stride (in floats).
  void write(int kv_head, std::span<const slot> slots, const float* k, const float* v, std::size_t k_stride,
             std::size_t v_stride) noexcept {
    for (std::size_t j = 0; j < slots.size(); ++j)
      encode(heads_[to_size(kv_head)], index(slots[j]), k + j * k_stride, v + j * v_stride);
  }

  /// Takes over what the reduction of a one-shot prompt left of one KV head: slot s gets the caller's row positions[s],
  /// at k + row * k_stride and v + row * v_stride (in floats).
  void write_kept(int kv_head, const lane_decision& kept, std::span<const position> positions, const float* k,
                  const float* v, std::size_t k_stride, std::size_t v_stride) noexcept {
    head& x = heads_[to_size(kv_head)];
    x.live = kept.live;
    x.hole = kept.hole;
    x.moment = kept.moment;
    MULTISTATE_ASSERT(positions.size() == to_size(extent_of(x)) && extent_of(x) <= x.capacity);
    for (std::size_t s = 0; s < positions.size(); ++s)
      if (positions[s] >= 0)
        encode(x, s, k + static_cast<std::size_t>(positions[s]) * k_stride,
               v + static_cast<std::size_t>(positions[s]) * v_stride);
  }

  /// The live states for a kernel, described in `where`; positions and ranks are the decider's. Precondition: no hole
  /// (decider::close).
  head_view view(int kv_head, extent& where) const noexcept {
    const head& x = heads_[to_size(kv_head)];
    MULTISTATE_ASSERT(x.hole == no_slot);
    where = {
        .k = x.keys, .v = x.values, .k_stride = key_row_bytes(dims_), .v_stride = value_row_bytes(dims_), .n = x.live};
    return {.extents = {&where, 1}, .positions = {}, .ranks = {}, .n = x.live};
  }

  /// The key of a live state as it is stored, in float32: out [dk].
  void read_key(int kv_head, slot s, std::span<float> out) const noexcept {
    MULTISTATE_ASSERT(out.size() == to_size(dims_.dk));
    load_row<KeyFormat>(out.data(), heads_[to_size(kv_head)].keys + index(s) * key_row_bytes(dims_), dims_.dk);
  }
  /// Its value: out [dv].
  void read_value(int kv_head, slot s, std::span<float> out) const noexcept {
    MULTISTATE_ASSERT(out.size() == to_size(dims_.dv));
    load_row<ValueFormat>(out.data(), heads_[to_size(kv_head)].values + index(s) * value_row_bytes(dims_), dims_.dv);
  }

  /// Whether keys and values of these slots hold no NaN and no infinity: one such state spoils what all that see it
  /// attend. Numbers that are too large for a format become infinite in it: above 65,504 in f16.
  bool finite(int kv_head, std::span<const slot> slots) const noexcept {
    bool all = true;
    for (const slot s : slots) all = all && finite_row(heads_[to_size(kv_head)], index(s));
    return all;
  }
  /// All live states of one KV head.
  bool finite(int kv_head) const noexcept {
    const head& x = heads_[to_size(kv_head)];
    bool all = true;
    for (std::size_t s = 0; s < to_size(extent_of(x)); ++s)
      all = all && (slot{static_cast<std::uint32_t>(s)} == x.hole || finite_row(x, s));
    return all;
  }

  /// Heads and dimensions of the layer.
  const shape& dims() const noexcept { return dims_; }
  /// Which KV heads share a lane.
  scope_kind scope() const noexcept { return scope_; }
  /// States of one KV head.
  int live(int kv_head) const noexcept { return heads_[to_size(kv_head)].live; }
  /// Slots of one KV head.
  int capacity(int kv_head) const noexcept { return heads_[to_size(kv_head)].capacity; }
  /// All memory of the states, from make() on.
  std::size_t bytes() const noexcept { return bytes_ + heads_.bytes() + decoded_.bytes(); }
  /// Bytes of one state's key and value in one KV head.
  static constexpr std::size_t state_bytes(const shape& dims) noexcept {
    return key_row_bytes(dims) + value_row_bytes(dims);
  }

  /// Becomes a copy that goes on independently. False when the two were not made alike.
  bool copy_from(const multi_state& other) noexcept {
    if (fingerprint() != other.fingerprint()) return false;
    for (std::size_t h = 0; h < heads_.size(); ++h) heads_[h].wanted = other.heads_[h].capacity;
    lay_out();
    for (std::size_t h = 0; h < heads_.size(); ++h) {
      head& x = heads_[h];
      const head& from = other.heads_[h];
      x.live = from.live;
      x.hole = from.hole;
      x.moment = from.moment;
      x.next_parked = from.next_parked;
      copy_rows(x.keys, from.keys, key_row_bytes(dims_), to_size(extent_of(x)));
      copy_rows(x.values, from.values, value_row_bytes(dims_), to_size(extent_of(x)));
      copy_rows(x.keys + to_size(x.capacity) * key_row_bytes(dims_),
                from.keys + to_size(x.capacity) * key_row_bytes(dims_), key_row_bytes(dims_), to_size(x.parked_places));
      copy_rows(x.values + to_size(x.capacity) * value_row_bytes(dims_),
                from.values + to_size(x.capacity) * value_row_bytes(dims_), value_row_bytes(dims_),
                to_size(x.parked_places));
    }
    return true;
  }

  /// Bytes that save() fills now. States parked for undo are not saved.
  std::size_t save_bytes() const noexcept {
    std::size_t bytes = detail::save_header_bytes + sizeof(std::uint64_t);
    for (std::size_t h = 0; h < heads_.size(); ++h)
      bytes += sizeof(std::uint64_t) + 2 * sizeof(std::int32_t) + sizeof(slot) +
               to_size(extent_of(heads_[h])) * state_bytes(dims_);
    return bytes;
  }
  /// Writes the live states and what names their moment to [save_bytes()].
  void save(std::span<std::byte> out) const noexcept {
    MULTISTATE_ASSERT(out.size() == save_bytes());
    byte_writer to(out);
    detail::put_save_header(to, detail::states_save);
    to.put(fingerprint());
    for (std::size_t h = 0; h < heads_.size(); ++h) {
      const head& x = heads_[h];
      to.put(x.moment);
      to.put(std::int32_t{x.capacity});
      to.put(std::int32_t{x.live});
      to.put(x.hole);
      to.put(std::span<const std::byte>(x.keys, to_size(extent_of(x)) * key_row_bytes(dims_)));
      to.put(std::span<const std::byte>(x.values, to_size(extent_of(x)) * value_row_bytes(dims_)));
    }
  }
  /// Restores what save() wrote of a multi-state made alike. Anything else is refused and changes nothing. `of`: the
  /// last() of the decider that goes with it, loaded before; a save of another moment than its own is refused, too.
  error load(std::span<const std::byte> in, const decision& of) noexcept { return load_checked(in, &of); }
  /// The same for whatever moment was saved: that it is another than the decider's the next apply() or step() notices.
  error load(std::span<const std::byte> in) noexcept { return load_checked(in, nullptr); }

 private:
  /// Says why make() would not take this shape and plan.
  static error check(const shape& dims, const lane_plan& plan) noexcept {
    const limits& room = plan.room;
    if (dims.kv_heads < 1 || dims.dk < 1 || dims.dv < 1 || dims.heads < dims.kv_heads ||
        dims.heads % dims.kv_heads != 0 || dims.heads > max_tokens || dims.dk > max_tokens || dims.dv > max_tokens)
      return error(errc::bad_shape,
                   "multi_state: needs kv_heads >= 1 dividing heads, dk >= 1 and dv >= 1; got heads=", dims.heads,
                   ", kv_heads=", dims.kv_heads, ", dk=", dims.dk, ", dv=", dims.dv);
    if (plan.budgets.size() != to_size(lanes_of(plan.scope, dims.kv_heads)))
      return error(errc::bad_budget, "multi_state: needs one budget for each of ", lanes_of(plan.scope, dims.kv_heads),
                   " lanes; got ", plan.budgets.size());
    for (const int amount : {room.chunk - 1, room.undo, room.every - 1})
      if (amount < 0 || amount > max_tokens)
        return error(errc::bad_limits,
                     "multi_state: chunk and every must be at least 1, undo at least 0; got chunk=", room.chunk,
                     ", every=", room.every, ", undo=", room.undo);
    double estimate = 0;  // of bytes, which as a whole number could wrap round
    for (const int budget : plan.budgets) {
      if (budget < 1 || budget > max_tokens)
        return error(errc::bad_budget, "multi_state: budget must be 1 to ", max_tokens, " states; got ", budget);
      estimate += 4.0 * (static_cast<double>(budget) + room.every + room.chunk + 2.0 * room.undo) *
                  (static_cast<double>(dims.dk) + dims.dv + 2.0) * dims.kv_heads;
    }
    if (estimate > 0x1p60)
      return error(errc::out_of_memory, "multi_state: no memory has room for ", dims.kv_heads,
                   " heads of states with dk=", dims.dk, ", dv=", dims.dv);
    return {};
  }

  error load_checked(std::span<const std::byte> in, const decision* of) noexcept {
    const auto broken = [](std::string_view reason) {
      return error(errc::bad_input, "multi_state: saved state can't be used: ", reason);
    };
    byte_reader from(in);
    if (const error e = detail::take_save_header(from, detail::states_save, "multi_state")) return e;
    if (from.get<std::uint64_t>() != fingerprint()) return broken("it was made with other shapes, formats or sizes");
    byte_reader again = from;
    saved_head saved;
    std::int64_t room = 0;
    for (int h = 0; h < dims_.kv_heads; ++h) {
      if (const std::string_view wrong = read_head(from, h, of, saved); !wrong.empty()) return broken(wrong);
      room += std::int64_t{saved.capacity} - heads_[to_size(h)].made_capacity;
    }
    if (room != 0) return broken("a capacity is out of range");
    if (from.left() != 0) return broken("it is too long");
    byte_reader sizes = again;
    for (int h = 0; h < dims_.kv_heads; ++h) {
      read_head(sizes, h, of, saved);
      heads_[to_size(h)].live = 0;
      heads_[to_size(h)].hole = no_slot;
      heads_[to_size(h)].wanted = saved.capacity;
    }
    lay_out();
    for (int h = 0; h < dims_.kv_heads; ++h) {
      read_head(again, h, of, saved);
      head& x = heads_[to_size(h)];
      x.moment = saved.moment;
      x.live = saved.live;
      x.hole = saved.hole;
      copy_rows(x.keys, saved.keys.data(), 1, saved.keys.size());
      copy_rows(x.values, saved.values.data(), 1, saved.values.size());
    }
    return {};
  }

  /// One KV head of a save: views of it.
  struct saved_head {
    std::uint64_t moment = 0;
    int capacity = 0;
    int live = 0;
    slot hole = no_slot;
    std::span<const std::byte> keys;
    std::span<const std::byte> values;
  };

  /// Reads the next KV head of a save, which is to be number h. Returns what is wrong with it; nothing: "".
  std::string_view read_head(byte_reader& from, int h, const decision* of, saved_head& saved) const noexcept {
    saved.moment = from.get<std::uint64_t>();
    saved.capacity = from.get<std::int32_t>();
    saved.live = from.get<std::int32_t>();
    saved.hole = from.get<slot>();
    const int extra = saved.hole == no_slot ? 0 : 1;
    if (saved.capacity <= beyond_ || saved.capacity > max_tokens) return "a capacity is out of range";
    if (!by_head(scope_) && saved.capacity != heads_[to_size(h)].made_capacity) return "a capacity is out of range";
    if (saved.live < 0 || saved.live > saved.capacity - extra) return "it holds more states than fit";
    if (saved.hole != no_slot && index(saved.hole) >= to_size(saved.live)) return "a hole is out of range";
    saved.keys = from.take(to_size(saved.live + extra) * key_row_bytes(dims_));
    saved.values = from.take(to_size(saved.live + extra) * value_row_bytes(dims_));
    if (from.failed()) return "it is cut short";
    const std::size_t lane = to_size(lane_of(scope_, h));
    if (of != nullptr && (lane >= of->lanes.size() || saved.moment != of->lanes[lane].moment))
      return "it was saved at another moment than the decider";
    return {};
  }

  /// One KV head: rows [0, capacity) are slots, behind them lie the rows parked for undo, a ring.
  struct head {
    std::byte* keys = nullptr;
    std::byte* values = nullptr;
    int capacity = 0;
    int made_capacity = 0;
    int wanted = 0;                 ///< capacity that lay_out() will give it
    std::byte* new_keys = nullptr;  ///< and where
    std::byte* new_values = nullptr;
    int parked_places = 0;
    int next_parked = 0;
    int live = 0;
    slot hole = no_slot;
    std::uint64_t moment = 0;  ///< of the last decision executed
  };

  static constexpr std::size_t block_alignment_bytes = 64;
  static constexpr std::size_t key_row_bytes(const shape& d) noexcept { return row_bytes<KeyFormat>(d.dk); }
  static constexpr std::size_t value_row_bytes(const shape& d) noexcept { return row_bytes<ValueFormat>(d.dv); }
  static constexpr std::size_t aligned(std::size_t bytes) noexcept {
    return (bytes + block_alignment_bytes - 1) / block_alignment_bytes * block_alignment_bytes;
  }
  static constexpr int parked_states(const limits& room) noexcept {
    return room.undo > 0 ? room.undo + room.slack() : 0;
  }
  static constexpr std::size_t keys_bytes(const shape& d, int rows) noexcept {
    return aligned(to_size(rows) * key_row_bytes(d));
  }
  static constexpr std::size_t head_bytes(const shape& d, int budget, const limits& room) noexcept {
    const int rows = budget + room.slack() + room.chunk + parked_states(room);
    return keys_bytes(d, rows) + aligned(to_size(rows) * value_row_bytes(d));
  }
  /// Moves all states to where they lie with the wanted capacities, which have the same sum as before. What is parked
  /// for undo is lost. Lanes that come to lie lower are moved first, in order; the others then, from the last.
  void lay_out() noexcept {
    bool same = true;
    for (std::size_t h = 0; h < heads_.size(); ++h) same = same && heads_[h].wanted == heads_[h].capacity;
    if (same) return;
    const bool align = bytes_with(true) <= bytes_;
    std::byte* at = base_;
    for (std::size_t h = 0; h < heads_.size(); ++h) {
      head& x = heads_[h];
      x.new_keys = at;
      x.new_values = at + block_bytes(x, key_row_bytes(dims_), align);
      at = x.new_values + block_bytes(x, value_row_bytes(dims_), align);
      x.capacity = x.wanted;
      x.next_parked = 0;
    }
    MULTISTATE_ASSERT(static_cast<std::size_t>(at - base_) <= bytes_);
    const auto move = [&](std::byte*& from, std::byte* to, std::size_t row_bytes, int rows, bool down) {
      if (from == to || (to < from) != down) return;
      if (rows > 0) std::memmove(to, from, row_bytes * to_size(rows));
      from = to;
    };
    for (std::size_t h = 0; h < heads_.size(); ++h) {
      head& x = heads_[h];
      move(x.keys, x.new_keys, key_row_bytes(dims_), extent_of(x), true);
      move(x.values, x.new_values, value_row_bytes(dims_), extent_of(x), true);
    }
    for (std::size_t h = heads_.size(); h-- > 0;) {
      head& x = heads_[h];
      move(x.values, x.new_values, value_row_bytes(dims_), extent_of(x), false);
      move(x.keys, x.new_keys, key_row_bytes(dims_), extent_of(x), false);
    }
  }
  std::size_t block_bytes(const head& x, std::size_t row_bytes, bool align) const noexcept {
    const std::size_t bytes = to_size(x.wanted + x.parked_places) * row_bytes;
    return align ? aligned(bytes) : bytes;
  }
  std::size_t bytes_with(bool align) const noexcept {
    std::size_t bytes = 0;
    for (std::size_t h = 0; h < heads_.size(); ++h)
      bytes +=
          block_bytes(heads_[h], key_row_bytes(dims_), align) + block_bytes(heads_[h], value_row_bytes(dims_), align);
    return bytes;
  }
  static int extent_of(const head& x) noexcept { return x.live + (x.hole == no_slot ? 0 : 1); }
  static void copy_rows(std::byte* to, const std::byte* from, std::size_t row_bytes, std::size_t rows) noexcept {
    if (rows > 0) std::memcpy(to, from, row_bytes * rows);
  }
  void copy_row(head& x, std::size_t from, std::size_t to) noexcept {
    std::memcpy(x.keys + to * key_row_bytes(dims_), x.keys + from * key_row_bytes(dims_), key_row_bytes(dims_));
    std::memcpy(x.values + to * value_row_bytes(dims_), x.values + from * value_row_bytes(dims_),
                value_row_bytes(dims_));
  }
  void encode(head& x, std::size_t s, const float* k, const float* v) noexcept {
    MULTISTATE_ASSERT(s < to_size(x.capacity));
    store_row<KeyFormat>(x.keys + s * key_row_bytes(dims_), k, dims_.dk);
    store_row<ValueFormat>(x.values + s * value_row_bytes(dims_), v, dims_.dv);
  }
  bool finite_row(const head& x, std::size_t s) const noexcept {
    MULTISTATE_ASSERT(s < to_size(x.capacity));
    return multistate::finite_row<KeyFormat>(x.keys + s * key_row_bytes(dims_), dims_.dk) &&
           multistate::finite_row<ValueFormat>(x.values + s * value_row_bytes(dims_), dims_.dv);
  }
  void decode(const head& x, std::size_t s) noexcept {
    load_row<KeyFormat>(decoded_.data(), x.keys + s * key_row_bytes(dims_), dims_.dk);
    load_row<ValueFormat>(decoded_.data() + dims_.dk, x.values + s * value_row_bytes(dims_), dims_.dv);
  }
  std::uint64_t fingerprint() const noexcept {
    std::uint64_t h = 0;
    const auto add = [&](std::uint64_t word) { h = mix(h ^ word); };
    for (const char c : KeyFormat::name) add(static_cast<unsigned char>(c));
    for (const char c : ValueFormat::name) add(static_cast<unsigned char>(c));
    for (const int n : {dims_.heads, dims_.kv_heads, dims_.dk, dims_.dv}) add(static_cast<std::uint64_t>(n));
    add(static_cast<std::uint64_t>(scope_));
    for (std::size_t i = 0; i < heads_.size(); ++i)
      add(static_cast<std::uint64_t>(heads_[i].made_capacity) << 32 |
          static_cast<std::uint64_t>(heads_[i].parked_places));
    return h;
  }

  shape dims_;
  scope_kind scope_ = scope_kind::layer;
  int beyond_ = 0;  ///< slots of a lane beyond its budget
  std::byte* base_ = nullptr;
  std::size_t bytes_ = 0;
  buffer<std::byte> own_;
  buffer<head> heads_;
  buffer<float> decoded_;  ///< one state for on_drop
};

}  // namespace multistate
