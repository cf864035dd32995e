#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <multistate/tokenizer/added_tokens.hpp>
#include <multistate/tokenizer/merging.hpp>
#include <multistate/tokenizer/rewrites.hpp>
#include <multistate/tokenizer/splits.hpp>
#include <multistate/tokenizer/tokenizer.hpp>
#include <multistate/util/finite.hpp>

namespace multistate::detail {

/// SentencePiece's sign for a space, U+2581.
inline constexpr std::string_view space_sign = "\xe2\x96\x81";

/// The byte-level alphabet of GPT-2: each byte as one code point that can be seen.
class byte_alphabet {
 public:
  byte_alphabet() {
    std::int32_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool seen = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      const std::int32_t point = seen ? byte : next++;
      if (point < most) bytes_[static_cast<std::size_t>(point)] = static_cast<std::int16_t>(byte);
    }
  }
  /// The bytes that a piece in this alphabet means; nothing where it has another code point.
  std::optional<std::string> decoded(std::string_view piece) const {
    std::string bytes;
    for (std::size_t at = 0; at < piece.size();) {
      utf8proc_int32_t point = -1;
      const auto n = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(piece.data()) + at,
                                      static_cast<utf8proc_ssize_t>(piece.size() - at), &point);
      if (n <= 0 || point >= most || bytes_[static_cast<std::size_t>(point)] < 0) return std::nullopt;
      bytes += static_cast<char>(bytes_[static_cast<std::size_t>(point)]);
      at += static_cast<std::size_t>(n);
    }
    return bytes;
  }

 private:
  static constexpr std::int32_t most = 512;
  std::vector<std::int16_t> bytes_ = std::vector<std::int16_t>(most, -1);
};

/// "<0x0A>": the byte that a piece spells; -1: none.
inline int spelt_byte(std::string_view piece) noexcept {
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  const bool spelt =
      piece.size() == 6 && piece.starts_with("<0x") && piece[5] == '>' && digit(piece[3]) >= 0 && digit(piece[4]) >= 0;
  return spelt ? digit(piece[3]) * 16 + digit(piece[4]) : -1;
}

/// All that a file says of its tokenizer.
struct text_rules {
  enum class token_kind : std::uint8_t { none, text, added, special, byte };
  /// How neighbours merge: by a list of pairs, or wherever they spell a piece, the highest score first.
  enum class merging : std::uint8_t { pairs, scores };
  struct pair {
    int left, right;
  };

  std::vector<std::string> pieces;  ///< by id: what text must hold, in bytes, for this token
  std::vector<std::string> shown;   ///< by id: what the token stands for
  std::vector<token_kind> kinds;    ///< by id
  merging merge = merging::pairs;
  std::vector<pair> pairs;    ///< by rank
  std::vector<float> scores;  ///< by id
  bool bytes = false;         ///< the symbols of a word are its bytes; else its code points
  bool byte_fallback = false;
  bool whole_words = false;     ///< a word that is a piece is not merged (ignore_merges)
  bool whole_newlines = false;  ///< the same of words of line feeds alone
  bool gaps_part = false;       ///< a symbol without a piece keeps its neighbours apart
  bool fuse_unknown = false;
  int unknown = -1;

  std::vector<rewrite_step> rewrites;  ///< before added tokens that are normalised are found
  std::vector<rewrite_step> prefixes;  ///< behind that
  std::vector<split_step> splits;
  std::vector<added_token> added;
  bool longest_added_first = false;
  bool prefix_after_special_only = false;  ///< a space goes before the text and behind special tokens alone

  std::string not_known;  ///< a rule that is not known here, so that no text can be tokenized; ids still can be decoded
};

/// A vocabulary over UTF-8: rewrites text, cuts out added tokens, splits it into words, merges each.
class text_vocabulary final : public vocabulary {
 public:
  /// Errors: pairs that make no piece, scores that are no numbers, added tokens that can't be rewritten as texts are.
  static result<std::shared_ptr<const vocabulary>> make(text_rules rules) {
    for (added_token& t : rules.added)
      if (t.normalized)
        if (const error e = rewriter(t.content.size()).apply(rules.rewrites, false, t.content)) return e;
    auto made = std::shared_ptr<text_vocabulary>(new text_vocabulary(std::move(rules)));
    if (const error e = made->prepare()) return e;
    return std::shared_ptr<const vocabulary>(std::move(made));
  }

