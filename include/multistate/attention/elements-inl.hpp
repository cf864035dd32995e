// In which order stored keys and values are fetched.

#if defined(MULTISTATE_ATTENTION_ELEMENTS_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_ATTENTION_ELEMENTS_INL_HPP_
#undef MULTISTATE_ATTENTION_ELEMENTS_INL_HPP_
#else
#define MULTISTATE_ATTENTION_ELEMENTS_INL_HPP_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>

#include <multistate/attention/options.hpp>
#include <multistate/simd/vectors-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {

namespace detail {

/// Fetches what will be read next: each step of a tile as many bytes as it reads itself, one after another in the order
/// of memory. A few lines at a time: prefetches beyond what a core can wait for are dropped, and a burst of loads makes
/// hardware prefetchers lose the thread. Rows that don't follow one another are met at the first row of each block.
template <class Format>
class row_fetcher {
 public:
  explicit row_fetcher(const std::byte* first_row) noexcept : at_(reinterpret_cast<std::uintptr_t>(first_row)) {}

  /// The elements that fill so many vectors of floats.
  template <std::size_t Vectors>
  HWY_INLINE void fetch() noexcept {
    const std::size_t bytes = Vectors * hn::Lanes(lanes_tag()) * sizeof(typename Format::element);
    for (std::size_t i = 0; i < bytes; i += cache_line) fetch_at(at_ + i);
    at_ += bytes;
  }

 private:
  std::uintptr_t at_;
};

/// The states of a block: where their rows of one kind lie, from `count` on the last one again.
struct row_block {
  const std::byte* const* rows;  ///< [attention_row_block] or fewer
  std::size_t count;
};

}  // namespace detail
}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_ATTENTION_ELEMENTS_INL_HPP_
