// Products of queries with the keys of a block.

#if defined(MULTISTATE_ATTENTION_DOTS_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_ATTENTION_DOTS_INL_HPP_
#undef MULTISTATE_ATTENTION_DOTS_INL_HPP_
#else
#define MULTISTATE_ATTENTION_DOTS_INL_HPP_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include <multistate/attention/elements-inl.hpp>
#include <multistate/attention/options.hpp>
#include <multistate/simd/sums-inl.hpp>
#include <multistate/util/finite.hpp>
#include <multistate/format/element.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {
namespace detail {

/// How a tile multiplies: floats, to which keys are converted.
template <class Format>
struct products {
  using query = float;
  using sum_tag = lanes_tag;
  static constexpr std::size_t float_vectors = 1;  ///< that a step's elements of one key would fill

  static HWY_INLINE std::size_t step() { return hn::Lanes(lanes_tag()); }
  static HWY_INLINE lanes key(const std::byte* row, std::size_t i) {
    return load(Format(), row + i * sizeof(typename Format::element));
  }
  static HWY_INLINE lanes key_rest(const std::byte* row, std::size_t dk, std::size_t rest) {
    return load_rest<Format>(row, dk, rest);
  }
  static HWY_INLINE lanes query_at(const float* q) { return hn::Load(lanes_tag(), q); }
  static HWY_INLINE lanes multiply_add(lanes key, lanes query, lanes sum) { return hn::MulAdd(key, query, sum); }
};

/// Whole numbers with rounded queries: exact, and twice as many at once as there would be floats.
template <>
struct products<i8> {
  using query = std::int16_t;
  using sum_tag = whole_tag;
  static constexpr std::size_t float_vectors = 2;

  static HWY_INLINE std::size_t step() { return hn::Lanes(short_tag()); }
  static HWY_INLINE shorts key(const std::byte* row, std::size_t i) {
    const hn::Rebind<std::int8_t, short_tag> bytes;
    return hn::PromoteTo(short_tag(), load_elements<std::int8_t>(bytes, row + i));
  }
  /// The last elements in the highest lanes; what lies below is multiplied by zeros.
  static HWY_INLINE shorts key_rest(const std::byte* row, std::size_t dk, std::size_t rest) {
    if (dk >= step()) return key(row + (dk - step()), 0);
    HWY_ALIGN std::byte part[2 * attention_pad] = {};
    std::memcpy(part + (step() - rest), row, rest);
    return key(part, 0);
  }
  static HWY_INLINE shorts query_at(const std::int16_t* q) { return hn::Load(short_tag(), q); }
  static HWY_INLINE wholes multiply_add(shorts key, shorts query, wholes sum) { return add_pairs(key, query, sum); }
};

/// Keys that one tile takes with Q queries.
template <int Q>
inline constexpr int tile_rows = Q == 4 ? tile / 4 : 4;

/// One tile: Q queries by R keys; accumulator q * R + r. `Stored`: the keys' format in memory.
template <int Q, class Format, class Stored>
struct dot_tile {
  using product = products<Format>;
  static constexpr int R = tile_rows<Q>;

  row_fetcher<Stored>& fetcher;
  const std::byte* const* rows;      ///< [R]
  const typename product::query* q;  ///< as prepare_query or round_query leaves them
  std::size_t q_stride;
  std::size_t dk;
  float* logits;  ///< [Q] rows `stride` apart
  std::size_t stride;

  template <class... V>
  HWY_INLINE void operator()(V&... sums) const {
    const std::size_t step = product::step();
    std::size_t i = 0;
    for (; i + step <= dk; i += step) {
      fetcher.template fetch<R * product::float_vectors>();
      multiply(i, sums...);
    }
    if (i < dk) multiply_rest(dk - i, sums...);

    if constexpr (R == 4) {
      store(logits, sums...);
    } else {
      HWY_ALIGN float dots[static_cast<std::size_t>(Q) * R];
      store_sums(typename product::sum_tag(), dots, sums...);
      for (std::size_t j = 0; j < Q; ++j)
        std::memcpy(logits + j * stride, dots + j * std::size_t{R}, R * sizeof(float));
    }
  }

