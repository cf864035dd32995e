#pragma once

#include <algorithm>
#include <cmath>

#include <multistate/io/json.hpp>
#include <multistate/model/config.hpp>
#include <multistate/tokenizer/tokenizer.hpp>

namespace multistate {

namespace detail {

/// Reads members of a config; the first fault is kept and the rest goes on with harmless values.
class config_reader {
 public:
  explicit config_reader(std::filesystem::path path) : path_(std::move(path)) {}

  const error& fault() const noexcept { return fault_; }
  bool ok() const noexcept { return !fault_; }
  template <class... Part>
  void fail(errc code, const Part&... parts) {
    if (ok()) fault_ = error(code, path_.string(), ": ", parts...);
  }
  void note(const std::string& text) { notes_.push_back(path_.filename().string() + ": " + text); }
  const std::vector<std::string>& notes() const noexcept { return notes_; }

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
  /// Whether a number is 1, or missing.
  bool is_one(const nlohmann::json& in, const char* key) {
    const double x = positive(in, key, 1.0);
    return x >= 1.0 && x <= 1.0;
  }
  bool flag(const nlohmann::json& in, const char* key, bool otherwise = false) {
    const auto* v = get(in, key);
    if (v != nullptr && !v->is_boolean()) fail(errc::bad_file, key, " is ", shown(*v), ", must be true or false");
    return v != nullptr && v->is_boolean() ? v->get<bool>() : otherwise;
  }
  std::string text(const nlohmann::json& in, const char* key, std::string_view otherwise) {
    const auto* v = get(in, key);
    if (v != nullptr && !v->is_string()) fail(errc::bad_file, key, " is ", shown(*v), ", must be a string");
    return v != nullptr && v->is_string() ? v->get<std::string>() : std::string(otherwise);
  }

