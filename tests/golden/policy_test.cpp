// The fixtures of data/golden/policy: positions kept by the authors' released code, step by step, and its outputs.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <multistate/attention/attention.hpp>
#include <multistate/attention/scalar.hpp>
#include <multistate/io/safetensors.hpp>
#include <multistate/policies.hpp>
#include <multistate/state/multi_state.hpp>
#include <multistate/step/one_shot.hpp>
#include <multistate/step/step.hpp>

namespace {

using namespace multistate;

const std::filesystem::path folder = std::filesystem::path(MULTISTATE_TEST_DATA) / "golden" / "policy";

/// Names of the cases: <inputs>_[ref_]<policy>[_<scope>][_<variant>]_<mode>, and mha_full.
std::vector<std::string> cases(const std::string& end = "") {
  std::vector<std::string> names;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    const std::string name = entry.path().stem().string();
    if (entry.path().extension() == ".safetensors" && !name.ends_with("_inputs") && name.ends_with(end))
      names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

struct fixture {
  shape dims;
  int tokens = 0;
  std::vector<float> q, k, v, out;
  std::vector<std::int32_t> kept, step_end;  // [S][lanes][budget], [S]
  int lanes = 1, budget = 0, recent = 0, start = 0;
  std::vector<float> not_out;
  std::vector<std::int32_t> not_kept;

  explicit fixture(const std::string& name) {
    const auto input = safetensors::open(folder / (name.substr(0, name.find('_')) + "_inputs.safetensors")).value();
    q = input.floats("q").value();
    k = input.floats("k").value();
    v = input.floats("v").value();
    const auto& of_q = input.find("q")->shape;
    const auto& of_v = input.find("v")->shape;
    tokens = static_cast<int>(of_q[0]);
    dims = {static_cast<int>(of_q[1]), static_cast<int>(of_v[1]), static_cast<int>(of_q[2]), static_cast<int>(of_v[2])};
    const auto expected = safetensors::open(folder / (name + ".safetensors")).value();
    out = expected.floats("out").value();
    if (expected.find("kept") == nullptr) return;
    kept = expected.ints("kept").value();
    step_end = expected.ints("step_end").value();
    lanes = static_cast<int>(expected.find("kept")->shape[1]);
    budget = expected.ints("k").value()[0];
    recent = expected.ints("recent").value()[0];
    start = expected.ints("start").value()[0];
    if (expected.find("not_out") == nullptr) return;
    not_out = expected.floats("not_out").value();
    not_kept = expected.ints("not_kept").value();
  }
};

struct run {
  std::vector<float> out;
  std::vector<std::int32_t> kept;  // as in the fixture
};

struct scalar {
  scalar_attention call;
  scalar(const shape& dims, int) : call{.dims = dims, .options = {}} {}
};
struct simd {
  std::vector<std::byte> scratch;
  attention<> call;
  simd(const shape& dims, int tokens) : scratch(attend_scratch_bytes(dims, tokens + 1, tokens)) {
    call.dims = dims;
    call.scratch = scratch;
  }
};

/// `one_shot_first`: the first call's keys and values stay the caller's.
template <class Attention, policy P>
run feed(const fixture& f, const P& settings, bool one_shot_first) {
  run r;
  const int first = f.step_end.empty() ? 1 : f.step_end[0];
  int chunk = 1;
  for (std::size_t s = one_shot_first ? 1 : 0; s < f.step_end.size(); ++s)
    chunk = std::max(chunk, f.step_end[s] - (s == 0 ? 0 : f.step_end[s - 1]));
  const limits room{.chunk = chunk, .prompt = one_shot_first ? first : 0};
  using state = multi_state<f32>;
  auto decider = multistate::decider<P>::make(settings, {.kv_heads = f.dims.kv_heads}, room).value();
  auto states = state::make(f.dims, decider.plan()).value();
  const Attention attend(f.dims, f.tokens);
  std::vector<std::byte> scratch(step_scratch_bytes<P>(f.dims, 1, f.tokens + 1, f.tokens));
  r.out.resize(f.out.size());
  const layer_of<P, state> layer{.decider = &decider, .states = {&states, 1}};
  const std::size_t steps = f.step_end.empty() ? multistate::to_size(f.tokens) : f.step_end.size();
  for (std::size_t s = 0; s < steps; ++s) {
    const int from = s == 0 ? 0 : f.step_end.empty() ? static_cast<int>(s) : f.step_end[s - 1];
    const int to = f.step_end.empty() ? from + 1 : f.step_end[s];
    const step_io io{.q = f.q.data() + multistate::to_size(from * f.dims.heads * f.dims.dk),
                     .k = f.k.data() + multistate::to_size(from * f.dims.kv_heads * f.dims.dk),
                     .v = f.v.data() + multistate::to_size(from * f.dims.kv_heads * f.dims.dv),
                     .out = r.out.data() + multistate::to_size(from * f.dims.heads * f.dims.dv),
                     .c = to - from,
                     .when = phase::decode};
    if (one_shot_first && s == 0)
      one_shot(layer, io, f.dims, scratch, attend.call);
    else
      step(std::span<const layer_of<P, state>>(&layer, 1), std::span<const step_io>(&io, 1), f.dims, scratch,
           attend.call);
    if (f.step_end.empty()) continue;
    for (int lane = 0; lane < f.lanes; ++lane) {  // a layer's window decides alike for every head
      const int of = decider.lanes() == 1 ? 0 : lane;
      std::vector<slot> order(multistate::to_size(decider.live(of)));
      decider.rank_order(of, order);
      for (int rank = 0; rank < settings.budget; ++rank)
        r.kept.push_back(rank < decider.live(of)
                             ? static_cast<std::int32_t>(decider.positions(of)[index(order[multistate::to_size(rank)])])
                             : -1);
    }
  }
  return r;
}

bool has(const std::string& name, const std::string& part) {
  return ("_" + name + "_").find("_" + part + "_") != std::string::npos;
}

template <class Attention>
std::optional<run> feed_named(const fixture& f, const std::string& name, bool one_shot_first) {
  const scope_kind scope = has(name, "layer") ? scope_kind::layer : scope_kind::head;
  if (has(name, "tova") || has(name, "pinned4"))
    return feed<Attention>(f, tova{.budget = f.budget, .scope = scope, .pinned = f.start}, one_shot_first);
  if (has(name, "h2o"))
    return feed<Attention>(
        f, h2o{.budget = f.budget, .scope = scope, .recent = f.recent, .normalised = has(name, "normalised")},
        one_shot_first);
  if (name.find("_window") != std::string::npos)
    return feed<Attention>(f, window{.budget = f.budget, .sinks = f.start}, one_shot_first);
  if (has(name, "full")) return feed<Attention>(f, full{.budget = f.tokens}, one_shot_first);
  return std::nullopt;
}

float furthest(const std::vector<float>& a, const std::vector<float>& b) {
  float most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const float off = std::abs(a[i] - b[i]);
    if (!(off <= most)) most = off;  // NaN is the furthest of all
  }
  return most;
}

class Golden : public testing::TestWithParam<std::string> {
 protected:
  template <class Attention>
  void check(bool one_shot_first) {
    const fixture f(GetParam());
    const auto r = feed_named<Attention>(f, GetParam(), one_shot_first);
    ASSERT_TRUE(r.has_value()) << "no policy is known for " << GetParam();
    ASSERT_EQ(r->out.size(), f.out.size());
    EXPECT_LE(furthest(r->out, f.out), 1e-5f);
    ASSERT_EQ(r->kept.size(), f.kept.size());
    EXPECT_EQ(r->kept, f.kept);
    if (f.not_out.empty()) return;
    EXPECT_GT(furthest(r->out, f.not_out), 1e-2f) << "room was made before attending";
    if (f.kept != f.not_kept) {  // a window keeps the same either way
      EXPECT_NE(r->kept, f.not_kept) << "room was made before attending";
    }
  }
};

TEST_P(Golden, scalar) { check<scalar>(GetParam().ends_with("_oneshot")); }
TEST_P(Golden, simd) { check<simd>(GetParam().ends_with("_oneshot")); }

class GoldenPrompt : public Golden {};

/// The prompt as one chunk that fits into the states, instead of one that stays the caller's.
TEST_P(GoldenPrompt, in_one_chunk) {
  check<scalar>(false);
  check<simd>(false);
}

INSTANTIATE_TEST_SUITE_P(policy, Golden, testing::ValuesIn(cases()), [](const auto& i) { return i.param; });

INSTANTIATE_TEST_SUITE_P(policy, GoldenPrompt, testing::ValuesIn(cases("_oneshot")),
                         [](const auto& i) { return i.param; });

TEST(golden, all_public_fixtures_are_here) { EXPECT_EQ(cases().size(), 37u); }

TEST(golden, knorm) {
  const auto path = std::filesystem::path(MULTISTATE_SHARED_DATA) / "golden" / "scores";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const auto input = safetensors::open(path / "inputs.safetensors").value();
  const auto expected = safetensors::open(path / "knorm.safetensors").value();
  fixture f("mha_full");
  f.q = input.floats("q").value();
  f.k = input.floats("k").value();
  f.v = input.floats("v").value();
  f.dims = {4, 2, 8, 8};
  f.tokens = 64;
  f.budget = expected.ints("k").value()[0];
  f.lanes = 2;
  f.step_end = {64};
  f.out.resize(multistate::to_size(64 * 4 * 8));
  const knorm settings{.budget = f.budget, .scope = scope_kind::head};
  const auto kept = expected.ints("kept").value();
  EXPECT_EQ(feed<scalar>(f, settings, true).kept, kept);
  EXPECT_EQ(feed<scalar>(f, settings, false).kept, kept);
  EXPECT_EQ(feed<simd>(f, settings, true).kept, kept);

  const auto score = expected.floats("score").value();
  auto decider = multistate::decider<knorm>::make(settings, {.kv_heads = 2}, {.chunk = 64}).value();
  decider.append(64);
  float largest = 0;
  for (const float s : score) largest = std::max(largest, std::abs(s));
  for (int h = 0; h < 2; ++h)
    for (int t = 0; t < 64; ++t) {
      decider.enter(h, t, {f.k.data() + multistate::to_size((t * 2 + h) * 8), 8}, {}, {});
      EXPECT_NEAR(decider.column(h, 0)[index(decider.slots(h)[multistate::to_size(t)])],
                  score[multistate::to_size(h * 64 + t)], 1e-5f * largest);
    }
}

}  // namespace
