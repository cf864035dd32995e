#pragma once

#include <cmath>
#include <span>

#include <multistate/types/ids.hpp>

namespace multistate {

/// PyramidKV (Cai et al. 2024, arXiv 2406.02069; kvpress PyramidKVPress at 8bb29b9): the budgets of `budgets.size()`
/// layers, in states, for a mean of `budget` and a prompt of `tokens`. They fall in a straight line from the first
/// layer to the last, which gets budget / 20; no layer gets more than the tokens before the `window` newest ones. Where
/// that does not work out, each layer gets `budget`. `exact`, where it is not empty: the same before rounding half to
/// even.
inline void pyramid_budgets(int tokens, int budget, int window, std::span<int> budgets, double beta = 20,
                            std::span<double> exact = {}) noexcept {
  const double k = budget, most = double{1} * tokens - window;
  double low = k / beta, high = 2 * k - low;
  if (high >= most) {
    high = most;
    low = 2 * k - high;
  }
  const bool sloped = tokens >= high && high >= low && low >= window && budgets.size() > 1;
  for (std::size_t l = 0; l < budgets.size(); ++l) {
    const double step = sloped ? (high - low) / static_cast<double>(budgets.size() - 1) : 0;
    const double share = sloped ? high - static_cast<double>(l) * step : k;
    budgets[l] = static_cast<int>(std::nearbyint(share));  // half to even
    if (!exact.empty()) exact[l] = share;
  }
}

}  // namespace multistate
