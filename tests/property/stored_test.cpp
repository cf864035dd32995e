// What policies keep that look at stored keys and values, against their formulas in double over random vectors: tokens,
// chunks, prompts at once, held tokens, undo, forks and saves.

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <string>
#include <vector>

#include <support/random.hpp>
#include <support/vector_engine.hpp>

namespace stored_property {

namespace {

using support::generator;
using support::vector_engine;
using namespace multistate;
using vec = std::vector<double>;

double dot(const vec& a, const vec& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}
vec softmax(vec x) {
  const double most = *std::max_element(x.begin(), x.end());
  double total = 0;
  for (double& e : x) total += e = std::exp(e - most);
  for (double& e : x) e /= total;
  return x;
}

/// One KV head, by the descriptions alone. Copy it to fork it.
struct naive {
  std::string name;
  int budget = 0, head = 0;
  int sinks = 0, lag = 1, window = 1, kernel = 1, every = 1, future = 1;
  double lambda = 0, epsilon = 0;
  bool covariance = false, values = false;
  bool all_heads = false;  // keydiff at scope layer
  std::vector<int> kept;   // positions, increasing
  int next = 0, prompt = 0;
  bool pin = false, by_max = false;
  int trigger = 0, offset_max = 1;
  double margin = std::numeric_limits<double>::infinity();

  static vec of(const std::vector<float>& x, std::size_t at, int d) {
    return vec(x.begin() + static_cast<std::ptrdiff_t>(at), x.begin() + static_cast<std::ptrdiff_t>(at) + d);
  }
  vec key(const vector_engine& e, int p, int h) const { return of(e.k, e.at(p, h, e.kv_heads), e.d); }
  vec query(const vector_engine& e, int p, int g) const {
    return of(e.q, e.at(p, head * (e.heads / e.kv_heads) + g, e.heads), e.d);
  }

  void feed(const vector_engine& e, int accepted, phase when, bool one_shot) {
    for (int j = 0; j < accepted; ++j) kept.push_back(next++);
    if (accepted > 0 && when != phase::decode) prompt = next;
    const int n = static_cast<int>(kept.size());
    if (accepted == 0 || n <= budget) return;
    bool due = true;
    if (name == "lagkv") due = n >= budget + lag;
    if (name == "rkv") due = next % every == 0 || one_shot || n >= budget + every;
    if (name == "expected") due = every > 1 ? n >= budget + every : when != phase::decode || one_shot;
    if (name == "triattention") {
      const int room = every - 1 + (trigger == 0 ? 0 : budget);
      due = n > budget + room || (trigger == 0   ? n >= budget + every
                                  : trigger == 1 ? n - prompt >= budget + every
                                                 : n - prompt >= budget && next % every == 0);
    }
    if (!due) return;
    int first = 0, newest = 0;
    if (name == "lagkv") first = sinks, newest = lag + (n - sinks) % lag;
    if (name == "rkv") newest = window;
    if (name == "expected") first = static_cast<int>(std::lower_bound(kept.begin(), kept.end(), sinks) - kept.begin());
    if (name == "triattention" && pin)
      first = static_cast<int>(std::lower_bound(kept.begin(), kept.end(), std::min(prompt, budget)) - kept.begin());
    const vec w = name == "triattention" ? distances(e)
                  : name == "keydiff"    ? differences(e)
                  : name == "lagkv"      ? lags(e)
                  : name == "rkv"        ? redundancies(e)
                                         : expectations(e);
    std::vector<std::pair<double, int>> open;
    double most = 0;
    for (int i = first; i < n - newest; ++i) {
      open.push_back({w[to_size(i)], kept[to_size(i)]});
      most = std::max(most, std::abs(w[to_size(i)]));
    }
    std::sort(open.begin(), open.end());
    const std::size_t gone = to_size(n - budget);
    if (gone < open.size()) margin = std::min(margin, (open[gone].first - open[gone - 1].first) / most);
    for (std::size_t i = 0; i < gone; ++i) std::erase(kept, open[i].second);
  }

