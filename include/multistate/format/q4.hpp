#pragma once

#include <multistate/format/block.hpp>

namespace multistate {

/// 32 numbers of 4 bits after a half-precision scale: scale * (n - 8). A byte holds numbers i and i + 16.
struct q4_0 {
  static constexpr std::string_view name = "q4_0";
  static constexpr std::size_t elements = 32;
  static constexpr std::size_t bytes = 18;
  static void load(float* to, const std::byte* from) noexcept {
    const float scale = detail::half_at(from);
    for (std::size_t i = 0; i < 16; ++i) {
      to[i] = scale * static_cast<float>(detail::low_nibble(from[2 + i]) - 8);
      to[16 + i] = scale * static_cast<float>(detail::high_nibble(from[2 + i]) - 8);
    }
  }
};

/// 32 numbers of 4 bits after a scale and a smallest value, both half-precision: scale * n + smallest.
struct q4_1 {
  static constexpr std::string_view name = "q4_1";
  static constexpr std::size_t elements = 32;
  static constexpr std::size_t bytes = 20;
  static void load(float* to, const std::byte* from) noexcept {
    const float scale = detail::half_at(from), smallest = detail::half_at(from + 2);
    for (std::size_t i = 0; i < 16; ++i) {
      to[i] = scale * static_cast<float>(detail::low_nibble(from[4 + i])) + smallest;
      to[16 + i] = scale * static_cast<float>(detail::high_nibble(from[4 + i])) + smallest;
    }
  }
};

}  // namespace multistate
