// The one file that instantiates every policy and format for the property tests (support/runner.hpp); its own test
// compares the library with the slow reference.

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include <multistate/attention/attention.hpp>
#include <multistate/policies.hpp>
#include <multistate/state/multi_state.hpp>
#include <multistate/step/one_shot.hpp>
#include <multistate/step/step.hpp>

#include <support/attend.hpp>
#include <support/busy_policy.hpp>
#include <support/property.hpp>
#include <support/replace_new.hpp>
#include <support/runner.hpp>

namespace support {

namespace {

using namespace multistate;

template <class F>
constexpr format named() {
  return std::is_same_v<F, f16> ? format::f16 : std::is_same_v<F, bf16> ? format::bf16 : format::f32;
}
shape shape_of(const dimensions& d) { return {d.heads, d.kv_heads, d.dk, d.dv}; }

/// Calls f.operator()<Rows, K, V>() with the types that the arguments name. Keys and values have formats of their own:
/// f32 both, f16 both, or bf16 keys and f16 values; more would take long to compile.
template <needs Rows, class F>
void with_formats(format keys, [[maybe_unused]] format values, const F& f) {
  if (keys == format::bf16) return f.template operator()<Rows, bf16, f16>();
  if (keys == format::f16) return f.template operator()<Rows, f16, f16>();
  f.template operator()<Rows, f32, f32>();
}
template <class F>
void with_types(needs rows, format keys, format values, const F& f) {
  if (rows == needs::last_row) return with_formats<needs::last_row>(keys, values, f);
  if (rows == needs::row_sum) return with_formats<needs::row_sum>(keys, values, f);
  if (rows == needs::each_row) return with_formats<needs::each_row>(keys, values, f);
  return with_formats<needs::nothing>(keys, values, f);
}

template <class Attention>
class engine_of final : public engine {
 public:
  Attention call;
  std::vector<std::byte> scratch;
  explicit engine_of(Attention a) : call(std::move(a)) {}
  void attend(needs rows, format keys, format values, std::span<const attention_task> tasks) const noexcept override {
    with_types(rows, keys, values,
               [&]<needs Rows, class K, class V>() { call.template operator()<Rows, K, V>(tasks); });
  }
};

/// The callable that step() wants.
struct through_engine {
  const engine* to;
  template <needs Want, class K, class V>
  void operator()(std::span<const attention_task> tasks) const noexcept {
    to->attend(Want, named<K>(), named<V>(), tasks);
  }
};

template <policy P>
P settings_of(const policy_spec& s) {
  P p;
  p.budget = s.budget;
  p.scope = s.scope == lanes_by::head    ? scope_kind::head
            : s.scope == lanes_by::layer ? scope_kind::layer
                                         : scope_kind::model;
  if constexpr (std::is_same_v<P, window>) p.sinks = s.first;
  if constexpr (std::is_same_v<P, tova>) p.pinned = s.first;
  if constexpr (std::is_same_v<P, tova> || std::is_same_v<P, foreign::busy>) p.newest = s.newest;
  if constexpr (std::is_same_v<P, h2o>) {
    p.recent = s.recent;
    p.normalised = s.normalised;
  }
  if constexpr (std::is_same_v<P, multistate::random_choice>) p.seed = s.seed;
  return p;
}

template <policy P, class K, class V>
class runner_of final : public runner {
 public:
  using state = multi_state<K, V>;

  runner_of(const run_spec& spec, const tokens& data) : spec_(spec), dims_(shape_of(spec.dims)), data_(&data) {
    const P settings = settings_of<P>(spec.policy);
    const bool model = spec.policy.scope == lanes_by::model;
    for (int i = 0; i < (model ? 1 : spec.layers); ++i)
      decider_.push_back(decider<P>::make(settings, {.kv_heads = dims_.kv_heads, .layer = i, .layers = spec.layers},
                                          spec.room, spec.lane_budgets)
                             .value());
    for (int i = 0; i < spec.layers; ++i) {
      arena memory;
      if (spec.own_arena) {
        arenas_.emplace_back(state::bytes_needed(dims_, decider_of(i).plan()));
        memory = {arenas_.back().data(), arenas_.back().size()};
      }
      states_.push_back(state::make(dims_, decider_of(i).plan(), memory).value());
    }
    int most = 0, queries = std::max(spec.room.chunk, spec.room.prompt);
    for (const auto& d : decider_)
      for (int lane = 0; lane < d.lanes(); ++lane) most = std::max(most, d.capacity(lane));
    engine_ = spec.with_simd ? simd_engine(spec.dims, most, queries, spec.room.window)
                             : plain_engine(spec.dims, spec.room.window);
    scratch_.resize(
        std::max(step_scratch_bytes<P>(dims_, 1, most, queries), step_scratch_bytes<P, true>(dims_, 1, most, queries)));
  }

