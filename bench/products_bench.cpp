// Products of a matrix of 4096 x 4096 with 1 to 512 columns on one thread: GFLOPS, and the share of the FMA peak.

#include <cstdio>
#include <vector>

#include <bench/limits.hpp>
#include <bench/measure.hpp>
#include <multistate/attention/attention.hpp>
#include <multistate/model/linear-inl.hpp>

int main() {
  using namespace multistate;
  constexpr std::size_t n = 4096, most = 512;
  const double peak = bench::fma_rate(1);
  std::printf("%.*s: FMA peak %.0f GFLOPS\n%-8s %-6s", static_cast<int>(attention_target().size()),
              attention_target().data(), peak / 1e9, "weights", "mode");
  const std::size_t widths[] = {1, 8, 32, 512};
  for (const std::size_t columns : widths) std::printf(" %9zu cols", columns);
  std::printf("\n");

  serial exec;
  std::vector<float> x(most * n), y(most * n);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 61) / 61.0f - 0.5f;
  HWY_NAMESPACE::rounded_input rounded;
  if (!rounded.allocate(most, n)) return 1;
  for (const weight_format format : weight_formats) {
    std::vector<std::byte> w(n * row_bytes(format, n), std::byte{0x21});
    for (const bool fast : {false, true}) {
      HWY_NAMESPACE::product p;
      p.weights = {w.data(), format};
      p.x = x.data();
      p.y = y.data();
      p.out = p.in = n;
      p.rounded = fast ? &rounded : nullptr;
      if (fast && !HWY_NAMESPACE::detail::is_fast(p)) continue;
      std::printf("%-8s %-6s", name_of(format).data(), fast ? "fast" : "exact");
      for (const std::size_t columns : widths) {
        p.columns = columns;
        bench::sample times;
        for (int round = 0; round < (columns > 32 ? 3 : 7); ++round)
          times.add(bench::seconds_of([&] { HWY_NAMESPACE::linear(exec, p); }));
        const double rate = 2.0 * n * n * static_cast<double>(columns) / times.median();
        std::printf("  %6.1f (%.2f)", rate / 1e9, rate / peak);
      }
      std::printf("\n");
    }
  }
}
