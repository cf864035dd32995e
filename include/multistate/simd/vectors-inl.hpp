// Vectors of floats: loads of every state format, tiles of accumulators, fetching.

#if defined(MULTISTATE_SIMD_VECTORS_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_SIMD_VECTORS_INL_HPP_
#undef MULTISTATE_SIMD_VECTORS_INL_HPP_
#else
#define MULTISTATE_SIMD_VECTORS_INL_HPP_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <multistate/format/element.hpp>
#include <multistate/simd/width.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

namespace detail {

using namespace multistate::detail;

// Vectors of at most widest_vector floats, so that scratch has the same size on every target.
using lanes_tag = hn::CappedTag<float, widest_vector>;
using lanes = hn::Vec<lanes_tag>;
using whole_tag = hn::CappedTag<std::int32_t, widest_vector>;
using short_tag = hn::CappedTag<std::int16_t, 2 * widest_vector>;
using wholes = hn::Vec<whole_tag>;
using shorts = hn::Vec<short_tag>;

/// Accumulators of a tile that stay in registers beside what is multiplied: of 32 registers, or of 16.
#if HWY_ARCH_X86 && HWY_TARGET > HWY_AVX3
inline constexpr int tile = 8;
#else
inline constexpr int tile = 16;
#endif

inline constexpr std::size_t cache_line = 64;  // bytes

/// Calls f(v...) with `Count` vectors of zeros. SVE and RVV vectors can't be in an array, so that a tile is a pack.
template <int Count, class D = lanes_tag, class F, class... V>
HWY_INLINE void with_zeros(const F& f, V&... v) {
  if constexpr (sizeof...(V) == Count) {
    f(v...);
  } else {
    hn::Vec<D> zero = hn::Zero(D());
    with_zeros<Count, D>(f, v..., zero);
  }
}

/// sum plus both products of each pair of lanes.
HWY_INLINE wholes add_pairs(shorts a, shorts b, wholes sum) {
  wholes odd = hn::Zero(whole_tag());  // on x86 `sum` takes both products of a pair, elsewhere this the odd ones
  sum = hn::ReorderWidenMulAccumulate(whole_tag(), a, b, sum, odd);
  return hn::Add(sum, odd);  // of zeros where odd is as it was, which costs nothing
}

/// One of a pack.
template <std::size_t I, class V, class... More>
HWY_INLINE V pick(V v, More... more) {
  if constexpr (I == 0)
    return v;
  else
    return pick<I - 1>(more...);
}

/// Keeps a loaded vector in a register: left to itself, g++ reads it from memory again for each multiplication, and
/// then loads are what a tile waits for.
template <class V>
HWY_INLINE void hold([[maybe_unused]] V& v) {
#if HWY_COMPILER_GCC_ACTUAL && HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  asm("" : "+v"(v.raw));
#endif
}

/// The emulated targets read through a pointer to the element, which must then be aligned; extents need not be.
template <class Element, class D>
HWY_INLINE hn::Vec<D> load_elements(D d, const std::byte* from) {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  HWY_ALIGN Element aligned[hn::MaxLanes(D())];
  std::memcpy(aligned, from, sizeof aligned);
  return hn::Load(d, aligned);
#else
  return hn::LoadU(d, reinterpret_cast<const Element*>(from));
#endif
}

HWY_INLINE lanes load(f32 /*format*/, const std::byte* from) { return load_elements<float>(lanes_tag(), from); }

HWY_INLINE lanes load(f16 /*format*/, const std::byte* from) {
  const hn::Rebind<hwy::float16_t, lanes_tag> half;
  return hn::PromoteTo(lanes_tag(), load_elements<hwy::float16_t>(half, from));
}

HWY_INLINE lanes load(bf16 /*format*/, const std::byte* from) {
  const hn::Rebind<std::uint16_t, lanes_tag> half;
  const hn::Rebind<std::uint32_t, lanes_tag> bits;
  return hn::BitCast(lanes_tag(), hn::ShiftLeft<16>(hn::PromoteTo(bits, load_elements<std::uint16_t>(half, from))));
}

/// Without the row's scale.
HWY_INLINE lanes load(i8 /*format*/, const std::byte* from) {
  const hn::Rebind<std::int8_t, lanes_tag> quarter;
  const hn::Rebind<std::int32_t, lanes_tag> whole;
  return hn::ConvertTo(lanes_tag(), hn::PromoteTo(whole, load_elements<std::int8_t>(quarter, from)));
}

/// The last `rest` of a row's `count` elements in the highest lanes, zeros below; reads nothing outside of the row.
template <class Format>
HWY_INLINE lanes load_rest(const std::byte* row, std::size_t count, std::size_t rest) {
  using element = typename Format::element;
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  if (count >= N) {
    const lanes last = load(Format(), row + (count - N) * sizeof(element));
    return hn::IfThenElseZero(hn::Not(hn::FirstN(d, N - rest)), last);
  }
  HWY_ALIGN element part[widest_vector] = {};
  std::memcpy(part + (N - rest), row, rest * sizeof(element));
  return load(Format(), reinterpret_cast<const std::byte*>(part));
}

/// row [count] of the format to floats, without the row's scale.
template <class Format>
HWY_INLINE void unpack(const std::byte* row, std::size_t count, float* to) {
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + N <= count; i += N) hn::StoreU(load(Format(), row + i * sizeof(typename Format::element)), d, to + i);
  for (; i < count; ++i) {
    typename Format::element e;
    std::memcpy(&e, row + i * sizeof e, sizeof e);
    to[i] = Format::load(e);
  }
}

/// Fetches a cache line. A number, since it may lie past the end of what is stored.
HWY_INLINE void fetch_at(std::uintptr_t address) noexcept {
  hwy::Prefetch(reinterpret_cast<const std::byte*>(address));  // NOLINT(performance-no-int-to-ptr)
}

}  // namespace detail
}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_SIMD_VECTORS_INL_HPP_
