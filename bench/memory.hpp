#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace bench {

/// A block that all cases share, on 2 MiB pages where the system gives them: kernel and limit walk the same memory, and
/// neither waits for page tables. It grows, and what was in it is lost then.
class huge_block {
 public:
  huge_block() = default;
  huge_block(const huge_block&) = delete;
  huge_block& operator=(const huge_block&) = delete;
  ~huge_block() { std::free(memory_); }

  std::span<std::byte> take(std::size_t bytes) {
    if (bytes > size_) {
      std::free(memory_);
      size_ = (bytes + page - 1) / page * page;
      memory_ = static_cast<std::byte*>(std::aligned_alloc(page, size_));
      if (memory_ == nullptr) {
        std::fprintf(stderr, "no memory for %zu bytes of states\n", bytes);
        std::exit(1);
      }
#if defined(__linux__)
      madvise(memory_, size_, MADV_HUGEPAGE);
#endif
      std::memset(memory_, 1, size_);  // pages that were never written are all the same zeros
    }
    return {memory_, bytes};
  }

 private:
  static constexpr std::size_t page = std::size_t{2} << 20;
  std::byte* memory_ = nullptr;
  std::size_t size_ = 0;
};

/// What a case walks before it comes back to the same states: far more than any cache holds.
inline constexpr std::size_t cold_bytes = std::size_t{128} << 20;

}  // namespace bench