  void feed(int c, float* out) override {
    for (int layer = 0; layer < spec_.layers; ++layer) {
      const layer_of<P, state> at = place(layer);
      const step_io now = io(layer, c, out);
      step(std::span<const layer_of<P, state>>(&at, 1), std::span<const step_io>(&now, 1), dims_, scratch_,
           through_engine{engine_.get()});
    }
  }
  void feed_one_shot(int c, float* out) override {
    const bool model = spec_.policy.scope == lanes_by::model;
    const std::int64_t first = next();
    for (int layer = 0; layer < spec_.layers; ++layer)
      one_shot(place(layer), io(layer, c, out, first), dims_, scratch_, through_engine{engine_.get()});
    if (!model) return;
    for (int layer = 0; layer < spec_.layers; ++layer) store_survivors(place(layer), io(layer, c, out, first), dims_);
  }
  void feed_held(int c, int accepted, float* out) override {
    for (int layer = 0; layer < spec_.layers; ++layer) {
      const layer_of<P, state> at = place(layer);
      const step_io now = io(layer, c, out);
      step<true>(std::span<const layer_of<P, state>>(&at, 1), std::span<const step_io>(&now, 1), dims_, scratch_,
                 through_engine{engine_.get()});
      if (at.last() && at.shared()) {
        const multistate::decision& decision = at.decider->reduce(accepted);
        for (state& s : states_) s.apply(decision);
      }
    }
    if (spec_.policy.scope == lanes_by::model) return;
    for (int layer = 0; layer < spec_.layers; ++layer)
      states_[multistate::to_size(layer)].apply(decider_of(layer).reduce(accepted));
  }
  void feed_batch(const std::vector<runner*>& others, const std::vector<int>& c,
                  const std::vector<float*>& out) override {
    std::vector<runner_of*> all{this};
    for (runner* r : others) all.push_back(static_cast<runner_of*>(r));
    std::vector<std::byte> scratch(scratch_.size() * all.size());
    for (int layer = 0; layer < spec_.layers; ++layer) {
      std::vector<layer_of<P, state>> at;
      std::vector<step_io> now;
      for (std::size_t i = 0; i < all.size(); ++i) {
        at.push_back(all[i]->place(layer));
        now.push_back(all[i]->io(layer, c[i], out[i]));
      }
      step(std::span<const layer_of<P, state>>(at), std::span<const step_io>(now), dims_, scratch,
           through_engine{engine_.get()});
    }
  }

