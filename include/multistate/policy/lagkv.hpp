#pragma once

#include <cmath>

#include <multistate/policy/concept.hpp>

namespace multistate {

/// LagKV (Liang et al. 2025, arXiv 2504.04704; kvpress LagKVPress at 8bb29b9 with cross_scoring), bounded: once a lane
/// holds `lag` states more than its budget, those behind the first `sinks` are cut into parts of `lag` by age, and each
/// part is compared with the next one. Keys and values, normalised channel by channel to the next part's range, are
/// worth their deviation over the channels, as a softmax over the part; the two are added up. The last whole part and
/// what follows it stay. Needs no rows.
struct lagkv {
  static constexpr std::string_view name = "lagkv";
  int budget = 0;
  scope_kind scope = scope_kind::head;
  int sinks = 4;
  int lag = 128;
  static constexpr auto options = std::tuple{policy_option{"sinks", &lagkv::sinks}, policy_option{"lag", &lagkv::lag}};

  constexpr evidence wants(const shape& lane = {}) const {
    const int longer = lane.dk > lane.dv ? lane.dk : lane.dv;
    return {.stored_keys = true, .stored_values = true, .order = true, .work = 2 * longer + lag};
  }
  constexpr const char* check(int lane_budget) const {
    if (scope != scope_kind::head) return "scope head";
    return lag >= 1 && std::int64_t{sinks} + 2 * std::int64_t{lag} <= lane_budget ? nullptr : "sinks + 2 lag <= budget";
  }
  /// The last whole part of a lane of m.n states, and what follows it.
  constexpr protect keeps(int lane_budget, const moment& m = {}) const {
    const int held = m.n > lane_budget ? m.n : lane_budget;
    return {sinks, lag + (held - sinks) % lag};
  }
  int room() const noexcept { return lag - 1; }
  bool due(const moment& m) const noexcept { return m.n >= m.budget + lag; }
  std::span<const float> worth(const lane_ref& lane, const rows&) const noexcept {
    for (float& w : lane.scratch) w = 0;
    const auto parts = (lane.by_age.size() - to_size(sinks)) / to_size(lag);
    for (std::size_t part = 0; part + 1 < parts; ++part) {
      const std::span<const slot> own = lane.by_age.subspan(to_size(sinks) + part * to_size(lag), to_size(lag)),
                                  next = lane.by_age.subspan(to_size(sinks) + (part + 1) * to_size(lag), to_size(lag));
      add_scores(lane, own, next, lane.states->lane.dk, [&](slot s) { return lane.key(0, s); });
      add_scores(lane, own, next, lane.states->lane.dv, [&](slot s) { return lane.value(0, s); });
    }
    return lane.scratch;
  }

 private:
  template <class Read>
  void add_scores(const lane_ref& lane, std::span<const slot> own, std::span<const slot> next, int length,
                  const Read& read) const noexcept {
    const std::size_t d = to_size(length);
    const std::span<float> low = lane.work.first(d), high = lane.work.subspan(d, d), score = lane.work.subspan(2 * d);
    for (std::size_t i = 0; i < next.size(); ++i) {
      const std::span<const float> x = read(next[i]);
      for (std::size_t c = 0; c < d; ++c) {
        low[c] = i == 0 || x[c] < low[c] ? x[c] : low[c];
        high[c] = i == 0 || x[c] > high[c] ? x[c] : high[c];
      }
    }
    double most = 0, total = 0;
    for (std::size_t i = 0; i < own.size(); ++i) {
      score[i] = static_cast<float>(deviation(read(own[i]), low, high));
      most = double{score[i]} > most ? double{score[i]} : most;
    }
    for (std::size_t i = 0; i < own.size(); ++i) total += std::exp(double{score[i]} - most);
    for (std::size_t i = 0; i < own.size(); ++i)
      lane.scratch[index(own[i])] += static_cast<float>(std::exp(double{score[i]} - most) / total / 2);
  }
  /// Sample deviation over the channels of x in the range of each; a channel without a range counts as 0.
  static double deviation(std::span<const float> x, std::span<const float> low, std::span<const float> high) noexcept {
    const auto at = [&](std::size_t c) {
      const double range = double{high[c]} - double{low[c]};
      return range > 0 ? (double{x[c]} - double{low[c]}) / range : 0.0;
    };
    double mean = 0, square = 0;
    for (std::size_t c = 0; c < x.size(); ++c) mean += at(c);
    mean /= static_cast<double>(x.size());
    for (std::size_t c = 0; c < x.size(); ++c) square += (at(c) - mean) * (at(c) - mean);
    return std::sqrt(square / static_cast<double>(x.size() > 1 ? x.size() - 1 : 1));
  }
};
static_assert(policy<lagkv>);

}  // namespace multistate
