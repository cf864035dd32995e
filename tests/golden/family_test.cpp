// The models/ fixtures: a tiny model of every family, as Hugging Face folders of both layouts and as GGUF files,
// against transformers.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <multistate/io/model_file.hpp>
#include <multistate/memory/memory.hpp>
#include <multistate/model/decoder.hpp>
#include <multistate/policies.hpp>
#include <support/tiny_family.hpp>

namespace {

using namespace multistate;

const std::filesystem::path models = std::filesystem::path(MULTISTATE_SHARED_DATA) / "golden/models";

#define NEEDS_FIXTURES() \
  if (!std::filesystem::exists(models)) GTEST_SKIP() << models << " is not there"

std::vector<int> ids(const safetensors& file, const std::string& name) {
  const auto all = file.ints(name).value();
  return {all.begin(), all.end()};
}

/// A session of at most `most` tokens over a model.
class session {
 public:
  session(model_view& w, int most, int chunk) : vocab_(to_size(w.config.vocab)), chunk_(chunk) {
    w.config.state_session(most);
    decoder_.emplace(decoder<serial>::make(w, chunk).value());
    memory_.emplace(make_memory(policy_handle(full{.budget = most}), setup_for(w.config, {.chunk = chunk})).value());
  }
  std::vector<float> logits(const std::vector<int>& tokens) {
    std::vector<float> all(tokens.size() * vocab_);
    const error e = decoder_->prompt(*memory_, tokens, prompt_mode::chunked, chunk_, logit_rows::all, all.data());
    EXPECT_FALSE(e) << e.message();
    return all;
  }
  std::vector<int> greedy(const std::vector<int>& prompt, int count) {
    auto last = logits(prompt);
    std::vector<int> chosen;
    while (static_cast<int>(chosen.size()) < count) {
      const auto from = last.end() - static_cast<std::ptrdiff_t>(vocab_);
      chosen.push_back(static_cast<int>(std::max_element(from, last.end()) - from));
      last = logits({chosen.back()});
    }
    return chosen;
  }
  const sequence_memory& memory() const { return *memory_; }

 private:
  std::size_t vocab_;
  int chunk_;
  std::optional<decoder<serial>> decoder_;
  std::optional<sequence_memory> memory_;
};

double furthest_logit(const std::vector<float>& got, const std::vector<float>& want) {
  double worst = got.size() >= want.size() ? 0.0 : 1e9;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i)
    worst = std::isfinite(got[i]) ? std::max(worst, std::abs(double(got[i]) - double(want[i]))) : 1e9;
  return worst;
}

/// `end`: of the tensors' names, as "_q8_0".
void expect_model(loaded_model w, const safetensors& expected, const std::string& end = "") {
  const auto tokens = ids(expected, "tokens"), prompt = ids(expected, "prompt" + end);
  const auto want = expected.floats("logits" + (end.empty() ? "_full" : end)).value();
  const int count = static_cast<int>(tokens.size());
  for (const int chunk : {1, 7, count}) {
    session s(w, count, chunk);
    EXPECT_LE(furthest_logit(s.logits(tokens), want), 2e-4) << "chunk " << chunk;
    for (int layer = 0; layer < w.config.layers; ++layer)
      if (const int window = w.config.window_of(layer); window > 1) {
        EXPECT_EQ(s.memory().live(layer, 0), window - 1);
      }
  }
  const auto greedy = ids(expected, "greedy" + end);
  EXPECT_EQ(
      session(w, static_cast<int>(prompt.size() + greedy.size()), 8).greedy(prompt, static_cast<int>(greedy.size())),
      greedy);
  if (const auto shorter = expected.floats("logits_short"); shorter) {
    const std::vector<int> first(tokens.begin(), tokens.begin() + 24);
    EXPECT_LE(furthest_logit(session(w, 24, 24).logits(first), *shorter), 2e-4);
    auto begun = want;
    begun.resize(shorter->size());
    EXPECT_LE(furthest_logit(session(w, 64, 24).logits(first), begun), 2e-4) << "by the stated length";
  }
  if (const auto prefix = expected.floats("logits_prefix"); prefix) {
    const auto rows = ids(expected, "prefix_rows");
    const std::size_t vocab = to_size(w.config.vocab);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::vector<int> first(tokens.begin(), tokens.begin() + rows[i] + 1);
      const auto got = session(w, rows[i] + 1, 64).logits(first);
      const auto last = static_cast<std::ptrdiff_t>(vocab);
      const auto at = prefix->begin() + static_cast<std::ptrdiff_t>(i * vocab);
      EXPECT_LE(furthest_logit({got.end() - last, got.end()}, {at, at + last}), 2e-4) << rows[i];
    }
  }
}

