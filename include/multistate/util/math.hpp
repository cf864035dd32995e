#pragma once

// What deciding needs of <cmath>, whose other functions take an eighth of the time in which policies.hpp compiles.

namespace multistate::detail {

inline double square_root(double x) noexcept { return __builtin_sqrt(x); }

/// The nearest whole number, of two the even one.
inline double nearest(double x) noexcept { return __builtin_nearbyint(x); }

}  // namespace multistate::detail
