#pragma once

#include <array>
#include <bit>

#include <multistate/format/block.hpp>

namespace multistate {

namespace detail {

/// 32 numbers of 4 bits that are places in a table of 16: byte i holds numbers i and i + 16.
inline void load_from_table(float* to, const std::byte* from, const std::array<std::int8_t, 16>& table,
                            float scale) noexcept {
  for (std::size_t i = 0; i < 16; ++i) {
    to[i] = scale * static_cast<float>(table[static_cast<std::size_t>(low_nibble(from[i]))]);
    to[16 + i] = scale * static_cast<float>(table[static_cast<std::size_t>(high_nibble(from[i]))]);
  }
}

inline constexpr std::array<std::int8_t, 16> iq4_table{-127, -104, -83, -65, -49, -35, -22, -10,
                                                       1,    13,   25,  38,  53,  69,  89,  113};
/// Twice the numbers of one sign, two exponent and one mantissa bit.
inline constexpr std::array<std::int8_t, 16> e2m1_table{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
/// Half of 2^(e - 127), as that table holds twice the numbers; the two smallest are subnormal.
inline float mxfp4_scale(std::byte exponent) noexcept {
  const auto e = std::to_integer<std::uint32_t>(exponent);
  return std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23);
}

}  // namespace detail

/// 32 numbers of 4 bits from a table of unequal steps, after a half-precision scale.
struct iq4_nl {
  static constexpr std::string_view name = "iq4_nl";
  static constexpr std::size_t elements = 32;
  static constexpr std::size_t bytes = 18;
  static void load(float* to, const std::byte* from) noexcept {
    detail::load_from_table(to, from + 2, detail::iq4_table, detail::half_at(from));
  }
};

/// The same table for 256 numbers in eight parts of 32, each with a scale of 6 bits: two high bits of all parts in a
/// word of 16 bits, four low ones in 4 bytes.
struct iq4_xs {
  static constexpr std::string_view name = "iq4_xs";
  static constexpr std::size_t elements = 256;
  static constexpr std::size_t bytes = 136;
  static void load(float* to, const std::byte* from) noexcept {
    const float scale = detail::half_at(from);
    std::uint16_t high = 0;
    std::memcpy(&high, from + 2, sizeof high);
    for (std::size_t part = 0; part < 8; ++part) {
      const std::byte packed = from[4 + part / 2];
      const int low = part % 2 == 0 ? detail::low_nibble(packed) : detail::high_nibble(packed);
      const int bits = low | (((high >> (2 * part)) & 3) << 4);
      detail::load_from_table(to + 32 * part, from + 8 + 16 * part, detail::iq4_table,
                              scale * static_cast<float>(bits - 32));
    }
  }
};

/// 32 numbers of 4 bits with an exponent after a shared exponent of 8 bits (OCP Microscaling Formats 1.0).
struct mxfp4 {
  static constexpr std::string_view name = "mxfp4";
  static constexpr std::size_t elements = 32;
  static constexpr std::size_t bytes = 17;
  static void load(float* to, const std::byte* from) noexcept {
    detail::load_from_table(to, from + 1, detail::e2m1_table, detail::mxfp4_scale(from[0]));
  }
};

}  // namespace multistate