  vec differences(const vector_engine& e) const {
    vec w(kept.size(), 0.0);
    for (int h = all_heads ? 0 : head; h < (all_heads ? e.kv_heads : head + 1); ++h) {
      vec anchor(to_size(e.d), 0.0);
      for (const int p : kept) {
        const vec k = key(e, p, h);
        for (std::size_t i = 0; i < k.size(); ++i)
          anchor[i] += k[i] / std::sqrt(dot(k, k)) / static_cast<double>(kept.size());
      }
      for (std::size_t i = 0; i < kept.size(); ++i) {
        const vec k = key(e, kept[i], h);
        w[i] -= dot(k, anchor) / std::sqrt(dot(k, k) * dot(anchor, anchor));
      }
    }
    return w;
  }

  vec lags(const vector_engine& e) const {
    vec w(kept.size(), 0.0);
    for (int from = sinks; from + 2 * lag <= static_cast<int>(kept.size()); from += lag)
      for (const auto* x : {&e.k, &e.v}) {
        const auto row = [&](int i) { return of(*x, e.at(kept[to_size(i)], head, e.kv_heads), e.d); };
        vec low = row(from + lag), high = low, spread;
        for (int i = from + lag; i < from + 2 * lag; ++i)
          for (std::size_t c = 0; c < low.size(); ++c)
            low[c] = std::min(low[c], row(i)[c]), high[c] = std::max(high[c], row(i)[c]);
        for (int i = from; i < from + lag; ++i) {
          vec y = row(i);
          double mean = 0, square = 0;
          for (std::size_t c = 0; c < y.size(); ++c) {
            y[c] = high[c] > low[c] ? (y[c] - low[c]) / (high[c] - low[c]) : 0;
            mean += y[c] / e.d;
          }
          for (const double c : y) square += (c - mean) * (c - mean);
          spread.push_back(std::sqrt(square / (e.d - 1)));
        }
        const vec share = softmax(spread);
        for (int i = 0; i < lag; ++i) w[to_size(from + i)] += share[to_size(i)] / 2;
      }
    return w;
  }

  vec redundancies(const vector_engine& e) {
    const std::size_t n = kept.size(), older = n - to_size(window);
    vec importance(older, 0.0), columns(n, 0.0), w(n, 0.0);
    const int from = std::max(0, next - window);
    for (int t = from; t < next && older > 0; ++t) {
      vec logits;
      for (std::size_t i = 0; i < older; ++i) {
        double most = -std::numeric_limits<double>::infinity();
        for (int g = 0; g < e.heads / e.kv_heads; ++g)
          most = std::max(most, dot(query(e, t, g), key(e, kept[i], head)));
        logits.push_back(most / std::sqrt(static_cast<double>(e.d)));
      }
      logits = softmax(logits);
      for (std::size_t i = 0; i < older; ++i) importance[i] += logits[i] / (next - from);
    }
    std::vector<vec> c(n, vec(n, 0.0));
    for (std::size_t i = 0; i < n; ++i) {
      std::size_t latest = 0;
      for (std::size_t j = 0; j < n; ++j) {
        const vec a = key(e, kept[i], head), b = key(e, kept[j], head);
        if (i != j) c[i][j] = dot(a, b) / std::sqrt(dot(a, a) * dot(b, b));
        if (i != j) margin = std::min(margin, std::abs(c[i][j] - 0.5));
        if (c[i][j] > 0.5) latest = j;
      }
      c[i][latest] = 0;
      for (std::size_t j = 0; j < n; ++j) columns[j] += c[i][j] / static_cast<double>(n);
    }
    columns = softmax(columns);
    for (std::size_t i = 0; i < older; ++i) {
      double greatest = 0;
      for (std::size_t j = 0; j < older; ++j)
        if (j + to_size(kernel / 2) >= i && j <= i + to_size(kernel / 2)) greatest = std::max(greatest, importance[j]);
      w[i] = lambda * greatest - (1 - lambda) * columns[i];
    }
    return w;
  }

