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
#include <limits>
#include <type_traits>
#include <utility>

#include <multistate/simd/sums-inl.hpp>
#include <multistate/model/whole_numbers-inl.hpp>
#include <multistate/util/buffer.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {

/// Activations as whole numbers of 16 bits, 256 of which share a scale: what a fast product works on.
struct rounded_input {
  static constexpr std::size_t part = 256;
  buffer<std::int16_t> numbers;  ///< [columns][in]
  buffer<float> scales;          ///< [columns][in / part, rounded up]
  buffer<float> sums;            ///< [columns][sums_stride(in)] of 32 numbers, times their scale; zeros behind

  static constexpr std::size_t scales_of(std::size_t in) noexcept { return (in + part - 1) / part; }
  /// Whole vectors of sums.
  static constexpr std::size_t sums_of(std::size_t in) noexcept {
    constexpr std::size_t step = 32 * detail::widest_vector;
    return (in + step - 1) / step * detail::widest_vector;
  }

  bool allocate(std::size_t columns, std::size_t in) {
    return numbers.allocate(columns * in) && scales.allocate(columns * scales_of(in)) &&
           sums.allocate(columns * sums_of(in));
  }
  /// x [in] becomes column `column`; numbers that are not finite make their part's scale NaN. Precondition: in is a
  /// multiple of 32, and allocate() was asked for as much.
  void round(const float* x, std::size_t in, std::size_t column) noexcept {
    std::int16_t* to = numbers.data() + column * in;
    float* sum = sums.data() + column * sums_of(in);
    float* scale = scales.data() + column * scales_of(in);
    for (std::size_t i = 0; i < in; i += part)
      *scale++ = round_part(x + i, (std::min)(part, in - i), to + i, sum + i / 32);
    std::fill(sum + in / 32, sum + sums_of(in), 0.0f);
  }

 private:
  /// Returns the scale.
  static float round_part(const float* x, std::size_t count, std::int16_t* to, float* sums) noexcept {
    const detail::lanes_tag d;
    const detail::whole_tag whole;
    const hn::Rebind<std::int16_t, detail::whole_tag> narrow;
    const std::size_t N = hn::Lanes(d);
    auto largest = hn::Zero(d), poison = hn::Zero(d);
    for (std::size_t i = 0; i < count; i += N) {
      const auto v = hn::LoadU(d, x + i);
      largest = hn::Max(largest, hn::Abs(v));
      poison = hn::MulAdd(v, hn::Zero(d), poison);
    }
    float scale = hn::GetLane(hn::MaxOfLanes(d, largest)) / 32767.0f;
    const float inverse = scale >= (std::numeric_limits<float>::min)() ? 1.0f / scale : 0.0f;
    scale += hn::GetLane(hn::SumOfLanes(d, poison));
    for (std::size_t i = 0; i < count; i += 32) {
      auto sum = hn::Zero(whole);
      for (std::size_t j = i; j < i + 32; j += N) {
        const auto n = hn::DemoteTo(narrow, hn::NearestInt(hn::Mul(hn::LoadU(d, x + j), hn::Set(d, inverse))));
        hn::StoreU(n, narrow, to + j);
        sum = hn::Add(sum, hn::PromoteTo(whole, n));
      }
      sums[i / 32] = scale * static_cast<float>(hn::GetLane(hn::SumOfLanes(whole, sum)));
    }
    return scale;
  }
};

namespace detail {

#if HWY_TARGET != HWY_SCALAR

// Sums that stay in registers: of 32 registers, or of 16.
constexpr std::size_t whole_outputs = 4;
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr std::size_t whole_columns = 4;
#else
constexpr std::size_t whole_columns = 2;
#endif

/// Numbers times their parts' multipliers, in place. They then fit in 13 bits.
template <class Format>
HWY_INLINE void multiply_parts(std::int16_t* n, const std::int16_t* multipliers, std::size_t size) {
  constexpr std::size_t part = whole_numbers<Format>::part;
  const hn::CappedTag<std::int16_t, part> d;
  for (std::size_t p = 0; p < size / part; ++p)
    for (std::size_t i = p * part; i < (p + 1) * part; i += hn::Lanes(d))
      hn::Store(hn::Mul(hn::Load(d, n + i), hn::Set(d, multipliers[p])), d, n + i);
}

/// Sums of R outputs and C columns, c * R + r. Whole numbers are added up exactly as long as they fit: 32 of a block
/// with a scale, or 16 a lane of a block with multipliers. Then they become floats, which are added up in order, 256
/// at a time.
template <class Format, std::size_t R, std::size_t C>
struct whole_tile {
  const std::int16_t* const* w;  ///< [R]
  const float* const* w_scales;  ///< [R] of blocks
  const float* const* w_minima;  ///< [R] of 32 numbers
  const std::int16_t* const* x;  ///< [C]
  const float* const* x_scales;  ///< [C] of 256 numbers
  const float* const* x_sums;    ///< [C] of 32 numbers
  std::size_t size;
  float* sums;  ///< [C][R]

