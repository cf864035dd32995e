#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <multistate/tokenizer/gguf_splits.hpp>
#include <multistate/tokenizer/text_vocabulary.hpp>

namespace multistate {

/// What the keys tokenizer.ggml.* of a GGUF file hold, by their names there.
struct gguf_vocabulary {
  std::string model;                ///< "llama", "gpt2" or "gemma4"
  std::string pre;                  ///< which regular expressions split a text; "": not said
  std::vector<std::string> tokens;  ///< by id
  std::vector<float> scores;        ///< by id, of "llama"
  std::vector<int> token_type;  ///< by id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; or empty
  std::vector<std::string> merges;  ///< by rank, "a b", of the other two
  std::optional<int> bos_token_id, eos_token_id, unknown_token_id;
  std::optional<bool> add_bos_token, add_eos_token, add_space_prefix;
};

namespace detail {

/// Kinds and spellings of tokens; added ones are cut out first, user-defined ones always.
inline error take_gguf_tokens(gguf_vocabulary& from, text_rules& r, bool bytes) {
  using kind = text_rules::token_kind;
  const std::size_t n = from.tokens.size();
  if (n == 0 || n > 0x7fffffff) return error(errc::bad_file, "a vocabulary of ", n, " tokens");
  if (!from.token_type.empty() && from.token_type.size() != n)
    return error(errc::bad_file, from.token_type.size(), " token types for ", n, " tokens, must be as many");
  r.shown = from.tokens;
  r.kinds.assign(n, kind::text);
  const byte_alphabet alphabet;
  for (std::size_t i = 0; i < n; ++i) {
    const int type = from.token_type.empty() ? 1 : from.token_type[i];
    const std::string& text = from.tokens[i];
    if (type < 0 || type > 6) return error(errc::bad_file, "token ", i, " has the type ", type, ", must be 1 to 6");
    r.kinds[i] = type == 2 || type == 3 ? kind::special : type == 4 ? kind::added : kind::text;
    if (!bytes && spelt_byte(text) >= 0 && (type == 6 || from.model == "gemma4")) {
      r.kinds[i] = kind::byte;
      r.shown[i] = std::string(1, static_cast<char>(spelt_byte(text)));
    }
    if (type >= 2 && type <= 4) {
      added_token token;
      token.id = static_cast<int>(i);
      token.content = text;
      token.special = type != 4;
      r.added.push_back(std::move(token));
    } else if (bytes) {
      if (auto meant = alphabet.decoded(text)) r.shown[i] = std::move(*meant);
    }
    if (!bytes && r.kinds[i] != kind::special)
      for (std::size_t at = r.shown[i].find(space_sign); at != std::string::npos;
           at = r.shown[i].find(space_sign, at + 1))
        r.shown[i].replace(at, space_sign.size(), " ");
  }
  r.pieces = std::move(from.tokens);
  if (bytes)
    for (std::size_t i = 0; i < n; ++i) r.pieces[i] = r.kinds[i] == kind::text ? r.shown[i] : std::string();
  r.longest_added_first = true;
  r.byte_fallback = !bytes;
  return {};
}

/// "a b" by the ids of both. What is wrong keeps texts from being tokenized, and ids can still be decoded.
inline void take_gguf_merges(const gguf_vocabulary& from, std::span<const std::string> tokens, text_rules& r) {
  std::unordered_map<std::string_view, int> ids;
  for (std::size_t i = 0; i < tokens.size(); ++i) ids.emplace(tokens[i], static_cast<int>(i));
  std::string joined;
  for (const std::string& merge : from.merges) {
    const std::size_t gap = merge.find(' ', 1);
    const auto left = ids.find(std::string_view(merge).substr(0, gap));
    const auto right = gap == merge.npos ? ids.end() : ids.find(std::string_view(merge).substr(gap + 1));
    if (left != ids.end() && right != ids.end()) {
      joined.assign(left->first).append(right->first);
      if (ids.contains(joined)) {
        r.pairs.push_back({left->second, right->second});
        continue;
      }
    }
    r.not_known =
        "merge " + std::to_string(r.pairs.size()) + " of the file's tokenizer is not of pieces of its vocabulary";
    r.pairs.clear();
    return;
  }
}

}  // namespace detail

/// The tokenizer of a GGUF file, as llama.cpp reads it. A pre-tokenizer that is not known is refused by name once a
/// text is to be tokenized. Errors: a kind that is not known, by name; lists that do not fit each other.
inline result<tokenizer> make_tokenizer(gguf_vocabulary from) {
  using detail::rewrite_step;
  const bool scores = from.model == "llama", gemma4 = from.model == "gemma4" || from.pre == "gemma4";
  if (!scores && from.model != "gpt2" && from.model != "gemma4")
    return error(errc::not_supported, "tokenizer.ggml.model '", from.model,
                 "' is not supported; llama, gpt2 and gemma4 are");
  detail::text_rules r;
  const std::vector<std::string> tokens = scores ? std::vector<std::string>() : from.tokens;
  const int vocab = static_cast<int>(from.tokens.size());
  bool adds_bos = scores;
  if (const error e = detail::take_gguf_tokens(from, r, !scores && !gemma4)) return e;
  for (const auto& id : {from.bos_token_id, from.eos_token_id, from.unknown_token_id})
    if (id && (*id < 0 || *id >= vocab))
      return error(errc::bad_file, "a special token has the id ", *id, ", must be in [0, ", vocab, ")");
  tokenizer::manners how;
  how.vocab = vocab;
  how.bos = from.bos_token_id.value_or(scores && vocab > 1 ? 1 : -1);
  if (scores) {
    if (from.scores.size() != static_cast<std::size_t>(vocab))
      return error(errc::bad_file, from.scores.size(), " scores for ", vocab, " tokens, must be as many");
    r.merge = detail::text_rules::merging::scores;
    r.scores = std::move(from.scores);
    r.gaps_part = true;
    r.unknown = from.unknown_token_id.value_or(0);
    if (from.add_space_prefix.value_or(true)) {
      how.drops_first_space = true;
      r.prefixes.push_back({.act = rewrite_step::kind::prepend, .from = {}, .to = " "});
      r.prefix_after_special_only = true;
    }
  } else {
    const std::string pre = from.pre.empty() ? (gemma4 ? "gemma4" : "default") : from.pre;
    detail::take_gguf_merges(from, tokens, r);
    r.bytes = !gemma4;
    r.gaps_part = true;
    r.whole_newlines = gemma4;
    if (const detail::gguf_split* split = detail::find_gguf_split(pre)) {
      r.whole_words = split->whole_words;
      adds_bos = split->adds_bos;
      for (const std::string_view step : split->steps) {
        if (step.empty()) continue;
        auto where = detail::pattern::make(step);
        if (!where) return where.reason();
        r.splits.push_back({std::move(*where)});
      }
    } else if (r.not_known.empty()) {
      r.not_known = "tokenizer.ggml.pre '" + pre + "' is not supported: give the text as .tokens";
    }
  }
  if (scores || gemma4)
    r.prefixes.push_back({.act = rewrite_step::kind::replace, .from = " ", .to = std::string(detail::space_sign)});
  if (from.add_bos_token.value_or(adds_bos) && how.bos >= 0) how.opens.push_back(how.bos);
  if (from.add_eos_token.value_or(false) && from.eos_token_id) how.closes.push_back(*from.eos_token_id);
  auto words = detail::text_vocabulary::make(std::move(r));
  if (!words) return words.reason();
  return tokenizer(std::move(*words), std::move(how));
}

}  // namespace multistate
