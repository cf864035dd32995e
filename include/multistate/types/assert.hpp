#pragma once

// Preconditions of hot paths: checked in Debug, and in any build that defines MULTISTATE_HARDENED.
// Define MULTISTATE_ASSERT(condition) before the first include to route failures elsewhere.
#if !defined(MULTISTATE_ASSERT)
#if !defined(NDEBUG) || defined(MULTISTATE_HARDENED)
#define MULTISTATE_ASSERT(condition) ((condition) ? void(0) : __builtin_trap())
#else
#define MULTISTATE_ASSERT(condition) void(0)
#endif
#endif
