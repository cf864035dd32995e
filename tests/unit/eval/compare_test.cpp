#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <limits>
#include <map>
#include <mutex>
#include <random>

#include <multistate/eval/compare.hpp>
#include <multistate/model/decoder.hpp>
#include <multistate/policy/random.hpp>
#include <multistate/policy/tova.hpp>
#include <multistate/policy/full.hpp>

namespace {

using namespace multistate;

constexpr int vocab = 23, bos = 22, window_tokens = 12;

model_weights tiny_model() {
  model_weights w;
  w.config = {.layers = 2,
              .hidden = 16,
              .heads = 4,
              .kv_heads = 2,
              .head_dim = 6,
              .ffn = 20,
              .vocab = vocab,
              .context = 64,
              .bos = bos,
              .rope = {.dim = 6}};
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  const auto fill = [&](std::size_t n, float size) {
    std::vector<float> x(n);
    for (float& e : x) e = size * normal(random);
    return x;
  };
  w.embedding = fill(vocab * 16, 1);
  for (int l = 0; l < 2; ++l)
    w.layers.push_back({fill(16, 1), fill(24 * 16, 0.6f), fill(12 * 16, 0.6f), fill(12 * 16, 0.3f), fill(16 * 24, 0.3f),
                        fill(16, 1), fill(20 * 16, 0.3f), fill(20 * 16, 0.3f), fill(16 * 20, 0.3f)});
  w.final_norm = fill(16, 1);
  w.head = fill(vocab * 16, 0.7f);
  return w;
}

std::vector<token_text> tiny_texts() {
  std::vector<token_text> texts(2);
  std::mt19937 random(6);
  for (std::size_t t = 0; t < 2; ++t)
    for (int i = 0; i < (t == 0 ? 31 : 9); ++i) {
      texts[t].tokens.push_back(static_cast<int>(random() % (vocab - 1)));
      texts[t].bytes.push_back(1 + i % 4);
    }
  return texts;
}

/// A decoder and rows: full, tova:4, random:4 with two seeds, tova:100, oracle:4, short:5, short:12, tova,scope=head:4.
struct bench {
  explicit bench(const model_weights& w, int chunk = 1) : weights(w) {
    memory_setup setup = setup_for(w.config, {.chunk = chunk});
    table = oracle_table::make(w.config.layers, w.config.kv_heads, window_tokens).value();
    memory_setup reading = setup;
    reading.room.chunk = 5;
    recorder =
        make_memory(oracle_recorder{.budget = window_tokens, .scope = scope_kind::head, .table = &table}, reading)
            .value();
    const auto add = [&](const char* name, std::optional<int> budget, auto... settings) {
      policy_run& row = rows.emplace_back();
      row.policy = name;
      row.budget = budget;
      (row.memories.push_back(make_memory(settings, setup).value()), ...);
    };
    add("full", std::nullopt, full{.budget = window_tokens});
    add("tova", 4, tova{.budget = 4});
    add("random", 4, multistate::random_choice{.budget = 4, .seed = 0},
        multistate::random_choice{.budget = 4, .seed = 1});
    add("tova", 100, tova{.budget = 100});
    add("oracle", 4, oracle{.budget = 4, .table = &table});
    add("short", 5, full{.budget = 5}, full{.budget = 5}, full{.budget = 5});
    add("short", 12, full{.budget = 12}, full{.budget = 12});
    add("tova,scope=head", 4, tova{.budget = 4, .scope = scope_kind::head});
    rows[2].drawn = true;
    rows[5].kind = rows[6].kind = run_kind::short_context;
  }
  const model_weights& weights;
  oracle_table table = oracle_table::make(1, 1, 1).value();
  std::optional<sequence_memory> recorder;
  std::vector<policy_run> rows;
};

/// Another order, and two workers.
struct pair_of_threads {
  template <class F>
  void operator()(int tasks, const F& f) const noexcept {
    for (int task = tasks; task-- > 0;) f(task, task % 2);
  }
  int workers() const noexcept { return 2; }
};

/// `columns`: tokens that a decoder takes at once; 0: as many as comparison_tokens says.
template <executor E = serial>
result<comparison> run_all(std::deque<bench>& benches, const text_sample& sample, comparison_setup how = {},
                           E exec = {}, int columns = 0) {
  std::vector<decoder<E>> decoders;
  std::vector<comparison_worker<decoder<E>>> workers;
  decoders.reserve(benches.size());
  for (bench& b : benches) {
    const int most = columns > 0 ? columns : comparison_tokens(b.rows, &*b.recorder, how.chunk);
    decoders.push_back(decoder<E>::make(b.weights, most, exec).value());
    workers.push_back({&decoders.back(), b.rows, &b.table, &*b.recorder});
  }
  return compare(std::span<const comparison_worker<decoder<E>>>(workers), exec, exec, sample, how);
}

/// Log softmaxes of the scored queries, token by token, alone.
template <policy P>
std::vector<std::vector<double>> alone(const model_weights& w, const P& settings, const text_sample& sample,
                                       const text_window& at) {
  auto model = decoder<>::make(w, 1).value();
  auto memory = make_memory(settings, setup_for(w.config)).value();
  std::vector<std::vector<double>> out;
  std::vector<float> logits(vocab);
  for (int j = 0; j < at.queries; ++j) {
    const int token = sample.input(at, j);
    const batch_item item{.memory = &memory, .tokens = {&token, 1}, .want = logit_rows::last, .logits = logits.data()};
    EXPECT_EQ(model.forward({&item, 1}).code(), errc::ok);
    if (j < at.scored_from) continue;
    std::vector<double> p(vocab);
    double sum = 0;
    for (const float x : logits) sum += std::exp(double{x});
    for (std::size_t i = 0; i < vocab; ++i) p[i] = double{logits[i]} - std::log(sum);
    out.push_back(p);
  }
  return out;
}

TEST(Compare, FiguresAreThoseOfEachSequenceAlone) {
  const auto weights = tiny_model();
  const auto texts = tiny_texts();
  const auto sample = text_sample::make(texts, window_tokens, bos, scoring::tail).value();
  std::deque<bench> benches;
  benches.emplace_back(weights);
  const auto done = run_all(benches, sample);
  ASSERT_TRUE(done) << done.reason().message();
  EXPECT_EQ(done->windows, sample.windows().size());
  EXPECT_FALSE(done->interrupted);

  double nll = 0, full_nll = 0, kl_sum = 0, bytes = 0;
  std::vector<float> kls;
  int scored = 0, agreeing = 0;
  for (const text_window& w : sample.windows()) {
    const auto all = alone(weights, full{.budget = window_tokens}, sample, w);
    const auto some = alone(weights, tova{.budget = 4}, sample, w);
    for (std::size_t i = 0; i < all.size(); ++i, ++scored) {
      const int j = w.scored_from + static_cast<int>(i);
      const auto target = static_cast<std::size_t>(sample.target(w, j));
      nll -= some[i][target];
      full_nll -= all[i][target];
      double kl = 0;
      for (std::size_t v = 0; v < vocab; ++v) kl += std::exp(all[i][v]) * (all[i][v] - some[i][v]);
      kl_sum += kl;
      kls.push_back(static_cast<float>(kl));
      agreeing += std::max_element(all[i].begin(), all[i].end()) - all[i].begin() ==
                  std::max_element(some[i].begin(), some[i].end()) - some[i].begin();
      bytes += texts[w.text].bytes[sample.target_index(w, j)];
    }
  }
  const figures& f = *benches[0].rows[1].measured;
  EXPECT_NEAR(f.nll, nll / scored, 1e-12);
  EXPECT_NEAR(f.nll_minus_full, (nll - full_nll) / scored, 1e-12);
  EXPECT_NEAR(f.perplexity, std::exp(nll / scored), 1e-10);
  EXPECT_NEAR(*f.bits_per_byte, nll / std::log(2.0) / bytes, 1e-12);
  EXPECT_NEAR(*f.kl_mean, kl_sum / scored, 1e-12);
  EXPECT_NEAR(*f.kl_median, quantile(kls, 0.5), 1e-7);
  EXPECT_DOUBLE_EQ(*f.top1_agreement, static_cast<double>(agreeing) / scored);
  EXPECT_DOUBLE_EQ(f.states_attended_mean, 5);
  EXPECT_EQ(f.states_attended_max, 5);
  EXPECT_GT(f.nll_minus_full, 0);
  const figures& all = *benches[0].rows[0].measured;
  EXPECT_EQ(all.nll_minus_full, 0.0);
  EXPECT_EQ(*all.kl_p99, 0.0);
  EXPECT_EQ(*all.top1_agreement, 1.0);
  EXPECT_EQ(all.states_attended_max, window_tokens);
  double life = 0, queries = 0;
  for (const text_window& w : sample.windows())
    for (int t = 1; t <= w.queries; ++t, ++queries) life += std::min(t, 5);
  EXPECT_DOUBLE_EQ(*f.mean_life, life / queries);
  EXPECT_LT(f.bytes_allocated, all.bytes_allocated);
}

TEST(Compare, LivesOfDropsAreStatesAttended) {
  // Two ways to count the same thing: how long states live, and how many states queries see. In chunks too.
  const auto weights = tiny_model();
  const auto texts = tiny_texts();
  const auto sample = text_sample::make(texts, window_tokens, bos, scoring::all).value();
  for (const int chunk : {1, 3}) {
    std::deque<bench> benches;
    benches.emplace_back(weights, chunk);
    ASSERT_TRUE(run_all(benches, sample, {.chunk = chunk}));
    for (const policy_run& row : benches[0].rows) {
      if (row.fresh()) {
        EXPECT_FALSE(row.measured->mean_life || row.measured->kept_mass);
        EXPECT_TRUE(row.measured->survival.empty());
        continue;
      }
      EXPECT_NEAR(*row.measured->mean_life, row.measured->states_attended_mean, 1e-12) << row.policy;
      EXPECT_FALSE(row.measured->life_by_kind);  // these tokens are no characters
    }
    EXPECT_LT(*benches[0].rows[1].measured->mean_life, *benches[0].rows[0].measured->mean_life);
  }
}

TEST(Compare, KeptMassIsWhatFullGivesTheStatesSeen) {
  // Token by token: each head's row of Full, seen by an observer, summed over the positions that TOVA holds there when
  // it attends.
  const auto weights = tiny_model();
  const auto texts = tiny_texts();
  const auto sample = text_sample::make(texts, window_tokens, bos, scoring::tail).value();
  std::deque<bench> benches;
  benches.emplace_back(weights);
  ASSERT_TRUE(run_all(benches, sample));
  double shares[2];
  for (const scope_kind scope : {scope_kind::layer, scope_kind::head}) {
    struct : memory_observer {
      void attended(int layer, std::span<const attention_task> heads) noexcept override {
        for (std::size_t h = 0; h < 2; ++h)
          for (int s = 0; s < heads[h].kv.n; ++s)
            of[layer][h][heads[h].kv.positions[static_cast<std::size_t>(s)]] = static_cast<double>(heads[h].row[s]);
      }
      double of[2][2][window_tokens] = {};
    } rows;
    struct : memory_observer {
      void attended(int layer, std::span<const attention_task> heads) noexcept override {
        for (std::size_t h = 0; h < 2; ++h)
          seen[layer][h].assign(heads[h].kv.positions.begin(), heads[h].kv.positions.end());
      }
      std::vector<position> seen[2][2];
    } states;
    auto setup = setup_for(weights.config);
    auto some = make_memory(tova{.budget = 4, .scope = scope}, setup).value();
    setup.tap = needs::last_row;
    auto all = make_memory(full{.budget = window_tokens}, setup).value();
    all.watch(&rows);
    some.watch(&states);
    auto model = decoder<>::make(weights, 2).value();
    double kept = 0, mass = 0;
    for (const text_window& w : sample.windows()) {
      all.reset();
      some.reset();
      for (int j = 0; j < w.queries; ++j) {
        const int token = sample.input(w, j);
        const batch_item items[] = {{.memory = &all, .tokens = {&token, 1}}, {.memory = &some, .tokens = {&token, 1}}};
        ASSERT_EQ(model.forward(items).code(), errc::ok);
        if (j < w.scored_from) continue;
        for (int layer = 0; layer < 2; ++layer)
          for (int h = 0; h < 2; ++h) {
            for (const position p : states.seen[layer][h]) kept += rows.of[layer][h][p];
            for (int p = 0; p <= j; ++p) mass += rows.of[layer][h][p];
          }
      }
    }
    const std::size_t row = scope == scope_kind::layer ? 1 : 7;
    EXPECT_NEAR(*benches[0].rows[row].measured->kept_mass, kept / mass, 1e-5);
    shares[scope == scope_kind::layer ? 0 : 1] = kept / mass;
    EXPECT_LT(kept / mass, 0.95);
  }
  EXPECT_NE(shares[0], shares[1]);
  EXPECT_DOUBLE_EQ(*benches[0].rows[0].measured->kept_mass, 1.0);
}

TEST(Compare, DifferencesByPositionAreThoseOfAllQueries) {
  const auto weights = tiny_model();
  const auto texts = tiny_texts();
  const auto tail = text_sample::make(texts, window_tokens, bos, scoring::tail).value();
  std::deque<bench> benches;
  benches.emplace_back(weights);
  ASSERT_TRUE(run_all(benches, tail));
  double expected = 0;
  std::int64_t queries = 0;
  for (text_window w : tail.windows()) {
    w.scored_from = 0;
    const auto all = alone(weights, full{.budget = window_tokens}, tail, w);
    const auto some = alone(weights, tova{.budget = 4}, tail, w);
    for (int j = 0; j < w.queries; ++j, ++queries) {
      const auto target = static_cast<std::size_t>(tail.target(w, j));
      expected += all[static_cast<std::size_t>(j)][target] - some[static_cast<std::size_t>(j)][target];
    }
  }
  const auto& bins = benches[0].rows[1].measured->by_position;
  ASSERT_EQ(bins.size(), 1u);  // windows of 12 queries
  EXPECT_EQ(bins[0].count, queries);
  EXPECT_NEAR(bins[0].difference, expected / static_cast<double>(queries), 1e-12);
  EXPECT_EQ(benches[0].rows[0].measured->by_position[0].difference, 0.0);
}

TEST(Compare, TracesTheBudgetNearest64) {
  const auto weights = tiny_model();
  const auto texts = tiny_texts();
  const auto sample = text_sample::make(texts, window_tokens, bos, scoring::tail).value();
  std::deque<bench> benches;
  benches.emplace_back(weights);
  EXPECT_EQ(traced_budget(benches[0].rows), 100);  // of 4 and 100
  ASSERT_TRUE(run_all(benches, sample));
  EXPECT_EQ(benches[0].rows[3].measured->deaths, std::vector(2 * window_tokens, window_tokens));  // nothing dropped
  EXPECT_TRUE(benches[0].rows[1].measured->deaths.empty());
}

TEST(Compare, NothingForgottenIsFullBitForBit) {
  const auto weights = tiny_model();
  const auto texts = tiny_texts();
  for (const scoring rule : {scoring::tail, scoring::all}) {
    const auto sample = text_sample::make(texts, window_tokens, bos, rule).value();
    std::deque<bench> benches;
    benches.emplace_back(weights);
    ASSERT_TRUE(run_all(benches, sample));
    const auto& rows = benches[0].rows;
    for (const std::size_t r : {3u, 6u}) {  // tova:100, short:12
      EXPECT_EQ(rows[r].measured->nll, rows[0].measured->nll);
      EXPECT_EQ(*rows[r].measured->kl_p99, 0.0);
      EXPECT_EQ(rows[r].measured->window_differences, rows[0].measured->window_differences);
    }
    EXPECT_GT(*rows[5].measured->kl_mean, 0);
    EXPECT_EQ(rows[5].measured->states_attended_max, 5);
  }
}

/// Keeps parts of windows in memory.
class kept_in_memory final : public window_store {
 public:
  result<bool> restore(std::size_t window, std::vector<std::vector<totals>>& rows) override {
    const std::lock_guard<std::mutex> one(mutex_);
    if (windows.count(window) == 0) return false;
    rows = windows[window];
    return true;
  }
  error keep(std::size_t window, const std::vector<std::vector<totals>>& rows) override {
    const std::lock_guard<std::mutex> one(mutex_);
    EXPECT_EQ(windows.count(window), 0u) << "run again";
    windows[window] = rows;
    return {};
  }
  result<int> restore_fresh(std::size_t window, std::size_t row, totals& so_far) override {
    const std::lock_guard<std::mutex> one(mutex_);
    const auto found = fresh.find({window, row});
    if (found == fresh.end()) return 0;
    so_far = found->second.second;
    return found->second.first;
  }
  error keep_fresh(std::size_t window, std::size_t row, const totals& so_far, int next) override {
    const std::lock_guard<std::mutex> one(mutex_);
    fresh[{window, row}] = {next, so_far};
    return full ? error(errc::bad_file, "the disk is full") : error();
  }

