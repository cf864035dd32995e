// The attention kernel, compiled once for each SIMD target that includes it. Ordinary users include attention.hpp;
// a unit with run-time dispatch includes this one through Highway's foreach_target.h.

#if defined(MULTISTATE_ATTENTION_ATTEND_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_ATTENTION_ATTEND_INL_HPP_
#undef MULTISTATE_ATTENTION_ATTEND_INL_HPP_
#else
#define MULTISTATE_ATTENTION_ATTEND_INL_HPP_
#endif

#include <hwy/highway.h>
// Highway's own order: math after highway.
#include <hwy/contrib/math/math-inl.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>

#include <multistate/attention/executor.hpp>
#include <multistate/attention/options.hpp>
#include <multistate/types/assert.hpp>
#include <multistate/types/format.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/types/task.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

namespace detail {

using namespace multistate::detail;

// Vectors of at most 16 floats, so that scratch has the same size on every target. Vectors have names rather than
// places in arrays: SVE and RVV vectors can't be in an array.
using lanes_tag = hn::CappedTag<float, attention_pad>;
using lanes = hn::Vec<lanes_tag>;

constexpr std::size_t tile = 8;  // accumulators in registers: 8 / Q rows x Q queries, or Q queries x 8 / Q vectors

// ---- elements to floats -------------------------------------------------------------------------------------------

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
  HWY_ALIGN element part[attention_pad] = {};
  std::memcpy(part + (N - rest), row, rest * sizeof(element));
  return load(Format(), reinterpret_cast<const std::byte*>(part));
}

/// row [count] of the format to floats.
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

/// Turns x [dk] in place; it was copied from the un-rotated vector just before. cos_sin [2][pairs].
HWY_INLINE void turn(const rope_config& config, const float* HWY_RESTRICT cos_sin, float* HWY_RESTRICT x) {
  const auto pairs = static_cast<std::size_t>(config.dim) / 2;
  const float* c = cos_sin;
  const float* s = cos_sin + pairs;
  if (config.pairing == rope_pairing::adjacent) {
    for (std::size_t i = 0; i < pairs; ++i) {
      const float a = x[2 * i];
      const float b = x[2 * i + 1];
      x[2 * i] = a * c[i] - b * s[i];
      x[2 * i + 1] = b * c[i] + a * s[i];
    }
    return;
  }
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + N <= pairs; i += N) {
    const lanes a = hn::LoadU(d, x + i);
    const lanes b = hn::LoadU(d, x + pairs + i);
    const lanes cosine = hn::LoadU(d, c + i);
    const lanes sine = hn::LoadU(d, s + i);
    hn::StoreU(hn::Sub(hn::Mul(a, cosine), hn::Mul(b, sine)), d, x + i);
    hn::StoreU(hn::MulAdd(b, cosine, hn::Mul(a, sine)), d, x + pairs + i);
  }
  for (; i < pairs; ++i) {
    const float a = x[i];
    const float b = x[pairs + i];
    x[i] = a * c[i] - b * s[i];
    x[pairs + i] = b * c[i] + a * s[i];
  }
}

// ---- logits: rows x queries ---------------------------------------------------------------------------------------

#if HWY_TARGET != HWY_SCALAR
/// Adds up the 128-bit blocks of a vector: to [4].
template <class D, class V>
HWY_INLINE void store_block_sums(D d, V blocks, float* to) {
#if HWY_HAVE_SCALABLE
  HWY_ALIGN float buffer[attention_pad];
  hn::Store(blocks, d, buffer);
  for (std::size_t i = 0; i < 4; ++i) to[i] = buffer[i];
  for (std::size_t i = 4; i < hn::Lanes(d); ++i) to[i % 4] += buffer[i];
#else
  if constexpr (hn::MaxLanes(D()) <= 4) {
    hn::StoreU(blocks, d, to);
  } else {
    const hn::Half<D> half;
    store_block_sums(half, hn::Add(hn::LowerHalf(half, blocks), hn::UpperHalf(half, blocks)), to);
  }
#endif
}
#endif

/// Four sums of lanes, in order; every one is added up in the same way, whatever its place.
HWY_INLINE void store_sums(lanes a, lanes b, lanes c, lanes e, float* to) {
#if HWY_TARGET == HWY_SCALAR
  to[0] = hn::GetLane(a);
  to[1] = hn::GetLane(b);
  to[2] = hn::GetLane(c);
  to[3] = hn::GetLane(e);
#else
  const lanes_tag d;
  const lanes ac = hn::Add(hn::InterleaveLower(d, a, c), hn::InterleaveUpper(d, a, c));
  const lanes be = hn::Add(hn::InterleaveLower(d, b, e), hn::InterleaveUpper(d, b, e));
  store_block_sums(d, hn::Add(hn::InterleaveLower(d, ac, be), hn::InterleaveUpper(d, ac, be)), to);
#endif
}

