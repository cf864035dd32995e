// Products of blocks of whole numbers with rounded activations, compiled once for each SIMD target that includes it.

#if defined(MULTISTATE_MODEL_ROUNDED_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_MODEL_ROUNDED_INL_HPP_
#undef MULTISTATE_MODEL_ROUNDED_INL_HPP_
#else
#define MULTISTATE_MODEL_ROUNDED_INL_HPP_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <tuple>
#include <utility>

#include <multistate/simd/vectors-inl.hpp>
#include <multistate/model/whole_numbers-inl.hpp>
#include <multistate/util/buffer.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {

/// Activations as whole numbers of 16 bits, 32 of which share a scale: what a fast product works on.
struct rounded_input {
  static constexpr std::size_t part = 32;
  buffer<std::int16_t> numbers;  ///< [columns][in]
  buffer<float> scales;          ///< [columns][in / part]
  buffer<float> sums;            ///< [columns][in / part] of the numbers, times the scale

  bool allocate(std::size_t columns, std::size_t in) {
    const std::size_t parts = columns * ((in + part - 1) / part);
    return numbers.allocate(parts * part) && scales.allocate(parts) && sums.allocate(parts);
  }
  /// x [in] becomes column `column`; numbers that are not finite make the scale NaN. Precondition: in is a multiple of
  /// 32, and allocate() was asked for as much.
  void round(const float* x, std::size_t in, std::size_t column) noexcept {
    const detail::lanes_tag d;
    const detail::whole_tag whole;
    const hn::Rebind<std::int16_t, detail::whole_tag> shorts;
    const std::size_t N = hn::Lanes(d);
    for (std::size_t p = 0; p < in / part; ++p, x += part) {
      auto largest = hn::Zero(d), poison = hn::Zero(d);
      for (std::size_t i = 0; i < part; i += N) {
        const auto v = hn::LoadU(d, x + i);
        largest = hn::Max(largest, hn::Abs(v));
        poison = hn::MulAdd(v, hn::Zero(d), poison);
      }
      const float scale = hn::GetLane(hn::MaxOfLanes(d, largest)) / 32767.0f;
      const float inverse = scale >= std::numeric_limits<float>::min() ? 1.0f / scale : 0.0f;
      std::int16_t* to = numbers.data() + column * in + p * part;
      auto sum = hn::Zero(whole);
      for (std::size_t i = 0; i < part; i += N) {
        const auto n = hn::DemoteTo(shorts, hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse))));
        hn::StoreU(n, shorts, to + i);
        sum = hn::Add(sum, hn::PromoteTo(whole, n));
      }
      const std::size_t at = column * (in / part) + p;
      scales.data()[at] = scale + hn::GetLane(hn::SumOfLanes(d, poison));
      sums.data()[at] = scales.data()[at] * static_cast<float>(hn::GetLane(hn::SumOfLanes(whole, sum)));
    }
  }
};

