// The demo model: tokens a second when decoding, with the states of `full` at a given context against a bounded memory,
// and when reading a prompt.

#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>
#include <vector>

#include <bench/context.hpp>
#include <bench/layers.hpp>
#include <multistate/model.hpp>
#include <multistate/policies.hpp>

namespace {

using namespace bench;
using namespace multistate;

constexpr int context = 1024, budget = 128, chunk_tokens = 64;

const model_view& demo() {
  static const loaded_model weights = [] {
    auto read = load_model(MULTISTATE_BENCH_MODEL);
    if (!read) {
      const std::string_view why = read.reason().message();
      std::fprintf(stderr, "decoder_bench: %.*s\n", static_cast<int>(why.size()), why.data());
      std::exit(1);
    }
    return std::move(*read);
  }();
  return weights;
}

std::vector<int> some_tokens(int count) {
  std::vector<int> tokens(multistate::to_size(count));
  for (int i = 0; i < count; ++i) tokens[multistate::to_size(i)] = 'a' + i * i % 26;
  return tokens;
}

void must(const error& e) {
  if (e) throw bad_result(e);
}

sequence_memory memory_of(bool bounded, int tokens) {
  limits room;
  room.chunk = chunk_tokens;
  const memory_setup setup = setup_for(demo().config, room);
  return bounded ? make_memory<f32>(tova{.budget = budget}, setup).value()
                 : make_memory<f32>(full{.budget = tokens}, setup).value();
}

void finish(benchmark::State& state, const sample& seconds, const sample& ratios) {
  state.counters["time_us"] = seconds.median() * 1e6;
  state.counters["tokens/s"] = 1.0 / seconds.median();
  state.counters["vs_full"] = ratios.median();
  state.counters["vs_full_min"] = ratios.min();
  state.counters["vs_full_max"] = ratios.max();
  state.counters["disturbed"] = ratios.disturbed();
}

/// The newest of `context` tokens, one by one, under both memories in turn.
void decode(benchmark::State& state, bool bounded) {
  constexpr int burst = 32, repetitions = 21;
  auto model = decoder<>::make(demo(), chunk_tokens).value();
  const std::vector<int> tokens = some_tokens(context);
  sequence_memory whole = memory_of(false, context + burst * (repetitions + 1)),
                  mine = memory_of(bounded, context + burst * (repetitions + 1));
  for (sequence_memory* m : {&whole, &mine}) must(model.prompt(*m, tokens, prompt_mode::chunked, chunk_tokens));
  std::vector<float> logits(multistate::to_size(demo().config.vocab));
  const auto decode_some = [&](sequence_memory& m) {
    return seconds_of([&] {
             for (int i = 0; i < burst; ++i) {
               batch_item item{&m, std::span(tokens).subspan(multistate::to_size(i), 1)};
               item.want = logit_rows::last;
               item.logits = logits.data();
               must(model.forward({&item, 1}));
             }
           }) /
           burst;
  };
  sample seconds, ratios;
  for (auto _ : state) {
    const quiet_time time;
    const double reference = decode_some(whole), took = decode_some(mine);
    seconds.add(took, time.quiet());
    ratios.add(reference / took, time.quiet());
    state.SetIterationTime(took);
  }
  finish(state, seconds, ratios);
}

/// A prompt of `context` tokens, a chunk at a time.
void prefill(benchmark::State& state, bool bounded) {
  auto model = decoder<>::make(demo(), chunk_tokens).value();
  const std::vector<int> tokens = some_tokens(context);
  sequence_memory whole = memory_of(false, context), mine = memory_of(bounded, context);
  const auto read = [&](sequence_memory& m) {
    m.reset();
    return seconds_of([&] { must(model.prompt(m, tokens, prompt_mode::chunked, chunk_tokens)); }) / context;
  };
  sample seconds, ratios;
  for (auto _ : state) {
    const quiet_time time;
    const double reference = read(whole), took = read(mine);
    seconds.add(took, time.quiet());
    ratios.add(reference / took, time.quiet());
    state.SetIterationTime(took);
  }
  finish(state, seconds, ratios);
}

template <class F>
void enrol_case(const std::string& name, const F& f) {
  benchmark::RegisterBenchmark(name.c_str(), f)->UseManualTime()->Iterations(21)->Unit(benchmark::kMicrosecond);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, [] {
    for (const bool bounded : {false, true}) {
      const std::string memory = bounded ? "tova:" + std::to_string(budget) : "full";
      enrol_case("decoder/decode/f32/" + memory, [bounded](benchmark::State& state) { decode(state, bounded); });
      enrol_case("decoder/prefill/f32/" + memory, [bounded](benchmark::State& state) { prefill(state, bounded); });
    }
  });
}
