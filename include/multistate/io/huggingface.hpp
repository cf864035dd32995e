#pragma once

#include <cstring>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include <multistate/io/checkpoint.hpp>
#include <multistate/io/config_json.hpp>
#include <multistate/io/loaded_model.hpp>
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
inline void compare_generation_config(const std::filesystem::path& folder, loaded_model& w) {
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
inline void compare_angles(checkpoint& source, loaded_model& w) {
  const auto made = rope::make(w.config.rope);
  for (const char* name : {"model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"}) {
    if (!made || !source.has(name)) continue;
    const auto right = made->inv_freq();
    const auto stored = source.floats(name, {right.size()});
    const bool same = stored && std::equal(stored->begin(), stored->end(), right.begin(),
                                           [](float a, double b) { return std::abs(a - b) <= 0.01 * b + 1e-7; });
    if (!same)
      w.notes.push_back(std::string(name) + " differs from the angles by config.json, which are taken, as in " +
                        "transformers");
  }
}

/// Takes a model's tensors by their names; the first fault is kept, and what comes after is not taken.
class huggingface_reader {
 public:
  huggingface_reader(checkpoint& source, const described_model& described, loaded_model& to)
      : source_(source), described_(described), kind_(*described.kind), to_(to) {}

  bool ok() const noexcept { return !fault_; }
  const error& fault() const noexcept { return fault_; }
  error& fault() noexcept { return fault_; }

  void matrix(matrix_view& to, const std::string& name, std::size_t out, std::size_t in) {
    if (!ok()) return;
    const auto found = source_.matrix(to_, name, out, in);
    if (found)
      to = *found;
    else
      fault_ = found.reason();
  }
  void norm(const float*& to, const std::string& name, std::size_t size) {
    auto values = floats(name, size);
    if (kind_.norm_plus_one)
      for (float& x : values) x += 1.0f;
    if (ok()) to = to_.keep(std::move(values));
  }
  void bias(bool there, const float*& to, const std::string& name, std::size_t size) {
    auto values = there ? floats(name, size) : std::vector<float>();
    if (there && ok()) to = to_.keep(std::move(values));
  }

  /// `at`: what the names of the layer's tensors begin with.
  void layer(layer_view& l, const std::string& at) {
    const model_config& c = to_.config;
    const std::size_t hidden = to_size(c.hidden);
    const bool behind = kind_.norms == norm_rule::behind, both = kind_.norms == norm_rule::both;
    if (!behind) norm(l.attention_norm, at + "input_layernorm.weight", hidden);
    attention(l, at + "self_attn.");
    norm(behind || both ? l.attention_post_norm : l.ffn_norm, at + "post_attention_layernorm.weight", hidden);
    if (both) norm(l.ffn_norm, at + "pre_feedforward_layernorm.weight", hidden);
    if (behind || both) norm(l.ffn_post_norm, at + "post_feedforward_layernorm.weight", hidden);
    feed_forward(l, at + (kind_.experts ? "shared_mlp." : "mlp."));
  }

 private:
  std::vector<float> floats(const std::string& name, std::size_t size) {
    if (!ok()) return {};
    auto found = source_.floats(name, {size});
    if (found) return std::move(*found);
    fault_ = found.reason();
    return {};
  }
  /// One matrix that holds several, one below the other.
  void joined(const std::string& name, std::size_t in, stacked_matrices parts) {
    matrix_view all;
    matrix(all, name, vectors_of(parts), in);
    if (ok()) divide(all, in, parts);
  }

  void attention(layer_view& l, const std::string& at) {
    const model_config& c = to_.config;
    const std::size_t hidden = to_size(c.hidden), d = to_size(c.head_dim), q = to_size(c.heads) * d,
                      kv = to_size(c.kv_heads) * d;
    if (kind_.fused) {
      joined(at + "qkv_proj.weight", hidden, {{&l.q, q}, {&l.k, kv}, {&l.v, kv}});
    } else {
      matrix(l.q, at + "q_proj.weight", q, hidden);
      matrix(l.k, at + "k_proj.weight", kv, hidden);
      matrix(l.v, at + "v_proj.weight", kv, hidden);
    }
    bias(described_.attention_bias, l.q_bias, at + "q_proj.bias", q);
    bias(described_.attention_bias, l.k_bias, at + "k_proj.bias", kv);
    bias(described_.attention_bias, l.v_bias, at + "v_proj.bias", kv);
    matrix(l.o, at + "o_proj.weight", hidden, q);
    bias(described_.output_bias, l.o_bias, at + "o_proj.bias", hidden);
    if (kind_.qk_norm == query_norm::none) return;
    const bool heads = kind_.qk_norm == query_norm::head;
    norm(l.q_norm, at + "q_norm.weight", heads ? d : q);
    norm(l.k_norm, at + "k_norm.weight", heads ? d : kv);
  }

  void feed_forward(layer_view& l, const std::string& at) {
    const std::size_t hidden = to_size(to_.config.hidden), ffn = to_size(to_.config.ffn);
    const std::string down = at + (kind_.experts ? "output_linear" : "down_proj");
    if (kind_.fused || kind_.experts) {
      joined(at + (kind_.experts ? "input_linear.weight" : "gate_up_proj.weight"), hidden,
             {{&l.gate, ffn}, {&l.up, ffn}});
    } else {
      matrix(l.gate, at + "gate_proj.weight", ffn, hidden);
      matrix(l.up, at + "up_proj.weight", ffn, hidden);
    }
    bias(described_.mlp_bias, l.gate_bias, at + "gate_proj.bias", ffn);
    bias(described_.mlp_bias, l.up_bias, at + "up_proj.bias", ffn);
    matrix(l.down, down + ".weight", hidden, ffn);
    bias(described_.mlp_bias, l.down_bias, down + ".bias", hidden);
  }

  checkpoint& source_;
  const described_model& described_;
  const family& kind_;
  loaded_model& to_;
  error fault_;
};

/// Whether two matrices [out][in] have the same bits as floats.
inline bool same_numbers(const matrix_view& a, const matrix_view& b, std::size_t out, std::size_t in) {
  std::vector<float> x(in), y(in);
  for (std::size_t o = 0; o < out; ++o) {
    load_row(a.format, x.data(), below(a, o, in).rows, in);
    load_row(b.format, y.data(), below(b, o, in).rows, in);
    if (std::memcmp(x.data(), y.data(), in * sizeof(float)) != 0) return false;
  }
  return true;
}

}  // namespace detail

