#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include <multistate/model/config.hpp>

namespace multistate::detail {

/// Where a family's layers have their norms: before each branch, behind it, or both.
enum class norm_rule : std::uint8_t { before, behind, both };
/// Which biases attention has: none, those of queries, keys and values, or these and the output's by attention_bias.
enum class bias_rule : std::uint8_t { none, queries, by_flag };
/// Which layers have a window where no list says it: none, all, every second from the first, all but the last of each
/// period, those from max_window_layers on, or those whose keys are not turned.
enum class window_rule : std::uint8_t { none, all, even, period, late, still };

/// A family of models: what its files leave unsaid. Defaults are those of transformers' configuration classes.
struct family {
  std::string_view model_type;    ///< of config.json
  std::string_view class_name;    ///< in `architectures`, before ForCausalLM
  std::string_view architecture;  ///< of GGUF; "": none of its own
  std::string_view members;       ///< of config.json, beside those of every family
  rope_pairing gguf_pairing = rope_pairing::halves;
  norm_rule norms = norm_rule::before;
  bias_rule biases = bias_rule::none;
  bool mlp_bias = false;  ///< by the flag of that name
  query_norm qk_norm = query_norm::none;
  window_rule windows = window_rule::none;
  int window = 0;    ///< where sliding_window is missing; 0: none
  int kv_heads = 0;  ///< where num_key_value_heads is missing; 0: as many as heads
  int head_dim = 0;  ///< where head_dim is missing; 0: hidden / heads
  double theta = 1e4;
  double local_theta = 0;  ///< of layers with a window; 0: that of all
  double eps = 1e-6;
  bool tied = false;
  bool gelu = false;            ///< hidden_activation, GELU's tanh form; query_pre_attn_scalar and caps
  bool norm_plus_one = false;   ///< norms are stored as weight - 1 (config.json's files, not GGUF's)
  bool embedding_root = false;  ///< embeddings times sqrt(hidden)
  double softcap = 0, final_softcap = 0;
  bool multipliers = false;     ///< embedding_multiplier and its like
  bool fused = false;           ///< qkv_proj and gate_up_proj
  bool longrope = false;        ///< su and yarn mean longrope; a part of a head may be turned
  double original_context = 0;  ///< where original_max_position_embeddings is missing; 0: max_position_embeddings
  bool still_layers = false;    ///< no_rope_layers: keys of some layers are not turned
  bool experts = false;         ///< shared_mlp beside experts, of which there must be none
  bool attention_word = false;  ///< layer_types says "attention" for full_attention
};

/// All families that are built. A new dense one is an entry here and a test.
inline constexpr std::array families = {
    family{.model_type = "llama",
           .class_name = "Llama",
           .architecture = "llama",
           .members = "",
           .gguf_pairing = rope_pairing::adjacent,
           .biases = bias_rule::by_flag,
           .mlp_bias = true},
    family{.model_type = "mistral",
           .class_name = "Mistral",
           .architecture = "",
           .members = "",
           .windows = window_rule::all,
           .window = 4096,
           .kv_heads = 8},
    family{.model_type = "qwen2",
           .class_name = "Qwen2",
           .architecture = "qwen2",
           .members = "max_window_layers",
           .biases = bias_rule::queries,
           .windows = window_rule::late,
           .window = 4096,
           .kv_heads = 32},
    family{.model_type = "qwen3",
           .class_name = "Qwen3",
           .architecture = "qwen3",
           .members = "max_window_layers",
           .biases = bias_rule::by_flag,
           .qk_norm = query_norm::head,
           .windows = window_rule::late,
           .window = 4096,
           .kv_heads = 32,
           .head_dim = 128},
    family{.model_type = "gemma2",
           .class_name = "Gemma2",
           .architecture = "gemma2",
           .members = "hidden_activation query_pre_attn_scalar attn_logit_softcapping final_logit_softcapping",
           .norms = norm_rule::both,
           .biases = bias_rule::by_flag,
           .windows = window_rule::even,
           .window = 4096,
           .kv_heads = 4,
           .head_dim = 256,
           .tied = true,
           .gelu = true,
           .norm_plus_one = true,
           .embedding_root = true,
           .softcap = 50,
           .final_softcap = 30},
    family{.model_type = "gemma3_text",
           .class_name = "Gemma3",
           .architecture = "gemma3",
           .members = "hidden_activation query_pre_attn_scalar attn_logit_softcapping final_logit_softcapping "
                      "rope_local_base_freq sliding_window_pattern",
           .norms = norm_rule::both,
           .biases = bias_rule::by_flag,
           .qk_norm = query_norm::head,
           .windows = window_rule::period,
           .window = 4096,
           .kv_heads = 4,
           .head_dim = 256,
           .theta = 1e6,
           .local_theta = 1e4,
           .tied = true,
           .gelu = true,
           .norm_plus_one = true,
           .embedding_root = true},
    family{.model_type = "phi3",
           .class_name = "Phi3",
           .architecture = "phi3",
           .members = "",
           .windows = window_rule::all,
           .eps = 1e-5,
           .fused = true,
           .longrope = true,
           .original_context = 4096},
    family{.model_type = "smollm3",
           .class_name = "SmolLM3",
           .architecture = "smollm3",
           .members = "no_rope_layers no_rope_layer_interval",
           .gguf_pairing = rope_pairing::adjacent,
           .biases = bias_rule::by_flag,
           .mlp_bias = true,
           .windows = window_rule::still,
           .kv_heads = 4,
           .theta = 2e6,
           .tied = true,
           .still_layers = true},
    family{.model_type = "olmo2",
           .class_name = "Olmo2",
           .architecture = "olmo2",
           .members = "",
           .norms = norm_rule::behind,
           .biases = bias_rule::by_flag,
           .qk_norm = query_norm::all,
           .eps = 1e-5},
    family{.model_type = "granite",
           .class_name = "Granite",
           .architecture = "granite",
           .members = "embedding_multiplier attention_multiplier residual_multiplier logits_scaling",
           .gguf_pairing = rope_pairing::adjacent,
           .biases = bias_rule::by_flag,
           .mlp_bias = true,
           .multipliers = true},
    family{.model_type = "granitemoehybrid",
           .class_name = "GraniteMoeHybrid",
           .architecture = "",
           .members = "embedding_multiplier attention_multiplier residual_multiplier logits_scaling num_local_experts "
                      "num_experts_per_tok shared_intermediate_size position_embedding_type output_router_logits "
                      "router_aux_loss_coef normalization_function init_method mamba_chunk_size mamba_conv_bias "
                      "mamba_d_conv mamba_d_head mamba_d_state mamba_expand mamba_n_groups mamba_n_heads "
                      "mamba_proj_bias time_step_floor time_step_limit time_step_max time_step_min",
           .biases = bias_rule::by_flag,
           .multipliers = true,
           .experts = true,
           .attention_word = true},
};

inline const family* family_of_config(std::string_view model_type) noexcept {
  for (const family& f : families)
    if (f.model_type == model_type) return &f;
  return nullptr;
}
inline const family* family_of_gguf(std::string_view architecture) noexcept {
  for (const family& f : families)
    if (!f.architecture.empty() && f.architecture == architecture) return &f;
  return nullptr;
}
/// "llama, mistral, .. or granite": the names that families have in one kind of file.
inline std::string families_named(std::string_view family::*name) {
  std::string names;
  std::string_view last;
  for (const family& f : families) {
    if ((f.*name).empty()) continue;
    if (!last.empty()) names += (names.empty() ? "" : ", ") + std::string(last);
    last = f.*name;
  }
  return names + " or " + std::string(last);
}

}  // namespace multistate::detail
