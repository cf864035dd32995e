// Matrix products of the model, compiled once for each SIMD target that includes it (see attention/attend-inl.hpp).

#if defined(MULTISTATE_MODEL_LINEAR_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_MODEL_LINEAR_INL_HPP_
#undef MULTISTATE_MODEL_LINEAR_INL_HPP_
#else
#define MULTISTATE_MODEL_LINEAR_INL_HPP_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include <multistate/attention/attend-inl.hpp>
#include <multistate/util/executor.hpp>
#include <multistate/model/model_view.hpp>
#include <multistate/format/formats.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {

/// y[b][o] = sum over i of weights[o][i] x[b][i].
struct product {
  matrix_view weights;           ///< [out][in]
  const float* x = nullptr;      ///< [columns][in]
  float* y = nullptr;            ///< [columns][out]
  float* const* rows = nullptr;  ///< [columns] when not null: where each column of y lies
  std::size_t out = 0;
  std::size_t in = 0;
  std::size_t columns = 0;
  bool add = false;  ///< adds to y
};

namespace detail {

// Sums that stay in registers: 4 outputs x as many columns as there is room for beside the operands.
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr std::size_t tile_columns = 6;
#else
constexpr std::size_t tile_columns = 3;
#endif

constexpr std::size_t longest_part = 1024;  ///< of the input: its rows then stay in the first-level cache

/// Sums of R weight rows and C columns, accumulator c * R + r. Element i is added in lane i % N: the order within one
/// sum depends on `in` alone.
template <class Format, std::size_t R, std::size_t C>
struct product_tile {
  const std::byte* const* w;  ///< [R]
  const float* const* x;      ///< [C]
  std::size_t in;
  float* sums;  ///< [C][R]

  template <class... V>
  HWY_INLINE void operator()(V&... a) const {
    const lanes_tag d;
    const std::size_t N = hn::Lanes(d);
    std::size_t i = 0;
    for (; i + N <= in; i += N) {
      if constexpr (fetched > 0)
        for (std::size_t r = 0; r < R; ++r)
          fetch_at(reinterpret_cast<std::uintptr_t>(w[r]) + i * sizeof(element) + fetched);
      add([this, i](std::size_t r) HWY_ATTR { return load(Format(), w[r] + i * sizeof(element)); },
          [this, i, d](std::size_t c) HWY_ATTR { return hn::LoadU(d, x[c] + i); }, a...);
    }
    if (i < in) {
      const std::size_t rest = in - i;
      HWY_ALIGN float part[C][attention_pad];
      for (std::size_t c = 0; c < C; ++c) hn::Store(load_rest<f32>(bytes(x[c]), in, rest), d, part[c]);
      add([this, rest](std::size_t r) HWY_ATTR { return load_rest<Format>(w[r], in, rest); },
          [&part, d](std::size_t c) HWY_ATTR { return hn::Load(d, part[c]); }, a...);
    }
    store_sums(lanes_tag(), sums, a...);
  }

 private:
  using element = typename Format::element;
  /// Bytes ahead that are fetched: of narrow rows the next part. Few columns of floats are only read, which the
  /// hardware's prefetchers do best alone.
  static constexpr std::size_t fetched = !std::is_same_v<Format, f32> ? longest_part * sizeof(element)
                                         : C > 4                      ? 1024
                                                                      : 0;
  static const std::byte* bytes(const float* x) noexcept { return reinterpret_cast<const std::byte*>(x); }

