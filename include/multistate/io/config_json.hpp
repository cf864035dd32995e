#pragma once

#include <algorithm>
#include <cmath>

#include <multistate/io/family.hpp>
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

/// A list of `count` positive numbers.
inline std::vector<float> positive_list(config_reader& read, const nlohmann::json& in, const char* key, int count) {
  std::vector<float> all;
  const auto* v = config_reader::get(in, key);
  const bool fits = v != nullptr && v->is_array() && v->size() == to_size(count);
  for (std::size_t i = 0; fits && i < v->size(); ++i) {
    const auto x = (*v)[i].is_number() ? (*v)[i].get<float>() : 0.0f;
    if (x > 0.0f && std::isfinite(x)) all.push_back(x);
  }
  if (all.size() != to_size(count)) read.fail(errc::bad_file, key, " must be a list of ", count, " numbers above 0");
  return all;
}

/// Members of an object that describes angles, by its type.
constexpr std::string_view rope_members(std::string_view type) noexcept {
  if (type == "linear" || type == "dynamic") return "factor";
  if (type == "llama3") return "factor low_freq_factor high_freq_factor original_max_position_embeddings";
  if (type == "yarn")
    return "factor original_max_position_embeddings attention_factor beta_fast beta_slow mscale mscale_all_dim "
           "truncate";
  if (type == "longrope") return "factor original_max_position_embeddings attention_factor short_factor long_factor";
  return "";
}

/// What cosines and sines are multiplied by, stretched `s` times (Peng et al. 2023, YaRN).
inline double yarn_attention(double mscale, double s) { return s > 1.0 ? 0.1 * mscale * std::log(s) + 1.0 : 1.0; }

