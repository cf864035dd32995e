// Attention of one layer against what the machine allows. In each repetition the limit's sweep, the kernel and what it
// is compared with walk the same memory one after another: only ratios of such pairs mean anything on a shared machine.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <bench/context.hpp>
#include <bench/eigen.hpp>
#include <bench/layers.hpp>
#include <bench/limits.hpp>
#include <multistate/multistate.hpp>

namespace {

using namespace bench;
using namespace multistate;

struct heads_of {
  int kv, group;
};
struct decode_case {
  int n;
  heads_of heads;
  int d;
  int threads = 1;
  bool hot = false;
  bool eigen = false;

  shape dims() const { return {heads.kv * heads.group, heads.kv, d, d}; }
  std::string name() const {
    return "n:" + std::to_string(n) + "/heads:" + std::to_string(heads.kv) + "x" + std::to_string(heads.group) +
           "/d:" + std::to_string(d);
  }
};

huge_block& memory() {
  static huge_block one;
  return one;
}
huge_block& eigens_memory() {
  static huge_block one;
  return one;
}

/// Repetitions that take about 0.5 s in all.
int repetitions(double seconds_each) { return static_cast<int>(std::clamp(0.5 / seconds_each, 9.0, 31.0)); }

/// About what one repetition of a case takes at 10 GB/s and 50 GFLOPS.
template <class Format>
double estimate(const decode_case& c) {
  const double layer = 2.0 * c.n * c.heads.kv * static_cast<double>(row_bytes<Format>(c.d));
  const double flops = 4.0 * c.n * c.heads.kv * c.heads.group * c.d;
  const double count = c.hot ? 16 : std::max(1.0, static_cast<double>(cold_bytes) / layer);
  return count * (layer / 1e10 + flops / 5e10);
}

work decode_work(const shape& dims, int n, bool converts) {
  return {.flops = 4.0 * n * dims.heads * dims.dk,
          .exponentials = static_cast<double>(n) * dims.heads,
          .conversions = converts ? 2.0 * n * dims.kv_heads * dims.dk : 0.0};
}

/// One attention object with what it needs.
template <executor E>
struct kernel_of {
  E exec;
  std::vector<std::byte> scratch;
  attention<E> attend;
  std::vector<float> q, out, rows;

  kernel_of(const shape& dims, int n, int queries, int threads)
      : exec(executor_of(threads)),
        scratch(attend_scratch_bytes(dims, n, queries, threads)),
        attend{.dims = dims, .options = {}, .exec = &exec, .scratch = scratch},
        q(normals(multistate::to_size(queries * dims.heads * dims.dk), 2)),
        out(multistate::to_size(queries * dims.heads * dims.dv)),
        rows(multistate::to_size(dims.kv_heads) * multistate::to_size(n)) {}
  kernel_of(const kernel_of&) = delete;
  kernel_of& operator=(const kernel_of&) = delete;