  std::map<std::size_t, std::vector<std::vector<totals>>> windows;
  std::map<std::pair<std::size_t, std::size_t>, std::pair<int, totals>> fresh;
  bool full = false;

 private:
  std::mutex mutex_;
};

void expect_same(const figures& a, const figures& b, const std::string& policy) {
  EXPECT_EQ(a.nll, b.nll) << policy;
  EXPECT_EQ(a.kl_mean, b.kl_mean) << policy;
  EXPECT_EQ(a.kl_p99, b.kl_p99) << policy;
  EXPECT_EQ(a.top1_agreement, b.top1_agreement) << policy;
  EXPECT_EQ(a.window_differences, b.window_differences) << policy;
  EXPECT_EQ(a.states_attended_mean, b.states_attended_mean) << policy;
  EXPECT_EQ(a.states_attended_max, b.states_attended_max) << policy;
  EXPECT_EQ(a.mean_life, b.mean_life) << policy;
  EXPECT_EQ(a.kept_mass, b.kept_mass) << policy;
  EXPECT_EQ(a.bytes_live, b.bytes_live) << policy;
  EXPECT_EQ(a.deaths, b.deaths) << policy;
}

TEST(Compare, PassesOfManyTokensAreTokenByToken) {
  // Few columns: a token a pass. With a policy whose layers share lanes every pass has one token.
  const auto weights = tiny_model();
  const auto texts = tiny_texts();
  for (const scoring rule : {scoring::tail, scoring::all}) {
    const auto sample = text_sample::make(texts, window_tokens, bos, rule).value();
    std::deque<bench> few, some, many, shared;
    for (std::deque<bench>* benches : {&few, &some, &many, &shared}) benches->emplace_back(weights);
    policy_run& model_wide = shared[0].rows.emplace_back();
    model_wide.policy = "tova,scope=model";
    model_wide.budget = 4;
    model_wide.memories.push_back(
        make_memory(tova{.budget = 4, .scope = scope_kind::model}, setup_for(weights.config)).value());
    ASSERT_TRUE(run_all(few, sample, {}, serial(), 24));
    ASSERT_TRUE(run_all(some, sample, {}, serial(), 31));
    ASSERT_TRUE(run_all(many, sample));
    ASSERT_TRUE(run_all(shared, sample));
    for (std::size_t r = 0; r < few[0].rows.size(); ++r)
      for (const std::deque<bench>* other : {&some, &many, &shared})
        expect_same(*few[0].rows[r].measured, *(*other)[0].rows[r].measured, few[0].rows[r].policy);
  }
}

TEST(Compare, WhatIsTheSameIsComputedOnce) {
  // Until its budget binds a run is Full, and those with in-cache positions are the first of these.
  const auto weights = tiny_model();
  memory_setup setup = setup_for(weights.config);
  const auto all = make_memory(full{.budget = window_tokens}, setup).value();
  const auto four = make_memory(tova{.budget = 4}, setup).value();
  setup.positions = position_mode::in_cache;
  const auto in_cache = make_memory(tova{.budget = 4}, setup).value(),
             more = make_memory(tova{.budget = 7}, setup).value();
  EXPECT_EQ(first_fork(all, all), max_tokens);
  EXPECT_EQ(first_fork(four, all), 5);
  const pass_plan::run runs[] = {{&all, position_mode::original},
                                 {&four, position_mode::original},
                                 {&in_cache, position_mode::in_cache},
                                 {&more, position_mode::in_cache}};
  pass_plan plan(runs, 1, {.columns = 100, .logits = 8});
  const text_window w{.queries = window_tokens, .scored_from = 6};
  const auto same_as = [&] { return std::vector<int>(plan.same_as().begin(), plan.same_as().end()); };
  EXPECT_EQ(plan.next(w, 0, 4, false), 5);
  EXPECT_EQ(same_as(), (std::vector{-1, 0, -1, 2}));
  EXPECT_EQ(plan.columns(4), 2u);
  EXPECT_EQ(plan.next(w, 5, 4, false), 1) << "up to the first scored query";
  EXPECT_EQ(same_as(), (std::vector{-1, -1, -1, -1}));
  EXPECT_EQ(plan.next(w, 6, 4, false), 2) << "8 columns may have logits, and 4 runs are left";
  EXPECT_EQ(plan.next(w, 8, 4, false), 2);
  EXPECT_EQ(plan.next(w, 0, 1, true), 6) << "Full alone";
}

TEST(Compare, OnlyScoredQueriesHaveLogitsWhereNothingElseIsAsked) {
  const auto weights = tiny_model();
  const auto texts = tiny_texts();
  const auto sample = text_sample::make(texts, window_tokens, bos, scoring::tail).value();
  std::deque<bench> every, scored;
  every.emplace_back(weights);
  scored.emplace_back(weights);
  ASSERT_TRUE(run_all(every, sample));
  ASSERT_TRUE(run_all(scored, sample, {.every_position = false}));
  for (std::size_t r = 0; r < every[0].rows.size(); ++r) {
    const figures &a = *every[0].rows[r].measured, &b = *scored[0].rows[r].measured;
    expect_same(a, b, every[0].rows[r].policy);
    EXPECT_EQ(b.by_position[0].count, sample.scored(sample.windows().size()));
  }
}

TEST(Compare, ARangeOfWindowsIsThatPartOfAll) {
  const auto weights = tiny_model();
  const auto texts = tiny_texts();
  const auto sample = text_sample::make(texts, window_tokens, bos, scoring::tail).value();
  const std::size_t windows = sample.windows().size();
  ASSERT_GT(windows, 2u);
  std::deque<bench> whole, parts, joined;
  whole.emplace_back(weights);
  parts.emplace_back(weights);
  joined.emplace_back(weights);
  ASSERT_TRUE(run_all(whole, sample));
  kept_in_memory store;
  const auto rest = run_all(parts, sample, {.store = &store, .first = 1});
  ASSERT_TRUE(rest);
  EXPECT_EQ(rest->windows, windows - 1);
  EXPECT_FALSE(parts[0].rows[0].measured) << "of windows in the middle nothing is said";
  EXPECT_EQ(run_all(parts, sample, {.store = &store, .first = 0, .last = 1})->windows, 1u);
  EXPECT_EQ(store.windows.size(), windows);
  ASSERT_TRUE(run_all(joined, sample, {.store = &store}));
  for (std::size_t r = 0; r < whole[0].rows.size(); ++r)
    expect_same(*whole[0].rows[r].measured, *joined[0].rows[r].measured, whole[0].rows[r].policy);
}

TEST(Compare, SeatsAndWorkersChangeNothing) {
  const auto weights = tiny_model();
  const auto texts = tiny_texts();
  const auto sample = text_sample::make(texts, window_tokens, bos, scoring::tail).value();
  std::deque<bench> one, three, shared;
  one.emplace_back(weights);
  for (int i = 0; i < 3; ++i) three.emplace_back(weights);
  shared.emplace_back(weights);
  ASSERT_TRUE(run_all(one, sample));
  ASSERT_TRUE(run_all(three, sample));
  ASSERT_TRUE(run_all(shared, sample, {}, pair_of_threads()));
  for (std::size_t r = 0; r < one[0].rows.size(); ++r)
    for (const auto* other : {&three[0].rows[r], &shared[0].rows[r]}) {
      const figures &a = *one[0].rows[r].measured, &b = *other->measured;
      EXPECT_EQ(a.nll, b.nll);
      EXPECT_EQ(a.kl_mean, b.kl_mean);
      EXPECT_EQ(a.kl_p99, b.kl_p99);
      EXPECT_EQ(a.window_differences, b.window_differences);
      EXPECT_EQ(a.bytes_live, b.bytes_live);
    }
}

TEST(Compare, ChunksAttendMore) {
  const auto weights = tiny_model();
  const auto texts = tiny_texts();
  const auto sample = text_sample::make(texts, window_tokens, bos, scoring::tail).value();
  std::deque<bench> benches;
  benches.emplace_back(weights, 3);
  ASSERT_TRUE(run_all(benches, sample, {.chunk = 3}));
  const figures& f = *benches[0].rows[1].measured;
  EXPECT_EQ(f.states_attended_max, 7);
  EXPECT_DOUBLE_EQ(benches[0].rows[0].measured->states_attended_max, 12);
}

TEST(Compare, OracleSeesWhatFullWillAttend) {
  // The table filled through the decoder in chunks holds the sums of the rows that an observer sees token by token.
  const auto weights = tiny_model();
  const auto texts = tiny_texts();
  const auto sample = text_sample::make(texts, window_tokens, bos, scoring::tail).value();
  bench b(weights);
  const text_window& w = sample.windows()[0];
  std::vector<int> tokens;
  for (int j = 0; j < w.queries; ++j) tokens.push_back(sample.input(w, j));
  auto model = decoder<>::make(weights, window_tokens).value();
  ASSERT_EQ(model.prompt(*b.recorder, tokens, prompt_mode::chunked, 5).code(), errc::ok);
  b.table.finish(w.queries);

  struct : memory_observer {
    void attended(int layer, std::span<const attention_task> heads) noexcept override {
      for (std::size_t h = 0; h < 2; ++h)
        for (int s = 0; s < heads[h].kv.n; ++s)
          seen[layer][h][heads[h].first][heads[h].kv.positions[static_cast<std::size_t>(s)]] =
              static_cast<double>(heads[h].row[s]);
    }
    double seen[2][2][window_tokens][window_tokens] = {};
  } observer;
  auto setup = setup_for(weights.config);
  setup.tap = needs::last_row;
  auto memory = make_memory(full{.budget = window_tokens}, setup).value();
  memory.watch(&observer);
  for (const int token : tokens) {
    const batch_item item{.memory = &memory, .tokens = {&token, 1}};
    ASSERT_EQ(model.forward({&item, 1}).code(), errc::ok);
  }
  for (int layer = 0; layer < 2; ++layer)
    for (int h = 0; h < 2; ++h)
      for (int now = 0; now < w.queries; ++now)
        for (int p = 0; p <= now; ++p) {
          double expected = 0;
          for (int later = now + 1; later < w.queries; ++later) expected += observer.seen[layer][h][later][p];
          EXPECT_NEAR(static_cast<double>(b.table.worth(layer, h, now)[static_cast<std::size_t>(p)]), expected, 1e-5);
        }
}

TEST(Compare, AModelWithoutFiniteLogitsIsAnError) {
  auto weights = tiny_model();
  weights.layers[1].down[3] = NAN;
  const auto texts = tiny_texts();
  const auto sample = text_sample::make(texts, window_tokens, bos, scoring::tail).value();
  std::deque<bench> benches;
  benches.emplace_back(weights);
  const auto done = run_all(benches, sample);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.reason().message(), "full: logits are not finite at token 0 of window 0");
}

