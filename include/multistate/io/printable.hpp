#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace multistate::detail {

/// The first bytes of a text, at most `most`; a code point is not cut.
constexpr std::string_view cut_text(std::string_view text, std::size_t most) noexcept {
  if (text.size() <= most) return text;
  std::size_t end = most;
  while (end > 0 && most - end < 3 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80 ? most : end);
}

/// Text of anybody as a terminal may show it: control characters (C0, DEL, C1), line separators, marks that turn the
/// direction of writing or are not seen, and bytes that are no UTF-8 come out as \x1b or \u202e. Takes the text piece
/// by piece; a code point that the end of a piece cuts waits for the next one.
class printable_text {
 public:
  /// `lines`: line feeds and tabs stay.
  explicit printable_text(bool lines) noexcept : lines_(lines) {}

  std::string take(std::string_view piece) {
    waiting_ += piece;
    std::string out;
    std::size_t at = 0;
    while (at < waiting_.size()) {
      const std::size_t length = length_at(at);
      if (length == cut) break;
      if (length == 0)
        add_hex(out, "\\x", static_cast<unsigned char>(waiting_[at++]), 2);
      else
        add(out, at, length);
      at += length;
    }
    waiting_.erase(0, at);
    return out;
  }
  /// What still waits: no more comes.
  std::string end() {
    std::string out;
    for (const char c : waiting_) add_hex(out, "\\x", static_cast<unsigned char>(c), 2);
    waiting_.clear();
    return out;
  }

 private:
  static constexpr std::size_t cut = ~std::size_t{0};

  /// Bytes of the code point there; 0: it is none; `cut`: more has to come.
  std::size_t length_at(std::size_t at) const noexcept {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(waiting_[at + i]); };
    const unsigned lead = byte(0);
    if (lead < 0x80) return 1;
    const std::size_t length = lead >= 0xc2 && lead < 0xe0   ? 2
                               : lead >= 0xe0 && lead < 0xf0 ? 3
                               : lead >= 0xf0 && lead < 0xf5 ? 4
                                                             : 0;
    for (std::size_t i = 1; i < length; ++i) {
      if (at + i == waiting_.size()) return cut;
      // The second byte keeps out longer forms of a code point, surrogates, and what lies above U+10FFFF.
      const unsigned low = i == 1 && lead == 0xe0 ? 0xa0 : i == 1 && lead == 0xf0 ? 0x90 : 0x80;
      const unsigned high = i == 1 && lead == 0xed ? 0x9f : i == 1 && lead == 0xf4 ? 0x8f : 0xbf;
      if (byte(i) < low || byte(i) > high) return 0;
    }
    return length;
  }
  void add(std::string& out, std::size_t at, std::size_t length) const {
    std::uint32_t point = static_cast<unsigned char>(waiting_[at]);
    if (length > 1) point &= 0x7fu >> length;
    for (std::size_t i = 1; i < length; ++i) point = point << 6 | (static_cast<unsigned char>(waiting_[at + i]) & 0x3f);
    if (lines_ && (point == '\n' || point == '\t'))
      out += static_cast<char>(point);
    else if (point < 0x20 || point == 0x7f)
      add_hex(out, "\\x", point, 2);
    else if (hidden(point))
      add_hex(out, point < 0x10000 ? "\\u" : "\\U", point, point < 0x10000 ? 4 : 8);
    else
      out.append(waiting_, at, length);
  }
  static constexpr bool hidden(std::uint32_t point) noexcept {
    struct range {
      std::uint32_t first, last;
    };
    constexpr std::array<range, 10> ranges{{{0x80, 0x9f},    // C1
                                            {0xad, 0xad},    // soft hyphen
                                            {0x61c, 0x61c},  // direction of writing: this, 200e to 200f, 202a to 202e,
                                            {0x200b, 0x200b},      // zero width
                                            {0x200e, 0x200f},      //
                                            {0x2028, 0x202e},      // line and paragraph separator
                                            {0x2060, 0x206f},      // and 2066 to 2069
                                            {0xfeff, 0xfeff},      // byte order mark
                                            {0xfff9, 0xfffb},      // annotations
                                            {0xe0000, 0xe0fff}}};  // tags
    for (const range& r : ranges)
      if (point >= r.first && point <= r.last) return true;
    return false;
  }
  static void add_hex(std::string& out, const char* before, std::uint32_t value, int digits) {
    out += before;
    for (int i = digits - 1; i >= 0; --i) out += "0123456789abcdef"[value >> (4 * i) & 15];
  }

  bool lines_;
  std::string waiting_;
};

/// A name in one line.
inline std::string printable(std::string_view text) {
  printable_text shown(false);
  std::string out = shown.take(text);
  return out + shown.end();
}
/// Lines of text.
inline std::string printable_lines(std::string_view text) {
  printable_text shown(true);
  std::string out = shown.take(text);
  return out + shown.end();
}

}  // namespace multistate::detail
