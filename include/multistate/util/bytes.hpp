#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>

#include <multistate/util/assert.hpp>

namespace multistate {

/// Fills a span of bytes from the front. Plain values only; in this machine's byte order.
class byte_writer {
 public:
  explicit byte_writer(std::span<std::byte> out) noexcept : out_(out) {}

  template <class T>
  void put(const T& value) noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    MULTISTATE_ASSERT(sizeof value <= out_.size() - at_);
    std::memcpy(out_.data() + at_, &value, sizeof value);
    at_ += sizeof value;
  }
  void put(std::span<const std::byte> bytes) noexcept {
    MULTISTATE_ASSERT(bytes.size() <= out_.size() - at_);
    if (!bytes.empty()) std::memcpy(out_.data() + at_, bytes.data(), bytes.size());
    at_ += bytes.size();
  }
  std::size_t written() const noexcept { return at_; }

 private:
  std::span<std::byte> out_;
  std::size_t at_ = 0;
};

/// Reads what byte_writer wrote, and never past the end: from there on values are zero and failed() is true.
class byte_reader {
 public:
  explicit byte_reader(std::span<const std::byte> in) noexcept : in_(in) {}

  template <class T>
  T get() noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    T value{};
    const auto bytes = take(sizeof value);
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  /// The next `count` bytes; empty when there are fewer.
  std::span<const std::byte> take(std::size_t count) noexcept {
    if (failed_ || count > left()) {
      failed_ = true;
      return {};
    }
    at_ += count;
    return in_.subspan(at_ - count, count);
  }
  std::size_t left() const noexcept { return in_.size() - at_; }
  bool failed() const noexcept { return failed_; }

 private:
  std::span<const std::byte> in_;
  std::size_t at_ = 0;
  bool failed_ = false;
};

/// The value at byte `at`, aligned or not. Precondition: it lies inside.
template <class T>
T load_at(std::span<const std::byte> bytes, std::size_t at) noexcept {
  static_assert(std::is_trivially_copyable_v<T>);
  MULTISTATE_ASSERT(at <= bytes.size() && sizeof(T) <= bytes.size() - at);
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

}  // namespace multistate
