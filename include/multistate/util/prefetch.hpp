#pragma once

#include <cstddef>
#include <span>

namespace multistate {

/// Asks for memory that will be read and written soon; nothing else happens. A few KiB at a time: what a processor
/// can't ask for at once it drops.
template <class T>
void prefetch([[maybe_unused]] std::span<T> memory) noexcept {
#if defined(__GNUC__)
  constexpr std::size_t line = 64;  // bytes
  const auto bytes = std::as_bytes(memory);
  for (std::size_t at = 0; at < bytes.size(); at += line) {
    __builtin_prefetch(bytes.data() + at, 1);
    asm volatile("");  // g++ drops calls of a function that does no more than fetch
  }
#endif
}

}  // namespace multistate
