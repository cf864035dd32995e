// An engine with a cache and an attention loop of its own lets multistate decide what to forget. Its cells never move:
// an array of ints follows the decider's slots. Compiles against the standard library alone.
#include <multistate/policies.hpp>

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <random>
#include <vector>

constexpr std::size_t heads = 8, kv_heads = 2, group = heads / kv_heads, d = 32, budget = 64;
constexpr int tokens = 1000;

int main() {
  auto made = multistate::decider<multistate::tova>::make({.budget = budget}, {.kv_heads = kv_heads});
  if (!made) {
    const std::string_view why = made.reason().message();
    std::fprintf(stderr, "%.*s\n", static_cast<int>(why.size()), why.data());
    return 1;
  }
  auto& decider = *made;

  std::vector<float> keys((budget + 1) * kv_heads * d), values(keys.size());  // the engine's cache, by cell
  std::vector<std::size_t> cell_of(budget + 1);                               // by slot
  for (std::size_t i = 0; i <= budget; ++i) cell_of[i] = i;

  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> q(heads * d), out(heads * d), row(budget + 1), weights(budget + 1);
  for (int t = 0; t < tokens; ++t) {
    for (const auto& m : decider.append(1).lanes[0].moves) std::swap(cell_of[index(m.from)], cell_of[index(m.to)]);
    const std::size_t cell = cell_of[index(decider.slots(0)[0])];
    for (std::size_t i = 0; i < kv_heads * d; ++i)
      keys[cell * kv_heads * d + i] = normal(random), values[cell * kv_heads * d + i] = normal(random);
    for (float& x : q) x = normal(random);

    const auto n = static_cast<std::size_t>(decider.live(0));
    for (std::size_t h = 0; h < kv_heads; ++h) {
      std::fill(row.begin(), row.end(), 0.0f);
      for (std::size_t g = h * group; g < (h + 1) * group; ++g) {
        float sum = 0;
        for (std::size_t s = 0; s < n; ++s) {
          float dot = 0;
          for (std::size_t i = 0; i < d; ++i) dot += q[g * d + i] * keys[(cell_of[s] * kv_heads + h) * d + i];
          sum += weights[s] = std::exp(dot / std::sqrt(float(d)));
        }
        std::fill_n(&out[g * d], d, 0.0f);
        for (std::size_t s = 0; s < n; ++s) {
          row[s] += weights[s] /= sum;
          for (std::size_t i = 0; i < d; ++i)
            out[g * d + i] += weights[s] * values[(cell_of[s] * kv_heads + h) * d + i];
        }
      }
      decider.observe(0, {.data = row.data(), .n = decider.live(0), .heads = group});  // the group's weights, summed
    }
    for (const auto& m : decider.reduce().lanes[0].moves) std::swap(cell_of[index(m.from)], cell_of[index(m.to)]);
  }
  multistate::position_range kept[budget];
  const std::size_t ranges = decider.kept_ranges(0, kept);
  std::printf("%d of %d tokens kept, in %zu ranges; the newest is token %lld\n", decider.live(0), tokens, ranges,
              static_cast<long long>(kept[ranges - 1].last - 1));
}
