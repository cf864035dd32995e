#pragma once

#include <cstddef>

namespace multistate::detail {

/// Floats of the widest vector that is used, on every target.
inline constexpr std::size_t widest_vector = 16;

}  // namespace multistate::detail