  /// One vector of every row with one of every column. Rows are held; a column only as long as it is multiplied, for
  /// there are too many of them.
  template <class W, class X, class... V>
  HWY_INLINE void add(const W& weight, const X& column, V&... a) const {
    lanes w0 = weight(0), w1 = weight(1), w2 = weight(2), w3 = weight(3);
    hold(w0), hold(w1), hold(w2), hold(w3);
    add_columns(
        std::make_index_sequence<C>(), column, [&](auto r) HWY_ATTR { return pick<r()>(w0, w1, w2, w3); }, a...);
  }
  template <std::size_t... Column, class X, class W, class... V>
  HWY_INLINE void add_columns(std::index_sequence<Column...> /*columns*/, const X& column, const W& row,
                              V&... a) const {
    (add_column<Column>(std::make_index_sequence<sizeof...(V)>(), column(Column), row, a...), ...);
  }
  template <std::size_t Column, std::size_t... I, class W, class... V>
  HWY_INLINE void add_column(std::index_sequence<I...> /*each*/, lanes one, const W& row, V&... a) const {
    hold(one);
    (add_if<I / R == Column>(a, row(std::integral_constant<std::size_t, I % R>()), one), ...);
  }
  template <bool Wanted>
  static HWY_INLINE void add_if(lanes& a, lanes w, lanes x) {
    if constexpr (Wanted) a = hn::MulAdd(w, x, a);
  }
};

/// Sums longer than that are sums of parts.
struct input_part {
  std::size_t begin = 0;
  std::size_t size = 0;
  bool add = false;
};

/// Where the weights of consecutive outputs lie: each `stride` bytes after the one before.
struct weight_rows {
  const std::byte* first;
  std::size_t stride;
};

/// Outputs [begin, end) of C columns from `column` on; `weights` begins with output `begin`, at the part's first
/// element.
template <class Format, std::size_t C>
HWY_NOINLINE void multiply_columns(const product& p, const weight_rows& weights, const input_part& part,
                                   std::size_t begin, std::size_t end, std::size_t column) {
  constexpr std::size_t R = 4;
  const float* x[C];
  float* y[C];
  for (std::size_t c = 0; c < C; ++c) {
    x[c] = p.x + (column + c) * p.in + part.begin;
    y[c] = p.rows != nullptr ? p.rows[column + c] : p.y + (column + c) * p.out;
  }
  for (std::size_t o = begin; o < end; o += R) {
    const std::size_t valid = std::min(R, end - o);
    const std::byte* w[R];
    for (std::size_t r = 0; r < R; ++r) w[r] = weights.first + (o - begin + std::min(r, valid - 1)) * weights.stride;
    HWY_ALIGN float scales[R];
    if constexpr (is_scaled<Format>)
      for (std::size_t r = 0; r < R; ++r)
        scales[r] = row_scale<Format>(w[r] - part.begin * sizeof(typename Format::element), p.in);
    HWY_ALIGN float sums[R * C];
    with_zeros<static_cast<int>(R * C)>(product_tile<Format, R, C>{w, x, part.size, sums});
    for (std::size_t c = 0; c < C; ++c)
      for (std::size_t r = 0; r < valid; ++r) {
        const float sum = is_scaled<Format> ? sums[c * R + r] * scales[r] : sums[c * R + r];
        y[c][o + r] = part.add ? y[c][o + r] + sum : sum;
      }
  }
}

template <class Format, std::size_t C>
HWY_INLINE void multiply_up_to(std::size_t count, const product& p, const weight_rows& weights, const input_part& part,
                               std::size_t begin, std::size_t end, std::size_t column) {
  if constexpr (C > 1)
    if (count < C) return multiply_up_to<Format, C - 1>(count, p, weights, part, begin, end, column);
  multiply_columns<Format, C>(p, weights, part, begin, end, column);
}

/// Outputs [begin, end) of all columns, in tiles of nearly the same width.
template <class Format>
void multiply_tiles(const product& p, const weight_rows& weights, const input_part& part, std::size_t begin,
                    std::size_t end) {
  const std::size_t tiles = (p.columns + tile_columns - 1) / tile_columns;
  for (std::size_t t = 0; t < tiles; ++t) {
    const std::size_t column = p.columns * t / tiles;
    const std::size_t count = p.columns * (t + 1) / tiles - column;
    multiply_up_to<Format, tile_columns>(count, p, weights, part, begin, end, column);
  }
}

/// f(part) for the parts of the input, in order.
template <class F>
void for_input_parts(const product& p, const F& f) {
  for (std::size_t i = 0; i < p.in; i += longest_part)
    f(input_part{i, std::min(longest_part, p.in - i), p.add || i > 0});
}

/// Outputs [begin, end) of all columns: weights that stay in the second-level cache while all columns pass by.
template <class Format>
void multiply(const product& p, std::size_t begin, std::size_t end) {
  constexpr std::size_t block_floats = 1 << 16;
  const std::size_t stride = row_bytes(p.weights.format, p.in);
  // Where they are read once, in the order of memory.
  const std::size_t rows =
      p.columns <= tile_columns
          ? 4
          : std::max<std::size_t>(8, block_floats / std::clamp<std::size_t>(p.in, 1, longest_part) / 8 * 8);
  for (std::size_t o = begin; o < end; o += rows)
    for_input_parts(p, [&](const input_part& part) {
      const std::size_t offset = part.begin * sizeof(typename Format::element);
      multiply_tiles<Format>(p, {p.weights.rows + o * stride + offset, stride}, part, o, std::min(end, o + rows));
    });
}

/// The same over blocks: a few outputs' weights are made floats once for all columns.
template <block_format Format>
void multiply(const product& p, std::size_t begin, std::size_t end) {
  static_assert(longest_part % Format::elements == 0);
  constexpr std::size_t rows = 16;
  const std::size_t stride = row_bytes(p.weights.format, p.in);
  HWY_ALIGN float floats[rows * longest_part];
  for (std::size_t o = begin; o < end; o += rows) {
    const std::size_t last = std::min(end, o + rows);
    for_input_parts(p, [&](const input_part& part) {
      for (std::size_t r = o; r < last; ++r)
        load_part<Format>(floats + (r - o) * longest_part, p.weights.rows + r * stride, part.begin, part.size);
      multiply_tiles<f32>(p, {reinterpret_cast<const std::byte*>(floats), longest_part * sizeof(float)}, part, o, last);
    });
  }
}

/// What an executor runs: a share of the outputs.
struct multiply_share {
  const product& p;
  std::size_t rows;

  void operator()(int task, int /*worker*/) const noexcept {
    const std::size_t begin = static_cast<std::size_t>(task) * rows;
    const std::size_t end = std::min(p.out, begin + rows);
    with_format(p.weights.format, [&]<class F>(F /*format*/) { multiply<F>(p, begin, end); });
  }
};

}  // namespace detail

/// One sum has the same bits for any number of columns and workers, and wherever it lies.
template <executor E>
void linear(E& exec, const product& p) noexcept {
  constexpr std::size_t worth_sharing = 1 << 16;  // multiplications
  const auto workers = static_cast<std::size_t>(exec.workers());
  if (workers == 1 || p.in * p.out * p.columns < worth_sharing) return detail::multiply_share{p, p.out}(0, 0);
  const std::size_t rows = (p.out + 16 * workers - 1) / (16 * workers) * 8;
  exec(static_cast<int>((p.out + rows - 1) / rows), detail::multiply_share{p, rows});
}

}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_MODEL_LINEAR_INL_HPP_
