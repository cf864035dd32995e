#pragma once

// The matrices of a loaded model as Eigen sees them, each [out][in]: y = w * x, or for one vector a token y = x * w^T.

#include <span>
#include <vector>

#include <Eigen/Core>

#include <multistate/eigen/maps.hpp>
#include <multistate/model/weights.hpp>

namespace multistate::eigen {

using vector_map = Eigen::Map<const Eigen::RowVectorXf>;

/// One layer's.
struct layer_matrices {
  vector_map attention_norm;  ///< [hidden]
  matrix_map q;               ///< [H * d][hidden]
  matrix_map k, v;            ///< [Hkv * d][hidden]
  matrix_map o;               ///< [hidden][H * d]
  vector_map ffn_norm;        ///< [hidden]
  matrix_map gate, up;        ///< [ffn][hidden]
  matrix_map down;            ///< [hidden][ffn]
};

struct model_matrices {
  matrix_map embedding;  ///< [vocab][hidden]
  std::vector<layer_matrices> layers;
  vector_map final_norm;  ///< [hidden]
  matrix_map head;        ///< [vocab][hidden]; the embedding when tied
};

/// Maps over the weights, which have to outlive them. Precondition: check(m) of model/model_view.hpp.
inline model_matrices matrices_of(const model_weights& m) {
  const model_config& c = m.config;
  const auto vector = [](const std::vector<float>& w) {
    return vector_map(w.data(), static_cast<Eigen::Index>(w.size()));
  };
  const auto matrix = [](const std::vector<float>& w, int out, int in) {
    return matrix_map(w.data(), out, in, Eigen::OuterStride<>(in));
  };
  const int q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  model_matrices maps{
      matrix(m.embedding, c.vocab, c.hidden), {}, vector(m.final_norm), matrix(m.output_matrix(), c.vocab, c.hidden)};
  maps.layers.reserve(m.layers.size());
  for (const layer_weights& l : m.layers)
    maps.layers.push_back({vector(l.attention_norm), matrix(l.q, q, c.hidden), matrix(l.k, kv, c.hidden),
                           matrix(l.v, kv, c.hidden), matrix(l.o, c.hidden, q), vector(l.ffn_norm),
                           matrix(l.gate, c.ffn, c.hidden), matrix(l.up, c.ffn, c.hidden),
                           matrix(l.down, c.hidden, c.ffn)});
  return maps;
}

}  // namespace multistate::eigen
