// What run.py compiles against a library with one mistake in it: random runs against the slow reference, and the
// fixtures that run.py hands over. Small and quick to compile on purpose; ends with status 1 and one line at the first
// difference.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <limits>
#include <string>
#include <vector>

#include <multistate/attention/scalar.hpp>
#include <multistate/policy/h2o.hpp>
#include <multistate/policy/knorm.hpp>
#include <multistate/policy/tova.hpp>
#include <multistate/policy/window.hpp>
#include <multistate/state/multi_state.hpp>
#include <multistate/step/one_shot.hpp>
#include <multistate/step/step.hpp>

#include <support/data.hpp>
#include <support/naive.hpp>

using namespace multistate;
using support::generator;
using support::naive;
using support::tokens;

namespace {

std::size_t u(int n) { return static_cast<std::size_t>(n); }

void expect(bool holds, const std::string& message) {
  if (holds) return;
  std::cout << "caught: " << message << "\n";
  std::exit(1);
}

struct sizes {
  support::policy_spec policy;
  support::dimensions dims;
  int layers = 1;
  limits room;
};

template <policy P>
class sequence {
 public:
  using state = multi_state<f32>;
  sequence(const P& settings, const sizes& s, const tokens& data)
      : dims_{s.dims.heads, s.dims.kv_heads, s.dims.dk, s.dims.dv},
        layers_(s.layers),
        data_(data),
        attend_{.dims = dims_, .options = {}} {
    const bool model = settings.scope == scope_kind::model;
    for (int i = 0; i < (model ? 1 : layers_); ++i)
      deciders.push_back(
          decider<P>::make(settings, {.kv_heads = dims_.kv_heads, .layer = i, .layers = layers_}, s.room).value());
    for (int i = 0; i < layers_; ++i) states_.push_back(state::make(dims_, deciders[model ? 0 : u(i)].plan()).value());
    int most = 0;
    for (int lane = 0; lane < deciders[0].lanes(); ++lane) most = std::max(most, deciders[0].capacity(lane));
    scratch_.resize(step_scratch_bytes<P, true>(dims_, 1, most, std::max(s.room.chunk, s.room.prompt)));
  }

  std::vector<float> feed(int c, bool prompt = false) {
    std::vector<float> out(u(layers_ * c * dims_.heads * dims_.dv));
    const auto first = static_cast<int>(deciders[0].next_position());
    const auto io_of = [&](int i) {
      return step_io{.q = data_.query(i, first),
                     .k = data_.key(i, first),
                     .v = data_.value(i, first),
                     .out = out.data() + u(i * c * dims_.heads * dims_.dv),
                     .c = c};
    };
    for (int i = 0; i < layers_; ++i) {
      const auto layer = place(i);
      const step_io io = io_of(i);
      if (prompt)
        one_shot(layer, io, dims_, scratch_, attend_);
      else
        step(std::span<const layer_of<P, state>>(&layer, 1), std::span<const step_io>(&io, 1), dims_, scratch_,
             attend_);
    }
    if (prompt && place(0).shared())
      for (int i = 0; i < layers_; ++i) store_survivors(place(i), io_of(i), dims_);
    return out;
  }
  void feed_held(int c, int accepted) {
    std::vector<float> out(u(c * dims_.heads * dims_.dv));
    const auto first = static_cast<int>(deciders[0].next_position());
    for (int i = 0; i < layers_; ++i) {
      const auto layer = place(i);
      const step_io io{
          .q = data_.query(i, first), .k = data_.key(i, first), .v = data_.value(i, first), .out = out.data(), .c = c};
      step<true>(std::span<const layer_of<P, state>>(&layer, 1), std::span<const step_io>(&io, 1), dims_, scratch_,
                 attend_);
      if (!layer.last()) continue;
      const multistate::decision& decision = layer.decider->reduce(accepted);
      for (state& s : layer.states) s.apply(decision);
    }
  }
  void undo(int count) {
    for (auto& d : deciders) expect(d.undo(count), "undo was refused");
    for (int i = 0; i < layers_; ++i) states_[u(i)].apply(place(i).decider->last());
  }
  std::vector<std::int64_t> kept(int layer, int kv_head) const {
    const auto& d = deciders[deciders.size() == 1 ? 0 : u(layer)];
    const int lane = lane_of(d.settings().scope, kv_head);
    std::vector<slot> order(u(d.live(lane)));
    d.rank_order(lane, order);
    std::vector<std::int64_t> p;
    for (const slot s : order) p.push_back(index(s) < d.positions(lane).size() ? d.positions(lane)[index(s)] : -2);
    return p;
  }
  std::vector<decider<P>> deciders;

