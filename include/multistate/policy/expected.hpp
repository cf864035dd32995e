#pragma once

#include <cmath>

#include <multistate/policy/concept.hpp>
#include <multistate/policy/lane_sums.hpp>

namespace multistate {

/// ExpectedAttention (Devoto et al. 2025, arXiv 2510.00636; kvpress ExpectedAttentionPress at 8bb29b9): keeps the first
/// `sinks` states and those that the queries to come are expected to attend. Of the un-rotated queries behind the sinks
/// so far each head has mean m and covariance C, turned by the mean rotation R of the next `future` positions; worth is
/// the mean over the heads of softmax(k.Rm / sqrt(dk) + k'RCR'k / (2 dk)), then (worth + epsilon) times the norm of the
/// value. It acts at the end of a prompt, or after each part of one that is not read at once, or with every=m each time
/// that a lane holds m states more than its budget.
struct expected {
  static constexpr std::string_view name = "expected";
  int budget = 0;
  scope_kind scope = scope_kind::head;
  int sinks = 4;
  int future = 512;
  bool covariance = true;
  bool values = true;
  double epsilon = 0;
  static constexpr auto options =
      std::tuple{policy_option{"sinks", &expected::sinks}, policy_option{"future", &expected::future},
                 policy_option{"covariance", &expected::covariance}, policy_option{"values", &expected::values},
                 policy_option{"epsilon", &expected::epsilon}};

  constexpr evidence wants(const shape& lane = {}) const {
    const std::int64_t numbers = std::int64_t{lane.heads} * sums_of(lane.dk) * 2;
    return {.queries = true,
            .stored_keys = true,
            .stored_values = values,
            .angles = true,
            .lane_numbers = numbers <= max_tokens ? static_cast<int>(numbers) : -1,
            .work = 2 * lane.dk,
            .work_per_state = lane.heads};
  }
  constexpr const char* check(int lane_budget) const {
    if (scope != scope_kind::head) return "scope head";
    if (future < 1) return "future >= 1";
    if (!(epsilon >= 0)) return "epsilon >= 0";
    return sinks <= lane_budget ? nullptr : "sinks <= budget";
  }
  constexpr protect keeps(int) const { return {sinks, 0}; }
  bool due(const moment& m) const noexcept {
    return m.every > 1 ? m.n >= m.budget + m.every : m.when != phase::decode || m.one_shot;
  }
  /// The lane's numbers are, for each query head, the sums of its queries and of their products q[i] q[j], j <= i; and
  /// behind all of them what a float could not hold of each.
  void enter(const lane_ref& lane, slot s, std::span<const float>, std::span<const float>,
             std::span<const float> query) const noexcept {
    const position at = lane.positions[index(s)];
    if (at < sinks) return;
    const std::size_t d = to_size(lane.states->lane.dk), heads = to_size(lane.states->lane.heads);
    const rotary_angles& angles = lane.states->angles;
    const std::span<float> q = lane.work.first(d);
    for (std::size_t h = 0; h < heads; ++h) {
      for (std::size_t c = 0; c < d; ++c) q[c] = query[h * d + c];
      if (angles.applied)
        for (std::size_t i = 0; i < angles.frequencies.size(); ++i) {
          const double angle = -static_cast<double>(at) * angles.frequencies[i];
          rotate_pair(q, angles, i, std::cos(angle) / angles.factor, std::sin(angle) / angles.factor);
        }
      std::size_t to = h * static_cast<std::size_t>(sums_of(static_cast<int>(d)));
      for (const float x : q) detail::add_to_sum(lane.numbers, to++, double{x});
      for (std::size_t i = 0; covariance && i < d; ++i)
        for (std::size_t j = 0; j <= i; ++j) detail::add_to_sum(lane.numbers, to++, double{q[i]} * double{q[j]});
    }
  }
  std::span<const float> worth(const lane_ref& lane, const rows&) const noexcept {
    const std::size_t n = lane.scratch.size(), heads = to_size(lane.states->lane.heads);
    const std::span<float> logits = lane.work.subspan(2 * to_size(lane.states->lane.dk), heads * n);
    find_mean_rotation(lane);
    for (std::size_t s = 0; s < n; ++s) look_at(lane, slot{static_cast<std::uint32_t>(s)}, logits);
    for (float& w : lane.scratch) w = 0;
    for (std::size_t h = 0; h < heads; ++h) {
      double most = -HUGE_VAL, total = 0;
      for (std::size_t s = 0; s < n; ++s)
        if (lane.positions[s] >= sinks && double{logits[h * n + s]} > most) most = double{logits[h * n + s]};
      const auto weight = [&](std::size_t s) { return std::exp(double{logits[h * n + s]} - most); };
      for (std::size_t s = 0; s < n; ++s)
        if (lane.positions[s] >= sinks) total += weight(s);
      for (std::size_t s = 0; s < n; ++s)
        if (lane.positions[s] >= sinks)
          lane.scratch[s] += static_cast<float>(weight(s) / (total * static_cast<double>(heads)));
    }
    for (std::size_t s = 0; values && s < n; ++s) {
      double square = 0;
      for (const float x : lane.value(0, slot{static_cast<std::uint32_t>(s)})) square += double{x} * double{x};
      lane.scratch[s] = static_cast<float>((double{lane.scratch[s]} + epsilon) * std::sqrt(square));
    }
    return lane.scratch;
  }

