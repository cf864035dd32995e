// Policies that look at stored keys and values (shared/golden/policies2): kept positions, from an engine that keeps its
// own arrays and hands in a reader.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <multistate/decider/any_decider.hpp>
#include <multistate/io/safetensors.hpp>

#include <support/vector_engine.hpp>

namespace stored_golden {

namespace {

using namespace multistate;

const std::filesystem::path folder = std::filesystem::path(MULTISTATE_SHARED_DATA) / "golden" / "policies2";

support::vector_engine engine_of(const safetensors& file) {
  const auto& shape = file.find("q")->shape;
  support::vector_engine e{.tokens = static_cast<int>(shape[0]),
                           .heads = static_cast<int>(shape[1]),
                           .kv_heads = static_cast<int>(file.find("k")->shape[1]),
                           .d = static_cast<int>(shape[2]),
                           .q = file.floats("q").value(),
                           .k = file.floats("k").value(),
                           .v = file.floats("v").value()};
  e.use_theta(double{file.floats("theta").value()[0]});
  return e;
}

int number(const safetensors& file, const char* name) {
  return file.find(name) == nullptr ? 0 : file.ints(name).value()[0];
}

std::vector<std::int32_t> kept_in(const any_decider& d, int lane, std::size_t width) {
  std::vector<std::int32_t> kept;
  for (const position p : d.positions(lane))
    if (p >= 0) kept.push_back(static_cast<std::int32_t>(p));
  std::sort(kept.begin(), kept.end());
  kept.resize(std::max(width, kept.size()), -1);
  return kept;
}

void run(const std::filesystem::path& path) {
  const auto file = safetensors::open(path).value();
  const auto e = engine_of(safetensors::open(folder / (file.metadata().at("inputs") + ".safetensors")).value());
  const auto policy = parse_policy(entries_of(standard_policies()), file.metadata().at("policy")).value();
  const int prompt = number(file, "prompt"), chunk = std::max(1, number(file, "chunk")), first = number(file, "first");
  placement where = e.where();
  const std::vector<float> output = file.find("Wo") == nullptr ? std::vector<float>() : file.floats("Wo").value();
  where.output = output;
  auto made = policy.make_decider(where, {.chunk = std::max(chunk, first), .prompt = prompt});
  ASSERT_TRUE(made) << made.reason().message();
  any_decider& d = *made;
  d.append(1);
  EXPECT_EQ(d.fault(), d.reads() ? fault_kind::no_reader : fault_kind::none);
  d.clear_fault();
  d.restart(0);
  d.read_from(e.reader());
  const auto ends = file.ints("step_end").value(), kept = file.ints("kept").value();
  const std::size_t lanes = multistate::to_size(d.lanes()), width = kept.size() / lanes / ends.size();
  std::size_t entry = 0;
  for (int t = 0; t < ends.back();) {
    int c = t == 0 && prompt > 0 ? prompt : t == 0 && first > 0 ? first : chunk;
    c = std::min(c, ends.back() - t);
    const bool in_chunks = chunk > 1 || first > 0;
    e.feed(d, t, c, t < prompt ? phase::prompt_end : in_chunks ? phase::prompt : phase::decode);
    t += c;
    if (entry >= ends.size() || ends[entry] != t) continue;
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const auto from = kept.begin() + static_cast<std::ptrdiff_t>((entry * lanes + lane) * width);
      ASSERT_EQ(kept_in(d, static_cast<int>(lane), width),
                std::vector<std::int32_t>(from, from + static_cast<std::ptrdiff_t>(width)))
          << path.filename() << ", " << t << " tokens, lane " << lane;
    }
    ++entry;
  }
  EXPECT_EQ(entry, ends.size());
}

/// Keys of some layers and statistics of queries, without anything to attend.
struct keys_of_layers {
  int layers = 0, tokens = 0, kv_heads = 0, d = 0, heads = 0;
  std::vector<float> k, mean, magnitude;
  std::vector<double> frequencies;
  int first = 0;  // the layer that a decider of one layer reads

