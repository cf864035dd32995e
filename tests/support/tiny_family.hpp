#pragma once

// A tiny random model of each family, twice: as transformers saves it and as llama.cpp's converter writes it.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <multistate/io/safetensors.hpp>
#include <support/gguf_writer.hpp>
#include <support/random.hpp>

namespace support {

/// What its files hold, said here apart from the library's own table.
struct tiny_family {
  std::string type;          ///< model_type
  std::string architecture;  ///< of GGUF
  bool before = true;        ///< norms before attention and MLP
  bool behind = false;       ///< norms behind them
  int qk_norm = 0;           ///< numbers in a query norm; 0: none
  bool biases = false;       ///< of queries, keys and values
  bool fused = false;        ///< qkv_proj and gate_up_proj
  bool shared_mlp = false;   ///< shared_mlp.input_linear
  bool adjacent = false;     ///< GGUF's queries and keys are permuted for adjacent pairs
  bool plus_one = false;     ///< transformers stores norms as weight - 1
  bool tied = false;
  int layers = 4;
  nlohmann::json config = nlohmann::json::object();           ///< besides the sizes
  std::vector<std::pair<std::string, float>> numbers = {};    ///< GGUF's keys besides the sizes
  std::vector<std::pair<std::string, unsigned>> wholes = {};  ///< the same
  std::vector<float> short_factor = {}, long_factor = {};     ///< of its angles

  static constexpr int hidden = 32, heads = 4, kv_heads = 2, head_dim = 16, ffn = 48, vocab = 40, context = 64;
};

/// Writes a family's model into a folder.
class tiny_family_files {
 public:
  tiny_family_files(const tiny_family& f, std::filesystem::path folder) : f_(f), folder_(std::move(folder)) {
    std::filesystem::create_directories(folder_);
    write_keys();
    tensors();
    std::vector<multistate::named_tensor> named;
    for (const auto& t : stored_) named.push_back({t.name, t.shape, std::span(t.values)});
    multistate::write_safetensors(folder_ / "model.safetensors", named).value();
    gguf_.write(gguf());
  }
  std::filesystem::path gguf() const { return folder_ / "model.gguf"; }
  const std::filesystem::path& folder() const { return folder_; }

 private:
  using floats = std::vector<float>;
  struct stored {
    std::string name;
    std::vector<std::size_t> shape;
    floats values;
  };

  void write_keys() {
    using f = tiny_family;
    nlohmann::json config = {{"model_type", f_.type},
                             {"hidden_size", f::hidden},
                             {"num_hidden_layers", f_.layers},
                             {"num_attention_heads", f::heads},
                             {"num_key_value_heads", f::kv_heads},
                             {"head_dim", f::head_dim},
                             {f_.shared_mlp ? "shared_intermediate_size" : "intermediate_size", f::ffn},
                             {"vocab_size", f::vocab},
                             {"max_position_embeddings", f::context},
                             {"rms_norm_eps", 1e-5},
                             {"tie_word_embeddings", f_.tied}};
    config.update(f_.config);
    std::ofstream(folder_ / "config.json") << config;
    gguf_.text("general.architecture", f_.architecture);
    const std::string at = f_.architecture + ".";
    for (const auto& [key, value] : {std::pair{"block_count", f_.layers},
                                     {"context_length", f::context},
                                     {"embedding_length", f::hidden},
                                     {"feed_forward_length", f::ffn},
                                     {"attention.head_count", f::heads},
                                     {"attention.head_count_kv", f::kv_heads},
                                     {"attention.key_length", f::head_dim},
                                     {"attention.value_length", f::head_dim},
                                     {"rope.dimension_count", f::head_dim}})
      gguf_.whole(at + key, static_cast<unsigned>(value));
    gguf_.number(at + "attention.layer_norm_rms_epsilon", 1e-5f);
    for (const auto& [key, value] : f_.numbers) gguf_.number(at + key, value);
    for (const auto& [key, value] : f_.wholes) gguf_.whole(at + key, value);
    const auto factors = [&](const char* name, const floats& values) {
      if (!values.empty()) gguf_.floats(name, {values.size()}, values);
    };
    factors("rope_factors_short.weight", f_.short_factor);
    factors("rope_factors_long.weight", f_.long_factor);
  }

