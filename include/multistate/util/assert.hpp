#pragma once

// Preconditions of hot paths: checked in Debug, and in any build that defines MULTISTATE_HARDENED.
// A failure says which and where on standard error, and ends the program. Define MULTISTATE_ASSERT(condition) before
// the first include to route failures elsewhere.
#if !defined(MULTISTATE_ASSERT)
#if !defined(NDEBUG) || defined(MULTISTATE_HARDENED)
#include <cstdio>

namespace multistate::detail {
[[noreturn]] inline void assertion_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "%s:%d: multistate: needs %s\n", file, line, condition);
  __builtin_trap();
}
}  // namespace multistate::detail

#define MULTISTATE_ASSERT(condition) \
  ((condition) ? void(0) : multistate::detail::assertion_failed(#condition, __FILE__, __LINE__))
#else
#define MULTISTATE_ASSERT(condition) void(0)
#endif
#endif
