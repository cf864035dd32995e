// Matrix products of the model, compiled once for each SIMD target that includes it (see attention/attend-inl.hpp).

#if defined(MULTISTATE_MODEL_LINEAR_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_MODEL_LINEAR_INL_HPP_
#undef MULTISTATE_MODEL_LINEAR_INL_HPP_
#else
#define MULTISTATE_MODEL_LINEAR_INL_HPP_
#endif

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include <multistate/attention/attend-inl.hpp>
#include <multistate/attention/executor.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {

/// y[b][o] = sum over i of weights[o][i] x[b][i].
struct product {
  const float* weights = nullptr;  ///< [out][in]
  const float* x = nullptr;        ///< [columns][in]
  float* y = nullptr;              ///< [columns][out]
  float* const* rows = nullptr;    ///< [columns] when not null: where each column of y lies
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

/// sums [C][R] of R weight rows and C columns, accumulator c * R + r. Element i is added in lane i % N: the order
/// within one sum depends on `in` alone.
template <std::size_t R, std::size_t C, std::size_t... I, class... V>
HWY_INLINE void multiply_rows(std::index_sequence<I...> /*accumulators*/, const float* const* w, const float* const* x,
                              std::size_t in, float* HWY_RESTRICT sums, V... a) {
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + N <= in; i += N) ((a = hn::MulAdd(hn::LoadU(d, w[I % R] + i), hn::LoadU(d, x[I / R] + i), a)), ...);
  if (i < in && in >= N) {  // the last vector overlaps the one before
    const auto fresh = hn::Not(hn::FirstN(d, i + N - in));
    i = in - N;
    ((a = hn::MulAdd(hn::IfThenElseZero(fresh, hn::LoadU(d, w[I % R] + i)),
                     hn::IfThenElseZero(fresh, hn::LoadU(d, x[I / R] + i)), a)),
     ...);
  } else if (i < in) {
    HWY_ALIGN float part[R + C][attention_pad] = {};
    for (std::size_t r = 0; r < R; ++r) std::memcpy(part[r], w[r], in * sizeof(float));
    for (std::size_t c = 0; c < C; ++c) std::memcpy(part[R + c], x[c], in * sizeof(float));
    ((a = hn::MulAdd(hn::Load(d, part[I % R]), hn::Load(d, part[R + I / R]), a)), ...);
  }
  store_sums(sums, a...);
}

template <std::size_t R, std::size_t C, std::size_t... I>
HWY_INLINE void multiply_tile(std::index_sequence<I...> accumulators, const float* const* w, const float* const* x,
                              std::size_t in, float* HWY_RESTRICT sums) {
  multiply_rows<R, C>(accumulators, w, x, in, sums, (static_cast<void>(I), hn::Zero(lanes_tag()))...);
}

constexpr std::size_t longest_part = 1024;  ///< of the input: its rows then stay in the first-level cache

/// Sums longer than that are sums of parts.
struct input_part {
  std::size_t begin = 0;
  std::size_t size = 0;
  bool add = false;
};

/// Outputs [begin, end) of C columns from `column` on.
template <std::size_t C>
HWY_NOINLINE void multiply_columns(const product& p, const input_part& part, std::size_t begin, std::size_t end,
                                   std::size_t column) {
  constexpr std::size_t R = C == 1 ? 8 : 4;
  const float* x[C];
  float* y[C];
  for (std::size_t c = 0; c < C; ++c) {
    x[c] = p.x + (column + c) * p.in + part.begin;
    y[c] = p.rows != nullptr ? p.rows[column + c] : p.y + (column + c) * p.out;
  }
  for (std::size_t o = begin; o < end; o += R) {
    const std::size_t valid = std::min(R, end - o);
    const float* w[R];
    for (std::size_t r = 0; r < R; ++r) w[r] = p.weights + (o + std::min(r, valid - 1)) * p.in + part.begin;
    HWY_ALIGN float sums[R * C];
    multiply_tile<R, C>(std::make_index_sequence<R * C>(), w, x, part.size, sums);
    for (std::size_t c = 0; c < C; ++c)
      for (std::size_t r = 0; r < valid; ++r) y[c][o + r] = part.add ? y[c][o + r] + sums[c * R + r] : sums[c * R + r];
  }
}

template <std::size_t C>
HWY_INLINE void multiply_up_to(std::size_t count, const product& p, const input_part& part, std::size_t begin,
                               std::size_t end, std::size_t column) {
  if constexpr (C > 1)
    if (count < C) return multiply_up_to<C - 1>(count, p, part, begin, end, column);
  multiply_columns<C>(p, part, begin, end, column);
}

/// Outputs [begin, end) of all columns: rows that stay in the second-level cache while all columns pass by.
inline void multiply(const product& p, std::size_t begin, std::size_t end) {
  constexpr std::size_t block_floats = 1 << 16;
  const std::size_t rows =
      std::max<std::size_t>(8, block_floats / std::clamp<std::size_t>(p.in, 1, longest_part) / 8 * 8);
  const std::size_t tiles = (p.columns + tile_columns - 1) / tile_columns;
  for (std::size_t o = begin; o < end; o += rows)
    for (std::size_t i = 0; i < p.in; i += longest_part) {
      const input_part part{i, std::min(longest_part, p.in - i), p.add || i > 0};
      for (std::size_t t = 0; t < tiles; ++t) {  // of nearly the same width
        const std::size_t column = p.columns * t / tiles;
        const std::size_t count = p.columns * (t + 1) / tiles - column;
        multiply_up_to<tile_columns>(count, p, part, o, std::min(end, o + rows), column);
      }
    }
}

/// What an executor runs: a share of the outputs.
struct multiply_share {
  const product& p;
  std::size_t rows;

  void operator()(int task, int /*worker*/) const noexcept {
    const std::size_t begin = static_cast<std::size_t>(task) * rows;
    multiply(p, begin, std::min(p.out, begin + rows));
  }
};

}  // namespace detail

/// One sum has the same bits for any number of columns and workers, and wherever it lies.
template <executor E>
void linear(E& exec, const product& p) noexcept {
  constexpr std::size_t worth_sharing = 1 << 16;  // multiplications
  const auto workers = static_cast<std::size_t>(exec.workers());
  if (workers == 1 || p.in * p.out * p.columns < worth_sharing) return detail::multiply(p, 0, p.out);
  const std::size_t rows = (p.out + 16 * workers - 1) / (16 * workers) * 8;
  exec(static_cast<int>((p.out + rows - 1) / rows), detail::multiply_share{p, rows});
}

}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_MODEL_LINEAR_INL_HPP_
