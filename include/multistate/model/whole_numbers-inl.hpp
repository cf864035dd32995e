// Blocks of weights as whole numbers and their scales, compiled once for each SIMD target that includes it.

#if defined(MULTISTATE_MODEL_WHOLE_NUMBERS_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_MODEL_WHOLE_NUMBERS_INL_HPP_
#undef MULTISTATE_MODEL_WHOLE_NUMBERS_INL_HPP_
#else
#define MULTISTATE_MODEL_WHOLE_NUMBERS_INL_HPP_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <multistate/format/formats.hpp>
#include <multistate/simd/vectors-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {
namespace detail {

/// How a block says its numbers: element i is scale * multipliers[i / part] * n[i] + minima[i / part], without
/// multipliers or minima where it has none. `scale_at`: where its scale lies, a half-precision number; `minimum_at`:
/// the same of the one minimum of a block of 32. load() fills n [elements]; load_parts() of a block of several parts
/// its multipliers and minima.
template <class Format>
struct whole_numbers;

/// Blocks that are unpacked in vectors. A vector of one lane is none.
template <class Format>
concept whole_format = HWY_TARGET != HWY_SCALAR && requires { whole_numbers<Format>::part; };
template <class Format>
concept has_multipliers = requires { whole_numbers<Format>::load_parts; };
template <class Format>
concept has_minimum = requires { whole_numbers<Format>::minimum_at; };
template <class Format>
inline constexpr bool has_minima = has_minimum<Format>;
template <>
inline constexpr bool has_minima<q4_k> = true;
template <>
inline constexpr bool has_minima<q5_k> = true;

#if HWY_TARGET != HWY_SCALAR

/// At most 16 numbers: half of a small block.
using sixteen_tag = hn::CappedTag<std::int16_t, 16>;

/// f(i, numbers) for `count` bytes from `from` on, a vector D at a time. Precondition: count is a multiple of 16.
template <class D, class Byte = std::uint8_t, class F>
HWY_INLINE void for_bytes(const std::byte* from, std::size_t count, const F& f) {
  const hn::Rebind<Byte, D> bytes;
  for (std::size_t i = 0; i < count; i += hn::Lanes(D()))
    f(i, hn::PromoteTo(D(), load_elements<Byte>(bytes, from + i)));
}

/// 16 bytes of two halves each: numbers i and i + 16, less `Zero`; `fifth(i)` is added to those from i on.
template <int Zero, class F>
HWY_INLINE void load_nibbles(std::int16_t* n, const std::byte* from, const F& fifth) {
  const sixteen_tag d;
  const auto low = hn::Set(d, std::int16_t{15}), zero = hn::Set(d, std::int16_t{Zero});
  for_bytes<sixteen_tag>(from, 16, [&](std::size_t i, auto bytes) HWY_ATTR {
    hn::Store(hn::Sub(fifth(i, hn::And(bytes, low)), zero), d, n + i);
    hn::Store(hn::Sub(fifth(16 + i, hn::ShiftRight<4>(bytes)), zero), d, n + 16 + i);
  });
}
template <int Zero>
HWY_INLINE void load_nibbles(std::int16_t* n, const std::byte* from) {
  load_nibbles<Zero>(n, from, [](std::size_t, auto numbers) HWY_ATTR { return numbers; });
}

/// The same with a fifth bit of each number in the word before.
template <int Zero>
HWY_INLINE void load_five_bits(std::int16_t* n, const std::byte* from) {
  const sixteen_tag d;
  const std::uint32_t word = multistate::detail::word_at(from);
  alignas(32) static constexpr std::uint16_t powers[16] = {1,   2,   4,    8,    16,   32,   64,    128,
                                                           256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
  const auto own = hn::BitCast(d, hn::Load(hn::RebindToUnsigned<sixteen_tag>(), powers));
  const auto sixteen = hn::Set(d, std::int16_t{16});
  load_nibbles<Zero>(n, from + sizeof word, [&](std::size_t i, auto four) HWY_ATTR {
    const auto bits = hn::Set(d, static_cast<std::int16_t>(static_cast<std::uint16_t>(word >> i)));
    return hn::Or(four, hn::IfThenElseZero(hn::TestBit(bits, own), sixteen));
  });
}

/// 32 numbers that are places in a table of 16.
HWY_INLINE void load_from_table(std::int16_t* n, const std::byte* from, const std::array<std::int8_t, 16>& table) {
  const hn::CappedTag<std::int8_t, 16> d;
  const hn::RebindToUnsigned<decltype(d)> places;
  alignas(16) std::int8_t bytes[32];
  const auto entries = hn::LoadDup128(d, table.data());
  const auto nibbles = load_elements<std::uint8_t>(places, from);
  const auto low = hn::And(nibbles, hn::Set(places, std::uint8_t{15}));
  hn::Store(hn::TableLookupBytes(entries, hn::BitCast(d, low)), d, bytes);
  hn::Store(hn::TableLookupBytes(entries, hn::BitCast(d, hn::ShiftRight<4>(nibbles))), d, bytes + 16);
  for_bytes<sixteen_tag, std::int8_t>(reinterpret_cast<const std::byte*>(bytes), 32,
                                      [n](std::size_t i, auto numbers)
                                          HWY_ATTR { hn::Store(numbers, sixteen_tag(), n + i); });
}

template <>
struct whole_numbers<q8_0> {
  static constexpr std::size_t part = 32, scale_at = 0;
  static HWY_INLINE void load(std::int16_t* n, const std::byte* from) {
    for_bytes<short_tag, std::int8_t>(
        from + 2, 32, [n](std::size_t i, auto numbers) HWY_ATTR { hn::Store(numbers, short_tag(), n + i); });
  }
};

template <>
struct whole_numbers<q4_0> {
  static constexpr std::size_t part = 32, scale_at = 0;
  static HWY_INLINE void load(std::int16_t* n, const std::byte* from) { load_nibbles<8>(n, from + 2); }
};

template <>
struct whole_numbers<q4_1> {
  static constexpr std::size_t part = 32, scale_at = 0, minimum_at = 2;
  static HWY_INLINE void load(std::int16_t* n, const std::byte* from) { load_nibbles<0>(n, from + 4); }
};

template <>
struct whole_numbers<q5_0> {
  static constexpr std::size_t part = 32, scale_at = 0;
  static HWY_INLINE void load(std::int16_t* n, const std::byte* from) { load_five_bits<16>(n, from + 2); }
};

template <>
struct whole_numbers<q5_1> {
  static constexpr std::size_t part = 32, scale_at = 0, minimum_at = 2;
  static HWY_INLINE void load(std::int16_t* n, const std::byte* from) { load_five_bits<0>(n, from + 4); }
};

/// Multipliers and minima of 6 bits, four at a time (see k_part).
HWY_INLINE void load_k_parts(std::int16_t* multipliers, float* minima, const std::byte* from) {
  const hn::CappedTag<float, 1> one;
  const hn::Rebind<hwy::float16_t, decltype(one)> half;
  const float minimum = -hn::GetLane(hn::PromoteTo(one, load_elements<hwy::float16_t>(half, from + 2)));
  std::uint32_t packed[3];
  std::memcpy(packed, from + 4, sizeof packed);
  const std::uint32_t low = 0x0f0f0f0fu, high = 0x30303030u, six = low | high;
  const std::uint64_t bytes[2] = {
      (packed[0] & six) | std::uint64_t{(packed[2] & low) | ((packed[0] >> 2) & high)} << 32,
      (packed[1] & six) | std::uint64_t{((packed[2] >> 4) & low) | ((packed[1] >> 2) & high)} << 32};
  const hn::CappedTag<std::int16_t, 8> d16;
  for_bytes<decltype(d16)>(reinterpret_cast<const std::byte*>(bytes), 8,
                           [multipliers](std::size_t i, auto numbers)
                               HWY_ATTR { hn::StoreU(numbers, decltype(d16)(), multipliers + i); });
  const hn::CappedTag<std::int32_t, 8> d32;
  for_bytes<decltype(d32)>(reinterpret_cast<const std::byte*>(bytes + 1), 8,
                           [minima, minimum](std::size_t i, auto numbers) HWY_ATTR {
                             const hn::RebindToFloat<hn::CappedTag<std::int32_t, 8>> d;
                             hn::StoreU(hn::Mul(hn::ConvertTo(d, numbers), hn::Set(d, minimum)), d, minima + i);
                           });
}

template <>
struct whole_numbers<q4_k> {
  static constexpr std::size_t part = 32, scale_at = 0;
  static HWY_INLINE void load(std::int16_t* n, const std::byte* from) {
    const short_tag d;
    const auto low = hn::Set(d, std::int16_t{15});
    for (std::size_t pair = 0; pair < 4; ++pair)
      for_bytes<short_tag>(from + 16 + 32 * pair, 32, [&, to = n + 64 * pair](std::size_t i, auto bytes) HWY_ATTR {
        hn::Store(hn::And(bytes, low), d, to + i);
        hn::Store(hn::ShiftRight<4>(bytes), d, to + 32 + i);
      });
  }
  static HWY_INLINE void load_parts(std::int16_t* multipliers, float* minima, const std::byte* from) {
    load_k_parts(multipliers, minima, from);
  }
};

template <>
struct whole_numbers<q5_k> {
  static constexpr std::size_t part = 32, scale_at = 0;
  static HWY_INLINE void load(std::int16_t* n, const std::byte* from) {
    const short_tag d;
    const auto low = hn::Set(d, std::int16_t{15}), sixteen = hn::Set(d, std::int16_t{16});
    for_bytes<short_tag>(from + 16, 32, [&](std::size_t i, auto fifth) HWY_ATTR {  // bit p is that of part p
      fifth = hn::ShiftLeft<4>(fifth);
      for (std::size_t pair = 0; pair < 4; ++pair) {
        const hn::Rebind<std::uint8_t, short_tag> bytes;
        const auto four = hn::PromoteTo(d, load_elements<std::uint8_t>(bytes, from + 48 + 32 * pair + i));
        hn::Store(hn::Or(hn::And(four, low), hn::And(fifth, sixteen)), d, n + 64 * pair + i);
        fifth = hn::ShiftRight<1>(fifth);
        hn::Store(hn::Or(hn::ShiftRight<4>(four), hn::And(fifth, sixteen)), d, n + 64 * pair + 32 + i);
        fifth = hn::ShiftRight<1>(fifth);
      }
    });
  }
  static HWY_INLINE void load_parts(std::int16_t* multipliers, float* minima, const std::byte* from) {
    load_k_parts(multipliers, minima, from);
  }
};

template <>
struct whole_numbers<q6_k> {
  static constexpr std::size_t part = 16, scale_at = 208;
  static HWY_INLINE void load(std::int16_t* n, const std::byte* from) {
    const short_tag d;
    const hn::Rebind<std::uint8_t, short_tag> bytes;
    const auto low = hn::Set(d, std::int16_t{15});
    const auto load = [&](const std::byte* at)
                          HWY_ATTR { return hn::PromoteTo(d, load_elements<std::uint8_t>(bytes, at)); };
    for (std::size_t half = 0; half < 2; ++half)
      for (std::size_t i = 0; i < 32; i += hn::Lanes(d)) {
        const auto a = load(from + 64 * half + i), b = load(from + 64 * half + 32 + i);
        const auto two = load(from + 128 + 32 * half + i);
        std::int16_t* to = n + 128 * half + i;
        store(to, hn::And(a, low), hn::ShiftLeft<4>(two));
        store(to + 32, hn::And(b, low), hn::ShiftLeft<2>(two));
        store(to + 64, hn::ShiftRight<4>(a), two);
        store(to + 96, hn::ShiftRight<4>(b), hn::ShiftRight<2>(two));
      }
  }
  static HWY_INLINE void store(std::int16_t* to, shorts four, shorts bits) {
    const short_tag d;
    const shorts two = hn::And(bits, hn::Set(d, std::int16_t{0x30}));
    hn::Store(hn::Sub(hn::Or(four, two), hn::Set(d, std::int16_t{32})), d, to);
  }
  static HWY_INLINE void load_parts(std::int16_t* multipliers, float* /*minima*/, const std::byte* from) {
    for_bytes<sixteen_tag, std::int8_t>(from + 192, 16, [multipliers](std::size_t i, auto numbers) HWY_ATTR {
      hn::StoreU(numbers, sixteen_tag(), multipliers + i);
    });
  }
};

template <>
struct whole_numbers<iq4_nl> {
  static constexpr std::size_t part = 32, scale_at = 0;
  static HWY_INLINE void load(std::int16_t* n, const std::byte* from) {
    load_from_table(n, from + 2, multistate::detail::iq4_table);
  }
};

template <>
struct whole_numbers<iq4_xs> {
  static constexpr std::size_t part = 32, scale_at = 0;
  static HWY_INLINE void load(std::int16_t* n, const std::byte* from) {
    for (std::size_t p = 0; p < 8; ++p) load_from_table(n + 32 * p, from + 8 + 16 * p, multistate::detail::iq4_table);
  }
  static HWY_INLINE void load_parts(std::int16_t* multipliers, float* /*minima*/, const std::byte* from) {
    std::uint16_t high;
    std::uint32_t low;
    std::memcpy(&high, from + 2, sizeof high);
    std::memcpy(&low, from + 4, sizeof low);
    for (std::size_t p = 0; p < 8; ++p)
      multipliers[p] = static_cast<std::int16_t>(
          static_cast<int>(((low >> (4 * p)) & 15u) | (((static_cast<unsigned>(high) >> (2 * p)) & 3u) << 4)) - 32);
  }
};

template <>
struct whole_numbers<mxfp4> {
  static constexpr std::size_t part = 32;
  static HWY_INLINE void load(std::int16_t* n, const std::byte* from) {
    load_from_table(n, from + 1, multistate::detail::e2m1_table);
  }
};

/// Weights of one or several outputs as whole numbers, each row of a multiple of 256 places.
template <std::size_t Capacity>
struct whole_rows {
  HWY_ALIGN std::int16_t numbers[Capacity];
  // Stored by vectors, so that the last one may reach beyond.
  HWY_ALIGN float scales[Capacity / 32 + widest_vector];  ///< of each block: [row][places / 32]
  HWY_ALIGN float minima[Capacity / 32 + widest_vector];  ///< of each part, zeros up to a vector; where there are any
  HWY_ALIGN std::int16_t multipliers[Capacity / 16];      ///< of each part: [row][places / 16]

  /// `size` elements of a row of blocks, to the places from `at` on; fetches what lies `ahead` bytes behind them.
  template <whole_format Format>
  HWY_INLINE void load(const std::byte* from, std::size_t size, std::size_t at, std::size_t ahead) {
    using format = whole_numbers<Format>;
    const std::size_t blocks = size / Format::elements;
    const std::byte* block = from;
    for (std::size_t b = 0; b < blocks; ++b, block += Format::bytes) {
      for (std::size_t i = 0; i < Format::bytes; i += cache_line)
        fetch_at(reinterpret_cast<std::uintptr_t>(block) + ahead + i);
      format::load(numbers + at + b * Format::elements, block);
      if constexpr (has_multipliers<Format>)
        format::load_parts(multipliers + at / 16 + b * (Format::elements / format::part), minima + at / 32 + 8 * b,
                           block);
      if constexpr (std::is_same_v<Format, mxfp4>)
        scales[at / 32 + b] = multistate::detail::mxfp4_scale(*block);
      else
        std::memcpy(halves_ + at / 32 + b, block + format::scale_at, sizeof halves_[0]);
      if constexpr (has_minimum<Format>)
        std::memcpy(smallest_ + at / 32 + b, block + format::minimum_at, sizeof smallest_[0]);
    }
    if constexpr (has_multipliers<Format> && has_minima<Format>)
      std::fill_n(minima + at / 32 + size / 32, widest_vector / 2, 0.0f);
  }
  /// The scales of a row whose numbers are loaded. To be called when all rows are: a load of what several stores have
  /// just written waits for them.
  template <whole_format Format>
  HWY_INLINE void load_scales(std::size_t size, std::size_t at) {
    const std::size_t blocks = size / Format::elements;
    if constexpr (!std::is_same_v<Format, mxfp4>) store_halves(scales + at / 32, halves_ + at / 32, blocks);
    if constexpr (has_minimum<Format>) store_halves(minima + at / 32, smallest_ + at / 32, blocks);
  }

 private:
  /// Half-precision numbers as floats, and zeros up to a vector.
  static HWY_INLINE void store_halves(float* to, const std::uint16_t* from, std::size_t count) {
    const lanes_tag d;
    const hn::Rebind<hwy::float16_t, lanes_tag> half;
    for (std::size_t i = 0; i < count; i += hn::Lanes(d)) {
      const auto h = load_elements<hwy::float16_t>(half, reinterpret_cast<const std::byte*>(from + i));
      hn::StoreU(hn::IfThenElseZero(hn::FirstN(d, count - i), hn::PromoteTo(d, h)), d, to + i);
    }
  }
  HWY_ALIGN std::uint16_t halves_[Capacity / 32 + widest_vector];    ///< scales as they are stored
  HWY_ALIGN std::uint16_t smallest_[Capacity / 32 + widest_vector];  ///< minima
};

/// `size` elements of a row of blocks as floats: the bits of Format::load. Fetches as load() does.
template <whole_format Format>
HWY_INLINE void load_floats(float* to, const std::byte* from, std::size_t size, std::size_t ahead) {
  using format = whole_numbers<Format>;
  constexpr std::size_t step = 256;
  whole_rows<step> row;
  const lanes_tag d;
  const hn::Rebind<std::int16_t, lanes_tag> narrow;
  const std::size_t N = hn::Lanes(d);
  for (std::size_t begin = 0; begin < size; begin += step, from += step / Format::elements * Format::bytes) {
    const std::size_t count = (std::min)(step, size - begin);
    row.template load<Format>(from, count, 0, ahead);
    row.template load_scales<Format>(count, 0);
    for (std::size_t p = 0; p < count / format::part; ++p, to += format::part) {
      float scale = row.scales[p * format::part / Format::elements];
      if constexpr (has_multipliers<Format>) scale *= static_cast<float>(row.multipliers[p]);
      for (std::size_t i = 0; i < format::part; i += N) {
        const lanes n =
            hn::ConvertTo(d, hn::PromoteTo(whole_tag(), hn::Load(narrow, row.numbers + p * format::part + i)));
        if constexpr (has_minima<Format>)
          hn::StoreU(hn::MulAdd(hn::Set(d, scale), n, hn::Set(d, row.minima[p])), d, to + i);
        else
          hn::StoreU(hn::Mul(hn::Set(d, scale), n), d, to + i);
      }
    }
  }
}

#endif

}  // namespace detail
}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_MODEL_WHOLE_NUMBERS_INL_HPP_
