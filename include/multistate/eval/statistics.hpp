#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <multistate/util/hash.hpp>

namespace multistate {

struct interval {
  double low = 0, high = 0;
  bool contains(double x) const noexcept { return low <= x && x <= high; }
};

/// Two-sided 95 %.
inline constexpr double normal_quantile_95 = 1.959963984540054;

/// Wilson's interval of a share (1927): fits in [0, 1] and is no point at 0 or all. Of no trials: [0, 1].
inline interval wilson(std::int64_t successes, std::int64_t trials, double z = normal_quantile_95) noexcept {
  if (trials <= 0) return {0, 1};
  const auto n = static_cast<double>(trials);
  const double share = static_cast<double>(successes) / n, z2 = z * z;
  const double middle = (share + z2 / (2 * n)) / (1 + z2 / n);
  const double half = z / (1 + z2 / n) * std::sqrt(share * (1 - share) / n + z2 / (4 * n * n));
  return {successes == 0 ? 0.0 : middle - half, successes == trials ? 1.0 : middle + half};
}

/// What a bootstrap draws from: windows in the order of their texts.
struct bootstrap_windows {
  std::vector<std::size_t> text;  ///< of each window; windows of a text are neighbours
  std::vector<double> weight;     ///< of each window: its scored tokens
};

struct bootstrap_settings {
  int resamples = 10000;
  std::uint64_t seed = 1;
  int block =
      8;  ///< neighbouring windows that are drawn together; fewer in a text that has fewer than four such blocks
};

/// Block bootstrap over windows (circular blocks: each window is equally likely). With five texts or more texts are
/// drawn, then blocks inside each; with fewer every text stays and blocks alone are drawn, so that a figure speaks of
/// these texts only. Resample r draws the same windows for every series: differences of series are paired.
class block_bootstrap {
 public:
  static constexpr std::size_t enough_texts = 5;
  /// Of three blocks each is drawn three times in a row more often than in 2.5 % of the resamples: no 95 % interval can
  /// end inside. Four is the least, and rough.
  static constexpr std::size_t least_blocks = 4;

  block_bootstrap(const bootstrap_windows& windows, const bootstrap_settings& how) : windows_(windows), how_(how) {
    for (std::size_t w = 0; w < windows.text.size(); ++w) {
      if (w == 0 || windows.text[w] != windows.text[w - 1]) texts_.push_back({w, 0});
      ++texts_.back().second;
    }
    for (const auto& [first, count] : texts_) block_ = std::max(block_, block_of(count));
  }

  bool over_texts() const noexcept { return texts_.size() >= enough_texts; }
  /// What can be drawn independently: texts, or one more than the blocks that a text of several may exchange.
  std::size_t blocks() const noexcept {
    if (over_texts()) return texts_.size();
    std::size_t free = 1;
    for (const auto& [first, count] : texts_) free += (count + block_of(count) - 1) / block_of(count) - 1;
    return free;
  }
  /// Whether there is enough to draw from for intervals and p-values.
  bool tells() const noexcept { return blocks() >= least_blocks; }
  /// Windows of the longest block.
  std::size_t block() const noexcept { return block_; }
  const bootstrap_settings& how() const noexcept { return how_; }

  /// Weighted means of each series (one value a window) in each resample: [series][resamples].
  std::vector<std::vector<double>> means(std::span<const std::vector<double>> series) const {
    const auto resamples = static_cast<std::size_t>(how_.resamples);
    std::vector<std::vector<double>> out(series.size(), std::vector<double>(resamples));
    std::vector<double> weight(windows_.text.size());
    for (std::size_t r = 0; r < resamples; ++r) {
      draw(r, weight);
      double all = 0;
      for (const double x : weight) all += x;
      for (std::size_t s = 0; s < series.size(); ++s) {
        double sum = 0;
        for (std::size_t w = 0; w < weight.size(); ++w) sum += weight[w] * series[s][w];
        out[s][r] = all > 0 ? sum / all : 0.0;
      }
    }
    return out;
  }

 private:
  /// The seed's stream for one resample: a counter, mixed.
  struct stream {
    std::uint64_t base, drawn = 0;
    std::size_t below(std::size_t n) noexcept {  // n < 2^32
      const std::uint64_t high = mix(base ^ mix(drawn++)) >> 32;
      return high * n >> 32;
    }
  };
  std::size_t block_of(std::size_t count) const noexcept {
    return std::clamp<std::size_t>(count / 4, 1, static_cast<std::size_t>(how_.block));
  }
  /// Weights of the windows times how often each was drawn.
  void draw(std::size_t resample, std::span<double> weight) const noexcept {
    std::fill(weight.begin(), weight.end(), 0.0);
    stream random{mix(mix(how_.seed) ^ resample)};
    for (std::size_t t = 0; t < texts_.size(); ++t) {
      const auto [first, count] = texts_[over_texts() ? random.below(texts_.size()) : t];
      const std::size_t block = block_of(count);
      for (std::size_t taken = 0; taken < count;) {
        const std::size_t start = random.below(count);
        for (std::size_t i = 0; i < block && taken < count; ++i, ++taken) {
          const std::size_t w = first + (start + i) % count;
          weight[w] += windows_.weight[w];
        }
      }
    }
  }

