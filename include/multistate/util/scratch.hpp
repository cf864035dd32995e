#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <multistate/util/assert.hpp>

namespace multistate::detail {

/// Hands out arrays from the caller's bytes, each on a cache line; gives nothing back before it ends.
class scratch {
 public:
  static constexpr std::size_t alignment_bytes = 64;
  template <class T>
  static constexpr std::size_t bytes(std::size_t count) noexcept {
    return (count * sizeof(T) + alignment_bytes - 1) / alignment_bytes * alignment_bytes;
  }

  explicit scratch(std::span<std::byte> memory) noexcept : at_(memory.data()), left_(memory.size()) {
    const std::size_t past = reinterpret_cast<std::uintptr_t>(at_) % alignment_bytes;
    if (past != 0) skip(alignment_bytes - past);
  }
  /// Elements are not initialised.
  template <class T>
  std::span<T> take(std::size_t count) noexcept {
    T* data = reinterpret_cast<T*>(at_);
    skip(bytes<T>(count));
    return {data, count};
  }

 private:
  void skip(std::size_t n) noexcept {
    MULTISTATE_ASSERT(n <= left_);
    at_ += n;
    left_ -= n;
  }
  std::byte* at_;
  std::size_t left_;
};

}  // namespace multistate::detail