/// One vector of each of several rows, at a fixed element offset.
template <class Format>
struct whole_columns {
  const std::byte* const* rows;
  std::size_t offset_bytes;
  HWY_INLINE lanes operator()(std::size_t r) const { return load(Format(), rows[r] + offset_bytes); }
};

template <class Format>
struct rest_columns {
  const std::byte* const* rows;
  std::size_t count;
  std::size_t rest;
  HWY_INLINE lanes operator()(std::size_t r) const { return load_rest<Format>(rows[r], count, rest); }
};

/// Adds one vector's worth to the tile: accumulator q * (8 / Q) + r.
template <int Q, class Columns>
HWY_INLINE void multiply_tile(const Columns& k, const float* HWY_RESTRICT q, std::size_t q_stride, lanes& a0, lanes& a1,
                              lanes& a2, lanes& a3, lanes& a4, lanes& a5, lanes& a6, lanes& a7) {
  const lanes_tag d;
  const lanes q0 = hn::Load(d, q);
  const lanes k0 = k(0);
  const lanes k1 = k(1);
  if constexpr (Q == 4) {
    const lanes q1 = hn::Load(d, q + q_stride);
    const lanes q2 = hn::Load(d, q + 2 * q_stride);
    const lanes q3 = hn::Load(d, q + 3 * q_stride);
    a0 = hn::MulAdd(k0, q0, a0);
    a1 = hn::MulAdd(k1, q0, a1);
    a2 = hn::MulAdd(k0, q1, a2);
    a3 = hn::MulAdd(k1, q1, a3);
    a4 = hn::MulAdd(k0, q2, a4);
    a5 = hn::MulAdd(k1, q2, a5);
    a6 = hn::MulAdd(k0, q3, a6);
    a7 = hn::MulAdd(k1, q3, a7);
  } else {
    const lanes k2 = k(2);
    const lanes k3 = k(3);
    a0 = hn::MulAdd(k0, q0, a0);
    a1 = hn::MulAdd(k1, q0, a1);
    a2 = hn::MulAdd(k2, q0, a2);
    a3 = hn::MulAdd(k3, q0, a3);
    if constexpr (Q == 2) {
      const lanes q1 = hn::Load(d, q + q_stride);
      a4 = hn::MulAdd(k0, q1, a4);
      a5 = hn::MulAdd(k1, q1, a5);
      a6 = hn::MulAdd(k2, q1, a6);
      a7 = hn::MulAdd(k3, q1, a7);
    } else {
      a4 = hn::MulAdd(k(4), q0, a4);
      a5 = hn::MulAdd(k(5), q0, a5);
      a6 = hn::MulAdd(k(6), q0, a6);
      a7 = hn::MulAdd(k(7), q0, a7);
    }
  }
}

/// Products of Q queries with 8 / Q rows: dots [Q][8 / Q]. q as prepare_query leaves it.
template <int Q, class Format>
HWY_INLINE void dot_tile(const float* HWY_RESTRICT q, std::size_t q_stride, const std::byte* const* HWY_RESTRICT rows,
                         std::size_t dk, float* HWY_RESTRICT dots) {
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  const std::size_t rest = dk % N;
  lanes a0 = hn::Zero(d);
  lanes a1 = a0;
  lanes a2 = a0;
  lanes a3 = a0;
  lanes a4 = a0;
  lanes a5 = a0;
  lanes a6 = a0;
  lanes a7 = a0;
  for (std::size_t i = 0; i + N <= dk; i += N) {
    const whole_columns<Format> k{rows, i * sizeof(typename Format::element)};
    multiply_tile<Q>(k, q + i, q_stride, a0, a1, a2, a3, a4, a5, a6, a7);
  }
  if (rest != 0) {
    const rest_columns<Format> k{rows, dk, rest};
    multiply_tile<Q>(k, q + (dk - rest), q_stride, a0, a1, a2, a3, a4, a5, a6, a7);
  }
  store_sums(a0, a1, a2, a3, dots);
  store_sums(a4, a5, a6, a7, dots + 4);
}

