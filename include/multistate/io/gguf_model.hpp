#pragma once

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <multistate/io/family.hpp>
#include <multistate/io/gguf.hpp>
#include <multistate/io/loaded_model.hpp>
#include <multistate/io/printable.hpp>
#include <multistate/tokenizer/gguf_splits.hpp>
#include <multistate/tokenizer/tokenizer.hpp>

namespace multistate {

namespace detail {

/// Takes the metadata of one architecture and the tensors of a model; the first fault is kept, and the rest goes on
/// with harmless values. What nobody took is found at the end.
class gguf_model_reader {
 public:
  gguf_model_reader(const gguf& file, std::string architecture) : file_(file), prefix_(std::move(architecture) + ".") {}

  const error& fault() const noexcept { return fault_; }
  bool ok() const noexcept { return !fault_; }
  template <class... Part>
  void fail(errc code, const Part&... parts) {
    if (ok()) fault_ = error(code, file_.path().string(), ": ", parts...);
  }
  void note(std::string text) { notes_.push_back(file_.path().filename().string() + ": " + std::move(text)); }
  const std::vector<std::string>& notes() const noexcept { return notes_; }
  bool has_key(const std::string& key) const { return file_.find(prefix_ + key) != nullptr; }

  /// A number; `otherwise` where it is missing (below 0: it must be there).
  double number(const std::string& key, double otherwise = -1.0) {
    seen_keys_.insert(prefix_ + key);
    const auto x = file_.number(prefix_ + key);
    if (!x) {
      if (ok()) fault_ = x.reason();
      return 1.0;
    }
    if (!*x && otherwise < 0.0) fail(errc::bad_file, prefix_ + key, " is missing, must be a number");
    if (*x && !std::isfinite(**x)) fail(errc::bad_file, prefix_ + key, " must be finite");
    return ok() ? (*x).value_or(otherwise) : 1.0;
  }
  double positive(const std::string& key, double otherwise = -1.0) {
    const double x = number(key, otherwise);
    if (!(x > 0.0)) fail(errc::bad_file, prefix_ + key, " must be above 0");
    return x > 0.0 ? x : 1.0;
  }
  /// A whole number in [1, 2^28]; a list, which has one for each layer, must say the same for all. `otherwise` where it
  /// is missing (0: it must be there).
  int size(const std::string& key, int otherwise = 0) {
    seen_keys_.insert(prefix_ + key);
    const auto all = file_.numbers(prefix_ + key);
    if (!all) {
      if (ok()) fault_ = all.reason();
      return 1;
    }
    if (!*all) {
      if (otherwise == 0) fail(errc::bad_file, prefix_ + key, " is missing, must be a whole number above 0");
      return std::max(otherwise, 1);
    }
    const double first = (*all)->empty() ? 0.0 : (*all)->front();
    for (const double x : **all)
      if (x < first || x > first)
        fail(errc::not_supported, prefix_ + key, " differs from layer to layer, which is not built");
    if (!(first >= 1.0 && first <= 268435456.0 && first <= std::floor(first))) {
      fail(errc::bad_file, prefix_ + key, " must be a whole number above 0");
      return 1;
    }
    return static_cast<int>(first);
  }
  std::string text(const std::string& key, std::string_view otherwise) {
    seen_keys_.insert(prefix_ + key);
    const auto x = file_.text(prefix_ + key);
    if (!x && ok()) fault_ = x.reason();
    return std::string(x && *x ? **x : otherwise);
  }
  bool flag(const std::string& key, bool otherwise) {
    seen_keys_.insert(prefix_ + key);
    const auto x = file_.flag(prefix_ + key);
    if (!x && ok()) fault_ = x.reason();
    return x && *x ? **x : otherwise;
  }

