#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <support/data.hpp>

namespace support {

/// A multi-state so slow and plain that it is obviously right: positions in vectors, every score looked up by position,
/// double arithmetic. Written from the description of the policies, uses nothing of the library. Copy it to fork it.
class naive {
 public:
  struct range {
    std::int64_t first, last;
  };
  struct lane {
    int budget = 0;
    std::vector<std::int64_t> kept;        // increasing
    std::map<std::int64_t, double> score;  // by position: what h2o, knorm and busy remember
    std::map<std::int64_t, double> size;   // busy: a state's key norm
    std::int64_t attended = 0;             // states, summed over steps
  };

  int every = 1;
  int window_mask = 0;
  std::vector<range> pins;
  /// Closest call so far: the distance between the last state dropped and the first kept, relative. Callers that
  /// compare with float32 decisions stop where it is below what float32 can tell.
  double margin = std::numeric_limits<double>::infinity();

  /// `keys` and `values` are attended as stored: round `data` first for narrow formats; `entering` are the keys before.
  naive(const policy_spec& policy, const tokens& data, const tokens& entering,
        const std::vector<int>& lane_budgets = {})
      : policy_(policy), data_(&data), entering_(&entering) {
    const int per_layer = policy.scope == lanes_by::head ? data.dims.kv_heads : 1;
    const int layers = policy.scope == lanes_by::model ? 1 : data.layers;
    for (int i = 0; i < layers; ++i)
      for (int h = 0; h < per_layer; ++h) {
        lanes_.push_back({});
        lanes_.back().budget = lane_budgets.empty() ? policy.budget : lane_budgets[tokens::u(h)];
      }
  }

  std::int64_t next() const { return next_; }
  void use(const tokens& data, const tokens& entering) {
    data_ = &data;
    entering_ = &entering;
  }
  const lane& lane_of(int layer, int kv_head) const { return lanes_[index(layer, kv_head)]; }

  /// Feeds the next c tokens together, of which the first `accepted` stay (-1: all); returns [layers][c][heads][dv].
  std::vector<double> feed(int c, int accepted = -1) {
    if (accepted < 0) accepted = c;
    const dimensions& d = data_->dims;
    std::vector<double> out;
    std::vector<std::vector<std::map<std::int64_t, double>>> rows(lanes_.size());  // [lane][query] weight by position
    for (auto& r : rows) r.resize(tokens::u(c));
    for (int layer = 0; layer < data_->layers; ++layer)
      for (int j = 0; j < c; ++j)
        for (int h = 0; h < d.heads; ++h) {
          const int kv = h / d.group();
          const std::size_t l = index(layer, kv);
          std::vector<std::int64_t> seen = lanes_[l].kept;
          for (int i = 0; i <= j; ++i) seen.push_back(next_ + i);
          if (window_mask > 0) std::erase_if(seen, [&](std::int64_t p) { return p <= next_ + j - window_mask; });
          const auto weights = attend(layer, h, kv, next_ + j, seen);
          for (std::size_t i = 0; i < seen.size(); ++i) rows[l][tokens::u(j)][seen[i]] += weights[i];
          for (int x = 0; x < d.dv; ++x) {
            double sum = 0;
            for (std::size_t i = 0; i < seen.size(); ++i) sum += weights[i] * double{value(layer, kv, seen[i])[x]};
            out.push_back(sum);
          }
        }
    for (std::size_t l = 0; l < lanes_.size(); ++l) remember(lanes_[l], l, rows[l], accepted);
    next_ += accepted;
    if (accepted > 0)
      for (std::size_t l = 0; l < lanes_.size(); ++l) reduce(lanes_[l], l, rows[l][tokens::u(accepted - 1)]);
    return out;
  }

  /// Full attention of one query with every column but `seen` at minus infinity.
  std::vector<double> attend(int layer, int head, int kv, std::int64_t own,
                             const std::vector<std::int64_t>& seen) const {
    const float* q = data_->query(layer, static_cast<int>(own)) + head * data_->dims.dk;
    std::vector<double> w;
    double most = -std::numeric_limits<double>::infinity(), total = 0;
    for (const std::int64_t p : seen) {
      double dot = 0;
      for (int x = 0; x < data_->dims.dk; ++x) dot += double{q[x]} * double{key(layer, kv, p)[x]};
      w.push_back(dot / std::sqrt(static_cast<double>(data_->dims.dk)));
      most = std::max(most, w.back());
    }
    for (double& x : w) total += x = std::exp(x - most);
    for (double& x : w) x /= total;
    return w;
  }
  const float* value(int layer, int kv, std::int64_t p) const {
    return data_->value(layer, static_cast<int>(p)) + kv * data_->dims.dv;
  }

