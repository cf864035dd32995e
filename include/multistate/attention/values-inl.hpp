// Sums of the values of a block, each weighted.

#if defined(MULTISTATE_ATTENTION_VALUES_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_ATTENTION_VALUES_INL_HPP_
#undef MULTISTATE_ATTENTION_VALUES_INL_HPP_
#else
#define MULTISTATE_ATTENTION_VALUES_INL_HPP_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <utility>

#include <multistate/attention/elements-inl.hpp>
#include <multistate/attention/options.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {
namespace detail {

/// One tile: Q queries by W vectors of the values, from element `at` on; accumulator q * W + w. `rest` != 0: the ragged
/// end, with W = 1. `Stored`: the values' format in memory.
template <int Q, int W, class Format, class Stored>
struct value_tile {
  const row_block& block;
  row_fetcher<Stored>& fetcher;
  const float* p;  ///< [Q][count] weights
  std::size_t p_stride;
  float* out;  ///< [Q][dv], added to unless `first`
  std::size_t out_stride;
  std::size_t dv;
  std::size_t at;
  std::size_t rest;
  bool first;

  template <class... V>
  HWY_INLINE void operator()(V&... sums) const {
    constexpr auto each = std::make_index_sequence<sizeof...(V)>();
    if (rest != 0) {
      for (std::size_t i = 0; i < block.count; ++i) add_rest(each, i, sums...);
      store_rest(each, sums...);
      return;
    }
    for (std::size_t i = 0; i < block.count; ++i) {
      fetcher.template fetch<W>();
      add(each, i, sums...);
    }
    store(each, sums...);
  }

 private:
  template <std::size_t... I, class... V>
  HWY_INLINE void add(std::index_sequence<I...> /*each*/, std::size_t i, V&... sums) const {
    const lanes_tag d;
    const std::byte* row = block.rows[i] + at * sizeof(typename Format::element);
    const std::size_t step = hn::Lanes(d) * sizeof(typename Format::element);
    ((sums = hn::MulAdd(load(Format(), row + I % W * step), hn::Set(d, p[I / W * p_stride + i]), sums)), ...);
  }
  template <std::size_t... I, class... V>
  HWY_INLINE void add_rest(std::index_sequence<I...> /*each*/, std::size_t i, V&... sums) const {
    ((sums = hn::MulAdd(load_rest<Format>(block.rows[i], dv, rest), hn::Set(lanes_tag(), p[I * p_stride + i]), sums)),
     ...);
  }
  HWY_INLINE void store_one(lanes sum, float* to) const {
    const lanes_tag d;
    hn::StoreU(first ? sum : hn::Add(hn::LoadU(d, to), sum), d, to);
  }
  template <std::size_t... I, class... V>
  HWY_INLINE void store(std::index_sequence<I...> /*each*/, V... sums) const {
    (store_one(sums, out + I / W * out_stride + at + I % W * hn::Lanes(lanes_tag())), ...);
  }
  HWY_INLINE void store_one_rest(lanes sum, float* to) const {
    const lanes_tag d;
    HWY_ALIGN float part[attention_pad];
    hn::Store(sum, d, part);
    const float* last = part + (hn::Lanes(d) - rest);
    for (std::size_t i = 0; i < rest; ++i) to[i] = first ? last[i] : to[i] + last[i];
  }
  template <std::size_t... I, class... V>
  HWY_INLINE void store_rest(std::index_sequence<I...> /*each*/, V... sums) const {
    (store_one_rest(sums, out + I * out_stride + at), ...);
  }
};

/// W vectors at a time from element `at` on, then fewer.
template <int Q, int W, class Format, class Stored>
HWY_INLINE void weigh_columns(const row_block& block, row_fetcher<Stored> fetcher, const float* p, std::size_t p_stride,
                              float* out, std::size_t out_stride, std::size_t dv, std::size_t at, bool first) {
  const std::size_t N = hn::Lanes(lanes_tag());
  for (; at + W * N <= dv; at += W * N)
    with_zeros<Q * W>(value_tile<Q, W, Format, Stored>{block, fetcher, p, p_stride, out, out_stride, dv, at, 0, first});
  if constexpr (W > 1) {
    weigh_columns<Q, W / 2, Format>(block, fetcher, p, p_stride, out, out_stride, dv, at, first);
  } else if (at < dv) {
    with_zeros<Q>(
        value_tile<Q, 1, Format, Stored>{block, fetcher, p, p_stride, out, out_stride, dv, at, dv - at, first});
  }
}

/// out [columns][dv] (+)= weights [columns][block.count] x the block's values.
template <class Format, class Stored>
HWY_NOINLINE void weigh_rows(const row_block& block, row_fetcher<Stored> fetcher, const float* p, std::size_t p_stride,
                             std::size_t columns, float* out, std::size_t out_stride, std::size_t dv, bool first) {
  std::size_t c = 0;
  for (; c + 4 <= columns; c += 4)
    weigh_columns<4, tile / 4, Format>(block, fetcher, p + c * p_stride, p_stride, out + c * out_stride, out_stride, dv,
                                       0, first);
  for (; c + 2 <= columns; c += 2)
    weigh_columns<2, 4, Format>(block, fetcher, p + c * p_stride, p_stride, out + c * out_stride, out_stride, dv, 0,
                                first);
  for (; c < columns; ++c)
    weigh_columns<1, 8, Format>(block, fetcher, p + c * p_stride, p_stride, out + c * out_stride, out_stride, dv, 0,
                                first);
}

}  // namespace detail
}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_ATTENTION_VALUES_INL_HPP_
