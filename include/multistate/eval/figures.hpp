#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <array>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <multistate/eval/lives.hpp>
#include <multistate/eval/statistics.hpp>
#include <multistate/util/finite.hpp>

namespace multistate {

/// A logit's ln softmax is (logit - top) - norm, in double.
struct softmax_scale {
  double top = -HUGE_VAL, norm = 0;
  double log_of(float logit) const noexcept { return (double{logit} - top) - norm; }
};
/// False when a logit is not finite.
inline bool find_scale(std::span<const float> logits, softmax_scale& out) noexcept {
  double top = -HUGE_VAL, sum = 0;
  for (const float x : logits) {
    if (!is_finite(x)) return false;
    top = std::max(top, double{x});
  }
  for (const float x : logits) sum += std::exp(double{x} - top);
  out = {top, std::log(sum)};
  return true;
}

/// ln softmax in double. False when a logit is not finite.
inline bool log_softmax(std::span<const float> logits, std::span<double> out) noexcept {
  softmax_scale scale;
  if (!find_scale(logits, scale)) return false;
  for (std::size_t i = 0; i < logits.size(); ++i) out[i] = scale.log_of(logits[i]);
  return true;
}

/// One element of it. False as above.
inline bool log_probability(std::span<const float> logits, std::size_t which, double& out) noexcept {
  softmax_scale scale;
  if (!find_scale(logits, scale)) return false;
  out = scale.log_of(logits[which]);
  return true;
}

/// KL(full || policy) in nats, of two log softmaxes; rounding can't make it negative.
inline double divergence(std::span<const double> full, std::span<const double> policy) noexcept {
  double sum = 0;
  for (std::size_t i = 0; i < full.size(); ++i) sum += std::exp(full[i]) * (full[i] - policy[i]);
  return std::max(sum, 0.0);
}

/// NLL minus Full's of queries [position, position + 16) of all windows, scored or not: nats per token.
struct position_difference {
  int position = 0;
  std::int64_t count = 0;
  double difference = 0;
};
struct survival_point {
  int age = 0;
  double alive = 0;
};
struct kind_life {
  std::optional<double> life = {};  ///< mean, in queries
  double share = 0;                 ///< base rate: of all tokens but BOS
};

/// What one row of the table says. Absent: not measured.
struct figures {
  double nll = 0;  ///< nats per scored token
  double nll_minus_full = 0;
  double perplexity = 0;
  std::optional<double> bits_per_byte = {};
  std::optional<double> kl_mean = {}, kl_median = {}, kl_p99 = {};  ///< KL(full || policy), nats
  std::optional<double> top1_agreement = {};
  double states_attended_mean = 0;  ///< over scored queries, of one lane
  int states_attended_max = 0;
  /// Queries that see a state, its own included: from the drops, mean over all tokens of a window and all lanes.
  std::optional<double> mean_life = {};
  std::optional<double> kept_mass = {};  ///< share of Full's softmax mass on the states kept, over scored queries
  std::vector<position_difference> by_position = {};
  /// P(a state lives to be seen by the query `age` later), by Kaplan and Meier's estimate: it never rises.
  std::vector<survival_point> survival = {};
  std::optional<std::array<kind_life, character_kinds.size()>> life_by_kind = {};
  // Of eval/ranking.hpp.
  std::optional<interval> spread = {};  ///< 95 %, of nll_minus_full
  std::optional<double> gap_closed = {};
  std::string letter = {};          ///< rows of a budget that share one can't be told apart; empty: not ranked
  std::vector<int> deaths = {};     ///< [layer][lane][query] of the first window, of a row that is traced
  std::size_t bytes_allocated = 0;  ///< all layers of one sequence
  double bytes_live = 0;            ///< keys and values after each step, mean over steps
  std::vector<double> window_differences = {};  ///< NLL minus Full's, nats per scored token, by window
};

/// Collects what one row's sequences do, window by window.
class totals {
 public:
  static constexpr int bin_queries = 16;  ///< whose differences are summed together

  struct sums {
    double nll = 0, difference = 0, kl = 0, attended = 0, bytes = 0;
    std::int64_t agreeing = 0, scored = 0, attending = 0, steps = 0, most = 0;
  };
  struct place_sum {
    double difference = 0;
    std::int64_t count = 0;
  };
  /// Of one window.
  struct window_sums : sums {
    std::vector<float> kls;
    std::vector<place_sum> places;  ///< [bins]
    life_sums lived;
    std::vector<int> deaths;
  };

