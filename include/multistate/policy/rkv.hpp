#pragma once

#include <cmath>

#include <multistate/policy/concept.hpp>

namespace multistate {

/// R-KV (Cai et al. 2025, arXiv 2505.24133; authors' code at d15c976): every `every` tokens keeps the `window` newest
/// states and, of the older ones, those that these states' queries attend and that are like no other: worth is
/// lambda * importance - (1 - lambda) * redundancy. Importance is the mean softmax over the older states of the
/// group's largest logits, then the greatest of `kernel` neighbours by age. Redundancy is the softmax of the mean
/// cosine with the other keys held, where each key leaves out its latest neighbour with a cosine above 0.5 (without one
/// the oldest). Keys and queries with their angles, logits scaled by 1 / sqrt(dk). A lane is due at once where it holds
/// `every` more than its budget, and after a prompt that is read at once.
struct rkv {
  static constexpr std::string_view name = "rkv";
  int budget = 0;
  scope_kind scope = scope_kind::head;
  double lambda = 0.07;
  int window = 8;
  int kernel = 7;
  int every = 128;
  static constexpr auto options =
      std::tuple{policy_option{"lambda", &rkv::lambda}, policy_option{"window", &rkv::window},
                 policy_option{"kernel", &rkv::kernel}, policy_option{"every", &rkv::every}};

  constexpr evidence wants(const shape& lane = {}) const {
    const std::int64_t numbers = std::int64_t{window} * lane.heads * lane.dk;
    return {.queries = true,
            .stored_keys = true,
            .order = true,
            .lane_numbers = numbers <= max_tokens ? static_cast<int>(numbers) : -1,
            .work = lane.dk,
            .work_per_state = lane.dk + 4};
  }
  constexpr const char* check(int lane_budget) const {
    if (scope != scope_kind::head) return "scope head";
    if (every < 1) return "every >= 1";
    if (kernel < 1 || kernel % 2 == 0) return "an odd kernel";
    if (!(lambda >= 0 && lambda <= 1)) return "0 <= lambda <= 1";
    return window >= 1 && window <= lane_budget ? nullptr : "1 <= window <= budget";
  }
  constexpr protect keeps(int) const { return {0, window}; }
  int room() const noexcept { return every - 1; }
  bool due(const moment& m) const noexcept { return m.consumed % every == 0 || m.one_shot || m.n >= m.budget + every; }
  /// The lane's numbers are the queries of the newest `window` tokens: [position % window][group][dk].
  void enter(const lane_ref& lane, slot s, std::span<const float>, std::span<const float>,
             std::span<const float> query) const noexcept {
    const std::size_t at = static_cast<std::size_t>(lane.positions[index(s)] % window) * query.size();
    for (std::size_t i = 0; i < query.size(); ++i) lane.numbers[at + i] = query[i];
  }
  std::span<const float> worth(const lane_ref& lane, const rows&) const noexcept {
    const std::size_t n = lane.by_age.size(), d = to_size(lane.states->lane.dk);
    const std::size_t older = n > to_size(window) ? n - to_size(window) : 0;
    const std::span<float> units = lane.work.first(n * d), norms = lane.work.subspan(n * d, n),
                           columns = lane.work.subspan(n * (d + 1), n), weights = lane.work.subspan(n * (d + 2), n),
                           logits = lane.work.subspan(n * (d + 3), n), sum = lane.work.subspan(n * (d + 4), d);
    for (std::size_t i = 0; i < n; ++i) {
      const std::span<const float> key = lane.key(0, lane.by_age[i]);
      norms[i] = static_cast<float>(std::sqrt(dot(key, key)) + 1e-8);
      for (std::size_t c = 0; c < d; ++c) units[i * d + c] = key[c] / norms[i];
    }
    weigh(lane, units, norms, logits.first(older), weights.first(older));
    compare(units, sum, columns);
    for (float& w : lane.scratch) w = 0;
    for (std::size_t i = 0; i < older; ++i) {
      const std::size_t half = to_size(kernel / 2), last = i + half < older ? i + half : older - 1;
      float greatest = weights[i];
      for (std::size_t j = i > half ? i - half : 0; j <= last; ++j)
        greatest = weights[j] > greatest ? weights[j] : greatest;
      lane.scratch[index(lane.by_age[i])] =
          static_cast<float>(lambda * double{greatest} - (1 - lambda) * double{columns[i]});
    }
    return lane.scratch;
  }

 private:
  static double dot(std::span<const float> a, std::span<const float> b) noexcept {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * double{b[i]};
    return sum;
  }
  static void softmax(std::span<float> x) noexcept {
    double most = x.empty() ? 0 : double{x[0]}, total = 0;
    for (const float e : x) most = double{e} > most ? double{e} : most;
    for (const float e : x) total += std::exp(double{e} - most);
    for (float& e : x) e = static_cast<float>(std::exp(double{e} - most) / total);
  }
  /// weights: the mean over the newest queries of their softmax over the older states, by age.
  void weigh(const lane_ref& lane, std::span<const float> units, std::span<const float> norms, std::span<float> logits,
             std::span<float> weights) const noexcept {
    const std::size_t d = to_size(lane.states->lane.dk), group = to_size(lane.states->lane.heads);
    const std::size_t queries = lane.now + 1 < window ? static_cast<std::size_t>(lane.now + 1) : to_size(window);
    const double scale = 1 / std::sqrt(static_cast<double>(d));
    for (float& w : weights) w = 0;
    for (std::size_t j = 0; j < queries; ++j) {
      for (std::size_t i = 0; i < logits.size(); ++i) {
        double most = -HUGE_VAL;
        for (std::size_t h = 0; h < group; ++h) {
          const double logit = dot(lane.numbers.subspan((j * group + h) * d, d), units.subspan(i * d, d));
          most = logit > most ? logit : most;
        }
        logits[i] = static_cast<float>(most * double{norms[i]} * scale);
      }
      softmax(logits);
      for (std::size_t i = 0; i < logits.size(); ++i) weights[i] += logits[i] / static_cast<float>(queries);
    }
  }
  /// columns: the redundancy of each key, by age. The sum of a key's cosines is its product with the sum of all unit
  /// keys, so that only what is left out needs pairs.
  static void compare(std::span<const float> units, std::span<float> sum, std::span<float> columns) noexcept {
    const std::size_t n = columns.size(), d = sum.size();
    const auto unit = [&](std::size_t i) { return units.subspan(i * d, d); };
    for (std::size_t c = 0; c < d; ++c) {
      double total = 0;
      for (std::size_t i = 0; i < n; ++i) total += double{units[i * d + c]};
      sum[c] = static_cast<float>(total);
    }
    for (std::size_t i = 0; i < n; ++i) columns[i] = static_cast<float>(dot(unit(i), sum) - dot(unit(i), unit(i)));
    for (std::size_t i = 0; i < n; ++i) {
      std::size_t latest = n - 1;
      while (latest > 0 && (latest == i || !(dot(unit(i), unit(latest)) > 0.5))) --latest;
      if (latest != i) columns[latest] -= static_cast<float>(dot(unit(i), unit(latest)));
    }
    for (float& x : columns) x /= static_cast<float>(n);
    softmax(columns);
  }
};
static_assert(policy<rkv>);

}  // namespace multistate