  std::span<const float> key(int layer, int head, position p) const {
    const auto at = ((multistate::to_size(layer) * multistate::to_size(tokens) + static_cast<std::size_t>(p)) *
                         multistate::to_size(kv_heads) +
                     multistate::to_size(head)) *
                    multistate::to_size(d);
    return {k.data() + at, multistate::to_size(d)};
  }
};

void run_layers(const std::filesystem::path& path) {
  const auto file = safetensors::open(path).value(),
             inputs = safetensors::open(folder / "tri_inputs.safetensors").value();
  keys_of_layers e{.layers = number(file, "layers"),
                   .tokens = 150,
                   .kv_heads = 2,
                   .d = 16,
                   .heads = 8,
                   .k = inputs.floats("k").value(),
                   .mean = inputs.floats("q_mean").value(),
                   .magnitude = inputs.floats("q_abs").value(),
                   .frequencies = {}};
  for (int i = 0; i < 8; ++i) e.frequencies.push_back(std::pow(10000.0, -2.0 * i / 16));
  const auto policy = parse_policy(entries_of(standard_policies()), file.metadata().at("policy")).value();
  const bool shared = spans_layers(policy.scope());
  const int prompt = number(file, "prompt");
  const auto of = [&](std::vector<float>& x) {
    return std::span<const float>(x).first(x.size() / 2 * multistate::to_size(e.layers));
  };
  std::vector<keys_of_layers> sources(multistate::to_size(e.layers), e);
  std::vector<any_decider> deciders;
  for (int layer = 0; layer < (shared ? 1 : e.layers); ++layer) {
    auto made = policy.make_decider({.kv_heads = 2,
                                     .layer = layer,
                                     .layers = e.layers,
                                     .heads = 8,
                                     .dk = 16,
                                     .dv = 16,
                                     .angles = {.frequencies = e.frequencies},
                                     .queries = {of(e.mean), of(e.magnitude)}},
                                    {.prompt = prompt});
    ASSERT_TRUE(made) << made.reason().message();
    sources[multistate::to_size(layer)].first = layer;
    made->read_from(
        {.from = &sources[multistate::to_size(layer)],
         .key = [](const void* from, int of_layer, int head, slot, position p, std::span<float> out) noexcept {
           const auto& x = *static_cast<const keys_of_layers*>(from);
           std::ranges::copy(x.key(x.first + of_layer, head, p), out.begin());
         }});
    deciders.push_back(std::move(*made));
  }
  const std::vector<float> none(4 * 16, 0.0f);
  const auto ends = file.ints("step_end").value(), kept = file.ints("kept").value();
  const std::size_t lanes = deciders.size() * multistate::to_size(deciders[0].lanes()),
                    width = kept.size() / lanes / ends.size();
  std::size_t entry = 0;
  for (int t = 0; t < ends.back();) {
    const int c = t == 0 ? prompt : 1;
    for (any_decider& d : deciders) {
      d.append(c, t == 0 ? phase::prompt_end : phase::decode);
      for (int layer = 0; layer < (shared ? e.layers : 1); ++layer)
        for (int j = 0; j < c; ++j)
          for (int h = 0; h < 2; ++h)
            d.enter(d.lane_of(h), j, std::span(none).first(16), std::span(none).first(16), none);
      d.reduce();
      ASSERT_EQ(d.fault(), fault_kind::none);
    }
    t += c;
    if (ends[entry] != t) continue;
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const auto from = kept.begin() + static_cast<std::ptrdiff_t>((entry * lanes + lane) * width);
      const auto per = multistate::to_size(deciders[0].lanes());
      ASSERT_EQ(kept_in(deciders[lane / per], static_cast<int>(lane % per), width),
                std::vector<std::int32_t>(from, from + static_cast<std::ptrdiff_t>(width)))
          << path.filename() << ", " << t << " tokens, lane " << lane;
    }
    ++entry;
  }
  EXPECT_EQ(entry, ends.size());
}

TEST(stored, triattention) {
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "there is no " << folder;
  int cases = 0;
  for (const auto& at : std::filesystem::directory_iterator(folder))
    if (at.path().filename().string().starts_with("tri_") && at.path().stem() != "tri_inputs")
      ++cases, run_layers(at.path());
  EXPECT_GE(cases, 9);
}

TEST(stored, kept_positions_are_those_recorded) {
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "there is no " << folder;
  int cases = 0;
  for (const auto& at : std::filesystem::directory_iterator(folder)) {
    const std::string name = at.path().stem();
    for (const std::string start : {"keydiff", "lagkv", "rkv", "expected", "adakv_expected", "critical"})
      if (name.starts_with(start) && !name.ends_with("_inputs")) ++cases, run(at.path());
  }
  EXPECT_GE(cases, 12);
}

}  // namespace

}  // namespace stored_golden
