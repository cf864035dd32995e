#pragma once

#include <bit>
#include <cstdint>

namespace multistate {

// Asked of the bits: with -ffinite-math-only (part of -ffast-math) compilers take it for granted that std::isfinite is
// true and that nothing equals infinity.

/// Neither NaN nor infinite.
constexpr bool is_finite(float x) noexcept { return (std::bit_cast<std::uint32_t>(x) & 0x7f800000u) != 0x7f800000u; }
constexpr bool is_finite(double x) noexcept {
  constexpr std::uint64_t exponent = 0x7ff0000000000000u;
  return (std::bit_cast<std::uint64_t>(x) & exponent) != exponent;
}

constexpr bool is_nan(float x) noexcept { return (std::bit_cast<std::uint32_t>(x) & 0x7fffffffu) > 0x7f800000u; }

/// What a mask gives for a logit.
constexpr bool is_minus_infinity(float x) noexcept { return std::bit_cast<std::uint32_t>(x) == 0xff800000u; }
constexpr bool is_minus_infinity(double x) noexcept { return std::bit_cast<std::uint64_t>(x) == 0xfff0000000000000u; }
constexpr bool is_minus_infinity(long double x) noexcept { return is_minus_infinity(static_cast<double>(x)); }

}  // namespace multistate