/// Base and scaling by the object `in`, called `key`; `json` is the whole config, `base` where the object says nothing.
inline rope_config rope_by(config_reader& read, const nlohmann::json& json, const family& kind, const char* key,
                           const nlohmann::json& in, rope_config rope) {
  static constexpr std::string_view always = "rope_type type rope_theta partial_rotary_factor";
  static constexpr std::string_view of_some =
      "factor low_freq_factor high_freq_factor original_max_position_embeddings attention_factor beta_fast beta_slow "
      "short_factor long_factor mscale mscale_all_dim truncate finetuned";
  for (const auto& member : in.items())
    if (!member.value().is_null() && !is_one_of(member.key(), always) && !is_one_of(member.key(), of_some))
      read.fail(errc::not_supported, key, " has ", shown(std::string_view(member.key())), ", which is not built");
  compare_both(read, json, in, key, "rope_theta", true);
  rope.theta = read.positive(in, "rope_theta", rope.theta);
  // An object without a type is no scaling; one that has a factor yet no type is not understood.
  const bool has_factor = config_reader::get(in, "factor") != nullptr;
  const std::string old = read.text(in, "type", has_factor ? "" : "default");
  std::string type = read.text(in, "rope_type", old);
  if (config_reader::get(in, "type") != nullptr && type != old)
    read.note(std::string(key) + " has rope_type '" + shown(std::string_view(type)) + "' and type '" +
              shown(std::string_view(old)) + "'; rope_type is taken, as transformers does");
  if (kind.longrope && (type == "su" || type == "yarn")) type = "longrope";
  if (type != "default" && rope_members(type).empty()) {
    read.fail(errc::not_supported, key, " is of type '", shown(std::string_view(type)),
              "', must be default, linear, dynamic, llama3, yarn or longrope");
    return rope;
  }
  std::string unused;
  for (const auto& member : in.items())
    if (!member.value().is_null() && !is_one_of(member.key(), always) && !is_one_of(member.key(), rope_members(type)))
      unused += (unused.empty() ? "" : ", ") + shown(std::string_view(member.key()));
  if (!unused.empty()) read.note(std::string(key) + " of type " + type + " has no use for " + unused);
  if (type == "default") return rope;

  const char* most = "max_position_embeddings";
  if (type == "dynamic") {
    rope.original_context = read.positive(json, most);
  } else if (type != "linear") {
    const char* original = "original_max_position_embeddings";
    compare_both(read, json, in, key, original, false);
    rope.original_context = config_reader::get(json, original) != nullptr ? read.positive(json, original)
                            : config_reader::get(in, original) != nullptr ? read.positive(in, original)
                            : kind.original_context > 0                   ? kind.original_context
                                                                          : read.positive(json, most);
  }
  const bool may_lack_factor = !has_factor && (type == "yarn" || type == "longrope");
  rope.factor = may_lack_factor ? read.positive(json, most) / rope.original_context : read.positive(in, "factor");
  if (type == "linear" || type == "dynamic") {
    rope.scaling = type == "linear" ? rope_scaling::linear : rope_scaling::dynamic;
  } else if (type == "llama3") {
    rope.scaling = rope_scaling::llama3;
    rope.low_freq_factor = read.positive(in, "low_freq_factor");
    rope.high_freq_factor = read.positive(in, "high_freq_factor");
    if (rope.high_freq_factor <= rope.low_freq_factor)
      read.fail(errc::bad_file, key, " must have high_freq_factor above low_freq_factor");
  } else if (type == "yarn") {
    const auto unless_zero = [&](const char* name, double otherwise) {
      const auto* v = config_reader::get(in, name);
      return v == nullptr || (v->is_number() && *v == 0) ? otherwise : read.positive(in, name);
    };
    rope.scaling = rope_scaling::yarn;
    rope.beta_fast = unless_zero("beta_fast", 32.0);
    rope.beta_slow = unless_zero("beta_slow", 1.0);
    rope.truncate = read.flag(in, "truncate", true);
    const double mscale = unless_zero("mscale", 0.0), all = unless_zero("mscale_all_dim", 0.0);
    const double by_formula = mscale > 0.0 && all > 0.0
                                  ? yarn_attention(mscale, rope.factor) / yarn_attention(all, rope.factor)
                                  : yarn_attention(1.0, rope.factor);
    rope.attention_factor = read.positive(in, "attention_factor", by_formula);
  } else {
    rope.scaling = rope_scaling::divided;
    rope.short_divisors = positive_list(read, in, "short_factor", rope.dim / 2);
    rope.long_divisors = positive_list(read, in, "long_factor", rope.dim / 2);
    const double s = rope.factor, n = rope.original_context;
    if (n <= 1.0) read.fail(errc::bad_file, key, " must have original_max_position_embeddings above 1");
    rope.attention_factor =
        read.positive(in, "attention_factor", s > 1.0 && n > 1.0 ? std::sqrt(1.0 + std::log(s) / std::log(n)) : 1.0);
    rope.factor = 1.0;
  }
  return rope;
}

/// How much of a head is rotated, beside the angles or within them.
inline double rotated_part(config_reader& read, const nlohmann::json& json, const family& kind) {
  const char* key = "partial_rotary_factor";
  double part = read.positive(json, key, 1.0);
  for (const char* object : {"rope_parameters", "rope_scaling"}) {
    const auto* in = config_reader::get(json, object);
    if (in == nullptr || !in->is_object() || config_reader::get(*in, key) == nullptr) continue;
    const double inner = read.positive(*in, key);
    if (config_reader::get(json, key) != nullptr && (inner < part || inner > part))
      read.fail(errc::not_supported, key, " in ", object, " differs from the one beside it, and versions of ",
                "transformers differ in which they take; remove one");
    part = inner;
  }
  if (!(part <= 1.0) || (!kind.longrope && part < 1.0))
    read.fail(errc::not_supported, key, " is not built, must be ", kind.longrope ? "at most 1" : "1");
  return part;
}