  result<std::vector<int>> encode(std::string_view text, spelling specials) const override {
    if (!r_.not_known.empty()) return error(errc::not_supported, r_.not_known);
    constexpr std::size_t most = std::size_t{1} << 30;
    if (text.size() > most) return error(errc::bad_input, "a text of ", text.size(), " bytes, must be at most ", most);
    if (const std::size_t at = not_utf8(text); at != text.npos)
      return error(errc::bad_input, "byte ", at, " of the text (", static_cast<unsigned char>(text[at]),
                   ") is no UTF-8, which this tokenizer needs");
    encoding run(*this, text.size());
    if (const error e = run.text(text, specials == spelling::special)) return e;
    return std::move(run.out);
  }
  std::string_view piece(int token) const noexcept override {
    return to_index(token) < r_.shown.size() ? std::string_view(r_.shown[to_index(token)]) : std::string_view();
  }
  bool is_special(int token) const noexcept override {
    return to_index(token) < r_.kinds.size() && r_.kinds[to_index(token)] == text_rules::token_kind::special;
  }
  int special(std::string_view spelt) const noexcept override {
    for (std::size_t id = 0; id < r_.kinds.size(); ++id)
      if (r_.kinds[id] == text_rules::token_kind::special && r_.shown[id] == spelt) return static_cast<int>(id);
    return -1;
  }

 private:
  using token_kind = text_rules::token_kind;

  explicit text_vocabulary(text_rules rules)
      : r_(std::move(rules)),
        index_(r_.pieces),
        raw_(chosen(false), r_.longest_added_first),
        normalized_(chosen(true), r_.longest_added_first) {}

  static std::size_t to_index(int token) noexcept { return static_cast<std::size_t>(token); }
  std::vector<added_token> chosen(bool normalized) const {
    std::vector<added_token> some;
    for (const added_token& t : r_.added)
      if (t.normalized == normalized) some.push_back(t);
    return some;
  }

  error prepare() {
    byte_ids_.fill(-1);
    for (std::size_t id = 0; id < r_.pieces.size(); ++id) {
      const token_kind kind = r_.kinds[id];
      if (kind == token_kind::byte) {
        if (const int byte = spelt_byte(r_.pieces[id]); byte >= 0) byte_ids_[to_index(byte)] = static_cast<int>(id);
      } else if ((kind == token_kind::text || kind == token_kind::added) && !r_.pieces[id].empty()) {
        index_.add(static_cast<int>(id));
      }
    }
    for (int c = 0; c < 256; ++c) {
      const char one = static_cast<char>(c);
      single_[to_index(c)] = index_.find({&one, 1});
    }
    cut_at_signs_ = !r_.bytes && !r_.whole_words && r_.splits.empty() && index_.find(space_sign) >= 0;
    for (std::size_t id = 0; cut_at_signs_ && id < r_.pieces.size(); ++id)
      if (r_.kinds[id] == token_kind::text || r_.kinds[id] == token_kind::added) note_signs_inside(r_.pieces[id]);
    return r_.merge == text_rules::merging::pairs ? rank_pairs() : rank_scores();
  }
  /// Behind which bytes a piece goes on with a space's sign: there no word ends.
  void note_signs_inside(std::string_view piece) noexcept {
    for (std::size_t at = piece.find(space_sign); at != piece.npos; at = piece.find(space_sign, at + space_sign.size()))
      if (at > 0 && !piece.substr(0, at).ends_with(space_sign))
        goes_on_[static_cast<unsigned char>(piece[at - 1])] = true;
  }
  error rank_pairs() {
    merges_ = merge_table(r_.pairs.size());
    piece_index all(r_.pieces);  // with special ones, which text never makes
    for (std::size_t id = 0; id < r_.pieces.size(); ++id)
      if (!r_.pieces[id].empty()) all.add(static_cast<int>(id));
    std::uint32_t rank = 0;
    std::string joined;
    for (const auto& [left, right] : r_.pairs) {
      joined = r_.pieces[to_index(left)] + r_.pieces[to_index(right)];
      const int id = index_.find(joined);
      if (id < 0 && all.find(joined) < 0)
        return error(errc::bad_file, "merge ", rank, " makes a piece of ", joined.size(),
                     " bytes that the vocabulary has not");
      if (id >= 0) merges_.add(left, right, {rank, id});
      ++rank;
    }
    r_.pairs = {};
    return {};
  }
  error rank_scores() {
    std::vector<float> levels;
    for (std::size_t id = 0; id < r_.scores.size(); ++id) {
      if (is_nan(r_.scores[id])) return error(errc::bad_file, "the score of token ", id, " is no number");
      levels.push_back(r_.scores[id]);
    }
    std::sort(levels.begin(), levels.end(), std::greater<>());
    levels.erase(std::unique(levels.begin(), levels.end()), levels.end());
    for (const float score : r_.scores)
      ranks_.push_back(static_cast<std::uint32_t>(
          std::lower_bound(levels.begin(), levels.end(), score, std::greater<>()) - levels.begin()));
    r_.scores = {};
    return {};
  }