 private:
  layer_of<P, state> place(int i) {
    if (deciders[0].settings().scope == scope_kind::model)
      return {.decider = &deciders[0], .states = states_, .layer = i};
    return {.decider = &deciders[u(i)], .states = {&states_[u(i)], 1}};
  }
  shape dims_;
  int layers_;
  const tokens& data_;
  scalar_attention attend_;
  std::vector<state> states_;
  std::vector<std::byte> scratch_;
};

template <class F>
void with_policy(const support::policy_spec& s, const F& f) {
  const scope_kind scope = s.scope == support::lanes_by::head    ? scope_kind::head
                           : s.scope == support::lanes_by::layer ? scope_kind::layer
                                                                 : scope_kind::model;
  if (s.name == "tova") return f(tova{.budget = s.budget, .scope = scope, .pinned = s.first, .newest = s.newest});
  if (s.name == "h2o")
    return f(h2o{.budget = s.budget, .scope = scope, .recent = s.recent, .normalised = s.normalised});
  if (s.name == "knorm") return f(knorm{.budget = s.budget, .scope = scope});
  f(window{.budget = s.budget, .scope = scope, .sinks = s.first});
}

template <policy P>
void compare(const sequence<P>& fast, const naive& slow, const sizes& s, const std::string& how) {
  for (int layer = 0; layer < s.layers; ++layer)
    for (int h = 0; h < s.dims.kv_heads; ++h)
      expect(fast.kept(layer, h) == slow.lane_of(layer, h).kept, how + ": other positions kept by " + s.policy.text());
}
void compare(const std::vector<float>& a, const std::vector<double>& b, const std::string& how) {
  for (std::size_t i = 0; i < a.size(); ++i) expect(std::abs(double{a[i]} - b[i]) <= 1e-5, how + ": another output");
}

void random_run(generator& g) {
  sizes s;
  s.dims = support::random_dimensions(g);
  s.layers = g.one_of(std::vector<int>{1, 3});
  s.policy = support::random_policy(g, g.between(1, 7), {"tova", "h2o", "h2o", "knorm", "window"});
  s.room = {
      .chunk = g.between(1, 5), .hold = 0, .undo = g.chance(40) ? 4 : 0, .every = g.one_of(std::vector<int>{1, 1, 3})};
  if (g.chance(30)) s.room.hold = g.between(1, s.room.chunk);
  if (g.chance(30)) s.room.prompt = g.between(1, 20);
  const int count = 36;
  tokens data = support::random_tokens(g, s.dims, s.layers, count);
  if (s.policy.name == "tova" && g.chance(15)) std::fill(data.q.begin(), data.q.end(), 0.0f);  // ties
  const bool ties = data.q[0] == 0.0f;
  with_policy(s.policy, [&](const auto& settings) {
    sequence fast(settings, s, data);
    naive slow(s.policy, data, data);
    slow.every = s.room.every;
    if (s.room.prompt > 0) compare(fast.feed(s.room.prompt, true), slow.feed(s.room.prompt), "one-shot prompt");
    for (int call = 0; slow.next() < count - 5 && call < 60; ++call) {
      if (slow.margin < 2e-5 && !ties) return;
      compare(fast, slow, s, "after " + std::to_string(slow.next()) + " tokens");
      const int c = g.between(1, s.room.chunk);
      if (call == 8 && slow.next() > 1 && s.policy.budget > 2 &&
          s.policy.first + s.policy.newest + 1 < s.policy.budget && s.policy.name != "h2o") {
        const std::int64_t p = slow.next() - 1;
        bool pinned = true;
        for (auto& d : fast.deciders) pinned = d.pin(p, p + 1) && pinned;
        expect(pinned, "a pin was refused");
        slow.pins = {{p, p + 1}};
      }
      if (s.room.hold > 0 && g.chance(40)) {
        const int held = std::min(c, s.room.hold), accepted = g.between(0, held);
        fast.feed_held(held, accepted);
        slow.feed(held, accepted);
      } else if (s.room.undo > 0 && c <= s.room.undo && g.chance(40)) {
        fast.feed(c);
        fast.undo(c);
      } else {
        compare(fast.feed(c), slow.feed(c), "chunk of " + std::to_string(c));
      }
    }
  });
}

/// What run.py took from the fixtures: a line of numbers and names, then q, k, v, out as floats, kept and step_end as
/// ints.
void golden(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  int cases = 0;
  in >> cases;
  for (; cases > 0; --cases) {
    std::string name;
    sizes s;
    int count = 0, steps = 0, lanes = 0, scope = 0, normalised = 0;
    in >> name >> s.policy.name >> scope >> s.policy.budget >> s.policy.first >> s.policy.recent >> normalised >>
        count >> s.dims.heads >> s.dims.kv_heads >> s.dims.dk >> s.dims.dv >> steps >> lanes;
    in.get();
    s.policy.scope = scope == 0 ? support::lanes_by::head : support::lanes_by::layer;
    s.policy.normalised = normalised != 0;
    const auto read = [&](auto& v, int n) {
      v.resize(u(n));
      in.read(reinterpret_cast<char*>(v.data()), static_cast<std::streamsize>(v.size() * 4));
    };
    tokens data{.dims = s.dims, .layers = 1, .count = count, .q = {}, .k = {}, .v = {}};
    std::vector<float> out;
    std::vector<std::int32_t> kept, step_end;
    read(data.q, count * s.dims.heads * s.dims.dk);
    read(data.k, count * s.dims.kv_heads * s.dims.dk);
    read(data.v, count * s.dims.kv_heads * s.dims.dv);
    read(out, count * s.dims.heads * s.dims.dv);
    read(kept, steps * lanes * s.policy.budget);
    read(step_end, steps);
    expect(static_cast<bool>(in), "the fixtures are not what this program reads");
    for (int i = 0; i < steps; ++i)
      s.room.chunk = std::max(s.room.chunk, step_end[u(i)] - (i == 0 ? 0 : step_end[u(i - 1)]));
    with_policy(s.policy, [&](const auto& settings) {
      sequence fast(settings, s, data);
      for (int i = 0; i < steps; ++i) {
        const int from = i == 0 ? 0 : step_end[u(i - 1)];
        const auto x = fast.feed(step_end[u(i)] - from);
        for (std::size_t j = 0; j < x.size(); ++j)
          expect(std::abs(x[j] - out[u(from * s.dims.heads * s.dims.dv) + j]) <= 1e-5f, name + ": another output");
        for (int lane = 0; lane < lanes; ++lane) {
          auto now = fast.kept(0, lane);
          now.resize(u(s.policy.budget), -1);
          for (int j = 0; j < s.policy.budget; ++j)
            expect(now[u(j)] == kept[u((i * lanes + lane) * s.policy.budget + j)], name + ": other positions kept");
        }
      }
    });
  }
}

/// Sums over a million steps, and NaN.
void numbers() {
  std::vector<position> positions{0};
  std::vector<float> memory(2);
  const std::vector<float> row{0.01f};
  lane_ref lane;
  lane.positions = positions;
  lane.columns = memory;
  lane.column_stride = 1;
  memory[0] = 3e5f;
  for (int i = 0; i < 1000000; ++i)
    h2o{}.observe(lane, {.data = row.data(), .stride = 1, .n = 1, .queries = 1, .heads = 1, .kind = rows_kind::sum});
  expect(std::abs(memory[0] - 3.1e5f) < 1.0f, "sums lose their precision");
  const std::vector<float> worth{-std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN(), 0};
  const std::vector<position> order{0, 1, 2};
  slot out[1];
  lowest(worth, order, {.structural = {}, .now = 2, .pins = {}}, out);
  expect(out[0] == slot{1}, "NaN is not the lowest");
}

}  // namespace

int main(int argc, char** argv) {
  for (int round = 0; round < 400; ++round) {
    generator g = support::round_seed{1, round}.make(77);
    random_run(g);
  }
  if (argc > 1) golden(argv[1]);
  numbers();
  std::cout << "nothing found\n";
}