/// Base and scaling, from rope_theta beside rope_scaling, or from version 5's one object rope_parameters; `local`: of
/// the layers with a window, where the family has angles of their own for these.
inline void read_rope(config_reader& read, const nlohmann::json& json, const family& kind, rope_config& rope,
                      rope_config& local) {
  rope.theta = read.positive(json, "rope_theta", kind.theta);
  local = rope;
  if (kind.local_theta > 0) local.theta = read.positive(json, "rope_local_base_freq", kind.local_theta);
  const rope_config plain = rope, plain_local = local;
  const char* first = nullptr;
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const auto* in = config_reader::get(json, key);
    if (in == nullptr || (in->is_object() && in->empty())) continue;
    if (!in->is_object()) return read.fail(errc::bad_file, key, " is ", shown(*in), ", must be an object");
    rope_config by = plain, by_local = plain_local;
    const auto *full = config_reader::get(*in, "full_attention"),
               *sliding = config_reader::get(*in, "sliding_attention");
    if (kind.local_theta > 0 && (full != nullptr || sliding != nullptr)) {
      for (const auto& member : in->items())
        if (member.key() != "full_attention" && member.key() != "sliding_attention")
          return read.fail(errc::not_supported, key, " has ", shown(std::string_view(member.key())),
                           ", must have full_attention and sliding_attention");
      for (const auto* part : {full, sliding})
        if (part != nullptr && !part->is_object()) return read.fail(errc::bad_file, key, " must hold two objects");
      if (full != nullptr) by = rope_by(read, json, kind, key, *full, plain);
      if (sliding != nullptr) by_local = rope_by(read, json, kind, key, *sliding, plain_local);
    } else {
      by = rope_by(read, json, kind, key, *in, plain);
      if (kind.local_theta <= 0) by_local = by;
    }
    if (!read.ok()) return;
    if (first != nullptr && (by != rope || by_local != local))
      return read.fail(errc::bad_file, first, " and ", key,
                       " say different angles, and versions of transformers differ in which they take; remove one");
    rope = by;
    local = by_local;
    first = key;
  }
  if (kind.local_theta <= 0) local = rope;
}

/// Members of config.json that are read below.
inline constexpr std::string_view read_members =
    "architectures attention_bias bos_token_id head_dim hidden_act hidden_size intermediate_size layer_types "
    "max_position_embeddings mlp_bias model_type num_attention_heads num_hidden_layers num_key_value_heads "
    "original_max_position_embeddings partial_rotary_factor quantization_config rms_norm_eps rope_parameters "
    "rope_scaling rope_theta sliding_window tie_word_embeddings use_sliding_window vocab_size";

/// Members that change nothing: of training, generation and tokenizers, what versions of transformers wrote, and what
/// its classes of these families never read.
inline constexpr std::string_view harmless_members =
    "attention_dropout attn_implementation auto_map bad_words_ids begin_suppress_tokens cache_implementation "
    "chunk_size_feed_forward classifier_dropout cross_attention_hidden_size decoder_start_token_id "
    "diversity_penalty do_sample dtype early_stopping embd_pdrop encoder_no_repeat_ngram_size eos_token_id "
    "epsilon_cutoff eta_cutoff experts_implementation exponential_decay_length_penalty finetuning_task "
    "forced_bos_token_id forced_eos_token_id hidden_dropout hidden_dropout_prob id2label "
    "ignore_keys_at_rope_validation initializer_range is_decoder is_llama_config label2id length_penalty max_length "
    "max_new_tokens max_sequence_length max_time max_window_layers min_length model_max_length name_or_path "
    "neftune_noise_alpha no_repeat_ngram_size num_beam_groups num_beams num_labels num_return_sequences "
    "output_attentions output_hidden_states output_scores pad_token_id prefix pretraining_tp problem_type "
    "remove_invalid_values repetition_penalty resid_pdrop return_dict return_dict_in_generate sep_token_id "
    "suppress_tokens task_specific_params temperature tf_legacy_loss tokenizer_class top_k top_p torch_dtype "
    "torchscript transformers.js_config transformers_version typical_p unk_token_id unsloth_fixed unsloth_version "
    "use_bfloat16 use_cache";

