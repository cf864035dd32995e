#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <multistate/types/format.hpp>
#include <multistate/util/bytes.hpp>

namespace multistate {

/// How the numbers of a GGUF tensor lie: in blocks of `values` numbers, `bytes` long.
struct gguf_block {
  std::uint32_t id = 0;
  std::string_view name;
  std::size_t values = 1, bytes = 0;
  void (*decode)(std::span<const std::byte> block, float* to) noexcept = nullptr;  ///< [bytes] to [values]
};

namespace detail::gguf_decode {

using bytes_view = std::span<const std::byte>;

inline float half(bytes_view b, std::size_t at) noexcept { return f16::load(load_at<std::uint16_t>(b, at)); }
inline unsigned byte(bytes_view b, std::size_t at) noexcept { return std::to_integer<unsigned>(b[at]); }
inline float whole(unsigned bits) noexcept { return static_cast<float>(static_cast<int>(bits)); }
inline float whole(int number) noexcept { return static_cast<float>(number); }
inline int signed_byte(bytes_view b, std::size_t at) noexcept { return load_at<std::int8_t>(b, at); }

inline void f32_value(bytes_view b, float* y) noexcept { *y = load_at<float>(b, 0); }
inline void f16_value(bytes_view b, float* y) noexcept { *y = half(b, 0); }
inline void bf16_value(bytes_view b, float* y) noexcept { *y = bf16::load(load_at<std::uint16_t>(b, 0)); }

/// 32 numbers of 4 bits: the low ones first, value(nibble, place).
template <class Value>
void nibbles(bytes_view packed, float* y, const Value& value) noexcept {
  for (std::size_t i = 0; i < 16; ++i) {
    y[i] = value(byte(packed, i) & 15, i);
    y[i + 16] = value(byte(packed, i) >> 4, i + 16);
  }
}

inline void q4_0(bytes_view b, float* y) noexcept {
  const float d = half(b, 0);
  nibbles(b.subspan(2), y, [d](unsigned q, std::size_t) { return d * (whole(q) - 8.0f); });
}
inline void q4_1(bytes_view b, float* y) noexcept {
  const float d = half(b, 0), m = half(b, 2);
  nibbles(b.subspan(4), y, [d, m](unsigned q, std::size_t) { return whole(q) * d + m; });
}
inline void q5_0(bytes_view b, float* y) noexcept {
  const float d = half(b, 0);
  const auto fifth = load_at<std::uint32_t>(b, 2);
  nibbles(b.subspan(6), y,
          [d, fifth](unsigned q, std::size_t i) { return d * (whole(q | ((fifth >> i & 1) << 4)) - 16.0f); });
}
inline void q5_1(bytes_view b, float* y) noexcept {
  const float d = half(b, 0), m = half(b, 2);
  const auto fifth = load_at<std::uint32_t>(b, 4);
  nibbles(b.subspan(8), y,
          [d, m, fifth](unsigned q, std::size_t i) { return whole(q | ((fifth >> i & 1) << 4)) * d + m; });
}
inline void q8_0(bytes_view b, float* y) noexcept {
  const float d = half(b, 0);
  for (std::size_t i = 0; i < 32; ++i) y[i] = d * whole(signed_byte(b, 2 + i));
}

struct scale_and_min {
  unsigned scale, min;
};
/// The 6-bit scale and minimum of one of 8 groups, out of 12 bytes.
inline scale_and_min group_of(bytes_view packed, std::size_t group) noexcept {
  if (group < 4) return {byte(packed, group) & 63, byte(packed, group + 4) & 63};
  return {(byte(packed, group + 4) & 15) | (byte(packed, group - 4) >> 6) << 4,
          (byte(packed, group + 4) >> 4) | (byte(packed, group) >> 6) << 4};
}

/// Q4_K and Q5_K: d, minimum's d, 12 bytes of scales; a fifth bit for each number where there are any; nibbles.
template <bool Fifth>
void q45_k(bytes_view b, float* y) noexcept {
  const float d = half(b, 0), least = half(b, 2);
  const bytes_view scales = b.subspan(4, 12), high = b.subspan(16, Fifth ? 32 : 0), low = b.subspan(Fifth ? 48 : 16);
  for (std::size_t group = 0; group < 8; ++group) {
    const auto [scale, min] = group_of(scales, group);
    const float step = d * whole(scale), base = least * whole(min);
    for (std::size_t i = 0; i < 32; ++i) {
      unsigned q = byte(low, group / 2 * 32 + i) >> (group % 2 * 4) & 15;
      if constexpr (Fifth) q |= (byte(high, i) >> group & 1) << 4;
      y[group * 32 + i] = step * whole(q) - base;
    }
  }
}
inline void q6_k(bytes_view b, float* y) noexcept {
  const float d = half(b, 208);
  for (std::size_t i = 0; i < 256; ++i) {
    // Halves of 128 numbers: four runs of 32, whose low 4 bits share 64 bytes and high 2 bits share 32.
    const std::size_t part = i / 128, run = i % 128 / 32, at = i % 32;
    const unsigned low = byte(b, part * 64 + run % 2 * 32 + at) >> (run / 2 * 4) & 15;
    const unsigned high = byte(b, 128 + part * 32 + at) >> (run * 2) & 3;
    y[i] = d * whole(signed_byte(b, 192 + i / 16)) * (whole(low | high << 4) - 32.0f);
  }
}

inline constexpr std::array<std::int8_t, 16> iq4_values = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                           1,    13,   25,  38,  53,  69,  89,  113};
inline void iq4_nl(bytes_view b, float* y) noexcept {
  const float d = half(b, 0);
  nibbles(b.subspan(2), y, [d](unsigned q, std::size_t) { return d * whole(int{iq4_values[q]}); });
}
inline void iq4_xs(bytes_view b, float* y) noexcept {
  const float d = half(b, 0);
  const auto high = load_at<std::uint16_t>(b, 2);
  for (std::size_t group = 0; group < 8; ++group) {
    const unsigned low = byte(b, 4 + group / 2) >> (group % 2 * 4) & 15;
    const float step = d * (whole(low | (high >> (2 * group) & 3u) << 4) - 32.0f);
    nibbles(b.subspan(8 + group * 16, 16), y + group * 32,
            [step](unsigned q, std::size_t) { return step * whole(int{iq4_values[q]}); });
  }
}

/// Doubled, so that half the scale makes them whole.
inline constexpr std::array<std::int8_t, 16> e2m1_doubled = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
inline void mxfp4(bytes_view b, float* y) noexcept {
  const std::uint32_t e = byte(b, 0);  // 2^(e - 128): half of the scale 2^(e - 127)
  const float half_scale = std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23);
  nibbles(b.subspan(1), y, [half_scale](unsigned q, std::size_t) { return whole(int{e2m1_doubled[q]}) * half_scale; });
}

}  // namespace detail::gguf_decode

