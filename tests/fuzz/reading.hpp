#pragma once

// What the fuzzers of file readers share: files that hold the input, and the memory that reading them takes. Include it
// in one file of a program: it replaces operator new.

#include <malloc.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <random>
#include <string>
#include <string_view>

#include <multistate/types/error.hpp>

namespace fuzz {

/// Ends the program where a promise is broken.
inline void promise(bool kept, const char* message) {
  if (kept) return;
  std::fprintf(stderr, "broken promise: %s\n", message);
  std::abort();
}

/// A folder for the files of this process, in memory where the system has such a place.
class folder {
 public:
  folder() {
    std::error_code code;
    const std::filesystem::path memory = "/dev/shm";
    const auto base = std::filesystem::is_directory(memory, code) ? memory : std::filesystem::temp_directory_path();
    path_ = base / ("multistate-fuzz-" + std::to_string(std::random_device()()));
    std::filesystem::create_directories(path_);
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
  ~folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(const char* name, std::string_view bytes) const {
    const auto path = path_ / name;
    std::FILE* file = std::fopen(path.string().c_str(), "wb");
    promise(file != nullptr && std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size(),
            "the input is written");
    std::fclose(file);
    return path;
  }

 private:
  std::filesystem::path path_;
};

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// An error says something, in one line.
inline void promise_line(const multistate::error& e) {
  promise(e && !e.message().empty(), "an error has a code and a message");
  for (const char c : e.message()) promise(static_cast<unsigned char>(c) >= 32, "a message is one line");
}

inline std::size_t live = 0, most = 0;

/// Runs `read` and looks at the memory it held at most: a fixed part, and `factor` bytes for each of the input.
template <class Read>
void within(std::size_t input, std::size_t factor, const Read& read) {
  most = live;
  const std::size_t before = live;
  read();
  promise(most - before <= (std::size_t{256} << 10) + factor * input, "memory is in proportion to the input");
  promise(live == before, "memory is given back");
}

}  // namespace fuzz

namespace fuzz {
inline void* counted(std::size_t n) noexcept {
  void* p = std::malloc(n);
  if (p != nullptr) live += ::malloc_usable_size(p);
  most = std::max(most, live);
  return p;
}
inline void* counted_or_throw(std::size_t n) {
  void* p = counted(n);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
inline void uncounted(void* p) noexcept {
  if (p != nullptr) live -= ::malloc_usable_size(p);
  std::free(p);
}
}  // namespace fuzz

[[gnu::noinline]] void* operator new(std::size_t n) { return fuzz::counted_or_throw(n); }
[[gnu::noinline]] void* operator new[](std::size_t n) { return fuzz::counted_or_throw(n); }
[[gnu::noinline]] void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return fuzz::counted(n); }
[[gnu::noinline]] void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return fuzz::counted(n); }
[[gnu::noinline]] void operator delete(void* p) noexcept { fuzz::uncounted(p); }
[[gnu::noinline]] void operator delete[](void* p) noexcept { fuzz::uncounted(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { fuzz::uncounted(p); }
[[gnu::noinline]] void operator delete[](void* p, std::size_t) noexcept { fuzz::uncounted(p); }
[[gnu::noinline]] void operator delete(void* p, const std::nothrow_t&) noexcept { fuzz::uncounted(p); }
[[gnu::noinline]] void operator delete[](void* p, const std::nothrow_t&) noexcept { fuzz::uncounted(p); }