/// logits [Q][count] (stride floats apart) of `count` rows; rows [round up to 8] repeats the last one.
template <int Q, class Format>
HWY_INLINE void dot_rows(const float* q, std::size_t q_stride, const std::byte* const* rows, std::size_t count,
                         std::size_t dk, float* logits, std::size_t stride) {
  constexpr std::size_t R = tile / Q;
  HWY_ALIGN float dots[tile];
  for (std::size_t r = 0; r < count; r += R) {
    dot_tile<Q, Format>(q, q_stride, rows + r, dk, dots);
    const std::size_t valid = std::min(R, count - r);
    for (std::size_t j = 0; j < Q; ++j)
      for (std::size_t i = 0; i < valid; ++i) logits[j * stride + r + i] = dots[j * R + i];
  }
}

/// A query [dk] as dot_tile reads it: scaled, and what doesn't fill the last vector in its highest lanes, zeros below.
HWY_INLINE void prepare_query(float* q, std::size_t dk, float scale) {
  const std::size_t N = hn::Lanes(lanes_tag());
  const std::size_t rest = dk % N;
  for (std::size_t i = 0; i < dk; ++i) q[i] *= scale;
  if (rest == 0) return;
  float* last = q + (dk - rest);
  for (std::size_t i = rest; i-- > 0;) last[N - rest + i] = last[i];
  for (std::size_t i = 0; i < N - rest; ++i) last[i] = 0.0f;
}

// ---- softmax ------------------------------------------------------------------------------------------------------

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

/// exp(x) for x <= 0; Highway's would make a number of NaN.
HWY_INLINE lanes exp_down(lanes x) {
  const lanes_tag d;
  const lanes lowest = hn::Set(d, -105.0f);  // exp is 0 there
  const lanes safe = hn::IfThenElse(hn::Ge(x, lowest), x, lowest);
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(d, safe));
}

/// logits [n] (room for whole vectors) to their softmax, together with `sink` where there is one.
/// NaN, +inf, or -inf throughout makes NaN of all, as in the formula.
HWY_INLINE void softmax(float* HWY_RESTRICT x, std::size_t n, const float* sink) {
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  const std::size_t end = (n + N - 1) / N * N;
  for (std::size_t i = n; i < end; ++i) x[i] = -std::numeric_limits<float>::infinity();

  lanes highest = hn::Set(d, sink != nullptr ? *sink : -std::numeric_limits<float>::infinity());
  for (std::size_t i = 0; i < end; i += N) highest = hn::Max(highest, hn::Load(d, x + i));
  const lanes max = hn::MaxOfLanes(d, highest);

  // Sums of 64 vectors are summed in turn: an error that grows with the square root of n, not with n.
  lanes total = hn::Zero(d);
  for (std::size_t i = 0; i < end;) {
    const std::size_t stop = std::min(end, i + 64 * N);
    lanes part = hn::Zero(d);
    for (; i < stop; i += N) {
      const lanes e = exp_down(hn::Sub(hn::Load(d, x + i), max));
      hn::Store(e, d, x + i);
      part = hn::Add(part, e);
    }
    total = hn::Add(total, part);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, total));
  if (sink != nullptr) sum += static_cast<float>(std::exp(static_cast<double>(*sink - hn::GetLane(max))));
  const lanes inverse = hn::Set(d, 1.0f / sum);
  for (std::size_t i = 0; i < end; i += N) hn::Store(hn::Mul(hn::Load(d, x + i), inverse), d, x + i);
}

/// row [n] = the sum of `group` weight vectors, `stride` apart.
HWY_INLINE void sum_heads(const float* HWY_RESTRICT weights, std::size_t stride, std::size_t group, std::size_t n,
                          float* HWY_RESTRICT row) {
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + N <= n; i += N) {
    lanes sum = hn::Load(d, weights + i);
    for (std::size_t g = 1; g < group; ++g) sum = hn::Add(sum, hn::Load(d, weights + g * stride + i));
    hn::StoreU(sum, d, row + i);
  }
  for (; i < n; ++i) {
    float sum = weights[i];
    for (std::size_t g = 1; g < group; ++g) sum += weights[g * stride + i];
    row[i] = sum;
  }
}

// ---- weighted values: queries x vectors ---------------------------------------------------------------------------

HWY_INLINE void store_part(lanes part, float* out, bool first) {
  const lanes_tag d;
  hn::StoreU(first ? part : hn::Add(hn::LoadU(d, out), part), d, out);
}