  bool undo(int count) override {
    bool done = false;
    for (std::size_t i = 0; i < decider_.size(); ++i) {
      const bool undone = decider_[i].undo(count);
      EXPECT_TRUE(i == 0 || undone == done);
      done = undone;
    }
    if (!done) return false;
    for (int layer = 0; layer < spec_.layers; ++layer)
      states_[multistate::to_size(layer)].apply(decider_of(layer).last());
    return true;
  }
  bool pin(std::int64_t first, std::int64_t last) override {
    bool done = false;
    for (auto& d : decider_) done = d.pin(first, last);
    return done;
  }
  bool unpin(std::int64_t first, std::int64_t last) override {
    bool done = false;
    for (auto& d : decider_) done = d.unpin(first, last);
    return done;
  }
  bool copy_from(const runner& other) override {
    const auto& from = static_cast<const runner_of&>(other);
    bool done = true;
    for (std::size_t i = 0; i < decider_.size(); ++i) done = decider_[i].copy_from(from.decider_[i]) && done;
    for (std::size_t i = 0; i < states_.size(); ++i) done = states_[i].copy_from(from.states_[i]) && done;
    data_ = from.data_;
    return done;
  }
  std::vector<std::byte> save() const override {
    std::vector<std::byte> all;
    const auto add = [&](const auto& x) {
      const std::size_t at = all.size(), bytes = x.save_bytes();
      all.resize(at + sizeof bytes + bytes);
      std::memcpy(all.data() + at, &bytes, sizeof bytes);
      x.save(std::span(all).subspan(at + sizeof bytes));
    };
    for (const auto& d : decider_) add(d);
    for (const auto& s : states_) add(s);
    return all;
  }
  bool load(const std::vector<std::byte>& bytes) override {
    std::size_t at = 0;
    bool done = true;
    const auto take = [&](auto& x) {
      std::size_t count = 0;
      std::memcpy(&count, bytes.data() + at, sizeof count);
      const error e = x.load(std::span(bytes).subspan(at + sizeof count, count));
      EXPECT_EQ(e.code(), errc::ok) << e.message();
      done = done && !e;
      at += sizeof count + count;
    };
    for (auto& d : decider_) take(d);
    for (auto& s : states_) take(s);
    return done;
  }
  void fill_free(std::byte with) override {
    for (auto& d : decider_) d.close();
    for (int layer = 0; layer < spec_.layers; ++layer)
      states_[multistate::to_size(layer)].apply(decider_of(layer).last());
    for (std::size_t layer = 0; layer < arenas_.size(); ++layer) {
      std::vector<std::byte> poisoned(arenas_[layer].size(), with);
      for (int h = 0; h < dims_.kv_heads; ++h) {
        extent e;
        states_[layer].view(h, e);
        const auto keep = [&](const std::byte* from, std::size_t bytes) {
          std::memcpy(poisoned.data() + (from - arenas_[layer].data()), from, bytes);
        };
        keep(e.k, multistate::to_size(e.n) * e.k_stride);
        keep(e.v, multistate::to_size(e.n) * e.v_stride);
      }
      std::copy(poisoned.begin(), poisoned.end(), arenas_[layer].begin());
    }
  }
  void use(const tokens& data) override { data_ = &data; }

  std::int64_t next() const override { return decider_[0].next_position(); }
  std::vector<std::int64_t> kept(int layer, int kv_head) const override {
    const auto& d = decider_[decider_.size() == 1 ? 0 : multistate::to_size(layer)];
    const int lane = lane_of(d.settings().scope, kv_head);
    std::vector<slot> order(multistate::to_size(d.live(lane)));
    EXPECT_EQ(d.rank_order(lane, order), order.size());
    std::vector<std::int64_t> positions;
    for (const slot s : order) positions.push_back(d.positions(lane)[index(s)]);
    return positions;
  }
  std::vector<std::int64_t> slots(int layer, int kv_head) const override {
    const auto& d = decider_[decider_.size() == 1 ? 0 : multistate::to_size(layer)];
    const auto positions = d.positions(lane_of(d.settings().scope, kv_head));
    return {positions.begin(), positions.end()};
  }
  int budget(int layer, int kv_head) const override {
    const auto& d = decider_[decider_.size() == 1 ? 0 : multistate::to_size(layer)];
    return d.budget(lane_of(d.settings().scope, kv_head));
  }
  std::size_t bytes() const override {
    std::size_t all = 0;
    for (const auto& d : decider_) all += d.bytes();
    for (const auto& s : states_) all += s.bytes();
    return all;
  }
  std::size_t out_size(int c) const override {
    return multistate::to_size(spec_.layers) * multistate::to_size(c) * multistate::to_size(dims_.heads) *
           multistate::to_size(dims_.dv);
  }