class folders : public ::testing::TestWithParam<const char*> {};

TEST_P(folders, give_the_logits_of_transformers) {
  NEEDS_FIXTURES();
  const auto folder = models / GetParam();
  const bool sharded = std::string(GetParam()) == "mistral_sharded";
  const auto expected = safetensors::open((sharded ? models / "mistral" : folder) / "expected.safetensors").value();
  auto w = load_model(folder);
  ASSERT_TRUE(w) << w.reason().message();
  if (const auto old = folder / "config_old.json"; std::filesystem::exists(old)) {
    const auto again = read_config_json(old);
    ASSERT_TRUE(again) << again.reason().message();
    EXPECT_EQ(*again, w->config) << "both layouts say the same";
  }
  expect_model(std::move(*w), expected);
}

INSTANTIATE_TEST_SUITE_P(models, folders,
                         ::testing::Values("llama", "llama_yarn", "llama_dynamic", "mistral", "mistral_sharded",
                                           "qwen2", "qwen3", "qwen3_bf16", "gemma2", "gemma3", "gemma3_linear", "phi3",
                                           "phi3_partial", "smollm3", "olmo2", "granite"));

TEST(gguf_models, give_the_logits_of_transformers) {
  NEEDS_FIXTURES();
  for (const char* name : {"llama-f32", "qwen2-fused", "qwen3-f32", "gemma3-f32", "phi3-f32"}) {
    SCOPED_TRACE(name);
    auto w = load_model(models / "gguf" / (std::string(name) + ".gguf"));
    ASSERT_TRUE(w) << w.reason().message();
    const std::string family = std::string(name).substr(0, std::string(name).find('-'));
    expect_model(std::move(*w), safetensors::open(models / family / "expected.safetensors").value());
  }
  for (const char* name : {"llama-q8_0", "gemma3-q8_0"}) {
    SCOPED_TRACE(name);
    auto w = load_model(models / "gguf" / (std::string(name) + ".gguf"));
    ASSERT_TRUE(w) << w.reason().message();
    expect_model(std::move(*w),
                 safetensors::open(models / "gguf" / (std::string(name) + ".expected.safetensors")).value(), "_q8_0");
  }
}

TEST(gguf_models, broken_ones_are_refused) {
  NEEDS_FIXTURES();
  for (const auto& file : std::filesystem::directory_iterator(models / "broken_gguf")) {
    if (file.path().extension() != ".gguf") continue;
    const auto w = load_model(file.path());
    EXPECT_EQ(static_cast<bool>(w), file.path().stem() == "valid") << file.path();
    if (!w) {
      EXPECT_EQ(w.reason().message().find('\n'), std::string_view::npos);
    }
  }
}

// Without fixtures: the two readers against each other, each by its own names, orders and defaults.
TEST(families, are_the_same_from_both_kinds_of_files) {
  const auto folder = std::filesystem::temp_directory_path() / "multistate-families";
  for (const support::tiny_family& f : support::tiny_families()) {
    SCOPED_TRACE(f.type);
    const support::tiny_family_files files(f, folder / f.type);
    auto one = load_model(files.folder()), other = load_model(files.gguf());
    ASSERT_TRUE(one && other) << one.reason().message() << other.reason().message();
    EXPECT_EQ(one->notes, std::vector<std::string>());
    EXPECT_EQ(other->notes, std::vector<std::string>());
    for (const int most : {32, 48}) {
      std::vector<int> tokens;
      for (int i = 0; i < most; ++i) tokens.push_back(i * i % 37);
      const auto want = session(*one, most, most).logits(tokens), got = session(*other, most, 7).logits(tokens);
      EXPECT_LE(furthest_logit(got, want), 2e-5) << most;
      EXPECT_GT(*std::max_element(want.begin(), want.end()) - *std::min_element(want.begin(), want.end()), 0.1f);
    }
  }
  std::filesystem::remove_all(folder);
}

TEST(gpt_oss, is_refused_by_name) {
  NEEDS_FIXTURES();
  const auto w = load_model(models / "gpt_oss");
  ASSERT_FALSE(w);
  EXPECT_NE(w.reason().message().find("gpt_oss"), std::string_view::npos);
}

}  // namespace
