// Compiled with -ffast-math: attention, what is stored and what is dropped must be right all the same.
#include <multistate/multistate.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

using namespace multistate;

namespace {

int failures = 0;
void expect(bool fine, const std::string& message) {
  if (fine) return;
  std::printf("wrong: %s\n", message.c_str());
  ++failures;
}

struct numbers {
  std::uint64_t seed = 1;
  float operator()(float most) {
    return static_cast<float>(static_cast<double>(mix(seed++) >> 40) * 0x1p-23 - 1) * most;
  }
};

constexpr int dk = 40, dv = 24, heads = 4, kv_heads = 2, group = heads / kv_heads;

/// One KV head of `n` states of format F, and `queries` tokens that attend them.
template <class F>
struct attended {
  std::vector<float> q, keys, values;
  std::vector<std::byte> k, v;
  std::vector<float> out, row;
  int n, queries;

  attended(int states, int tokens, const attention_options& options, numbers& next, float largest)
      : q(static_cast<std::size_t>(tokens * heads * dk)),
        keys(static_cast<std::size_t>(states * dk)),
        values(static_cast<std::size_t>(states * dv)),
        k(row_bytes<F>(dk) * static_cast<std::size_t>(states)),
        v(row_bytes<F>(dv) * static_cast<std::size_t>(states)),
        out(static_cast<std::size_t>(tokens * heads * dv)),
        row(static_cast<std::size_t>(states)),
        n(states),
        queries(tokens) {
    for (float& x : q) x = next(largest);
    for (std::size_t s = 0; s < static_cast<std::size_t>(n); ++s) {
      for (std::size_t i = 0; i < dk; ++i) keys[s * dk + i] = next(largest);
      for (std::size_t i = 0; i < dv; ++i) values[s * dv + i] = next(1.0f);
      store_row<F>(&k[s * row_bytes<F>(dk)], &keys[s * dk], dk);
      store_row<F>(&v[s * row_bytes<F>(dv)], &values[s * dv], dv);
      load_row<F>(&keys[s * dk], &k[s * row_bytes<F>(dk)], dk);
      load_row<F>(&values[s * dv], &v[s * row_bytes<F>(dv)], dv);
    }
    const shape dims{.heads = heads, .kv_heads = kv_heads, .dk = dk, .dv = dv};
    const extent where{
        .k = k.data(), .v = v.data(), .k_stride = row_bytes<F>(dk), .v_stride = row_bytes<F>(dv), .n = n};
    std::vector<position> positions;
    for (int s = 0; s < n; ++s) positions.push_back(s);
    attention_task task;
    task.kv = {.extents = {&where, 1}, .positions = positions, .ranks = {}, .n = n};
    task.q = q.data();
    task.q_stride = heads * dk;
    task.out = out.data();
    task.out_stride = heads * dv;
    task.row = row.data();
    task.first = n - queries;
    task.queries = queries;
    std::vector<std::byte> scratch(attend_scratch_bytes(dims, n, queries));
    const attention<> attend{.dims = dims, .options = options, .exec = nullptr, .scratch = scratch};
    attend.template operator()<needs::last_row, F>(std::span<const attention_task>(&task, 1));
  }

