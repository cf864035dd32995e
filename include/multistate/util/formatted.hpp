#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>

/// The one way in which numbers become text and text becomes numbers: the same in every locale, of any length.
namespace multistate::detail {

/// 'f': so many digits behind the point; 'g': so many in all, without trailing zeros, with an exponent where that is
/// shorter. At most 100 digits.
inline std::string number_text(double x, char kind, int digits) {
  constexpr int most_digits = 100;
  std::array<char, 512> text{};  // a sign, 309 digits, a point and those behind it
  const auto end = std::to_chars(text.data(), text.data() + text.size(), x,
                                 kind == 'f' ? std::chars_format::fixed : std::chars_format::general,
                                 std::clamp(digits, 0, most_digits))
                       .ptr;
  return {text.data(), end};
}
/// As few digits as give the number again.
inline std::string number_text(double x) {
  std::array<char, 32> text{};
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), x).ptr};
}

/// All of the text as a number; none where it is something else.
inline std::optional<double> number_of(std::string_view text) {
  double value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// One place of a format.
struct format_place {
  char align = 0;  ///< '<' or '>'; 0: numbers stand right, text left
  bool zeros = false;
  std::size_t width = 0;
  int digits = -1;  ///< -1: as few as give the number again
  char kind = 'f';

  /// "", ":<28", ":8.3f", ":016x".
  constexpr explicit format_place(std::string_view text) noexcept {
    const auto next = [&] {
      const char c = text.empty() ? '\0' : text[0];
      text.remove_prefix(text.empty() ? 0 : 1);
      return c;
    };
    const auto number = [&] {
      int value = 0;
      while (!text.empty() && text[0] >= '0' && text[0] <= '9') value = 10 * value + (next() - '0');
      return value;
    };
    if (text.starts_with(':')) next();
    if (text.starts_with('<') || text.starts_with('>')) align = next();
    zeros = text.starts_with('0');
    width = static_cast<std::size_t>(number());
    if (text.starts_with('.')) next(), digits = number();
    if (!text.empty()) kind = next();
  }
};

template <class Value>
std::string written(const Value& value, const format_place& how) {
  std::string text;
  if constexpr (std::floating_point<Value>) {
    text = how.digits < 0 ? number_text(value) : number_text(value, how.kind, how.digits);
  } else if constexpr (std::integral<Value>) {
    std::array<char, 24> digits{};
    text.assign(digits.data(),
                std::to_chars(digits.data(), digits.data() + digits.size(), value, how.kind == 'x' ? 16 : 10).ptr);
  } else {
    text = std::string_view(value);
  }
  if (text.size() < how.width) {
    const bool right = how.align == '>' || (how.align == 0 && std::is_arithmetic_v<Value>);
    text.insert(right ? 0 : text.size(), how.width - text.size(), how.zeros ? '0' : ' ');
  }
  return text;
}

/// A format with one pair of braces for each value; another number of them does not compile.
template <class... Value>
struct format_of {
  std::string_view text;
  consteval format_of(const char* format) : text(format) {  // NOLINT(google-explicit-constructor)
    if (std::count(text.begin(), text.end(), '{') != static_cast<std::ptrdiff_t>(sizeof...(Value)))
      a_format_needs_one_place_for_each_value();
  }
  static void a_format_needs_one_place_for_each_value();
};

/// Text with values in its places, as std::format (C++20) writes them: "{}", "{:>8}", "{:8.3f}", "{:.3g}", "{:016x}".
/// Braces are places, never text.
template <class... Value>
std::string formatted(std::type_identity_t<format_of<Value...>> format, const Value&... values) {
  std::string_view rest = format.text;
  std::string out;
  [[maybe_unused]] const auto put = [&](const auto& value) {
    const std::size_t open = rest.find('{'), close = rest.find('}', open);
    out += rest.substr(0, open);
    out += written(value, format_place(rest.substr(open + 1, close - open - 1)));
    rest.remove_prefix(close + 1);
  };
  (put(values), ...);
  return out.append(rest);
}

}  // namespace multistate::detail
