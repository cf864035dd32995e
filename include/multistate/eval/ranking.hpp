#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <multistate/eval/compare.hpp>
#include <multistate/eval/sample.hpp>
#include <multistate/eval/statistics.hpp>

namespace multistate {

/// Two rows of one budget: a minus b, nats per token.
struct row_pair {
  int budget = 0;
  std::size_t a = 0, b = 0;  ///< rows
  double difference = 0;
  // None where there are too few windows to tell.
  std::optional<interval> spread = {};  ///< 95 %, paired
  std::optional<double> p = {};         ///< two-sided
  std::optional<double> p_holm = {};    ///< corrected for the pairs of the budget
};

/// How sure a comparison is.
struct ranking {
  static constexpr std::size_t least_windows = 30;  ///< fewer are no ranking: intervals, but no letters
  bootstrap_settings how;
  std::size_t block_windows = 0;
  std::size_t blocks = 0;   ///< to draw from; below block_bootstrap::least_blocks there are neither intervals nor p
  bool over_texts = false;  ///< else the intervals speak of these texts only
  std::vector<row_pair> pairs;
};

namespace detail {

/// Letters of the rows of one budget, best first.
inline void give_letters(std::span<policy_run> rows, std::vector<std::size_t> group, std::span<const row_pair> pairs) {
  constexpr double level = 0.05;
  std::stable_sort(group.begin(), group.end(), [&](std::size_t a, std::size_t b) {
    return rows[a].measured->nll_minus_full < rows[b].measured->nll_minus_full;
  });
  const auto letters = compact_letters(group.size(), [&](std::size_t i, std::size_t j) {
    for (const row_pair& p : pairs)
      if ((p.a == group[i] && p.b == group[j]) || (p.a == group[j] && p.b == group[i]))
        return p.p_holm.value_or(1) < level;
    return false;
  });
  for (std::size_t i = 0; i < letters.size(); ++i) rows[group[i]].measured->letter = letters[i];
}

}  // namespace detail

/// Fills in the rows' intervals, gaps and letters, and compares all rows of each budget pairwise; a budget that holds
/// the longest window, read `chunk` tokens at a time, has forgotten nothing and is left out. Precondition: rows as
/// compare() leaves them after `windows` windows, those of a budget beside each other.
inline ranking rank_rows(std::span<policy_run> rows, const text_sample& sample, std::size_t windows,
                         const bootstrap_settings& how = {}, int chunk = 1) {
  ranking out;
  out.how = how;
  bootstrap_windows drawn;
  for (const text_window& w : sample.windows().first(windows)) {
    drawn.text.push_back(w.text);
    drawn.weight.push_back(w.scored());
  }
  const block_bootstrap boot(drawn, how);
  out.block_windows = boot.block();
  out.over_texts = boot.over_texts();
  out.blocks = boot.blocks();

  const int forgettable = detail::most_forgotten(sample, chunk);
  std::vector<std::size_t> measured;
  std::vector<std::vector<double>> series;
  for (std::size_t r = 0; r < rows.size(); ++r)
    if (rows[r].budget && *rows[r].budget < forgettable && rows[r].measured) {
      measured.push_back(r);
      series.push_back(rows[r].measured->window_differences);
    }
  const auto means = boot.means(series);
  for (std::size_t i = 0; i < measured.size(); ++i) rows[measured[i]].measured->spread = interval_of(boot, means[i]);

  for (std::size_t from = 0, to = 0; from < measured.size(); from = to) {
    const std::optional<int> budget = rows[measured[from]].budget;
    while (to < measured.size() && rows[measured[to]].budget == budget) ++to;
    const std::vector<std::size_t> group(measured.begin() + static_cast<std::ptrdiff_t>(from),
                                         measured.begin() + static_cast<std::ptrdiff_t>(to));
    const std::size_t first_pair = out.pairs.size();
    std::vector<double> p;
    for (std::size_t i = from; i < to; ++i)
      for (std::size_t j = i + 1; j < to; ++j) {
        std::vector<double> difference(means[i].size());
        for (std::size_t n = 0; n < difference.size(); ++n) difference[n] = means[i][n] - means[j][n];
        if (boot.tells()) p.push_back(bootstrap_p(difference));
        const figures &a = *rows[measured[i]].measured, &b = *rows[measured[j]].measured;
        out.pairs.push_back({.budget = *budget,
                             .a = measured[i],
                             .b = measured[j],
                             .difference = a.nll_minus_full - b.nll_minus_full,
                             .spread = interval_of(boot, std::move(difference)),
                             .p = boot.tells() ? std::optional(p.back()) : std::nullopt});
      }
    const auto corrected = holm(p);
    for (std::size_t i = 0; i < corrected.size(); ++i) out.pairs[first_pair + i].p_holm = corrected[i];

    const auto current = std::span(out.pairs).subspan(first_pair);
    if (windows >= ranking::least_windows && boot.tells()) detail::give_letters(rows, group, current);

    // How much of what random loses a policy does not lose; nothing where random loses nothing that could be told.
    for (const std::size_t random : group) {
      const figures& lost = *rows[random].measured;
      if (!rows[random].drawn || !lost.spread || !(lost.spread->low > 0)) continue;
      for (const std::size_t r : group)
        rows[r].measured->gap_closed = (lost.nll - rows[r].measured->nll) / lost.nll_minus_full;
    }
  }
  return out;
}

}  // namespace multistate
