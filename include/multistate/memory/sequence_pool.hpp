#pragma once

#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include <multistate/memory/sequence_memory.hpp>
#include <multistate/state/multi_state.hpp>
#include <multistate/util/assert.hpp>
#include <multistate/util/buffer.hpp>
#include <multistate/types/error.hpp>

namespace multistate {

/// Memories of many sequences that come and go, all made alike, their states in one block. Allocates in make() only.
/// Joining, forking and leaving is for one thread at a time, between the calls that work on the memories.
class sequence_pool {
 public:
  /// Room for `count` sequences. make_one(arena) -> result<sequence_memory> makes one whose states lie in the arena
  /// (memory_setup::states), always with the same settings; the first, with a null arena, only tells the size.
  template <class Make>
  static result<sequence_pool> make(int count, const Make& make_one) {
    if (count < 1) return error(errc::bad_limits, "sequence pool: has room for at least 1 sequence; got ", count);
    std::size_t each = 0;
    {
      auto measured = make_one(arena{});
      if (!measured) return measured.reason();
      each = measured->arena_bytes();
    }
    sequence_pool pool;
    if (each > (std::numeric_limits<std::size_t>::max)() / to_size(count) ||
        !pool.states_.allocate(each * to_size(count)))
      return error(errc::out_of_memory, "sequence pool: no memory for ", count, " times ", each, " bytes of states");
    for (std::size_t i = 0; i < to_size(count); ++i) {
      auto made = make_one(arena{pool.states_.data() + i * each, each});
      if (!made) return made.reason();
      pool.sequences_.push_back(std::move(*made));
      pool.free_.push_back(to_size(count) - 1 - i);
    }
    pool.used_.resize(to_size(count));
    return pool;
  }

  /// An empty memory, as new; null when all are in use.
  [[nodiscard]] sequence_memory* join() noexcept {
    if (free_.empty()) return nullptr;
    return take();
  }
  /// A copy that goes on independently; null when all are in use, when `other` was not made alike, and where one can't
  /// be copied: it waits for reduce(accepted).
  [[nodiscard]] sequence_memory* fork(const sequence_memory& other) noexcept {
    if (free_.empty() || !sequences_[free_.back()].copy_from(other)) return nullptr;
    return take();
  }
  /// Gives a memory back, whatever is in it; its observer is forgotten. Precondition: join() or fork() gave it, and it
  /// has not left since.
  void leave(sequence_memory* sequence) noexcept {
    const std::size_t i = index(sequence);
    MULTISTATE_ASSERT(i < sequences_.size() && used_[i]);
    sequence->watch(nullptr);
    sequence->reset();
    used_[i] = false;
    free_.push_back(i);
  }

  int capacity() const noexcept { return static_cast<int>(sequences_.size()); }
  int in_use() const noexcept { return static_cast<int>(sequences_.size() - free_.size()); }
  /// All memory of all sequences, in use or not.
  std::size_t bytes() const noexcept {
    std::size_t sum = 0;
    for (const sequence_memory& s : sequences_) sum += s.bytes();
    return sum;
  }

 private:
  sequence_memory* take() noexcept {
    const std::size_t i = free_.back();
    free_.pop_back();
    used_[i] = true;
    return &sequences_[i];
  }
  /// sequences_.size() when it is none of ours.
  std::size_t index(const sequence_memory* sequence) const noexcept {
    std::size_t i = 0;
    while (i < sequences_.size() && &sequences_[i] != sequence) ++i;
    return i;
  }

  buffer<std::byte> states_;                ///< [capacity][sequence_memory::arena_bytes()]
  std::vector<sequence_memory> sequences_;  ///< [capacity]; those that are not in use are empty
  std::vector<std::size_t> free_;           ///< their indices, the next one last; room for all
  std::vector<bool> used_;                  ///< [capacity]
};

}  // namespace multistate
