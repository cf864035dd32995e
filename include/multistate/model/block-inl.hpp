// What lies between the matrix products, compiled once for each SIMD target that includes it.

#if defined(MULTISTATE_MODEL_BLOCK_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_MODEL_BLOCK_INL_HPP_
#undef MULTISTATE_MODEL_BLOCK_INL_HPP_
#else
#define MULTISTATE_MODEL_BLOCK_INL_HPP_
#endif

#include <cmath>
#include <cstddef>

#include <multistate/simd/exp-inl.hpp>
#include <multistate/model/config.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {

/// y [n] = x / sqrt(mean of x^2 + eps) * weight (Zhang and Sennrich 2019). x and y may be the same memory.
inline void rms_norm(const float* x, const float* HWY_RESTRICT weight, std::size_t n, float eps, float* y) noexcept {
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

/// x / (1 + exp(-y)) without overflow; NaN stays NaN.
HWY_INLINE lanes times_sigmoid(lanes x, lanes y) {
  const lanes_tag d;
  const lanes one = hn::Set(d, 1.0f);
  const lanes small = exp_down(hn::Neg(hn::Abs(y)));
  const lanes above = hn::IfThenElse(hn::Lt(y, hn::Zero(d)), small, one);
  return hn::Div(hn::Mul(x, above), hn::Add(one, small));
}
HWY_INLINE lanes silu(lanes x) { return times_sigmoid(x, x); }
/// x (1 + tanh(z)) / 2 = x / (1 + exp(-2z)), z = sqrt(2 / pi) (x + 0.044715 x^3).
HWY_INLINE lanes gelu_tanh(lanes x) {
  const lanes_tag d;
  const lanes cube = hn::Mul(hn::Mul(x, x), hn::Mul(x, hn::Set(d, 0.044715f)));
  return times_sigmoid(x, hn::Mul(hn::Set(d, 1.5957691216057308f), hn::Add(x, cube)));
}

/// gate [n] = f(gate) * up.
template <class F>
void gated(float* HWY_RESTRICT gate, const float* HWY_RESTRICT up, std::size_t n, const F& f) noexcept {
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + N <= n; i += N) hn::StoreU(hn::Mul(f(hn::LoadU(d, gate + i)), hn::LoadU(d, up + i)), d, gate + i);
  for (; i < n; ++i) gate[i] = hn::GetLane(f(hn::Set(d, gate[i]))) * up[i];
}

}  // namespace detail

/// gate [n] = silu(gate) * up (Shazeer 2020).
inline void swiglu(float* HWY_RESTRICT gate, const float* HWY_RESTRICT up, std::size_t n) noexcept {
  detail::gated(gate, up, n, [](detail::lanes x) HWY_ATTR { return detail::silu(x); });
}

/// gate [n] = the activation of gate, times up.
inline void activate(activation kind, float* HWY_RESTRICT gate, const float* HWY_RESTRICT up, std::size_t n) noexcept {
  if (kind == activation::silu) return swiglu(gate, up, n);
  if (kind == activation::gelu_tanh)
    return detail::gated(gate, up, n, [](detail::lanes x) HWY_ATTR { return detail::gelu_tanh(x); });
  for (std::size_t i = 0; i < n; ++i) {
    const double x = static_cast<double>(gate[i]);
    gate[i] = static_cast<float>(0.5 * x * (1.0 + std::erf(x * 0.70710678118654752440))) * up[i];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_MODEL_BLOCK_INL_HPP_