 private:
  /// One vector of every row with one of every query.
  template <class... V>
  HWY_INLINE void multiply(std::size_t i, V&... sums) const {
    multiply_each(
        std::make_index_sequence<sizeof...(V)>(), i,
        [this, i](std::size_t r) HWY_ATTR { return product::key(rows[r], i); }, sums...);
  }
  template <class... V>
  HWY_INLINE void multiply_rest(std::size_t rest, V&... sums) const {
    multiply_each(
        std::make_index_sequence<sizeof...(V)>(), dk - rest,
        [this, rest](std::size_t r) HWY_ATTR { return product::key_rest(rows[r], dk, rest); }, sums...);
  }
  /// Which register holds what, here for Q = 2 queries and R = 4 keys:
  ///
  ///              k0     k1     k2     k3        keys: one vector each
  ///        q0  sums0  sums1  sums2  sums3
  ///        q1  sums4  sums5  sums6  sums7       sums q * R + r += key r * query q
  ///
  /// Places beyond R and Q name a vector that is there already, and no sum reads them. hold() makes the compiler load
  /// every vector once, before the products.
  template <std::size_t... I, class Key, class... V>
  HWY_INLINE void multiply_each(std::index_sequence<I...> /*each*/, std::size_t i, const Key& key, V&... sums) const {
    const auto query = [this, i](int j) HWY_ATTR {
      return product::query_at(q + static_cast<std::size_t>(j < Q ? j : 0) * q_stride + i);
    };
    auto k0 = key(0), k1 = key(1), k2 = key(2 % R), k3 = key(3 % R);
    hold(k0), hold(k1);
    if constexpr (R >= 4) hold(k2), hold(k3);
    auto q0 = query(0), q1 = query(1), q2 = query(2), q3 = query(3);
    hold(q0);
    if constexpr (Q >= 2) hold(q1);
    if constexpr (Q >= 4) hold(q2), hold(q3);
    ((sums = product::multiply_add(pick<I % R>(k0, k1, k2, k3), pick<I / R>(q0, q1, q2, q3), sums)), ...);
  }
  /// R = 4: query after query.
  template <class V, class... More>
  HWY_INLINE void store(float* to, V a, V b, V c, V e, More... more) const {
    store_sums(typename product::sum_tag(), to, a, b, c, e);
    if constexpr (sizeof...(More) > 0) store(to + stride, more...);
  }
};

/// logits [Q][block.count], `stride` floats apart, of which whole tiles are written.
template <int Q, class Format, class Stored, class Query>
HWY_INLINE void dot_rows(const Query* q, std::size_t q_stride, const row_block& block, row_fetcher<Stored> fetcher,
                         std::size_t dk, float* logits, std::size_t stride) {
  constexpr std::size_t R = tile_rows<Q>;
  for (std::size_t r = 0; r < block.count; r += R)
    with_zeros<Q * tile_rows<Q>, typename products<Format>::sum_tag>(
        dot_tile<Q, Format, Stored>{fetcher, block.rows + r, q, q_stride, dk, logits + r, stride});
}

/// A query [padded(dk)], zeros from dk on, as dot_tile reads it: scaled, and what doesn't fill the last vector in its
/// highest lanes, zeros below.
HWY_INLINE void prepare_query(float* q, std::size_t dk, float scale) {
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  for (std::size_t i = 0; i < dk; i += N) hn::Store(hn::Mul(hn::Load(d, q + i), hn::Set(d, scale)), d, q + i);
  const std::size_t rest = dk % N;
  if (rest == 0) return;
  float* last = q + (dk - rest);
  for (std::size_t i = rest; i-- > 0;) last[N - rest + i] = last[i];
  for (std::size_t i = 0; i < N - rest; ++i) last[i] = 0.0f;
}

/// A query [padded(dk)], zeros from dk on, as whole numbers, laid out in the same way, times what is returned: within
/// half of it. They are as large as they can be without a product's sum overflowing, at dk <= 512 the largest is
/// 32,767. NaN for a query that is not finite.
HWY_INLINE float round_query(const float* q, std::size_t dk, float scale, std::int16_t* to) {
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  const whole_tag bits;  // of floats without a sign they order like the floats, NaN above infinity
  auto largest = hn::Zero(bits);
  for (std::size_t i = 0; i < dk; i += N) largest = hn::Max(largest, hn::BitCast(bits, hn::Abs(hn::Load(d, q + i))));
  const auto magnitude = std::bit_cast<float>(hn::GetLane(hn::MaxOfLanes(bits, largest)));
  if (!is_finite(magnitude)) {
    std::fill_n(to, rounded_stride(dk), std::int16_t{0});
    return std::numeric_limits<float>::quiet_NaN();
  }
  const float highest = (std::min)(32767.0f, 16777215.0f / static_cast<float>(dk));  // dk * highest * 127 < 2^31
  const lanes inverse = hn::Set(d, magnitude > 1e-30f ? highest / magnitude : 0.0f);
  const hn::Rebind<std::int16_t, lanes_tag> narrow;
  for (std::size_t i = 0; i < dk; i += N)
    hn::StoreU(hn::DemoteTo(narrow, hn::NearestInt(hn::Mul(hn::Load(d, q + i), inverse))), narrow, to + i);
  const std::size_t step = products<i8>::step();
  if (const std::size_t rest = dk % step; rest != 0) {
    std::int16_t* last = to + (dk - rest);
    std::copy_backward(last, last + rest, last + step);
    std::fill_n(last, step - rest, std::int16_t{0});
  }
  return magnitude / highest * scale;
}

/// logits [columns][block.count] of all queries.
template <class Format, class Stored, class Query>
HWY_NOINLINE void dot_columns(const Query* q, std::size_t q_stride, std::size_t columns, const row_block& block,
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
