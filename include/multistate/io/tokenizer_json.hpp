#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <multistate/io/json.hpp>
#include <multistate/tokenizer/text_vocabulary.hpp>

namespace multistate {

namespace detail {

/// Reads a tokenizer.json: what it asks for is done as Hugging Face's tokenizers does it, or refused by name.
class tokenizer_json {
  using json = nlohmann::json;
  using kind = text_rules::token_kind;

 public:
  /// `bos`: how it is spelt where the template does not add it; "": not said.
  static result<tokenizer> read(const json& file, std::string_view bos) {
    tokenizer_json reader;
    if (const error e = reader.file(file)) return e;
    const int vocab = static_cast<int>(reader.r_.pieces.size());
    auto words = text_vocabulary::make(std::move(reader.r_));
    if (!words) return words.reason();
    reader.how_.vocab = vocab;
    reader.how_.bos = reader.how_.opens.empty() ? (*words)->special(bos) : reader.how_.opens.front();
    return tokenizer(std::move(*words), std::move(reader.how_));
  }

 private:
  // -- members of objects

  /// Null where it is absent.
  static const json& at(const json& object, const char* name) {
    static const json nothing;
    if (!object.is_object()) return nothing;
    const auto found = object.find(name);
    return found == object.end() ? nothing : *found;
  }
  static bool is_true(const json& object, const char* name, bool otherwise = false) {
    const json& value = at(object, name);
    return value.is_boolean() ? value.get<bool>() : otherwise;
  }
  static std::string text_of(const json& value) { return value.is_string() ? value.get<std::string>() : std::string(); }
  static std::string type_of(const json& object) { return text_of(at(object, "type")); }
  static error refused(std::string_view part, const json& value) {
    return error(errc::not_supported, part, " ", shown(value), " is not supported");
  }
  /// "what" of an object or, where `list` holds more of them, of each.
  template <class Take>
  static error each(const json& one, const char* list, Take&& take) {
    if (one.is_null()) return {};
    if (type_of(one) != "Sequence") return take(one);
    if (!at(one, list).is_array()) return error(errc::bad_file, "a Sequence has no list '", list, "'");
    for (const json& part : at(one, list))
      if (const error e = each(part, list, take)) return e;
    return {};
  }

  error file(const json& all) {
    if (const error e = model(at(all, "model"))) return e;
    if (const error e = added(at(all, "added_tokens"))) return e;
    if (const error e = each(at(all, "normalizer"), "normalizers", [&](const json& n) { return normalizer_of(n); }))
      return e;
    if (const error e = each(at(all, "pre_tokenizer"), "pretokenizers", [&](const json& p) { return split_of(p); }))
      return e;
    if (const error e = each(at(all, "post_processor"), "processors", [&](const json& p) { return around(p); }))
      return e;
    if (at(all, "decoder").is_null())
      return error(errc::not_supported, "a tokenizer without a decoder is not supported");
    if (const error e = each(at(all, "decoder"), "decoders", [&](const json& d) { return decoder_of(d); })) return e;
    if (const error e = bytes_of_pieces()) return e;
    return pairs(at(at(all, "model"), "vocab"), at(at(all, "model"), "merges"));
  }

  // -- pieces

