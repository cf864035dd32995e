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

#include <multistate/simd/sums-inl.hpp>
#include <multistate/util/executor.hpp>
#include <multistate/model/model_view.hpp>
#include <multistate/model/rounded-inl.hpp>
#include <multistate/model/whole_numbers-inl.hpp>
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
  /// Scratch for columns and in of a fast product; null: exact.
  rounded_input* rounded = nullptr;

  /// Where a column of y lies.
  float* column(std::size_t c) const noexcept { return rows != nullptr ? rows[c] : y + c * out; }
};

namespace detail {

// Sums that stay in registers beside a vector of each output's weights and one of a column: of 32 registers, or of 16.
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr std::size_t tile_outputs = 4;
constexpr std::size_t tile_columns = 6;
#else
constexpr std::size_t tile_outputs = 3;
constexpr std::size_t tile_columns = 4;
#endif

constexpr std::size_t longest_part = 1024;  ///< of the input: its rows then stay in the first-level cache

/// Sums of R weight rows and C columns, accumulator c * R + r; those beyond stay zero. Element i is added in lane i %
/// N: the order within one sum depends on `in` alone.
template <class Format, std::size_t R, std::size_t C>
struct product_tile {
  const std::byte* const* w;  ///< [R]
  const float* const* x;      ///< [C]
  std::size_t in;
  float* sums;  ///< [C][R], and one for each accumulator beyond

