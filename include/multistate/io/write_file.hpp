#pragma once

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include <multistate/io/file.hpp>

#if !MULTISTATE_IO_POSIX
#include <fstream>
#endif

namespace multistate {
namespace detail {

/// A name that no other call has: this machine's processes and the calls of one differ.
inline std::string passing_name() {
  static std::atomic<std::uint64_t> count = 0;
  std::uint64_t seed = count++;
#if MULTISTATE_IO_POSIX
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  seed = mix(seed ^ mix(static_cast<std::uint64_t>(now.tv_nsec) ^ mix(static_cast<std::uint64_t>(::getpid()))));
#endif
  return ".multistate-" + hash_text(seed) + ".tmp";  // short, whatever the file's own name is
}

#if MULTISTATE_IO_POSIX

/// A file descriptor; closed when it goes.
class descriptor {
 public:
  descriptor() = default;
  explicit descriptor(int fd) noexcept : fd_(fd) {}
  descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    close();
    fd_ = std::exchange(other.fd_, -1);
    return *this;
  }
  ~descriptor() { close(); }
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  bool close() noexcept { return fd_ < 0 || ::close(std::exchange(fd_, -1)) == 0; }

 private:
  int fd_ = -1;
};

/// All bytes; false: errno says why not.
inline bool write_all(int fd, std::span<const std::byte> bytes) noexcept {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return true;
}
/// To disk. True too where a file system has nothing to do for it.
inline bool flush_to_disk(int fd) noexcept { return ::fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP; }
/// So that a new name outlives a power cut; where that can't be had, it can't.
inline void flush_folder(const std::filesystem::path& folder) noexcept {
  const descriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd) flush_to_disk(fd.get());
}
inline std::filesystem::path folder_of(const std::filesystem::path& file) {
  return file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
}

/// Where something written under a name ends up.
struct write_target {
  std::filesystem::path file;  ///< the name itself, or where its links lead
  bool there = false;
  bool stream = false;  ///< a device, a pipe, an open descriptor: written as it is, not replaced
  struct stat status {};
};

/// Errors: a folder, a socket, a disk; links in a ring; a name that leads nowhere.
inline result<write_target> find_target(const std::filesystem::path& path) {
  write_target to{.file = path};
  if (!path.has_filename()) return file_error(path, "cannot be written: names no file");
  if (::stat(path.c_str(), &to.status) == 0) {
    if (S_ISDIR(to.status.st_mode)) return file_error(path, "cannot be written: is a directory, not a regular file");
    if (S_ISSOCK(to.status.st_mode) || S_ISBLK(to.status.st_mode))
      return file_error(path, "cannot be written: is there already and is not a regular file");
    const std::string& text = path.native();
    to.there = true;
    to.stream = !S_ISREG(to.status.st_mode) || text.starts_with("/dev/fd/") || text.starts_with("/dev/std") ||
                text.starts_with("/proc/");
    if (to.stream) return to;
  } else if (errno != ENOENT) {
    return system_error(path, "cannot be written", errno);
  }
  constexpr int most_links = 40;
  for (int links = 0; links < most_links; ++links) {
    std::error_code none;
    const auto next = std::filesystem::read_symlink(to.file, none);
    if (none) return to;
    to.file = next.is_absolute() ? next : to.file.parent_path() / next;
  }
  return file_error(path, "cannot be written: its links go in a ring");
}

#endif

}  // namespace detail

/// Whether write_file could write there, as far as can be told without doing it. Nothing is made or changed.
inline error can_write_file(const std::filesystem::path& path) {
#if MULTISTATE_IO_POSIX
  const auto to = detail::find_target(path);
  if (!to) return to.reason();
  if (to->there && ::access(to->file.c_str(), W_OK) != 0) return detail::system_error(path, "cannot be written", errno);
  if (to->stream) return {};
  const auto folder = detail::folder_of(to->file);
  struct stat status {};
  if (::stat(folder.c_str(), &status) != 0 || ::access(folder.c_str(), W_OK | X_OK) != 0)
    return detail::system_error(path, "cannot be written: its folder", errno);
  if (!S_ISDIR(status.st_mode)) return detail::system_error(path, "cannot be written: its folder", ENOTDIR);
#else
  static_cast<void>(path);
#endif
  return {};
}