TEST(Compare, GoesOnFromWhereverItWasStopped) {
  const auto weights = tiny_model();
  const auto texts = tiny_texts();
  const auto sample = text_sample::make(texts, window_tokens, bos, scoring::tail).value();
  std::deque<bench> whole;
  whole.emplace_back(weights);
  ASSERT_TRUE(run_all(whole, sample));
  int stops = 0;
  for (int step = 1; step < 40; step += 3) {
    kept_in_memory store;
    std::deque<bench> benches;
    for (int i = 0; i < 2; ++i) benches.emplace_back(weights);
    for (bool going = true; going;) {
      int told = 0;
      const std::size_t kept = store.windows.size() + store.fresh.size();
      const auto done =
          run_all(benches, sample, {.progress = [&](double) { return ++told < step; }, .store = &store}, serial(), 24);
      ASSERT_TRUE(done);
      going = done->interrupted;
      stops += going ? 1 : 0;
      if (going && store.windows.size() + store.fresh.size() == kept) step += 5;  // or it would never end
    }
    for (std::size_t r = 0; r < whole[0].rows.size(); ++r) {
      const figures &a = *whole[0].rows[r].measured, &b = *benches[0].rows[r].measured;
      EXPECT_EQ(a.nll, b.nll);
      EXPECT_EQ(a.kl_p99, b.kl_p99);
      EXPECT_EQ(a.window_differences, b.window_differences);
      EXPECT_EQ(a.deaths, b.deaths);
      EXPECT_EQ(a.mean_life, b.mean_life);
      EXPECT_EQ(a.bytes_live, b.bytes_live);
    }
  }
  EXPECT_GT(stops, 10);
}

