// Sums of the lanes of several vectors at once.

#if defined(MULTISTATE_SIMD_SUMS_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_SIMD_SUMS_INL_HPP_
#undef MULTISTATE_SIMD_SUMS_INL_HPP_
#else
#define MULTISTATE_SIMD_SUMS_INL_HPP_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstring>

#include <multistate/simd/vectors-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {
namespace detail {

#if HWY_TARGET != HWY_SCALAR
/// Adds up the 128-bit blocks of a vector: to [4], the bits of sums.
template <class D, class V>
HWY_INLINE void store_block_sums([[maybe_unused]] D d, V blocks, float* to) {
#if HWY_HAVE_SCALABLE
  HWY_ALIGN hn::TFromD<D> buffer[widest_vector];
  hn::Store(blocks, d, buffer);
  for (std::size_t i = 4; i < hn::Lanes(d); ++i) buffer[i % 4] += buffer[i];
  std::memcpy(to, buffer, 4 * sizeof(float));
#else
  if constexpr (hn::MaxLanes(D()) <= 4) {
    const hn::RebindToFloat<D> floats;
    hn::StoreU(hn::BitCast(floats, blocks), floats, to);
  } else {
    const hn::Half<D> half;
    store_block_sums(half, hn::Add(hn::LowerHalf(half, blocks), hn::UpperHalf(half, blocks)), to);
  }
#endif
}
#endif

/// The sums of the lanes of a, b, c, e ..., in order, to[sizeof...], as bits: every one is added up in the same way,
/// whatever its place.
template <class D, class V, class... More>
HWY_INLINE void store_sums(D d, float* to, V a, V b, V c, V e, More... more) {
#if HWY_TARGET == HWY_SCALAR
  to[0] = hn::GetLane(hn::BitCast(lanes_tag(), a));
  to[1] = hn::GetLane(hn::BitCast(lanes_tag(), b));
  to[2] = hn::GetLane(hn::BitCast(lanes_tag(), c));
  to[3] = hn::GetLane(hn::BitCast(lanes_tag(), e));
#else
  const V ac = hn::Add(hn::InterleaveLower(d, a, c), hn::InterleaveUpper(d, a, c));
  const V be = hn::Add(hn::InterleaveLower(d, b, e), hn::InterleaveUpper(d, b, e));
  store_block_sums(d, hn::Add(hn::InterleaveLower(d, ac, be), hn::InterleaveUpper(d, ac, be)), to);
#endif
  if constexpr (sizeof...(More) > 0) store_sums(d, to + 4, more...);
}

}  // namespace detail
}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_SIMD_SUMS_INL_HPP_
