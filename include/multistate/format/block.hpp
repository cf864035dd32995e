#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <multistate/format/element.hpp>

namespace multistate {

/// A format in which a few elements share a scale: `elements` numbers lie in `bytes` bytes, and load() makes [elements]
/// floats of them. The layouts, their names and their values are those of GGUF files.
template <class F>
concept block_format = requires(float* to, const std::byte* from) {
  { F::elements } -> std::convertible_to<std::size_t>;
  { F::bytes } -> std::convertible_to<std::size_t>;
  { F::load(to, from) } noexcept;
};

namespace detail {

/// The half-precision number at `from`, which may be unaligned.
inline float half_at(const std::byte* from) noexcept {
  std::uint16_t h = 0;
  std::memcpy(&h, from, sizeof h);
  return half_to_float(h);
}
inline std::uint32_t word_at(const std::byte* from) noexcept {
  std::uint32_t w = 0;
  std::memcpy(&w, from, sizeof w);
  return w;
}
constexpr int low_nibble(std::byte b) noexcept { return std::to_integer<int>(b) & 15; }
constexpr int high_nibble(std::byte b) noexcept { return std::to_integer<int>(b) >> 4; }
constexpr int signed_byte(std::byte b) noexcept { return static_cast<std::int8_t>(std::to_integer<std::uint8_t>(b)); }

}  // namespace detail

}  // namespace multistate
