// One attention layer with a memory of 512 states, however many tokens come.
#include <multistate/multistate.hpp>

#include <cstdio>
#include <random>
#include <vector>

using namespace multistate;

int main() {
  const shape dims{.heads = 32, .kv_heads = 8, .dk = 128, .dv = 128};
  const tova policy{.budget = 512};
  auto decider = multistate::decider<tova>::make(policy, {.kv_heads = dims.kv_heads}).value();
  auto states = multi_state<f16>::make(dims, decider.plan()).value();
  const layer_of<tova, multi_state<f16>> layer{&decider, {&states, 1}};

  const int most = policy.budget + 1;
  std::vector<std::byte> scratch(step_scratch_bytes<tova>(dims, 1, most, 1)),
      attention_scratch(attend_scratch_bytes(dims, most));
  const attention<> attend{.dims = dims, .options = {}, .exec = nullptr, .scratch = attention_scratch};

  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> q(32 * 128), k(8 * 128), v(8 * 128), out(32 * 128);
  for (int t = 0; t < 2000; ++t) {
    for (auto* x : {&q, &k, &v})
      for (float& e : *x) e = normal(random);
    const step_io io{.q = q.data(), .k = k.data(), .v = v.data(), .out = out.data()};
    step(std::span(&layer, 1), std::span(&io, 1), dims, scratch, attend);
  }
  std::printf("2000 tokens seen, %d kept in %zu kB, SIMD target %s\n", decider.live(0),
              (states.bytes() + decider.bytes()) / 1000, std::string(attention_target()).c_str());
}
