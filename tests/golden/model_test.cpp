// The llama_* and rope_* fixtures: whole models against the authors' released code and Hugging Face transformers.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <multistate/io/model_file.hpp>
#include <multistate/io/safetensors.hpp>
#include <multistate/model/decoder.hpp>
#include <multistate/memory/memory.hpp>
#include <multistate/policies.hpp>

namespace {

using namespace multistate;

constexpr float tolerance = 2e-4f;
const std::filesystem::path bundled = std::filesystem::path(MULTISTATE_TEST_DATA) / "golden";
const std::filesystem::path shared = std::filesystem::path(MULTISTATE_SHARED_DATA) / "golden";

struct model_fixture {
  loaded_model weights;
  safetensors expected;
  std::vector<int> tokens;

  explicit model_fixture(const std::filesystem::path& folder)
      : weights(load_model(folder).value()), expected(safetensors::open(folder / "expected.safetensors").value()) {
    const auto ids = expected.ints("tokens").value();
    tokens.assign(ids.begin(), ids.end());
  }
  int number(const char* name) const { return expected.ints(name).value()[0]; }
  int count() const { return static_cast<int>(tokens.size()); }
};

struct model_run {
  std::vector<float> logits;       // [T][vocab]
  std::vector<std::int32_t> kept;  // [layers][S][lanes][k], as in the fixtures
};

/// The first `prompt` tokens in one call, the others one by one, each call followed by a look at what is kept.
model_run decode(const model_fixture& f, sequence_memory& memory, int prompt, int k) {
  auto d = decoder<>::make(f.weights, f.count()).value();
  const int vocab = f.weights.config.vocab, layers = f.weights.config.layers, lanes = memory.lanes(0);
  const int steps = f.count() - (prompt > 0 ? prompt - 1 : 0);
  model_run r;
  r.logits.resize(multistate::to_size(f.count()) * multistate::to_size(vocab));
  r.kept.assign(
      multistate::to_size(layers) * multistate::to_size(steps) * multistate::to_size(lanes) * multistate::to_size(k),
      -1);
  std::vector<position> kept;
  for (int done = 0, step = 0; done < f.count(); ++step) {
    const int c = done == 0 && prompt > 0 ? prompt : 1;
    batch_item item;
    item.memory = &memory;
    item.tokens = std::span(f.tokens).subspan(multistate::to_size(done), multistate::to_size(c));
    item.mode = done == 0 && prompt > 0 ? attend_mode::one_shot : attend_mode::together;
    item.want = logit_rows::all;
    item.logits = r.logits.data() + multistate::to_size(done) * multistate::to_size(vocab);
    const error e = d.forward({&item, 1});
    EXPECT_EQ(e.message(), "");
    if (e) return r;
    for (int layer = 0; layer < layers; ++layer)
      for (int lane = 0; lane < lanes; ++lane) {
        kept.resize(multistate::to_size(memory.live(layer, lane)));
        memory.kept(layer, lane, kept);
        const std::size_t at = ((multistate::to_size(layer) * multistate::to_size(steps) + multistate::to_size(step)) *
                                    multistate::to_size(lanes) +
                                multistate::to_size(lane)) *
                               multistate::to_size(k);
        for (std::size_t i = 0; i < std::min(kept.size(), multistate::to_size(k)); ++i)
          r.kept[at + i] = static_cast<std::int32_t>(kept[i]);
      }
    done += c;
  }
  return r;
}

void expect_logits(const model_fixture& f, const std::vector<float>& got, const char* name) {
  const auto expected = f.expected.floats(name).value();
  ASSERT_EQ(got.size(), expected.size()) << name;
  float worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(std::isfinite(got[i])) << name << ", entry " << i;
    worst = std::max(worst, std::abs(got[i] - expected[i]));
  }
  EXPECT_LE(worst, tolerance) << name;
  ::testing::Test::RecordProperty(name, std::to_string(worst));
}