/// Members by which a model computes something else, unless they are null, false, empty, 0 or 1.
inline constexpr std::string_view foreign_members =
    "add_cross_attention alibi attention_chunk_size attention_multiplier attn_logit_softcapping "
    "attn_temperature_tuning clip_qkv embedding_multiplier final_logit_softcapping full_attn_mod interpolate_factor "
    "is_encoder_decoder kv_lora_rank lm_head_bias logit_scale logits_scaling no_rope_layers num_experts "
    "num_local_experts per_layer_config pruned_heads qk_layernorm qk_norm query_pre_attn_scalar residual_multiplier "
    "rope_interleaved rope_local_base_freq rotary_dim rotary_pct scale_emb text_config tie_encoder_decoder "
    "use_bidirectional_attention use_qk_norm vision_config";

inline bool says_nothing(const nlohmann::json& v) {
  return v.is_null() || (v.is_boolean() && !v.get<bool>()) || (v.is_structured() && v.empty()) || is_text(v, "") ||
         (v.is_number() && v == 0);
}

/// Every member is read, known to be harmless, or refused. Names that begin with _ are what transformers notes for
/// itself.
inline void check_members(config_reader& read, const nlohmann::json& json, const family& kind) {
  for (const auto& [key, value] : json.items()) {
    if (is_one_of(key, read_members) || is_one_of(key, kind.members) || is_one_of(key, harmless_members)) continue;
    if (key.starts_with('_')) continue;
    if (says_nothing(value)) continue;
    const bool foreign = is_one_of(key, foreign_members);
    if (foreign && value.is_number() && value == 1) continue;
    read.fail(
        errc::not_supported, shown(std::string_view(key)), " is ", shown(value),
        foreign ? ", which is not built in this family" : ", which is not known; remove it where it changes nothing");
  }
}

/// Which layers have a window, by layer_types or by the family's own rule; [layers].
inline std::vector<bool> windowed_layers(config_reader& read, const nlohmann::json& json, const family& kind,
                                         const model_config& c) {
  const auto* types = config_reader::get(json, "layer_types");
  if (types != nullptr && (!types->is_array() || types->size() != to_size(c.layers))) {
    read.fail(errc::bad_file, "layer_types has ", types->size(), " entries, num_hidden_layers is ", c.layers);
    return {};
  }
  std::vector<bool> sliding(to_size(c.layers), kind.windows == window_rule::all);
  if (types != nullptr) {
    for (std::size_t i = 0; read.ok() && i < sliding.size(); ++i) {
      const bool slides = is_text((*types)[i], "sliding_attention") && kind.windows != window_rule::none;
      const bool sees_all =
          is_text((*types)[i], "full_attention") || (kind.attention_word && is_text((*types)[i], "attention"));
      if (!slides && !sees_all)
        read.fail(errc::not_supported, "layer_types has ", shown((*types)[i]), ", must be full_attention",
                  kind.windows != window_rule::none ? " or sliding_attention" : " throughout");
      sliding[i] = slides;
    }
    return sliding;
  }
  if (kind.windows == window_rule::even)
    for (std::size_t i = 0; i < sliding.size(); ++i) sliding[i] = i % 2 == 0;
  if (kind.windows == window_rule::period) {
    const auto period =
        to_size(read.size(json, "sliding_window_pattern", read.size(json, "_sliding_window_pattern", 6)));
    for (std::size_t i = 0; i < sliding.size(); ++i) sliding[i] = (i + 1) % period != 0;
  }
  if (kind.windows == window_rule::late) {
    const auto* from = config_reader::get(json, "max_window_layers");
    const auto first = from != nullptr && from->is_number_unsigned() ? from->get<std::uint64_t>() : 28u;
    for (std::size_t i = 0; i < sliding.size(); ++i) sliding[i] = i >= first;
  }
  return sliding;
}

