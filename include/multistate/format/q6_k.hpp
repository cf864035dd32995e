#pragma once

#include <multistate/format/block.hpp>

namespace multistate {

/// 256 numbers of 6 bits: scale of the block * scale of 16 numbers * (n - 32). The low four bits lie in the first 128
/// bytes, the high two in the next 64, then 16 scales of a byte, then the block's scale.
struct q6_k {
  static constexpr std::string_view name = "q6_k";
  static constexpr std::size_t elements = 256;
  static constexpr std::size_t bytes = 210;
  static void load(float* to, const std::byte* from) noexcept {
    const float scale = detail::half_at(from + 208);
    for (std::size_t half = 0; half < 2; ++half) {
      const std::byte* low = from + 64 * half;
      const std::byte* high = from + 128 + 32 * half;
      const std::byte* scales = from + 192 + 8 * half;
      for (std::size_t quarter = 0; quarter < 4; ++quarter)
        for (std::size_t i = 0; i < 32; ++i) {
          const std::byte four = low[32 * (quarter % 2) + i];
          const int bits = quarter < 2 ? detail::low_nibble(four) : detail::high_nibble(four);
          const int two = (std::to_integer<int>(high[i]) >> (2 * quarter)) & 3;
          const float part = scale * static_cast<float>(detail::signed_byte(scales[2 * quarter + i / 16]));
          to[128 * half + 32 * quarter + i] = part * static_cast<float>((bits | (two << 4)) - 32);
        }
    }
  }
};

}  // namespace multistate