  /// One scored target.
  void score(double nll, double full_nll, double kl, bool agrees) {
    window_.nll += nll;
    window_.difference += nll - full_nll;
    window_.kl += kl;
    window_.agreeing += agrees ? 1 : 0;
    ++window_.scored;
    window_.kls.push_back(static_cast<float>(kl));
  }
  /// Any query, scored or not.
  void place(int query, double difference) {
    const auto bin = static_cast<std::size_t>(query / bin_queries);
    if (window_.places.size() <= bin) window_.places.resize(bin + 1);
    window_.places[bin].difference += difference;
    ++window_.places[bin].count;
  }
  /// One query of each lane; the mean and the largest of the states they attend.
  void attend(double mean, int largest, bool scored) noexcept {
    if (!scored) return;
    window_.attended += mean;
    ++window_.attending;
    window_.most = std::max<std::int64_t>(window_.most, largest);
  }
  /// One step is over.
  void rest(double bytes) noexcept {
    window_.bytes += bytes;
    ++window_.steps;
  }
  life_sums& lived() noexcept { return window_.lived; }
  std::vector<int>& deaths() noexcept { return window_.deaths; }
  /// The window that goes on.
  const window_sums& window() const noexcept { return window_; }
  void go_on(window_sums window) { window_ = std::move(window); }
  void end_window() {
    windows_.push_back(std::move(window_));
    window_ = {};
  }
  const std::vector<window_sums>& windows() const noexcept { return windows_; }
  /// Adds the windows of another one that has ended them.
  void append(const totals& other) { windows_.insert(windows_.end(), other.windows_.begin(), other.windows_.end()); }

  /// Of `runs` that saw the same windows: seeds of one row. `text_bytes` of the scored targets; 0: unknown.
  /// Without `oracle`, Full can't say what is right, so that there is neither KL nor agreement.
  /// `ages` are those that the lives were summed at.
  static figures sum_up(std::span<const totals> runs, std::int64_t text_bytes, bool oracle,
                        std::span<const int> ages = {}) {
    sums all;
    std::vector<float> kls;
    std::vector<place_sum> places;
    life_sums lived;
    figures f;
    f.window_differences.resize(runs[0].windows_.size());
    for (const totals& run : runs) {
      for (std::size_t w = 0; w < run.windows_.size(); ++w) {
        const window_sums& x = run.windows_[w];
        all.nll += x.nll;
        all.difference += x.difference;
        all.kl += x.kl;
        all.attended += x.attended;
        all.bytes += x.bytes;
        all.agreeing += x.agreeing;
        all.scored += x.scored;
        all.attending += x.attending;
        all.steps += x.steps;
        all.most = std::max(all.most, x.most);
        f.window_differences[w] += x.difference / static_cast<double>(x.scored) / static_cast<double>(runs.size());
        kls.insert(kls.end(), x.kls.begin(), x.kls.end());
        places.resize(std::max(places.size(), x.places.size()));
        for (std::size_t i = 0; i < x.places.size(); ++i) {
          places[i].difference += x.places[i].difference;
          places[i].count += x.places[i].count;
        }
        lived.add(x.lived);
      }
    }
    if (!runs[0].windows_.empty()) f.deaths = runs[0].windows_[0].deaths;
    if (all.scored == 0) return f;
    const auto scored = static_cast<double>(all.scored);
    f.nll = all.nll / scored;
    f.nll_minus_full = all.difference / scored;
    f.perplexity = std::exp(f.nll);
    if (text_bytes > 0)
      f.bits_per_byte = all.nll / static_cast<double>(runs.size()) / std::log(2.0) / static_cast<double>(text_bytes);
    if (oracle) {
      f.kl_mean = all.kl / scored;
      f.kl_median = quantile(kls, 0.5);
      f.kl_p99 = quantile(kls, 0.99);
      f.top1_agreement = static_cast<double>(all.agreeing) / scored;
    }
    if (all.attending > 0) f.states_attended_mean = all.attended / static_cast<double>(all.attending);
    f.states_attended_max = static_cast<int>(all.most);
    for (std::size_t i = 0; i < places.size(); ++i)
      if (places[i].count > 0)
        f.by_position.push_back({static_cast<int>(i) * bin_queries, places[i].count / static_cast<int>(runs.size()),
                                 places[i].difference / static_cast<double>(places[i].count)});
    tell_lives(f, lived, ages);
    if (all.steps > 0) f.bytes_live = all.bytes / static_cast<double>(all.steps);
    return f;
  }

 private:
  static void tell_lives(figures& f, const life_sums& lived, std::span<const int> ages) {
    if (lived.states == 0) return;
    f.mean_life = static_cast<double>(lived.life) / static_cast<double>(lived.states);
    if (lived.full_mass > 0) f.kept_mass = lived.kept_mass / lived.full_mass;
    double alive = 1;
    for (std::size_t a = 0; a < ages.size(); ++a) {
      if (lived.seen[a] > 0)
        alive *= static_cast<double>(lived.alive[a]) / static_cast<double>(lived.seen[a]);
      else if (alive > 0)
        break;  // of those left alive none was followed further
      f.survival.push_back({ages[a], alive});
    }
    std::int64_t all = 0;
    for (const std::int64_t n : lived.kind_states) all += n;
    if (all == 0 || lived.unknown > 0) return;
    auto& kinds = f.life_by_kind.emplace();
    for (std::size_t i = 0; i < kinds.size(); ++i) {
      kinds[i].share = static_cast<double>(lived.kind_states[i]) / static_cast<double>(all);
      if (lived.kind_states[i] > 0)
        kinds[i].life = static_cast<double>(lived.kind_life[i]) / static_cast<double>(lived.kind_states[i]);
    }
  }

  window_sums window_;
  std::vector<window_sums> windows_;
};

}  // namespace multistate
