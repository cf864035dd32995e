// Whole steps of a layer: bounded against full memory, and how many tokens a second the same state memory gives when it
// is cut into more, shorter sequences.

#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <vector>

#include <bench/context.hpp>
#include <bench/layers.hpp>
#include <multistate/model.hpp>
#include <multistate/policies.hpp>
#include <multistate/step/one_shot.hpp>

namespace {

using namespace bench;
using namespace multistate;

#if defined(_OPENMP)
using threads_of = openmp;
threads_of executor_of(int threads) { return {threads}; }
#else
using threads_of = serial;
threads_of executor_of(int) { return {}; }
#endif

// ---- one decode step: append, write, attend, observe, reduce -------------------------------------------------------

/// Layers whose memory is full, so that every step drops a state.
template <policy P, class Format>
struct bounded_layers {
  using state = multi_state<Format>;
  std::vector<decider<P>> deciders;
  std::vector<state> states;
  std::vector<std::byte> scratch;

  bounded_layers(const P& settings, const shape& dims, std::size_t at_least, huge_block& memory) {
    limits room;
    room.prompt = settings.budget;
    deciders.push_back(decider<P>::make(settings, {.kv_heads = dims.kv_heads}, room).value());
    const std::size_t bytes = (state::bytes_needed(dims, deciders[0].plan()) + 63) / 64 * 64;
    const std::size_t count = (at_least + bytes - 1) / bytes;
    const auto block = memory.take(bytes * count);
    const std::size_t row = multistate::to_size(dims.kv_heads * dims.dk);
    const std::vector<float> kv = repeated_normals(multistate::to_size(settings.budget) * row, 1.0f);
    const std::vector<float> weights(multistate::to_size(settings.budget), 1.0f);
    for (std::size_t i = 0; i < count; ++i) {
      if (i > 0) deciders.push_back(decider<P>::make(settings, {.kv_heads = dims.kv_heads}, room).value());
      states.push_back(state::make(dims, deciders[i].plan(), {block.data() + i * bytes, bytes}).value());
      deciders[i].append(settings.budget, phase::prompt_end);
      for (int h = 0; h < dims.kv_heads; ++h)
        deciders[i].observe(lane_of(settings.scope, h), {.data = weights.data(), .n = settings.budget});
      deciders[i].reduce();
      const step_io io{.q = nullptr, .k = kv.data(), .v = kv.data(), .out = nullptr, .c = settings.budget};
      store_survivors(layer(i), io, dims);
    }
    scratch.resize(step_scratch_bytes<P>(dims, 1, settings.budget + 1, 1));
  }
  layer_of<P, state> layer(std::size_t i) { return {&deciders[i], {&states[i], 1}}; }
};

/// Full attention over 4096 states, without deciding or storing, against a step at 512 with both.
template <class Format>
void step_against_full(benchmark::State& state, scope_kind scope) {
  constexpr int k = 512, full_n = 4096;
  const shape dims{.heads = 32, .kv_heads = 8, .dk = 128, .dv = 128};
  static huge_block memory, full_memory;
  tova settings{.budget = k};
  settings.scope = scope;
  bounded_layers<tova, Format> bounded(settings, dims, cold_bytes, memory);
  const layers<Format> full(dims, full_n, cold_bytes, full_memory);

  std::vector<std::byte> scratch(attend_scratch_bytes(dims, full_n));
  const attention<> attend{.dims = dims, .options = {}, .exec = nullptr, .scratch = scratch};
  const std::vector<float> q = normals(multistate::to_size(dims.heads * dims.dk)),
                           kv = normals(multistate::to_size(dims.kv_heads * dims.dk), 2);
  std::vector<float> out(q.size());
  const auto tasks = full.tasks(q.data(), out.data(), nullptr);
  const step_io io{.q = q.data(), .k = kv.data(), .v = kv.data(), .out = out.data()};

  const auto bounded_step = [&] {
    return seconds_of([&] {
             for (std::size_t i = 0; i < bounded.deciders.size(); ++i) {
               const auto layer = bounded.layer(i);
               step(std::span(&layer, 1), std::span(&io, 1), dims, bounded.scratch, attend);
             }
           }) /
           static_cast<double>(bounded.deciders.size());
  };
  const auto full_step = [&] {
    return seconds_of([&] {
             for (int layer = 0; layer < full.count(); ++layer)
               attend.template operator()<needs::nothing, Format>(full.of(tasks, layer));
           }) /
           full.count();
  };
  bounded_step();
  sample times, ratios;
  for (auto _ : state) {
    const quiet_time time;
    const double before = full_step(), took = bounded_step(), after = full_step();
    times.add(took, time.quiet());
    ratios.add(0.5 * (before + after) / took, time.quiet());
    state.SetIterationTime(took);
  }
  state.counters["time_us"] = times.median() * 1e6;
  state.counters["vs_full"] = ratios.median();
  state.counters["vs_full_min"] = ratios.min();
  state.counters["vs_full_max"] = ratios.max();
  state.counters["disturbed"] = ratios.disturbed();
}

// ---- throughput at equal state memory
// --------------------------------------------------------------------------------

/// One layer of LLaMA-2-7B with random weights in f16, and next to no vocabulary.
const packed_weights& llama_layer() {
  static const packed_weights weights = [] {
    model_weights w;
    model_config& c = w.config;
    c.layers = 1;
    c.hidden = 4096;
    c.heads = c.kv_heads = 32;
    c.head_dim = 128;
    c.ffn = 11008;
    c.vocab = 8;
    c.rope.dim = c.head_dim;
    const auto matrix = [](int rows, int columns) {
      return repeated_normals(multistate::to_size(rows) * multistate::to_size(columns), 0.02f);
    };
    w.embedding = matrix(c.vocab, c.hidden);
    w.head = matrix(c.vocab, c.hidden);
    w.final_norm.assign(multistate::to_size(c.hidden), 1.0f);
    layer_weights& l = w.layers.emplace_back();
    l.attention_norm = l.ffn_norm = w.final_norm;
    for (auto* square : {&l.q, &l.k, &l.v, &l.o}) *square = matrix(c.hidden, c.hidden);
    l.gate = matrix(c.ffn, c.hidden);
    l.up = matrix(c.ffn, c.hidden);
    l.down = matrix(c.hidden, c.ffn);
    return packed_weights::make(std::move(w), weight_format::f16).value();
  }();
  return weights;
}

/// Sequences that hold k states each, made by one and copied.
template <policy P, class Format>
std::vector<sequence_memory> full_memories(P settings, int k, int room_for, int count) {
  settings.budget = k + room_for;
  limits room;
  room.chunk = 256;
  const memory_setup setup = setup_for(llama_layer().view().config, room);
  std::vector<sequence_memory> all;
  for (int i = 0; i < count; ++i) all.push_back(make_memory<Format>(settings, setup).value());
  std::vector<std::byte> scratch(all[0].scratch_bytes());
  const shape dims = setup.dims;
  const std::vector<float> x = normals(multistate::to_size(room.chunk * dims.heads * dims.dk));
  std::vector<float> out(x.size());
  step_io io{.q = x.data(), .k = x.data(), .v = x.data(), .out = out.data(), .c = room.chunk, .when = phase::prompt};
  for (int done = 0; done < k; done += room.chunk) all[0].attend(0, io, attend_mode::together, scratch);
  for (int i = 1; i < count; ++i) all[multistate::to_size(i)].copy_from(all[0]);
  return all;
}

/// A batch that decodes one token of each of its sequences.
class batch {
 public:
  batch(decoder<threads_of>& model, std::vector<sequence_memory>&& memories)
      : model_(model), memories_(std::move(memories)) {
    for (sequence_memory& m : memories_) {
      batch_item& item = items_.emplace_back();
      item.memory = &m;
      item.tokens = token_;
    }
    if (const error e = model_.forward(items_)) throw bad_result(e);
  }
  batch(const batch&) = delete;
  batch& operator=(const batch&) = delete;
  double seconds_per_token() {
    return seconds_of([&] { benchmark::DoNotOptimize(model_.forward(items_)); }) / static_cast<double>(items_.size());
  }
  std::size_t state_bytes() const {
    std::size_t sum = 0;
    for (const sequence_memory& m : memories_) sum += m.live_bytes();
    return sum;
  }