  void tensors() {
    using f = tiny_family;
    matrix("model.embed_tokens", "token_embd", f::vocab, f::hidden, 1.0);
    norm("model.norm", "output_norm", f::hidden);
    if (!f_.tied) matrix("lm_head", "output", f::vocab, f::hidden);
    for (int i = 0; i < f_.layers; ++i)
      layer("model.layers." + std::to_string(i) + ".", "blk." + std::to_string(i) + ".");
  }
  void layer(const std::string& from, const std::string& to) {
    constexpr int hidden = tiny_family::hidden;
    const std::string after = from + "post_attention_layernorm";
    if (f_.before) norm(from + "input_layernorm", to + "attn_norm", hidden);
    if (f_.behind) norm(after, to + "post_attention_norm", hidden);
    if (f_.before) norm(f_.behind ? from + "pre_feedforward_layernorm" : after, to + "ffn_norm", hidden);
    if (f_.behind) norm(from + "post_feedforward_layernorm", to + "post_ffw_norm", hidden);
    attention(from + "self_attn.", to);
    feed_forward(from + (f_.shared_mlp ? "shared_mlp." : "mlp."), to);
  }
  void attention(const std::string& from, const std::string& to) {
    using f = tiny_family;
    constexpr int hidden = f::hidden, q = f::heads * f::head_dim, kv = f::kv_heads * f::head_dim;
    if (f_.fused) {
      matrix(from + "qkv_proj", to + "attn_qkv", q + 2 * kv, hidden);
    } else {
      matrix(from + "q_proj", to + "attn_q", q, hidden, 3.0, f::heads);
      matrix(from + "k_proj", to + "attn_k", kv, hidden, 1.0, f::kv_heads);
      matrix(from + "v_proj", to + "attn_v", kv, hidden);
    }
    if (f_.biases)
      for (const auto& [name, size] : {std::pair{"q", q}, {"k", kv}, {"v", kv}}) {
        const floats b = random(size, 0.5);
        put(from + name + "_proj.bias", to + "attn_" + name + ".bias", {static_cast<std::size_t>(size)}, b, b);
      }
    matrix(from + "o_proj", to + "attn_output", hidden, q);
    if (f_.qk_norm == 0) return;
    norm(from + "q_norm", to + "attn_q_norm", f_.qk_norm);
    norm(from + "k_norm", to + "attn_k_norm", f_.qk_norm == q ? kv : f_.qk_norm);
  }
  void feed_forward(const std::string& from, const std::string& to) {
    constexpr int hidden = tiny_family::hidden, ffn = tiny_family::ffn;
    if (f_.fused) {
      matrix(from + "gate_up_proj", to + "ffn_up", 2 * ffn, hidden);
    } else if (f_.shared_mlp) {
      floats both = random(2 * ffn * hidden, 0.2);
      const auto half = both.begin() + ffn * hidden;
      gguf_.floats(to + "ffn_gate.weight", {ffn, hidden}, {both.begin(), half});
      gguf_.floats(to + "ffn_up.weight", {ffn, hidden}, {half, both.end()});
      stored_.push_back({from + "input_linear.weight", {2 * ffn, hidden}, std::move(both)});
    } else {
      matrix(from + "gate_proj", to + "ffn_gate", ffn, hidden);
      matrix(from + "up_proj", to + "ffn_up", ffn, hidden);
    }
    matrix(from + (f_.shared_mlp ? "output_linear" : "down_proj"), to + "ffn_down", hidden, ffn);
  }

  floats random(int count, double scale) {
    floats all(static_cast<std::size_t>(count));
    for (float& x : all) x = static_cast<float>(scale * random_.normal());
    return all;
  }
  void put(const std::string& from, const std::string& to, std::vector<std::size_t> shape, floats hf,
           const floats& gguf) {
    gguf_.floats(to, {shape.begin(), shape.end()}, gguf);
    stored_.push_back({from, std::move(shape), std::move(hf)});
  }
  void norm(const std::string& from, const std::string& to, int size) {
    floats hf = random(size, 0.3);
    if (!f_.plus_one)
      for (float& x : hf) x += 1.0f;
    floats gguf = hf;
    if (f_.plus_one)
      for (float& x : gguf) x += 1.0f;
    put(from + ".weight", to + ".weight", {static_cast<std::size_t>(size)}, std::move(hf), gguf);
  }
  /// `heads`: of queries or keys, whose vectors GGUF may hold in another order.
  void matrix(const std::string& from, const std::string& to, int out, int in, double scale = 1.0, int heads = 0) {
    floats hf = random(out * in, scale / std::sqrt(static_cast<double>(in)));
    floats gguf = hf;
    const int d = heads > 0 ? out / heads : 0;
    for (int o = 0; f_.adjacent && heads > 0 && o < out; ++o) {
      const int within = o % d, other = o - within + 2 * (within % (d / 2)) + within / (d / 2);
      std::copy_n(hf.begin() + o * in, in, gguf.begin() + other * in);
    }
    put(from + ".weight", to + ".weight", {static_cast<std::size_t>(out), static_cast<std::size_t>(in)}, std::move(hf),
        gguf);
  }