 private:
  std::filesystem::path path_;
  error fault_;
  std::vector<std::string> notes_;
};

/// Not by ==, which is noexcept and allocates.
inline bool is_text(const nlohmann::json& v, std::string_view text) {
  return v.is_string() && v.get_ref<const std::string&>() == text;
}
/// Whether a name is one of these words.
inline bool is_one_of(std::string_view name, std::string_view words) {
  while (!words.empty()) {
    const std::size_t end = std::min(words.find(' '), words.size());
    if (words.substr(0, end) == name) return true;
    words.remove_prefix(std::min(end + 1, words.size()));
  }
  return false;
}

/// Where a value stands within an object and beside it, and both differ, transformers takes one: which, is said.
inline void compare_both(config_reader& read, const nlohmann::json& json, const nlohmann::json& in, const char* object,
                         const char* key, bool inner_wins) {
  const auto* outer = config_reader::get(json, key);
  const auto* inner = config_reader::get(in, key);
  if (outer == nullptr || inner == nullptr || *outer == *inner) return;
  const std::string inside = std::string(key) + " " + shown(*inner) + " in " + object;
  const std::string beside = std::string(key) + " " + shown(*outer) + " beside it";
  read.note(inside + " differs from " + beside + "; the one " +
            (inner_wins ? "in " + std::string(object) : "beside it") + " is taken, as transformers does");
}

/// Base and scaling by one of the objects that describe them; `json` is the whole config.
inline rope_config rope_by(config_reader& read, const nlohmann::json& json, const char* key, rope_config rope) {
  static constexpr std::string_view always = "rope_type type rope_theta partial_rotary_factor";
  static constexpr std::string_view of_llama3 = "low_freq_factor high_freq_factor original_max_position_embeddings";
  static constexpr std::string_view of_others =
      "attention_factor beta_fast beta_slow short_factor long_factor mscale mscale_all_dim truncate finetuned";
  const nlohmann::json& in = *config_reader::get(json, key);
  for (const auto& member : in.items())
    if (!member.value().is_null() && member.key() != "factor" && !is_one_of(member.key(), always) &&
        !is_one_of(member.key(), of_llama3) && !is_one_of(member.key(), of_others))
      read.fail(errc::not_supported, key, " has ", shown(std::string_view(member.key())), ", which is not built");
  compare_both(read, json, in, key, "rope_theta", true);
  rope.theta = read.positive(in, "rope_theta", rope.theta);
  if (!read.is_one(in, "partial_rotary_factor"))
    read.fail(errc::not_supported, "partial_rotary_factor is not built, must be 1");
  // An object without a type is no scaling; one that has a factor yet no type is not understood.
  const bool has_factor = config_reader::get(in, "factor") != nullptr;
  const std::string old = read.text(in, "type", has_factor ? "" : "default");
  const std::string type = read.text(in, "rope_type", old);
  if (config_reader::get(in, "type") != nullptr && type != old)
    read.note(std::string(key) + " has rope_type '" + shown(std::string_view(type)) + "' and type '" +
              shown(std::string_view(old)) + "'; rope_type is taken, as transformers does");
  if (type != "default" && type != "linear" && type != "llama3") {
    read.fail(errc::not_supported, key, " is of type '", shown(std::string_view(type)),
              "', must be default, linear or llama3");
    return rope;
  }
  std::string unused;
  for (const auto& member : in.items())
    if (!member.value().is_null() && !is_one_of(member.key(), always) &&
        !(type != "default" && member.key() == "factor") && !(type == "llama3" && is_one_of(member.key(), of_llama3)))
      unused += (unused.empty() ? "" : ", ") + shown(std::string_view(member.key()));
  if (!unused.empty()) read.note(std::string(key) + " of type " + type + " has no use for " + unused);
  if (type == "default") return rope;
  rope.factor = read.positive(in, "factor");
  rope.scaling = type == "linear" ? rope_scaling::linear : rope_scaling::llama3;
  if (rope.scaling == rope_scaling::linear) return rope;
  rope.low_freq_factor = read.positive(in, "low_freq_factor");
  rope.high_freq_factor = read.positive(in, "high_freq_factor");
  const char* original = "original_max_position_embeddings";
  compare_both(read, json, in, key, original, false);
  if (config_reader::get(json, original) != nullptr)
    rope.original_context = read.positive(json, original);
  else if (config_reader::get(in, original) != nullptr)
    rope.original_context = read.positive(in, original);
  else
    rope.original_context = read.positive(json, "max_position_embeddings");
  if (rope.high_freq_factor <= rope.low_freq_factor)
    read.fail(errc::bad_file, key, " must have high_freq_factor above low_freq_factor");
  return rope;
}

/// Base and scaling, from rope_theta beside rope_scaling, or from version 5's one object rope_parameters.
inline void read_rope(config_reader& read, const nlohmann::json& json, rope_config& rope) {
  rope.theta = read.positive(json, "rope_theta", 10000.0);
  const rope_config plain = rope;
  const char* first = nullptr;
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const auto* in = config_reader::get(json, key);
    if (in == nullptr || (in->is_object() && in->empty())) continue;
    if (!in->is_object()) return read.fail(errc::bad_file, key, " is ", shown(*in), ", must be an object");
    const rope_config by = rope_by(read, json, key, plain);
    if (!read.ok()) return;
    if (first != nullptr && by != rope)
      return read.fail(errc::bad_file, first, " and ", key,
                       " say different angles, and versions of transformers differ in which they take; remove one");
    rope = by;
    first = key;
  }
}

/// Members of config.json that are read below.
inline constexpr std::string_view read_members =
    "architectures attention_bias bos_token_id head_dim hidden_act hidden_size intermediate_size layer_types "
    "max_position_embeddings mlp_bias model_type num_attention_heads num_hidden_layers num_key_value_heads "
    "original_max_position_embeddings partial_rotary_factor quantization_config rms_norm_eps rope_parameters "
    "rope_scaling rope_theta sliding_window tie_word_embeddings use_sliding_window vocab_size";

/// Members that change nothing: of training, generation and tokenizers, and what versions of transformers wrote.
inline constexpr std::string_view harmless_members =
    "attention_dropout bad_words_ids begin_suppress_tokens chunk_size_feed_forward classifier_dropout "
    "cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample dtype early_stopping "
    "embd_pdrop encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty finetuning_task "
    "forced_bos_token_id forced_eos_token_id hidden_dropout hidden_dropout_prob id2label "
    "ignore_keys_at_rope_validation initializer_range is_decoder is_llama_config label2id length_penalty "
    "max_length max_sequence_length max_window_layers min_length model_max_length name_or_path "
    "no_repeat_ngram_size num_beam_groups num_beams num_labels num_return_sequences output_attentions "
    "output_hidden_states output_scores pad_token_id prefix pretraining_tp problem_type remove_invalid_values "
    "repetition_penalty resid_pdrop return_dict return_dict_in_generate sep_token_id suppress_tokens "
    "task_specific_params temperature tf_legacy_loss tokenizer_class top_k top_p torch_dtype torchscript "
    "transformers.js_config transformers_version typical_p unk_token_id unsloth_fixed unsloth_version "
    "use_bfloat16 use_cache";

/// Members by which a model computes something else, unless they are null, false, empty, 0 or 1.
inline constexpr std::string_view foreign_members =
    "add_cross_attention alibi attention_chunk_size attention_multiplier attn_logit_softcapping "
    "attn_temperature_tuning clip_qkv embedding_multiplier final_logit_softcapping is_encoder_decoder "
    "kv_lora_rank logit_scale logits_scaling no_rope_layers num_experts num_local_experts pruned_heads "
    "qk_layernorm qk_norm query_pre_attn_scalar residual_multiplier rope_interleaved rope_local_base_freq "
    "rotary_dim rotary_pct scale_emb text_config tie_encoder_decoder use_bidirectional_attention use_qk_norm "
    "vision_config";

inline bool says_nothing(const nlohmann::json& v) {
  return v.is_null() || (v.is_boolean() && !v.get<bool>()) || (v.is_structured() && v.empty()) || is_text(v, "") ||
         (v.is_number() && (v == 0 || v == 1));
}

/// Every member is read, known to be harmless, refused, or said not to be used.
inline void check_members(config_reader& read, const nlohmann::json& json) {
  std::string unused;
  for (const auto& [key, value] : json.items()) {
    if (is_one_of(key, read_members) || is_one_of(key, harmless_members) || key.starts_with('_')) continue;
    if (says_nothing(value)) continue;
    if (is_one_of(key, foreign_members))
      return read.fail(errc::not_supported, key, " is ", shown(value), ", which is not built in a Llama model");
    if (unused.size() < 200) unused += (unused.empty() ? "" : ", ") + shown(std::string_view(key));
  }
  if (!unused.empty()) read.note("not known and not used, as in transformers: " + unused);
}

/// The attention window, where the config says one: a decoder without windows is right up to its length.
inline void check_window(config_reader& read, const nlohmann::json& json, const model_config& c, bool mistral) {
  if (const auto* types = config_reader::get(json, "layer_types"); types != nullptr) {
    const bool full = types->is_array() && std::all_of(types->begin(), types->end(), [](const auto& type) {
                        return is_text(type, "full_attention");
                      });
    if (!full) read.fail(errc::not_supported, "layer_types is ", shown(*types), ", must be full_attention throughout");
    if (full && types->size() != static_cast<std::size_t>(c.layers))
      read.fail(errc::bad_file, "layer_types has ", types->size(), " entries, num_hidden_layers is ", c.layers);
  }
  // transformers' Mistral has no use_sliding_window, and a window of 4096 where the config says nothing.
  int window = 0;
  if (config_reader::get(json, "sliding_window") != nullptr)
    window = read.size(json, "sliding_window");
  else if (mistral && !json.contains("sliding_window"))
    window = 4096;
  if (!read.flag(json, "use_sliding_window", true) && !mistral) window = 0;
  if (window == 0) return;
  if (c.context == 0 || window < c.context)
    return read.fail(errc::not_supported, "sliding_window ", window,
                     json.contains("sliding_window") ? "" : " (what Mistral means where it is missing)",
                     " is not built, must be null or at least max_position_embeddings, here ", c.context);
  read.note("sliding_window " + std::to_string(window) + " is left out: the trained context is " +
            std::to_string(c.context));
}

}  // namespace detail

