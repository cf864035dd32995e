#pragma once

#include <cstdint>
#include <vector>

#include <multistate/memory/layer_attention.hpp>
#include <multistate/rope/config.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/shape.hpp>

namespace multistate {

/// What the gate of a feed-forward block goes through: x / (1 + e^-x), or GELU (Hendrycks and Gimpel 2016) by its tanh
/// formula or by erf.
enum class activation : std::uint8_t { silu, gelu_tanh, gelu_erf };

/// What a norm of queries and keys, before they are turned, goes over: each head, or all heads together.
enum class query_norm : std::uint8_t { none, head, all };

/// A decoder-only transformer as data: RMSNorm, RoPE, grouped queries, a gated feed-forward block, and what families
/// add to these. Biases and norms before or behind a branch are there where the weights have them.
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
  std::vector<layer_attention> own = {};  ///< [layers] in place of `rope`; empty: all alike, without windows
  activation gate = activation::silu;
  query_norm qk_norm = query_norm::none;
  float attention_scale = 0.0f;  ///< of q.k; 0: 1 / sqrt(d)
  float softcap = 0.0f;          ///< of attention's logits; 0: none
  float final_softcap = 0.0f;    ///< of the vocabulary's logits; 0: none
  float embedding_scale = 1.0f;  ///< embeddings are multiplied by it
  float residual_scale = 1.0f;   ///< what is added to the residual stream, too
  float logit_divisor = 1.0f;    ///< logits are divided by it

  const rope_config& rope_of(int layer) const noexcept { return own.empty() ? rope : own[to_size(layer)].rope; }
  int window_of(int layer) const noexcept { return own.empty() ? 0 : own[to_size(layer)].window; }
  /// States that sequences of at most so many tokens: angles that depend on the length are chosen by it, once.
  void state_session(int tokens) noexcept {
    rope.session = tokens;
    for (layer_attention& layer : own) layer.rope.session = tokens;
  }

  constexpr multistate::shape attention_shape() const noexcept { return {heads, kv_heads, head_dim, head_dim}; }
  friend bool operator==(const model_config&, const model_config&) = default;
};

}  // namespace multistate
