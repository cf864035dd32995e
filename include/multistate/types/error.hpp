#pragma once

#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <string_view>
#include <utility>

#include <multistate/util/assert.hpp>

namespace multistate {

/// What kind of thing failed.
enum class errc : std::uint8_t {
  ok,             ///< nothing
  bad_policy,     ///< a policy's settings break a rule of the policy
  bad_budget,     ///< a budget is too small for what is protected, or below 1
  bad_shape,      ///< heads, dimensions or layers that do not fit each other
  bad_limits,     ///< a chunk, undo, hold, window or number of tokens out of range
  bad_string,     ///< text that is no policy
  bad_file,       ///< a file that can't be read or written, or does not hold what it should
  bad_input,      ///< a value out of range, or one that is not finite
  out_of_memory,  ///< an allocation failed
  not_supported,  ///< a valid file that asks for what is not built
  overflow        ///< a number that its format can't hold
};

/// A code and one line that says what was wrong, which value, and what would be right. Owns its text; never allocates.
class error {
 public:
  error() = default;

  /// The message is the parts one after another; a part is text or a number. Longer than 511 bytes is cut,
  /// between code points.
  template <class... Part>
  explicit error(errc code, const Part&... parts) noexcept : code_(code) {
    (append(parts), ...);
  }

  /// True where something failed.
  explicit operator bool() const noexcept { return code_ != errc::ok; }
  errc code() const noexcept { return code_; }
  std::string_view message() const noexcept { return {text_, size_}; }

  void append(std::string_view s) noexcept {
    const std::size_t room = sizeof text_ - size_;
    std::size_t n = s.size() < room ? s.size() : room;
    while (n < s.size() && n > 0 && (static_cast<unsigned char>(s[n]) & 0xc0) == 0x80) --n;  // a code point is not cut
    for (std::size_t i = 0; i < n; ++i) text_[size_++] = s[i];
  }
  template <std::integral Int>
  void append(Int value) noexcept {
    char digits[24];
    int n = 0;
    const bool negative = value < 0;
    auto rest = negative ? ~static_cast<std::uint64_t>(value) + 1 : static_cast<std::uint64_t>(value);
    do digits[n++] = static_cast<char>('0' + rest % 10);
    while ((rest /= 10) != 0);
    if (negative) append("-");
    while (n > 0) append(std::string_view(&digits[--n], 1));
  }
  /// In as few digits as tell it from every other number of its type.
  template <std::floating_point Float>
  void append(Float value) noexcept {
    char digits[32];
    const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    append(std::string_view(digits, static_cast<std::size_t>(end - digits)));
  }

 private:
  errc code_ = errc::ok;
  std::uint16_t size_ = 0;
  char text_[511] = {};
};

/// Thrown by result<T>::value() where exceptions are on.
class bad_result : public std::exception {
 public:
  explicit bad_result(const error& e) noexcept : error_(e) {
    const auto m = e.message();
    for (std::size_t i = 0; i < m.size(); ++i) text_[i] = m[i];
  }
  const char* what() const noexcept override { return text_; }
  const error& reason() const noexcept { return error_; }

 private:
  error error_;
  char text_[512] = {};
};

/// A value, or the error that kept it from being made.
template <class T>
class [[nodiscard]] result {
 public:
  result(T value) : value_(std::move(value)) {}   // NOLINT(google-explicit-constructor)
  result(const error& e) noexcept : error_(e) {}  // NOLINT(google-explicit-constructor)

  explicit operator bool() const noexcept { return value_.has_value(); }
  errc code() const noexcept { return error_.code(); }
  const error& reason() const noexcept { return error_; }

  /// Throws bad_result when there is no value; without exceptions that is a precondition.
  T& value() & {
    check();
    return *value_;
  }
  const T& value() const& {
    check();
    return *value_;
  }
  T&& value() && {
    check();
    return std::move(*value_);
  }
  /// Precondition: there is a value.
  T& operator*() & noexcept { return *value_; }
  const T& operator*() const& noexcept { return *value_; }
  T&& operator*() && noexcept { return std::move(*value_); }
  T* operator->() noexcept { return &*value_; }
  const T* operator->() const noexcept { return &*value_; }

 private:
  void check() const {
#if defined(__cpp_exceptions)
    if (!value_) throw bad_result(error_);
#else
    MULTISTATE_ASSERT(value_.has_value());
#endif
  }
  std::optional<T> value_;
  error error_;
};

}  // namespace multistate
