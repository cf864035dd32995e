// What lies between the matrix products, compiled once for each SIMD target that includes it.

#if defined(MULTISTATE_MODEL_BLOCK_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_MODEL_BLOCK_INL_HPP_
#undef MULTISTATE_MODEL_BLOCK_INL_HPP_
#else
#define MULTISTATE_MODEL_BLOCK_INL_HPP_
#endif

#include <cmath>
#include <cstddef>

#include <multistate/attention/attend-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {

/// y [n] = x / sqrt(mean of x^2 + eps) * weight (Zhang and Sennrich 2019).
inline void rms_norm(const float* HWY_RESTRICT x, const float* HWY_RESTRICT weight, std::size_t n, float eps,
                     float* HWY_RESTRICT y) noexcept {
  const detail::lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  detail::lanes squares = hn::Zero(d);
  std::size_t i = 0;
  for (; i + N <= n; i += N) {
    const detail::lanes v = hn::LoadU(d, x + i);
    squares = hn::MulAdd(v, v, squares);
  }
  double sum = static_cast<double>(hn::GetLane(hn::SumOfLanes(d, squares)));
  for (; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  const auto inverse = static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(n) + static_cast<double>(eps)));
  const detail::lanes scale = hn::Set(d, inverse);
  for (i = 0; i + N <= n; i += N)
    hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + i), scale), hn::LoadU(d, weight + i)), d, y + i);
  for (; i < n; ++i) y[i] = x[i] * inverse * weight[i];
}

namespace detail {

/// x / (1 + exp(-x)) without overflow; NaN stays NaN.
HWY_INLINE lanes silu(lanes x) {
  const lanes_tag d;
  const lanes one = hn::Set(d, 1.0f);
  const lanes small = exp_down(hn::Neg(hn::Abs(x)));
  const lanes above = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), small, one);
  return hn::Div(hn::Mul(x, above), hn::Add(one, small));
}

}  // namespace detail

/// gate [n] = silu(gate) * up (Shazeer 2020).
inline void swiglu(float* HWY_RESTRICT gate, const float* HWY_RESTRICT up, std::size_t n) noexcept {
  const detail::lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + N <= n; i += N)
    hn::StoreU(hn::Mul(detail::silu(hn::LoadU(d, gate + i)), hn::LoadU(d, up + i)), d, gate + i);
  for (; i < n; ++i) gate[i] = hn::GetLane(detail::silu(hn::Set(d, gate[i]))) * up[i];
}

}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_MODEL_BLOCK_INL_HPP_
