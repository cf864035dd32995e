// From logits to weights.

#if defined(MULTISTATE_ATTENTION_SOFTMAX_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_ATTENTION_SOFTMAX_INL_HPP_
#undef MULTISTATE_ATTENTION_SOFTMAX_INL_HPP_
#else
#define MULTISTATE_ATTENTION_SOFTMAX_INL_HPP_
#endif

#include <hwy/highway.h>
// Highway's own order: math after highway.
#include <hwy/contrib/math/math-inl.h>

#include <algorithm>
#include <cstddef>
#include <limits>

#include <multistate/attention/elements-inl.hpp>
#include <multistate/scan/element.hpp>
#include <multistate/simd/exp-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {
namespace detail {

/// logits [n] to softcap * tanh(logits / softcap).
HWY_INLINE void cap_logits(float* HWY_RESTRICT logits, std::size_t n, float softcap) {
  const lanes_tag d;
  const lanes cap = hn::Set(d, softcap);
  const lanes inverse = hn::Set(d, 1.0f / softcap);
  for (std::size_t i = 0; i < n; i += hn::Lanes(d)) {
    const lanes x = hn::Mul(hn::Load(d, logits + i), inverse);
    const lanes bent = hn::Mul(cap, hn::Tanh(d, x));
    hn::Store(hn::IfThenElse(hn::IsNaN(x), x, bent), d, logits + i);
  }
}

/// Fills a column's last vector with -inf.
HWY_INLINE void end_column(float* x, std::size_t n) {
  const lanes_tag d;
  const std::size_t rest = n % hn::Lanes(d);
  if (rest == 0) return;
  float* last = x + (n - rest);
  const lanes lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  hn::Store(hn::IfThenElse(hn::FirstN(d, rest), hn::Load(d, last), lowest), d, last);
}

/// x [n] (room for whole vectors) to exp(x - max). With NaN or +inf the sum is NaN; states at -inf are none: the
/// largest is a finite number, so that all of them are below it.
HWY_INLINE scan_part<float> soften(float* HWY_RESTRICT x, std::size_t n) {
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  end_column(x, n);
  lanes highest = hn::Set(d, std::numeric_limits<float>::lowest());
  for (std::size_t i = 0; i < n; i += N) highest = hn::Max(highest, hn::Load(d, x + i));
  const float max = hn::GetLane(hn::MaxOfLanes(d, highest));
  const lanes shift = hn::Set(d, max);
  lanes sum = hn::Zero(d);
  for (std::size_t i = 0; i < n; i += N) {
    const lanes e = exp_down(hn::Sub(hn::Load(d, x + i), shift));
    hn::Store(e, d, x + i);
    sum = hn::Add(sum, e);
  }
  return {max, hn::GetLane(hn::SumOfLanes(d, sum))};
}

/// The same for four columns, `stride` apart, with the same bits: none waits for another's sums.
HWY_INLINE void soften_four(float* x0, std::size_t stride, std::size_t n, scan_part<float>* parts) {
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  for (std::size_t c = 0; c < 4; ++c) end_column(x0 + c * stride, n);
  const lanes lowest = hn::Set(d, std::numeric_limits<float>::lowest());
  lanes max0 = lowest, max1 = lowest, max2 = lowest, max3 = lowest;
  float* x1 = x0 + stride;
  float* x2 = x1 + stride;
  float* x3 = x2 + stride;
  for (std::size_t i = 0; i < n; i += N) {
    max0 = hn::Max(max0, hn::Load(d, x0 + i));
    max1 = hn::Max(max1, hn::Load(d, x1 + i));
    max2 = hn::Max(max2, hn::Load(d, x2 + i));
    max3 = hn::Max(max3, hn::Load(d, x3 + i));
  }
  parts[0].max = hn::GetLane(hn::MaxOfLanes(d, max0));
  parts[1].max = hn::GetLane(hn::MaxOfLanes(d, max1));
  parts[2].max = hn::GetLane(hn::MaxOfLanes(d, max2));
  parts[3].max = hn::GetLane(hn::MaxOfLanes(d, max3));
  const lanes shift0 = hn::Set(d, parts[0].max), shift1 = hn::Set(d, parts[1].max);
  const lanes shift2 = hn::Set(d, parts[2].max), shift3 = hn::Set(d, parts[3].max);
  lanes sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  const auto step = [d](float* at, lanes shift, lanes& sum) HWY_ATTR {
    const lanes power = exp_down(hn::Sub(hn::Load(d, at), shift));
    hn::Store(power, d, at);
    sum = hn::Add(sum, power);
  };
  for (std::size_t i = 0; i < n; i += N) {
    step(x0 + i, shift0, sum0);
    step(x1 + i, shift1, sum1);
    step(x2 + i, shift2, sum2);
    step(x3 + i, shift3, sum3);
  }
  parts[0].sum = hn::GetLane(hn::SumOfLanes(d, sum0));
  parts[1].sum = hn::GetLane(hn::SumOfLanes(d, sum1));
  parts[2].sum = hn::GetLane(hn::SumOfLanes(d, sum2));
  parts[3].sum = hn::GetLane(hn::SumOfLanes(d, sum3));
}

/// out [n] = out * ours + part * theirs.
HWY_INLINE void blend(float* HWY_RESTRICT out, float ours, const float* HWY_RESTRICT part, float theirs,
                      std::size_t n) {
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  const lanes a = hn::Set(d, ours);
  const lanes b = hn::Set(d, theirs);
  std::size_t i = 0;
  for (; i + N <= n; i += N)
    hn::StoreU(hn::MulAdd(hn::LoadU(d, part + i), b, hn::Mul(hn::LoadU(d, out + i), a)), d, out + i);
  for (; i < n; ++i) out[i] = out[i] * ours + part[i] * theirs;
}

/// x [n] *= factor
HWY_INLINE void scale_all(float* HWY_RESTRICT x, std::size_t n, float factor) {
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + N <= n; i += N) hn::StoreU(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, factor)), d, x + i);
  for (; i < n; ++i) x[i] *= factor;
}

/// row [n] = the sum of `group` weight vectors, `stride` apart, each times its factor.
HWY_INLINE void sum_heads(const float* HWY_RESTRICT weights, std::size_t stride, const float* factors,
                          std::size_t group, std::size_t n, float* HWY_RESTRICT row) {
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + N <= n; i += N) {
    lanes sum = hn::Mul(hn::LoadU(d, weights + i), hn::Set(d, factors[0]));
    for (std::size_t g = 1; g < group; ++g)
      sum = hn::MulAdd(hn::LoadU(d, weights + g * stride + i), hn::Set(d, factors[g]), sum);
    hn::StoreU(sum, d, row + i);
  }
  if (i == n) return;
  HWY_ALIGN float rest[attention_pad];
  lanes sum = hn::Mul(hn::LoadU(d, weights + i), hn::Set(d, factors[0]));
  for (std::size_t g = 1; g < group; ++g)
    sum = hn::MulAdd(hn::LoadU(d, weights + g * stride + i), hn::Set(d, factors[g]), sum);
  hn::Store(sum, d, rest);
  std::copy_n(rest, n - i, row + i);
}

}  // namespace detail
}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_ATTENTION_SOFTMAX_INL_HPP_