 private:
  decider<P>& decider_of(int layer) { return decider_[decider_.size() == 1 ? 0 : multistate::to_size(layer)]; }
  layer_of<P, state> place(int layer) {
    if (spec_.policy.scope == lanes_by::model) return {.decider = &decider_[0], .states = states_, .layer = layer};
    return {.decider = &decider_of(layer), .states = {&states_[multistate::to_size(layer)], 1}};
  }
  step_io io(int layer, int c, float* out, std::int64_t first = -1) {
    if (first < 0) {  // at scope model the first layer has appended already
      const auto& d = decider_of(layer);
      first = d.next_position() - (spec_.policy.scope == lanes_by::model && layer > 0 ? c : 0);
    }
    // Tokens repeat; a chunk must lie in one piece.
    const auto t = static_cast<int>(first % data_->count);
    EXPECT_LE(t + c, data_->count);
    return {.q = data_->query(layer, t),
            .k = data_->key(layer, t),
            .v = data_->value(layer, t),
            .out = out + multistate::to_size(layer) * multistate::to_size(c) * multistate::to_size(dims_.heads) *
                             multistate::to_size(dims_.dv),
            .c = c};
  }

  run_spec spec_;
  shape dims_;
  const tokens* data_;
  std::vector<decider<P>> decider_;  // one, or one for each layer
  std::vector<std::vector<std::byte>> arenas_;
  std::vector<state> states_;
  std::unique_ptr<engine> engine_;
  std::vector<std::byte> scratch_;
};

template <class K, class V>
std::unique_ptr<runner> make_with(const run_spec& spec, const tokens& data) {
  const std::string& name = spec.policy.name;
  if (name == "full") return std::make_unique<runner_of<full, K, V>>(spec, data);
  if (name == "window") return std::make_unique<runner_of<window, K, V>>(spec, data);
  if (name == "h2o") return std::make_unique<runner_of<h2o, K, V>>(spec, data);
  if (name == "tova") return std::make_unique<runner_of<tova, K, V>>(spec, data);
  if (name == "knorm") return std::make_unique<runner_of<knorm, K, V>>(spec, data);
  if (name == "random") return std::make_unique<runner_of<multistate::random_choice, K, V>>(spec, data);
  return std::make_unique<runner_of<foreign::busy, K, V>>(spec, data);
}

}  // namespace

std::unique_ptr<engine> plain_engine(const dimensions& dims, int window) {
  return std::make_unique<engine_of<plain_attention>>(plain_attention(shape_of(dims), window));
}
std::unique_ptr<engine> simd_engine(const dimensions& dims, int n, int c, int window) {
  attention<> call;
  call.dims = shape_of(dims);
  call.options.window = window;
  auto made = std::make_unique<engine_of<attention<>>>(call);
  made->scratch.resize(attend_scratch_bytes(call.dims, n, c));
  made->call.scratch = made->scratch;
  return made;
}

tokens rounded(const tokens& x, format keys, format values) {
  tokens y = x;
  const auto narrow = [](std::vector<float>& v, format f) {
    for (float& e : v)
      e = f == format::f16 ? f16::load(f16::store(e)) : f == format::bf16 ? bf16::load(bf16::store(e)) : e;
  };
  narrow(y.k, keys);
  narrow(y.v, values);
  return y;
}

std::unique_ptr<runner> make_runner(const run_spec& spec, const tokens& data) {
  if (spec.keys == format::f16) return make_with<f16, f16>(spec, data);
  if (spec.keys == format::bf16) return make_with<bf16, f16>(spec, data);
  return make_with<f32, f32>(spec, data);
}

std::string run_spec::text() const {
  static const char* const names[] = {"f32", "f16", "bf16"};
  std::string s = policy.text() + ", H=" + std::to_string(dims.heads) + ", Hkv=" + std::to_string(dims.kv_heads) +
                  ", dk=" + std::to_string(dims.dk) + ", dv=" + std::to_string(dims.dv) +
                  ", layers=" + std::to_string(layers) + ", " + names[static_cast<int>(keys)] + "/" +
                  names[static_cast<int>(values)] + ", chunk=" + std::to_string(room.chunk) +
                  ", hold=" + std::to_string(room.hold) + ", undo=" + std::to_string(room.undo) +
                  ", every=" + std::to_string(room.every) + ", prompt=" + std::to_string(room.prompt) +
                  ", window=" + std::to_string(room.window) + (with_simd ? ", simd" : "");
  if (!lane_budgets.empty()) s += ", budgets";
  for (const int b : lane_budgets) s += " " + std::to_string(b);
  return s;
}

}  // namespace support

