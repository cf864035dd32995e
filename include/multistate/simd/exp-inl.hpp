// exp in vectors.

#if defined(MULTISTATE_SIMD_EXP_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_SIMD_EXP_INL_HPP_
#undef MULTISTATE_SIMD_EXP_INL_HPP_
#else
#define MULTISTATE_SIMD_EXP_INL_HPP_
#endif

#include <hwy/highway.h>

#include <multistate/simd/vectors-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

namespace detail {

/// exp(x) for x <= 0, within 1.5e-7 of it; 0 below the smallest normal float. NaN stays NaN.
HWY_INLINE lanes exp_down(lanes x) {
  const lanes_tag d;
  const hn::RebindToSigned<lanes_tag> bits;
  // The sum leaves n = round(x / ln 2), with the bias of an exponent, in the low bits. It is taken off again as a whole
  // number: of two floats that cancel -ffast-math leaves neither, and n would not be rounded.
  const lanes magic = hn::Set(d, 12582912.0f + 127.0f);
  const auto shifted = hn::BitCast(bits, hn::MulAdd(x, hn::Set(d, 1.44269504f), magic));
  const lanes n = hn::ConvertTo(d, hn::Sub(shifted, hn::BitCast(bits, magic)));
  const lanes power = hn::BitCast(d, hn::ShiftLeft<23>(shifted));
  const lanes r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x));
  lanes p = hn::Set(d, 1.3814466074109077e-3f);  // minimax on [-ln 2 / 2, ln 2 / 2]
  p = hn::MulAdd(p, r, hn::Set(d, 8.368780836462975e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.166839271783829e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.1666651964187622f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.4999999403953552f));
  p = hn::MulAdd(hn::MulAdd(p, r, hn::Set(d, 1.0f)), r, hn::Set(d, 1.0f));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.0f)), hn::Mul(p, power));
}

}  // namespace detail
}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_SIMD_EXP_INL_HPP_
