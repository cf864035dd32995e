#pragma once

#include <multistate/io/checkpoint.hpp>
#include <multistate/io/config_json.hpp>
#include <multistate/model/weights.hpp>
#include <multistate/rope/rope.hpp>

namespace multistate {

namespace detail {

/// What a folder holds instead of a model's files, and what to do about it; "" where nothing is known.
inline std::string found_instead(const std::filesystem::path& folder, bool config_missing) {
  std::error_code code;
  std::vector<std::string> names;
  for (std::filesystem::directory_iterator at(folder, code), end; !code && at != end; at.increment(code))
    names.push_back(at->path().filename().string());
  std::sort(names.begin(), names.end());
  const auto first = [&](auto fits) {
    const auto at = std::find_if(names.begin(), names.end(), fits);
    return at == names.end() ? std::string() : shown(std::string_view(*at));
  };
  const std::string torch = first([](const std::string& n) {
    return (n.starts_with("pytorch_model") && n.find(".bin") != n.npos) || n.ends_with(".pth") || n.ends_with(".pt");
  });
  if (!torch.empty())
    return "; " + torch + " is PyTorch's own, convert it: load it with transformers, then save_pretrained()";
  if (const auto gguf = first([](const std::string& n) { return n.ends_with(".gguf"); }); !gguf.empty())
    return "; " + gguf + " is a GGUF file, name it";
  const auto other = first([](const std::string& n) { return n.ends_with(".safetensors"); });
  if (!other.empty() && !config_missing)
    return "; " + other + " is there, name it, or add model.safetensors.index.json where it is one of several";
  if (const auto bin = first([](const std::string& n) { return n.ends_with(".bin") && !n.starts_with("tok"); });
      !bin.empty())
    return "; if " + bin + " is a llama2.c checkpoint, name it";
  return "";
}

/// Notes what generation_config.json says otherwise than config.json does. It is not read for anything else, so its own
/// faults are none here.
inline void compare_generation_config(const std::filesystem::path& folder, model_weights& w) {
  std::error_code code;
  if (is_byte_vocabulary(w.config.vocab) || !std::filesystem::exists(folder / "generation_config.json", code)) return;
  auto json = read_json(folder / "generation_config.json");
  if (!json) return;
  const emptied_at_end emptied(*json);
  const auto* bos = config_reader::get(*json, "bos_token_id");
  if (bos != nullptr && bos->is_number() && *bos != w.config.bos)
    w.notes.push_back("generation_config.json: bos_token_id " + shown(*bos) + " differs from config.json's " +
                      std::to_string(w.config.bos) + ", which is taken");
}

/// Notes a stored table of angles that is not the one which the config describes.
inline void compare_angles(checkpoint& source, model_weights& w) {
  const auto made = rope::make(w.config.rope);
  for (const char* name : {"model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"}) {
    if (!made || !source.has(name)) continue;
    const auto right = made->inv_freq();
    const auto stored = source.take(name, {right.size()});
    const bool same = stored && std::equal(stored->begin(), stored->end(), right.begin(),
                                           [](float a, double b) { return std::abs(a - b) <= 0.01 * b + 1e-7; });
    if (!same)
      w.notes.push_back(std::string(name) + " differs from the angles by config.json, which are taken, as in " +
                        "transformers");
  }
}

}  // namespace detail

/// A checkpoint of any family that is built, from its config and its weights: a .safetensors file, or a .json index of
/// shards beside it. Names may lack the `model.` that a base model is saved without. The head is the embedding where
/// the config ties them and the file has one of them, or both alike; another head is taken, as transformers does, and
/// noted. Errors: those of both files; a tensor that is missing, misshaped, or no part of such a model. `hash` is of
/// the weights.
inline result<model_weights> load_huggingface(const std::filesystem::path& config,
                                              const std::filesystem::path& weights) {
  model_weights w;
  const auto read = describe_config_json(config, &w.notes);
  if (!read) return read.reason();
  auto source = detail::checkpoint::open(weights);
  if (!source) return source.reason();
  w.config = read->config;
  w.hash = source->hash();

  const detail::family& kind = *read->kind;
  const std::size_t hidden = to_size(w.config.hidden), ffn = to_size(w.config.ffn), vocab = to_size(w.config.vocab);
  const std::size_t d = to_size(w.config.head_dim), q = to_size(w.config.heads) * d,
                    kv = to_size(w.config.kv_heads) * d;
  error fault;
  const auto take = [&](std::vector<float>& to, const std::string& name, const std::vector<std::size_t>& shape) {
    auto values = source->take(name, shape);
    if (values)
      to = std::move(*values);
    else
      fault = values.reason();
    return static_cast<bool>(values);
  };
  const auto take_norm = [&](std::vector<float>& to, const std::string& name, std::size_t size) {
    if (!take(to, name, {size})) return false;
    if (kind.norm_plus_one)
      for (float& x : to) x += 1.0f;
    return true;
  };
  const auto take_bias = [&](bool there, std::vector<float>& to, const std::string& name, std::size_t size) {
    return !there || take(to, name, {size});
  };
  /// One matrix that holds several, one below the other.
  const auto take_joined = [&](const std::string& name, std::size_t in,
                               std::initializer_list<std::pair<std::vector<float>*, std::size_t>> parts) {
    std::size_t out = 0, at = 0;
    for (const auto& part : parts) out += part.second;
    std::vector<float> all;
    if (!take(all, name, {out, in})) return false;
    for (const auto& [to, rows] : parts) {
      const auto from = all.begin() + static_cast<std::ptrdiff_t>(at * in);
      to->assign(from, from + static_cast<std::ptrdiff_t>(rows * in));
      at += rows;
    }
    return true;
  };
  const std::string model = !source->has("model.norm.weight") && source->has("norm.weight") ? "" : "model.";
  const std::string embedding = model + "embed_tokens.weight", head = "lm_head.weight";
  const bool head_only = w.config.tied && !source->has(embedding) && source->has(head);
  bool ok = take(w.embedding, head_only ? head : embedding, {vocab, hidden});
  // Layer by layer as they are found, for the config may ask for more than memory holds.
  for (int i = 0; ok && i < w.config.layers; ++i) {
    layer_weights& l = w.layers.emplace_back();
    const std::string at = model + "layers." + std::to_string(i) + ".", attention = at + "self_attn.";
    const std::string mlp = at + (kind.experts ? "shared_mlp." : "mlp.");
    const std::string down = mlp + (kind.experts ? "output_linear" : "down_proj");
    const bool behind = kind.norms == detail::norm_rule::behind, both = kind.norms == detail::norm_rule::both;
    ok = (behind || take_norm(l.attention_norm, at + "input_layernorm.weight", hidden)) &&
         (kind.fused ? take_joined(attention + "qkv_proj.weight", hidden, {{&l.q, q}, {&l.k, kv}, {&l.v, kv}})
                     : take(l.q, attention + "q_proj.weight", {q, hidden}) &&
                           take(l.k, attention + "k_proj.weight", {kv, hidden}) &&
                           take(l.v, attention + "v_proj.weight", {kv, hidden})) &&
         take_bias(read->attention_bias, l.q_bias, attention + "q_proj.bias", q) &&
         take_bias(read->attention_bias, l.k_bias, attention + "k_proj.bias", kv) &&
         take_bias(read->attention_bias, l.v_bias, attention + "v_proj.bias", kv) &&
         take(l.o, attention + "o_proj.weight", {hidden, q}) &&
         take_bias(read->output_bias, l.o_bias, attention + "o_proj.bias", hidden) &&
         take_norm(behind || both ? l.attention_post_norm : l.ffn_norm, at + "post_attention_layernorm.weight",
                   hidden) &&
         (!both || take_norm(l.ffn_norm, at + "pre_feedforward_layernorm.weight", hidden)) &&
         (!(behind || both) || take_norm(l.ffn_post_norm, at + "post_feedforward_layernorm.weight", hidden));
    if (ok && kind.qk_norm != query_norm::none) {
      const bool heads = kind.qk_norm == query_norm::head;
      ok = take_norm(l.q_norm, attention + "q_norm.weight", heads ? d : q) &&
           take_norm(l.k_norm, attention + "k_norm.weight", heads ? d : kv);
    }
    ok = ok &&
         (kind.fused || kind.experts ? take_joined(mlp + (kind.experts ? "input_linear.weight" : "gate_up_proj.weight"),
                                                   hidden, {{&l.gate, ffn}, {&l.up, ffn}})
                                     : take(l.gate, mlp + "gate_proj.weight", {ffn, hidden}) &&
                                           take(l.up, mlp + "up_proj.weight", {ffn, hidden})) &&
         take_bias(read->mlp_bias, l.gate_bias, mlp + "gate_proj.bias", ffn) &&
         take_bias(read->mlp_bias, l.up_bias, mlp + "up_proj.bias", ffn) &&
         take(l.down, down + ".weight", {hidden, ffn}) &&
         take_bias(read->mlp_bias, l.down_bias, down + ".bias", hidden);
  }
  ok = ok && take_norm(w.final_norm, model + "norm.weight", hidden);
  const bool head_missing = !w.config.tied && !source->has(head);
  if (ok && (source->has(head) || head_missing)) {
    ok = take(w.head, head, {vocab, hidden});
    if (head_missing) fault.append(", whose tie_word_embeddings is not true");
  }
  if (!ok) return fault;
  if (w.config.tied && !w.head.empty()) {
    if (std::equal(w.head.begin(), w.head.end(), w.embedding.begin(), w.embedding.end(), [](float a, float b) {
          return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
        })) {
      w.head = {};
    } else {
      w.config.tied = false;
      w.notes.push_back(
          weights.filename().string() + ": " + head +
          " differs from the embedding though tie_word_embeddings is true; it is taken, as transformers " +
          "does since version 5");
    }
  }
  detail::compare_angles(*source, w);
  const std::string called =
      "a " + std::string(kind.model_type) + " model of " + std::to_string(w.config.layers) + " layers";
  if (const error e = source->left_over(called)) return e;
  w.notes.insert(w.notes.end(), source->notes.begin(), source->notes.end());
  return w;
}

/// From a folder with config.json and model.safetensors or model.safetensors.index.json, or from a .safetensors file or
/// such an index that has config.json beside it.
inline result<model_weights> load_huggingface(const std::filesystem::path& path) {
  std::error_code code;
  const bool folder = std::filesystem::is_directory(path, code);
  const auto config = (folder ? path : path.parent_path()) / "config.json";
  if (!std::filesystem::exists(config, code))
    return detail::file_error(config, "there is no such file, which says what the weights mean",
                              folder ? detail::found_instead(path, true) : "; it must lie beside them");
  if (!folder) {
    const std::string name = path.filename().string();
    if (std::filesystem::exists(path.parent_path() / "model.safetensors.index.json", code) &&
        name.find("-of-") != name.npos && name.find("-of-00001.") == name.npos)
      return detail::file_error(path, "is one of several files; name its folder, or model.safetensors.index.json");
    return load_huggingface(config, path);
  }
  const auto one = path / "model.safetensors", index = path / "model.safetensors.index.json";
  const bool has_one = std::filesystem::exists(one, code), has_index = std::filesystem::exists(index, code);
  if (!has_one && !has_index) {
    if (const auto c = read_config_json(config); !c) return c.reason();
    return detail::file_error(one, "there is no such file, nor model.safetensors.index.json",
                              detail::found_instead(path, false));
  }
  auto w = load_huggingface(config, has_one ? one : index);
  if (w) detail::compare_generation_config(path, *w);
  if (w && has_one && has_index)
    w->notes.emplace_back("model.safetensors is read, model.safetensors.index.json beside it is not");
  return w;
}

}  // namespace multistate
