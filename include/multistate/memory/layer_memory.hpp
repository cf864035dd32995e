#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include <multistate/memory/memory_setup.hpp>
#include <multistate/rope/angle_table.hpp>
#include <multistate/step/step.hpp>
#include <multistate/types/decision.hpp>
#include <multistate/types/error.hpp>
#include <multistate/format/element.hpp>

namespace multistate {

/// How the tokens of one call are attended.
enum class attend_mode : std::uint8_t {
  together,    ///< as one chunk: then one reduction
  one_by_one,  ///< each sees what the ones before left: equal to calls of one token, bit for bit. Not where layers
               ///< share lanes
  one_shot,    ///< a whole prompt into an empty memory: full attention, one reduction
  held,        ///< together, but nothing is dropped before sequence_memory::reduce(accepted)
};

/// Watches one sequence; called by the thread that works on it.
class memory_observer {
 public:
  virtual ~memory_observer() = default;
  /// Before a layer's tokens are stored and attended.
  virtual void attending(int /*layer*/) noexcept {}
  /// After attention, before anything is dropped: one task a KV head. Its row holds what the policy needs, or what
  /// memory_setup::tap says for a policy that needs none; null when nobody does. All valid during the call only.
  virtual void attended(int /*layer*/, std::span<const attention_task> /*heads*/) noexcept {}
  /// After a reduction. Once, with the last layer, where layers share their lanes.
  virtual void decided(int /*layer*/, const decision& /*decision*/) noexcept {}
};

/// What one layer of a sequence remembers under one policy, or all layers where they share their lanes: the one place
/// where tools don't know the policy's type. Made by make_layer_memory().
class layer_memory {
 public:
  /// What it was made with and what that takes.
  struct traits {
    shape dims;
    limits room;
    scope_kind scope = scope_kind::layer;
    int lanes = 0;
    int layers = 1;             ///< how many it serves: all of them where they share their lanes
    position most_tokens = -1;  ///< tokens that ever fit, of a policy without budget; -1: any number
    position_mode positions = position_mode::original;
    std::size_t scratch_bytes = 0;
    std::size_t bytes = 0;                      ///< all memory held, without scratch
    std::size_t arena_bytes = 0;                ///< of these: keys and values, which can lie in an arena
    std::size_t state_bytes = 0;                ///< of one token in one KV head
    const void* type = nullptr;                 ///< the same for the same policy and formats
    std::shared_ptr<const angle_table> angles;  ///< in-cache positions only

    /// Whether it takes keys and queries un-rotated.
    bool unrotated() const noexcept { return positions != position_mode::original; }
  };

  /// A state whose key or value was finite and became infinite in its format.
  struct overflow {
    int layer = 0;
    position at = 0;
    std::string_view format;

    error reason() const noexcept {
      return error(errc::overflow, "states in ", format, " overflow: layer ", layer, " at position ", at,
                   " has a number beyond what ", format, " holds; take format ",
                   format == f16::name ? "f32 or bf16" : "f32");
    }
  };

  virtual ~layer_memory() = default;
  layer_memory(const layer_memory&) = delete;
  layer_memory& operator=(const layer_memory&) = delete;

  const traits& properties() const noexcept { return properties_; }
  /// The first one that was stored since reset().
  const std::optional<overflow>& overflowed() const noexcept { return overflowed_; }

  /// Enters the tokens of `io`, attends for them and, unless `mode` is held, reduces. `layer` counts from the first one
  /// that it serves. `observer` may be null. Scratch: traits::scratch_bytes.
  virtual void attend(int layer, const step_io& io, attend_mode mode, memory_observer* observer,
                      std::span<std::byte> scratch) noexcept = 0;
  /// Ends a held call: the first `accepted` of its tokens stay, then the budget holds again.
  virtual void reduce(int accepted, memory_observer* observer) noexcept = 0;
  /// Whether the newest `tokens` are a whole number of calls within limits::undo.
  virtual bool can_undo(int tokens) const noexcept = 0;
  /// Takes back the newest `tokens`. Precondition: can_undo(tokens).
  virtual void undo(int tokens) noexcept = 0;
  /// Positions [first, last) stay until unpin(). False, and nothing changed, where they don't fit.
  virtual bool pin(position first, position last) noexcept = 0;
  /// False when there is no such pin.
  virtual bool unpin(position first, position last) noexcept = 0;
  /// Empties it, pins too.
  virtual void reset() noexcept = 0;
  /// Whether `other` was made with the same policy, formats and sizes.
  virtual bool alike(const layer_memory& other) const noexcept = 0;
  /// Becomes a copy of `other` that goes on independently. Precondition: alike(other).
  virtual void copy_from(const layer_memory& other) noexcept = 0;

  /// Position of the next token.
  virtual position next_position() const noexcept = 0;
  /// States that `lane` keeps after a reduction.
  virtual int budget(int lane) const noexcept = 0;
  /// States that `lane` holds now.
  virtual int live(int lane) const noexcept = 0;
  /// [n] by slot, -1 at a hole; valid until the next change.
  virtual std::span<const position> positions(int lane) const noexcept = 0;

 protected:
  layer_memory() = default;
  traits properties_;
  std::optional<overflow> overflowed_;
};

}  // namespace multistate