/// One row's part: accumulator q * W + w.
template <int Q, int W, class Columns>
HWY_INLINE void weigh_row(const Columns& v, std::size_t row, const float* HWY_RESTRICT p, std::size_t p_stride,
                          lanes& a0, lanes& a1, lanes& a2, lanes& a3, lanes& a4, lanes& a5, lanes& a6, lanes& a7) {
  const lanes_tag d;
  const lanes p0 = hn::Set(d, p[0]);
  const lanes v0 = v(row);
  a0 = hn::MulAdd(p0, v0, a0);
  if constexpr (Q == 1) {
    if constexpr (W >= 2) a1 = hn::MulAdd(p0, v.next(row, 1), a1);
    if constexpr (W >= 4) {
      a2 = hn::MulAdd(p0, v.next(row, 2), a2);
      a3 = hn::MulAdd(p0, v.next(row, 3), a3);
    }
    if constexpr (W >= 8) {
      a4 = hn::MulAdd(p0, v.next(row, 4), a4);
      a5 = hn::MulAdd(p0, v.next(row, 5), a5);
      a6 = hn::MulAdd(p0, v.next(row, 6), a6);
      a7 = hn::MulAdd(p0, v.next(row, 7), a7);
    }
  } else if constexpr (Q == 2) {
    const lanes p1 = hn::Set(d, p[p_stride]);
    if constexpr (W == 1) a1 = hn::MulAdd(p1, v0, a1);
    if constexpr (W == 2) {
      const lanes v1 = v.next(row, 1);
      a1 = hn::MulAdd(p0, v1, a1);
      a2 = hn::MulAdd(p1, v0, a2);
      a3 = hn::MulAdd(p1, v1, a3);
    }
    if constexpr (W == 4) {
      const lanes v1 = v.next(row, 1);
      const lanes v2 = v.next(row, 2);
      const lanes v3 = v.next(row, 3);
      a1 = hn::MulAdd(p0, v1, a1);
      a2 = hn::MulAdd(p0, v2, a2);
      a3 = hn::MulAdd(p0, v3, a3);
      a4 = hn::MulAdd(p1, v0, a4);
      a5 = hn::MulAdd(p1, v1, a5);
      a6 = hn::MulAdd(p1, v2, a6);
      a7 = hn::MulAdd(p1, v3, a7);
    }
  } else {
    const lanes p1 = hn::Set(d, p[p_stride]);
    const lanes p2 = hn::Set(d, p[2 * p_stride]);
    const lanes p3 = hn::Set(d, p[3 * p_stride]);
    if constexpr (W == 1) {
      a1 = hn::MulAdd(p1, v0, a1);
      a2 = hn::MulAdd(p2, v0, a2);
      a3 = hn::MulAdd(p3, v0, a3);
    } else {
      const lanes v1 = v.next(row, 1);
      a1 = hn::MulAdd(p0, v1, a1);
      a2 = hn::MulAdd(p1, v0, a2);
      a3 = hn::MulAdd(p1, v1, a3);
      a4 = hn::MulAdd(p2, v0, a4);
      a5 = hn::MulAdd(p2, v1, a5);
      a6 = hn::MulAdd(p3, v0, a6);
      a7 = hn::MulAdd(p3, v1, a7);
    }
  }
}

/// Neighbouring vectors of value rows, from a fixed element offset.
template <class Format>
struct whole_values {
  const std::byte* const* rows;
  std::size_t offset_bytes;
  std::size_t vector_bytes;
  HWY_INLINE lanes operator()(std::size_t r) const { return load(Format(), rows[r] + offset_bytes); }
  HWY_INLINE lanes next(std::size_t r, std::size_t w) const {
    return load(Format(), rows[r] + offset_bytes + w * vector_bytes);
  }
};

/// Q queries x W vectors of `count` rows, added to outs [Q] from element `at`. `rest` != 0: the ragged end.
template <int Q, int W, class Columns>
HWY_INLINE void weigh_tile(const Columns& v, std::size_t count, const float* HWY_RESTRICT p, std::size_t p_stride,
                           float* const* outs, std::size_t at, std::size_t rest, bool first) {
  static_assert(Q * W <= static_cast<int>(tile));
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  lanes a0 = hn::Zero(d);
  lanes a1 = a0;
  lanes a2 = a0;
  lanes a3 = a0;
  lanes a4 = a0;
  lanes a5 = a0;
  lanes a6 = a0;
  lanes a7 = a0;
  for (std::size_t i = 0; i < count; ++i) weigh_row<Q, W>(v, i, p + i, p_stride, a0, a1, a2, a3, a4, a5, a6, a7);
  if (rest != 0) {  // W is 1: accumulator = query
    HWY_ALIGN float parts[4 * attention_pad];
    hn::Store(a0, d, parts);
    if constexpr (Q >= 2) hn::Store(a1, d, parts + attention_pad);
    if constexpr (Q >= 4) hn::Store(a2, d, parts + 2 * attention_pad);
    if constexpr (Q >= 4) hn::Store(a3, d, parts + 3 * attention_pad);
    for (std::size_t j = 0; j < Q; ++j)
      for (std::size_t i = 0; i < rest; ++i) {
        const float part = parts[j * attention_pad + N - rest + i];
        outs[j][at + i] = first ? part : outs[j][at + i] + part;
      }
    return;
  }
  store_part(a0, outs[0] + at, first);
  if constexpr (Q * W >= 2) store_part(a1, outs[1 / W] + at + 1 % W * N, first);
  if constexpr (Q * W >= 4) {
    store_part(a2, outs[2 / W] + at + 2 % W * N, first);
    store_part(a3, outs[3 / W] + at + 3 % W * N, first);
  }
  if constexpr (Q * W >= 8) {
    store_part(a4, outs[4 / W] + at + 4 % W * N, first);
    store_part(a5, outs[5 / W] + at + 5 % W * N, first);
    store_part(a6, outs[6 / W] + at + 6 % W * N, first);
    store_part(a7, outs[7 / W] + at + 7 % W * N, first);
  }
}

