#pragma once

// Attention as its formula reads, in expressions over whole matrices. It is what tests hold the kernel against, and a
// place to begin for those who compute with Eigen; for speed there is attention/attention.hpp.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include <Eigen/Core>

#include <multistate/attention/options.hpp>
#include <multistate/eigen/maps.hpp>
#include <multistate/rope/log_positions.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/rows.hpp>
#include <multistate/util/assert.hpp>

namespace multistate::eigen {

/// Vectors x [m][d], the first 2 * pairs elements of each rotated: pair i of vector r by places[r] * frequencies[i].
template <class Scalar>
matrix<Scalar> rotated(matrix<Scalar> x, const Eigen::Ref<const Eigen::ArrayXd>& places,
                       const Eigen::Ref<const Eigen::ArrayXd>& frequencies, rope_pairing pairing) {
  const Eigen::Index pairs = frequencies.size();
  const bool halves = pairing == rope_pairing::halves;
  for (Eigen::Index i = 0; i < pairs; ++i) {
    auto a = x.col(halves ? i : 2 * i).array();
    auto b = x.col(halves ? pairs + i : 2 * i + 1).array();
    const Eigen::ArrayXd angle = places * frequencies[i];
    const Eigen::Array<Scalar, Eigen::Dynamic, 1> c = angle.cos().cast<Scalar>(), s = angle.sin().cast<Scalar>();
    const Eigen::Array<Scalar, Eigen::Dynamic, 1> old = a;
    a = old * c - b * s;
    b = b * c + old * s;
  }
  return x;
}

/// Where tokens at the positions `of` [m] stand among all that are kept, them included: [m], each the number of older
/// ones, or with log positions the sum of what the gaps between them count.
inline Eigen::ArrayXd places(std::span<const position> of, std::span<const position> kept, bool log) {
  std::vector<position> by_age(kept.begin(), kept.end());
  std::sort(by_age.begin(), by_age.end());
  std::vector<double> by_rank(by_age.size(), 0.0);
  for (std::size_t r = 1; r < by_rank.size(); ++r)
    by_rank[r] = by_rank[r - 1] + (log ? log_gap(static_cast<double>(by_age[r] - by_age[r - 1])) : 1.0);
  Eigen::ArrayXd result(static_cast<Eigen::Index>(of.size()));
  for (std::size_t i = 0; i < of.size(); ++i) {
    const auto rank = std::lower_bound(by_age.begin(), by_age.end(), of[i]) - by_age.begin();
    result[static_cast<Eigen::Index>(i)] = by_rank[static_cast<std::size_t>(rank)];
  }
  return result;
}

/// The weights of one query head, [queries][n], from q [queries][dk], k [n][dk] and the distance [queries][n] of each
/// state behind each query, in tokens: a softmax over the states that a query sees and the head's sink.
template <class Scalar>
matrix<Scalar> head_weights(const Eigen::Ref<const matrix<Scalar>>& q, const Eigen::Ref<const matrix<Scalar>>& k,
                            const Eigen::Ref<const matrix<Scalar>>& distance, const attention_options& options,
                            int head) {
  const bool has_scale = options.scale < 0.0f || options.scale > 0.0f;
  const Scalar scale = has_scale ? Scalar{options.scale} : 1 / std::sqrt(static_cast<Scalar>(k.cols()));
  matrix<Scalar> logits(q.rows(), k.rows());
  logits.noalias() = scale * q * k.transpose();
  if (const Scalar cap = options.softcap; cap > 0) logits = cap * (logits.array() / cap).tanh();
  if (!options.alibi.empty()) logits -= Scalar{options.alibi[to_size(head)]} * distance;

  constexpr Scalar infinity = std::numeric_limits<Scalar>::infinity();
  const Scalar reach = options.window > 0 ? static_cast<Scalar>(options.window) : infinity;
  const Eigen::Array<bool, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> visible =
      distance.array() >= 0 && distance.array() < reach;
  logits = visible.select(logits, -infinity);
  Eigen::Array<Scalar, Eigen::Dynamic, 1> largest = logits.rowwise().maxCoeff();
  if (!options.sink_logits.empty()) largest = (largest.max)(Scalar{options.sink_logits[to_size(head)]});
  matrix<Scalar> p = visible.select((logits.array().colwise() - largest).exp(), Scalar{0});
  Eigen::Array<Scalar, Eigen::Dynamic, 1> sum = p.rowwise().sum();
  if (!options.sink_logits.empty()) sum += (Scalar{options.sink_logits[to_size(head)]} - largest).exp();
  p.array().colwise() /= sum;
  return p;
}

/// What attention makes of the queries of one KV head.
template <class Scalar>
struct attended {
  matrix<Scalar> out;      ///< [queries][G * dv]
  matrix<Scalar> weights;  ///< [queries][n], summed over the G query heads

