#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <multistate/util/assert.hpp>
#include <multistate/util/finite.hpp>
#include <multistate/util/hash.hpp>

namespace multistate {

/// The id of the largest logit, of equals the lowest. NaN is never the largest; 0 when there is nothing else.
inline int greedy(std::span<const float> logits) noexcept {
  MULTISTATE_ASSERT(!logits.empty());
  std::size_t best = 0;
  for (std::size_t i = 1; i < logits.size(); ++i)
    if (logits[i] > logits[best] || (is_nan(logits[best]) && !is_nan(logits[i]))) best = i;
  return static_cast<int>(best);
}

/// Numbers in [0, 1) from a seed: draw i is splitmix64 of seed and i, the same on every machine.
class uniform_draws {
 public:
  explicit uniform_draws(std::uint64_t seed) noexcept : seed_(mix(seed)) {}
  double operator()() noexcept { return static_cast<double>(mix(seed_ ^ drawn_++) >> 11) * 0x1p-53; }
  std::uint64_t drawn() const noexcept { return drawn_; }

 private:
  std::uint64_t seed_;
  std::uint64_t drawn_ = 0;
};

struct sampling {
  float temperature = 1.0f;  ///< 0: greedy
  float top_p = 1.0f;        ///< draws among the most probable tokens that together have at least this share
  std::uint64_t seed = 0;
};

/// Draws tokens. One draw a token, so a run can be repeated from its seed; logits that are NaN or +inf leave no
/// probabilities, and the token is then the greedy one. Temperatures or shares that are no positive number are greedy
/// too.
class sampler {
 public:
  sampler(const sampling& settings, int vocab)
      : settings_(settings), draws_(settings.seed), ranked_(static_cast<std::size_t>(vocab)) {}

  /// Precondition: logits.size() == vocab.
  int operator()(std::span<const float> logits) noexcept {
    MULTISTATE_ASSERT(logits.size() == ranked_.size());
    const double draw = draws_();
    const float max = logits[static_cast<std::size_t>(greedy(logits))];
    if (!(settings_.temperature > 0.0f) || !(settings_.top_p > 0.0f) || !is_finite(max)) return greedy(logits);
    double total = 0.0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double weight = std::exp((double{logits[i]} - double{max}) / double{settings_.temperature});
      ranked_[i] = {weight, static_cast<int>(i)};
      total += weight;
    }
    if (!is_finite(total)) return greedy(logits);
    return settings_.top_p < 1.0f ? among_the_best(draw, total) : by_id(draw * total);
  }

 private:
  using weighted = std::pair<double, int>;

  int by_id(double at) const noexcept {
    int last = 0;
    for (const auto& [weight, id] : ranked_) {
      if (weight > 0.0) last = id;
      at -= weight;
      if (at < 0.0) return id;
    }
    return last;  // rounding used the total up
  }

  int among_the_best(double draw, double total) noexcept {
    const auto less = [](const weighted& a, const weighted& b) {
      return a.first < b.first || (!(b.first < a.first) && a.second > b.second);
    };
    std::make_heap(ranked_.begin(), ranked_.end(), less);
    auto end = ranked_.end();
    double share = 0.0;
    while (end != ranked_.begin() && share < double{settings_.top_p} * total) {
      std::pop_heap(ranked_.begin(), end, less);
      share += (--end)->first;
    }
    double at = draw * share;
    for (auto token = ranked_.end(); token != end;) {
      --token;
      at -= token->first;
      if (at < 0.0) return token->second;
    }
    return end->second;
  }

  sampling settings_;
  uniform_draws draws_;
  std::vector<weighted> ranked_;  ///< [vocab]
};

}  // namespace multistate