template <class Format>
struct rest_values : rest_columns<Format> {
  HWY_INLINE lanes next(std::size_t r, std::size_t /*w*/) const { return (*this)(r); }
};

/// W vectors at a time from element `at` on, then fewer.
template <int Q, int W, class Format>
HWY_INLINE void weigh_columns(const std::byte* const* rows, std::size_t count, const float* p, std::size_t p_stride,
                              std::size_t dv, float* const* outs, std::size_t at, bool first) {
  using element = typename Format::element;
  const std::size_t N = hn::Lanes(lanes_tag());
  for (; at + W * N <= dv; at += W * N)
    weigh_tile<Q, W>(whole_values<Format>{rows, at * sizeof(element), N * sizeof(element)}, count, p, p_stride, outs,
                     at, 0, first);
  if constexpr (W > 1) {
    weigh_columns<Q, W / 2, Format>(rows, count, p, p_stride, dv, outs, at, first);
  } else if (at < dv) {
    weigh_tile<Q, 1>(rest_values<Format>{{rows, dv, dv - at}}, count, p, p_stride, outs, at, dv - at, first);
  }
}

/// outs [columns][dv] (+)= weights [columns][count] x rows [count][dv].
template <class Format>
HWY_INLINE void weigh_rows(const std::byte* const* rows, std::size_t count, const float* p, std::size_t p_stride,
                           std::size_t dv, float* const* outs, std::size_t columns, bool first) {
  std::size_t c = 0;
  for (; c + 4 <= columns; c += 4)
    weigh_columns<4, 2, Format>(rows, count, p + c * p_stride, p_stride, dv, outs + c, 0, first);
  for (; c + 2 <= columns; c += 2)
    weigh_columns<2, 4, Format>(rows, count, p + c * p_stride, p_stride, dv, outs + c, 0, first);
  for (; c < columns; ++c) weigh_columns<1, 8, Format>(rows, count, p + c * p_stride, p_stride, dv, outs + c, 0, first);
}

// ---- one task -----------------------------------------------------------------------------------------------------

/// Walks the extents with increasing slots.
struct extent_cursor {
  const extent* at;
  std::size_t base = 0;  // the first slot of *at

  HWY_INLINE const extent& seek(std::size_t s) {
    while (s >= base + static_cast<std::size_t>(at->n)) base += static_cast<std::size_t>(at++->n);
    return *at;
  }
};

/// One attention_task on one worker's scratch. Bits do not depend on how tokens share a pass: token j of a chunk gets
/// what a call of its own would give.
template <needs Rows, class KeyFormat, class ValueFormat>
class task_attender {
 public:
  task_attender(const attention_task& task, const shape& dims, const attention_options& options,
                const attention_layout& layout, std::size_t stride, float* scratch) noexcept
      : task_(task),
        options_(options),
        n_(static_cast<std::size_t>(task.kv.n)),
        queries_(static_cast<std::size_t>(task.queries)),
        group_(static_cast<std::size_t>(dims.group())),
        dk_(static_cast<std::size_t>(dims.dk)),
        dv_(static_cast<std::size_t>(dims.dv)),
        dk_stride_(padded(dk_)),
        stride_(stride),
        scale_(attention_scale(options, dims)),
        q_(scratch + layout.queries),
        keys_(scratch + layout.keys),
        weights_(scratch + layout.weights),
        index_(reinterpret_cast<std::uint32_t*>(scratch + layout.index)),
        sums_(reinterpret_cast<double*>(scratch + layout.sums)) {}

