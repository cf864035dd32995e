#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include <multistate/util/finite.hpp>

namespace multistate {

namespace detail {

constexpr float half_to_float(std::uint16_t h) noexcept {
  const std::uint32_t sign = (h & 0x8000u) << 16;
  const std::uint32_t exponent = (h >> 10) & 0x1fu;
  const std::uint32_t mantissa = h & 0x3ffu;
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24, exact in float
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  const std::uint32_t wide = exponent == 31 ? 255u : exponent + 112u;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

/// Round to nearest, ties to even; NaN stays NaN, too large becomes infinity.
constexpr std::uint16_t float_to_half(float f) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(f);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x47800000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 2^16 and above
  if (magnitude < 0x38800000u) {  // below 2^-14: the sum with 0.5 leaves the rounded subnormal in the low bits
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  }
  const std::uint32_t odd = (magnitude >> 13) & 1u;
  return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

constexpr float bfloat_to_float(std::uint16_t b) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(b) << 16);
}

/// Round to nearest, ties to even; NaN stays NaN.
constexpr std::uint16_t float_to_bfloat(float f) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(f);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace detail

/// Element formats of stored keys and values, as types: keys and values choose apart.
struct f32 {
  using element = float;
  static constexpr std::string_view name = "f32";
  static constexpr float load(element e) noexcept { return e; }
  static constexpr element store(float f) noexcept { return f; }
};
struct f16 {
  using element = std::uint16_t;
  static constexpr std::string_view name = "f16";
  static constexpr float overflow = 65520.0f;  ///< the smallest magnitude that becomes infinite
  static constexpr float load(element e) noexcept { return detail::half_to_float(e); }
  static constexpr element store(float f) noexcept { return detail::float_to_half(f); }
};
struct bf16 {
  using element = std::uint16_t;
  static constexpr std::string_view name = "bf16";
  static constexpr float overflow = 0x1.ffp127f;  ///< the smallest magnitude that becomes infinite
  static constexpr float load(element e) noexcept { return detail::bfloat_to_float(e); }
  static constexpr element store(float f) noexcept { return detail::float_to_bfloat(f); }
};
/// Whole numbers of [-127, 127] times a scale of the row, a float behind its elements: the largest is 127 scales.
struct i8 {
  using element = std::int8_t;
  static constexpr std::string_view name = "i8";
  static constexpr bool scaled = true;
  static constexpr float load(element e) noexcept { return static_cast<float>(e); }
};

/// Whether rows of the format end with a scale.
template <class Format>
inline constexpr bool is_scaled = requires { requires Format::scaled; };

/// Whether a finite one of the n floats becomes infinite when they are stored as a row.
template <class Format>
bool overflows([[maybe_unused]] const float* from, [[maybe_unused]] std::size_t n) noexcept {
  bool any = false;
  if constexpr (requires { Format::overflow; })
    for (std::size_t i = 0; i < n; ++i) {
      const float magnitude = std::fabs(from[i]);
      any |= magnitude >= Format::overflow && is_finite(magnitude);
    }
  return any;
}

/// Bytes of a row of n elements, and its scale if it has one.
template <class Format>
constexpr std::size_t row_bytes(int n) noexcept {
  return static_cast<std::size_t>(n) * sizeof(typename Format::element) + (is_scaled<Format> ? sizeof(float) : 0);
}

/// What the elements of a row of n are multiplied by.
template <class Format>
float row_scale([[maybe_unused]] const std::byte* row, [[maybe_unused]] std::size_t n) noexcept {
  float scale = 1.0f;
  if constexpr (is_scaled<Format>) std::memcpy(&scale, row + n * sizeof(typename Format::element), sizeof scale);
  return scale;
}

/// from [n] to a row. With a scale, rounded to nearest; a row with NaN or infinities is all NaN.
template <class Format>
void store_row(std::byte* row, const float* from, int n) noexcept {
  const auto count = static_cast<std::size_t>(n);
  float scale = 1.0f;
  if constexpr (is_scaled<Format>) {
    std::uint32_t bits = 0;  // of the largest magnitude: they order like the numbers, NaN above infinity
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(from[i]) & 0x7fffffffu;
      bits = magnitude > bits ? magnitude : bits;
    }
    const auto largest = std::bit_cast<float>(bits);
    const bool finite = is_finite(largest);
    scale = std::bit_cast<float>(finite ? std::bit_cast<std::uint32_t>(largest / 127.0f) : 0x7fc00000u);
    const float inverse = largest > 1e-30f ? 127.0f / largest : 0.0f;  // smaller ones are zeros
    for (std::size_t i = 0; i < count; ++i) {
      const float scaled = finite ? from[i] * inverse : 1.0f;
      const auto e = static_cast<typename Format::element>(std::lrintf(scaled));
      std::memcpy(row + i * sizeof e, &e, sizeof e);
    }
    std::memcpy(row + count * sizeof(typename Format::element), &scale, sizeof scale);
  } else {
    for (std::size_t i = 0; i < count; ++i) {
      const typename Format::element e = Format::store(from[i]);
      std::memcpy(row + i * sizeof e, &e, sizeof e);
    }
  }
}

/// A row to [n] floats.
template <class Format>
void load_row(float* to, const std::byte* row, int n) noexcept {
  const auto count = static_cast<std::size_t>(n);
  const float scale = row_scale<Format>(row, count);
  for (std::size_t i = 0; i < count; ++i) {
    typename Format::element e;
    std::memcpy(&e, row + i * sizeof e, sizeof e);
    to[i] = is_scaled<Format> ? Format::load(e) * scale : Format::load(e);
  }
}

/// Whether a row of n elements holds neither NaN nor infinities.
template <class Format>
bool finite_row(const std::byte* row, int n) noexcept {
  const auto count = static_cast<std::size_t>(n);
  if constexpr (is_scaled<Format>) return is_finite(row_scale<Format>(row, count));
  bool all = true;
  for (std::size_t i = 0; i < count; ++i) {
    typename Format::element e;
    std::memcpy(&e, row + i * sizeof e, sizeof e);
    all = all && is_finite(Format::load(e));
  }
  return all;
}

}  // namespace multistate
