#pragma once

#include <vector>

#include <multistate/model/config.hpp>

namespace multistate {

/// Weights in float32, for models that are made in code; matrices are row-major as [out][in]. Norms and biases that a
/// model has not are empty.
struct layer_weights {
  std::vector<float> attention_norm;                                      ///< [hidden] before attention
  std::vector<float> q;                                                   ///< [H * d][hidden]
  std::vector<float> k;                                                   ///< [Hkv * d][hidden]
  std::vector<float> v;                                                   ///< [Hkv * d][hidden]
  std::vector<float> o;                                                   ///< [hidden][H * d]
  std::vector<float> ffn_norm;                                            ///< [hidden] before the feed-forward block
  std::vector<float> gate;                                                ///< [ffn][hidden]
  std::vector<float> up;                                                  ///< [ffn][hidden]
  std::vector<float> down;                                                ///< [hidden][ffn]
  std::vector<float> q_bias = {}, k_bias = {}, v_bias = {}, o_bias = {};  ///< [H * d], [Hkv * d] twice, [hidden]
  std::vector<float> gate_bias = {}, up_bias = {}, down_bias = {};        ///< [ffn] twice, [hidden]
  std::vector<float> q_norm = {}, k_norm = {};  ///< [d], or [H * d] and [Hkv * d]: model_config::qk_norm
  std::vector<float> attention_post_norm = {}, ffn_post_norm = {};  ///< [hidden] behind attention, behind the block
};

struct model_weights {
  model_config config;
  std::vector<float> embedding;  ///< [vocab][hidden]
  std::vector<layer_weights> layers;
  std::vector<float> final_norm;  ///< [hidden]
  std::vector<float> head;        ///< [vocab][hidden]; empty when tied

  const std::vector<float>& output_matrix() const noexcept { return config.tied ? embedding : head; }
};

}  // namespace multistate
