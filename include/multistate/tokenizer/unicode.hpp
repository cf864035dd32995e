#pragma once

// PCRE2's header asks which width its names without one are of.
#ifndef PCRE2_CODE_UNIT_WIDTH
#define PCRE2_CODE_UNIT_WIDTH 8
#endif
#include <pcre2.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <multistate/types/error.hpp>

/// Code points, their normal forms, and regular expressions over them.
namespace multistate::detail {

/// Bytes of the code point that begins with this byte. Precondition: it does begin one.
constexpr std::size_t utf8_length(char lead) noexcept {
  const auto b = static_cast<unsigned char>(lead);
  return b < 0x80 ? 1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
}

/// Where the first byte stands that is no UTF-8; npos: all of it is.
inline std::size_t not_utf8(std::string_view text) noexcept {
  std::size_t at = 0;
  while (at < text.size()) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    utf8proc_int32_t point = -1;
    const auto left = static_cast<utf8proc_ssize_t>(std::min<std::size_t>(4, text.size() - at));
    const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at, left, &point);
    if (length <= 0) return at;
    at += static_cast<std::size_t>(length);
  }
  return std::string_view::npos;
}

inline void append_utf8(std::string& to, std::int32_t point) {
  std::array<utf8proc_uint8_t, 4> bytes{};
  const auto n = utf8proc_encode_char(point, bytes.data());
  to.append(reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(n));
}

/// A code point's general category begins with this letter: L, N, P, Z.
inline bool in_category(std::int32_t point, char major) noexcept { return utf8proc_category_string(point)[0] == major; }

/// The code point that begins at `at`. Precondition: UTF-8.
inline std::int32_t point_at(std::string_view text, std::size_t at) noexcept {
  utf8proc_int32_t point = -1;
  utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                   static_cast<utf8proc_ssize_t>(text.size() - at), &point);
  return point;
}
/// Where the code point in front of `at` begins. Precondition: at > 0.
inline std::size_t start_before(std::string_view text, std::size_t at) noexcept {
  do --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80);
  return at;
}
/// The property White_Space.
inline bool is_white_space(std::int32_t p) noexcept {
  return p == ' ' || (p >= 9 && p <= 13) || p == 0x85 || (p > 0x85 && in_category(p, 'Z'));
}

/// The forms of UAX 15.
enum class normal_form : std::uint8_t { nfc, nfd, nfkc, nfkd };

/// Appends text in a normal form. What lies between blanks is a piece of its own, since those neither compose
/// nor decompose. Linear but for sorting the marks of one letter. Precondition: UTF-8.
class normalizer {
 public:
  explicit normalizer(normal_form form) noexcept : form_(form) {}

  void append(std::string& to, std::string_view text) {
    // Below U+0300 everything is in NFC, below U+0080 in the other forms.
    const unsigned char plain = form_ == normal_form::nfc ? 0xcc : 0x80;
    std::size_t at = 0;
    while (at < text.size()) {
      std::size_t end = at;
      bool as_it_is = true;
      for (; end < text.size() && text[end] != ' ' && text[end] != '\n'; ++end)
        as_it_is = as_it_is && static_cast<unsigned char>(text[end]) < plain;
      while (end < text.size() && (text[end] == ' ' || text[end] == '\n')) ++end;
      if (as_it_is)
        to.append(text, at, end - at);
      else
        append_piece(to, text.substr(at, end - at));
      at = end;
    }
  }

 private:
  void append_piece(std::string& to, std::string_view text) {
    const bool compatible = form_ == normal_form::nfkc || form_ == normal_form::nfkd;
    const bool composed = form_ == normal_form::nfc || form_ == normal_form::nfkc;
    const auto how =
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0));
    points_.clear();
    for (std::size_t at = 0; at < text.size(); at += utf8_length(text[at])) {
      utf8proc_int32_t point = 0;
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                       static_cast<utf8proc_ssize_t>(text.size() - at), &point);
      std::array<utf8proc_int32_t, 32> into{};  // 18 is the most that a code point decomposes into
      int last = 0;
      const auto n =
          utf8proc_decompose_char(point, into.data(), static_cast<utf8proc_ssize_t>(into.size()), how, &last);
      points_.insert(points_.end(), into.begin(), into.begin() + std::clamp<std::ptrdiff_t>(n, 0, 32));
    }
    const auto rank = [](utf8proc_int32_t point) { return utf8proc_get_property(point)->combining_class; };
    for (auto at = points_.begin(); at != points_.end();) {  // marks by class; utf8proc's own sorting is quadratic
      const auto begin = std::find_if(at, points_.end(), [&](utf8proc_int32_t p) { return rank(p) != 0; });
      const auto end = std::find_if(begin, points_.end(), [&](utf8proc_int32_t p) { return rank(p) == 0; });
      std::stable_sort(begin, end, [&](utf8proc_int32_t a, utf8proc_int32_t b) { return rank(a) < rank(b); });
      at = end;
    }
    if (composed) {
      const auto n = utf8proc_normalize_utf32(points_.data(), static_cast<utf8proc_ssize_t>(points_.size()),
                                              static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
      points_.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
    }
    for (const utf8proc_int32_t point : points_) append_utf8(to, point);
  }

  normal_form form_;
  std::vector<utf8proc_int32_t> points_;
};

