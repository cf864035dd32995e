// Products of a matrix of 4096 x 4096 with 1 to 512 columns: time, share of the limit of bandwidth or multiply-adds,
// and ggml's time over ours where it is linked (bench/ggml).

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include <bench/context.hpp>
#include <bench/memory.hpp>
#include <bench/peer.hpp>
#include <multistate/model/linear-inl.hpp>
#include <multistate/model/product_mode.hpp>
#include <multistate/util/buffer.hpp>

namespace {

using namespace bench;
using namespace multistate;
namespace current = multistate::HWY_NAMESPACE;

constexpr std::size_t n = 4096;

struct product_case {
  weight_format format;
  product_mode mode;
  std::size_t columns;
  int threads;

  std::string name() const {
    return "products/" + std::string(name_of(format)) + "/" + std::string(name_of(mode)) +
           "/columns:" + std::to_string(columns) + "/threads:" + std::to_string(threads);
  }
  std::size_t bytes() const { return n * row_bytes(format, n); }
  double flops() const { return 2.0 * static_cast<double>(n * n * columns); }
};

void multiply(const current::product& p, [[maybe_unused]] int threads) {
#if defined(_OPENMP)
  if (threads > 1) {
    openmp exec{threads};
    return current::linear(exec, p);
  }
#endif
  serial exec;
  current::linear(exec, p);
}

void products(benchmark::State& state, const product_case& c) {
  static huge_block memory;
  // So many matrices that none is in a cache when its turn comes.
  const std::size_t matrices = std::max<std::size_t>(2, cold_bytes / c.bytes());
  const auto weights = memory.take(matrices * c.bytes());
  std::fill(weights.begin(), weights.end(), std::byte{0x21});  // numbers of ordinary size in every format
  buffer<float> x, y;
  if (!x.allocate(c.columns * n) || !y.allocate(c.columns * n)) return state.SkipWithError("no memory");
  for (std::size_t i = 0; i < c.columns * n; ++i) x.data()[i] = static_cast<float>(i % 61) / 61.0f - 0.5f;
  current::rounded_input rounded;
  if (!rounded.allocate(c.columns, n)) return state.SkipWithError("no memory");
  const auto other = make_peer(name_of(c.format), n, c.columns, x.data(), y.data(), c.threads);

  current::product p;
  p.x = x.data();
  p.y = y.data();
  p.out = p.in = n;
  p.columns = c.columns;
  p.rounded = c.mode == product_mode::fast ? &rounded : nullptr;
  std::size_t at = 0;
  const auto next = [&] {
    // Threads of the one that was measured before may still wait for work.
    if (c.threads > 1) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    at = (at + 1) % matrices;
    return weights.subspan(at * c.bytes(), c.bytes());
  };
  sample seconds, limits, shares, theirs, ratios;
  for (auto _ : state) {
    const quiet_time time;
    const double read = seconds_to_read(next(), c.threads);
    const double limit = std::max(read, c.flops() / peak_now(c.threads));
    p.weights = {next().data(), c.format};
    const double took = seconds_of([&] { multiply(p, c.threads); });
    seconds.add(took, time.quiet());
    limits.add(limit, time.quiet());
    shares.add(limit / took, time.quiet());
    if (other) {
      const auto block = next();
      const double their = seconds_of([&] { other->multiply(block.data()); });
      theirs.add(their, time.quiet());
      ratios.add(their / took, time.quiet());
    }
    state.SetIterationTime(took);
  }
  auto& counters = state.counters;
  counters["time_us"] = seconds.median() * 1e6;
  counters["limit_us"] = limits.median() * 1e6;
  counters["limit_share"] = shares.median();
  counters["share_min"] = shares.min();
  counters["share_max"] = shares.max();
  counters["GB/s"] = static_cast<double>(c.bytes()) / seconds.median() * 1e-9;
  counters["GFLOPS"] = c.flops() / seconds.median() * 1e-9;
  counters["bytes"] = static_cast<double>(c.bytes());
  counters["flops"] = c.flops();
  counters["disturbed"] = shares.disturbed();
  if (other) {
    counters["ggml_us"] = theirs.median() * 1e6;
    counters["vs_ggml"] = ratios.median();
    counters["vs_ggml_min"] = ratios.min();
    counters["vs_ggml_max"] = ratios.max();
  }
}

void enrol(int threads) {
  for (const weight_format format : weight_formats)
    for (const product_mode mode : {product_mode::exact, product_mode::fast})
      for (const std::size_t columns : {std::size_t{1}, std::size_t{8}, std::size_t{32}, std::size_t{512}}) {
        const bool whole = with_format(format, []<class F>(F) { return current::detail::whole_format<F>; });
        if (mode == product_mode::fast && !whole) continue;
        const product_case c{format, mode, columns, threads};
        benchmark::RegisterBenchmark(c.name().c_str(), [c](benchmark::State& state) { products(state, c); })
            ->UseManualTime()
            ->Iterations(columns == 1    ? 15
                         : columns < 512 ? 7
                                         : 3)
            ->Unit(benchmark::kMicrosecond);
      }
}

}  // namespace

int main(int argc, char** argv) {
  return run(argc, argv, [] {
    enrol(1);
    if (threads_available() > 1) enrol(2);
  });
}
