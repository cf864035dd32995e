#pragma once

#include <multistate/rope/config.hpp>
#include <multistate/types/shape.hpp>

namespace multistate {

/// A Llama-like decoder-only transformer: RMSNorm, RoPE, grouped queries, SwiGLU.
struct model_config {
  int layers = 0;
  int hidden = 0;    ///< width of the residual stream
  int heads = 0;     ///< H
  int kv_heads = 0;  ///< Hkv
  int head_dim = 0;  ///< d
  int ffn = 0;       ///< inner width of the feed-forward block
  int vocab = 0;
  int context = 0;  ///< trained context in tokens; 0: unknown
  float norm_eps = 1e-5f;
  bool tied = false;  ///< the head is the embedding
  int bos = -1;       ///< token that starts every sequence; -1: none
  rope_config rope;

  constexpr multistate::shape attention_shape() const noexcept { return {heads, kv_heads, head_dim, head_dim}; }
  friend bool operator==(const model_config&, const model_config&) = default;
};

}  // namespace multistate
