// Preloaded: the call that FAIL names fails, the n-th of its kind: FAIL=write:3. Reading counts as well as writing.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

bool fails(const char* call) {
  static int left = -1;
  const char* message = std::getenv("FAIL");
  if (message == nullptr) return false;
  const std::size_t n = std::strlen(call);
  if (std::strncmp(message, call, n) != 0 || message[n] != ':') return false;
  if (left < 0) left = std::atoi(message + n + 1);
  if (left == 0) return false;
  if (--left > 0) return false;
  errno = std::strcmp(call, "open") == 0 ? EACCES : std::strcmp(call, "write") == 0 ? ENOSPC : EIO;
  std::FILE* log = nullptr;
  if (const char* path = std::getenv("FAILED")) {  // the call was there to fail
    const auto real = reinterpret_cast<std::FILE* (*)(const char*, const char*)>(dlsym(RTLD_NEXT, "fopen"));
    const int why = errno;
    log = real(path, "w");
    if (log != nullptr) std::fclose(log);
    errno = why;
  }
  return true;
}

/// With NO_TMPFILE: as a file system that has no files without a name.
bool refuses_nameless(int flags) {
  if (std::getenv("NO_TMPFILE") == nullptr || (flags & O_TMPFILE) != O_TMPFILE) return false;
  errno = EOPNOTSUPP;
  return true;
}

template <class F>
F real(F, const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

}  // namespace

#define NEXT(name) real(&name, #name)

extern "C" {

int open(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const int mode = va_arg(more, int);
  va_end(more);
  return refuses_nameless(flags) || fails("open") ? -1 : NEXT(open)(path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const int mode = va_arg(more, int);
  va_end(more);
  return refuses_nameless(flags) || fails("open") ? -1 : NEXT(open64)(path, flags, mode);
}
std::FILE* fopen(const char* path, const char* mode) { return fails("open") ? nullptr : NEXT(fopen)(path, mode); }
std::FILE* fopen64(const char* path, const char* mode) { return fails("open") ? nullptr : NEXT(fopen64)(path, mode); }
ssize_t write(int fd, const void* bytes, size_t n) {
  return fd != 2 && fails("write") ? -1 : NEXT(write)(fd, bytes, n);
}
int fsync(int fd) { return fails("fsync") ? -1 : NEXT(fsync)(fd); }
int rename(const char* from, const char* to) noexcept { return fails("rename") ? -1 : NEXT(rename)(from, to); }
int linkat(int from, const char* name, int to, const char* as, int flags) noexcept {
  return fails("linkat") ? -1 : NEXT(linkat)(from, name, to, as, flags);
}
int fchmod(int fd, mode_t mode) noexcept { return fails("fchmod") ? -1 : NEXT(fchmod)(fd, mode); }
int ftruncate64(int fd, off64_t size) noexcept { return fails("ftruncate") ? -1 : NEXT(ftruncate64)(fd, size); }
int ftruncate(int fd, off_t size) noexcept { return fails("ftruncate") ? -1 : NEXT(ftruncate)(fd, size); }
}
