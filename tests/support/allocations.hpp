#pragma once

#include <cstddef>

namespace support {

/// How often operator new was called so far; the program links one file that includes replace_new.hpp.
std::size_t allocations() noexcept;

/// Makes the n-th call from now on fail, once; 0: none. Returns how many calls were left to come, 0 when one has
/// failed.
std::size_t fail_allocation(std::size_t n) noexcept;

}  // namespace support
