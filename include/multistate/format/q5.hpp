#pragma once

#include <multistate/format/block.hpp>

namespace multistate {

namespace detail {

/// f(i, n) for the 32 numbers of 5 bits whose fifth bits lie in the word `high` and the others in 16 bytes after it.
template <class F>
void for_five_bits(const std::byte* high, const F& f) noexcept {
  const std::uint32_t fifth = word_at(high);
  const std::byte* low = high + sizeof fifth;
  for (std::size_t i = 0; i < 16; ++i) {
    f(i, low_nibble(low[i]) | static_cast<int>(((fifth >> i) & 1u) << 4));
    f(16 + i, high_nibble(low[i]) | static_cast<int>(((fifth >> (16 + i)) & 1u) << 4));
  }
}

}  // namespace detail

/// 32 numbers of 5 bits after a half-precision scale: scale * (n - 16).
struct q5_0 {
  static constexpr std::string_view name = "q5_0";
  static constexpr std::size_t elements = 32;
  static constexpr std::size_t bytes = 22;
  static void load(float* to, const std::byte* from) noexcept {
    const float scale = detail::half_at(from);
    detail::for_five_bits(from + 2, [=](std::size_t i, int n) { to[i] = scale * static_cast<float>(n - 16); });
  }
};

/// 32 numbers of 5 bits after a scale and a smallest value, both half-precision: scale * n + smallest.
struct q5_1 {
  static constexpr std::string_view name = "q5_1";
  static constexpr std::size_t elements = 32;
  static constexpr std::size_t bytes = 24;
  static void load(float* to, const std::byte* from) noexcept {
    const float scale = detail::half_at(from), smallest = detail::half_at(from + 2);
    detail::for_five_bits(from + 4, [=](std::size_t i, int n) { to[i] = scale * static_cast<float>(n) + smallest; });
  }
};

}  // namespace multistate
