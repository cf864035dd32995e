#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

namespace support {

/// What one policy of a string says, as plain numbers.
struct choosing_spec {
  std::string name;  // tova, h2o, a2sf, snapkv, observed or window
  int newest = 0;    // tova: newest; h2o, a2sf: recent, -1 is half; snapkv: window
  int kernel = 1;
  double decay = 1;
  bool normalised = false;
  std::string mix = "mean";
  int every = 1;
  int segments = 0, quota = 0;
  bool adaptive = false;
  double floor = 0.2;
};

/// Which states policies keep, from their descriptions alone: every weight looked up by query head, query and position,
/// double arithmetic, nothing of the library. Copy it to fork it.
class naive_choosing {
 public:
  using position = std::int64_t;
  /// What query t of head h (of all layers) gives the state at p.
  using weights = std::function<double(int h, position t, position p)>;
  struct lane {
    std::vector<int> heads;  // query heads, layer after layer
    int budget = 0;
    std::vector<position> kept;                         // increasing
    std::map<std::pair<int, position>, double> sum[2];  // of each side: by head and position
  };

  choosing_spec prompt, decode;
  bool pair = false;
  int budget = 0, group = 1;
  bool mean_of_layers = false;  // scope model_head
  std::vector<lane> lanes;
  position next = 0;
  /// The closest call so far, relative.
  double margin = std::numeric_limits<double>::infinity();

  enum phase_of { in_prompt, prompt_ends, decoding };

  void feed(const weights& w, int c, int accepted, phase_of when, bool one_shot) {
    if (accepted == 0) return;
    for (lane& l : lanes) {
      for (int j = 0; j < accepted; ++j) l.kept.push_back(next + j);
      for (int side = pair ? 0 : 1; side < 2; ++side) {
        const choosing_spec& s = side == 0 ? prompt : decode;
        for (const int h : l.heads)
          for (const position p : l.kept) {
            double& sum = l.sum[side][{h, p}];
            for (int j = 0; j < accepted; ++j)
              if (s.name == "h2o" || s.name == "observed" || s.name == "a2sf")
                sum = sum * s.decay + (p <= next + j ? w(h, next + j, p) : 0.0);
          }
      }
    }
    next += accepted;
    static_cast<void>(c);
    const choosing_spec& s = pair && when != decoding ? prompt : decode;
    const auto due = [&](const lane& l) {
      const int n = static_cast<int>(l.kept.size());
      if (n <= l.budget) return false;
      if (s.name == "snapkv") return when != decoding || accepted_tokens(c) > 1;
      if (s.name == "observed") return when == prompt_ends || one_shot;
      return n >= l.budget + s.every;
    };
    std::vector<std::vector<double>> worths(lanes.size());
    for (std::size_t i = 0; i < lanes.size(); ++i) worths[i] = worth(lanes[i], s, w, accepted);
    bool deals = s.adaptive && when == prompt_ends;
    for (const lane& l : lanes) deals = deals && l.budget == budget && due(l);
    if (deals) deal(s, worths);
    for (std::size_t i = 0; i < lanes.size(); ++i)
      if (due(lanes[i])) drop(lanes[i], s, worths[i]);
  }

 private:
  static int accepted_tokens(int c) { return c; }

  int newest_of(const lane& l, const choosing_spec& s) const {
    if (s.name == "observed" || s.name == "window") return 0;
    if ((s.name == "h2o" || s.name == "a2sf") && s.newest < 0) return l.budget - l.budget / 2;
    return s.newest;
  }
  /// By rank: the newest that are held.
  bool is_open(const lane& l, const choosing_spec& s, std::size_t rank) const {
    return rank + static_cast<std::size_t>(newest_of(l, s)) < l.kept.size();
  }