/// All types that are read, as ggml numbers and names them (ggml-common.h, ggml-quants.c).
inline constexpr std::array<gguf_block, 14> gguf_blocks = {{
    {0, "F32", 1, 4, detail::gguf_decode::f32_value},
    {1, "F16", 1, 2, detail::gguf_decode::f16_value},
    {30, "BF16", 1, 2, detail::gguf_decode::bf16_value},
    {2, "Q4_0", 32, 18, detail::gguf_decode::q4_0},
    {3, "Q4_1", 32, 20, detail::gguf_decode::q4_1},
    {6, "Q5_0", 32, 22, detail::gguf_decode::q5_0},
    {7, "Q5_1", 32, 24, detail::gguf_decode::q5_1},
    {8, "Q8_0", 32, 34, detail::gguf_decode::q8_0},
    {12, "Q4_K", 256, 144, detail::gguf_decode::q45_k<false>},
    {13, "Q5_K", 256, 176, detail::gguf_decode::q45_k<true>},
    {14, "Q6_K", 256, 210, detail::gguf_decode::q6_k},
    {20, "IQ4_NL", 32, 18, detail::gguf_decode::iq4_nl},
    {23, "IQ4_XS", 256, 136, detail::gguf_decode::iq4_xs},
    {39, "MXFP4", 32, 17, detail::gguf_decode::mxfp4},
}};

/// Null: a type that is not read.
constexpr const gguf_block* find_gguf_block(std::uint32_t id) noexcept {
  for (const gguf_block& block : gguf_blocks)
    if (block.id == id) return &block;
  return nullptr;
}

/// The name of a type that ggml has and this library does not read; "" where ggml has none either.
constexpr std::string_view unread_gguf_block(std::uint32_t id) noexcept {
  struct named {
    std::uint32_t id;
    std::string_view name;
  };
  constexpr std::array<named, 23> others = {
      {{9, "Q8_1"},     {10, "Q2_K"},  {11, "Q3_K"},  {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"},
       {18, "IQ3_XXS"}, {19, "IQ1_S"}, {21, "IQ3_S"}, {22, "IQ2_S"}, {24, "I8"},      {25, "I16"},
       {26, "I32"},     {27, "I64"},   {28, "F64"},   {29, "IQ1_M"}, {34, "TQ1_0"},   {35, "TQ2_0"},
       {40, "NVFP4"},   {41, "Q1_0"},  {42, "Q2_0"},  {4, "Q4_2"},   {5, "Q4_3"}}};
  for (const named& other : others)
    if (other.id == id) return other.name;
  return {};
}

}  // namespace multistate