  /// Ids may have gaps, as many as there are entries: more would ask for memory that the file does not fill.
  error reserve(const json& id, std::size_t entries) {
    constexpr std::size_t gaps = 65536;
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= 2 * entries + gaps)
      return error(errc::bad_file, "a token has the id ", shown(id), ", must be in [0, ", 2 * entries + gaps, ")");
    const auto need = id.get<std::size_t>() + 1;
    if (r_.pieces.size() < need) {
      r_.pieces.resize(need);
      r_.kinds.resize(need, kind::none);
    }
    return {};
  }
  error model(const json& m) {
    if (const std::string type = type_of(m); type != "BPE" && !(type.empty() && at(m, "merges").is_array()))
      return error(errc::not_supported, "model ", shown(at(m, "type")), " is not supported, only BPE is");
    const json& vocab = at(m, "vocab");
    if (!vocab.is_object() || !at(m, "merges").is_array())
      return error(errc::bad_file, "model has no 'vocab' and 'merges', which BPE needs");
    for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (!at(m, name).is_null() && !text_of(at(m, name)).empty()) return refused(name, at(m, name));
    if (const json& dropout = at(m, "dropout"); !dropout.is_null() && dropout != json(0.0))
      return refused("dropout", dropout);
    for (const auto& [piece, id] : vocab.items()) {
      if (const error e = reserve(id, vocab.size())) return e;
      const auto i = id.get<std::size_t>();
      if (r_.kinds[i] != kind::none) return error(errc::bad_file, "two tokens have the id ", i, ", must be one");
      r_.pieces[i] = piece;
      r_.kinds[i] = kind::text;
    }
    r_.byte_fallback = is_true(m, "byte_fallback");
    r_.whole_words = is_true(m, "ignore_merges");
    r_.fuse_unknown = is_true(m, "fuse_unk");
    if (const json& unknown = at(m, "unk_token"); unknown.is_string()) {
      const json& id = at(vocab, unknown.get<std::string>().c_str());
      if (id.is_null()) return error(errc::bad_file, "unk_token ", shown(unknown), " is no token");
      r_.unknown = id.get<int>();
    }
    if (r_.byte_fallback)
      for (std::size_t i = 0; i < r_.pieces.size(); ++i)
        if (r_.kinds[i] == kind::text && spelt_byte(r_.pieces[i]) >= 0) r_.kinds[i] = kind::byte;
    return {};
  }
  error added(const json& list) {
    if (list.is_null()) return {};
    if (!list.is_array()) return error(errc::bad_file, "added_tokens is ", shown(list), ", must be a list");
    const std::size_t entries = r_.pieces.size() + list.size();
    for (const json& token : list) {
      const json& content = at(token, "content");
      if (!content.is_string())
        return error(errc::bad_file, "an added token has the content ", shown(content), ", must be text");
      if (const error e = reserve(at(token, "id"), entries)) return e;
      added_token t{.id = at(token, "id").get<int>(), .content = content.get<std::string>()};
      const auto i = static_cast<std::size_t>(t.id);
      if (r_.kinds[i] != kind::none && r_.pieces[i] != t.content)
        return error(errc::bad_file, "the added token ", shown(content), " has the id ", i, ", which is that of ",
                     shown(std::string_view(r_.pieces[i])));
      t.special = is_true(token, "special");
      t.normalized = is_true(token, "normalized");
      t.single_word = is_true(token, "single_word");
      t.takes_left = is_true(token, "lstrip");
      t.takes_right = is_true(token, "rstrip");
      const bool in_model = r_.kinds[i] != kind::none;
      r_.pieces[i] = t.content;
      if (t.special)
        r_.kinds[i] = kind::special;
      else if (!in_model)
        r_.kinds[i] = kind::added;
      is_added_.resize(r_.pieces.size());
      is_added_[i] = !in_model;
      r_.added.push_back(std::move(t));
    }
    return {};
  }
  /// Pieces of a byte-level model become the bytes that they mean.
  error bytes_of_pieces() {
    is_added_.resize(r_.pieces.size());
    r_.shown = r_.pieces;
    const byte_alphabet alphabet;
    for (std::size_t i = 0; i < r_.pieces.size(); ++i) {
      if (shows_bytes_)
        if (auto bytes = alphabet.decoded(r_.shown[i])) r_.shown[i] = std::move(*bytes);
      for (const auto& [from, to] : shown_instead_) replace(r_.shown[i], from, to);
      if (r_.kinds[i] == kind::byte && shows_fallback_)
        r_.shown[i] = std::string(1, static_cast<char>(spelt_byte(r_.pieces[i])));
      if (!r_.bytes) continue;
      auto bytes = is_added_[i] ? std::nullopt : alphabet.decoded(r_.pieces[i]);
      r_.pieces[i] = bytes ? std::move(*bytes) : std::string();
    }
    return {};
  }
  static void replace(std::string& text, std::string_view from, std::string_view to) {
    for (std::size_t at = from.empty() ? text.npos : text.find(from); at != text.npos;
         at = text.find(from, at + to.size()))
      text.replace(at, from.size(), to);
  }
  error pairs(const json& vocab, const json& merges) {
    r_.pairs.reserve(merges.size());
    for (const json& merge : merges) {
      std::string left, right;
      if (merge.is_string()) {
        const auto& both = merge.get_ref<const std::string&>();
        const std::size_t gap = both.find(' ');
        if (gap != both.npos && both.find(' ', gap + 1) == both.npos) {
          left = both.substr(0, gap);
          right = both.substr(gap + 1);
        }
      } else if (merge.is_array() && merge.size() == 2) {
        left = text_of(merge[0]);
        right = text_of(merge[1]);
      }
      const json &l = at(vocab, left.c_str()), &r = at(vocab, right.c_str());
      if (l.is_null() || r.is_null())
        return error(errc::bad_file, "merge ", r_.pairs.size(), " is ", shown(merge),
                     ", must be of two pieces of the vocabulary");
      r_.pairs.push_back({l.get<int>(), r.get<int>()});
    }
    return {};
  }

  // -- steps

