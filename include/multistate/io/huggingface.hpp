#pragma once

#include <cmath>

#include <multistate/io/json.hpp>
#include <multistate/io/safetensors.hpp>
#include <multistate/model/tokenizer.hpp>
#include <multistate/model/weights.hpp>

namespace multistate {

namespace detail {

/// Reads members of a config; the first fault is kept and the rest goes on with harmless values.
class config_reader {
 public:
  explicit config_reader(std::filesystem::path path) : path_(std::move(path)) {}

  const error& fault() const noexcept { return fault_; }
  bool ok() const noexcept { return fault_.code() == errc::ok; }
  template <class... Part>
  void fail(errc code, const Part&... parts) {
    if (ok()) fault_ = error(code, path_.string(), ": ", parts...);
  }

  /// The member, or nullptr where it is missing or null.
  static const nlohmann::json* get(const nlohmann::json& in, const char* key) {
    const auto at = in.find(key);
    return at == in.end() || at->is_null() ? nullptr : &*at;
  }
  /// A whole number in [1, 2^31); `otherwise` (0: required) where it is missing or null.
  int size(const nlohmann::json& in, const char* key, int otherwise = 0) {
    const auto* v = get(in, key);
    if (v == nullptr) {
      if (otherwise == 0) fail(errc::bad_file, key, " is missing, must be a whole number above 0");
      return std::max(otherwise, 1);
    }
    if (v->is_number_unsigned()) {
      const auto n = v->get<std::uint64_t>();
      if (n >= 1 && n <= 0x7fffffff) return static_cast<int>(n);
    }
    fail(errc::bad_file, key, " is ", shown(*v), ", must be a whole number above 0");
    return 1;
  }
  /// A finite number above 0; `otherwise` (0: required) where it is missing or null.
  double positive(const nlohmann::json& in, const char* key, double otherwise = 0) {
    const auto* v = get(in, key);
    if (v == nullptr && otherwise > 0) return otherwise;
    if (v != nullptr && v->is_number()) {
      const double x = v->get<double>();
      if (x > 0 && std::isfinite(x)) return x;
    }
    fail(errc::bad_file, key, " is ", v == nullptr ? "missing" : shown(*v), ", must be a number above 0");
    return 1;
  }
  bool flag(const nlohmann::json& in, const char* key) {
    const auto* v = get(in, key);
    if (v != nullptr && !v->is_boolean()) fail(errc::bad_file, key, " is ", shown(*v), ", must be true or false");
    return v != nullptr && v->is_boolean() && v->get<bool>();
  }
  std::string text(const nlohmann::json& in, const char* key, std::string_view otherwise) {
    const auto* v = get(in, key);
    if (v != nullptr && !v->is_string()) fail(errc::bad_file, key, " is ", shown(*v), ", must be a string");
    return v != nullptr && v->is_string() ? v->get<std::string>() : std::string(otherwise);
  }