 private:
  const float* key(int layer, int kv, std::int64_t p) const {
    return data_->key(layer, static_cast<int>(p)) + kv * data_->dims.dk;
  }
  std::size_t index(int layer, int kv_head) const {
    switch (policy_.scope) {
      case lanes_by::head:
        return tokens::u(layer) * tokens::u(data_->dims.kv_heads) + tokens::u(kv_head);
      case lanes_by::layer:
        return tokens::u(layer);
      default:
        return 0;
    }
  }

  /// The sum of the key norms of a token over the lane's heads and layers.
  double norm(std::size_t l, std::int64_t p) const {
    double sum = 0;
    for (int layer = 0; layer < entering_->layers; ++layer)
      for (int h = 0; h < entering_->dims.kv_heads; ++h) {
        if (index(layer, h) != l) continue;
        double square = 0;
        const float* x = entering_->key(layer, static_cast<int>(p)) + h * entering_->dims.dk;
        for (int i = 0; i < entering_->dims.dk; ++i) square += double{x[i]} * double{x[i]};
        sum += std::sqrt(square);
      }
    return sum;
  }

  void remember(lane& l, std::size_t which, const std::vector<std::map<std::int64_t, double>>& rows, int accepted) {
    for (int j = 0; j < accepted; ++j) {
      l.kept.push_back(next_ + j);
      l.size[next_ + j] = norm(which, next_ + j);
      if (policy_.name == "busy") {  // all that is remembered fades at every query
        for (auto& [p, s] : l.score) s *= 0.875;
      }
      for (const auto& [p, w] : rows[tokens::u(j)])
        if (policy_.name == "h2o" || policy_.name == "busy") l.score[p] += w;
    }
    l.attended += static_cast<std::int64_t>(l.kept.size());
  }

  bool is_protected(const lane& l, std::int64_t p) const {
    int first = policy_.first, newest = policy_.newest;
    if (policy_.name == "full") first = l.budget;
    if (policy_.name == "h2o") newest = policy_.recent < 0 ? l.budget - l.budget / 2 : policy_.recent;
    if (p < first || p >= next_ - newest) return true;
    return std::any_of(pins.begin(), pins.end(), [&](const range& r) { return p >= r.first && p < r.last; });
  }

  double worth(const lane& l, std::size_t which, std::int64_t p, const std::map<std::int64_t, double>& last) const {
    if (policy_.name == "tova") return last.contains(p) ? last.at(p) : 0.0;
    if (policy_.name == "knorm") return -l.size.at(p);
    if (policy_.name == "h2o") {
      const double score = l.score.contains(p) ? l.score.at(p) : 0.0;
      if (!policy_.normalised) return score;
      const std::int64_t queries = next_ - p;
      return score / static_cast<double>(window_mask > 0 ? std::min<std::int64_t>(queries, window_mask) : queries);
    }
    if (policy_.name == "busy") return (l.score.contains(p) ? l.score.at(p) : 0.0) * (1.0 + l.size.at(p));
    if (policy_.name == "random") {
      const auto hash = [](std::uint64_t x) { return generator(x).next(); };
      const std::size_t per_layer = policy_.scope == lanes_by::head ? tokens::u(data_->dims.kv_heads) : 1;
      const std::uint64_t place = (which / per_layer) << 32 | which % per_layer;
      const std::uint64_t draw = hash(hash(policy_.seed ^ hash(place)) ^ static_cast<std::uint64_t>(next_ - 1));
      return static_cast<double>(hash(draw ^ static_cast<std::uint64_t>(p)) >> 40);
    }
    return 0;  // full and window: nothing but age counts
  }

  void reduce(lane& l, std::size_t which, const std::map<std::int64_t, double>& last) {
    if (static_cast<int>(l.kept.size()) < l.budget + every) return;
    const std::size_t drop = l.kept.size() - tokens::u(l.budget);
    std::vector<std::pair<double, std::int64_t>> candidates;
    for (const std::int64_t p : l.kept)
      if (!is_protected(l, p)) candidates.emplace_back(worth(l, which, p, last), p);
    std::sort(candidates.begin(), candidates.end());  // of equals the oldest first
    if (drop < candidates.size() && policy_.name != "window" && policy_.name != "full" && policy_.name != "random") {
      const double out = candidates[drop - 1].first, in = candidates[drop].first;
      if (in != 0 || out != 0) margin = std::min(margin, std::abs(in - out) / std::max(std::abs(in), 1e-30));
    }
    for (std::size_t i = 0; i < drop; ++i) {
      std::erase(l.kept, candidates[i].second);
      l.score.erase(candidates[i].second);
      l.size.erase(candidates[i].second);
    }
    std::erase_if(l.score, [&](const auto& s) { return !std::binary_search(l.kept.begin(), l.kept.end(), s.first); });
  }

  policy_spec policy_;
  const tokens* data_;
  const tokens* entering_;
  std::vector<lane> lanes_;
  std::int64_t next_ = 0;
};

}  // namespace support