  template <class... V>
  HWY_INLINE void operator()(V&... a) const {
    const lanes_tag d;
    const std::size_t N = hn::Lanes(d);
    std::size_t i = 0;
    if constexpr (fetched > 0)
      for (; i + steps * N <= in; i += steps * N) {
        for (std::size_t r = 0; r < R; ++r)
          fetch_at(reinterpret_cast<std::uintptr_t>(w[r]) + i * sizeof(element) + fetched);
        for (std::size_t s = 0; s < steps; ++s) step(i + s * N, a...);
      }
    for (; i + N <= in; i += N) step(i, a...);
    if (i < in) {
      const std::size_t rest = in - i;
      HWY_ALIGN float part[C][widest_vector];
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
  static constexpr std::size_t fetched = !std::is_same_v<Format, f32> ? longest_part * sizeof(element) : 0;
  /// Vectors whose weights fill a cache line.
  static constexpr std::size_t steps =
      std::max<std::size_t>(1, cache_line / (hn::MaxLanes(lanes_tag()) * sizeof(element)));
  static const std::byte* bytes(const float* x) noexcept { return reinterpret_cast<const std::byte*>(x); }

  template <class... V>
  HWY_INLINE void step(std::size_t at, V&... a) const {
    add([this, at](std::size_t r) HWY_ATTR { return load(Format(), w[r] + at * sizeof(element)); },
        [this, at](std::size_t c) HWY_ATTR { return hn::LoadU(lanes_tag(), x[c] + at); }, a...);
  }
  /// One vector of every row with one of every column. Rows are held; a column only as long as it is multiplied, for
  /// there are too many of them.
  template <class W, class X, class... V>
  HWY_INLINE void add(const W& weight, const X& column, V&... a) const {
    lanes w0 = weight(0), w1 = weight(1), w2 = weight(2);
    hold(w0), hold(w1), hold(w2);
    if constexpr (R == 4) {
      lanes w3 = weight(3);
      hold(w3);
      add_columns(
          std::make_index_sequence<C>(), column, [&](auto r) HWY_ATTR { return pick<r()>(w0, w1, w2, w3); }, a...);
    } else {
      add_columns(
          std::make_index_sequence<C>(), column, [&](auto r) HWY_ATTR { return pick<r()>(w0, w1, w2); }, a...);
    }
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

/// The weights of consecutive outputs: each `stride` bytes after the one before, at the part's first element.
struct weight_rows {
  const std::byte* first;
  std::size_t stride;
  const float* scales = nullptr;  ///< of each output where its format has one
};

/// Sums [C][4] to y[c][o] and the three behind it.
template <std::size_t C>
HWY_INLINE void add_four(const float* sums, float* const* y, std::size_t o, bool add) {
  const hn::CappedTag<float, 4> d;
  for (std::size_t i = 0; i < 4; i += hn::Lanes(d))
    for (std::size_t c = 0; c < C; ++c) {
      const auto sum = hn::LoadU(d, sums + 4 * c + i);
      hn::StoreU(add ? hn::Add(hn::LoadU(d, y[c] + o + i), sum) : sum, d, y[c] + o + i);
    }
}

/// Sums [C][R], of which the first `valid` outputs are wanted, to y[c][o] and those behind it; `scales` of the outputs
/// where their format has one.
template <std::size_t R, std::size_t C>
HWY_INLINE void put_sums(const float* sums, float* const* y, std::size_t o, std::size_t valid, bool add,
                         const float* scales) {
  if (R == 4 && valid == R && scales == nullptr) return add_four<C>(sums, y, o, add);
  for (std::size_t c = 0; c < C; ++c)
    for (std::size_t r = 0; r < valid; ++r) {
      const float sum = scales != nullptr ? sums[c * R + r] * scales[r] : sums[c * R + r];
      y[c][o + r] = add ? y[c][o + r] + sum : sum;
    }
}

/// f(column, count) for tiles of nearly the same width, at most Most columns each.
template <std::size_t Most, class F>
HWY_INLINE void for_tiles(std::size_t columns, const F& f) {
  const std::size_t tiles = (columns + Most - 1) / Most;
  for (std::size_t t = 0; t < tiles; ++t) {
    const std::size_t column = columns * t / tiles;
    f(column, columns * (t + 1) / tiles - column);
  }
}
/// f(count as a constant). Precondition: 1 <= count <= Most.
template <std::size_t Most, class F>
HWY_INLINE void with_count(std::size_t count, const F& f) {
  if constexpr (Most > 1)
    if (count < Most) return with_count<Most - 1>(count, f);
  f(std::integral_constant<std::size_t, Most>());
}

/// Outputs [begin, end) of C columns from `column` on.
template <class Format, std::size_t C>
HWY_NOINLINE void multiply_columns(const product& p, const weight_rows& weights, const input_part& part,
                                   std::size_t begin, std::size_t end, std::size_t column) {
  constexpr std::size_t R = tile_outputs;
  const float* x[C];
  float* y[C];
  for (std::size_t c = 0; c < C; ++c) {
    x[c] = p.x + (column + c) * p.in + part.begin;
    y[c] = p.column(column + c);
  }
  for (std::size_t o = begin; o < end; o += R) {
    const std::size_t valid = (std::min)(R, end - o);
    const std::byte* w[R];
    for (std::size_t r = 0; r < R; ++r) w[r] = weights.first + (o - begin + (std::min)(r, valid - 1)) * weights.stride;
    constexpr std::size_t vectors = (R * C + 3) / 4 * 4;  // store_sums takes four at a time
    HWY_ALIGN float sums[vectors];
    with_zeros<static_cast<int>(vectors)>(product_tile<Format, R, C>{w, x, part.size, sums});
    put_sums<R, C>(sums, y, o, valid, part.add, weights.scales != nullptr ? weights.scales + (o - begin) : nullptr);
  }
}

/// Outputs [begin, end) of all columns.
template <class Format>
void multiply_tiles(const product& p, const weight_rows& weights, const input_part& part, std::size_t begin,
                    std::size_t end) {
  for_tiles<tile_columns>(p.columns, [&](std::size_t column, std::size_t count) HWY_ATTR {
    with_count<tile_columns>(
        count, [&](auto c) HWY_ATTR { multiply_columns<Format, c()>(p, weights, part, begin, end, column); });
  });
}

/// f(part) for the parts of the input, in order.
template <class F>
void for_input_parts(const product& p, const F& f) {
  for (std::size_t i = 0; i < p.in; i += longest_part)
    f(input_part{i, (std::min)(longest_part, p.in - i), p.add || i > 0});
}

/// Outputs that pass by all columns together: their weights of a part then stay in the second-level cache.
constexpr std::size_t panel_outputs = 8 * tile_outputs;

/// One row's part as floats, without the row's scale; fetches what lies `ahead` bytes behind it.
template <class Format>
HWY_INLINE void unpack_part(float* to, const std::byte* row, const input_part& part, std::size_t ahead) {
  if constexpr (whole_format<Format>) {
    load_floats<Format>(to, row + part.begin / Format::elements * Format::bytes, part.size, ahead);
  } else if constexpr (block_format<Format>) {
    load_part<Format>(to, row, part.begin, part.size);
  } else {
    const std::byte* from = row + part.begin * sizeof(typename Format::element);
    for (std::size_t i = 0; i < part.size * sizeof(typename Format::element); i += cache_line)
      fetch_at(reinterpret_cast<std::uintptr_t>(from) + ahead + i);
    unpack<Format>(from, part.size, to);
  }
}

/// Bytes from a part of some outputs, which take `bytes`, to what is unpacked next: the same outputs' next part, or the
/// next outputs' first one.
inline std::size_t fetched_ahead(const product& p, const input_part& part, std::size_t bytes, std::size_t part_bytes) {
  const bool ends = part.begin + part.size == p.in;
  return ends ? bytes - part.begin / longest_part * part_bytes : part_bytes;
}

/// Outputs [begin, end) of all columns. Weights are made floats that lie side by side once for all columns, or, where
/// the columns fit one tile and elements stand alone, as they are multiplied.
template <class Format>
HWY_NOINLINE void multiply(const product& p, std::size_t begin, std::size_t end) {
  static_assert(longest_part % 256 == 0, "parts hold whole blocks");
  const std::size_t stride = row_bytes(p.weights.format, p.in), part_bytes = row_bytes(p.weights.format, longest_part);
  const bool few = p.columns <= (std::is_same_v<Format, f32> ? 2 : 1) * tile_columns;
  const std::size_t rows = few && block_format<Format> ? tile_outputs : panel_outputs;
  HWY_ALIGN float floats[panel_outputs * longest_part];
  float scales[panel_outputs];
  for (std::size_t o = begin; o < end; o += rows) {
    const std::size_t last = (std::min)(end, o + rows);
    const std::byte* first = p.weights.rows + o * stride;
    if constexpr (is_scaled<Format>)
      for (std::size_t r = 0; r < last - o; ++r) scales[r] = row_scale<Format>(first + r * stride, p.in);
    const float* scaled = is_scaled<Format> ? scales : nullptr;
    for_input_parts(p, [&](const input_part& part) HWY_ATTR {
      if constexpr (!block_format<Format>)
        if (few)
          return multiply_tiles<Format>(p, {first + part.begin * sizeof(typename Format::element), stride, scaled},
                                        part, o, last);
      const std::size_t ahead = fetched_ahead(p, part, rows * stride, part_bytes);
      for (std::size_t r = 0; r < last - o; ++r)
        unpack_part<Format>(floats + r * longest_part, first + r * stride, part, ahead);
      multiply_tiles<f32>(p, {reinterpret_cast<const std::byte*>(floats), longest_part * sizeof(float), scaled}, part,
                          o, last);
    });
  }
}

#if HWY_TARGET != HWY_SCALAR
/// The numbers of some outputs, of a part of the input.
struct whole_weights {
  static constexpr std::size_t outputs = 16;
  whole_rows<outputs * longest_part> rows;

  /// `count` rows that lie `stride` bytes apart; fetches what lies `ahead` bytes behind each.
  template <class Format>
  HWY_INLINE void load(const std::byte* from, std::size_t stride, std::size_t count, std::size_t size,
                       std::size_t ahead) {
    for (std::size_t r = 0; r < count; ++r)
      rows.template load<Format>(from + r * stride, size, r * longest_part, ahead);
    for (std::size_t r = 0; r < count; ++r) {
      const std::size_t at = r * longest_part;
      rows.template load_scales<Format>(size, at);
      if constexpr (has_multipliers<Format>)
        multiply_parts<Format>(rows.numbers + at, rows.multipliers + at / 16, size);
    }
  }
};

/// Where a tile begins: its outputs among those that were loaded, and its columns.
struct whole_place {
  std::size_t output;
  std::size_t outputs;  ///< that are loaded
  std::size_t column;
};

/// Outputs of C columns of a part of the input.
template <class Format, std::size_t C>
HWY_NOINLINE void multiply_whole(const product& p, const whole_weights& weights, const input_part& part,
                                 const whole_place& at, float* const* y) {
  constexpr std::size_t R = whole_outputs;
  const std::int16_t *w[R], *x[C];
  const float *w_scales[R], *w_minima[R], *x_scales[C], *x_sums[C];
  for (std::size_t r = 0; r < R; ++r) {
    const std::size_t place = (std::min)(at.output + r, at.outputs - 1) * longest_part;
    w[r] = weights.rows.numbers + place;
    w_scales[r] = weights.rows.scales + place / 32;
    w_minima[r] = weights.rows.minima + place / 32;
  }
  for (std::size_t c = 0; c < C; ++c) {
    const std::size_t column = at.column + c;
    x[c] = p.rounded->numbers.data() + column * p.in + part.begin;
    x_scales[c] = p.rounded->scales.data() + column * rounded_input::scales_of(p.in) + part.begin / rounded_input::part;
    x_sums[c] = p.rounded->sums.data() + column * rounded_input::sums_of(p.in) + part.begin / 32;
  }
  float sums[R * C];
  whole_tile<Format, R, C>{w, w_scales, w_minima, x, x_scales, x_sums, part.size, sums}();
  put_sums<R, C>(sums, y, at.output, (std::min)(R, at.outputs - at.output), part.add, nullptr);
}

/// All loaded outputs of C columns; the first is output `o`.
template <class Format, std::size_t C>
HWY_INLINE void multiply_whole_columns(const product& p, const whole_weights& weights, const input_part& part,
                                       std::size_t o, std::size_t outputs, std::size_t column) {
  float* y[C];
  for (std::size_t c = 0; c < C; ++c) y[c] = p.column(column + c) + o;
  for (std::size_t r = 0; r < outputs; r += whole_outputs)
    multiply_whole<Format, C>(p, weights, part, {r, outputs, column}, y);
}

/// The same with rounded columns: some outputs' weights become whole numbers once for all columns.
template <class Format>
HWY_NOINLINE void multiply_rounded(const product& p, std::size_t begin, std::size_t end) {
  const std::size_t stride = row_bytes(p.weights.format, p.in), part_bytes = row_bytes(p.weights.format, longest_part);
  const std::size_t rows = p.columns <= whole_columns ? whole_outputs : whole_weights::outputs;
  whole_weights weights;
  for (std::size_t o = begin; o < end; o += rows) {
    const std::size_t outputs = (std::min)(rows, end - o);
    for_input_parts(p, [&](const input_part& part) HWY_ATTR {
      const std::size_t offset = part.begin / longest_part * part_bytes;
      weights.load<Format>(p.weights.rows + o * stride + offset, stride, outputs, part.size,
                           fetched_ahead(p, part, rows * stride, part_bytes));
      for_tiles<whole_columns>(p.columns, [&](std::size_t column, std::size_t count) HWY_ATTR {
        with_count<whole_columns>(
            count, [&](auto c) HWY_ATTR { multiply_whole_columns<Format, c()>(p, weights, part, o, outputs, column); });
      });
    });
  }
}
#endif

/// What an executor runs: a share of the outputs.
struct multiply_share {
  const product& p;
  std::size_t rows;

  void operator()(int task, int /*worker*/) const noexcept {
    const std::size_t begin = static_cast<std::size_t>(task) * rows;
    const std::size_t end = (std::min)(p.out, begin + rows);
    with_format(p.weights.format, [&]<class F>(F /*format*/) {
#if HWY_TARGET != HWY_SCALAR
      if constexpr (whole_format<F>)
        if (p.rounded != nullptr) return multiply_rounded<F>(p, begin, end);
#endif
      multiply<F>(p, begin, end);
    });
  }
};

inline bool is_fast(const product& p) noexcept {
  return p.rounded != nullptr && with_format(p.weights.format, []<class F>(F) { return whole_format<F>; });
}

}  // namespace detail

/// One sum has the same bits for any number of columns and workers, and wherever it lies.
template <executor E>
void linear(E& exec, const product& p) noexcept {
  // Where nobody wants logits the weights need not be unpacked.
  if (p.columns == 0) return;
  constexpr std::size_t worth_sharing = 1 << 16;  // multiplications
  const auto workers = static_cast<std::size_t>(exec.workers());
  const bool alone = workers == 1 || p.in * p.out * p.columns < worth_sharing;
  if (detail::is_fast(p)) {
    const auto round = [&p](int column, int /*worker*/) HWY_ATTR {
      p.rounded->round(p.x + static_cast<std::size_t>(column) * p.in, p.in, static_cast<std::size_t>(column));
    };
    if (alone || p.columns < workers)
      for (std::size_t c = 0; c < p.columns; ++c) round(static_cast<int>(c), 0);
    else
      exec(static_cast<int>(p.columns), round);
  }
  if (alone) return detail::multiply_share{p, p.out}(0, 0);
  const std::size_t panels = (p.out + detail::panel_outputs - 1) / detail::panel_outputs;
  const std::size_t rows = (panels + 4 * workers - 1) / (4 * workers) * detail::panel_outputs;
  exec(static_cast<int>((p.out + rows - 1) / rows), detail::multiply_share{p, rows});
}

}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_MODEL_LINEAR_INL_HPP_
