// The blocks of states that attention reads: where their rows lie, and in which order they come.

#if defined(MULTISTATE_ATTENTION_BLOCKS_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_ATTENTION_BLOCKS_INL_HPP_
#undef MULTISTATE_ATTENTION_BLOCKS_INL_HPP_
#else
#define MULTISTATE_ATTENTION_BLOCKS_INL_HPP_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <multistate/attention/elements-inl.hpp>
#include <multistate/attention/options.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/types/task.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {
namespace detail {

/// Where the rows of a block lie; from `count` on the last one again.
struct row_list {
  const std::byte* rows[attention_row_block];
  std::size_t count = 0;
};

/// Rows of one kind, in extents, that are asked for with increasing slots.
struct extent_rows {
  const extent* at;
  const std::byte* extent::*base;
  std::size_t extent::*stride;
  std::size_t first = 0;  // slot of *at

  const std::byte* operator()(std::size_t slot) noexcept {
    while (slot >= first + static_cast<std::size_t>(at->n)) first += static_cast<std::size_t>(at++->n);
    return at->*base + (slot - first) * (at->*stride);
  }
  /// Entries [begin, end) of a list of slots, or slots where there is none; no more than a block.
  template <std::size_t Block>
  void list(std::size_t begin, std::size_t end, const std::uint32_t* index, row_list& to) noexcept {
    to.count = (std::min)(Block, end - begin);
    const std::byte* row = (*this)(index != nullptr ? index[begin] : begin);
    if (index == nullptr && begin + Block <= (std::min)(end, first + static_cast<std::size_t>(at->n))) {
      const std::size_t step = at->*stride;
      for (std::size_t i = 0; i < Block; ++i) to.rows[i] = row + i * step;  // of a known length: compilers use vectors
      return;
    }
    to.rows[0] = row;
    for (std::size_t i = 1; i < to.count; ++i) to.rows[i] = (*this)(index != nullptr ? index[begin + i] : begin + i);
    for (std::size_t i = to.count; i < Block; ++i) to.rows[i] = to.rows[to.count - 1];
  }
};
inline extent_rows keys_of(const attention_task& task) noexcept {
  return {task.kv.extents.data(), &extent::k, &extent::k_stride};
}
inline extent_rows values_of(const attention_task& task) noexcept {
  return {task.kv.extents.data(), &extent::v, &extent::v_stride};
}

/// States of a block: with floats half as many, so that a block and the one that is fetched lie in the first level.
template <class KeyFormat, class ValueFormat>
inline constexpr std::size_t rows_of_block =
    sizeof(typename KeyFormat::element) == 4 || sizeof(typename ValueFormat::element) == 4 ? attention_row_block / 2
                                                                                           : attention_row_block;

/// The blocks of a task in the order in which they are read, part by part its keys, then its values; at last the first
/// keys of the task that follows. Each is known some blocks before it is read, so that it can be fetched.
template <class KeyFormat, class ValueFormat>
class block_stream {
 public:
  /// From part `part` on; `index`: [seen] the slots that are seen, null: slots [0, seen).
  block_stream(const attention_task& task, const attention_task* following, const std::uint32_t* index,
               std::size_t seen, std::size_t part, const shape& dims) noexcept
      : keys_(keys_of(task)),
        values_(values_of(task)),
        following_(following),
        index_(index),
        seen_(seen),
        part_(part),
        at_(part * attention_part) {
    const std::size_t key_bytes = static_cast<std::size_t>(dims.dk) * sizeof(typename KeyFormat::element);
    const std::size_t ahead = std::clamp<std::size_t>(fetch_bytes / (block_rows * key_bytes), 1, most_ahead);
    for (std::size_t i = 0; i < ahead; ++i) list_next();
  }

  /// The next block; it stays until `most_ahead` more were taken.
  const row_list& take() noexcept {
    list_next();
    return lists_[taken_++ % slots];
  }
  /// What to fetch meanwhile: the block that was listed last; when all are listed, that one again.
  const std::byte* newest() const noexcept { return newest_; }

 private:
  static constexpr std::size_t block_rows = rows_of_block<KeyFormat, ValueFormat>;
  static constexpr std::size_t fetch_bytes = 8192;  ///< what lies between a block and its use
  static constexpr std::size_t most_ahead = 4;
  static constexpr std::size_t slots = 8;

  void list_next() noexcept {
    row_list& to = lists_[listed_++ % slots];
    const std::size_t end = part_end(part_, seen_);
    if (at_ >= seen_) {
      if (!list_following(to)) return;
    } else if (reading_values_) {
      values_.list<block_rows>(at_, end, index_, to);
      at_ += block_rows;
      if (at_ >= end) {
        reading_values_ = false;
        at_ = end;
        ++part_;
      }
    } else {
      keys_.list<block_rows>(at_, end, index_, to);
      at_ += block_rows;
      if (at_ >= end) {
        at_ = part_ * attention_part;
        reading_values_ = true;
      }
    }
    newest_ = to.rows[0];
  }
  bool list_following(row_list& to) noexcept {
    if (following_ == nullptr || following_at_ >= static_cast<std::size_t>(following_->kv.n)) return false;
    keys_of(*following_).list<block_rows>(following_at_, static_cast<std::size_t>(following_->kv.n), nullptr, to);
    following_at_ += block_rows;
    return true;
  }

  extent_rows keys_, values_;
  const attention_task* following_;
  const std::uint32_t* index_;
  std::size_t seen_, part_, at_;
  std::size_t following_at_ = 0;
  std::size_t listed_ = 0, taken_ = 0;
  bool reading_values_ = false;
  const std::byte* newest_ = nullptr;
  row_list lists_[slots];
};

}  // namespace detail
}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_ATTENTION_BLOCKS_INL_HPP_
