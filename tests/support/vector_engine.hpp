#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include <multistate/decider/any_decider.hpp>

namespace support {

/// An engine's vectors of one layer; a token's place is its position.
struct vector_engine {
  int tokens = 0, heads = 0, kv_heads = 0, d = 0;
  std::vector<float> q = {}, k = {}, v = {};
  std::vector<double> frequencies = {};

  void use_theta(double theta) {
    for (int i = 0; i < d / 2; ++i) frequencies.push_back(std::pow(theta, -2.0 * i / d));
  }
  std::size_t at(int t, int head, int of) const {
    return (multistate::to_size(t) * multistate::to_size(of) + multistate::to_size(head)) * multistate::to_size(d);
  }
  multistate::placement where() const {
    return {.kv_heads = kv_heads, .heads = heads, .dk = d, .dv = d, .angles = {.frequencies = frequencies}};
  }
  multistate::state_reader reader() const {
    const auto key = [](const void* from, int, int head, multistate::slot, multistate::position p,
                        std::span<float> out) noexcept {
      const auto& e = *static_cast<const vector_engine*>(from);
      std::copy_n(e.k.data() + e.at(static_cast<int>(p), head, e.kv_heads), e.d, out.data());
    };
    const auto value = [](const void* from, int, int head, multistate::slot, multistate::position p,
                          std::span<float> out) noexcept {
      const auto& e = *static_cast<const vector_engine*>(from);
      std::copy_n(e.v.data() + e.at(static_cast<int>(p), head, e.kv_heads), e.d, out.data());
    };
    return {.from = this, .key = key, .value = value};
  }
  /// Tokens [t, t + c) through one cycle; the rows of all heads are those of softmax(q.k).
  void feed(multistate::any_decider& d_, int t, int c, multistate::phase when, bool held = false,
            int accepted = -1) const {
    d_.append(c, when, held);
    const std::size_t n = multistate::to_size(d), group = multistate::to_size(heads / kv_heads);
    for (int j = 0; d_.enters() && j < c; ++j)
      for (int h = 0; h < kv_heads; ++h)
        d_.enter(d_.lane_of(h), j, {k.data() + at(t + j, h, kv_heads), n}, {v.data() + at(t + j, h, kv_heads), n},
                 {q.data() + at(t + j, h * heads / kv_heads, heads), group * n});
    for (int h = 0; d_.needs_rows() && h < kv_heads; ++h) observe(d_, t, c, h);
    d_.reduce(accepted);
    ASSERT_EQ(d_.fault(), multistate::fault_kind::none);
  }
  void observe(multistate::any_decider& d_, int t, int c, int h) const {
    const int lane = d_.lane_of(h), n = d_.live(lane), group = heads / kv_heads;
    std::vector<float> rows(multistate::to_size(n) * multistate::to_size(c), 0.0f);
    for (int g = 0; g < group; ++g)
      for (int j = 0; j < c; ++j) {
        std::vector<double> w(multistate::to_size(n), 0.0);
        double total = 0;
        for (std::size_t s = 0; s < w.size(); ++s) {
          const multistate::position p = d_.positions(lane)[s];
          if (p < 0 || p > t + j) continue;
          double dot = 0;
          for (std::size_t i = 0; i < multistate::to_size(d); ++i)
            dot += double{q[at(t + j, h * group + g, heads) + i]} * double{k[at(static_cast<int>(p), h, kv_heads) + i]};
          total += w[s] = std::exp(dot / std::sqrt(static_cast<double>(d)));
        }
        for (std::size_t s = 0; s < w.size(); ++s)
          rows[multistate::to_size(j) * w.size() + s] += static_cast<float>(w[s] / total);
      }
    d_.observe(lane, {.data = rows.data(),
                      .stride = multistate::to_size(n),
                      .n = n,
                      .queries = c,
                      .heads = group,
                      .kind = multistate::rows_kind::each});
  }
};

}  // namespace support