/// The config.json of a Llama-like model, every layout that transformers has written. What it says twice or for nothing
/// is added to `notes`. Errors: no such config, and whatever the decoder would compute otherwise than the model means
/// it (other activations, other scaling, windows). Biases are for the reader of the weights, which may be zero.
inline result<model_config> read_llama_config(const std::filesystem::path& path,
                                              std::vector<std::string>* notes = nullptr) {
  auto parsed = detail::read_json(path);
  if (!parsed) return parsed.reason();
  const detail::emptied_at_end emptied(*parsed);
  const nlohmann::json& json = *parsed;
  detail::config_reader read(path);

  std::string kind = read.text(json, "model_type", "");
  if (const auto* names = read.get(json, "architectures"); names != nullptr) {
    const auto named = [&](const char* name) {
      return names->is_array() && names->size() == 1 && detail::is_text(names->front(), name);
    };
    const std::string meant = named("LlamaForCausalLM") || named("LlamaModel")       ? "llama"
                              : named("MistralForCausalLM") || named("MistralModel") ? "mistral"
                                                                                     : detail::shown(*names);
    if (kind.empty())
      kind = meant;
    else if (kind != meant && !names->empty())
      read.note("model_type is " + detail::shown(std::string_view(kind)) + ", architectures " + detail::shown(*names) +
                "; model_type is taken, as transformers does");
  }
  if (kind != "llama" && kind != "mistral")
    read.fail(errc::not_supported, "model_type is '", detail::shown(std::string_view(kind)),
              "', must be llama or mistral");
  const bool mistral = kind == "mistral";
  detail::check_members(read, json);
  for (const char* bias : {"attention_bias", "mlp_bias"})
    if (read.flag(json, bias))
      read.note(std::string(bias) + " is true; biases are not built, those of the file must be zero");
  if (const auto act = read.text(json, "hidden_act", "silu"); act != "silu" && act != "swish")
    read.fail(errc::not_supported, "hidden_act is '", detail::shown(std::string_view(act)), "', must be silu or swish");
  if (read.get(json, "quantization_config") != nullptr)
    read.fail(errc::not_supported, "quantization_config is not built, weights must be F32, F16 or BF16");
  if (!read.is_one(json, "partial_rotary_factor"))
    read.fail(errc::not_supported, "partial_rotary_factor is not built, must be 1");

  model_config c;
  c.hidden = read.size(json, "hidden_size");
  c.layers = read.size(json, "num_hidden_layers");
  c.heads = read.size(json, "num_attention_heads");
  c.kv_heads = read.size(json, "num_key_value_heads", mistral && !json.contains("num_key_value_heads") ? 8 : c.heads);
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
  detail::check_window(read, json, c, mistral);

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
  if (notes != nullptr) notes->insert(notes->end(), read.notes().begin(), read.notes().end());
  return c;
}

}  // namespace multistate