 private:
  std::filesystem::path path_;
  error fault_;
};

/// Base and scaling, from rope_theta beside rope_scaling, or from version 5's one object rope_parameters.
inline void read_rope(config_reader& read, const nlohmann::json& json, rope_config& rope) {
  rope.theta = read.positive(json, "rope_theta", 10000.0);
  const auto* parameters = config_reader::get(json, "rope_parameters");
  const char* key = parameters != nullptr ? "rope_parameters" : "rope_scaling";
  const auto* in = parameters != nullptr ? parameters : config_reader::get(json, key);
  if (in == nullptr) return;
  if (!in->is_object()) return read.fail(errc::bad_file, key, " is ", shown(*in), ", must be an object");
  rope.theta = read.positive(*in, "rope_theta", rope.theta);
  if (read.positive(*in, "partial_rotary_factor", 1.0) != 1.0)
    read.fail(errc::not_supported, "partial_rotary_factor is not built, must be 1");
  // An object without a type is no scaling; one that has a factor yet no type is not understood.
  const bool has_factor = config_reader::get(*in, "factor") != nullptr;
  const std::string type = read.text(*in, "rope_type", read.text(*in, "type", has_factor ? "" : "default"));
  if (type == "default") return;
  if (type != "linear" && type != "llama3")
    return read.fail(errc::not_supported, key, " is of type '", shown(type), "', must be default, linear or llama3");
  rope.factor = read.positive(*in, "factor");
  rope.scaling = type == "linear" ? rope_scaling::linear : rope_scaling::llama3;
  if (rope.scaling == rope_scaling::linear) return;
  rope.low_freq_factor = read.positive(*in, "low_freq_factor");
  rope.high_freq_factor = read.positive(*in, "high_freq_factor");
  rope.original_context = read.positive(*in, "original_max_position_embeddings");
  if (rope.high_freq_factor <= rope.low_freq_factor)
    read.fail(errc::bad_file, key, " must have high_freq_factor above low_freq_factor");
}

}  // namespace detail

/// The config.json of a Llama-like model, every layout that transformers has written. Errors: no such config, and
/// whatever the decoder would compute otherwise than the model means it (biases, other activations, other scaling).
inline result<model_config> read_llama_config(const std::filesystem::path& path) {
  const auto parsed = detail::read_json(path);
  if (!parsed) return parsed.reason();
  const nlohmann::json& json = *parsed;
  detail::config_reader read(path);

  std::string kind = read.text(json, "model_type", "");
  if (const auto* names = read.get(json, "architectures"); kind.empty() && names != nullptr)
    kind = *names == nlohmann::json::array({"LlamaForCausalLM"})     ? "llama"
           : *names == nlohmann::json::array({"MistralForCausalLM"}) ? "mistral"
                                                                     : detail::shown(*names);
  if (kind != "llama" && kind != "mistral")
    read.fail(errc::not_supported, "model_type is '", detail::shown(kind), "', must be llama or mistral");
  for (const char* bias : {"attention_bias", "mlp_bias"})
    if (read.flag(json, bias)) read.fail(errc::not_supported, bias, " is not built, must be false");
  if (const auto act = read.text(json, "hidden_act", "silu"); act != "silu")
    read.fail(errc::not_supported, "hidden_act is '", detail::shown(act), "', must be silu");
  if (read.get(json, "quantization_config") != nullptr)
    read.fail(errc::not_supported, "quantization_config is not built, weights must be F32, F16 or BF16");
  if (read.positive(json, "partial_rotary_factor", 1.0) != 1.0)
    read.fail(errc::not_supported, "partial_rotary_factor is not built, must be 1");
  // A Mistral config without the member means a window of 4096.
  if (read.get(json, "sliding_window") != nullptr || (kind == "mistral" && !json.contains("sliding_window")))
    read.fail(errc::not_supported, "sliding_window is not built, must be null");

  model_config c;
  c.hidden = read.size(json, "hidden_size");
  c.layers = read.size(json, "num_hidden_layers");
  c.heads = read.size(json, "num_attention_heads");
  c.kv_heads = read.size(json, "num_key_value_heads", kind == "mistral" ? 8 : c.heads);
  c.ffn = read.size(json, "intermediate_size");
  c.vocab = read.size(json, "vocab_size");
  if (read.get(json, "max_position_embeddings") != nullptr) c.context = read.size(json, "max_position_embeddings");
  c.norm_eps = static_cast<float>(read.positive(json, "rms_norm_eps", 1e-6));
  c.tied = read.flag(json, "tie_word_embeddings");
  if (c.heads % c.kv_heads != 0)
    read.fail(errc::bad_file, "num_key_value_heads ", c.kv_heads, " must divide num_attention_heads ", c.heads);
  if (read.get(json, "head_dim") == nullptr && c.hidden % c.heads != 0)
    read.fail(errc::bad_file, "hidden_size ", c.hidden, " must be a multiple of num_attention_heads ", c.heads);
  c.head_dim = read.size(json, "head_dim", std::max(c.hidden / c.heads, 1));
  if (c.head_dim % 2 != 0) read.fail(errc::bad_file, "head_dim is ", c.head_dim, ", must be even to be rotated");

  int bos = 1;  // what transformers takes where the config has none
  if (const auto at = json.find("bos_token_id"); at != json.end() && !is_byte_vocabulary(c.vocab)) {
    const nlohmann::json& v = at->is_array() && !at->empty() ? at->front() : *at;
    const bool whole = v.is_number_unsigned() && v.get<std::uint64_t>() < static_cast<std::uint64_t>(c.vocab);
    if (!whole && !v.is_null() && v != -1)
      read.fail(errc::bad_file, "bos_token_id is ", detail::shown(*at), ", must be null or in [0, ", c.vocab, ")");
    bos = whole ? v.get<int>() : -1;
  }
  c.bos = bos_of(c.vocab, bos < c.vocab ? bos : -1);

  c.rope.dim = c.head_dim;
  detail::read_rope(read, json, c.rope);
  if (!read.ok()) return read.fault();
  return c;
}

namespace detail {

/// The tensors of a checkpoint, from one file or from the shards that an index names.
class checkpoint {
 public:
  static result<checkpoint> open(const std::filesystem::path& path) {
    checkpoint c;
    c.path_ = path;
    if (path.extension() != ".json") {
      auto file = safetensors::open(path);
      if (!file) return file.reason();
      for (const auto& entry : file->tensors()) c.file_of_.emplace(entry.first, 0);
      c.hash_ = hash_bytes(file->file());
      c.files_.push_back(std::move(*file));
      return c;
    }
    const auto index = read_json(path);
    if (!index) return index.reason();
    const auto* map = config_reader::get(*index, "weight_map");
    if (map == nullptr || !map->is_object()) return file_error(path, "must have an object weight_map");
    std::map<std::string, std::size_t> shards;  // by name, so that the hash does not hang on the index's order
    for (const auto& [tensor, shard] : map->items()) {
      // A plain name: an index must not reach outside its folder.
      const std::string name = shard.is_string() ? shard.get<std::string>() : std::string();
      if (std::filesystem::path(name).filename() != name || !name.ends_with(".safetensors"))
        return file_error(path, "puts ", shown(tensor), " in ", shown(shard),
                          ", must be a .safetensors file beside it");
      shards.emplace(name, 0);
    }
    for (auto& [name, number] : shards) {
      auto file = safetensors::open(path.parent_path() / name);
      if (!file) return file.reason();
      number = c.files_.size();
      c.hash_ = mix(c.hash_ ^ hash_bytes(file->file()));
      c.files_.push_back(std::move(*file));
    }
    for (const auto& [tensor, shard] : map->items()) c.file_of_.emplace(tensor, shards[shard.get<std::string>()]);
    return c;
  }