/// Writes the parts one after another, whole or not at all: to a file without a name, or with one of its own, in the
/// same folder, which takes the name when it is on disk. A link stays one, its target is written; a file that was there
/// hands on its rights, and owner and group as far as this process may give them. Devices and pipes are written as
/// they are. Returns the number of bytes. Errors: the folder cannot be written, `path` is a folder or a disk.
inline result<std::uint64_t> write_file(const std::filesystem::path& path,
                                        std::span<const std::span<const std::byte>> parts) {
  std::uint64_t total = 0;
  for (const auto part : parts) total += part.size();
#if MULTISTATE_IO_POSIX
  const auto found = detail::find_target(path);
  if (!found) return found.reason();
  const detail::write_target& to = *found;
  if (to.stream) {
    const int emptied = S_ISREG(to.status.st_mode) ? O_TRUNC : 0;
    detail::descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY | emptied));
    if (!file) return detail::system_error(path, "cannot be written", errno);
    for (const auto part : parts)
      if (!detail::write_all(file.get(), part)) return detail::system_error(path, "cannot be written", errno);
    if (!file.close()) return detail::system_error(path, "cannot be written", errno);
    return total;
  }
  const auto folder = detail::folder_of(to.file);
  const mode_t mode = to.there ? 0600 : 0666;
  std::filesystem::path name;  // empty: the file has none yet
  detail::descriptor file;
#if defined(O_TMPFILE)
  if (::access("/proc/self/fd", X_OK) == 0)
    file = detail::descriptor(::open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, mode));
#endif
  constexpr int tries = 100;
  for (int i = 0; i < tries && !file; ++i) {
    name = folder / detail::passing_name();
    file = detail::descriptor(::open(name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, mode));
    if (!file && errno != EEXIST) break;
  }
  if (!file) return detail::system_error(path, "cannot be written", errno);
  const auto fail = [&] {
    const int why = errno;
    if (!name.empty()) ::unlink(name.c_str());
    return detail::system_error(path, "cannot be written", why);
  };
  for (const auto part : parts)
    if (!detail::write_all(file.get(), part)) return fail();
  if (to.there) {
    // Rights come last: whoever owns it now must not run or read it with those of another.
    const bool owned = ::fchown(file.get(), to.status.st_uid, to.status.st_gid) == 0 ||
                       ::fchown(file.get(), static_cast<uid_t>(-1), to.status.st_gid) == 0;
    if (::fchmod(file.get(), to.status.st_mode & (owned ? 0777u : 0707u)) != 0) return fail();
  }
  if (!detail::flush_to_disk(file.get())) return fail();
  for (int i = 0; i < tries && name.empty(); ++i) {
    const auto passing = folder / detail::passing_name();
    const std::string nameless = "/proc/self/fd/" + std::to_string(file.get());
    if (::linkat(AT_FDCWD, nameless.c_str(), AT_FDCWD, passing.c_str(), AT_SYMLINK_FOLLOW) == 0)
      name = passing;
    else if (errno != EEXIST)
      return fail();
  }
  if (name.empty() || !file.close() || ::rename(name.c_str(), to.file.c_str()) != 0) return fail();
  detail::flush_folder(folder);
#else
  const std::filesystem::path name = path.parent_path() / detail::passing_name();
  std::error_code code;
  std::ofstream file(name, std::ios::binary);
  for (const auto part : parts)
    file.write(reinterpret_cast<const char*>(part.data()), static_cast<std::streamsize>(part.size()));
  file.close();
  if (file) std::filesystem::rename(name, path, code);
  if (!file || code) {
    std::filesystem::remove(name, code);
    return detail::file_error(path, "cannot be written");
  }
#endif
  return total;
}
inline result<std::uint64_t> write_file(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  const std::array parts = {bytes};
  return write_file(path, parts);
}

}  // namespace multistate