 private:
  /// Sums of one query head.
  constexpr std::int64_t sums_of(int dk) const {
    return covariance ? std::int64_t{dk} + std::int64_t{dk} * (dk + 1) / 2 : dk;
  }
  /// Pair i of x as a complex number times (re, im).
  static void rotate_pair(std::span<float> x, const rotary_angles& angles, std::size_t i, double re,
                          double im) noexcept {
    float &a = x[angles.first(i)], &b = x[angles.second(i)];
    const double was = double{a};
    a = static_cast<float>(was * re - double{b} * im);
    b = static_cast<float>(was * im + double{b} * re);
  }
  /// R of the positions to come as complex numbers, in work behind the first dk: [pair][re, im].
  void find_mean_rotation(const lane_ref& lane) const noexcept {
    const rotary_angles& angles = lane.states->angles;
    const std::span<float> mean = lane.work.subspan(to_size(lane.states->lane.dk));
    for (std::size_t i = 0; i < angles.frequencies.size(); ++i) {
      double re = 0, im = 0;
      for (int t = 1; t <= future; ++t) {
        const double angle = static_cast<double>(lane.now + t) * angles.frequencies[i];
        re += std::cos(angle);
        im += std::sin(angle);
      }
      mean[2 * i] = static_cast<float>(angles.factor * re / future);
      mean[2 * i + 1] = static_cast<float>(angles.factor * im / future);
    }
  }
  /// The logit of one state for each query head: [head][n]. k.Rm is R'k.m, so that the key is turned back.
  void look_at(const lane_ref& lane, slot s, std::span<float> logits) const noexcept {
    const std::size_t d = to_size(lane.states->lane.dk), heads = to_size(lane.states->lane.heads);
    const std::size_t n = lane.scratch.size();
    const rotary_angles& angles = lane.states->angles;
    const std::span<float> k = lane.work.first(d), rotation = lane.work.subspan(d, d);
    const std::span<const float> key = lane.key(0, s);
    for (std::size_t c = 0; c < d; ++c) k[c] = key[c];
    for (std::size_t i = 0; i < angles.frequencies.size(); ++i)
      rotate_pair(k, angles, i, double{rotation[2 * i]}, -double{rotation[2 * i + 1]});
    const double count = lane.now >= sinks ? static_cast<double>(lane.now + 1 - sinks) : 1;
    for (std::size_t h = 0; h < heads; ++h) {
      std::size_t at = h * static_cast<std::size_t>(sums_of(static_cast<int>(d)));
      double mean = 0, square = 0;
      for (std::size_t i = 0; i < d; ++i) mean += double{k[i]} * detail::sum_at(lane.numbers, at++) / count;
      for (std::size_t i = 0; covariance && i < d; ++i)
        for (std::size_t j = 0; j <= i; ++j)
          square += (i == j ? 1 : 2) * double{k[i]} * double{k[j]} * detail::sum_at(lane.numbers, at++) / count;
      const double variance = covariance ? square - mean * mean : 0;
      const auto length = static_cast<double>(d);
      logits[h * n + index(s)] = static_cast<float>(mean / std::sqrt(length) + variance / (2 * length));
    }
  }
};
static_assert(policy<expected>);

}  // namespace multistate
