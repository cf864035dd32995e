// Blocks of weights as whole numbers and their scales, compiled once for each SIMD target that includes it.

#if defined(MULTISTATE_MODEL_WHOLE_NUMBERS_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_MODEL_WHOLE_NUMBERS_INL_HPP_
#undef MULTISTATE_MODEL_WHOLE_NUMBERS_INL_HPP_
#else
#define MULTISTATE_MODEL_WHOLE_NUMBERS_INL_HPP_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <multistate/simd/vectors-inl.hpp>
#include <multistate/format/formats.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {
namespace detail {

using bytes_tag = hn::CappedTag<std::uint8_t, 16>;

/// How a block says its numbers: element i is scales[i / part] * n[i], plus minima[i / part] where it has minima.
/// `load` fills n [elements], scales and minima [elements / part].
template <class Format>
struct whole_numbers;

template <class Format>
concept whole_format = requires { whole_numbers<Format>::part; };

HWY_INLINE float load_half(const std::byte* from) {
  const hn::CappedTag<float, 1> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> half;
  return hn::GetLane(hn::PromoteTo(d, load_elements<hwy::float16_t>(half, from)));
}

/// f(i, bytes) for `count` bytes from `from` on, a vector at a time. Precondition: count is a multiple of 16.
template <class F>
HWY_INLINE void for_bytes(const std::byte* from, std::size_t count, const F& f) {
  const std::size_t N = hn::Lanes(bytes_tag());
  for (std::size_t i = 0; i < count; i += N) f(i, load_elements<std::uint8_t>(bytes_tag(), from + i));
}

template <class V>
HWY_INLINE V low_bits(V bytes) {
  return hn::And(bytes, hn::Set(bytes_tag(), std::uint8_t{15}));
}
template <int Shift, class V>
HWY_INLINE V shifted_right(V bytes) {
  return hn::ShiftRight<Shift>(bytes);
}

/// `bytes` less `Zero` as signed numbers.
template <int Zero, class V>
HWY_INLINE void store_numbers(std::int8_t* to, V bytes) {
  const hn::RebindToSigned<bytes_tag> d;
  const auto n = hn::BitCast(d, bytes);
  if constexpr (Zero == 0)
    hn::StoreU(n, d, to);
  else
    hn::StoreU(hn::Sub(n, hn::Set(d, std::int8_t{Zero})), d, to);
}

/// 16 bytes of two halves: numbers i and i + 16.
template <int Zero>
HWY_INLINE void load_nibbles(std::int8_t* n, const std::byte* from) {
  for_bytes(from, 16, [n](std::size_t i, auto bytes) HWY_ATTR {
    store_numbers<Zero>(n + i, low_bits(bytes));
    store_numbers<Zero>(n + 16 + i, shifted_right<4>(bytes));
  });
}

/// The same with a fifth bit of each number in the word before.
template <int Zero>
HWY_INLINE void load_five_bits(std::int8_t* n, const std::byte* from) {
  std::uint32_t word;
  std::memcpy(&word, from, sizeof word);
  alignas(16) std::uint8_t fifth[32];
  for (std::size_t i = 0; i < 32; i += 8) {
    // Bit k of 8 goes to byte k: each byte keeps its own bit, and any bit becomes 16.
    const std::uint64_t own = (((word >> i) & 255u) * 0x0101010101010101u) & 0x8040201008040201u;
    const std::uint64_t spread = (((own + 0x7f7f7f7f7f7f7f7fu) >> 7) & 0x0101010101010101u) << 4;
    for (std::size_t k = 0; k < 8; ++k) fifth[i + k] = static_cast<std::uint8_t>(spread >> (8 * k));
  }
  for_bytes(from + sizeof word, 16, [n, &fifth](std::size_t i, auto bytes) HWY_ATTR {
    const bytes_tag d;
    store_numbers<Zero>(n + i, hn::Or(low_bits(bytes), hn::LoadU(d, fifth + i)));
    store_numbers<Zero>(n + 16 + i, hn::Or(shifted_right<4>(bytes), hn::LoadU(d, fifth + 16 + i)));
  });
}

template <>
struct whole_numbers<q8_0> {
  static constexpr std::size_t part = 32;
  static constexpr bool has_minima = false;
  static HWY_INLINE void load(std::int8_t* n, float* scales, float* /*minima*/, const std::byte* from) {
    *scales = load_half(from);
    std::memcpy(n, from + 2, 32);
  }
};

template <>
struct whole_numbers<q4_0> {
  static constexpr std::size_t part = 32;
  static constexpr bool has_minima = false;
  static HWY_INLINE void load(std::int8_t* n, float* scales, float* /*minima*/, const std::byte* from) {
    *scales = load_half(from);
    load_nibbles<8>(n, from + 2);
  }
};

template <>
struct whole_numbers<q4_1> {
  static constexpr std::size_t part = 32;
  static constexpr bool has_minima = true;
  static HWY_INLINE void load(std::int8_t* n, float* scales, float* minima, const std::byte* from) {
    *scales = load_half(from), *minima = load_half(from + 2);
    load_nibbles<0>(n, from + 4);
  }
};

template <>
struct whole_numbers<q5_0> {
  static constexpr std::size_t part = 32;
  static constexpr bool has_minima = false;
  static HWY_INLINE void load(std::int8_t* n, float* scales, float* /*minima*/, const std::byte* from) {
    *scales = load_half(from);
    load_five_bits<16>(n, from + 2);
  }
};

template <>
struct whole_numbers<q5_1> {
  static constexpr std::size_t part = 32;
  static constexpr bool has_minima = true;
  static HWY_INLINE void load(std::int8_t* n, float* scales, float* minima, const std::byte* from) {
    *scales = load_half(from), *minima = load_half(from + 2);
    load_five_bits<0>(n, from + 4);
  }
};

/// Scales and minima of 6 bits, four at a time (see k_part).
HWY_INLINE void load_k_scales(float* scales, float* minima, const std::byte* from) {
  const float scale = load_half(from), minimum = load_half(from + 2);
  std::uint32_t packed[3];
  std::memcpy(packed, from + 4, sizeof packed);
  const std::uint32_t low = 0x0f0f0f0fu, high = 0x30303030u, six = low | high;
  const std::uint32_t words[4] = {packed[0] & six, (packed[2] & low) | ((packed[0] >> 2) & high), packed[1] & six,
                                  ((packed[2] >> 4) & low) | ((packed[1] >> 2) & high)};
  for (std::size_t i = 0; i < 8; ++i) {
    const auto six_bits = [&](std::size_t at) {
      return static_cast<float>(static_cast<int>((words[at / 4] >> (8 * (at % 4))) & 63u));
    };
    scales[i] = scale * six_bits(i);
    minima[i] = -(minimum * six_bits(8 + i));
  }
}

template <>
struct whole_numbers<q4_k> {
  static constexpr std::size_t part = 32;
  static constexpr bool has_minima = true;
  static HWY_INLINE void load(std::int8_t* n, float* scales, float* minima, const std::byte* from) {
    load_k_scales(scales, minima, from);
    for (std::size_t pair = 0; pair < 4; ++pair)
      for_bytes(from + 16 + 32 * pair, 32, [to = n + 64 * pair](std::size_t i, auto bytes) HWY_ATTR {
        store_numbers<0>(to + i, low_bits(bytes));
        store_numbers<0>(to + 32 + i, shifted_right<4>(bytes));
      });
  }
};

template <>
struct whole_numbers<q5_k> {
  static constexpr std::size_t part = 32;
  static constexpr bool has_minima = true;
  static HWY_INLINE void load(std::int8_t* n, float* scales, float* minima, const std::byte* from) {
    load_k_scales(scales, minima, from);
    const bytes_tag d;
    const std::size_t N = hn::Lanes(d);
    const auto fifth_bit = hn::Set(d, std::uint8_t{16});
    for (std::size_t i = 0; i < 32; i += N) {
      auto fifth = load_elements<std::uint8_t>(d, from + 16 + i);  // bit p is that of part p
      for (std::size_t pair = 0; pair < 4; ++pair) {
        const auto bytes = load_elements<std::uint8_t>(d, from + 48 + 32 * pair + i);
        const auto first = hn::And(hn::ShiftLeft<4>(fifth), fifth_bit);
        const auto second = hn::And(hn::ShiftLeft<3>(fifth), fifth_bit);
        store_numbers<0>(n + 64 * pair + i, hn::Or(low_bits(bytes), first));
        store_numbers<0>(n + 64 * pair + 32 + i, hn::Or(shifted_right<4>(bytes), second));
        fifth = hn::ShiftRight<2>(fifth);
      }
    }
  }
};

template <>
struct whole_numbers<q6_k> {
  static constexpr std::size_t part = 16;
  static constexpr bool has_minima = false;
  static HWY_INLINE void load(std::int8_t* n, float* scales, float* /*minima*/, const std::byte* from) {
    const float scale = load_half(from + 208);
    for (std::size_t i = 0; i < 16; ++i) scales[i] = scale * static_cast<float>(signed_byte(from[192 + i]));
    const bytes_tag d;
    const std::size_t N = hn::Lanes(d);
    const auto two_bits = hn::Set(d, std::uint8_t{0x30});
    for (std::size_t half = 0; half < 2; ++half)
      for (std::size_t i = 0; i < 32; i += N) {
        const auto a = load_elements<std::uint8_t>(d, from + 64 * half + i);
        const auto b = load_elements<std::uint8_t>(d, from + 64 * half + 32 + i);
        const auto high = load_elements<std::uint8_t>(d, from + 128 + 32 * half + i);
        std::int8_t* to = n + 128 * half + i;
        store_numbers<32>(to, hn::Or(low_bits(a), hn::And(hn::ShiftLeft<4>(high), two_bits)));
        store_numbers<32>(to + 32, hn::Or(low_bits(b), hn::And(hn::ShiftLeft<2>(high), two_bits)));
        store_numbers<32>(to + 64, hn::Or(shifted_right<4>(a), hn::And(high, two_bits)));
        store_numbers<32>(to + 96, hn::Or(shifted_right<4>(b), hn::And(hn::ShiftRight<2>(high), two_bits)));
      }
  }
};

/// A block as floats: the bits of Format::load.
template <whole_format Format>
HWY_INLINE void load_block(float* to, const std::byte* from) {
  using numbers = whole_numbers<Format>;
  constexpr std::size_t parts = Format::elements / numbers::part;
  alignas(64) std::int8_t n[Format::elements];
  float scales[parts], minima[parts];
  numbers::load(n, scales, minima, from);
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  for (std::size_t p = 0; p < parts; ++p) {
    const lanes scale = hn::Set(d, scales[p]);
    for (std::size_t i = p * numbers::part; i < (p + 1) * numbers::part; i += N) {
      const lanes x = load(i8(), reinterpret_cast<const std::byte*>(n + i));
      if constexpr (numbers::has_minima)
        hn::StoreU(hn::MulAdd(scale, x, hn::Set(d, minima[p])), d, to + i);
      else
        hn::StoreU(hn::Mul(scale, x), d, to + i);
    }
  }
}

}  // namespace detail
}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_MODEL_WHOLE_NUMBERS_INL_HPP_