TEST(Compare, EndsWhereNothingCanBeKept) {
  const auto weights = tiny_model();
  const auto texts = tiny_texts();
  const auto sample = text_sample::make(texts, window_tokens, bos, scoring::tail).value();
  std::deque<bench> benches;
  for (int i = 0; i < 2; ++i) benches.emplace_back(weights);
  kept_in_memory store;
  store.full = true;
  const auto done = run_all(benches, sample, {.store = &store});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.reason().message(), "the disk is full");
}

TEST(Compare, SaysWhichFormatOverflows) {
  auto weights = tiny_model();
  for (float& x : weights.layers[1].k) x *= 1e5f;
  const auto texts = tiny_texts();
  const auto sample = text_sample::make(texts, window_tokens, bos, scoring::tail).value();
  serial alone;
  auto model = decoder<>::make(weights, window_tokens, alone).value();
  const auto run = [&]<class Format>(Format, int full_budget) {
    std::vector<policy_run> rows(2);
    const memory_setup setup = setup_for(weights.config, {.chunk = 1});
    rows[0].policy = "full";
    rows[0].memories.push_back(make_memory<f32>(full{.budget = full_budget}, setup).value());
    rows[1].policy = "tova";
    rows[1].budget = 4;
    rows[1].memories.push_back(make_memory<Format>(tova{.budget = 4}, setup).value());
    const comparison_worker<decoder<>> worker{.model = &model, .rows = rows};
    return compare(std::span(&worker, 1), alone, alone, sample, {});
  };
  const auto done = run(f16(), window_tokens);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.code(), errc::overflow);
  EXPECT_EQ(
      done.reason().message(),
      "tova: states in f16 overflow: layer 1 at position 0 has a number beyond what f16 holds; take format f32 or "
      "bf16");
  EXPECT_TRUE(run(bf16(), window_tokens));
  EXPECT_TRUE(run(i8(), window_tokens));
  weights = tiny_model();
  weights.layers[1].k[3] = std::numeric_limits<float>::quiet_NaN();
  const auto broken = run(f16(), window_tokens);
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.reason().message(), "full: logits are not finite at token 0 of window 0") << "of a broken model";
}

