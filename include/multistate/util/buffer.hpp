#pragma once

#include <cstddef>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include <multistate/util/assert.hpp>

namespace multistate {

/// A fixed number of trivially copyable elements on cache-line boundaries: what everything allocates, once, in its
/// make().
template <class T>
class buffer {
  static_assert(std::is_trivially_copyable_v<T>);
  static constexpr std::size_t alignment_bytes = 64;

 public:
  buffer() = default;
  buffer(const buffer&) = delete;
  buffer& operator=(const buffer&) = delete;
  buffer(buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  buffer& operator=(buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~buffer() { ::operator delete(data_, std::align_val_t{alignment_bytes}); }

  /// Value-initialised elements; false, and nothing changed, when there is no memory for them.
  bool allocate(std::size_t count) noexcept {
    if (count > static_cast<std::size_t>(-1) / 2 / sizeof(T)) return false;
    void* memory = ::operator new(count * sizeof(T), std::align_val_t{alignment_bytes}, std::nothrow);
    if (memory == nullptr) return false;
    T* elements = static_cast<T*>(memory);
    for (std::size_t i = 0; i < count; ++i) ::new (static_cast<void*>(elements + i)) T();
    ::operator delete(data_, std::align_val_t{alignment_bytes});
    data_ = elements;
    size_ = count;
    return true;
  }

  T* data() noexcept { return data_; }
  const T* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  std::size_t bytes() const noexcept { return size_ * sizeof(T); }
  T& operator[](std::size_t i) noexcept {
    MULTISTATE_ASSERT(i < size_);
    return data_[i];
  }
  const T& operator[](std::size_t i) const noexcept {
    MULTISTATE_ASSERT(i < size_);
    return data_[i];
  }
  void fill(T value) noexcept {
    for (std::size_t i = 0; i < size_; ++i) data_[i] = value;
  }
  /// Copies all elements. Precondition: the other buffer holds as many.
  void copy_from(const buffer& other) noexcept {
    MULTISTATE_ASSERT(size_ == other.size_);
    for (std::size_t i = 0; i < size_; ++i) data_[i] = other.data_[i];
  }
  std::span<T> span(std::size_t offset, std::size_t count) noexcept {
    MULTISTATE_ASSERT(offset <= size_ && count <= size_ - offset);
    return {data_ + offset, count};
  }
  std::span<const T> span(std::size_t offset, std::size_t count) const noexcept {
    MULTISTATE_ASSERT(offset <= size_ && count <= size_ - offset);
    return {data_ + offset, count};
  }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace multistate