  /// Each tensor can be taken once. Errors: missing, or another shape.
  result<std::vector<float>> take(const std::string& name, const std::vector<std::size_t>& shape) {
    const auto at = file_of_.find(name);
    if (at == file_of_.end())
      return file_error(path_, "tensor ", name, " is missing, must be F32, F16 or BF16 ", shown(shape));
    const std::size_t file = at->second;
    file_of_.erase(at);
    return files_[file].floats(name, &shape);
  }
  void ignore(const std::string& name) { file_of_.erase(name); }

  /// A tensor that nobody took and that is no table of angles: the model computes something that the decoder does not.
  const std::string* left_over() const {
    for (const auto& [name, file] : file_of_)
      if (name.find("rotary_emb.") == std::string::npos) return &name;
    return nullptr;
  }
  std::uint64_t hash() const noexcept { return hash_; }

 private:
  std::filesystem::path path_;
  std::vector<safetensors> files_;
  std::map<std::string, std::size_t> file_of_;
  std::uint64_t hash_ = 0;
};

}  // namespace detail

/// A Llama checkpoint from its config and its weights: a .safetensors file, or a .json index of shards beside it.
/// Errors: those of both; a tensor that is missing, misshaped, or no part of such a model. `hash` is of the weights.
inline result<model_weights> load_huggingface(const std::filesystem::path& config,
                                              const std::filesystem::path& weights) {
  const auto read = read_llama_config(config);
  if (!read) return read.reason();
  auto source = detail::checkpoint::open(weights);
  if (!source) return source.reason();
  model_weights w;
  w.config = *read;
  w.hash = source->hash();

  const auto size = [](int n) { return static_cast<std::size_t>(n); };
  const std::size_t hidden = size(w.config.hidden), ffn = size(w.config.ffn), vocab = size(w.config.vocab);
  const std::size_t q = size(w.config.heads) * size(w.config.head_dim);
  const std::size_t kv = size(w.config.kv_heads) * size(w.config.head_dim);
  error fault;
  const auto take = [&](std::vector<float>& to, const std::string& name, const std::vector<std::size_t>& shape) {
    auto values = source->take(name, shape);
    if (values)
      to = std::move(*values);
    else
      fault = values.reason();
    return static_cast<bool>(values);
  };
  bool ok = take(w.embedding, "model.embed_tokens.weight", {vocab, hidden});
  // Layer by layer as they are found, for the config may ask for more than memory holds.
  for (int i = 0; ok && i < w.config.layers; ++i) {
    layer_weights& l = w.layers.emplace_back();
    const std::string at = "model.layers." + std::to_string(i) + ".";
    ok = take(l.attention_norm, at + "input_layernorm.weight", {hidden}) &&
         take(l.q, at + "self_attn.q_proj.weight", {q, hidden}) &&
         take(l.k, at + "self_attn.k_proj.weight", {kv, hidden}) &&
         take(l.v, at + "self_attn.v_proj.weight", {kv, hidden}) &&
         take(l.o, at + "self_attn.o_proj.weight", {hidden, q}) &&
         take(l.ffn_norm, at + "post_attention_layernorm.weight", {hidden}) &&
         take(l.gate, at + "mlp.gate_proj.weight", {ffn, hidden}) &&
         take(l.up, at + "mlp.up_proj.weight", {ffn, hidden}) &&
         take(l.down, at + "mlp.down_proj.weight", {hidden, ffn});
  }
  ok = ok && take(w.final_norm, "model.norm.weight", {hidden});
  if (w.config.tied)
    source->ignore("lm_head.weight");
  else
    ok = ok && take(w.head, "lm_head.weight", {vocab, hidden});
  if (!ok) return fault;
  if (const std::string* name = source->left_over())
    return error(errc::not_supported, weights.string(), ": tensor ", detail::shown(*name),
                 " is no part of a Llama model of ", w.config.layers, " layers");
  return w;
}

/// From a folder with config.json and model.safetensors or model.safetensors.index.json, or from a .safetensors file
/// that has config.json beside it.
inline result<model_weights> load_huggingface(const std::filesystem::path& path) {
  std::error_code code;
  if (!std::filesystem::is_directory(path, code)) return load_huggingface(path.parent_path() / "config.json", path);
  const auto index = path / "model.safetensors.index.json";
  const bool one = std::filesystem::exists(path / "model.safetensors", code) || !std::filesystem::exists(index, code);
  return load_huggingface(path / "config.json", one ? path / "model.safetensors" : index);
}

}  // namespace multistate
