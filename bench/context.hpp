#pragma once

// What a run was, into the context of its results: machine, compiler, SIMD target, and the limits measured at its
// start.

#include <benchmark/benchmark.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>

#include <bench/limits.hpp>
#include <multistate/attention/target.hpp>

#if defined(_OPENMP)
#include <multistate/util/openmp.hpp>
#endif

namespace bench {

/// "AMD EPYC ..." of /proc/cpuinfo.
inline std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

inline int threads_available() {
#if defined(_OPENMP)
  return omp_get_num_procs();
#else
  return 1;
#endif
}

inline std::string in_giga(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value * 1e-9);
  return text;
}

inline void add_limits(int threads) {
  const auto add = [threads](std::string_view name, double value) {
    benchmark::AddCustomContext(std::string(name) + ", threads " + std::to_string(threads), in_giga(value));
  };
  add("GB/s cold", bandwidth(threads, cold_bytes));
  add("GB/s of 512 KiB", bandwidth(threads, std::size_t{512} << 10));
  add("GFLOPS", fma_rate(threads));
  add("G exponentials/s", exp_rate(threads));
  add("G conversions/s f16", conversion_rate<multistate::f16>(threads));
  add("G conversions/s bf16", conversion_rate<multistate::bf16>(threads));
  add("G conversions/s i8", conversion_rate<multistate::i8>(threads));
}

/// main() of a benchmark program; `enrol` registers the cases.
template <class F>
int run(int argc, char** argv, const F& enrol) {
  bool lists = false;
  for (int i = 1; i < argc; ++i) lists = lists || std::string_view(argv[i]).starts_with("--benchmark_list_tests");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  enrol();
  if (!lists) {
    benchmark::AddCustomContext("cpu", cpu_model());
    benchmark::AddCustomContext("compiler", __VERSION__);
    benchmark::AddCustomContext("flags", MULTISTATE_BENCH_FLAGS);
    benchmark::AddCustomContext("simd target", std::string(multistate::attention_target()));
    benchmark::AddCustomContext("best simd target", std::string(multistate::best_attention_target()));
    benchmark::AddCustomContext("threads", std::to_string(threads_available()));
    benchmark::AddCustomContext("pages", "2 MiB where the system gives them, for the kernel and for its limit");
    add_limits(1);
    if (threads_available() > 1) add_limits(2);
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace bench
