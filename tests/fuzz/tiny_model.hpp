#pragma once

// The smallest model that has everything, as files.

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace fuzz {

inline constexpr const char* tiny_config =
    R"({"model_type":"llama","hidden_size":4,"num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":1,)"
    R"("intermediate_size":2,"vocab_size":8,"max_position_embeddings":16,"tie_word_embeddings":false})";

/// Name and shape of each tensor.
inline std::vector<std::pair<std::string, std::vector<int>>> tiny_tensors() {
  const std::string layer = "model.layers.0.";
  return {{"model.embed_tokens.weight", {8, 4}},
          {layer + "input_layernorm.weight", {4}},
          {layer + "self_attn.q_proj.weight", {4, 4}},
          {layer + "self_attn.k_proj.weight", {2, 4}},
          {layer + "self_attn.v_proj.weight", {2, 4}},
          {layer + "self_attn.o_proj.weight", {4, 4}},
          {layer + "post_attention_layernorm.weight", {4}},
          {layer + "mlp.gate_proj.weight", {2, 4}},
          {layer + "mlp.up_proj.weight", {2, 4}},
          {layer + "mlp.down_proj.weight", {4, 2}},
          {"model.norm.weight", {4}},
          {"lm_head.weight", {8, 4}}};
}

/// A .safetensors file of the tensors [from, to), in F32; their values count up.
inline std::string tiny_file(std::size_t from, std::size_t to) {
  const auto all = tiny_tensors();
  std::string header, data;
  for (std::size_t i = from; i < to; ++i) {
    const auto& [name, shape] = all[i];
    const int count = std::accumulate(shape.begin(), shape.end(), 1, [](int a, int b) { return a * b; });
    const std::size_t begin = data.size();
    for (int k = 0; k < count; ++k) {
      const float x = static_cast<float>(i) + 0.125f * static_cast<float>(k);
      data.append(reinterpret_cast<const char*>(&x), 4);
    }
    std::string dims;
    for (const int d : shape) dims += (dims.empty() ? "" : ",") + std::to_string(d);
    header += (header.empty() ? "{\"" : ",\"") + name + R"(":{"dtype":"F32","shape":[)" + dims +
              R"(],"data_offsets":[)" + std::to_string(begin) + "," + std::to_string(data.size()) + "]}";
  }
  header += "}";
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
}

}  // namespace fuzz