/// A checkpoint of any family that is built, from its config and its weights: a .safetensors file, or a .json index of
/// shards beside it. Names may lack the `model.` that a base model is saved without. The head is the embedding where
/// the config ties them and the file has one of them, or both alike; another head is taken, as transformers does, and
/// noted. Errors: those of both files; a tensor that is missing, misshaped, or no part of such a model. `hash` is of
/// the weights.
inline result<loaded_model> load_huggingface(const std::filesystem::path& config,
                                             const std::filesystem::path& weights) {
  loaded_model w;
  const auto described = describe_config_json(config, &w.notes);
  if (!described) return described.reason();
  auto source = detail::checkpoint::open(weights);
  if (!source) return source.reason();
  w.config = described->config;
  w.family = described->kind->model_type;
  w.hash = source->hash();

  const std::size_t hidden = to_size(w.config.hidden), vocab = to_size(w.config.vocab);
  const std::string model = !source->has("model.norm.weight") && source->has("norm.weight") ? "" : "model.";
  const std::string embedding = model + "embed_tokens.weight", head = "lm_head.weight";
  const bool head_only = w.config.tied && !source->has(embedding) && source->has(head);
  detail::huggingface_reader read(*source, *described, w);
  read.matrix(w.embedding, head_only ? head : embedding, vocab, hidden);
  // Layer by layer as they are found, for the config may ask for more than memory holds.
  for (int i = 0; read.ok() && i < w.config.layers; ++i)
    read.layer(w.layers.emplace_back(), model + "layers." + std::to_string(i) + ".");
  read.norm(w.final_norm, model + "norm.weight", hidden);
  w.head = w.embedding;
  const bool head_missing = read.ok() && !w.config.tied && !source->has(head), own_head = source->has(head);
  if (own_head || head_missing) read.matrix(w.head, head, vocab, hidden);
  if (head_missing) read.fault().append(", whose tie_word_embeddings is not true");
  if (!read.ok()) return read.fault();
  if (w.config.tied && own_head) {
    if (detail::same_numbers(w.head, w.embedding, vocab, hidden)) {
      w.head = w.embedding;
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
      "a " + std::string(described->kind->model_type) + " model of " + std::to_string(w.config.layers) + " layers";
  if (const error e = source->left_over(called)) return e;
  w.notes.insert(w.notes.end(), source->notes.begin(), source->notes.end());
  w.files = std::move(*source).files();
  return w;
}

/// From a folder with config.json and model.safetensors or model.safetensors.index.json, or from a .safetensors file or
/// such an index that has config.json beside it.
inline result<loaded_model> load_huggingface(const std::filesystem::path& path) {
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
