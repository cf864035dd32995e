#pragma once

// What the machine can do, measured in the process that is judged by it. For the SIMD target of this unit's flags, as
// the attention kernel.

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include <bench/measure.hpp>
#include <bench/memory.hpp>
#include <multistate/simd/exp-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace bench {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
namespace kernel = multistate::HWY_NAMESPACE::detail;
using kernel::lanes;
using kernel::lanes_tag;

/// f(thread) on each of `threads`.
template <class F>
void on_threads([[maybe_unused]] int threads, const F& f) {
#if defined(_OPENMP)
  if (threads > 1) {
#pragma omp parallel num_threads(threads)
    f(omp_get_thread_num());
    return;
  }
#endif
  f(0);
}

/// A use that costs nothing: the compiler may not drop what made v.
HWY_INLINE void use(lanes v) {
#if HWY_ARCH_X86 && (HWY_COMPILER_GCC || HWY_COMPILER_CLANG) && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  asm volatile("" : : "v"(v.raw));
#else
  volatile float sink = hn::GetLane(v);
  static_cast<void>(sink);
#endif
}

/// Calls f(v...) with vectors of different values: equal ones, g++ would see to be one chain.
template <std::size_t Count, class F, class... V>
HWY_INLINE void with_chains(const F& f, V... v) {
  if constexpr (sizeof...(V) == Count)
    f(v...);
  else
    with_chains<Count>(f, v..., hn::Set(lanes_tag(), 1.0f + 0.01f * static_cast<float>(sizeof...(V))));
}

// ---- memory

/// Sum of a block, which lies on a vector boundary: 8 accumulators, since one addition takes longer than one load.
inline std::uint32_t read_all(std::span<const std::byte> block) {
  using tag = hn::CappedTag<std::uint32_t, multistate::detail::widest_vector>;
  const tag d;
  const std::size_t step = hn::Lanes(d) * sizeof(std::uint32_t);
  const auto load = [d](const std::byte* at)
                        HWY_ATTR { return hn::LoadU(d, reinterpret_cast<const std::uint32_t*>(at)); };
  auto a = hn::Zero(d), b = a, c = a, e = a, f = a, g = a, h = a, i = a;
  const std::byte* at = block.data();
  for (const std::byte* end = at + block.size() / (8 * step) * (8 * step); at < end; at += 8 * step) {
    a = hn::Add(a, load(at));
    b = hn::Add(b, load(at + step));
    c = hn::Add(c, load(at + 2 * step));
    e = hn::Add(e, load(at + 3 * step));
    f = hn::Add(f, load(at + 4 * step));
    g = hn::Add(g, load(at + 5 * step));
    h = hn::Add(h, load(at + 6 * step));
    i = hn::Add(i, load(at + 7 * step));
  }
  const auto sum = hn::Add(hn::Add(hn::Add(a, b), hn::Add(c, e)), hn::Add(hn::Add(f, g), hn::Add(h, i)));
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

/// Seconds to read a block once, shared among threads.
inline double seconds_to_read(std::span<const std::byte> block, int threads) {
  return seconds_of([&] {
    on_threads(threads, [&](int thread) {
      const std::size_t share = block.size() / static_cast<std::size_t>(threads) / 64 * 64;
      volatile std::uint32_t sink = read_all(block.subspan(static_cast<std::size_t>(thread) * share, share));
      static_cast<void>(sink);
    });
  });
}

// ---- registers: amounts a second of one thread or of several at once

/// The best of several short runs.
template <class F>
double rate(int threads, double amount, const F& work, int runs = 15) {
  sample rates;
  for (int i = 0; i < runs; ++i)
    rates.add(amount * threads / seconds_of([&] { on_threads(threads, [&](int) { work(); }); }));
  return rates.max();
}

/// Floating-point operations of multiply-adds; 12 chains: at most 2 a cycle, each 4 or 5 cycles long.
inline double fma_rate(int threads, int runs = 15) {
  constexpr std::size_t chains = 12, rounds = 20000;
  return rate(
      threads, 2.0 * chains * rounds * static_cast<double>(hn::Lanes(lanes_tag())),
      [] {
        with_chains<chains>([](auto... a) HWY_ATTR {
          const lanes x = hn::Set(lanes_tag(), 0.999f), y = hn::Set(lanes_tag(), 0.001f);
          for (std::size_t i = 0; i < rounds; ++i) ((a = hn::MulAdd(a, x, y)), ...);
          (use(a), ...);
        });
      },
      runs);
}

/// The kernel's own exponential.
inline double exp_rate(int threads, int runs = 15) {
  constexpr std::size_t chains = 6, rounds = 10000;
  return rate(
      threads, static_cast<double>(chains * rounds * hn::Lanes(lanes_tag())),
      [] {
        with_chains<chains>([](auto... a) HWY_ATTR {
          for (std::size_t i = 0; i < rounds; ++i) ((a = kernel::exp_down(hn::Neg(a))), ...);
          (use(a), ...);
        });
      },
      runs);
}

/// The kernel's own conversions to float, of elements that stay in the first-level cache. f32 has none.
template <class Format>
double conversion_rate(int threads, [[maybe_unused]] int runs = 15) {
  if constexpr (std::is_same_v<Format, multistate::f32>) {
    return std::numeric_limits<double>::infinity();
  } else {
    constexpr std::size_t elements = 4096, rounds = 1000;
    alignas(64) static typename Format::element from[elements];
    const std::byte* volatile hidden = reinterpret_cast<const std::byte*>(from);  // or they would be known zeros
    return rate(
        threads, static_cast<double>(elements * rounds),
        [bytes = hidden] {
          const std::size_t step = hn::Lanes(lanes_tag());
          for (std::size_t round = 0; round < rounds; ++round)
            for (std::size_t i = 0; i < elements; i += 4 * step) {
              use(kernel::load(Format(), bytes + i * sizeof from[0]));
              use(kernel::load(Format(), bytes + (i + step) * sizeof from[0]));
              use(kernel::load(Format(), bytes + (i + 2 * step) * sizeof from[0]));
              use(kernel::load(Format(), bytes + (i + 3 * step) * sizeof from[0]));
            }
        },
        runs);
  }
}

}  // namespace HWY_NAMESPACE

