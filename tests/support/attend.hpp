#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include <multistate/format/element.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/types/task.hpp>

namespace support {

/// Attention as the task's contract says it, one loop after another, in double. Allocates only from 256 states
/// on, so that tests can count the allocations of the library.
class plain_attention {
 public:
  explicit plain_attention(const multistate::shape& shape_of_layer, int mask = 0) : dims(shape_of_layer), window(mask) {
    for (auto* each : {&weight_, &row_, &sum_}) each->reserve(256);
  }

  template <multistate::needs Want, class KeyFormat, class ValueFormat>
  void operator()(std::span<const multistate::attention_task> tasks) const noexcept {
    for (const auto& task : tasks) attend<KeyFormat, ValueFormat>(task, Want);
  }

  template <class KeyFormat, class ValueFormat>
  void attend(const multistate::attention_task& t, multistate::needs rows) const noexcept {
    using multistate::needs;
    const auto n = static_cast<std::size_t>(t.kv.n), group = static_cast<std::size_t>(dims.group());
    const auto queries = static_cast<std::size_t>(t.queries);
    const auto dk = static_cast<std::size_t>(dims.dk), dv = static_cast<std::size_t>(dims.dv);
    weight_.resize(n);
    row_.resize(n);
    sum_.assign(n, 0.0);
    for (std::size_t j = 0; j < queries; ++j) {
      for (double& x : row_) x = 0;
      for (std::size_t g = 0; g < group; ++g) {
        const float* q = t.q + j * t.q_stride + g * dk;
        double most = -std::numeric_limits<double>::infinity(), total = 0;
        for (std::size_t s = 0; s < n; ++s) {
          weight_[s] = -std::numeric_limits<double>::infinity();
          if (s > n - queries + j) continue;
          if (window > 0 && t.kv.positions[s] <= t.first + static_cast<multistate::position>(j) - window) continue;
          double dot = 0;
          for (std::size_t x = 0; x < dk; ++x) dot += double{q[x]} * element<KeyFormat>(row(t.kv, s, true), x);
          weight_[s] = dot / std::sqrt(static_cast<double>(dk));
          most = weight_[s] > most ? weight_[s] : most;
        }
        for (double& w : weight_) total += w = std::exp(w - most);
        for (double& w : weight_) w /= total;
        for (std::size_t s = 0; s < n; ++s) row_[s] += weight_[s];
        for (std::size_t x = 0; x < dv; ++x) {
          double out = 0;
          for (std::size_t s = 0; s < n; ++s)
            if (weight_[s] > 0) out += weight_[s] * element<ValueFormat>(row(t.kv, s, false), x);
          t.out[j * t.out_stride + g * dv + x] = static_cast<float>(out);
        }
      }
      for (std::size_t s = 0; s < n; ++s) {
        sum_[s] += row_[s];
        if (rows == needs::each_row) t.row[j * t.row_stride + s] = static_cast<float>(row_[s]);
        if (rows == needs::last_row && j + 1 == queries) t.row[s] = static_cast<float>(row_[s]);
        if (rows == needs::row_sum && j + 1 == queries) t.row[s] = static_cast<float>(sum_[s]);
      }
    }
  }

 private:
  static const std::byte* row(const multistate::head_view& kv, std::size_t s, bool key) noexcept {
    for (const auto& e : kv.extents) {
      if (s < static_cast<std::size_t>(e.n)) return key ? e.k + s * e.k_stride : e.v + s * e.v_stride;
      s -= static_cast<std::size_t>(e.n);
    }
    return nullptr;
  }
  template <class Format>
  static double element(const std::byte* at, std::size_t i) noexcept {
    typename Format::element e;
    std::memcpy(&e, at + i * sizeof e, sizeof e);
    return static_cast<double>(Format::load(e));
  }

  multistate::shape dims;
  int window;  // a query sees positions > own - window only; 0: all
  mutable std::vector<double> weight_, row_, sum_;
};

}  // namespace support