/// The layers whose keys are rotated; [layers].
inline std::vector<bool> rotated_layers(config_reader& read, const nlohmann::json& json, const family& kind,
                                        const model_config& c) {
  std::vector<bool> rotated(to_size(c.layers), true);
  if (!kind.still_layers) return rotated;
  if (const auto* list = config_reader::get(json, "no_rope_layers"); list != nullptr && !list->empty()) {
    if (!list->is_array() || list->size() != rotated.size())
      read.fail(errc::bad_file, "no_rope_layers must be a list of ", c.layers, " numbers");
    for (std::size_t i = 0; read.ok() && i < rotated.size(); ++i) {
      const nlohmann::json& v = (*list)[i];
      if (!v.is_number_unsigned() || v > 1)
        read.fail(errc::bad_file, "no_rope_layers has ", shown(v), ", must be 0 or 1");
      rotated[i] = v == 1;
    }
    return rotated;
  }
  const auto interval = to_size(read.size(json, "no_rope_layer_interval", 4));
  for (std::size_t i = 0; i < rotated.size(); ++i) rotated[i] = (i + 1) % interval != 0;
  return rotated;
}

/// Windows and angles of the layers, where they differ. A window as long as the trained context shows all of it.
inline void read_layers(config_reader& read, const nlohmann::json& json, const family& kind, const rope_config& local,
                        model_config& c) {
  constexpr int most_layers = 1024;  // for which something is made before the weights are seen
  const bool plain = kind.windows == window_rule::none && !kind.still_layers;
  if (!plain && c.layers > most_layers)
    return read.fail(errc::bad_file, "num_hidden_layers is ", c.layers, ", must be at most ", most_layers);
  std::vector<bool> rotated, sliding;
  if (!plain) rotated = rotated_layers(read, json, kind, c);
  if (!plain || config_reader::get(json, "layer_types") != nullptr) sliding = windowed_layers(read, json, kind, c);
  if (!read.ok()) return;
  if (kind.windows == window_rule::still && config_reader::get(json, "layer_types") == nullptr)
    for (std::size_t i = 0; i < sliding.size(); ++i) sliding[i] = !rotated[i];
  int window = json.contains("sliding_window") ? 0 : kind.window;
  if (config_reader::get(json, "sliding_window") != nullptr) window = read.size(json, "sliding_window");
  const bool by_flag = kind.windows == window_rule::late || kind.windows == window_rule::still;
  if ((by_flag || plain) && !read.flag(json, "use_sliding_window", plain)) window = 0;
  if (!read.ok()) return;
  const bool any = plain || std::find(sliding.begin(), sliding.end(), true) != sliding.end();
  if (window > 0 && any && c.context > 0 && window >= c.context) {
    read.note("sliding_window " + std::to_string(window) + " is left out: the trained context is " +
              std::to_string(c.context));
    window = 0;
  }
  if (plain && window > 0)
    return read.fail(errc::not_supported, "sliding_window ", window,
                     " is not built in this family, must be null or at ", "least max_position_embeddings, here ",
                     c.context);
  bool alike = true;
  std::vector<layer_attention> own;
  for (std::size_t i = 0; !plain && i < sliding.size(); ++i) {
    layer_attention& layer = own.emplace_back(layer_attention{sliding[i] ? window : 0, sliding[i] ? local : c.rope});
    if (!rotated[i]) layer.rope.scaling = rope_scaling::still;
    alike = alike && layer == layer_attention{0, c.rope};
  }
  if (!alike) c.own = std::move(own);
}

}  // namespace detail

/// What a config.json says of a model.
struct described_model {
  const detail::family* kind = nullptr;
  model_config config;
  bool attention_bias = false;  ///< of queries, keys and values
  bool output_bias = false;     ///< of attention's output
  bool mlp_bias = false;
};