  // -- one call

  /// What one call of encode() needs.
  struct encoding {
    encoding(const text_vocabulary& vocabulary, std::size_t size)
        : v(vocabulary), rewrites(size), pieces(vocabulary.r_.splits) {
      const std::size_t places = std::bit_ceil(std::clamp<std::size_t>(size / 8, 16, std::size_t{1} << 15));
      seen.resize(places);
      out.reserve(size / 4 + 8);
    }

    error text(std::string_view whole, bool specials) {
      std::vector<text_part> parts;
      v.raw_.split(whole, specials, parts);
      bool after_special = true;
      for (const text_part& part : parts) {
        if (part.id >= 0) {
          out.push_back(part.id);
          after_special = true;
          continue;
        }
        std::string_view stretch = whole.substr(part.begin, part.end - part.begin);
        std::string changed;
        if (!v.r_.rewrites.empty()) {
          changed = stretch;
          if (const error e = rewrites.apply(v.r_.rewrites, part.begin == 0, changed)) return e;
          stretch = changed;
        }
        std::vector<text_part> inner;
        v.normalized_.split(stretch, specials, inner);
        for (const text_part& piece : inner) {
          if (piece.id >= 0) {
            out.push_back(piece.id);
            after_special = true;
            continue;
          }
          const bool begins = part.begin == 0 && piece.begin == 0;
          if (const error e = words(stretch.substr(piece.begin, piece.end - piece.begin), begins, after_special))
            return e;
          after_special = false;
        }
      }
      return {};
    }

    /// Text that has no added token.
    error words(std::string_view text, bool begins, bool after_special) {
      std::string changed;
      if (!v.r_.prefixes.empty()) {
        changed = text;
        for (const rewrite_step& step : v.r_.prefixes) {
          const bool prefix = step.act == rewrite_step::kind::prepend || step.act == rewrite_step::kind::prepend_once;
          if (prefix && v.r_.prefix_after_special_only && !after_special) continue;
          if (const error e = rewrites.apply(step, begins, changed)) return e;
        }
        text = changed;
      }
      ++stretches;  // words of another stretch lie elsewhere
      if (v.cut_at_signs_) {
        std::size_t from = 0;
        for (std::size_t at = text.find(space_sign); at != text.npos; at = text.find(space_sign, at)) {
          if (at > from && !v.goes_on_[static_cast<unsigned char>(text[at - 1])]) {
            word(text.substr(from, at - from));
            from = at;
          }
          while (text.substr(at, space_sign.size()) == space_sign) at += space_sign.size();
        }
        if (from < text.size()) word(text.substr(from));
        return {};
      }
      const auto split = pieces.split(text);
      if (!split) return split.reason();
      for (const text_span& piece : **split) word(text.substr(piece.begin, piece.end - piece.begin));
      return {};
    }

