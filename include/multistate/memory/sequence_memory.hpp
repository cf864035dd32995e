#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <multistate/memory/layer_memory.hpp>
#include <multistate/types/error.hpp>

namespace multistate {

/// All that one sequence remembers, layer by layer; each may have a policy of its own. Nothing is allocated while it
/// runs.
class sequence_memory {
 public:
  /// `parts` in the order of their layers. Errors: none; shapes that differ; layers served together that make no whole.
  static result<sequence_memory> make(std::vector<std::unique_ptr<layer_memory>> parts) {
    sequence_memory m;
    for (const auto& part : parts) {
      const auto& traits = part->properties();
      if (!(traits.dims == parts[0]->properties().dims))
        return error(errc::bad_shape, "sequence memory: all layers must have the same heads and dimensions");
      if (traits.positions != parts[0]->properties().positions)
        return error(errc::bad_input, "sequence memory: all layers must have the same position mode");
      for (int layer = 0; layer < traits.layers; ++layer) m.places_.push_back({part.get(), layer});
      if (traits.most_tokens >= 0 && (m.most_tokens_ < 0 || traits.most_tokens < m.most_tokens_))
        m.most_tokens_ = traits.most_tokens;
      m.scratch_bytes_ = (std::max)(m.scratch_bytes_, traits.scratch_bytes);
      m.one_by_one_ = m.one_by_one_ && traits.layers == 1;
    }
    if (parts.empty()) return error(errc::bad_shape, "sequence memory: needs at least one layer");
    m.parts_ = std::move(parts);
    return m;
  }

  // -- what there is -------------------------------------------------------------------------------------------------

  int layers() const noexcept { return static_cast<int>(places_.size()); }
  const shape& dims() const noexcept { return parts_[0]->properties().dims; }
  bool unrotated() const noexcept { return parts_[0]->properties().unrotated(); }
  /// Whether tokens of one call can be attended one by one: not where a decision waits for all layers.
  bool one_by_one() const noexcept { return one_by_one_; }
  const limits& room(int layer = 0) const noexcept { return part(layer).properties().room; }
  scope_kind scope(int layer) const noexcept { return part(layer).properties().scope; }
  int lanes(int layer) const noexcept { return part(layer).properties().lanes; }
  int budget(int layer, int lane) const noexcept { return part(layer).budget(lane); }
  int live(int layer, int lane) const noexcept { return part(layer).live(lane); }
  /// [n] by slot, -1 at a hole; valid until the next change.
  std::span<const position> positions(int layer, int lane) const noexcept { return part(layer).positions(lane); }
  /// Fills `out` with the kept positions, increasing; returns how many there are. Precondition: out.size() >= live.
  std::size_t kept(int layer, int lane, std::span<position> out) const noexcept {
    std::size_t n = 0;
    for (const position p : positions(layer, lane))
      if (p >= 0) out[n++] = p;
    std::sort(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(n));
    return n;
  }
  position next_position() const noexcept { return parts_[0]->next_position(); }
  /// Tokens that fit in all, where a layer has no policy that drops some; -1: any number.
  position most_tokens() const noexcept { return most_tokens_; }
  bool held() const noexcept { return held_ > 0; }
  /// The lowest layer's state that its format could not hold, since reset(): what was attended since then is wrong.
  std::optional<layer_memory::overflow> overflowed() const noexcept {
    for (const auto& p : parts_)
      if (p->overflowed()) return p->overflowed();
    return std::nullopt;
  }
  /// Memory of all layers, from make() on: keys, values, positions, policy memory, held rows, undo.
  std::size_t bytes() const noexcept {
    std::size_t sum = 0;
    for (const auto& p : parts_) sum += p->properties().bytes;
    return sum;
  }
  /// Of these, keys and values: the size of an arena for them, see memory_setup::states.
  std::size_t arena_bytes() const noexcept {
    std::size_t sum = 0;
    for (const auto& p : parts_) sum += p->properties().arena_bytes;
    return sum;
  }
  /// Scratch that one thread needs to work on it; shared by all layers and, one after another, all sequences.
  std::size_t scratch_bytes() const noexcept { return scratch_bytes_; }
  /// Key and value of one state in one KV head.
  std::size_t state_bytes(int layer) const noexcept { return part(layer).properties().state_bytes; }
  /// Keys and values of the live states of all layers.
  std::size_t live_bytes() const noexcept {
    std::size_t sum = 0;
    for (int l = 0; l < layers(); ++l)
      for (int h = 0; h < dims().kv_heads; ++h)
        sum += static_cast<std::size_t>(live(l, lane_of(scope(l), h))) * part(l).properties().state_bytes;
    return sum;
  }

