#pragma once

#include <cmath>

#define EIGEN_DONT_VECTORIZE  // a plain reference; and g++ 12 warns about its own AVX-512 header
#include <Eigen/Core>

namespace support {

using matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Rotates the first `dim` elements of each row by angles place_of_row(row) * theta^(-2 i / dim).
template <class Place>
void rotate(Eigen::Ref<matrix> x, int dim, double theta, bool halves, const Place& place_of_row) {
  const Eigen::Index pairs = dim / 2;
  for (Eigen::Index r = 0; r < x.rows(); ++r)
    for (Eigen::Index i = 0; i < pairs; ++i) {
      const double angle = place_of_row(r) * std::pow(theta, -2.0 * static_cast<double>(i) / dim);
      double& a = x(r, halves ? i : 2 * i);
      double& b = x(r, halves ? pairs + i : 2 * i + 1);
      const double old = a;
      a = old * std::cos(angle) - b * std::sin(angle);
      b = b * std::cos(angle) + old * std::sin(angle);
    }
}

}  // namespace support
