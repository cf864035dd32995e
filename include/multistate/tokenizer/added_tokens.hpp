#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <multistate/tokenizer/unicode.hpp>

namespace multistate::detail {

/// A token that is cut out of a text before anything else looks at it.
struct added_token {
  int id = -1;
  std::string content;
  bool special = false;     ///< only where special tokens are asked for
  bool normalized = false;  ///< looked for in normalised text, in its own normal form
  bool single_word = false;
  bool takes_left = false, takes_right = false;  ///< with the blanks beside it
};

/// A stretch of text, or a token that stood there (`id` >= 0).
struct text_part {
  std::size_t begin, end;
  int id = -1;
};

/// Finds added tokens. Of those that begin at one place the longest counts.
class added_token_finder {
 public:
  /// `longest_first`: as llama.cpp cuts, the longest tokens out of the whole text first; else from left to right, as
  /// Hugging Face does.
  added_token_finder(std::vector<added_token> tokens, bool longest_first)
      : tokens_(std::move(tokens)), longest_first_(longest_first) {
    std::erase_if(tokens_, [](const added_token& t) { return t.content.empty(); });
    std::stable_sort(tokens_.begin(), tokens_.end(),
                     [](const added_token& a, const added_token& b) { return a.content < b.content; });
    tokens_.erase(std::unique(tokens_.begin(), tokens_.end(),
                              [](const added_token& a, const added_token& b) { return a.content == b.content; }),
                  tokens_.end());
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      auto& [from, to] = by_first_[static_cast<unsigned char>(tokens_[i].content[0])];
      if (to == 0) from = i;
      to = i + 1;
      lengths_[tokens_[i].content.size()] = true;
    }
  }
  bool empty() const noexcept { return tokens_.empty(); }

  /// Appends the parts of a text that has no added token yet.
  void split(std::string_view text, bool specials, std::vector<text_part>& parts) const {
    if (tokens_.empty()) {
      if (!text.empty()) parts.push_back({0, text.size()});
    } else if (longest_first_) {
      split_longest_first(text, specials, parts);
    } else {
      split_from_left(text, specials, parts);
    }
  }

 private:
  /// The longest token at a place; null: none.
  const added_token* at(std::string_view text, std::size_t place, bool specials) const {
    const auto [from, to] = by_first_[static_cast<unsigned char>(text[place])];
    if (to == 0) return nullptr;
    // In the order of bytes a token comes behind all its own beginnings: narrow the range byte by byte.
    auto low = tokens_.begin() + static_cast<std::ptrdiff_t>(from),
         high = tokens_.begin() + static_cast<std::ptrdiff_t>(to);
    const added_token* found = nullptr;
    for (std::size_t n = 1; low != high; ++n) {
      if (low->content.size() == n) {
        if (specials || !low->special) found = &*low;
        ++low;
      }
      if (place + n >= text.size() || low == high) break;
      const char next = text[place + n];
      const auto less = [n](const added_token& t, char c) {
        return static_cast<unsigned char>(t.content[n]) < static_cast<unsigned char>(c);
      };
      const auto more = [n](char c, const added_token& t) {
        return static_cast<unsigned char>(c) < static_cast<unsigned char>(t.content[n]);
      };
      low = std::lower_bound(low, high, next, less);
      high = std::upper_bound(low, high, next, more);
    }
    return found;
  }

  void split_from_left(std::string_view text, bool specials, std::vector<text_part>& parts) const {
    std::size_t done = 0;
    for (std::size_t i = 0; i < text.size();) {
      const added_token* token = at(text, i, true);
      if (token == nullptr) {
        ++i;
        continue;
      }
      std::size_t begin = i, end = i + token->content.size();
      i = end;  // a token that does not count hides what it overlaps
      if ((token->special && !specials) || begin < done) continue;
      if (token->single_word && (word_before(text, begin) || word_at(text, end))) continue;
      if (token->takes_left)
        while (begin > done && blank_before(text, begin) > 0) begin -= blank_before(text, begin);
      begin = std::max(begin, done);
      if (token->takes_right)
        while (blank_at(text, end) > 0) end += blank_at(text, end);
      if (done < begin) parts.push_back({done, begin});
      parts.push_back({begin, end, token->id});
      done = end;
      i = std::max(i, end);
    }
    if (done < text.size()) parts.push_back({done, text.size()});
  }

