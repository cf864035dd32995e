#pragma once

#include <array>
#include <cmath>

#include <multistate/policy/concept.hpp>
#include <multistate/policy/lane_sums.hpp>

namespace multistate {

/// When TriAttention reduces a lane: once it holds `every` more than its budget; the same without counting the prompt;
/// or without counting the prompt once it holds its budget, every `every` tokens.
enum class tri_trigger : std::uint8_t { slack, slack_decode, modulo };
/// How the scores at several distances become one.
enum class tri_aggregate : std::uint8_t { mean, max };
constexpr auto names_of(tri_trigger) noexcept {
  return std::array<std::string_view, 3>{"slack", "slack_decode", "modulo"};
}
constexpr auto names_of(tri_aggregate) noexcept { return std::array<std::string_view, 2>{"mean", "max"}; }

/// TriAttention (Mao et al. 2026, arXiv 2604.04921; authors' code at c3744ee): keeps the states that a typical query
/// would attend at distances 1, 2, 4, ... offset_max from now on. For a query head, with m_f and a_f the mean and mean
/// magnitude of its un-rotated queries as complex numbers, x_f the un-rotated key at position p and w_f the
/// frequencies, a distance o gives sum_f |m_f| |x_f| cos((now - p + o) w_f + arg(m_f conj x_f)) + (a_f - |m_f|) |x_f|.
/// m and a come from the model's statistics, else from all queries read so far. The paper mixes heads by mix=zmax.
struct triattention {
  static constexpr std::string_view name = "triattention";
  int budget = 0;
  scope_kind scope = scope_kind::model;
  int offset_max = 65536;
  tri_aggregate aggregate = tri_aggregate::mean;
  bool pin_prompt = true;
  int every = 128;
  tri_trigger trigger = tri_trigger::slack;
  static constexpr auto options = std::tuple{
      policy_option{"scope", &triattention::scope},         policy_option{"offset_max", &triattention::offset_max},
      policy_option{"aggregate", &triattention::aggregate}, policy_option{"pin_prompt", &triattention::pin_prompt},
      policy_option{"every", &triattention::every},         policy_option{"trigger", &triattention::trigger}};

  constexpr evidence wants(const shape& lane = {}) const {
    const std::int64_t numbers = std::int64_t{lane.heads} * (lane.dk / 2) * 6 + 1;
    return {.queries = true,
            .stored_keys = true,
            .query_heads = true,
            .angles = true,
            .lane_numbers = numbers <= max_tokens ? static_cast<int>(numbers) : -1,
            .work = lane.dk * (distances() + 2)};
  }
  constexpr const char* check(int) const {
    if (every < 1) return "every >= 1";
    return offset_max >= 1 ? nullptr : "offset_max >= 1";
  }
  constexpr protect keeps(int lane_budget, const moment& m = {}) const {
    return {pin_prompt ? static_cast<int>(m.prompt < lane_budget ? m.prompt : lane_budget) : 0, 0};
  }
  int room() const noexcept { return every - 1 + (trigger == tri_trigger::slack ? 0 : budget); }
  bool due(const moment& m) const noexcept {
    const position decoded = m.n - m.prompt;
    if (m.n > m.budget + room()) return true;
    if (trigger == tri_trigger::slack) return m.n >= m.budget + every;
    if (trigger == tri_trigger::slack_decode) return decoded >= m.budget + every;
    return decoded >= m.budget && m.consumed % every == 0;
  }
  /// The lane's numbers are sums over the queries of each head: [head][pair][re, im, magnitude], then what floats could
  /// not hold of them, then how many queries.
  void enter(const lane_ref& lane, slot s, std::span<const float>, std::span<const float>,
             std::span<const float> query) const noexcept {
    const rotary_angles& angles = lane.states->angles;
    const std::size_t pairs = angles.frequencies.size(), d = to_size(lane.states->lane.dk);
    const std::size_t group = query.size() / d;
    for (std::size_t h = 0; h < group; ++h)
      for (std::size_t f = 0; f < pairs; ++f) {
        const double angle =
            angles.applied ? -static_cast<double>(lane.positions[index(s)]) * angles.frequencies[f] : 0;
        const double re = double{query[h * d + angles.first(f)]} / angles.factor,
                     im = double{query[h * d + angles.second(f)]} / angles.factor;
        const std::size_t at = ((to_size(lane.kv_head) * group + h) * (d / 2) + f) * 3;
        detail::add_to_sum(lane.numbers, at, re * std::cos(angle) - im * std::sin(angle));
        detail::add_to_sum(lane.numbers, at + 1, re * std::sin(angle) + im * std::cos(angle));
        detail::add_to_sum(lane.numbers, at + 2, std::sqrt(re * re + im * im));
      }
    if (lane.kv_head == 0) lane.numbers.back() += 1;
  }
  std::span<const float> worth(const lane_ref& lane, const rows&) const noexcept {
    const int heads = lane.states->lane.heads, one = lane.query_head;
    for (float& w : lane.scratch) w = 0;
    for (int h = one < 0 ? 0 : one; h < (one < 0 ? heads : one + 1); ++h) add_scores(lane, h, one < 0 ? heads : 1);
    return lane.scratch;
  }