  bool has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }
  /// All numbers of a tensor of this shape. False, and a fault, where it is missing or another.
  bool take(std::vector<float>& to, const std::string& name, std::vector<std::size_t> shape) {
    const gguf_tensor* t = take(name, std::move(shape));
    if (t != nullptr) to = gguf::floats(*t);
    return t != nullptr;
  }
  /// The same for a norm or bias, which the model keeps.
  bool take(loaded_model& model, const float*& to, const std::string& name, std::size_t size) {
    std::vector<float> floats;
    const bool there = take(floats, name, {size});
    if (there) to = model.keep(std::move(floats));
    return there;
  }
  bool take_if_there(loaded_model& model, const float*& to, const std::string& name, std::size_t size) {
    return !has(name) || take(model, to, name, size);
  }
  /// A matrix [out][in], where it lies.
  bool take(loaded_model& model, matrix_view& to, const std::string& name, std::size_t out, std::size_t in) {
    const gguf_tensor* t = take(name, {out, in});
    if (t != nullptr) to = model.keep(t->bytes, t->block->format);
    return t != nullptr;
  }
  /// A matrix that holds several, one below the other.
  bool take(loaded_model& model, const std::string& name, std::size_t in, stacked_matrices parts) {
    matrix_view all;
    if (!take(model, all, name, vectors_of(parts), in)) return false;
    divide(all, in, parts);
    return true;
  }

  /// Keys of the architecture and tensors that nobody took: the model computes something that the decoder does not.
  /// Keys that say nothing (0, false, "") are none.
  void left_over(std::string_view kind) {
    for (const auto& [key, value] : file_.keys()) {
      if (!key.starts_with(prefix_) || seen_keys_.contains(key)) continue;
      const bool nothing =
          std::all_of(value.bytes.begin(), value.bytes.end(), [](std::byte b) { return b == std::byte{0}; });
      if (!nothing) return fail(errc::not_supported, "key ", shown(std::string_view(key)), " is not known in ", kind);
    }
    for (const auto& [name, tensor] : file_.tensors())
      if (!seen_tensors_.contains(name))
        return fail(errc::not_supported, "tensor ", shown(std::string_view(name)), " is no part of ", kind);
  }
  void knows(const std::string& key) { seen_keys_.insert(prefix_ + key); }