  std::vector<double> worth(const lane& l, const choosing_spec& s, const weights& w, int c) {
    const std::size_t n = l.kept.size();
    const int side = &s == &prompt ? 0 : 1;
    std::vector<double> all(n, 0.0);
    if (s.name == "window") return all;
    std::vector<std::vector<double>> heads;
    for (const int h : l.heads) {
      std::vector<double> one(n);
      for (std::size_t i = 0; i < n; ++i) {
        const position p = l.kept[i];
        const auto given = [&](position t) { return p <= t ? w(h, t, p) : 0.0; };
        if (s.name == "tova") one[i] = given(next - 1);
        if (s.name == "snapkv") {
          const int rows = std::min(s.newest, c);
          for (int j = 0; j < rows; ++j) one[i] += given(next - 1 - j) / rows;
        }
        if (s.name == "h2o" || s.name == "observed" || s.name == "a2sf")
          one[i] =
              l.sum[side].at({h, p}) / (s.normalised || s.name == "observed" ? static_cast<double>(next - p) : 1.0);
      }
      if (s.mix[0] == 'z') {
        double count = 0, sum = 0, squares = 0;
        for (std::size_t i = 0; i < n; ++i)
          if (is_open(l, s, i)) ++count, sum += one[i];
        for (std::size_t i = 0; i < n; ++i)
          if (is_open(l, s, i)) squares += (one[i] - sum / count) * (one[i] - sum / count);
        for (double& x : one) x = (x - sum / count) / std::max(std::sqrt(squares / count), 1e-6);
      }
      heads.push_back(one);
    }
    const bool greatest = s.mix == "max" || s.mix == "zmax";
    const std::size_t together = mean_of_layers ? static_cast<std::size_t>(group) : heads.size();
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t at = 0; at < heads.size(); at += together) {
        double part = heads[at][i];
        for (std::size_t h = at + 1; h < at + together; ++h)
          part = greatest ? std::max(part, heads[h][i]) : part + heads[h][i];
        all[i] +=
            (greatest ? part : part / static_cast<double>(together)) / static_cast<double>(heads.size() / together);
      }
    if (s.name == "snapkv" && n > static_cast<std::size_t>(s.newest)) {
      const int older = static_cast<int>(n) - s.newest;
      std::vector<double> pooled = all;
      for (int i = 0; i < older; ++i) {
        double sum = 0;
        for (int j = i - s.kernel / 2; j <= i + s.kernel / 2; ++j)
          if (j >= 0 && j < older) sum += all[static_cast<std::size_t>(j)];
        pooled[static_cast<std::size_t>(i)] = sum / s.kernel;
      }
      all = pooled;
    }
    return all;
  }

  void close(double in, double out) {
    margin = std::min(margin, std::abs(in - out) / std::max({std::abs(in), std::abs(out), 1e-9}));
  }

  void deal(const choosing_spec& s, const std::vector<std::vector<double>>& worths) {
    struct entry {
      double worth;
      position at;
      std::size_t lane;
    };
    std::vector<entry> rest;
    int left = budget * static_cast<int>(lanes.size());
    const std::vector<lane> before = lanes;
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      std::vector<entry> mine;
      int closed = 0;
      for (std::size_t r = 0; r < before[i].kept.size(); ++r) {
        if (is_open(before[i], s, r))
          mine.push_back({worths[i][r], before[i].kept[r], i});
        else
          ++closed;
      }
      std::sort(mine.begin(), mine.end(),
                [](const entry& a, const entry& b) { return a.worth != b.worth ? a.worth > b.worth : a.at > b.at; });
      int least = 1;  // what both policies can be run with
      for (const choosing_spec* side : {&prompt, &decode})
        if (pair || side == &decode)
          least = std::max({least, side->name == "window" || side->name == "observed" ? 1 : side->newest,
                            side->segments * side->quota});
      const int given = std::min(std::max({closed, static_cast<int>(s.floor * budget), least}),
                                 closed + static_cast<int>(mine.size()));
      lanes[i].budget = given;
      left -= given;
      rest.insert(rest.end(), mine.begin() + (given - closed), mine.end());
    }
    std::stable_sort(rest.begin(), rest.end(), [](const entry& a, const entry& b) {
      return a.worth != b.worth ? a.worth > b.worth : a.at > b.at;
    });
    for (int i = 0; i < left && i < static_cast<int>(rest.size()); ++i)
      ++lanes[rest[static_cast<std::size_t>(i)].lane].budget;
    if (left > 0 && left < static_cast<int>(rest.size()))
      close(rest[static_cast<std::size_t>(left)].worth, rest[static_cast<std::size_t>(left - 1)].worth);
  }

  void drop(lane& l, const choosing_spec& s, const std::vector<double>& worth) {
    struct entry {
      int tier;
      double worth;
      position at;
      bool operator<(const entry& b) const {
        if (tier != b.tier) return tier < b.tier;
        return worth != b.worth ? worth < b.worth : at < b.at;
      }
    };
    std::vector<entry> open;
    std::map<position, int> held;
    for (std::size_t r = 0; r < l.kept.size(); ++r) {
      if (is_open(l, s, r))
        open.push_back({0, worth[r], l.kept[r]});
      else if (s.segments > 0)
        ++held[l.kept[r] * s.segments / next];
    }
    std::sort(open.begin(), open.end());
    if (s.segments > 0)
      for (std::size_t i = open.size(); i-- > 0;)
        if (int& h = held[open[i].at * s.segments / next]; h < s.quota) ++h, open[i].tier = 1;
    std::sort(open.begin(), open.end());
    const std::size_t gone = l.kept.size() - static_cast<std::size_t>(l.budget);
    for (std::size_t i = 1; i < open.size(); ++i)
      if (s.segments > 0 || i == gone) close(open[i].worth, open[i - 1].worth);
    for (std::size_t i = 0; i < gone; ++i) std::erase(l.kept, open[i].at);
  }
};

}  // namespace support