  const tiny_family& f_;
  std::filesystem::path folder_;
  generator random_{5};
  gguf_writer gguf_;
  std::vector<stored> stored_;
};

/// One of each.
inline std::vector<tiny_family> tiny_families() {
  using f = tiny_family;
  using json = nlohmann::json;
  const std::vector<float> shorter = {1.0f, 1.1f, 1.2f, 1.3f, 1.4f, 1.5f, 1.6f, 1.7f};
  const std::vector<float> longer = {1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, 8.0f, 9.0f};
  const json longrope = {
      {"type", "longrope"}, {"short_factor", shorter}, {"long_factor", longer}, {"attention_factor", 1.25}};
  const json multipliers = {{"embedding_multiplier", 12.0},
                            {"attention_multiplier", 0.5},
                            {"residual_multiplier", 0.25},
                            {"logits_scaling", 8.0}};
  const std::vector<std::pair<std::string, float>> scales = {
      {"embedding_scale", 12.0f}, {"attention.scale", 0.5f}, {"residual_scale", 0.25f}, {"logit_scale", 8.0f}};
  json hybrid = multipliers;
  hybrid.update({{"layer_types", std::vector<std::string>(4, "attention")},
                 {"num_local_experts", 0},
                 {"position_embedding_type", "rope"},
                 {"mamba_d_state", 256}});
  return {f{.type = "llama",
            .architecture = "llama",
            .adjacent = true,
            .config = {{"rope_theta", 5e4}},
            .numbers = {{"rope.freq_base", 5e4f}}},
          f{.type = "mistral",
            .architecture = "llama",
            .adjacent = true,
            .config = {{"sliding_window", 16}},
            .wholes = {{"attention.sliding_window", 16}}},
          f{.type = "qwen2", .architecture = "qwen2", .biases = true, .tied = true},
          f{.type = "qwen3", .architecture = "qwen3", .qk_norm = 16},
          f{.type = "gemma2",
            .architecture = "gemma2",
            .behind = true,
            .plus_one = true,
            .tied = true,
            .config = {{"query_pre_attn_scalar", 16}, {"sliding_window", 8}, {"attn_logit_softcapping", 20.0}},
            .numbers = {{"attn_logit_softcapping", 20.0f}, {"final_logit_softcapping", 30.0f}},
            .wholes = {{"attention.sliding_window", 8}}},
          f{.type = "gemma3_text",
            .architecture = "gemma3",
            .behind = true,
            .qk_norm = 16,
            .plus_one = true,
            .tied = true,
            .layers = 6,
            .config = {{"query_pre_attn_scalar", 16}, {"sliding_window", 8}},
            .numbers = {{"rope.freq_base", 1e6f}},
            .wholes = {{"attention.sliding_window", 8}}},
          f{.type = "phi3",
            .architecture = "phi3",
            .fused = true,
            .config = {{"original_max_position_embeddings", 32}, {"rope_scaling", longrope}},
            .numbers = {{"rope.scaling.attn_factor", 1.25f}},
            .wholes = {{"rope.scaling.original_context_length", 32}},
            .short_factor = shorter,
            .long_factor = longer},
          f{.type = "smollm3",
            .architecture = "smollm3",
            .adjacent = true,
            .tied = true,
            .numbers = {{"rope.freq_base", 2e6f}}},
          f{.type = "olmo2", .architecture = "olmo2", .before = false, .behind = true, .qk_norm = 64},
          f{.type = "granite", .architecture = "granite", .adjacent = true, .config = multipliers, .numbers = scales},
          f{.type = "granitemoehybrid",
            .architecture = "granite",
            .shared_mlp = true,
            .adjacent = true,
            .config = hybrid,
            .numbers = scales}};
}

}  // namespace support