namespace {

using namespace support;

class Reference : public Property {};

/// Positions, outputs and order of every run are those of the slow reference, whatever the settings.
TEST_F(Reference, EveryRunEqualsTheSlowOne) {
  int compared = 0, too_close_to_call = 0;
  each_round(2400, 100, [&](generator& g) {
    run_spec spec = random_run(g, all_policies(), 9);
    const int count = g.between(1, 40);
    if (spec.policy.name == "full") spec.policy.budget = count;
    spec.room.chunk = g.one_of(std::vector<int>{1, 1, 2, 5, 9});
    spec.room.every = g.one_of(std::vector<int>{1, 1, 2, 4});
    spec.room.hold = g.chance(30) ? g.between(1, spec.room.chunk) : 0;
    spec.room.undo = g.chance(30) ? g.between(1, 6) : 0;
    spec.room.window = g.chance(15) ? g.between(3, 12) : 0;
    const bool one_shot_first = g.chance(30);
    if (one_shot_first) spec.room.prompt = g.between(1, count);
    SCOPED_TRACE(spec.text());
    const tokens data = random_tokens(g, spec.dims, spec.layers, count), stored = rounded(data, spec.keys, spec.values);
    const auto library = make_runner(spec, data);
    naive slow(spec.policy, stored, data, spec.lane_budgets);
    slow.every = spec.room.every;
    slow.window_mask = spec.room.window;
    if (one_shot_first) {
      slow.use(data, data);  // attended as given, stored narrow
      EXPECT_LE(furthest(library->fed_one_shot(spec.room.prompt), slow.feed(spec.room.prompt)), close_enough);
      slow.use(stored, data);
    }
    while (slow.next() < count) {
      const int left = count - static_cast<int>(slow.next());
      const bool held = spec.room.hold > 0 && g.chance(60);
      const int c = std::min(left, g.between(1, held ? spec.room.hold : spec.room.chunk));
      const int accepted = held ? g.between(0, c) : c;
      const auto out = held ? library->fed_held(c, accepted) : library->fed(c);
      ASSERT_LE(furthest(out, slow.feed(c, accepted)), close_enough) << "at token " << slow.next();
      if (slow.margin < too_close) {
        ++too_close_to_call;
        return;
      }
      ASSERT_EQ(library->next(), slow.next());
      for (int layer = 0; layer < spec.layers; ++layer)
        for (int h = 0; h < spec.dims.kv_heads; ++h)
          ASSERT_EQ(library->kept(layer, h), slow.lane_of(layer, h).kept) << "layer " << layer << ", head " << h;
      if (held && accepted == 0 && g.chance(50)) return;  // could go on like this for ever
    }
    ++compared;
  });
  EXPECT_LT(10 * too_close_to_call, compared + 10) << "most random runs are decided clearly";
}

/// All queries zero: every state of a lane weighs the same.
TEST_F(Reference, TiesGoOldestFirst) {
  each_round(160, 101, [&](generator& g) {
    run_spec spec = random_run(g, {"tova"}, 8);
    spec.policy.first = spec.policy.newest = 0;
    spec.room.chunk = g.between(1, 6);
    SCOPED_TRACE(spec.text());
    tokens data = random_tokens(g, spec.dims, spec.layers, 24);
    std::fill(data.q.begin(), data.q.end(), 0.0f);
    const auto library = make_runner(spec, data);
    for (int t = 0; t < 24;) {
      const int c = std::min(24 - t, g.between(1, spec.room.chunk));
      library->fed(c);
      t += c;
      for (int h = 0; h < spec.dims.kv_heads; ++h) {
        const auto kept = library->kept(0, h);
        const int size = std::min(t, library->budget(0, h));
        ASSERT_EQ(static_cast<int>(kept.size()), size);
        for (int i = 0; i < size; ++i) ASSERT_EQ(kept[static_cast<std::size_t>(i)], t - size + i);
      }
    }
  });
}

}  // namespace
