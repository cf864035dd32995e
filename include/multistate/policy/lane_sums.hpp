#pragma once

#include <cstddef>
#include <span>

namespace multistate::detail {

// Sums among a lane's numbers that stay exact over long texts: the second half of the numbers holds what floats of the
// first could not.

inline void add_to_sum(std::span<float> numbers, std::size_t at, double more) noexcept {
  float &whole = numbers[at], &rest = numbers[numbers.size() / 2 + at];
  const double total = double{whole} + double{rest} + more;
  whole = static_cast<float>(total);
  rest = static_cast<float>(total - double{whole});
}
inline double sum_at(std::span<const float> numbers, std::size_t at) noexcept {
  return double{numbers[at]} + double{numbers[numbers.size() / 2 + at]};
}

}  // namespace multistate::detail
