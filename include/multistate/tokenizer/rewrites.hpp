#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <multistate/tokenizer/unicode.hpp>
#include <multistate/types/error.hpp>

namespace multistate::detail {

/// One change of a stretch of text before it is split.
struct rewrite_step {
  enum class kind : std::uint8_t { form, prepend, prepend_once, replace, replace_matches, lowercase, strip };
  kind act = kind::form;
  normal_form form = normal_form::nfc;
  std::string from, to;                       ///< prepend and prepend_once: `to`; the second not before `to` itself
  bool first_only = false;                    ///< prepend: only to what begins the text
  bool left = false, right = false;           ///< strip
  std::shared_ptr<const pattern> where = {};  ///< replace_matches
};

/// Applies steps to one stretch after another of a text. Errors: a pattern gave up; a stretch would grow beyond what
/// any tokenizer makes of it, as with replacements that double each other's.
class rewriter {
 public:
  /// `size`: bytes of the whole text.
  explicit rewriter(std::size_t size) : size_(size) {}

  /// `begins`: the stretch is the start of the whole text.
  error apply(const rewrite_step& step, bool begins, std::string& text) {
    spare_.clear();
    switch (step.act) {
      case rewrite_step::kind::form:
        normalizer(step.form).append(spare_, text);
        break;
      case rewrite_step::kind::prepend_once:
        if (text.starts_with(step.to)) return {};
        [[fallthrough]];
      case rewrite_step::kind::prepend:
        if (!text.empty() && (begins || !step.first_only)) text.insert(0, step.to);
        return {};
      case rewrite_step::kind::replace:
        if (step.from.empty() || text.find(step.from) == text.npos) return {};
        if (const error e = replace(step, text)) return e;
        break;
      case rewrite_step::kind::replace_matches:
        if (const error e = replace_matches(step, text)) return e;
        break;
      case rewrite_step::kind::lowercase:
        lowercase(text);
        break;
      case rewrite_step::kind::strip:
        spare_ = stripped(step, text);
        break;
    }
    text.swap(spare_);
    return {};
  }
  /// All steps in order.
  error apply(const std::vector<rewrite_step>& steps, bool begins, std::string& text) {
    for (const rewrite_step& step : steps)
      if (const error e = apply(step, begins, text)) return e;
    return {};
  }

 private:
  /// Adds what lies before a match, and `to` in the match's place.
  error put(const rewrite_step& step, std::string_view before) {
    const std::size_t longest = 64 * size_ + (std::size_t{1} << 16);
    if (before.size() + step.to.size() > longest || spare_.size() > longest - before.size() - step.to.size())
      return error(errc::not_supported, "a normalizer of the tokenizer makes more than ", longest,
                   " bytes of a text of ", size_);
    spare_ += before;
    spare_ += step.to;
    return {};
  }
  error replace(const rewrite_step& step, std::string_view text) {
    std::size_t done = 0;
    for (std::size_t at = text.find(step.from); at != text.npos; at = text.find(step.from, done)) {
      if (const error e = put(step, text.substr(done, at - done))) return e;
      done = at + step.from.size();
    }
    spare_ += text.substr(done);
    return {};
  }
  error replace_matches(const rewrite_step& step, std::string_view text) {
    pattern::search search(*step.where);
    std::size_t done = 0, begin = 0, end = 0;
    while (done < text.size()) {
      const int found = search.next(text, done, begin, end);
      if (found < 0)
        return error(errc::not_supported, "a regular expression of the tokenizer's normalizer gave up at byte ", done,
                     " of a text; PCRE2's error ", found);
      if (found == 0 || end == begin) break;
      if (const error e = put(step, text.substr(done, begin - done))) return e;
      done = end;
    }
    spare_ += text.substr(done);
    return {};
  }
  void lowercase(std::string_view text) {
    for (std::size_t at = 0; at < text.size(); at += utf8_length(text[at])) {
      const std::int32_t point = point_at(text, at);
      if (point == 0x130)
        spare_ += "i\xcc\x87";  // the one letter that becomes two
      else
        append_utf8(spare_, utf8proc_tolower(point));
    }
  }
  static std::string_view stripped(const rewrite_step& step, std::string_view text) {
    while (step.left && !text.empty() && is_white_space(point_at(text, 0))) text.remove_prefix(utf8_length(text[0]));
    while (step.right && !text.empty()) {
      const std::size_t last = start_before(text, text.size());
      if (!is_white_space(point_at(text, last))) break;
      text = text.substr(0, last);
    }
    return text;
  }

  std::size_t size_;
  std::string spare_;
};

}  // namespace multistate::detail