  static E executor_of([[maybe_unused]] int threads) {
    if constexpr (std::is_same_v<E, serial>)
      return {};
    else
      return {threads};
  }
};

/// What every case reports of its pairs. Times are of one layer.
struct report {
  sample seconds, limit, share;
  void add(double took, double at_best, bool quiet) {
    seconds.add(took, quiet);
    limit.add(at_best, quiet);
    share.add(at_best / took, quiet);
  }
  void finish(benchmark::State& state, double bytes, double flops) const {
    auto& c = state.counters;
    c["time_us"] = seconds.median() * 1e6;
    c["limit_us"] = limit.median() * 1e6;
    c["limit_share"] = share.median();
    c["share_min"] = share.min();
    c["share_max"] = share.max();
    c["GB/s"] = bytes / seconds.median() * 1e-9;
    c["GFLOPS"] = flops / seconds.median() * 1e-9;
    c["bytes"] = bytes;
    c["flops"] = flops;
    c["disturbed"] = share.disturbed();
  }
};

template <class Format, executor E>
void decode(benchmark::State& state, const decode_case& c) {
  const shape dims = c.dims();
  const layers<Format> states(dims, c.n, c.hot ? 0 : cold_bytes, memory());
  kernel_of<E> kernel(dims, c.n, 1, c.threads);
  const auto tasks = states.tasks(kernel.q.data(), kernel.out.data(), kernel.rows.data());
  const work w = decode_work(dims, c.n, !std::is_same_v<Format, f32>);
  const double in_registers = in_flops<Format>(w);
  const int rounds = c.hot ? 16 : 1;
  const auto all_layers = [&](const auto& one) {
    return seconds_of([&] {
             for (int round = 0; round < rounds; ++round)
               for (int layer = 0; layer < states.count(); ++layer) one(layer);
           }) /
           (rounds * states.count());
  };
  const auto kernel_once = [&] {
    return all_layers(
        [&](int layer) { kernel.attend.template operator()<needs::nothing, Format>(states.of(tasks, layer)); });
  };
  const auto sweep_once = [&] {
    double seconds = 0;
    for (int round = 0; round < rounds; ++round) seconds += seconds_to_read(states.memory(), c.threads);
    return seconds / (rounds * states.count());
  };

  // Float32 states of the same shape; a few layers a repetition, since it is slow.
  using eigens = layers<f32>;
  const std::unique_ptr<const eigens> floats(c.eigen ? new eigens(dims, c.n, cold_bytes, eigens_memory()) : nullptr);
  const std::unique_ptr<const eigen_attention> eigen(c.eigen ? new eigen_attention(c.n, dims.group(), c.d) : nullptr);
  int next = 0;
  const auto eigen_once = [&] {
    const int calls = std::min(floats->count(), 8);
    return seconds_of([&] {
             for (int i = 0; i < calls; ++i, next = (next + 1) % floats->count())
               for (int h = 0; h < dims.kv_heads; ++h) {
                 const extent& e = floats->at(next, h);
                 (*eigen)(reinterpret_cast<const float*>(e.k), reinterpret_cast<const float*>(e.v),
                          kernel.q.data() + h * dims.group() * c.d, kernel.out.data() + h * dims.group() * c.d);
               }
           }) /
           calls;
  };

  kernel_once();
  report figures;
  sample against_eigen, registers;
  bool rotate = false;
  for (auto _ : state) {
    const quiet_time time;
    double took = 0, read = 0;
    rotate = !rotate;  // neither of the two always comes first
    const double before = peak_now(c.threads);
    if (rotate) took = kernel_once();
    read = sweep_once();
    if (!rotate) took = kernel_once();
    const double compute = in_registers / (0.5 * (before + peak_now(c.threads)));
    registers.add(compute, time.quiet());
    figures.add(took, std::max(read, compute), time.quiet());
    if (c.eigen) against_eigen.add(eigen_once() / took, time.quiet());
    state.SetIterationTime(took);
  }
  figures.finish(state, states.layer_bytes(), w.flops);
  state.counters["registers_us"] = registers.median() * 1e6;
  if (c.eigen) state.counters["vs_eigen"] = against_eigen.median();
}

/// Rows collected and a policy deciding, against the same attention without. Nothing is written into the states, which
/// both would do.
template <class Format, policy P, executor E>
void policy_overhead(benchmark::State& state, const decode_case& c, scope_kind scope) {
  const shape dims = c.dims();
  const layers<Format> states(dims, c.n, cold_bytes, memory());
  kernel_of<E> kernel(dims, c.n, 1, c.threads);
  const auto tasks = states.tasks(kernel.q.data(), kernel.out.data(), kernel.rows.data());

  P settings;
  settings.budget = c.n - 1;
  settings.scope = scope;
  std::vector<decider<P>> deciders;
  const std::vector<float> row(multistate::to_size(c.n), 1.0f);
  for (int layer = 0; layer < states.count(); ++layer) {
    limits room;
    room.prompt = settings.budget;
    deciders.push_back(decider<P>::make(settings, {.kv_heads = dims.kv_heads}, room).value());
    deciders.back().append(settings.budget, phase::prompt_end);
    for (int h = 0; h < dims.kv_heads; ++h)
      deciders.back().observe(lane_of(scope, h),
                              {.data = row.data(),
                               .stride = multistate::to_size(c.n),
                               .n = settings.budget,
                               .queries = rows_of(P{}.wants()) == needs::last_row ? 1 : settings.budget,
                               .heads = dims.group(),
                               .kind = rows_of(P{}.wants()) == needs::row_sum ? rows_kind::sum : rows_kind::each});
    deciders.back().reduce();
  }

  const auto without = [&] {
    for (int layer = 0; layer < states.count(); ++layer)
      kernel.attend.template operator()<needs::nothing, Format>(states.of(tasks, layer));
  };
  const auto with = [&] {
    for (int layer = 0; layer < states.count(); ++layer) {
      decider<P>& d = deciders[multistate::to_size(layer)];
      d.append(1);
      const auto current = states.of(tasks, layer);
      kernel.attend.template operator()<step_wants<P>, Format>(current);
      multistate::detail::observe_tasks<step_wants<P>>(current, d, dims);
      d.reduce();
    }
  };
  with();
  sample times, overhead;
  bool rotate = false;
  for (auto _ : state) {
    const quiet_time time;
    double a = 0, b = 0;
    rotate = !rotate;
    if (rotate) a = seconds_of(without);
    b = seconds_of(with);
    if (!rotate) a = seconds_of(without);
    times.add(b / states.count(), time.quiet());
    overhead.add(100.0 * (b / a - 1.0), time.quiet());
    state.SetIterationTime(b / states.count());
  }
  state.counters["time_us"] = times.median() * 1e6;
  state.counters["overhead_%"] = overhead.median();
  state.counters["overhead_q1"] = overhead.at(0.25);
  state.counters["overhead_q3"] = overhead.at(0.75);
  state.counters["bytes"] = states.layer_bytes();
  state.counters["disturbed"] = overhead.disturbed();
}

/// A chunk of `tokens` over `kept` states and itself, as share of the FMA peak measured right before and after.
template <class Format>
void chunk(benchmark::State& state, const shape& dims, int kept, int tokens) {
  const int n = kept + tokens;
  const layers<Format> states(dims, n, std::size_t{8} << 20, memory());
  kernel_of<serial> kernel(dims, n, tokens, 1);
  const auto tasks = states.tasks(kernel.q.data(), kernel.out.data(), kernel.rows.data(), tokens);
  const double pairs = tokens * (kept + 0.5 * (tokens + 1));  // token j sees kept + j + 1
  const double flops = 4.0 * pairs * dims.heads * dims.dk;
  report figures;
  int layer = 0;
  for (auto _ : state) {
    const quiet_time time;
    const double peak = fma_rate(1, 5);
    const double took =
        seconds_of([&] { kernel.attend.template operator()<needs::nothing, Format>(states.of(tasks, layer)); });
    layer = (layer + 1) % states.count();
    figures.add(took, flops / peak, time.quiet());
    state.SetIterationTime(took);
  }
  figures.finish(state, states.layer_bytes(), flops);
}

template <class F>
void enrol_case(const std::string& name, int iterations, const F& f) {
  benchmark::RegisterBenchmark(name.c_str(), f)->UseManualTime()->Iterations(iterations)->Unit(benchmark::kMicrosecond);
}

template <class Format, policy P, executor E>
void enrol_policy(const std::string& name, const decode_case& c) {
  for (const scope_kind scope : {scope_kind::layer, scope_kind::head})
    enrol_case(name + "/" + std::string(P::name) + "/" + std::string(Format::name) +
                   (scope == scope_kind::layer ? "/layer/" : "/head/") + c.name(),
               2 * repetitions(estimate<Format>(c)),
               [c, scope](benchmark::State& state) { policy_overhead<Format, P, E>(state, c, scope); });
}

constexpr heads_of all_heads[] = {{8, 4}, {32, 1}, {4, 8}, {1, 8}};
constexpr int all_n[] = {512, 2048, 8192, 32768};
// What other models have.
constexpr int other_d[] = {80, 96, 192, 256};
constexpr int other_groups[] = {2, 3, 5, 6, 7, 8, 12, 16};

template <class Format>
void enrol_format() {
  const std::string format(Format::name);
  const auto enrol_decode = [&](const decode_case& c) {
    enrol_case((c.hot ? "hot/" : "decode/") + format + "/" + c.name(), repetitions(2 * estimate<Format>(c)),
               [c](benchmark::State& state) { decode<Format, serial>(state, c); });
  };
  for (const heads_of heads : all_heads)
    for (const int d : {128, 64})
      for (const int n : all_n) enrol_decode({.n = n, .heads = heads, .d = d, .eigen = true});
  for (const heads_of heads : all_heads) enrol_decode({.n = 512, .heads = heads, .d = 128, .hot = true});
  for (const int d : other_d) enrol_decode({.n = 2048, .heads = {8, 4}, .d = d});
  for (const int group : other_groups) enrol_decode({.n = 2048, .heads = {8, group}, .d = 128});
#if defined(_OPENMP)
  if (threads_available() > 1)
    for (const heads_of heads : all_heads)
      for (const int n : all_n) {
        decode_case c{.n = n, .heads = heads, .d = 128, .threads = 2};
        enrol_case("decode2/" + format + "/" + c.name(), repetitions(2 * estimate<Format>(c)),
                   [c](benchmark::State& state) { decode<Format, openmp>(state, c); });
      }
#endif
  for (const int n : {512, 2048, 8192}) {
    const decode_case c{.n = n, .heads = {8, 4}, .d = 128};
    enrol_policy<Format, tova, serial>("policy", c);
    enrol_policy<Format, h2o, serial>("policy", c);
#if defined(_OPENMP)
    if (threads_available() > 1)
      enrol_policy<Format, tova, openmp>("policy2", {.n = n, .heads = {8, 4}, .d = 128, .threads = 2});
#endif
  }
  for (const int kept : {512, 2048})
    for (const int tokens : {64, 128, 256, 512}) {
      const shape dims{32, 8, 128, 128};
      const double flops = 4.0 * tokens * (kept + tokens / 2) * dims.heads * dims.dk;
      enrol_case("chunk/" + format + "/n:" + std::to_string(kept) + "/c:" + std::to_string(tokens) + "/heads:8x4/d:128",
                 repetitions(flops / 5e10),
                 [dims, kept, tokens](benchmark::State& state) { chunk<Format>(state, dims, kept, tokens); });
    }
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, [] {
    enrol_format<f32>();
    enrol_format<f16>();
    enrol_format<bf16>();
    enrol_format<i8>();
  });
}