  void run() noexcept {
    if (Rows == needs::row_sum && queries_ > 1)
      for (std::size_t s = 0; s < n_; ++s) sums_[s] = 0.0;
    position oldest = 0;
    if (options_.window > 0)
      oldest = *std::min_element(task_.kv.positions.begin(), task_.kv.positions.begin() + task_.kv.n);
    const std::size_t together = attention_tokens(static_cast<int>(group_), task_.queries);
    for (std::size_t j = 0; j < queries_; j += together) {
      const std::size_t tokens = std::min(together, queries_ - j);
      if (options_.window > 0 && oldest <= own(j + tokens - 1) - options_.window) {
        for (std::size_t i = 0; i < tokens; ++i) pass(j + i, 1, true);
      } else {
        pass(j, tokens, false);
      }
    }
    if (Rows == needs::row_sum && queries_ > 1)
      for (std::size_t s = 0; s < n_; ++s) task_.row[s] = static_cast<float>(sums_[s]);
  }

 private:
  position own(std::size_t j) const noexcept { return task_.first + static_cast<position>(j); }
  std::size_t causal(std::size_t j) const noexcept { return n_ - queries_ + j + 1; }
  std::size_t slot_of(std::size_t i) const noexcept { return listed_ ? index_[i] : i; }

  /// Tokens [first, first + tokens). Hiding: one token, whose window hides some states; these are not even read.
  void pass(std::size_t first, std::size_t tokens, bool hiding) noexcept {
    const std::size_t columns = tokens * group_;
    listed_ = hiding;
    std::size_t seen = causal(first + tokens - 1);
    if (hiding) seen = list_seen(own(first), seen);
    prepare(first, tokens);
    logits(0, seen, columns);
    for (std::size_t j = 0; j < tokens; ++j) {
      const std::size_t length = hiding ? seen : causal(first + j);
      for (std::size_t g = 0; g < group_; ++g) weights(first + j, g, weights_ + (j * group_ + g) * stride_, length);
      if constexpr (Rows != needs::nothing) write_row(first + j, weights_ + j * group_ * stride_, length);
    }

    float* outs[64];
    static_assert(sizeof outs / sizeof outs[0] >= attention_columns);
    for (std::size_t at = 0; at < columns;) {  // a KV head with more query heads: in parts, and then of one token
      const std::size_t some = std::min(columns - at, sizeof outs / sizeof outs[0]);
      for (std::size_t c = 0; c < some; ++c) {
        const std::size_t column = at + c;
        outs[c] = task_.out + (first + column / group_) * task_.out_stride + column % group_ * dv_;
      }
      const float* p = weights_ + at * stride_;
      if (tokens == 1) {
        values(0, seen, p, outs, some);
      } else {
        // What all tokens see in common, in whole blocks; then each token its own end, so that no token multiplies
        // the value of a later one, not even with 0.
        const std::size_t common = causal(first) / attention_row_block * attention_row_block;
        if (common > 0) values(0, common, p, outs, some);
        for (std::size_t j = 0; j < tokens; ++j)
          values(common, causal(first + j), p + j * group_ * stride_, outs + j * group_, group_);
      }
      at += some;
    }
  }

  /// index_ = the slots of [0, end) that a window lets through; their number.
  std::size_t list_seen(position now, std::size_t end) noexcept {
    std::size_t seen = 0;
    for (std::size_t s = 0; s < end; ++s) {
      index_[seen] = static_cast<std::uint32_t>(s);
      seen += task_.kv.positions[s] > now - options_.window ? 1 : 0;
    }
    return seen;
  }

  /// q_ [tokens * G][dk_stride]
  void prepare(std::size_t first, std::size_t tokens) noexcept {
    for (std::size_t j = 0; j < tokens; ++j)
      for (std::size_t g = 0; g < group_; ++g) {
        float* q = q_ + (j * group_ + g) * dk_stride_;
        std::memcpy(q, task_.q + (first + j) * task_.q_stride + g * dk_, dk_ * sizeof(float));
        if (options_.in_cache != nullptr)
          turn(options_.in_cache->turning().config(), options_.in_cache->row(causal(first + j) - 1), q);
        prepare_query(q, dk_, scale_);
      }
  }