    void word(std::string_view text) {
      if (text.size() == 1 && v.single_[static_cast<unsigned char>(text[0])] >= 0)
        return out.push_back(v.single_[static_cast<unsigned char>(text[0])]);
      constexpr std::size_t longest_seen = 64;
      seen_word* const known =
          text.size() <= longest_seen ? &seen[piece_index::hash(text) & (seen.size() - 1)] : nullptr;
      if (known != nullptr && known->stretch == stretches && known->size == text.size() &&
          std::memcmp(known->text, text.data(), text.size()) == 0) {
        for (std::uint32_t i = 0; i < known->count; ++i) out.push_back(out[known->at + i]);
        return;
      }
      const std::size_t at = out.size();
      fresh_word(text);
      if (known != nullptr)
        *known = {text.data(), text.size(), at, static_cast<std::uint32_t>(out.size() - at), stretches};
    }

    void fresh_word(std::string_view text) {
      if (v.r_.whole_words || (v.r_.whole_newlines && text.find_first_not_of('\n') == text.npos))
        if (const int id = v.index_.find(text); id >= 0) return out.push_back(id);
      symbols.clear();
      bool unknown = false;
      for (std::size_t at = 0; at < text.size();) {
        const std::size_t n = v.r_.bytes ? 1 : utf8_length(text[at]);
        const int id = n == 1 ? v.single_[static_cast<unsigned char>(text[at])] : v.index_.find(text.substr(at, n));
        const auto begin = static_cast<std::uint32_t>(at), size = static_cast<std::uint32_t>(n);
        at += n;
        if (id >= 0 || v.r_.gaps_part) {
          symbols.push_back({id, begin, size});
          unknown = false;
        } else if (v.r_.byte_fallback && v.has_bytes(text.substr(begin, n))) {
          for (std::uint32_t i = 0; i < size; ++i)
            symbols.push_back({v.byte_ids_[static_cast<unsigned char>(text[begin + i])], begin + i, 1});
          unknown = false;
        } else if (v.r_.unknown >= 0) {
          if (unknown && v.r_.fuse_unknown)
            symbols.back().size += size;
          else
            symbols.push_back({v.r_.unknown, begin, size});
          unknown = true;
        }
      }
      if (v.r_.merge == text_rules::merging::pairs)
        merging.merge(symbols,
                      [this](const merge_symbol& a, const merge_symbol& b) { return v.merges_.find(a.id, b.id); });
      else
        merging.merge(symbols, [this, text](const merge_symbol& a, const merge_symbol& b) -> merge_rule {
          const int id = v.index_.find(text.substr(a.begin, a.size + b.size));
          return {id < 0 ? 0 : v.ranks_[to_index(id)], id};
        });
      for (const merge_symbol& s : symbols) {
        if (s.id >= 0) {
          out.push_back(s.id);
        } else if (v.r_.byte_fallback && v.has_bytes(text.substr(s.begin, s.size))) {
          for (std::uint32_t i = 0; i < s.size; ++i)
            out.push_back(v.byte_ids_[static_cast<unsigned char>(text[s.begin + i])]);
        } else if (v.r_.unknown >= 0) {
          out.push_back(v.r_.unknown);
        }
      }
    }

    /// A word that came before, and where its ids stand.
    struct seen_word {
      const char* text = nullptr;
      std::size_t size = 0, at = 0;
      std::uint32_t count = 0, stretch = 0;
    };
    const text_vocabulary& v;
    rewriter rewrites;
    splitter pieces;
    merger merging;
    std::vector<merge_symbol> symbols;
    std::vector<seen_word> seen;
    std::uint32_t stretches = 0;
    std::vector<int> out;
  };
  bool has_bytes(std::string_view bytes) const noexcept {
    return std::all_of(bytes.begin(), bytes.end(),
                       [&](char c) { return byte_ids_[static_cast<unsigned char>(c)] >= 0; });
  }

  text_rules r_;
  piece_index index_;  ///< pieces of text, which alone come from text
  added_token_finder raw_, normalized_;
  std::array<int, 256> byte_ids_{}, single_{};  ///< by byte: the piece <0xXX>; the piece of that byte
  merge_table merges_;
  std::vector<std::uint32_t> ranks_;  ///< by id
  bool cut_at_signs_ = false;         ///< words end before a space's sign, so that each can be merged alone ...
  std::array<bool, 256> goes_on_{};   ///< ... but behind these bytes
};

}  // namespace multistate::detail
