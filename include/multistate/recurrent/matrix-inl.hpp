// plain_matrix in vectors.

#if defined(MULTISTATE_RECURRENT_MATRIX_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_RECURRENT_MATRIX_INL_HPP_
#undef MULTISTATE_RECURRENT_MATRIX_INL_HPP_
#else
#define MULTISTATE_RECURRENT_MATRIX_INL_HPP_
#endif

#include <hwy/highway.h>

#include <cstddef>

#include <multistate/recurrent/matrix.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// What memories ask of matrices; called like plain_matrix, the same up to rounding. Columns are worked on in strips of
/// four vectors, whose sums stay in registers from the first to the last key dimension.
struct simd_matrix {
  static void read(const double* m, std::size_t dk, std::size_t dv, const double* x, double* out) noexcept {
    const tag d;
    const std::size_t n = hn::Lanes(d);
    std::size_t j = 0;
    for (; j + 4 * n <= dv; j += 4 * n) {
      vec a = hn::Zero(d), b = a, c = a, e = a;
      const double* at = m + j;
      for (std::size_t i = 0; i < dk; ++i, at += dv) {
        const vec xi = hn::Set(d, x[i]);
        a = hn::MulAdd(xi, hn::LoadU(d, at), a);
        b = hn::MulAdd(xi, hn::LoadU(d, at + n), b);
        c = hn::MulAdd(xi, hn::LoadU(d, at + 2 * n), c);
        e = hn::MulAdd(xi, hn::LoadU(d, at + 3 * n), e);
      }
      hn::StoreU(a, d, out + j);
      hn::StoreU(b, d, out + j + n);
      hn::StoreU(c, d, out + j + 2 * n);
      hn::StoreU(e, d, out + j + 3 * n);
    }
    for (; j + n <= dv; j += n) {
      vec a = hn::Zero(d);
      const double* at = m + j;
      for (std::size_t i = 0; i < dk; ++i, at += dv) a = hn::MulAdd(hn::Set(d, x[i]), hn::LoadU(d, at), a);
      hn::StoreU(a, d, out + j);
    }
    for (; j < dv; ++j) {
      double a = 0;
      for (std::size_t i = 0; i < dk; ++i) a += x[i] * m[i * dv + j];
      out[j] = a;
    }
  }

  static void add(double* m, std::size_t dk, std::size_t dv, double decay, const double* x, const double* y) noexcept {
    const tag d;
    const std::size_t n = hn::Lanes(d);
    const vec keep = hn::Set(d, decay);
    for (std::size_t i = 0; i < dk; ++i) {
      double* const at = m + i * dv;
      const vec xi = hn::Set(d, x[i]);
      std::size_t j = 0;
      for (; j + n <= dv; j += n)
        hn::StoreU(hn::MulAdd(xi, hn::LoadU(d, y + j), hn::Mul(keep, hn::LoadU(d, at + j))), d, at + j);
      for (; j < dv; ++j) at[j] = decay * at[j] + x[i] * y[j];
    }
  }

  static void add_and_read(double* m, std::size_t dk, std::size_t dv, double decay, const double* x, const double* y,
                           const double* q, double* out) noexcept {
    const tag d;
    const std::size_t n = hn::Lanes(d);
    const vec keep = hn::Set(d, decay);
    std::size_t j = 0;
    for (; j + 4 * n <= dv; j += 4 * n) {
      const vec ya = hn::LoadU(d, y + j), yb = hn::LoadU(d, y + j + n), yc = hn::LoadU(d, y + j + 2 * n),
                ye = hn::LoadU(d, y + j + 3 * n);
      vec a = hn::Zero(d), b = a, c = a, e = a;
      double* at = m + j;
      for (std::size_t i = 0; i < dk; ++i, at += dv) {
        const vec xi = hn::Set(d, x[i]), qi = hn::Set(d, q[i]);
        a = hn::MulAdd(qi, taken(d, at, keep, xi, ya), a);
        b = hn::MulAdd(qi, taken(d, at + n, keep, xi, yb), b);
        c = hn::MulAdd(qi, taken(d, at + 2 * n, keep, xi, yc), c);
        e = hn::MulAdd(qi, taken(d, at + 3 * n, keep, xi, ye), e);
      }
      hn::StoreU(a, d, out + j);
      hn::StoreU(b, d, out + j + n);
      hn::StoreU(c, d, out + j + 2 * n);
      hn::StoreU(e, d, out + j + 3 * n);
    }
    for (; j + n <= dv; j += n) {
      const vec ya = hn::LoadU(d, y + j);
      vec a = hn::Zero(d);
      double* at = m + j;
      for (std::size_t i = 0; i < dk; ++i, at += dv)
        a = hn::MulAdd(hn::Set(d, q[i]), taken(d, at, keep, hn::Set(d, x[i]), ya), a);
      hn::StoreU(a, d, out + j);
    }
    for (; j < dv; ++j) {
      double a = 0;
      for (std::size_t i = 0; i < dk; ++i) {
        m[i * dv + j] = decay * m[i * dv + j] + x[i] * y[j];
        a += q[i] * m[i * dv + j];
      }
      out[j] = a;
    }
  }