  HWY_INLINE void operator()() const {
    HWY_ALIGN float all[R * C * widest_vector] = {};
    const std::size_t step = has_multipliers<Format> ? 16 * hn::Lanes(lanes_tag()) : rounded_input::part;
    for (std::size_t i = 0; i < size; i += step) with_zeros<int{R * C}, sum_tag>(stretch{*this, i, all});
    if constexpr (has_minima<Format>) add_minima(indices(), all);
    store(indices(), all);
  }

 private:
  using sum_tag = std::conditional_t<has_multipliers<Format>, whole_tag, lanes_tag>;
  static constexpr auto indices() { return std::make_index_sequence<R * C>(); }
  /// Numbers from `begin` on, as far as their sums stay in registers.
  struct stretch {
    const whole_tile& tile;
    std::size_t begin;
    float* all;
    template <class... V>
    HWY_INLINE void operator()(V&... sum) const {
      if constexpr (has_multipliers<Format>)
        tile.add_multiplied(indices(), begin, all, sum...);
      else
        tile.add_scaled(indices(), begin, all, sum...);
    }
  };
  static HWY_INLINE lanes vector_of(const float* all, std::size_t at) {
    return hn::Load(lanes_tag(), all + at * hn::Lanes(lanes_tag()));
  }
  /// all[at] += v * factor.
  static HWY_INLINE void add_to(float* all, std::size_t at, lanes v, float factor) {
    const lanes_tag d;
    hn::Store(hn::MulAdd(v, hn::Set(d, factor), vector_of(all, at)), d, all + at * hn::Lanes(d));
  }

  template <std::size_t... I, class... V>
  HWY_INLINE void add_multiplied(std::index_sequence<I...> /*each*/, std::size_t begin, float* all, V&... sum) const {
    const short_tag d;
    for (std::size_t i = begin; i < begin + 16 * hn::Lanes(lanes_tag()); i += hn::Lanes(d))
      ((sum = add_pairs(hn::Load(d, w[I % R] + i), hn::LoadU(d, x[I / R] + i), sum)), ...);
    (add_to(all, I, hn::ConvertTo(lanes_tag(), sum),
            w_scales[I % R][begin / 256] * x_scales[I / R][begin / rounded_input::part]),
     ...);
  }
  template <std::size_t... I, class... V>
  HWY_INLINE void add_scaled(std::index_sequence<I...> /*each*/, std::size_t begin, float* all, V&... sum) const {
    const lanes_tag d;
    const std::size_t end = (std::min)(begin + rounded_input::part, size);
    for (std::size_t i = begin; i < end; i += 32)
      ((sum = hn::MulAdd(hn::ConvertTo(d, dot(w[I % R] + i, x[I / R] + i)), hn::Set(d, w_scales[I % R][i / 32]), sum)),
       ...);
    (add_to(all, I, sum, x_scales[I / R][begin / rounded_input::part]), ...);
  }
  /// Of 32 numbers.
  static HWY_INLINE wholes dot(const std::int16_t* a, const std::int16_t* b) {
    const short_tag d;
    wholes sum = add_pairs(hn::Load(d, a), hn::LoadU(d, b), hn::Zero(whole_tag()));
    HWY_UNROLL(4)
    for (std::size_t i = hn::Lanes(d); i < 32; i += hn::Lanes(d))
      sum = add_pairs(hn::Load(d, a + i), hn::LoadU(d, b + i), sum);
    return sum;
  }
  template <std::size_t... I>
  HWY_INLINE void add_minima(std::index_sequence<I...> /*each*/, float* all) const {
    const lanes_tag d;
    const std::size_t N = hn::Lanes(d);
    for (std::size_t i = 0; i < size / 32; i += N)
      ((hn::Store(hn::MulAdd(hn::LoadU(d, w_minima[I % R] + i), hn::LoadU(d, x_sums[I / R] + i), vector_of(all, I)), d,
                  all + I * N)),
       ...);
  }
  template <std::size_t... I>
  HWY_INLINE void store(std::index_sequence<I...> /*each*/, const float* all) const {
    store_sums(lanes_tag(), sums, vector_of(all, I)...);
  }
};
#endif

}  // namespace detail
}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_MODEL_ROUNDED_INL_HPP_
