#include <bench/eigen.hpp>

#define EIGEN_DONT_PARALLELIZE  // compared with one thread of ours
#include <multistate/eigen/maps.hpp>

#include <cmath>

namespace bench {

using matrix = multistate::eigen::matrix<float>;

struct eigen_attention::workspace {
  matrix weights;  ///< [group][n]
};

eigen_attention::eigen_attention(int n, int group, int d)
    : n_(n), group_(group), d_(d), workspace_(new workspace{matrix(group, n)}) {}
eigen_attention::~eigen_attention() { delete workspace_; }

void eigen_attention::operator()(const float* keys, const float* values, const float* q, float* out) const {
  const Eigen::Map<const matrix> k(keys, n_, d_), v(values, n_, d_), queries(q, group_, d_);
  Eigen::Map<matrix> to(out, group_, d_);
  matrix& p = workspace_->weights;
  if (group_ == 1)  // told that it is a vector, Eigen takes its matrix-vector product
    p.row(0).transpose().noalias() = k * queries.row(0).transpose();
  else
    p.noalias() = queries * k.transpose();
  p *= 1.0f / std::sqrt(static_cast<float>(d_));
  for (int g = 0; g < group_; ++g) {
    p.row(g).array() = (p.row(g).array() - p.row(g).maxCoeff()).exp();
    p.row(g) /= p.row(g).sum();
  }
  if (group_ == 1)
    to.row(0).noalias() = p.row(0) * v;
  else
    to.noalias() = p * v;
}

}  // namespace bench