  /// weights_ [columns][begin, end) = q.k of the listed states.
  void logits(std::size_t begin, std::size_t end, std::size_t columns) noexcept {
    const std::byte* rows[attention_row_block];
    extent_cursor cursor{task_.kv.extents.data()};
    for (std::size_t at = begin; at < end; at += attention_row_block) {
      const std::size_t count = std::min(attention_row_block, end - at);
      for (std::size_t i = 0; i < count; ++i) {
        const std::size_t s = slot_of(at + i);
        const extent& e = cursor.seek(s);
        rows[i] = e.k + (s - cursor.base) * e.k_stride;
        if (options_.in_cache != nullptr) {
          float* key = keys_ + i * dk_stride_;
          unpack<KeyFormat>(rows[i], dk_, key);
          turn(options_.in_cache->turning().config(), options_.in_cache->row(task_.kv.ranks[s]), key);
          rows[i] = reinterpret_cast<const std::byte*>(key);
        }
      }
      for (std::size_t i = count; i < attention_row_block; ++i) rows[i] = rows[count - 1];
      if (options_.in_cache != nullptr)
        dot_columns<f32>(rows, count, columns, weights_ + at);
      else
        dot_columns<KeyFormat>(rows, count, columns, weights_ + at);
    }
  }

  template <class Format>
  void dot_columns(const std::byte* const* rows, std::size_t count, std::size_t columns, float* to) const noexcept {
    std::size_t c = 0;
    for (; c + 4 <= columns; c += 4)
      dot_rows<4, Format>(q_ + c * dk_stride_, dk_stride_, rows, count, dk_, to + c * stride_, stride_);
    for (; c + 2 <= columns; c += 2)
      dot_rows<2, Format>(q_ + c * dk_stride_, dk_stride_, rows, count, dk_, to + c * stride_, stride_);
    for (; c < columns; ++c)
      dot_rows<1, Format>(q_ + c * dk_stride_, dk_stride_, rows, count, dk_, to + c * stride_, stride_);
  }

  /// x [length]: logits to weights.
  void weights(std::size_t j, std::size_t g, float* x, std::size_t length) noexcept {
    const std::size_t head = static_cast<std::size_t>(task_.kv_head) * group_ + g;
    if (options_.softcap > 0.0f) cap_logits(x, length, options_.softcap);
    if (!options_.alibi.empty()) {
      const float slope = options_.alibi[head];
      for (std::size_t i = 0; i < length; ++i)
        x[i] -= slope * static_cast<float>(own(j) - task_.kv.positions[slot_of(i)]);
    }
    softmax(x, length, options_.sink_logits.empty() ? nullptr : &options_.sink_logits[head]);
  }

  /// Delivers the group's weights w [G][length] of token j.
  void write_row(std::size_t j, const float* w, std::size_t length) noexcept {
    if (Rows == needs::last_row && j + 1 != queries_) return;
    if (Rows == needs::row_sum && queries_ > 1) {
      for (std::size_t i = 0; i < length; ++i) {
        float sum = w[i];
        for (std::size_t g = 1; g < group_; ++g) sum += w[g * stride_ + i];
        sums_[slot_of(i)] += static_cast<double>(sum);
      }
      return;
    }
    float* row = task_.row + (Rows == needs::each_row ? j * task_.row_stride : 0);
    if (listed_) {
      for (std::size_t s = 0; s < n_; ++s) row[s] = 0.0f;
      for (std::size_t i = 0; i < length; ++i) {
        float sum = w[i];
        for (std::size_t g = 1; g < group_; ++g) sum += w[g * stride_ + i];
        row[index_[i]] = sum;
      }
      return;
    }
    sum_heads(w, stride_, group_, length, row);
    for (std::size_t s = length; s < n_; ++s) row[s] = 0.0f;
  }

  /// outs [columns][dv] (+)= the weighted values of the listed states [begin, end); begin is a whole number of blocks.
  /// Every block is summed apart, then added.
  void values(std::size_t begin, std::size_t end, const float* p, float* const* outs, std::size_t columns) noexcept {
    if (end == 0)  // nothing is seen
      for (std::size_t c = 0; c < columns; ++c)
        for (std::size_t i = 0; i < dv_; ++i) outs[c][i] = 0.0f;
    const std::byte* rows[attention_row_block];
    extent_cursor cursor{task_.kv.extents.data()};
    for (std::size_t at = begin; at < end; at += attention_row_block) {
      const std::size_t count = std::min(attention_row_block, end - at);
      for (std::size_t i = 0; i < count; ++i) {
        const std::size_t s = slot_of(at + i);
        const extent& e = cursor.seek(s);
        rows[i] = e.v + (s - cursor.base) * e.v_stride;
      }
      weigh_rows<ValueFormat>(rows, count, p + at, stride_, dv_, outs, columns, at == 0);
    }
  }