void expect_full(const model_fixture& f) {
  auto memory = make_memory(full{.budget = f.count()}, setup_for(f.weights.config)).value();
  expect_logits(f, decode(f, memory, 0, f.count()).logits, "logits_full");
  memory = make_memory(full{.budget = f.count()}, setup_for(f.weights.config, {.prompt = f.count()})).value();
  expect_logits(f, decode(f, memory, f.count(), f.count()).logits, "logits_full");
  memory = make_memory(full{.budget = f.count()}, setup_for(f.weights.config, {}, position_mode::in_cache)).value();
  expect_logits(f, decode(f, memory, 0, f.count()).logits,
                "logits_full");  // ranks are positions where nothing is dropped
}

void expect_policies(const model_fixture& f) {
  const int k = f.number("k"), prompt = f.number("prompt"), layers = f.weights.config.layers;
  {
    auto memory = make_memory(tova{.budget = k}, setup_for(f.weights.config)).value();
    const model_run r = decode(f, memory, 0, k);
    expect_logits(f, r.logits, "logits_tova_seq");
    EXPECT_EQ(r.kept, f.expected.ints("kept_tova_seq").value());
  }
  {
    auto memory = make_memory(tova{.budget = k}, setup_for(f.weights.config, {.prompt = prompt})).value();
    const model_run r = decode(f, memory, prompt, k);
    expect_logits(f, r.logits, "logits_tova_oneshot");
    EXPECT_EQ(r.kept, f.expected.ints("kept_tova_oneshot").value());
  }
  const window streaming{.budget = k, .sinks = f.number("start")};
  const auto kept_window = f.expected.ints("kept_window").value();
  for (const auto& [mode, name] : {std::pair{position_mode::original, "logits_window_original"},
                                   std::pair{position_mode::in_cache, "logits_window_incache"}}) {
    auto memory = make_memory(streaming, setup_for(f.weights.config, {}, mode)).value();
    const model_run r = decode(f, memory, 0, k);
    expect_logits(f, r.logits, name);
    for (int layer = 0; layer < layers; ++layer) {
      const auto begin = r.kept.begin() + static_cast<std::ptrdiff_t>(multistate::to_size(layer) * kept_window.size());
      EXPECT_TRUE(std::equal(kept_window.begin(), kept_window.end(), begin)) << name << ", layer " << layer;
    }
  }
  if (f.expected.find("logits_h2o_seq") != nullptr) {
    auto memory = make_memory(h2o{.budget = k}, setup_for(f.weights.config)).value();
    const model_run r = decode(f, memory, 0, k);
    expect_logits(f, r.logits, "logits_h2o_seq");
    EXPECT_EQ(r.kept, f.expected.ints("kept_h2o_seq").value());
  }
}

#define SKIP_WITHOUT(folder) \
  if (!std::filesystem::exists((folder) / "expected.safetensors")) GTEST_SKIP() << "needs " << (folder).string()

TEST(golden_model, llama_gqa) {
  const model_fixture f(bundled / "llama_gqa");
  expect_full(f);
  expect_policies(f);
}

TEST(golden_model, llama_mha_tied) {
  SKIP_WITHOUT(shared / "llama_mha_tied");
  const model_fixture f(shared / "llama_mha_tied");
  ASSERT_TRUE(f.weights.config.tied);
  expect_full(f);
  expect_policies(f);
}

TEST(golden_model, llama_gqa_bfloat16) {
  SKIP_WITHOUT(shared / "llama_gqa_bfloat16");
  expect_full(model_fixture(shared / "llama_gqa_bfloat16"));
}

TEST(golden_model, llama_gqa_float16) {
  SKIP_WITHOUT(shared / "llama_gqa_float16");
  expect_full(model_fixture(shared / "llama_gqa_float16"));
}

TEST(golden_model, rope_linear) { expect_full(model_fixture(bundled / "rope_linear")); }

TEST(golden_model, rope_llama3) { expect_full(model_fixture(bundled / "rope_llama3")); }

}  // namespace