using HWY_NAMESPACE::conversion_rate;
using HWY_NAMESPACE::exp_rate;
using HWY_NAMESPACE::fma_rate;
using HWY_NAMESPACE::seconds_to_read;

/// Bytes a second; measured once for each size.
inline double bandwidth(int threads, std::size_t working_set) {
  struct known {
    int threads;
    std::size_t working_set;
    double rate;
  };
  static std::vector<known> all;
  for (const known& k : all)
    if (k.threads == threads && k.working_set == working_set) return k.rate;
  static huge_block memory;
  const auto block = memory.take(working_set);
  const int times = static_cast<int>(std::clamp<std::size_t>((std::size_t{64} << 20) / working_set, 1, 1000));
  sample rates;
  for (int i = 0; i < 7; ++i) {
    double seconds = 0;
    for (int j = 0; j < times; ++j) seconds += seconds_to_read(block, threads);
    rates.add(static_cast<double>(block.size()) * times / seconds);
  }
  all.push_back({threads, working_set, rates.median()});
  return all.back().rate;
}

/// What is done in registers.
struct work {
  double flops = 0;
  double exponentials = 0;
  double conversions = 0;
};

/// The same as a number of flops that takes as long: what an exponential and a conversion cost in multiply-adds does
/// not change with the clock, which does from one moment to the next. Measured once in a run.
template <class Format>
double in_flops(const work& w) {
  const auto costs = [](const auto& other) {
    sample ratios;
    for (int i = 0; i < 15; ++i) ratios.add(fma_rate(1, 2) / other());
    return ratios.median();
  };
  static const double exponential = costs([] { return exp_rate(1, 2); });
  static const double conversion = costs([] { return conversion_rate<Format>(1, 2); });
  return w.flops + w.exponentials * exponential + w.conversions * conversion;
}

/// Flops a second at this moment. Of one thread, times their number: two would also wait for each other.
inline double peak_now(int threads) { return threads * fma_rate(1, 3); }

}  // namespace bench
HWY_AFTER_NAMESPACE();