  vec distances(const vector_engine& e) const {
    const std::size_t half = to_size(e.d / 2);
    const int group = e.heads / e.kv_heads;
    const auto before = [&](const vec& x, int p, std::size_t f) {
      return std::complex<double>(x[f], x[f + half]) * std::polar(1.0, -p * e.frequencies[f]);
    };
    vec w(kept.size(), 0.0);
    for (int g = 0; g < group; ++g) {
      std::vector<std::complex<double>> mean(half);
      vec magnitude(half, 0.0);
      for (int t = 0; t < next; ++t)
        for (std::size_t f = 0; f < half; ++f) {
          mean[f] += before(query(e, t, g), t, f) / static_cast<double>(next);
          magnitude[f] += std::abs(before(query(e, t, g), t, f)) / next;
        }
      for (std::size_t i = 0; i < kept.size(); ++i) {
        const vec k = key(e, kept[i], head);
        vec at;
        for (int o = 1; o <= offset_max; o *= 2) {
          double s = 0;
          for (std::size_t f = 0; f < half; ++f) {
            const auto x = before(k, kept[i], f);
            s += std::abs(mean[f]) * std::abs(x) *
                     std::cos((next - kept[i] + o) * e.frequencies[f] + std::arg(mean[f] * std::conj(x))) +
                 (magnitude[f] - std::abs(mean[f])) * std::abs(x);
          }
          at.push_back(s);
        }
        double sum = 0;
        for (const double s : at) sum += s / static_cast<double>(at.size());
        w[i] += (by_max ? *std::max_element(at.begin(), at.end()) : sum) / group;
      }
    }
    return w;
  }