  bootstrap_windows windows_;
  bootstrap_settings how_;
  std::vector<std::pair<std::size_t, std::size_t>> texts_;  ///< first window, windows
  std::size_t block_ = 1;
};

/// Interpolated between neighbours, as NumPy does; reorders the values. Precondition: there is one.
template <class T>
double quantile(std::vector<T>& values, double share) noexcept {
  const double place = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(below);
  std::nth_element(values.begin(), at, values.end());
  const double low = double{*at};
  if (below + 1 == values.size()) return low;
  const double high = double{*std::min_element(at + 1, values.end())};
  return low + (high - low) * (place - static_cast<double>(below));
}

/// From the 2.5th to the 97.5th percentile. Precondition: there are some.
inline interval percentile_interval(std::vector<double> values) noexcept {
  return {quantile(values, 0.025), quantile(values, 0.975)};
}

/// The same of what a bootstrap gave; none where it had too little to draw from, or nothing differed.
inline std::optional<interval> interval_of(const block_bootstrap& boot, std::vector<double> values) noexcept {
  if (!boot.tells()) return std::nullopt;
  const interval spread = percentile_interval(std::move(values));
  return spread.low < spread.high ? std::optional(spread) : std::nullopt;
}

/// Two-sided, of resampled differences: the level at which the percentile interval no longer reaches zero; never 0,
/// since more resamples could.
inline double bootstrap_p(std::span<const double> differences) noexcept {
  std::size_t low = 1, high = 1;
  for (const double d : differences) {
    low += d <= 0 ? 1 : 0;
    high += d >= 0 ? 1 : 0;
  }
  return std::min(1.0, 2 * static_cast<double>(std::min(low, high)) / static_cast<double>(differences.size() + 1));
}

/// Holm's correction (1979) of p-values that were asked together, in their order.
inline std::vector<double> holm(std::span<const double> p) {
  std::vector<std::size_t> order(p.size());
  for (std::size_t i = 0; i < p.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] < p[b]; });
  std::vector<double> out(p.size());
  double most = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    most = std::max(most, std::min(1.0, p[order[i]] * static_cast<double>(p.size() - i)));
    out[order[i]] = most;
  }
  return out;
}

/// Compact letters (Piepho 2004): two rows share a letter exactly when they can't be told apart. `differs(i, j)` for
/// i < j. Rows in the order that letters shall have, the best first. Empty where more than 52 letters would be needed.
template <class Differs>
std::vector<std::string> compact_letters(std::size_t rows, const Differs& differs) {
  constexpr std::size_t most = 52;
  std::vector<std::vector<bool>> sets(rows > 0 ? 1 : 0, std::vector<bool>(rows, true));
  const auto inside = [rows](const std::vector<bool>& a, const std::vector<bool>& b) {
    for (std::size_t i = 0; i < rows; ++i)
      if (a[i] && !b[i]) return false;
    return true;
  };
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = i + 1; j < rows; ++j) {
      if (!differs(i, j)) continue;
      std::vector<std::vector<bool>> next;
      for (const auto& set : sets) {
        if (!(set[i] && set[j])) {
          next.push_back(set);
          continue;
        }
        for (const std::size_t out : {i, j}) {
          next.push_back(set);
          next.back()[out] = false;
        }
      }
      sets.clear();
      for (std::size_t a = 0; a < next.size(); ++a) {
        bool absorbed = false;
        for (std::size_t b = 0; b < next.size() && !absorbed; ++b)
          absorbed = a != b && inside(next[a], next[b]) && (next[a] != next[b] || b < a);
        if (!absorbed) sets.push_back(next[a]);
      }
      if (sets.size() > 4 * most) return {};
    }
  if (sets.size() > most) return {};
  std::sort(sets.begin(), sets.end(), std::greater<>());  // by their first member
  std::vector<std::string> letters(rows);
  for (std::size_t s = 0; s < sets.size(); ++s)
    for (std::size_t i = 0; i < rows; ++i)
      if (sets[s][i]) letters[i] += static_cast<char>(s < 26 ? 'a' + s : 'A' + (s - 26));
  return letters;
}

}  // namespace multistate
