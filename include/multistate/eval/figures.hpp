#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace multistate {

/// ln softmax in double. False when a logit is not finite.
inline bool log_softmax(std::span<const float> logits, std::span<double> out) noexcept {
  double top = -HUGE_VAL, sum = 0;
  for (const float x : logits) {
    if (!std::isfinite(x)) return false;
    top = std::max(top, double{x});
  }
  for (const float x : logits) sum += std::exp(double{x} - top);
  const double norm = std::log(sum);
  for (std::size_t i = 0; i < logits.size(); ++i) out[i] = (double{logits[i]} - top) - norm;
  return true;
}

/// KL(full || policy) in nats, of two log softmaxes; rounding can't make it negative.
inline double divergence(std::span<const double> full, std::span<const double> policy) noexcept {
  double sum = 0;
  for (std::size_t i = 0; i < full.size(); ++i) sum += std::exp(full[i]) * (full[i] - policy[i]);
  return std::max(sum, 0.0);
}

/// Interpolated between neighbours, as NumPy does; reorders the values. Precondition: there is one.
inline double quantile(std::span<float> values, double share) noexcept {
  const double place = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(below);
  std::nth_element(values.begin(), at, values.end());
  const double low = double{*at};
  if (below + 1 == values.size()) return low;
  const double high = double{*std::min_element(at + 1, values.end())};
  return low + (high - low) * (place - static_cast<double>(below));
}

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
  std::optional<double> mean_life =
      {};                           ///< queries that see a state, its own included; mean over all tokens of a window
  std::size_t bytes_allocated = 0;  ///< all layers of one sequence
  double bytes_live = 0;            ///< keys and values after each step, mean over steps
  std::vector<double> window_differences = {};  ///< NLL minus Full's, nats per scored token, by window
};

/// Collects what one row's sequences do, window by window.
class tally {
 public:
  /// One scored target.
  void score(double nll, double full_nll, double kl, bool agrees) {
    window_.nll += nll;
    window_.difference += nll - full_nll;
    window_.kl += kl;
    window_.agreeing += agrees ? 1 : 0;
    ++window_.scored;
    kls_.push_back(static_cast<float>(kl));
  }
  /// One query of each lane; the mean and the largest of the states they attend.
  void attend(double mean, int largest, bool scored) noexcept {
    window_.life += mean;
    ++window_.queries;
    if (!scored) return;
    window_.attended += mean;
    ++window_.attending;
    window_.most = std::max(window_.most, largest);
  }
  /// One step is over.
  void rest(double bytes) noexcept {
    window_.bytes += bytes;
    ++window_.steps;
  }
  void end_window() {
    windows_.push_back(window_);
    window_ = {};
  }
  /// Adds the windows of another one that has ended them.
  void append(const tally& other) {
    windows_.insert(windows_.end(), other.windows_.begin(), other.windows_.end());
    kls_.insert(kls_.end(), other.kls_.begin(), other.kls_.end());
  }

  /// Of `runs` that saw the same windows: seeds of one row. `text_bytes` of the scored targets; 0: unknown.
  /// Without `oracle`, Full can't say what is right, so that there is neither KL nor agreement.
  static figures sum_up(std::span<const tally> runs, std::int64_t text_bytes, bool oracle) {
    sums all;
    std::vector<float> kls;
    figures f;
    f.window_differences.resize(runs[0].windows_.size());
    for (const tally& run : runs) {
      for (std::size_t w = 0; w < run.windows_.size(); ++w) {
        const sums& x = run.windows_[w];
        all.nll += x.nll;
        all.difference += x.difference;
        all.kl += x.kl;
        all.life += x.life;
        all.attended += x.attended;
        all.bytes += x.bytes;
        all.agreeing += x.agreeing;
        all.scored += x.scored;
        all.queries += x.queries;
        all.attending += x.attending;
        all.steps += x.steps;
        all.most = std::max(all.most, x.most);
        f.window_differences[w] += x.difference / static_cast<double>(x.scored) / static_cast<double>(runs.size());
      }
      kls.insert(kls.end(), run.kls_.begin(), run.kls_.begin() + static_cast<std::ptrdiff_t>(run.scored()));
    }
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
    f.states_attended_max = all.most;
    if (all.queries > 0) f.mean_life = all.life / static_cast<double>(all.queries);
    if (all.steps > 0) f.bytes_live = all.bytes / static_cast<double>(all.steps);
    return f;
  }

 private:
  struct sums {
    double nll = 0, difference = 0, kl = 0, life = 0, attended = 0, bytes = 0;
    std::int64_t agreeing = 0, scored = 0, queries = 0, attending = 0, steps = 0;
    int most = 0;
  };
  /// Of whole windows.
  std::int64_t scored() const noexcept {
    std::int64_t count = 0;
    for (const sums& w : windows_) count += w.scored;
    return count;
  }
  sums window_;
  std::vector<sums> windows_;
  std::vector<float> kls_;
};

}  // namespace multistate
