#pragma once

#include <cstddef>

namespace multistate {

/// What memories ask of matrices, from the formulas and in double. The same in vectors: simd_matrix of
/// recurrent/matrix-inl.hpp. Matrices are dense, [dk][dv]; none of them overlap.
struct plain_matrix {
  /// out [dv] = M'x.
  static void read(const double* m, std::size_t dk, std::size_t dv, const double* x, double* out) noexcept {
    for (std::size_t j = 0; j < dv; ++j) out[j] = 0;
    for (std::size_t i = 0; i < dk; ++i)
      for (std::size_t j = 0; j < dv; ++j) out[j] += x[i] * m[i * dv + j];
  }

  /// M = decay M + x y'.
  static void add(double* m, std::size_t dk, std::size_t dv, double decay, const double* x, const double* y) noexcept {
    for (std::size_t i = 0; i < dk; ++i)
      for (std::size_t j = 0; j < dv; ++j) m[i * dv + j] = decay * m[i * dv + j] + x[i] * y[j];
  }

  /// add(), then out = M'q.
  static void add_and_read(double* m, std::size_t dk, std::size_t dv, double decay, const double* x, const double* y,
                           const double* q, double* out) noexcept {
    add(m, dk, dv, decay, x, y);
    read(m, dk, dv, q, out);
  }

  /// S = carry S + x y', then M = decay M + S.
  static void add_with_momentum(double* m, double* s, std::size_t dk, std::size_t dv, double decay, double carry,
                                const double* x, const double* y) noexcept {
    add(s, dk, dv, carry, x, y);
    for (std::size_t i = 0; i < dk * dv; ++i) m[i] = decay * m[i] + s[i];
  }

  /// C [rows][columns] = C + A B with B [inner][columns] and A's element (i, p) at a[i * a_row + p * a_column].
  static void multiply(double* c, std::size_t rows, std::size_t columns, std::size_t inner, const double* a,
                       std::size_t a_row, std::size_t a_column, const double* b) noexcept {
    for (std::size_t i = 0; i < rows; ++i)
      for (std::size_t p = 0; p < inner; ++p)
        for (std::size_t j = 0; j < columns; ++j)
          c[i * columns + j] += a[i * a_row + p * a_column] * b[p * columns + j];
  }
};

}  // namespace multistate