  /// What a policy is given of the weights: [queries][n] where the kind is each, else [1][n].
  matrix<Scalar> given(rows_kind kind) const {
    switch (kind) {
      case rows_kind::last:
        return weights.bottomRows(1);
      case rows_kind::sum:
        return weights.colwise().sum();
      case rows_kind::each:
        break;
    }
    return weights;
  }
};

/// What `attention` computes of one task, all of it in Scalar: q [queries][G * dk] over k [n][dk] and v [n][dv], which
/// lie at `positions` [n] by slot; query j is the token at `first` + j and sees those up to its own. Keys and queries
/// come un-rotated where the options have a rotation. Allocates.
template <class Scalar>
attended<Scalar> attend(const Eigen::Ref<const matrix<Scalar>>& q, const Eigen::Ref<const matrix<Scalar>>& k,
                        const Eigen::Ref<const matrix<Scalar>>& v, std::span<const position> positions, position first,
                        const attention_options& options = {}, int kv_head = 0) {
  const Eigen::Index queries = q.rows(), n = k.rows(), dk = k.cols(), dv = v.cols(), group = q.cols() / dk;
  MULTISTATE_ASSERT(v.rows() == n && positions.size() == static_cast<std::size_t>(n) && q.cols() == group * dk);
  std::vector<position> own(static_cast<std::size_t>(queries));
  for (std::size_t j = 0; j < own.size(); ++j) own[j] = first + static_cast<position>(j);

  using by_slot = Eigen::Map<const Eigen::Matrix<position, 1, Eigen::Dynamic>>;
  using by_query = Eigen::Map<const Eigen::Matrix<position, Eigen::Dynamic, 1>>;
  const matrix<Scalar> distance =
      (by_query(own.data(), queries).replicate(1, n) - by_slot(positions.data(), n).replicate(queries, 1))
          .template cast<Scalar>();
  const auto placed = [&](const Eigen::Ref<const matrix<Scalar>>& x, std::span<const position> at) -> matrix<Scalar> {
    const rope* rotation = options.rotation();
    if (rotation == nullptr) return x;
    const Eigen::Map<const Eigen::ArrayXd> frequencies(rotation->inv_freq().data(), rotation->config().dim / 2);
    return rotated<Scalar>(x, places(at, positions, options.in_cache == nullptr), frequencies,
                           rotation->config().pairing);
  };

  attended<Scalar> result{matrix<Scalar>(queries, group * dv), matrix<Scalar>::Zero(queries, n)};
  const matrix<Scalar> keys = placed(k, positions);
  for (Eigen::Index g = 0; g < group; ++g) {
    const matrix<Scalar> p = head_weights<Scalar>(placed(q.middleCols(g * dk, dk), own), keys, distance, options,
                                                  static_cast<int>(kv_head * group + g));
    result.out.middleCols(g * dv, dv).noalias() = p * v;
    result.weights += p;
  }
  return result;
}

}  // namespace multistate::eigen