TEST(Compare, BosInsideATextIsNoTarget) {
  const auto weights = tiny_model();
  auto texts = tiny_texts();
  for (const std::size_t i : {6u, 7u, 15u, 19u}) texts[0].tokens[i] = bos;
  for (const scoring rule : {scoring::tail, scoring::all}) {
    const auto sample = text_sample::make(texts, window_tokens, bos, rule).value();
    std::deque<bench> benches;
    benches.emplace_back(weights);
    ASSERT_TRUE(run_all(benches, sample));
    std::int64_t targets = 0;
    double nll = 0;  // of Full, alone
    serial alone;
    auto model = decoder<>::make(weights, window_tokens, alone).value();
    for (const text_window& w : sample.windows()) {
      auto memory = make_memory(full{.budget = window_tokens}, setup_for(weights.config, limits{})).value();
      const auto inputs = sample.inputs(w);
      std::vector<float> logits(inputs.size() * vocab);
      const batch_item item{.memory = &memory,
                            .tokens = inputs,
                            .mode = attend_mode::one_by_one,
                            .want = logit_rows::all,
                            .logits = logits.data()};
      ASSERT_EQ(model.forward({&item, 1}).code(), errc::ok);
      for (int j = w.scored_from; j < w.queries; ++j) {
        if (sample.target(w, j) == bos) continue;
        double log_p = 0;
        ASSERT_TRUE(log_probability(std::span(logits).subspan(static_cast<std::size_t>(j) * vocab, vocab),
                                    static_cast<std::size_t>(sample.target(w, j)), log_p));
        nll -= log_p;
        ++targets;
      }
    }
    EXPECT_EQ(sample.scored(sample.windows().size()), targets);
    for (const policy_run& row : benches[0].rows) {
      ASSERT_TRUE(row.measured) << row.policy;
      EXPECT_TRUE(std::isfinite(row.measured->nll)) << row.policy;
    }
    EXPECT_NEAR(benches[0].rows[0].measured->nll, nll / static_cast<double>(targets), 1e-6);
    EXPECT_NEAR(benches[0].rows[6].measured->nll_minus_full, 0, 1e-5) << "short with room for everything";
  }
}

TEST(Compare, StopsAfterWholeWindows) {
  const auto weights = tiny_model();
  const auto texts = tiny_texts();
  const auto sample = text_sample::make(texts, window_tokens, bos, scoring::tail).value();
  std::deque<bench> benches;
  benches.emplace_back(weights);
  double last = 0;
  const auto done = run_all(benches, sample, {.progress = [&](double share) {
                              EXPECT_GE(share, last);
                              last = share;
                              return share < 0.5;
                            }});
  ASSERT_TRUE(done);
  EXPECT_TRUE(done->interrupted);
  EXPECT_GT(done->windows, 0u);
  EXPECT_LT(done->windows, sample.windows().size());
  EXPECT_EQ(benches[0].rows[1].measured->window_differences.size(), done->windows);

  std::deque<bench> at_once;
  at_once.emplace_back(weights);
  const auto nothing = run_all(at_once, sample, {.progress = [](double) { return false; }});
  ASSERT_TRUE(nothing);
  EXPECT_EQ(nothing->windows, 0u);
  EXPECT_FALSE(at_once[0].rows[0].measured);
}

}  // namespace