  void split_longest_first(std::string_view text, bool specials, std::vector<text_part>& parts) const {
    std::size_t done = 0;
    for (std::size_t i = 0; i < text.size();) {
      // A region that tokens cover without a gap has nothing to do with the next one.
      std::size_t end = i;
      for (std::size_t j = i; j < text.size() && (j == i || j < end); ++j)
        if (const added_token* token = at(text, j, specials)) end = std::max(end, j + token->content.size());
      if (end == i) {
        ++i;
        continue;
      }
      add({done, i}, parts);
      cut_region(text, {i, end}, specials, parts);
      done = i = end;
    }
    add({done, text.size()}, parts);
  }
  /// Text that is left of a region goes on in the text beside it.
  static void add(const text_part& part, std::vector<text_part>& parts) {
    if (part.begin == part.end) return;
    if (part.id < 0 && !parts.empty() && parts.back().id < 0)
      parts.back().end = part.end;
    else
      parts.push_back(part);
  }
  void cut_region(std::string_view text, text_part region, bool specials, std::vector<text_part>& parts) const {
    std::vector<text_part> now{region}, next;
    for (auto length = lengths_.rbegin(); length != lengths_.rend(); ++length) {
      next.clear();
      for (const text_part& part : now) {
        std::size_t done = part.begin;
        for (std::size_t i = part.begin; part.id < 0 && i + length->first <= part.end;) {
          const added_token* token = of_length(text.substr(i, length->first));
          if (token == nullptr || (token->special && !specials)) {
            ++i;
            continue;
          }
          if (done < i) next.push_back({done, i});
          next.push_back({i, i + length->first, token->id});
          i += length->first;
          done = i;
        }
        if (part.id >= 0)
          next.push_back(part);
        else if (done < part.end)
          next.push_back({done, part.end});
      }
      now.swap(next);
    }
    for (const text_part& part : now) add(part, parts);
  }
  const added_token* of_length(std::string_view bytes) const {
    const auto [from, to] = by_first_[static_cast<unsigned char>(bytes[0])];
    if (to == 0) return nullptr;
    const auto begin = tokens_.begin() + static_cast<std::ptrdiff_t>(from),
               end = tokens_.begin() + static_cast<std::ptrdiff_t>(to);
    const auto found =
        std::lower_bound(begin, end, bytes, [](const added_token& t, std::string_view b) { return t.content < b; });
    return found != end && found->content == bytes ? &*found : nullptr;
  }

  static bool is_word(std::int32_t p) noexcept {
    return p >= 0 && (in_category(p, 'L') || in_category(p, 'M') || in_category(p, 'N') ||
                      utf8proc_category(p) == UTF8PROC_CATEGORY_PC);
  }
  static bool word_at(std::string_view text, std::size_t at) { return is_word(point_at(text, at)); }
  static bool word_before(std::string_view text, std::size_t at) {
    return at > 0 && is_word(point_at(text, start_before(text, at)));
  }
  static std::size_t blank_at(std::string_view text, std::size_t at) {
    return at < text.size() && is_white_space(point_at(text, at)) ? utf8_length(text[at]) : 0;
  }
  static std::size_t blank_before(std::string_view text, std::size_t at) {
    if (at == 0) return 0;
    const std::size_t start = start_before(text, at);
    return is_white_space(point_at(text, start)) ? at - start : 0;
  }

  std::vector<added_token> tokens_;  ///< by content
  bool longest_first_;
  std::array<std::pair<std::size_t, std::size_t>, 256> by_first_{};
  std::map<std::size_t, bool> lengths_;
};

}  // namespace multistate::detail
