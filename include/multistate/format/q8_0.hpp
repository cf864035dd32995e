#pragma once

#include <bit>
#include <cmath>

#include <multistate/format/block.hpp>

namespace multistate {

/// 32 whole numbers of [-127, 127] after a half-precision scale.
struct q8_0 {
  static constexpr std::string_view name = "q8_0";
  static constexpr std::size_t elements = 32;
  static constexpr std::size_t bytes = 34;
  static void load(float* to, const std::byte* from) noexcept {
    const float scale = detail::half_at(from);
    for (std::size_t i = 0; i < elements; ++i) to[i] = scale * static_cast<float>(detail::signed_byte(from[2 + i]));
  }
  /// Numbers are divided by the scale before it is rounded. Precondition: finite numbers below 65504 * 127.
  static void store(std::byte* to, const float* from) noexcept {
    float largest = 0.0f;
    for (std::size_t i = 0; i < elements; ++i) largest = std::fmax(largest, std::fabs(from[i]));
    const float scale = largest / 127.0f;
    const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
    const std::uint16_t half = detail::float_to_half(scale);
    std::memcpy(to, &half, sizeof half);
    for (std::size_t i = 0; i < elements; ++i)
      to[2 + i] = std::bit_cast<std::byte>(static_cast<std::int8_t>(std::lrintf(from[i] * inverse)));
  }
};

}  // namespace multistate