namespace detail {

constexpr std::size_t whole_part = 512;  ///< of the input: a panel then stays in the first-level cache

#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr std::size_t whole_columns = 8;
#else
constexpr std::size_t whole_columns = 4;
#endif

/// sum plus both products of each pair of lanes.
HWY_INLINE wholes add_pairs(shorts w, shorts x, wholes sum) {
  wholes odd = hn::Zero(whole_tag());
#if HWY_ARCH_X86
  return hn::ReorderWidenMulAccumulate(whole_tag(), w, x, sum, odd);
#else
  const wholes even = hn::ReorderWidenMulAccumulate(whole_tag(), w, x, hn::Zero(whole_tag()), odd);
  return hn::Add(sum, hn::RearrangeToOddPlusEven(even, odd));
#endif
}

/// A part of as many outputs as there are lanes, each lane an output of its own.
struct whole_panel {
  HWY_ALIGN std::int16_t pairs[whole_part * widest_vector];  ///< [in / 2][lane][2]
  HWY_ALIGN float scales[whole_part / 16 * widest_vector];   ///< [part][lane]
  HWY_ALIGN float minima[whole_part / 32 * widest_vector];   ///< [part][lane]
  HWY_ALIGN std::int8_t bytes[whole_part * widest_vector];   ///< [in / 8][lane % 4][lane / 4][8]
};

#if HWY_TARGET != HWY_SCALAR
/// One output's blocks from `from` on: `size` elements.
template <class Format>
HWY_INLINE void load_lane(whole_panel& to, const std::byte* from, std::size_t size, std::size_t lane) {
  using numbers = whole_numbers<Format>;
  constexpr std::size_t parts = Format::elements / numbers::part;
  const std::size_t N = hn::Lanes(lanes_tag());
  alignas(64) std::int8_t n[Format::elements];
  float scales[parts], minima[parts];
  std::int8_t* at = to.bytes + (lane % 4 * (N / 4) + lane / 4) * 8;
  for (std::size_t i = 0; i < size; i += Format::elements, from += Format::bytes) {
    numbers::load(n, scales, minima, from);
    for (std::size_t j = 0; j < Format::elements; j += 8, at += 8 * N) std::memcpy(at, n + j, 8);
    for (std::size_t p = 0; p < parts; ++p) {
      to.scales[(i / numbers::part + p) * N + lane] = scales[p];
      if constexpr (numbers::has_minima) to.minima[(i / numbers::part + p) * N + lane] = minima[p];
    }
  }
}

/// Pairs of each output next to those of the others: four 32-bit lanes of each block change places with the rows.
HWY_INLINE void interleave_lanes(whole_panel& panel, std::size_t size) {
  const short_tag d16;
  const whole_tag d32;
  const hn::Repartition<std::int64_t, whole_tag> d64;
  const hn::Rebind<std::int8_t, short_tag> d8;
  const std::size_t N = hn::Lanes(d32);
  for (std::size_t i = 0; i < size; i += 8) {
    const std::int8_t* from = panel.bytes + i * N;
    std::int16_t* to = panel.pairs + i * N;
    const auto row = [&](std::size_t k)
                         HWY_ATTR { return hn::BitCast(d32, hn::PromoteTo(d16, hn::LoadU(d8, from + k * 2 * N))); };
    const wholes a = row(0), b = row(1), c = row(2), e = row(3);
    const auto ab = hn::BitCast(d64, hn::InterleaveLower(d32, a, b)),
               AB = hn::BitCast(d64, hn::InterleaveUpper(d32, a, b));
    const auto ce = hn::BitCast(d64, hn::InterleaveLower(d32, c, e)),
               CE = hn::BitCast(d64, hn::InterleaveUpper(d32, c, e));
    hn::Store(hn::BitCast(d16, hn::InterleaveLower(d64, ab, ce)), d16, to);
    hn::Store(hn::BitCast(d16, hn::InterleaveUpper(d64, ab, ce)), d16, to + 2 * N);
    hn::Store(hn::BitCast(d16, hn::InterleaveLower(d64, AB, CE)), d16, to + 4 * N);
    hn::Store(hn::BitCast(d16, hn::InterleaveUpper(d64, AB, CE)), d16, to + 6 * N);
  }
}

/// Sums of a panel and C columns. Whole numbers are added up exactly within a part, the parts' sums in order.
template <class Format, std::size_t C>
struct whole_tile {
  using numbers = whole_numbers<Format>;
  const whole_panel& panel;
  const std::int16_t* const* x;  ///< [C]
  const float* const* scales;    ///< [C]
  const float* const* sums;      ///< [C]
  std::size_t size;
  float* out;  ///< [C][lane]

  template <class... V>
  HWY_INLINE void operator()(V&... f) const {
    for (std::size_t u = 0; u < size / numbers::part; ++u)
      with_zeros<static_cast<int>(C), whole_tag>(
          [&](auto&... acc) HWY_ATTR { add_part(std::make_index_sequence<C>(), u, f..., acc...); });
    float* to = out;
    ((hn::Store(f, lanes_tag(), to), to += hn::Lanes(lanes_tag())), ...);
  }

 private:
  template <std::size_t... I, class... V>
  HWY_INLINE void add_part(std::index_sequence<I...> /*columns*/, std::size_t u, V&... all) const {
    const lanes_tag d;
    const std::size_t N = hn::Lanes(d), first = u * numbers::part, part = first / rounded_input::part;
    const auto v = std::forward_as_tuple(all...);
    for (std::size_t i = first; i < first + numbers::part; i += 2) {
      shorts w = hn::Load(short_tag(), panel.pairs + i * N);
      hold(w);
      ((std::get<C + I>(v) = add_pairs(w, pair_at(x[I] + i), std::get<C + I>(v))), ...);
    }
    const lanes scale = hn::Load(d, panel.scales + u * N);
    ((std::get<I>(v) = hn::MulAdd(hn::ConvertTo(d, std::get<C + I>(v)), hn::Mul(scale, hn::Set(d, scales[I][part])),
                                  std::get<I>(v))),
     ...);
    if constexpr (numbers::has_minima) {
      const lanes minimum = hn::Load(d, panel.minima + u * N);
      ((std::get<I>(v) = hn::MulAdd(minimum, hn::Set(d, sums[I][part]), std::get<I>(v))), ...);
    }
  }
  static HWY_INLINE shorts pair_at(const std::int16_t* x) {
    std::int32_t pair;
    std::memcpy(&pair, x, sizeof pair);
    return hn::BitCast(short_tag(), hn::Set(whole_tag(), pair));
  }
};
#endif

}  // namespace detail
}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_MODEL_ROUNDED_INL_HPP_
