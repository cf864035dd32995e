#pragma once

// Names that C and system headers define as macros: <complex.h>, <termios.h>, <windows.h>, <sys/sysmacros.h>. Ours must
// not use them. The standard headers come first, since they have a right to some of these names.
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <limits>
#include <memory>
#include <new>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#define B0 poisoned by termios.h
#define I poisoned by complex.h
#define OUT poisoned by windows.h
#define IN poisoned by windows.h
#define far poisoned by windows.h
#define interface poisoned by windows.h
#define major poisoned by sysmacros.h
#define max(a, b) poisoned by windows.h
#define min(a, b) poisoned by windows.h
#define minor poisoned by sysmacros.h
#define near poisoned by windows.h
#define small poisoned by windows.h