  error normalizer_of(const json& n) {
    const std::string type = type_of(n);
    rewrite_step step;
    constexpr std::array<std::pair<std::string_view, normal_form>, 4> forms{{{"NFC", normal_form::nfc},
                                                                             {"NFD", normal_form::nfd},
                                                                             {"NFKC", normal_form::nfkc},
                                                                             {"NFKD", normal_form::nfkd}}};
    const auto form = std::find_if(forms.begin(), forms.end(), [&](const auto& f) { return f.first == type; });
    if (form != forms.end()) {
      step.form = form->second;
    } else if (type == "Prepend") {
      step.act = rewrite_step::kind::prepend;
      step.to = text_of(at(n, "prepend"));
    } else if (type == "Lowercase") {
      step.act = rewrite_step::kind::lowercase;
    } else if (type == "Strip") {
      step.act = rewrite_step::kind::strip;
      step.left = is_true(n, "strip_left");
      step.right = is_true(n, "strip_right");
    } else if (type == "Replace") {
      step.to = text_of(at(n, "content"));
      const json& where = at(n, "pattern");
      if (at(where, "Regex").is_string()) {
        auto p = pattern::make(text_of(at(where, "Regex")));
        if (!p) return p.reason();
        step.act = rewrite_step::kind::replace_matches;
        step.where = std::make_shared<pattern>(std::move(*p));
      } else if (at(where, "String").is_string()) {
        step.act = rewrite_step::kind::replace;
        step.from = text_of(at(where, "String"));
      } else {
        return refused("the pattern of a normalizer", where);
      }
    } else {
      return refused("normalizer", at(n, "type"));
    }
    r_.rewrites.push_back(std::move(step));
    return {};
  }