 private:
  static std::string shown(std::span<const std::size_t> shape) {
    std::string text = "[";
    for (const std::size_t d : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(d);
    return text + "]";
  }
  static std::string shown(std::string_view name) { return detail::shown(name); }

  /// Null, and a fault, where it is missing or of another shape.
  const gguf_tensor* take(const std::string& name, std::vector<std::size_t> shape) {
    const gguf_tensor* t = file_.find_tensor(name);
    if (t == nullptr) {
      fail(errc::bad_file, "tensor ", name, " is missing, must be ", shown(shape));
      return nullptr;
    }
    while (shape.size() < t->shape.size() && t->shape.front() == 1) shape.insert(shape.begin(), 1);
    if (t->shape != shape) {
      fail(errc::bad_file, "tensor ", name, " is ", shown(t->shape), ", must be ", shown(shape));
      return nullptr;
    }
    seen_tensors_.insert(name);
    return t;
  }

  const gguf& file_;
  std::string prefix_;
  error fault_;
  std::vector<std::string> notes_;
  std::set<std::string, std::less<>> seen_keys_, seen_tensors_;
};

/// Base and scaling by the metadata; the divisors are tensors.
inline void read_gguf_rope(gguf_model_reader& read, const family& kind, model_config& c) {
  rope_config& rope = c.rope;
  rope.pairing = kind.gguf_pairing;
  rope.dim = read.size("rope.dimension_count", c.head_dim);
  if (rope.dim % 2 != 0 || rope.dim > c.head_dim)
    read.fail(errc::bad_file, "rope.dimension_count is ", rope.dim, ", must be even and at most ", c.head_dim);
  rope.theta = read.positive("rope.freq_base", 10000.0);
  const std::string type = read.text("rope.scaling.type", "");
  const double factor = read.number("rope.scaling.factor", read.number("rope.scale_linear", 0.0));
  const double original = read.number("rope.scaling.original_context_length", 0.0);
  const double attention = read.positive("rope.scaling.attn_factor", 1.0);
  const double yarn_attention_factor = read.positive("rope.scaling.yarn_attn_factor", 1.0);
  rope.beta_fast = read.positive("rope.scaling.yarn_beta_fast", 32.0);
  rope.beta_slow = read.positive("rope.scaling.yarn_beta_slow", 1.0);
  if (read.has_key("rope.scaling.yarn_ext_factor")) {
    const double ext = read.number("rope.scaling.yarn_ext_factor", 1.0);
    if (type == "yarn" && (ext < 1.0 || ext > 1.0))
      read.fail(errc::not_supported, "rope.scaling.yarn_ext_factor must be 1");
  }
  if (!read.flag("rope.scaling.finetuned", true) && kind.multipliers)
    read.fail(errc::not_supported, "rope.scaling.finetuned is false, which means no rope in granite");
  if ((type == "linear" || type.empty()) && factor > 0.0) {
    rope.scaling = rope_scaling::linear;
    rope.factor = factor;
  } else if (type == "yarn") {
    if (!(factor > 0.0)) read.fail(errc::bad_file, "rope.scaling.factor must be above 0 for yarn");
    rope.scaling = rope_scaling::yarn;
    rope.factor = factor > 0.0 ? factor : 1.0;
    rope.original_context = original > 0.0 ? original : c.context;
    rope.attention_factor = attention * yarn_attention_factor * (factor > 1.0 ? 0.1 * std::log(factor) + 1.0 : 1.0);
  } else if (type != "" && type != "none" && type != "linear" && type != "longrope") {
    read.fail(errc::not_supported, "rope.scaling.type is '", shown(std::string_view(type)),
              "', must be none, linear, yarn or longrope");
  }
  const auto pairs = to_size(rope.dim / 2);
  const auto divide = [&](const char* shorter, const char* longer) {
    if (rope.scaling != rope_scaling::none)
      read.fail(errc::not_supported, "tensor ", shorter, " beside a scaling of another type is not built");
    rope.scaling = rope_scaling::divided;
    read.take(rope.short_divisors, shorter, {pairs});
    if (longer != nullptr) read.take(rope.long_divisors, longer, {pairs});
  };
  if (kind.longrope && (read.has("rope_factors_short.weight") || read.has("rope_factors_long.weight"))) {
    divide("rope_factors_short.weight", "rope_factors_long.weight");
    rope.original_context = original > 0.0 ? original : c.context;
    rope.attention_factor = attention;
  } else if (type == "longrope") {
    read.fail(errc::not_supported, "rope.scaling.type is longrope without tensors of factors");
  } else if (read.has("rope_freqs.weight")) {
    divide("rope_freqs.weight", nullptr);
  }
}

/// Windows and angles of the layers, where they differ.
inline void read_gguf_layers(gguf_model_reader& read, const family& kind, model_config& c) {
  const auto layers = to_size(c.layers);
  int window = static_cast<int>(std::min(1e9, std::max(0.0, read.number("attention.sliding_window", 0.0))));
  const bool stated = read.has_key("attention.sliding_window");
  std::vector<bool> sliding(layers, false);
  const bool llama = kind.model_type == "llama";
  if (kind.windows == window_rule::all || llama)
    sliding.assign(layers, window > 0);
  else if (kind.windows == window_rule::even || kind.windows == window_rule::period) {
    if (!stated) window = 4096;
    if (kind.windows == window_rule::period && !stated)
      read.fail(errc::bad_file, "attention.sliding_window is missing, must be a whole number");
    const auto period =
        to_size(read.size("attention.sliding_window_pattern", kind.windows == window_rule::even ? 2 : 6));
    for (std::size_t i = 0; i < layers; ++i) sliding[i] = (i + 1) % period != 0;
  } else if (window > 0) {
    read.fail(
        errc::not_supported, "attention.sliding_window is ", window,
        kind.model_type == "olmo2" ? ", which makes it an OLMo 3; not built" : ", which is not built in this family");
  }
  const bool any = std::find(sliding.begin(), sliding.end(), true) != sliding.end();
  if (window > 0 && any && c.context > 0 && window >= c.context && kind.local_theta <= 0) {
    read.note("attention.sliding_window " + std::to_string(window) + " is left out: the trained context is " +
              std::to_string(c.context));
    window = 0;
  }
  rope_config local = c.rope;
  if (kind.local_theta > 0) {
    local.theta = read.positive("rope.freq_base_swa", kind.local_theta);
    local.scaling = rope_scaling::none;
    local.factor = 1.0;
  }
  bool alike = true;
  std::vector<layer_attention> own;
  for (std::size_t i = 0; read.ok() && i < layers; ++i) {
    layer_attention& layer = own.emplace_back(layer_attention{sliding[i] ? window : 0, sliding[i] ? local : c.rope});
    if (kind.still_layers && (i + 1) % 4 == 0) layer.rope.scaling = rope_scaling::still;
    alike = alike && layer == layer_attention{0, c.rope};
  }
  if (!alike) c.own = std::move(own);
}

/// Queries, keys and values of a layer: matrices and biases, each fused or not.
inline bool read_gguf_queries(gguf_model_reader& read, const family& kind, const std::string& at, loaded_model& m,
                              layer_view& l) {
  const model_config& c = m.config;
  const std::size_t hidden = to_size(c.hidden), q = to_size(c.heads) * to_size(c.head_dim),
                    kv = to_size(c.kv_heads) * to_size(c.head_dim);
  bool ok = true;
  if (read.has(at + "attn_qkv.weight")) {
    ok = read.take(m, at + "attn_qkv.weight", hidden, {{&l.q, q}, {&l.k, kv}, {&l.v, kv}});
    if (read.has(at + "attn_qkv.bias")) {
      ok = ok && read.take(m, l.q_bias, at + "attn_qkv.bias", q + 2 * kv);
      if (ok) l.v_bias = (l.k_bias = l.q_bias + q) + kv;
    }
  } else {
    ok = read.take(m, l.q, at + "attn_q.weight", q, hidden) && read.take(m, l.k, at + "attn_k.weight", kv, hidden) &&
         read.take(m, l.v, at + "attn_v.weight", kv, hidden) &&
         read.take_if_there(m, l.q_bias, at + "attn_q.bias", q) &&
         read.take_if_there(m, l.k_bias, at + "attn_k.bias", kv) &&
         read.take_if_there(m, l.v_bias, at + "attn_v.bias", kv);
  }
  if (ok && kind.biases == bias_rule::queries && (l.q_bias == nullptr || l.k_bias == nullptr || l.v_bias == nullptr))
    read.fail(errc::bad_file, "tensor ", at, "attn_q.bias is missing; queries, keys and values have biases in ",
              kind.model_type);
  return ok;
}

inline void read_gguf_layer(gguf_model_reader& read, const family& kind, int number, loaded_model& m, layer_view& l) {
  const model_config& c = m.config;
  const std::string at = "blk." + std::to_string(number) + ".";
  const std::size_t hidden = to_size(c.hidden), ffn = to_size(c.ffn), d = to_size(c.head_dim);
  const std::size_t q = to_size(c.heads) * d, kv = to_size(c.kv_heads) * d;
  const bool behind = kind.norms == norm_rule::behind, both = kind.norms == norm_rule::both;
  bool ok = behind || read.take(m, l.attention_norm, at + "attn_norm.weight", hidden);
  ok = ok && read_gguf_queries(read, kind, at, m, l);
  ok = ok && read.take(m, l.o, at + "attn_output.weight", hidden, q) &&
       read.take_if_there(m, l.o_bias, at + "attn_output.bias", hidden);
  if (ok && kind.qk_norm != query_norm::none) {
    const bool heads = kind.qk_norm == query_norm::head;
    ok = read.take(m, l.q_norm, at + "attn_q_norm.weight", heads ? d : q) &&
         read.take(m, l.k_norm, at + "attn_k_norm.weight", heads ? d : kv);
  }
  if (behind || both) ok = ok && read.take(m, l.attention_post_norm, at + "post_attention_norm.weight", hidden);
  if (behind || both) ok = ok && read.take(m, l.ffn_post_norm, at + "post_ffw_norm.weight", hidden);
  ok = ok && (behind || read.take(m, l.ffn_norm, at + "ffn_norm.weight", hidden));
  // Without a gate of its own, `ffn_up` holds the gate, then up.
  if (!read.has(at + "ffn_gate.weight") && kind.fused)
    ok = ok && read.take(m, at + "ffn_up.weight", hidden, {{&l.gate, ffn}, {&l.up, ffn}});
  else
    ok = ok && read.take(m, l.gate, at + "ffn_gate.weight", ffn, hidden) &&
         read.take(m, l.up, at + "ffn_up.weight", ffn, hidden);
  if (!ok || !read.take_if_there(m, l.gate_bias, at + "ffn_gate.bias", ffn) ||
      !read.take_if_there(m, l.up_bias, at + "ffn_up.bias", ffn) ||
      !read.take(m, l.down, at + "ffn_down.weight", hidden, ffn))
    return;
  read.take_if_there(m, l.down_bias, at + "ffn_down.bias", hidden);
}

/// The token that starts every sequence, as llama.cpp decides; -1: none.
inline result<int> gguf_bos(const gguf& file, int vocab) {
  const auto id = file.whole("tokenizer.ggml.bos_token_id");
  if (!id) return id.reason();
  const auto add = file.flag("tokenizer.ggml.add_bos_token");
  if (!add) return add.reason();
  const auto model = file.text("tokenizer.ggml.model"), pre = file.text("tokenizer.ggml.pre");
  if (!model) return model.reason();
  if (!pre) return pre.reason();
  const std::string_view kind = (*model).value_or("");
  const gguf_split* split = find_gguf_split((*pre).value_or(""));
  const bool usual = kind == "llama" || (split != nullptr && split->adds_bos);
  if (kind.empty() || !(*add).value_or(usual)) return bos_of(vocab, -1);
  const std::uint64_t bos = (*id).value_or(kind == "llama" ? 1 : 11);
  return bos < static_cast<std::uint64_t>(vocab) ? static_cast<int>(bos) : -1;
}

}  // namespace detail

/// A model from a GGUF file, or from the first of a split one. Errors: those of the file; an architecture, a key or a
/// tensor that is not built; a key or tensor that is missing or can't be.
inline result<loaded_model> load_gguf(const std::filesystem::path& path) {
  auto file = gguf::open(path);
  if (!file) return file.reason();
  const auto architecture = file->text("general.architecture");
  if (!architecture) return architecture.reason();
  if (!*architecture) return detail::file_error(path, "general.architecture is missing; the file holds no model");
  const detail::family* found = detail::family_of_gguf(**architecture);
  if (found == nullptr)
    return error(errc::not_supported, path.string(), ": architecture '", detail::shown(**architecture),
                 "' is not built, must be ", detail::families_named(&detail::family::architecture));
  const detail::family& kind = *found;
  detail::gguf_model_reader read(*file, std::string(**architecture));
  loaded_model w;
  w.family = **architecture;
  w.hash = file->hash();
  model_config& c = w.config;
  c.layers = read.size("block_count");
  c.context = read.size("context_length");
  c.hidden = read.size("embedding_length");
  c.ffn = read.size("feed_forward_length");
  c.heads = read.size("attention.head_count");
  c.kv_heads = read.size("attention.head_count_kv", c.heads);
  c.head_dim = read.size("attention.key_length", std::max(1, c.hidden / c.heads));
  c.norm_eps = static_cast<float>(read.positive("attention.layer_norm_rms_epsilon"));
  c.qk_norm = kind.qk_norm;
  c.gate = kind.gelu ? activation::gelu_tanh : activation::silu;
  if (c.heads % c.kv_heads != 0)
    read.fail(errc::bad_file, "attention.head_count_kv ", c.kv_heads, " must divide attention.head_count ", c.heads);
  if (!read.has_key("attention.key_length") && c.hidden % c.heads != 0)
    read.fail(errc::bad_file, "embedding_length ", c.hidden, " must be a multiple of attention.head_count ", c.heads);
  if (read.size("attention.value_length", c.head_dim) != c.head_dim)
    read.fail(errc::not_supported, "attention.value_length differs from key_length, which is not built");
  const gguf_tensor* embedding = file->find_tensor("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2 || embedding->shape[0] > 268435456)
    read.fail(errc::bad_file, "tensor token_embd.weight is missing or no matrix");
  if (!read.ok()) return read.fault();
  c.vocab = read.size("vocab_size", static_cast<int>(embedding->shape[0]));
  // Before anything is made for each layer: each has tensors, and the last one is there.
  if (to_size(c.layers) > file->tensors().size() ||
      !read.has("blk." + std::to_string(c.layers - 1) + ".attn_output.weight"))
    read.fail(errc::bad_file, "block_count is ", c.layers, ", tensor blk.", c.layers - 1,
              ".attn_output.weight is missing");
  if (!read.ok()) return read.fault();

  detail::read_gguf_rope(read, kind, c);
  detail::read_gguf_layers(read, kind, c);
  const double per_head = static_cast<double>(c.hidden) / c.heads;
  if (kind.gelu) {
    // No key says it: the largest of each kind scales by another width (llama.cpp's models/gemma2.cpp, gemma3.cpp).
    const bool largest = c.layers == (kind.qk_norm == query_norm::none ? 46 : 62);
    c.attention_scale = static_cast<float>(1.0 / std::sqrt(largest ? per_head : c.head_dim));
    c.softcap = static_cast<float>(read.number("attn_logit_softcapping", kind.softcap));
    c.final_softcap = static_cast<float>(read.number("final_logit_softcapping", kind.final_softcap));
  }
  if (kind.embedding_root) c.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(c.hidden)));
  if (kind.multipliers) {
    const auto unless_zero = [&](const char* key, float otherwise) {
      const double x = read.number(key, 0.0);
      return x > 0.0 ? static_cast<float>(x) : otherwise;
    };
    c.embedding_scale = unless_zero("embedding_scale", 1.0f);
    c.attention_scale = unless_zero("attention.scale", 0.0f);
    c.residual_scale = unless_zero("residual_scale", 1.0f);
    c.logit_divisor = static_cast<float>(read.positive("logit_scale"));
  }
  read.knows("attention.causal");
  const auto bos = detail::gguf_bos(*file, c.vocab);
  if (!bos) return bos.reason();
  c.bos = *bos;

  const std::size_t hidden = to_size(c.hidden), vocab = to_size(c.vocab);
  bool ok = read.ok() && read.take(w, w.embedding, "token_embd.weight", vocab, hidden) &&
            read.take(w, w.final_norm, "output_norm.weight", hidden);
  for (int i = 0; ok && i < c.layers; ++i) {
    detail::read_gguf_layer(read, kind, i, w, w.layers.emplace_back());
    ok = read.ok();
  }
  c.tied = kind.model_type != "olmo2" && (kind.gelu || !read.has("output.weight"));
  w.head = w.embedding;
  if (ok && !c.tied) read.take(w, w.head, "output.weight", vocab, hidden);
  if (read.ok()) read.left_over("a " + std::string(kind.architecture) + " model");
  if (!read.ok()) return read.fault();
  w.notes = read.notes();
  w.files = std::move(*file).files();
  return w;
}

}  // namespace multistate
