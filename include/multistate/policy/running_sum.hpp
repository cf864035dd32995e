#pragma once

#include <cstddef>
#include <span>

namespace multistate::detail {

/// sum [n], together with the rest [n] that it could not hold, += row [n]: 3e5 + 0.01 must not stay 3e5.
inline void accumulate(std::span<float> sum, std::span<float> rest, std::span<const float> row) noexcept {
  const auto all = [](float* __restrict whole, float* __restrict part, const float* __restrict more, std::size_t n) {
    const auto add = [](float& w, float& p, float weight) {
      const double total = double{w} + double{p} + double{weight};
      w = static_cast<float>(total);
      p = static_cast<float>(total - double{w});
    };
    constexpr std::size_t block = 32;  // a form that g++ makes vectors of at -O2, too
    std::size_t at = 0;
    for (; at + block <= n; at += block)
      for (std::size_t j = 0; j < block; ++j) add(whole[at + j], part[at + j], more[at + j]);
    for (; at < n; ++at) add(whole[at], part[at], more[at]);
  };
  all(sum.data(), rest.data(), row.data(), row.size());
}

/// Both times `by`.
inline void fade(std::span<float> sum, std::span<float> rest, double by) noexcept {
  for (std::size_t s = 0; s < sum.size(); ++s) {
    const double total = (double{sum[s]} + double{rest[s]}) * by;
    sum[s] = static_cast<float>(total);
    rest[s] = static_cast<float>(total - double{sum[s]});
  }
}

}  // namespace multistate::detail