  /// With the queries turned, not the keys.
  vec expectations(const vector_engine& e) const {
    const std::size_t d = to_size(e.d), half = d / 2, n = kept.size();
    const int group = e.heads / e.kv_heads, count = std::max(1, next - sinks);
    vec w(n, 0.0);
    std::vector<std::complex<double>> mean(half);
    for (std::size_t f = 0; f < half; ++f)
      for (int t = 0; t < future; ++t) mean[f] += std::polar(1.0 / future, (next + t) * e.frequencies[f]);
    const auto rotated = [&](vec x, auto by) {
      for (std::size_t f = 0; f < half; ++f) {
        const std::complex<double> y = std::complex<double>(x[f], x[f + half]) * by(f);
        x[f] = y.real(), x[f + half] = y.imag();
      }
      return x;
    };
    for (int g = 0; g < group; ++g) {
      std::vector<vec> queries;
      vec m(d, 0.0);
      for (int p = sinks; p < next; ++p) {
        const vec before =
            rotated(query(e, p, g), [&](std::size_t f) { return std::polar(1.0, -p * e.frequencies[f]); });
        queries.push_back(rotated(before, [&](std::size_t f) { return mean[f]; }));
        for (std::size_t i = 0; i < d; ++i) m[i] += queries.back()[i] / count;
      }
      vec z;
      std::vector<std::size_t> open;
      for (std::size_t i = 0; i < n; ++i) {
        if (kept[i] < sinks) continue;
        const vec k = key(e, kept[i], head);
        double square = 0;
        for (const vec& q : queries) square += (dot(k, q) - dot(k, m)) * (dot(k, q) - dot(k, m)) / count;
        z.push_back(dot(k, m) / std::sqrt(static_cast<double>(e.d)) + (covariance ? square / (2.0 * e.d) : 0));
        open.push_back(i);
      }
      if (!z.empty()) z = softmax(z);
      for (std::size_t i = 0; i < open.size(); ++i) w[open[i]] += z[i] / group;
    }
    for (std::size_t i = 0; i < n && values; ++i) {
      const vec v = of(e.v, e.at(kept[i], head, e.kv_heads), e.d);
      w[i] = (w[i] + epsilon) * std::sqrt(dot(v, v));
    }
    return w;
  }
};

std::string text_of(generator& g, naive& s) {
  const auto n = [](int x) { return std::to_string(x); };
  const auto yes = [](bool x) { return std::string(x ? "true" : "false"); };
  s.budget = g.between(3, 12);
  std::string text = s.name + ":" + n(s.budget);
  if (s.name == "keydiff" && g.chance(40)) s.all_heads = true, text += ",scope=layer";
  if (s.name == "lagkv") {
    s.lag = g.between(1, (s.budget - 1) / 2);
    s.sinks = g.between(0, s.budget - 2 * s.lag);
    text += ",sinks=" + n(s.sinks) + ",lag=" + n(s.lag);
  }
  if (s.name == "rkv") {
    s.window = g.between(1, s.budget), s.kernel = 1 + 2 * g.between(0, 3), s.every = g.between(1, 9), s.lambda = 0.25;
    text += ",lambda=0.25,window=" + n(s.window) + ",kernel=" + n(s.kernel) + ",every=" + n(s.every);
  }
  if (s.name == "triattention") {
    s.every = g.between(1, 6), s.trigger = g.between(0, 2), s.offset_max = g.between(1, 70);
    s.pin = g.chance(50), s.by_max = g.chance(50);
    const std::string triggers[] = {"slack", "slack_decode", "modulo"};
    text += ",scope=head,offset_max=" + n(s.offset_max) + ",aggregate=" + (s.by_max ? "max" : "mean") +
            ",pin_prompt=" + yes(s.pin) + ",every=" + n(s.every) + ",trigger=" + triggers[s.trigger];
  }
  if (s.name == "expected") {
    s.sinks = g.between(0, s.budget - 1), s.future = g.between(1, 20), s.every = g.between(2, 4);
    s.covariance = g.chance(60), s.values = g.chance(60), s.epsilon = g.chance(50) ? 0.125 : 0;
    text += ",sinks=" + n(s.sinks) + ",future=" + n(s.future) + ",covariance=" + yes(s.covariance) +
            ",values=" + yes(s.values) + (s.epsilon > 0 ? ",epsilon=0.125" : "") + ",every=" + n(s.every);
  }
  return text;
}

int compared = 0;

void one_program(generator& g, const std::string& name) {
  naive s;
  s.name = name;
  const std::string text = text_of(g, s);
  SCOPED_TRACE(text);
  const int kv_heads = g.between(1, 3), group = g.between(1, 3), d = 2 * g.between(1, 4), tokens = 60;
  vector_engine e{.tokens = tokens, .heads = kv_heads * group, .kv_heads = kv_heads, .d = d};
  e.use_theta(100);
  for (auto* x : {&e.q, &e.k, &e.v}) {
    x->resize(to_size(tokens) * to_size(x == &e.q ? e.heads : kv_heads) * to_size(d));
    for (float& f : *x) f = static_cast<float>(g.between(-1000, 1000)) / 500;
  }
  const limits room{.chunk = g.between(1, 6), .hold = 0, .undo = g.chance(50) ? 5 : 0, .prompt = g.between(1, 30)};
  limits with_hold = room;
  with_hold.hold = g.between(0, room.chunk);
  const auto policy = parse_policy(entries_of(standard_policies()), text).value();
  auto made = policy.make_decider(e.where(), with_hold), other = policy.make_decider(e.where(), with_hold);
  ASSERT_TRUE(made && other) << made.reason().message();
  any_decider decider = std::move(*made);
  decider.read_from(e.reader());
  other->read_from(e.reader());
  std::vector<naive> slow;
  for (int lane = 0; lane < decider.lanes(); ++lane) slow.push_back(s), slow.back().head = lane;
  const auto same = [&] {
    for (std::size_t lane = 0; lane < slow.size(); ++lane) {
      if (slow[lane].margin < 1e-4) return false;
      std::vector<int> kept;
      for (const position p : decider.positions(static_cast<int>(lane)))
        if (p >= 0) kept.push_back(static_cast<int>(p));
      std::sort(kept.begin(), kept.end());
      EXPECT_EQ(kept, slow[lane].kept) << "lane " << lane << ", " << slow[lane].next << " tokens";
      ++compared;
    }
    return !testing::Test::HasFailure();
  };
  const auto feed = [&](int c, phase when, bool held, int accepted) {
    const bool one_shot = c > with_hold.chunk;
    e.feed(decider, slow[0].next, c, when, held, held ? accepted : -1);
    for (naive& lane : slow) lane.feed(e, accepted, when, one_shot);
  };
  std::vector<std::pair<int, std::vector<naive>>> past;  // tokens of a cycle, and how things were before it
  if (g.chance(70)) {
    const int c = g.between(1, std::max(room.prompt, room.chunk));
    feed(c, phase::prompt_end, false, c);
  }
  while (same() && slow[0].next < tokens) {
    const int left = tokens - slow[0].next;
    if (!past.empty() && g.chance(15) && decider.can_undo(past.back().first)) {
      ASSERT_TRUE(decider.undo(past.back().first));
      slow = past.back().second;
      past.pop_back();
      continue;
    }
    if (g.chance(10)) {
      std::vector<std::byte> bytes(decider.save_bytes());
      decider.save(bytes);
      ASSERT_EQ(other->load(bytes).message(), "");
      if (g.chance(50)) {
        ASSERT_TRUE(decider.copy_from(*other));
      }
      std::swap(decider, *other);
      past.clear();
    }
    const bool held = with_hold.hold > 0 && g.chance(30);
    const int c = std::min(left, g.between(1, held ? with_hold.hold : room.chunk)),
              accepted = held ? g.between(0, c) : c;
    const auto before = slow;
    feed(c, g.chance(10) ? phase::prompt_end : phase::decode, held, accepted);
    if (accepted > 0) past.push_back({accepted, before});
  }
}

TEST(stored, keeps_what_the_formulas_say) {
  generator g(support::base_seed() + 18);
  for (const char* name : {"keydiff", "lagkv", "rkv", "expected", "triattention"}) {
    compared = 0;
    for (int i = 0; i < support::rounds(60) && !HasFailure(); ++i) one_program(g, name);
    EXPECT_GT(compared, 60 * support::rounds(1)) << name << ": few programs are far from a tie";
  }
}

/// Observed attention with CriticalKV over a prompt at once, per KV head.
TEST(stored, critical_keeps_what_can_move_the_output) {
  generator g(support::base_seed() + 19);
  int near = 0;
  for (int i = 0; i < support::rounds(60) && !HasFailure(); ++i) {
    const int kv_heads = g.between(1, 2), group = g.between(1, 3), d = 2 * g.between(1, 3), n = g.between(8, 30);
    const int hidden = g.between(1, 5), budget = g.between(2, n - 1), share = g.between(1, 4);
    vector_engine e{.tokens = n, .heads = kv_heads * group, .kv_heads = kv_heads, .d = d};
    std::vector<float> output(to_size(hidden * e.heads * d));
    for (auto* x : {&e.q, &e.k, &e.v}) x->resize(to_size(n * (x == &e.q ? e.heads : kv_heads) * d));
    for (auto* x : {&e.q, &e.k, &e.v, &output})
      for (float& f : *x) f = static_cast<float>(g.between(-1000, 1000)) / 500;
    placement where = e.where();
    where.output = output;
    const std::string text =
        "observed:" + std::to_string(budget) + ",critical=0." + std::to_string(25 * share - (share == 4 ? 1 : 0));
    auto decider =
        parse_policy(entries_of(standard_policies()), text).value().make_decider(where, {.prompt = n}).value();
    e.feed(decider, 0, n, phase::prompt_end);
    for (int kv = 0; kv < kv_heads; ++kv) {
      std::vector<std::pair<double, int>> all;
      vec length(to_size(n), 0.0), seen(to_size(n), 0.0);
      for (int h = kv * group; h < (kv + 1) * group; ++h)
        for (int t = 0; t < n; ++t) {
          vec logits;
          for (int p = 0; p <= t; ++p)
            logits.push_back(dot(naive::of(e.q, e.at(t, h, e.heads), d), naive::of(e.k, e.at(p, kv, kv_heads), d)) /
                             std::sqrt(double(d)));
          logits = softmax(logits);
          for (int p = 0; p <= t; ++p) seen[to_size(p)] += logits[to_size(p)] / group / (n - p);
          for (int row = 0; row < hidden; ++row)
            length[to_size(t)] += std::abs(dot(naive::of(output, to_size((row * e.heads + h) * d), d),
                                               naive::of(e.v, e.at(t, kv, kv_heads), d))) /
                                  group;
        }
      for (int p = 0; p < n; ++p) all.push_back({-seen[to_size(p)], p});
      std::sort(all.begin(), all.end());
      const auto first = static_cast<std::size_t>(std::stod(text.substr(text.find('=') + 1)) * budget);
      const bool tied =
          first > 0 && first < all.size() && all[first].first - all[first - 1].first < 1e-5 * -all[first - 1].first;
      for (std::size_t at = first; at < all.size(); ++at)
        all[at].first = -(1e-4 - all[at].first) * length[to_size(all[at].second)];
      std::sort(all.begin() + static_cast<std::ptrdiff_t>(first), all.end());
      const auto gap = [&](std::size_t at) {
        return at == 0 || all[at].first - all[at - 1].first > 1e-4 * std::abs(all[at].first);
      };
      if (!gap(to_size(budget)) || tied) {
        ++near;
        continue;
      }
      std::vector<int> right, kept;
      for (std::size_t at = 0; at < to_size(budget); ++at) right.push_back(all[at].second);
      for (const position p : decider.positions(kv))
        if (p >= 0) kept.push_back(static_cast<int>(p));
      std::sort(right.begin(), right.end());
      std::sort(kept.begin(), kept.end());
      EXPECT_EQ(kept, right) << text << ", head " << kv;
    }
  }
  EXPECT_LT(near, 20);
}

}  // namespace

}  // namespace stored_property
