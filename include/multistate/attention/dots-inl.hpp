// Products of queries with the keys of a block.

#if defined(MULTISTATE_ATTENTION_DOTS_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_ATTENTION_DOTS_INL_HPP_
#undef MULTISTATE_ATTENTION_DOTS_INL_HPP_
#else
#define MULTISTATE_ATTENTION_DOTS_INL_HPP_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstring>
#include <utility>

#include <multistate/attention/elements-inl.hpp>
#include <multistate/attention/options.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {
namespace detail {

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

/// The sums of the lanes of a, b, c, e ..., in order, to[sizeof...]: every one is added up in the same way, whatever
/// its place.
template <class... V>
HWY_INLINE void store_sums(float* to, lanes a, lanes b, lanes c, lanes e, V... more) {
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
  if constexpr (sizeof...(V) > 0) store_sums(to + 4, more...);
}

/// Keys that one tile takes with Q queries.
template <int Q>
inline constexpr int tile_rows = Q == 4 ? tile / 4 : 4;

/// One tile: Q queries by R keys; accumulator q * R + r. `Stored`: the keys' format in memory.
template <int Q, class Format, class Stored>
struct dot_tile {
  static constexpr int R = tile_rows<Q>;

  row_fetcher<Stored>& fetcher;
  const std::byte* const* rows;  ///< [R]
  const float* q;                ///< as prepare_query leaves them
  std::size_t q_stride;
  std::size_t dk;
  float* logits;  ///< [Q] rows `stride` apart
  std::size_t stride;

  template <class... V>
  HWY_INLINE void operator()(V&... sums) const {
    const std::size_t N = hn::Lanes(lanes_tag());
    std::size_t i = 0;
    for (; i + N <= dk; i += N) {
      fetcher.template fetch<R>();
      multiply(i, sums...);
    }
    if (i < dk) multiply_rest(dk - i, sums...);

    if constexpr (R == 4) {
      store(logits, sums...);
    } else {
      HWY_ALIGN float dots[Q * R];
      store_sums(dots, sums...);
      for (std::size_t j = 0; j < Q; ++j) std::memcpy(logits + j * stride, dots + j * R, R * sizeof(float));
    }
  }

 private:
  /// One vector of every row with one of every query.
  template <class... V>
  HWY_INLINE void multiply(std::size_t i, V&... sums) const {
    multiply_each(
        std::make_index_sequence<sizeof...(V)>(), i,
        [this, i](std::size_t r) HWY_ATTR { return load(Format(), rows[r] + i * sizeof(typename Format::element)); },
        sums...);
  }
  template <class... V>
  HWY_INLINE void multiply_rest(std::size_t rest, V&... sums) const {
    multiply_each(
        std::make_index_sequence<sizeof...(V)>(), dk - rest,
        [this, rest](std::size_t r) HWY_ATTR { return load_rest<Format>(rows[r], dk, rest); }, sums...);
  }
  template <std::size_t... I, class Key, class... V>
  HWY_INLINE void multiply_each(std::index_sequence<I...> /*each*/, std::size_t i, const Key& key, V&... sums) const {
    const auto query = [this, i](int j) HWY_ATTR {
      return hn::Load(lanes_tag(), q + static_cast<std::size_t>(j < Q ? j : 0) * q_stride + i);
    };
    lanes k0 = key(0), k1 = key(1), k2 = key(2 % R), k3 = key(3 % R);
    hold(k0), hold(k1);
    if constexpr (R >= 4) hold(k2), hold(k3);
    lanes q0 = query(0), q1 = query(1), q2 = query(2), q3 = query(3);
    hold(q0);
    if constexpr (Q >= 2) hold(q1);
    if constexpr (Q >= 4) hold(q2), hold(q3);
    ((sums = hn::MulAdd(pick<I % R>(k0, k1, k2, k3), pick<I / R>(q0, q1, q2, q3), sums)), ...);
  }
  /// R = 4: query after query.
  template <class... V>
  HWY_INLINE void store(float* to, lanes a, lanes b, lanes c, lanes e, V... more) const {
    store_sums(to, a, b, c, e);
    if constexpr (sizeof...(V) > 0) store(to + stride, more...);
  }
};

/// logits [Q][block.count], `stride` floats apart, of which whole tiles are written.
template <int Q, class Format, class Stored>
HWY_INLINE void dot_rows(const float* q, std::size_t q_stride, const row_block& block, row_fetcher<Stored> fetcher,
                         std::size_t dk, float* logits, std::size_t stride) {
  constexpr std::size_t R = tile_rows<Q>;
  for (std::size_t r = 0; r < block.count; r += R)
    with_zeros<Q * tile_rows<Q>>(
        dot_tile<Q, Format, Stored>{fetcher, block.rows + r, q, q_stride, dk, logits + r, stride});
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

/// logits [columns][block.count] of all queries.
template <class Format, class Stored>
HWY_NOINLINE void dot_columns(const float* q, std::size_t q_stride, std::size_t columns, const row_block& block,
                              row_fetcher<Stored> fetcher, std::size_t dk, float* logits, std::size_t stride) {
  std::size_t c = 0;
  for (; c + 4 <= columns; c += 4)
    dot_rows<4, Format>(q + c * q_stride, q_stride, block, fetcher, dk, logits + c * stride, stride);
  for (; c + 2 <= columns; c += 2)
    dot_rows<2, Format>(q + c * q_stride, q_stride, block, fetcher, dk, logits + c * stride, stride);
  for (; c < columns; ++c)
    dot_rows<1, Format>(q + c * q_stride, q_stride, block, fetcher, dk, logits + c * stride, stride);
}

}  // namespace detail
}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_ATTENTION_DOTS_INL_HPP_