/// The config.json of a model of any family that is built, every layout that transformers has written. What it says
/// twice or for nothing is added to `notes`. Errors: no such config, and whatever the decoder would compute otherwise
/// than the model means it.
inline result<described_model> describe_config_json(const std::filesystem::path& path,
                                                    std::vector<std::string>* notes = nullptr) {
  auto parsed = detail::read_json(path);
  if (!parsed) return parsed.reason();
  const detail::emptied_at_end emptied(*parsed);
  const nlohmann::json& json = *parsed;
  detail::config_reader read(path);

  std::string type = read.text(json, "model_type", "");
  if (const auto* names = read.get(json, "architectures"); names != nullptr) {
    std::string meant = detail::shown(*names);
    for (const detail::family& f : detail::families)
      for (const char* end : {"ForCausalLM", "Model"})
        if (names->is_array() && names->size() == 1 && detail::is_text(names->front(), std::string(f.class_name) + end))
          meant = f.model_type;
    if (type.empty())
      type = meant;
    else if (type != meant && !names->empty())
      read.note("model_type is " + detail::shown(std::string_view(type)) + ", architectures " + detail::shown(*names) +
                "; model_type is taken, as transformers does");
  }
  const detail::family* found = detail::family_of_config(type);
  if (found == nullptr) {
    read.fail(errc::not_supported, "model_type is '", detail::shown(std::string_view(type)), "', must be ",
              detail::families_named(&detail::family::model_type));
    return read.fault();
  }
  const detail::family& kind = *found;
  detail::check_members(read, json, kind);
  described_model d{&kind, {}};
  d.attention_bias = kind.biases == detail::bias_rule::queries ||
                     (kind.biases == detail::bias_rule::by_flag && read.flag(json, "attention_bias"));
  d.output_bias = d.attention_bias && kind.biases == detail::bias_rule::by_flag;
  d.mlp_bias = kind.mlp_bias && read.flag(json, "mlp_bias");
  for (const auto& [flag, known] :
       {std::pair{"attention_bias", kind.biases == detail::bias_rule::by_flag}, std::pair{"mlp_bias", kind.mlp_bias}})
    if (read.flag(json, flag) && !known) read.fail(errc::not_supported, flag, " is true, which this family has not");
  if (kind.model_type == "mistral" && read.get(json, "layer_types") != nullptr)
    read.fail(errc::not_supported, "layer_types in a mistral config makes it a Ministral, which is not built");
  const char* act_key = kind.gelu ? "hidden_activation" : "hidden_act";
  const std::string act = read.text(json, act_key, kind.gelu ? "gelu_pytorch_tanh" : "silu");
  if (read.get(json, "quantization_config") != nullptr)
    read.fail(errc::not_supported, "quantization_config is not built, weights must be F32, F16 or BF16");
  if (kind.experts && read.get(json, "num_local_experts") != nullptr && json["num_local_experts"] != 0)
    read.fail(errc::not_supported, "num_local_experts is ", detail::shown(json["num_local_experts"]), ", must be 0");
  if (kind.experts && read.get(json, "num_local_experts") == nullptr)
    read.fail(errc::not_supported, "num_local_experts is missing, which means 8 experts; must be 0");
  if (kind.experts && read.text(json, "position_embedding_type", "") != "rope")
    read.fail(errc::not_supported, "position_embedding_type must be rope");
  if (kind.experts && read.get(json, "layer_types") == nullptr)
    read.fail(errc::not_supported, "layer_types is missing, which means mamba layers; must be attention throughout");

  model_config& c = d.config;
  if (act == "silu" || act == "swish")
    c.gate = activation::silu;
  else if (act == "gelu_pytorch_tanh" || act == "gelu_new")
    c.gate = activation::gelu_tanh;
  else if (act == "gelu")
    c.gate = activation::gelu_erf;
  else
    read.fail(errc::not_supported, act_key, " is '", detail::shown(std::string_view(act)),
              "', must be silu or swish, gelu, gelu_new or gelu_pytorch_tanh");
  c.hidden = read.size(json, "hidden_size");
  c.layers = read.size(json, "num_hidden_layers");
  c.heads = read.size(json, "num_attention_heads");
  const bool kv_absent = !json.contains("num_key_value_heads") && kind.kv_heads > 0;
  c.kv_heads = read.size(json, "num_key_value_heads", kv_absent ? kind.kv_heads : c.heads);
  c.ffn = read.size(json, kind.experts ? "shared_intermediate_size" : "intermediate_size");
  c.vocab = read.size(json, "vocab_size");
  if (read.get(json, "max_position_embeddings") != nullptr) c.context = read.size(json, "max_position_embeddings");
  c.norm_eps = static_cast<float>(read.positive(json, "rms_norm_eps", kind.eps));
  c.tied = read.flag(json, "tie_word_embeddings", kind.tied);
  c.qk_norm = kind.qk_norm;
  if (c.heads % c.kv_heads != 0)
    read.fail(errc::bad_file, "num_key_value_heads ", c.kv_heads, " must divide num_attention_heads ", c.heads);
  const bool default_dim = kind.head_dim > 0 && !json.contains("head_dim");
  if (read.get(json, "head_dim") == nullptr && !default_dim && c.hidden % c.heads != 0)
    read.fail(errc::bad_file, "hidden_size ", c.hidden, " must be a multiple of num_attention_heads ", c.heads);
  c.head_dim = read.size(json, "head_dim", default_dim ? kind.head_dim : std::max(c.hidden / c.heads, 1));
  if (c.head_dim % 2 != 0) read.fail(errc::bad_file, "head_dim is ", c.head_dim, ", must be even to be rotated");
  c.rope.dim = static_cast<int>(c.head_dim * detail::rotated_part(read, json, kind));
  if (c.rope.dim < 2 || c.rope.dim % 2 != 0)
    read.fail(errc::bad_file, "partial_rotary_factor turns ", c.rope.dim, " of ", c.head_dim,
              " elements, must be an even number");
  if (kind.embedding_root) c.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(c.hidden)));
  if (kind.gelu) {
    c.attention_scale = static_cast<float>(1.0 / std::sqrt(read.positive(json, "query_pre_attn_scalar", 256.0)));
    const auto cap = [&](const char* key, double otherwise) {
      const bool none = json.contains(key) ? read.get(json, key) == nullptr : otherwise <= 0;
      return none ? 0.0f : static_cast<float>(read.positive(json, key, otherwise));
    };
    c.softcap = cap("attn_logit_softcapping", kind.softcap);
    c.final_softcap = cap("final_logit_softcapping", kind.final_softcap);
  }
  if (kind.multipliers) {
    c.embedding_scale = static_cast<float>(read.positive(json, "embedding_multiplier", 1.0));
    c.attention_scale = static_cast<float>(read.positive(json, "attention_multiplier", 1.0));
    c.residual_scale = static_cast<float>(read.positive(json, "residual_multiplier", 1.0));
    c.logit_divisor = static_cast<float>(read.positive(json, "logits_scaling", 1.0));
  }

  int bos = kind.gelu ? 2 : 1;  // what transformers takes where the config has none
  if (const auto at = json.find("bos_token_id"); at != json.end() && !is_byte_vocabulary(c.vocab)) {
    const nlohmann::json& v = at->is_array() && !at->empty() ? at->front() : *at;
    const bool whole = v.is_number_unsigned() && v.get<std::uint64_t>() < static_cast<std::uint64_t>(c.vocab);
    if (!whole && !v.is_null() && v != -1)
      read.fail(errc::bad_file, "bos_token_id is ", detail::shown(*at), ", must be null or in [0, ", c.vocab, ")");
    bos = whole ? v.get<int>() : -1;
  }
  c.bos = bos_of(c.vocab, bos < c.vocab ? bos : -1);

  rope_config local;
  if (read.ok()) detail::read_rope(read, json, kind, c.rope, local);
  if (read.ok()) detail::read_layers(read, json, kind, local, c);
  if (!read.ok()) return read.fault();
  if (notes != nullptr) notes->insert(notes->end(), read.notes().begin(), read.notes().end());
  return d;
}

/// The same without what only a reader of the weights asks for.
inline result<model_config> read_config_json(const std::filesystem::path& path,
                                             std::vector<std::string>* notes = nullptr) {
  auto d = describe_config_json(path, notes);
  if (!d) return d.reason();
  return std::move(d->config);
}

}  // namespace multistate