 private:
  constexpr int distances() const {
    int count = 1;
    for (std::int64_t o = 2; o <= offset_max; o *= 2) ++count;
    return count;
  }
  struct typical {
    double re = 0, im = 0, magnitude = 0;
  };
  static typical query_of(const lane_ref& lane, int head, std::size_t f) noexcept {
    const lane_states& states = *lane.states;
    const std::size_t pairs = to_size(states.lane.dk) / 2;
    if (!states.queries.mean.empty()) {
      const std::size_t at = states.query_place(head) * pairs + f;
      return {double{states.queries.mean[2 * at]}, double{states.queries.mean[2 * at + 1]},
              double{states.queries.magnitude[at]}};
    }
    const std::size_t at = (to_size(head) * pairs + f) * 3;
    const double count = double{lane.numbers.back()} > 0 ? double{lane.numbers.back()} : 1;
    const auto mean = [&](std::size_t i) { return detail::sum_at(lane.numbers, at + i) / count; };
    return {mean(0), mean(1), mean(2)};
  }
  /// A key's score at one distance is the product of the stored key, turned to its position, with the typical query
  /// turned to `now` and the distance; the mean over distances is the product with the mean of these.
  void add_scores(const lane_ref& lane, int head, int heads) const noexcept {
    const rotary_angles& angles = lane.states->angles;
    const std::size_t pairs = angles.frequencies.size(), d = to_size(lane.states->lane.dk);
    const bool mean = aggregate == tri_aggregate::mean;
    const std::size_t targets = mean ? 1 : to_size(distances());
    const std::span<float> target = lane.work.first(targets * d), rest = lane.work.subspan(targets * d, pairs);
    for (float& x : target) x = 0;
    for (std::size_t f = 0; f < pairs; ++f) {
      const typical q = query_of(lane, head, f);
      rest[f] = static_cast<float>(q.magnitude - std::sqrt(q.re * q.re + q.im * q.im));
      std::int64_t distance = 1;
      for (int o = 0; o < distances(); ++o, distance *= 2) {
        const double angle = static_cast<double>(lane.now + 1 + distance) * angles.frequencies[f];
        const double by = mean ? 1.0 / distances() : 1.0;
        float* to = target.data() + (mean ? 0 : to_size(o) * d) + 2 * f;
        to[0] += static_cast<float>(by * (q.re * std::cos(angle) - q.im * std::sin(angle)));
        to[1] += static_cast<float>(by * (q.re * std::sin(angle) + q.im * std::cos(angle)));
      }
    }
    const int group = lane.states->lane.heads / lane.states->lane.kv_heads;
    for (std::size_t i = 0; i < lane.scratch.size(); ++i) {
      const std::span<const float> key = lane.key(head / group, slot{static_cast<std::uint32_t>(i)});
      double most = -HUGE_VAL, lengths = 0;
      for (std::size_t t = 0; t < targets; ++t) {
        double dot = 0;
        for (std::size_t f = 0; f < pairs; ++f) {
          double re = double{key[angles.first(f)]} / angles.factor, im = double{key[angles.second(f)]} / angles.factor;
          if (t == 0) lengths += double{rest[f]} * std::sqrt(re * re + im * im);
          if (!angles.applied) rotate(re, im, static_cast<double>(lane.positions[i]) * angles.frequencies[f]);
          dot += re * double{target[t * d + 2 * f]} + im * double{target[t * d + 2 * f + 1]};
        }
        most = dot > most ? dot : most;
      }
      lane.scratch[i] += static_cast<float>((most + lengths) / heads);
    }
  }
  static void rotate(double& re, double& im, double angle) noexcept {
    const double was = re;
    re = was * std::cos(angle) - im * std::sin(angle);
    im = was * std::sin(angle) + im * std::cos(angle);
  }
};
static_assert(policy<triattention>);

}  // namespace multistate
