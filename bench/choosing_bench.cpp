// What deciding costs by itself: ranking one lane's states, and the whole cycle of a decider. Everything is in the
// first-level cache here, as the newest row is when attention has just written it.

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include <bench/context.hpp>
#include <bench/layers.hpp>
#include <multistate/policies.hpp>

namespace {

using namespace bench;
using namespace multistate;

constexpr int n = 512, kv_heads = 8, budget = 512;
constexpr int row_count = 16;  // more than one, or branches would be learnt by heart

/// Median, least and most of batches of a thousand.
template <class F>
void time_each(benchmark::State& state, const F& f) {
  constexpr int batch = 1000;
  for (int i = 0; i < batch; ++i) f(i);
  sample seconds;
  for (auto _ : state) {
    const quiet_time time;
    const double took = seconds_of([&] {
                          for (int i = 0; i < batch; ++i) f(i);
                        }) /
                        batch;
    seconds.add(took, time.quiet());
    state.SetIterationTime(took);
  }
  state.counters["ns"] = seconds.median() * 1e9;
  state.counters["ns_min"] = seconds.min() * 1e9;
  state.counters["ns_max"] = seconds.max() * 1e9;
  state.counters["disturbed"] = seconds.disturbed();
}

/// [row_count][n + 1] positive, as weights are.
std::vector<float> some_rows() {
  std::vector<float> x = normals(row_count * (n + 1));
  for (float& e : x) e = e * e;
  return x;
}

/// The ranking of n states; `newest` of them are kept whatever they are worth.
void choose(benchmark::State& state, int newest) {
  const std::vector<float> worth = some_rows();
  std::vector<position> positions(n);
  for (int i = 0; i < n; ++i) positions[multistate::to_size(i)] = (i * 7) % n;
  const protection kept{{0, newest}, n - 1, {}};
  slot out{};
  time_each(state, [&](int i) {
    benchmark::DoNotOptimize(
        lowest(std::span(worth).subspan(multistate::to_size(i % row_count) * (n + 1), n), positions, kept, {&out, 1}));
    benchmark::DoNotOptimize(out);
  });
}

template <policy P>
void cycle(benchmark::State& state, scope_kind scope) {
  P settings;
  settings.budget = budget;
  if constexpr (requires { settings.scope; }) settings.scope = scope;
  auto decider = multistate::decider<P>::make(settings, {.kv_heads = kv_heads}).value();
  const std::vector<float> rows = some_rows();
  const auto once = [&](int i) {
    decider.append(1);
    if constexpr (any(rows_of(P{}.wants())))
      for (int h = 0; h < kv_heads; ++h)
        decider.observe(lane_of(scope, h),
                        {.data = rows.data() + multistate::to_size((i + h) % row_count) * (n + 1),
                         .stride = n + 1,
                         .n = decider.live(lane_of(scope, h)),
                         .queries = 1,
                         .heads = 4,
                         .kind = rows_of(P{}.wants()) == needs::row_sum ? rows_kind::sum : rows_kind::each});
    benchmark::DoNotOptimize(decider.reduce());
  };
  for (int i = 0; i < budget; ++i) once(i);
  time_each(state, once);
}

template <class F>
void enrol_case(const std::string& name, const F& f) {
  benchmark::RegisterBenchmark(name.c_str(), f)->UseManualTime()->Iterations(30)->Unit(benchmark::kNanosecond);
}

template <policy P>
void enrol_cycle() {
  for (const scope_kind scope : {scope_kind::layer, scope_kind::head})
    enrol_case("cycle/" + std::string(P::name) + (scope == scope_kind::layer ? "/layer" : "/head"),
               [scope](benchmark::State& state) { cycle<P>(state, scope); });
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, [] {
    enrol_case("choose/tova/n:512", [](benchmark::State& state) { choose(state, 0); });
    enrol_case("choose/h2o/n:512", [](benchmark::State& state) { choose(state, n / 2); });
    enrol_cycle<window>();
    enrol_cycle<tova>();
    enrol_cycle<h2o>();
  });
}
