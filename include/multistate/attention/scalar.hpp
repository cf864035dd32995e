#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <span>
#include <vector>

#include <multistate/attention/options.hpp>
#include <multistate/rope/log_positions.hpp>
#include <multistate/scan/element.hpp>
#include <multistate/util/assert.hpp>
#include <multistate/format/element.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/types/task.hpp>

namespace multistate {

/// The oracle: attention from the formula, in double, called like `attention`. Allocates; for tests.
struct scalar_attention {
  shape dims;
  attention_options options;

  template <needs Want, class KeyFormat = f32, class ValueFormat = KeyFormat>
  void operator()(std::span<const attention_task> tasks) const noexcept {
    for (const attention_task& task : tasks) attend<rows_given(Want), KeyFormat, ValueFormat>(task);
  }

 private:
  template <class Format>
  static double element(const std::byte* row, std::size_t i, std::size_t n) noexcept {
    typename Format::element e;
    std::memcpy(&e, row + i * sizeof e, sizeof e);
    return static_cast<double>(Format::load(e)) * static_cast<double>(row_scale<Format>(row, n));
  }

  /// Turns x [dk] to where it stands, from the frequencies rather than from floats.
  void rotate(std::vector<double>& x, double at) const {
    const rope& r = *options.rotation();
    const std::size_t pairs = r.inv_freq().size();
    for (std::size_t i = 0; i < pairs; ++i) {
      const bool halves = r.config().pairing == rope_pairing::halves;
      double& a = x[halves ? i : 2 * i];
      double& b = x[halves ? pairs + i : 2 * i + 1];
      const double c = r.config().attention_factor * std::cos(at * r.inv_freq()[i]);
      const double s = r.config().attention_factor * std::sin(at * r.inv_freq()[i]);
      const double rotated = a * c - b * s;
      b = b * c + a * s;
      a = rotated;
    }
  }

  template <needs Rows, class KeyFormat, class ValueFormat>
  void attend(const attention_task& task) const {
    const auto n = static_cast<std::size_t>(task.kv.n);
    const auto queries = static_cast<std::size_t>(task.queries);
    const auto group = static_cast<std::size_t>(dims.group());
    const auto dk = static_cast<std::size_t>(dims.dk);
    const auto dv = static_cast<std::size_t>(dims.dv);
    const bool has_scale = options.scale < 0.0f || options.scale > 0.0f;
    const double scale = has_scale ? static_cast<double>(options.scale) : 1.0 / std::sqrt(double(dims.dk));

    std::vector<const std::byte*> keys;  // [n]
    std::vector<const std::byte*> values;
    for (const extent& e : task.kv.extents)
      for (int i = 0; i < e.n && keys.size() < n; ++i) {
        keys.push_back(e.k + static_cast<std::size_t>(i) * e.k_stride);
        values.push_back(e.v + static_cast<std::size_t>(i) * e.v_stride);
      }
    MULTISTATE_ASSERT(keys.size() == n);

    std::vector<double> places(n);  // of un-rotated keys, by rank
    std::iota(places.begin(), places.end(), 0.0);
    if (options.log != nullptr) log_positions(task.kv.positions, task.kv.ranks, places);

    const std::size_t planes = task.head_stride == 0 ? 1 : group;
    const std::size_t unrecorded = queries - static_cast<std::size_t>(row_queries(Rows, task));
    std::vector<double> summed(planes * n, 0.0);
    for (std::size_t j = 0; j < queries; ++j) {
      const position own = task.first + static_cast<position>(j);
      const std::size_t causal = n - queries + j + 1;
      std::vector<double> row(planes * n, 0.0);
      for (std::size_t g = 0; g < group; ++g) {
        const std::size_t head = static_cast<std::size_t>(task.kv_head) * group + g;
        const float* given = task.q + j * task.q_stride + g * dk;
        std::vector<double> q(given, given + dk);
        if (options.rotation() != nullptr) rotate(q, places[causal - 1]);

        std::vector<std::size_t> seen;
        std::vector<double> logits;
        std::vector<double> out(dv);
        std::vector<double> value(dv);
        scan_element<double> all{.value = out};
        scan_clear(all);
        if (!options.sink_logits.empty()) scan_add<double>(all, options.sink_logits[head], {});
        for (std::size_t s = 0; s < causal; ++s) {
          if (options.window > 0 && task.kv.positions[s] <= own - options.window) continue;
          std::vector<double> k(dk);
          for (std::size_t i = 0; i < dk; ++i) k[i] = element<KeyFormat>(keys[s], i, dk);
          if (options.rotation() != nullptr) rotate(k, places[task.kv.ranks[s]]);
          double logit = 0.0;
          for (std::size_t i = 0; i < dk; ++i) logit += q[i] * k[i];
          logit *= scale;
          if (options.softcap > 0.0f) logit = double(options.softcap) * std::tanh(logit / double(options.softcap));
          if (!options.alibi.empty()) logit -= double(options.alibi[head]) * double(own - task.kv.positions[s]);
          seen.push_back(s);
          logits.push_back(logit);
          for (std::size_t c = 0; c < dv; ++c) value[c] = element<ValueFormat>(values[s], c, dv);
          scan_add<double>(all, logit, value);
        }
        for (std::size_t i = 0; i < seen.size(); ++i)
          row[(planes > 1 ? g * n : 0) + seen[i]] += std::exp(logits[i] - all.max) / all.sum;
        scan_normalise<double>(all, out);
        for (std::size_t c = 0; c < dv; ++c) task.out[j * task.out_stride + g * dv + c] = static_cast<float>(out[c]);
      }
      for (double& s : summed) s *= task.decay;
      for (std::size_t s = 0; s < row.size(); ++s) summed[s] += row[s];
      if (j < unrecorded) continue;
      for (std::size_t g = 0; g < planes; ++g)
        for (std::size_t s = 0; s < n; ++s)
          task.row[(j - unrecorded) * task.row_stride + g * task.head_stride + s] = static_cast<float>(row[g * n + s]);
    }
    if constexpr (any(Rows & needs::row_sum)) {
      float* const sum = Rows == needs::row_sum ? task.row : task.sum;
      for (std::size_t g = 0; g < planes; ++g)
        for (std::size_t s = 0; s < n; ++s) sum[g * task.head_stride + s] = static_cast<float>(summed[g * n + s]);
    }
  }
};

}  // namespace multistate