  static void add_with_momentum(double* m, double* s, std::size_t dk, std::size_t dv, double decay, double carry,
                                const double* x, const double* y) noexcept {
    const tag d;
    const std::size_t n = hn::Lanes(d);
    const vec keep = hn::Set(d, decay), keep_momentum = hn::Set(d, carry);
    for (std::size_t i = 0; i < dk; ++i) {
      double *const at = m + i * dv, *const momentum = s + i * dv;
      const vec xi = hn::Set(d, x[i]);
      std::size_t j = 0;
      for (; j + n <= dv; j += n) {
        const vec step = taken(d, momentum + j, keep_momentum, xi, hn::LoadU(d, y + j));
        hn::StoreU(hn::MulAdd(keep, hn::LoadU(d, at + j), step), d, at + j);
      }
      for (; j < dv; ++j) {
        momentum[j] = carry * momentum[j] + x[i] * y[j];
        at[j] = decay * at[j] + momentum[j];
      }
    }
  }

  /// In tiles of four rows and two vectors of C, which stay in registers.
  static void multiply(double* c, std::size_t rows, std::size_t columns, std::size_t inner, const double* a,
                       std::size_t a_row, std::size_t a_column, const double* b) noexcept {
    const std::size_t n = hn::Lanes(tag());
    std::size_t j = 0;
    for (; j + 2 * n <= columns; j += 2 * n) {
      std::size_t i = 0;
      for (; i + 4 <= rows; i += 4) tile(c + i * columns + j, columns, inner, a + i * a_row, a_row, a_column, b + j);
      for (; i < rows; ++i) {
        line(c + i * columns + j, columns, inner, a + i * a_row, a_column, b + j);
        line(c + i * columns + j + n, columns, inner, a + i * a_row, a_column, b + j + n);
      }
    }
    for (; j + n <= columns; j += n)
      for (std::size_t i = 0; i < rows; ++i) line(c + i * columns + j, columns, inner, a + i * a_row, a_column, b + j);
    for (; j < columns; ++j)
      for (std::size_t i = 0; i < rows; ++i)
        for (std::size_t p = 0; p < inner; ++p) c[i * columns + j] += a[i * a_row + p * a_column] * b[p * columns + j];
  }

 private:
  using tag = hn::CappedTag<double, 8>;
  using vec = hn::Vec<tag>;

  /// One vector of decay M + x y', stored.
  static HWY_INLINE vec taken(tag d, double* at, vec keep, vec x, vec y) {
    const vec now = hn::MulAdd(x, y, hn::Mul(keep, hn::LoadU(d, at)));
    hn::StoreU(now, d, at);
    return now;
  }

  static HWY_INLINE void line(double* c, std::size_t columns, std::size_t inner, const double* a, std::size_t a_column,
                              const double* b) {
    const tag d;
    vec sum = hn::LoadU(d, c);
    for (std::size_t p = 0; p < inner; ++p, a += a_column, b += columns)
      sum = hn::MulAdd(hn::Set(d, *a), hn::LoadU(d, b), sum);
    hn::StoreU(sum, d, c);
  }

  static HWY_INLINE void tile(double* c, std::size_t columns, std::size_t inner, const double* a, std::size_t a_row,
                              std::size_t a_column, const double* b) {
    const tag d;
    const std::size_t n = hn::Lanes(d);
    double *const c1 = c + columns, *const c2 = c1 + columns, *const c3 = c2 + columns;
    vec s00 = hn::LoadU(d, c), s01 = hn::LoadU(d, c + n), s10 = hn::LoadU(d, c1), s11 = hn::LoadU(d, c1 + n),
        s20 = hn::LoadU(d, c2), s21 = hn::LoadU(d, c2 + n), s30 = hn::LoadU(d, c3), s31 = hn::LoadU(d, c3 + n);
    for (std::size_t p = 0; p < inner; ++p, a += a_column, b += columns) {
      const vec b0 = hn::LoadU(d, b), b1 = hn::LoadU(d, b + n);
      const vec a0 = hn::Set(d, a[0]), a1 = hn::Set(d, a[a_row]), a2 = hn::Set(d, a[2 * a_row]),
                a3 = hn::Set(d, a[3 * a_row]);
      s00 = hn::MulAdd(a0, b0, s00);
      s01 = hn::MulAdd(a0, b1, s01);
      s10 = hn::MulAdd(a1, b0, s10);
      s11 = hn::MulAdd(a1, b1, s11);
      s20 = hn::MulAdd(a2, b0, s20);
      s21 = hn::MulAdd(a2, b1, s21);
      s30 = hn::MulAdd(a3, b0, s30);
      s31 = hn::MulAdd(a3, b1, s31);
    }
    hn::StoreU(s00, d, c);
    hn::StoreU(s01, d, c + n);
    hn::StoreU(s10, d, c1);
    hn::StoreU(s11, d, c1 + n);
    hn::StoreU(s20, d, c2);
    hn::StoreU(s21, d, c2 + n);
    hn::StoreU(s30, d, c3);
    hn::StoreU(s31, d, c3 + n);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif
