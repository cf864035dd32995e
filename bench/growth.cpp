// growth [--steps N]: one bounded layer for a million tokens (or N). Time per token must not grow, nothing may be
// allocated and memory may not change after construction: either ends the program with status 1.

#include <multistate/multistate.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include <support/replace_new.hpp>

namespace {

using namespace multistate;

constexpr int budget = 64, ring = 1024;  // of tokens that come again and again
constexpr int deciles = 10;
constexpr int blocks =
    100;  // of each decile; after each, a memory that has just begun does the same, since machines change their pace

struct tokens {
  std::vector<float> q, k, v;
  explicit tokens(const shape& dims) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& x, int floats) {
      x.resize(static_cast<std::size_t>(ring * floats));
      for (float& e : x) e = normal(random);
    };
    fill(q, dims.heads * dims.dk);
    fill(k, dims.kv_heads * dims.dk);
    fill(v, dims.kv_heads * dims.dv);
  }
};

struct memory {
  multistate::decider<tova> deciders;
  multi_state<f32> states;
  explicit memory(const shape& dims)
      : deciders(multistate::decider<tova>::make({.budget = budget}, {.kv_heads = dims.kv_heads}).value()),
        states(multi_state<f32>::make(dims, deciders.plan()).value()) {}
  std::size_t bytes() const { return deciders.bytes() + states.bytes(); }
};

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Steps per block; 0: the arguments are wrong.
long long steps_of(int argc, char** argv) {
  long long steps = 1000000;
  if (argc == 3 && std::strcmp(argv[1], "--steps") == 0) {
    const char* end = argv[2] + std::strlen(argv[2]);
    if (std::from_chars(argv[2], end, steps).ptr != end) return 0;
  } else if (argc != 1) {
    return 0;
  }
  return steps / (deciles * blocks);
}

}  // namespace

int main(int argc, char** argv) {
  const long long block_steps = steps_of(argc, argv);
  if (block_steps < 1) {
    std::fprintf(stderr, "usage: growth [--steps N], at least %d\n", deciles * blocks);
    return 2;
  }
  const shape dims{.heads = 4, .kv_heads = 2, .dk = 32, .dv = 32};
  memory old(dims), young(dims);
  std::vector<std::byte> scratch(step_scratch_bytes<tova>(dims, 1, budget + 1, 1)),
      attention_scratch(attend_scratch_bytes(dims, budget + 1));
  const attention<> attend{.dims = dims, .options = {}, .exec = nullptr, .scratch = attention_scratch};
  const tokens in(dims);
  std::vector<float> out(static_cast<std::size_t>(dims.heads * dims.dv));
  const auto query_floats = static_cast<std::size_t>(dims.heads * dims.dk),
             key_floats = static_cast<std::size_t>(dims.kv_heads * dims.dk);
  const auto run = [&](memory& m, long long steps) {
    const layer_of<tova, multi_state<f32>> layer{&m.deciders, {&m.states, 1}};
    const auto begin = std::chrono::steady_clock::now();
    for (long long t = 0; t < steps; ++t) {
      const auto i = static_cast<std::size_t>(m.deciders.next_position() % ring);
      const step_io io{.q = in.q.data() + i * query_floats,
                       .k = in.k.data() + i * key_floats,
                       .v = in.v.data() + i * key_floats,
                       .out = out.data()};
      step(std::span(&layer, 1), std::span(&io, 1), dims, scratch, attend);
    }
    return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count() /
           static_cast<double>(steps);
  };

  std::vector<double> times(blocks), ratios(blocks);
  run(old, budget);
  const std::size_t bytes = old.bytes();
  double first = 0, last = 0;
  std::printf("bounded layer, tova:%d, 4 heads on 2, d = 32, %lld tokens, %s; medians of %d blocks\n", budget,
              block_steps * deciles * blocks, std::string(attention_target()).c_str(), blocks);
  for (int decile = 0; decile < deciles; ++decile) {
    const std::size_t before = support::allocations();
    for (std::size_t i = 0; i < blocks; ++i) {
      times[i] = run(old, block_steps);
      young.deciders.restart(0);
      run(young, budget);
      ratios[i] = times[i] / run(young, block_steps);
    }
    if (support::allocations() != before || old.bytes() != bytes) {
      std::fprintf(stderr, "growth: %zu allocations, %zu bytes; must be 0 and %zu\n", support::allocations() - before,
                   old.bytes(), bytes);
      return 1;
    }
    last = median(ratios);
    if (decile == 0) first = last;
    std::printf("decile %2d: %7.1f ns per token, %.3f of a young memory's\n", decile + 1, median(times), last);
    std::fflush(stdout);
  }
  std::printf("last / first: %.3f; %zu bytes, 0 allocations\n", last / first, bytes);
}
