#pragma once

#include <cstddef>

namespace support {

/// How often operator new was called so far; the program links one file that includes replace_new.hpp.
std::size_t allocations() noexcept;

}  // namespace support
