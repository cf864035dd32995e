#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <multistate/io/printable.hpp>
#include <multistate/util/bytes.hpp>
#include <multistate/types/error.hpp>
#include <multistate/util/hash.hpp>

#if defined(__unix__) || defined(__APPLE__)
#define MULTISTATE_IO_POSIX 1
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#else
#define MULTISTATE_IO_POSIX 0
#endif

namespace multistate {

// Every format read here stores its numbers little endian, and their bytes are copied as they are.
static_assert(std::endian::native == std::endian::little);

namespace detail {

/// One line that begins with the file it is about.
template <class... Part>
error file_error(const std::filesystem::path& path, const Part&... parts) {
  return error(errc::bad_file, path.string(), ": ", parts...);
}

inline error system_error(const std::filesystem::path& path, std::string_view problem, int code) {
  return file_error(path, problem, ": ", std::error_code(code, std::generic_category()).message());
}

/// Whether a file's bytes begin with these.
inline bool begins_with(std::span<const std::byte> bytes, std::string_view beginning) noexcept {
  return bytes.size() >= beginning.size() && std::memcmp(bytes.data(), beginning.data(), beginning.size()) == 0;
}
/// What git leaves in the place of a large file that was not fetched.
inline bool is_lfs_pointer(std::span<const std::byte> bytes) noexcept {
  return begins_with(bytes, "version https://git-lfs.github.com/spec/");
}
inline error lfs_pointer(const std::filesystem::path& path) {
  return file_error(path, "is a Git LFS pointer of a file that was not fetched; run `git lfs pull` in its folder");
}

/// A name out of a file, for messages: in one line, and not too long to leave room for the rest.
inline std::string shown(std::string_view name) {
  const std::string_view begin = cut_text(name, 100);
  return printable(begin) + (begin.size() < name.size() ? "..." : "");
}

/// Products and sums of sizes from files: they stick at the largest number, which no file is long enough for.
constexpr std::uint64_t times(std::uint64_t a, std::uint64_t b) noexcept {
  constexpr auto most = std::numeric_limits<std::uint64_t>::max();
  return b != 0 && a > most / b ? most : a * b;
}
constexpr std::uint64_t plus(std::uint64_t a, std::uint64_t b) noexcept {
  return a + b < a ? ~std::uint64_t{0} : a + b;
}

}  // namespace detail

/// Names a model or text by its bytes; not for keeping secrets. Four lanes of mix() take 8 bytes each in turn, so that
/// their multiplications overlap; the length goes in last. The same on every machine; part of the reports' format.
inline std::uint64_t hash_bytes(std::span<const std::byte> bytes) noexcept {
  std::array<std::uint64_t, 4> lane = {1, 2, 3, 4};
  std::size_t at = 0;
  for (; bytes.size() - at >= 32; at += 32)
    for (std::size_t i = 0; i < 4; ++i) lane[i] = mix(lane[i] ^ load_at<std::uint64_t>(bytes, at + 8 * i));
  for (std::size_t i = 0; at < bytes.size(); ++i) {
    std::uint64_t word = 0;
    const std::size_t n = std::min<std::size_t>(8, bytes.size() - at);
    std::memcpy(&word, bytes.data() + at, n);
    lane[i] = mix(lane[i] ^ word);
    at += n;
  }
  std::uint64_t h = mix(bytes.size());
  for (std::uint64_t x : lane) h = mix(h ^ x);
  return h;
}
/// Sixteen digits.
inline std::string hash_text(std::uint64_t hash) {
  std::string text(16, '0');
  for (auto digit = text.rbegin(); digit != text.rend(); ++digit, hash >>= 4) *digit = "0123456789abcdef"[hash & 15];
  return text;
}

namespace detail {

/// Closes when it goes.
class open_file {
 public:
  explicit open_file(std::FILE* file) noexcept : file_(file) {}
  open_file(const open_file&) = delete;
  open_file& operator=(const open_file&) = delete;
  ~open_file() { close(); }
  std::FILE* get() const noexcept { return file_; }
  bool close() noexcept { return file_ == nullptr || std::fclose(std::exchange(file_, nullptr)) == 0; }

 private:
  std::FILE* file_;
};

struct unmap {
  std::size_t size = 0;
  void operator()([[maybe_unused]] const std::byte* p) const noexcept {
#if MULTISTATE_IO_POSIX
    ::munmap(const_cast<std::byte*>(p), size);
#endif
  }
};

}  // namespace detail

/// A regular file's bytes, read only: mapped where the system can, else read. A file must not be shortened in place
/// while it is open here (write_file never does).
class file_bytes {
 public:
  /// Errors: no such file, not a regular file, longer than `most` bytes.
  static result<file_bytes> open(const std::filesystem::path& path,
                                 std::uint64_t most = std::numeric_limits<std::uint64_t>::max());

  std::span<const std::byte> bytes() const noexcept { return {mapped_ ? mapped_.get() : copy_.data(), size_}; }
  std::size_t size() const noexcept { return size_; }
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
  std::unique_ptr<const std::byte, detail::unmap> mapped_;
  std::vector<std::byte> copy_;
  std::size_t size_ = 0;
};

inline result<file_bytes> file_bytes::open(const std::filesystem::path& path, std::uint64_t most) {
  file_bytes f;
  f.path_ = path;
  std::error_code code;
  // Looked at by name first, since opening a pipe would wait for its writer.
  const auto kind = std::filesystem::status(path, code).type();
  if (kind == std::filesystem::file_type::not_found) return detail::file_error(path, "there is no such file");
  if (kind == std::filesystem::file_type::directory) return detail::file_error(path, "is a directory, must be a file");
  if (kind == std::filesystem::file_type::none) return detail::system_error(path, "cannot be looked at", code.value());
  if (kind != std::filesystem::file_type::regular) return detail::file_error(path, "is not a regular file");
  detail::open_file file(std::fopen(path.string().c_str(), "rb"));
  if (file.get() == nullptr) return detail::system_error(path, "cannot be opened", errno);
  std::uint64_t size = 0;
#if MULTISTATE_IO_POSIX
  struct stat status {};
  if (::fstat(::fileno(file.get()), &status) != 0) return detail::system_error(path, "cannot be looked at", errno);
  if (!S_ISREG(status.st_mode)) return detail::file_error(path, "is not a regular file");
  size = static_cast<std::uint64_t>(status.st_size);
#else
  size = std::filesystem::file_size(path, code);
  if (code) return detail::system_error(path, "cannot be looked at", code.value());
#endif
  if (size > most) return detail::file_error(path, "has ", size, " bytes, must be at most ", most);
  if (size > std::numeric_limits<std::size_t>::max() / 2)
    return detail::file_error(path, "is too long for this machine");
  f.size_ = size;
  if (f.size_ == 0) return f;
#if MULTISTATE_IO_POSIX
  void* p = ::mmap(nullptr, f.size_, PROT_READ, MAP_PRIVATE, ::fileno(file.get()), 0);
  if (p != MAP_FAILED) {
    f.mapped_ = {static_cast<const std::byte*>(p), detail::unmap{f.size_}};
    return f;
  }
#endif
  f.copy_.resize(f.size_);
  const std::size_t got = std::fread(f.copy_.data(), 1, f.size_, file.get());
  if (got != f.size_) return detail::file_error(path, "ended after ", got, " of ", f.size_, " bytes");
  return f;
}

}  // namespace multistate
