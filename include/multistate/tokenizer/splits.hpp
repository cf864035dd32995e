#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <multistate/tokenizer/unicode.hpp>

namespace multistate::detail {

/// What becomes of a match: a piece of its own, nothing, a part of the piece before or behind it, or one piece with the
/// matches beside it.
enum class match_goes : std::uint8_t { alone, away, to_previous, to_next, together };

/// Divides each piece of a text at the matches of a pattern.
struct split_step {
  pattern where;
  match_goes goes = match_goes::alone;
  bool inverted = false;  ///< what lies between matches counts as matched
};

/// A piece of text by its bytes.
struct text_span {
  std::size_t begin, end;
};

/// Applies steps one after another. A piece is all that a pattern sees: its end is the end of the text.
class splitter {
 public:
  explicit splitter(const std::vector<split_step>& steps) {
    for (const split_step& step : steps) searches_.push_back({&step, pattern::search(step.where)});
  }

  /// The pieces of a text. Error: a pattern gave up.
  result<const std::vector<text_span>*> split(std::string_view text) {
    now_.assign(1, {0, text.size()});
    for (auto& [step, search] : searches_) {
      next_.clear();
      for (const text_span& piece : now_)
        if (const error e = apply(*step, search, text, piece)) return e;
      now_.swap(next_);
    }
    return &now_;
  }

 private:
  struct running {
    const split_step* step;
    pattern::search search;
  };

  error apply(const split_step& step, pattern::search& search, std::string_view text, const text_span& piece) {
    const std::string_view whole = text.substr(piece.begin, piece.end - piece.begin);
    fresh_ = next_.size();
    was_match_ = false;
    waits_ = false;
    std::size_t done = 0, from = 0, begin = 0, end = 0;
    while (from <= whole.size()) {
      const int found = search.next(whole, from, begin, end);
      if (found < 0)
        return error(errc::not_supported, "a regular expression of the tokenizer gave up at byte ", piece.begin + from,
                     " of a text; PCRE2's error ", found);
      if (found == 0) break;
      if (end == begin) {  // nothing matched
        from = end < whole.size() ? end + utf8_length(whole[end]) : end + 1;
        continue;
      }
      if (done < begin) add(step, {piece.begin + done, piece.begin + begin}, step.inverted);
      add(step, {piece.begin + begin, piece.begin + end}, !step.inverted);
      done = from = end;
    }
    if (done < whole.size()) add(step, {piece.begin + done, piece.end}, step.inverted);
    if (waits_) next_.push_back(waiting_);
    return {};
  }
  void add(const split_step& step, text_span span, bool match) {
    const bool first = next_.size() == fresh_;
    switch (step.goes) {
      case match_goes::alone:
        next_.push_back(span);
        break;
      case match_goes::away:
        if (!match) next_.push_back(span);
        break;
      case match_goes::to_previous:
        if (match && !first && !was_match_)
          next_.back().end = span.end;
        else
          next_.push_back(span);
        break;
      case match_goes::to_next:
        if (match) {
          if (waits_) next_.push_back(waiting_);
          waiting_ = span;
          waits_ = true;
        } else {
          next_.push_back(waits_ ? text_span{waiting_.begin, span.end} : span);
          waits_ = false;
        }
        break;
      case match_goes::together:
        if (!first && was_match_ == match)
          next_.back().end = span.end;
        else
          next_.push_back(span);
        break;
    }
    was_match_ = match;
  }

  std::vector<running> searches_;
  std::vector<text_span> now_, next_;
  std::size_t fresh_ = 0;  ///< where the pieces of the piece in hand begin in next_
  text_span waiting_{};    ///< a match that joins what comes next
  bool waits_ = false, was_match_ = false;
};

}  // namespace multistate::detail