  error split_at(std::string_view regex, match_goes goes, bool inverted = false) {
    auto p = pattern::make(regex);
    if (!p) return p.reason();
    r_.splits.push_back({std::move(*p), goes, inverted});
    return {};
  }
  static std::string escaped(std::string_view literal) {
    std::string out;
    for (const char c : literal) {
      if (static_cast<unsigned char>(c) < 0x80 &&
          !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
        out += '\\';
      out += c;
    }
    return out;
  }
  error behaviour(const json& p, const char* name, match_goes& goes) {
    constexpr std::array<std::pair<std::string_view, match_goes>, 5> all{
        {{"Isolated", match_goes::alone},
         {"Removed", match_goes::away},
         {"MergedWithPrevious", match_goes::to_previous},
         {"MergedWithNext", match_goes::to_next},
         {"Contiguous", match_goes::together}}};
    const std::string word = text_of(at(p, name));
    const auto found = std::find_if(all.begin(), all.end(), [&](const auto& b) { return b.first == word; });
    if (found == all.end()) return refused("the behavior of a pre-tokenizer", at(p, name));
    goes = found->second;
    return {};
  }
  error split_of(const json& p) {
    const std::string type = type_of(p);
    if (r_.bytes)
      return error(errc::not_supported, "a pre-tokenizer behind ByteLevel is not supported: ", shown(at(p, "type")));
    if (type == "Split") {
      match_goes goes{};
      if (const error e = behaviour(p, "behavior", goes)) return e;
      const json& where = at(p, "pattern");
      const bool regex = at(where, "Regex").is_string();
      if (!regex && !at(where, "String").is_string()) return refused("the pattern of a pre-tokenizer", where);
      return split_at(regex ? text_of(at(where, "Regex")) : escaped(text_of(at(where, "String"))), goes,
                      is_true(p, "invert"));
    }
    if (type == "ByteLevel") {
      if (is_true(p, "add_prefix_space", true)) {
        if (!r_.splits.empty())
          return error(errc::not_supported,
                       "add_prefix_space of ByteLevel behind another pre-tokenizer is not supported");
        r_.prefixes.push_back({.act = rewrite_step::kind::prepend_once, .from = {}, .to = " "});
        how_.drops_first_space = false;
      }
      r_.bytes = true;
      if (!is_true(p, "use_regex", true)) return {};
      return split_at(R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", match_goes::alone);
    }
    if (type == "Digits")
      return split_at(is_true(p, "individual_digits") ? R"(\p{N})" : R"(\p{N}+)", match_goes::alone);
    if (type == "Whitespace")
      return split_at(R"([\p{L}\p{M}\p{N}\p{Pc}]+|[^\p{L}\p{M}\p{N}\p{Pc}\s]+)", match_goes::away, true);
    if (type == "WhitespaceSplit") return split_at(R"(\s)", match_goes::away);
    if (type == "Punctuation") {
      match_goes goes = match_goes::alone;
      if (!at(p, "behavior").is_null())
        if (const error e = behaviour(p, "behavior", goes)) return e;
      return split_at(R"([\p{P}!-/:-@\[-`{-~])", goes);
    }
    if (type == "Metaspace") {
      if (!r_.splits.empty())
        return error(errc::not_supported, "Metaspace behind another pre-tokenizer is not supported");
      const std::string sign =
          at(p, "replacement").is_string() ? text_of(at(p, "replacement")) : std::string(space_sign);
      std::string scheme = text_of(at(p, "prepend_scheme"));
      if (scheme.empty()) scheme = is_true(p, "add_prefix_space", true) ? "always" : "never";
      if (scheme != "always" && scheme != "first" && scheme != "never")
        return refused("prepend_scheme", at(p, "prepend_scheme"));
      r_.prefixes.push_back({.act = rewrite_step::kind::replace, .from = " ", .to = sign});
      if (scheme != "never")
        r_.prefixes.push_back(
            {.act = rewrite_step::kind::prepend_once, .from = {}, .to = sign, .first_only = scheme == "first"});
      return is_true(p, "split", true) ? split_at(escaped(sign), match_goes::to_next) : error();
    }
    return refused("pre-tokenizer", at(p, "type"));
  }

  /// What is put around a text.
  error around(const json& p) {
    const std::string type = type_of(p);
    if (type == "ByteLevel") return {};  // offsets only
    if (type != "TemplateProcessing") return refused("post-processor", at(p, "type"));
    std::vector<int>* to = &how_.opens;
    if (!at(p, "single").is_array()) return error(errc::bad_file, "a TemplateProcessing has no list 'single'");
    for (const json& item : at(p, "single")) {
      if (at(item, "Sequence").is_object()) {
        to = &how_.closes;
        continue;
      }
      const json& ids = at(at(at(p, "special_tokens"), text_of(at(at(item, "SpecialToken"), "id")).c_str()), "ids");
      if (!ids.is_array())
        return error(errc::bad_file, "a template names the token ", shown(item), ", which it has no ids for");
      for (const json& id : ids) {
        if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= r_.pieces.size())
          return error(errc::bad_file, "a template adds the token ", shown(id), ", must be in [0, ", r_.pieces.size(),
                       ")");
        to->push_back(id.get<int>());
      }
    }
    return {};
  }

  error decoder_of(const json& d) {
    const std::string type = type_of(d);
    if (type == "ByteLevel") {
      shows_bytes_ = true;
    } else if (type == "ByteFallback") {
      shows_fallback_ = true;
    } else if (type == "Fuse") {
      fused_ = true;
    } else if (type == "Replace" && at(at(d, "pattern"), "String").is_string() && !fused_) {
      shown_instead_.emplace_back(text_of(at(at(d, "pattern"), "String")), text_of(at(d, "content")));
    } else if (type == "Strip" && fused_ && text_of(at(d, "content")) == " " && at(d, "stop") == json(0) &&
               (at(d, "start") == json(1) || at(d, "start") == json(0))) {
      how_.drops_first_space = at(d, "start") == json(1);
    } else if (type == "Metaspace") {
      shown_instead_.emplace_back(
          at(d, "replacement").is_string() ? text_of(at(d, "replacement")) : std::string(space_sign), " ");
      const std::string scheme = text_of(at(d, "prepend_scheme"));
      how_.drops_first_space = scheme.empty() ? is_true(d, "add_prefix_space", true) : scheme != "never";
    } else {
      return refused("decoder", d);
    }
    return {};
  }

 private:
  text_rules r_;
  tokenizer::manners how_;
  std::vector<bool> is_added_;  ///< by id: not in the model's own vocabulary
  bool shows_bytes_ = false, shows_fallback_ = false, fused_ = false;
  std::vector<std::pair<std::string, std::string>> shown_instead_;
};

}  // namespace detail

/// A tokenizer.json, as Hugging Face's tokenizers reads it. BOS is what its template puts before a text, else the
/// bos_token of the tokenizer_config.json beside it. Errors: no such file; a model, normalizer, pre-tokenizer,
/// post-processor or decoder that is not known here, by its name.
inline result<tokenizer> load_tokenizer_json(const std::filesystem::path& path) {
  const auto json = detail::read_json(path, std::uint64_t{1} << 28);
  if (!json) return json.reason();
  std::string bos;
  std::error_code code;
  if (const auto beside = path.parent_path() / "tokenizer_config.json"; std::filesystem::exists(beside, code)) {
    const auto config = detail::read_json(beside, std::uint64_t{1} << 28);
    if (!config) return config.reason();
    if (const auto found = config->find("bos_token"); found != config->end()) {
      if (found->is_string()) bos = found->get<std::string>();
      if (found->is_object() && found->contains("content") && (*found)["content"].is_string())
        bos = (*found)["content"].get<std::string>();
    }
  }
  auto made = detail::tokenizer_json::read(*json, bos);
  if (!made) return error(made.code(), path.string(), ": ", made.reason().message());
  return made;
}

}  // namespace multistate