/// Frees what a C library made.
template <auto Free>
struct freed_by {
  template <class T>
  void operator()(T* made) const noexcept {
    Free(made);
  }
};

/// A regular expression in the dialect of Hugging Face's tokenizers (Oniguruma's), as far as patterns of tokenizers use
/// it, compiled by PCRE2 to machine code where the system allows that.
class pattern {
 public:
  static result<pattern> make(std::string_view text) {
    const std::string ours = translated(text);
    int code = 0;
    std::size_t at = 0;
    pattern p;
    p.code_ =
        std::shared_ptr<pcre2_code>(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(ours.data()), ours.size(),
                                                  PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, nullptr),
                                    freed_by<pcre2_code_free>());
    if (!p.code_) {
      PCRE2_UCHAR why[128] = {};
      pcre2_get_error_message(code, why, sizeof why);
      return error(errc::not_supported,
                   "the regular expression is not understood: ", std::string_view(reinterpret_cast<const char*>(why)),
                   ", at byte ", at);
    }
    p.compiled_ = pcre2_jit_compile(p.code_.get(), PCRE2_JIT_COMPLETE) == 0;
    return p;
  }

  /// Matches of a pattern in texts, one after another, from one thread.
  class search {
   public:
    explicit search(const pattern& p)
        : pattern_(&p),
          data_(pcre2_match_data_create_from_pattern(p.code_.get(), nullptr)),
          context_(pcre2_match_context_create(nullptr)) {
      if (!data_ || !context_) return;
      if (p.compiled_) {
        stack_.reset(pcre2_jit_stack_create(32 * 1024, 64 * 1024 * 1024, nullptr));
        pcre2_jit_stack_assign(context_.get(), nullptr, stack_.get());
      }
    }
    /// The first match at or behind `from`; 0: none, 1: there is one, below 0: given up, as for a pattern that
    /// backtracks without end. Precondition: UTF-8.
    int next(std::string_view text, std::size_t from, std::size_t& begin, std::size_t& end) {
      if (!data_ || !context_) return PCRE2_ERROR_NOMEMORY;
      const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
      const int found = pattern_->compiled_ ? pcre2_jit_match(pattern_->code_.get(), subject, text.size(), from,
                                                              PCRE2_NO_UTF_CHECK, data_.get(), context_.get())
                                            : pcre2_match(pattern_->code_.get(), subject, text.size(), from,
                                                          PCRE2_NO_UTF_CHECK, data_.get(), context_.get());
      if (found == PCRE2_ERROR_NOMATCH) return 0;
      if (found < 0) return found;
      const PCRE2_SIZE* at = pcre2_get_ovector_pointer(data_.get());
      begin = at[0];
      end = std::max(at[0], at[1]);
      return 1;
    }

   private:
    const pattern* pattern_;
    std::unique_ptr<pcre2_match_data, freed_by<pcre2_match_data_free>> data_;
    std::unique_ptr<pcre2_match_context, freed_by<pcre2_match_context_free>> context_;
    std::unique_ptr<pcre2_jit_stack, freed_by<pcre2_jit_stack_free>> stack_;
  };

 private:
  pattern() = default;

  /// \s is the property White_Space: PCRE2's has U+180E too. Inside a class or not, \p{..} can stand in its place.
  static std::string translated(std::string_view text) {
    std::string ours;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\' || i + 1 == text.size()) {
        ours += text[i];
      } else if (const char c = text[++i]; c == 's' || c == 'S') {
        ours += c == 's' ? "\\p{White_Space}" : "\\P{White_Space}";
      } else {
        ours += '\\';
        ours += c;
      }
    }
    return ours;
  }

  std::shared_ptr<pcre2_code> code_;  ///< copies share it
  bool compiled_ = false;
};

}  // namespace multistate::detail
