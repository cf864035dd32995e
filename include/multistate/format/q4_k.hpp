#pragma once

#include <multistate/format/block.hpp>

namespace multistate {

namespace detail {

/// What q4_k and q5_k share: a block begins with two half-precision numbers and 12 bytes that hold a scale and a
/// minimum of 6 bits for each of eight parts of 32 numbers.
struct k_part {
  float scale = 0.0f;
  float minimum = 0.0f;

  static k_part of(const std::byte* block, std::size_t part) noexcept {
    const std::byte* packed = block + 4;
    const auto at = [packed](std::size_t i) { return std::to_integer<int>(packed[i]); };
    const int scale = part < 4 ? at(part) & 63 : (at(part + 4) & 15) | ((at(part - 4) >> 6) << 4);
    const int minimum = part < 4 ? at(part + 4) & 63 : (at(part + 4) >> 4) | ((at(part) >> 6) << 4);
    return {half_at(block) * static_cast<float>(scale), half_at(block + 2) * static_cast<float>(minimum)};
  }
  float value(int n) const noexcept { return scale * static_cast<float>(n) - minimum; }
};

}  // namespace detail

/// 256 numbers of 4 bits in eight parts: scale * n - minimum. 32 bytes hold two parts.
struct q4_k {
  static constexpr std::string_view name = "q4_k";
  static constexpr std::size_t elements = 256;
  static constexpr std::size_t bytes = 144;
  static void load(float* to, const std::byte* from) noexcept {
    for (std::size_t pair = 0; pair < 4; ++pair) {
      const auto first = detail::k_part::of(from, 2 * pair), second = detail::k_part::of(from, 2 * pair + 1);
      const std::byte* low = from + 16 + 32 * pair;
      for (std::size_t i = 0; i < 32; ++i) {
        to[64 * pair + i] = first.value(detail::low_nibble(low[i]));
        to[64 * pair + 32 + i] = second.value(detail::high_nibble(low[i]));
      }
    }
  }
};

/// The same with 5 bits: the fifth of number i of every part lies in byte i of the 32 after the scales.
struct q5_k {
  static constexpr std::string_view name = "q5_k";
  static constexpr std::size_t elements = 256;
  static constexpr std::size_t bytes = 176;
  static void load(float* to, const std::byte* from) noexcept {
    const std::byte* fifth = from + 16;
    for (std::size_t pair = 0; pair < 4; ++pair) {
      const auto first = detail::k_part::of(from, 2 * pair), second = detail::k_part::of(from, 2 * pair + 1);
      const std::byte* low = from + 48 + 32 * pair;
      for (std::size_t i = 0; i < 32; ++i) {
        const int bits = std::to_integer<int>(fifth[i]) >> (2 * pair);
        to[64 * pair + i] = first.value(detail::low_nibble(low[i]) | ((bits & 1) << 4));
        to[64 * pair + 32 + i] = second.value(detail::high_nibble(low[i]) | ((bits & 2) << 3));
      }
    }
  }
};

}  // namespace multistate