  const attention_task& task_;
  const attention_options& options_;
  std::size_t n_, queries_, group_, dk_, dv_;
  std::size_t dk_stride_;  // floats from one query or rotated key to the next
  std::size_t stride_;     // floats from one weight vector to the next
  float scale_;
  float* q_;              // [columns][dk_stride]
  float* keys_;           // [attention_row_block][dk_stride]
  float* weights_;        // [columns][stride]
  std::uint32_t* index_;  // [n] while listed_
  double* sums_;          // [n] at row_sum of a chunk
  bool listed_ = false;   // entry i is slot index_[i], not i
};

/// What an executor runs.
template <needs Rows, class KeyFormat, class ValueFormat>
struct attend_one {
  std::span<const attention_task> tasks;
  const shape& dims;
  const attention_options& options;
  const attention_layout& layout;
  std::size_t stride;
  float* scratch;

  void operator()(int task, int worker) const noexcept {
    task_attender<Rows, KeyFormat, ValueFormat>(tasks[static_cast<std::size_t>(task)], dims, options, layout, stride,
                                                scratch + static_cast<std::size_t>(worker) * layout.floats)
        .run();
  }
};

}  // namespace detail

/// Softmax attention over extents, and the rows that policies look at. Keys and values have formats apart; scores,
/// softmax and sums are float32 or better. Scratch: attend_scratch_bytes(); one object may not be called from two
/// threads at once. NaN in a query gives NaN out and NaN rows for that query, and so do infinite logits; a query that
/// sees nothing gives 0.
template <executor E = serial>
struct attention {
  shape dims;
  attention_options options;
  E* exec = nullptr;  ///< serial may stay null
  std::span<std::byte> scratch;

  template <needs Want, class KeyFormat = f32, class ValueFormat = KeyFormat>
  void operator()(std::span<const attention_task> tasks) const noexcept {
    int max_n = 1;
    int max_queries = 1;
    for (const attention_task& task : tasks) {
      check(task, rows_given(Want));
      max_n = std::max(max_n, task.kv.n);
      max_queries = std::max(max_queries, task.queries);
    }
    const multistate::detail::attention_layout layout(dims, max_n, max_queries);
    constexpr std::size_t line = multistate::detail::attention_pad * sizeof(float);
    const auto address = reinterpret_cast<std::uintptr_t>(scratch.data());
    const std::size_t skip = (line - address % line) % line;
    auto* base = reinterpret_cast<float*>(scratch.data() + skip);
    const detail::attend_one<rows_given(Want), KeyFormat, ValueFormat> one{
        tasks, dims, options, layout, multistate::detail::padded(static_cast<std::size_t>(max_n)), base};
    const int count = static_cast<int>(tasks.size());
    if constexpr (std::is_same_v<E, serial>) {
      MULTISTATE_ASSERT(scratch.size() >= attend_scratch_bytes(dims, max_n, max_queries));
      serial()(count, one);
    } else {
      MULTISTATE_ASSERT(exec != nullptr);
      MULTISTATE_ASSERT(scratch.size() >= attend_scratch_bytes(dims, max_n, max_queries, exec->workers()));
      (*exec)(count, one);
    }
  }

 private:
  /// What a caller must see to; nothing in a build without assertions.
  void check([[maybe_unused]] const attention_task& task, [[maybe_unused]] needs rows) const noexcept {
    [[maybe_unused]] const auto n = static_cast<std::size_t>(task.kv.n);
    MULTISTATE_ASSERT(task.queries >= 1 && task.kv.n >= task.queries);
    MULTISTATE_ASSERT(task.kv_head >= 0 && task.kv_head < dims.kv_heads);
    [[maybe_unused]] std::size_t held = 0;
    for (const extent& e : task.kv.extents) held += static_cast<std::size_t>(e.n);
    MULTISTATE_ASSERT(held >= n);
    MULTISTATE_ASSERT(rows == needs::nothing || task.row != nullptr);
    MULTISTATE_ASSERT((options.window == 0 && options.alibi.empty()) || task.kv.positions.size() >= n);
    MULTISTATE_ASSERT(options.sink_logits.empty() ||
                      options.sink_logits.size() == static_cast<std::size_t>(dims.heads));
    MULTISTATE_ASSERT(options.alibi.empty() || options.alibi.size() == static_cast<std::size_t>(dims.heads));
    MULTISTATE_ASSERT(options.in_cache == nullptr ||
                      (task.kv.ranks.size() >= n && options.in_cache->ranks() >= task.kv.n &&
                       options.in_cache->turning().config().dim <= dims.dk));
  }
};

/// The SIMD target this unit's attention was compiled for, as Highway names it ("AVX2", "NEON", "SCALAR").
inline std::string_view attention_target() noexcept { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_ATTENTION_ATTEND_INL_HPP_