 private:
  static constexpr int only_token[1] = {1};
  std::span<const int> token_ = only_token;
  decoder<threads_of>& model_;
  std::vector<sequence_memory> memories_;
  std::vector<batch_item> items_;
};

/// The memory of one full sequence of 4096, cut into sequences of k under TOVA.
template <class Format>
void throughput(benchmark::State& state, int k, int threads, int count) {
  constexpr int full_n = 4096, sequences_at_most = 16;
  threads_of exec = executor_of(threads);
  auto model = decoder<threads_of>::make(llama_layer().view(), sequences_at_most, exec).value();
  batch whole(model, full_memories<full, Format>({}, full_n, count + 8, 1));
  batch cut(model, full_memories<tova, Format>({}, k, 0, full_n / k));
  sample times, ratios;
  for (auto _ : state) {
    const quiet_time time;
    const double reference = whole.seconds_per_token(), took = cut.seconds_per_token();
    times.add(took, time.quiet());
    ratios.add(reference / took, time.quiet());
    state.SetIterationTime(took);
  }
  state.counters["time_us"] = times.median() * 1e6;
  state.counters["tokens/s"] = 1.0 / times.median();
  state.counters["sequences"] = full_n / k;
  state.counters["bytes"] = static_cast<double>(cut.state_bytes());
  state.counters["vs_4096"] = ratios.median();
  state.counters["vs_4096_min"] = ratios.min();
  state.counters["vs_4096_max"] = ratios.max();
  state.counters["disturbed"] = ratios.disturbed();
}

template <class F>
void enrol_case(const std::string& name, int iterations, const F& f) {
  benchmark::RegisterBenchmark(name.c_str(), f)->UseManualTime()->Iterations(iterations)->Unit(benchmark::kMicrosecond);
}

template <class Format>
void enrol_steps() {
  for (const scope_kind scope : {scope_kind::layer, scope_kind::head})
    enrol_case("step/" + std::string(Format::name) + (scope == scope_kind::layer ? "/layer" : "/head") +
                   "/k:512/full:4096/heads:8x4/d:128",
               15, [scope](benchmark::State& state) { step_against_full<Format>(state, scope); });
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, [] {
    enrol_steps<f32>();
    enrol_steps<f16>();
    enrol_steps<bf16>();
    enrol_steps<i8>();
    for (int threads = 1; threads <= std::min(2, threads_available()); ++threads)
      for (const int k : {2048, 1024, 512, 256}) {
        constexpr int repetitions = 9;
        enrol_case("throughput/f16/k:" + std::to_string(k) + "/threads:" + std::to_string(threads), repetitions,
                   [k, threads](benchmark::State& state) { throughput<f16>(state, k, threads, repetitions); });
      }
  });
}
