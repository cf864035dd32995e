#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace multistate {

struct share_interval {
  double low = 0, high = 1;
};

/// 95 % interval of a share of which `right` of `asked` were seen (Wilson 1927); [0, 1] when nothing was asked.
inline share_interval wilson(std::int64_t right, std::int64_t asked) noexcept {
  if (asked <= 0) return {};
  constexpr double z = 1.959963984540054;
  const auto n = static_cast<double>(asked);
  const double share = static_cast<double>(right) / n, wide = z * z / n;
  const double middle = (share + wide / 2) / (1 + wide);
  const double half = z / (1 + wide) * std::sqrt(share * (1 - share) / n + wide / (4 * n));
  return {right == 0 ? 0.0 : std::max(0.0, middle - half), right == asked ? 1.0 : std::min(1.0, middle + half)};
}

}  // namespace multistate
