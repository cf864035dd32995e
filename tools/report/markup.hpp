#pragma once

#include <concepts>
#include <string>
#include <string_view>
#include <utility>

namespace multistate::tools {

/// HTML or SVG that is safe where it stands: words of this program, numbers, and text that came through escaped(). Text
/// from elsewhere is a std::string, which does not become markup by itself.
class markup {
 public:
  markup() = default;
  markup(const char* words) : html_(words) {}  // NOLINT(google-explicit-constructor)
  /// Takes style sheets, scripts and data as they are.
  static markup as_is(std::string_view html);

  markup& operator+=(const markup& more) {
    html_ += more.html_;
    return *this;
  }
  friend markup operator+(markup a, const markup& b) { return std::move(a += b); }
  friend bool operator==(const markup&, const markup&) = default;

  bool empty() const noexcept { return html_.empty(); }
  operator const std::string&() const noexcept { return html_; }  // NOLINT(google-explicit-constructor)
  const std::string& str() const noexcept { return html_; }

 private:
  std::string html_;
};

/// Text that is safe as text and as attribute value, in HTML and XML. Control characters, which XML has no place for,
/// become spaces.
markup escaped(std::string_view text);

/// A name that a program knows: escaped, in <code>.
markup code(std::string_view text);

markup whole(std::integral auto n) { return markup::as_is(std::to_string(n)); }

}  // namespace multistate::tools
