#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace support {

/// The largest difference; NaN is larger than all.
template <class A, class B>
double furthest(const std::vector<A>& a, const std::vector<B>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double off = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(off <= most)) most = off;
  }
  return most;
}

}  // namespace support