  /// The largest error of outs and of the last row, by the formula in double.
  double worst(const attention_options& options) const {
    double off = 0;
    std::vector<double> sums(row.size());
    for (int j = 0; j < queries; ++j)
      for (int g = 0; g < group; ++g) {
        const float* mine = &q[static_cast<std::size_t>((j * heads + g) * dk)];
        std::vector<double> right(dv), weights(static_cast<std::size_t>(n));
        double sum = options.sink_logits.empty() ? 0.0 : std::exp(static_cast<double>(options.sink_logits[0]));
        const int end = n - queries + j + 1;
        const int begin = options.window > 0 && end > options.window ? end - options.window : 0;
        for (int s = begin; s < end; ++s) {
          double dot = 0;
          for (int i = 0; i < dk; ++i) dot += double{mine[i]} * double{keys[static_cast<std::size_t>(s * dk + i)]};
          dot /= std::sqrt(double{dk});
          if (options.softcap > 0) dot = double{options.softcap} * std::tanh(dot / double{options.softcap});
          const double w = weights[static_cast<std::size_t>(s)] = std::exp(dot);
          sum += w;
          for (int i = 0; i < dv; ++i)
            right[static_cast<std::size_t>(i)] += w * double{values[static_cast<std::size_t>(s * dv + i)]};
        }
        for (int i = 0; i < dv; ++i)
          off = std::fmax(off, std::fabs(right[static_cast<std::size_t>(i)] / sum -
                                         double{out[static_cast<std::size_t>((j * heads + g) * dv + i)]}));
        if (j + 1 == queries)
          for (std::size_t s = 0; s < row.size(); ++s) sums[s] += weights[s] / sum;
      }
    for (std::size_t s = 0; s < row.size(); ++s) off = std::fmax(off, std::fabs(sums[s] - double{row[s]}));
    return off;
  }
};

template <class F>
void attend(double tolerance) {
  numbers next;
  const float sinks[heads] = {0.5f, 0.5f, 0.5f, 0.5f};
  const struct {
    const char* name;
    attention_options options;
  } cases[] = {
      {"plain", {}}, {"softcap", {.softcap = 5.0f}}, {"window", {.window = 9}}, {"sink", {.sink_logits = sinks}}};
  for (const auto& c : cases)
    for (const int n : {1, 7, 70, 400})
      for (const int queries : {1, 3})
        for (const float largest : {0.5f, 1.7f, 6.0f}) {  // logits from 1 to far more than exp() holds
          if (queries > n) continue;
          const double off = attended<F>(n, queries, c.options, next, largest).worst(c.options);
          expect(off < tolerance, std::string(F::name) + " " + c.name + ", " + std::to_string(n) + " states, " +
                                      std::to_string(queries) + " queries: off by " + std::to_string(off));
        }
}

void scan() {
  double value[1] = {0};
  scan_element<double> e{.value = value};
  const double one[1] = {3.0};
  const volatile std::uint64_t bits = 0xfff0000000000000u;  // -inf, which the compiler was told can't be
  scan_add<double>(e, std::bit_cast<double>(std::uint64_t{bits}), one);
  expect(e.sum == 0.0, "a masked state counts in a scan");
  scan_add<double>(e, 2.0, one);
  double out[1];
  scan_normalise<double>(e, out);
  expect(std::fabs(out[0] - 3.0) < 1e-12, "a scan of one state");
}

void formats() {
  for (std::uint32_t h = 0; h < 0x7c00u; ++h) {
    const auto half = static_cast<std::uint16_t>(h);
    if (f16::store(f16::load(half)) == half) continue;
    expect(false, "f16 " + std::to_string(h));
    break;
  }
  std::uint32_t bad[4] = {0x3f800000u, 0x7fc00000u, 0x40000000u, 0x40400000u};  // 1, NaN, 2, 3
  float given[4];
  std::memcpy(given, bad, sizeof given);
  std::byte row[row_bytes<i8>(4)];
  store_row<i8>(row, given, 4);
  std::memcpy(bad, row + 4, sizeof(float));  // the scale: sums with NaN are undefined here
  expect(bad[0] == 0x7fc00000u, "a row of i8 with NaN");
  const float whole[4] = {127, -63.5f, 2.5f, 1.5f};
  store_row<i8>(row, whole, 4);
  const int right[4] = {127, -64, 2, 2};
  for (int i = 0; i < 4; ++i) expect(static_cast<signed char>(row[i]) == right[i], "i8 is not rounded to nearest");
}

void decisions() {
  auto decider = multistate::decider<h2o>::make({.budget = 3, .recent = 1}, {.kv_heads = 1}).value();
  float row[4] = {3e5f, 0, 0, 0};
  for (int t = 0; t < 101; ++t) {
    decider.append(1);
    for (int s = 0; s < decider.live(0); ++s)
      row[s] = decider.positions(0)[static_cast<std::size_t>(s)] > 0 ? 0.0f : t == 0 ? 3e5f : 0.01f;
    decider.observe(0, {.data = row, .n = decider.live(0)});
    decider.reduce();
  }
  const double sum = double{decider.column(0, 0)[0]} + double{decider.column(0, 1)[0]};
  expect(std::fabs(sum - (3e5 + 100 * double{0.01f})) < 1e-4, "H2O's sum lost its rest");

  const std::uint32_t bits[4] = {0x3f000000u, 0x7fc00000u, 0x80000000u, 0x00000000u};  // 0.5, NaN, -0, 0
  float worth[4];
  std::memcpy(worth, bits, sizeof worth);
  const position positions[4] = {0, 1, 2, 3};
  slot out[3];
  expect(lowest(worth, positions, {.structural = {}, .now = 3, .pins = {}}, std::span(out).first(1)) == 1 &&
             index(out[0]) == 1,
         "NaN does not go first");
  expect(lowest(worth, positions, {.structural = {}, .now = 3, .pins = {}}, out) == 3 && index(out[1]) == 2 &&
             index(out[2]) == 3,
         "-0 and 0 are no equals");
}

void angles() {
  const rope rotation = rope::make({.dim = 16}).value();
  float cos_sin[16];
  for (const double at : {0.0, 1.0, 12345.0, 123456789.0, 0x1p31 + 5}) {
    rotation.angles(at, cos_sin);
    for (int i = 0; i < 8; ++i) {
      const long double angle = static_cast<long double>(at) * std::pow(10000.0L, -2.0L * i / 16.0L);
      expect(std::fabs(static_cast<double>(std::cos(angle)) - double{cos_sin[i]}) < 1e-6 &&
                 std::fabs(static_cast<double>(std::sin(angle)) - double{cos_sin[8 + i]}) < 1e-6,
             "angles at " + std::to_string(at));
    }
  }
  const volatile std::uint64_t infinity = 0x7ff0000000000000u;
  expect(rope::make({.dim = 16, .theta = std::bit_cast<double>(std::uint64_t{infinity})}).code() == errc::bad_input,
         "an infinite theta is taken");
}

}  // namespace

int main() {
  attend<f32>(1e-5);
  attend<f16>(1e-5);
  attend<bf16>(1e-5);
  attend<i8>(2e-2);  // queries are rounded
  scan();
  formats();
  decisions();
  angles();
  std::printf("%s: %d wrong\n", std::string(attention_target()).c_str(), failures);
  return failures == 0 ? 0 : 1;
}