  // -- running -------------------------------------------------------------------------------------------------------

  /// Null: none. Must outlive its use.
  void watch(memory_observer* observer) noexcept { observer_ = observer; }

  /// One layer of the next tokens; all layers have to follow, in order. Precondition: as the decoder checks.
  void attend(int layer, const step_io& io, attend_mode mode, std::span<std::byte> scratch) noexcept {
    const place at = places_[static_cast<std::size_t>(layer)];
    MULTISTATE_ASSERT(layer > 0 || held_ == 0);
    if (mode == attend_mode::held) held_ = io.c;
    if (observer_ != nullptr) observer_->attending(layer);
    at.part->attend(at.layer, io, mode, observer_, scratch);
  }
  /// Ends a held call: the first `accepted` of its tokens stay, then everything is reduced. False: nothing was held, or
  /// fewer tokens.
  bool reduce(int accepted) noexcept {
    if (held_ == 0 || accepted < 0 || accepted > held_) return false;
    held_ = 0;
    for (const auto& p : parts_) p->reduce(accepted, observer_);
    return true;
  }
  /// Takes back the newest `tokens`, in all layers, as if they had never been. False, and nothing changed, when that is
  /// more than limits::undo of some layer holds or not a whole number of calls.
  bool undo(int tokens) noexcept {
    if (held_ != 0) return false;
    for (const auto& p : parts_)
      if (!p->can_undo(tokens)) return false;
    for (const auto& p : parts_) p->undo(tokens);
    return true;
  }
  /// Positions [first, last) stay until unpin, in every layer. False, and nothing changed, where they don't fit.
  bool pin(position first, position last) noexcept {
    for (std::size_t i = 0; i < parts_.size(); ++i)
      if (!parts_[i]->pin(first, last)) {
        while (i-- > 0) parts_[i]->unpin(first, last);
        return false;
      }
    return true;
  }
  bool unpin(position first, position last) noexcept {
    bool all = true;
    for (const auto& p : parts_) all = p->unpin(first, last) && all;
    return all;
  }
  /// A fork: becomes a copy that goes on independently. False, and nothing changed, when the two were not made alike.
  bool copy_from(const sequence_memory& other) noexcept {
    if (held_ != 0 || other.held_ != 0 || parts_.size() != other.parts_.size()) return false;
    for (std::size_t i = 0; i < parts_.size(); ++i)
      if (!parts_[i]->alike(*other.parts_[i])) return false;
    for (std::size_t i = 0; i < parts_.size(); ++i) parts_[i]->copy_from(*other.parts_[i]);
    return true;
  }
  /// Forgets everything, pins too.
  void reset() noexcept {
    if (held_ != 0) reduce(0);
    for (const auto& p : parts_) p->reset();
  }

 private:
  struct place {
    layer_memory* part;
    int layer;  ///< in the part
  };
  const layer_memory& part(int layer) const noexcept { return *places_[static_cast<std::size_t>(layer)].part; }

  std::vector<std::unique_ptr<layer_memory>> parts_;
  std::vector<place> places_;  ///< [layers]
  std::size_t scratch_bytes_ = 0;
  memory_observer* observer_ = nullptr;
  position most_tokens_ = -1;
  int held_ = 0;  ///< tokens that wait for reduce()
  bool one_by_one_ = true;
};

/// An observer that watches a memory as long as this lives.
class scoped_observer {
 public:
  scoped_observer(sequence_memory& memory, memory_observer& observer) noexcept : memory_(memory) {
    memory.watch(&observer);
  }
  scoped_observer(const scoped_observer&) = delete;
  scoped_observer& operator=(const scoped_observer&) = delete;
  ~scoped_observer() { memory_.watch(nullptr); }

 private:
  sequence_memory& memory_;
};

}  // namespace multistate
