// Checkpoints that say a fact twice, against what transformers 5.2.0 computes from them.

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include <multistate/io/model_file.hpp>
#include <multistate/io/text_file.hpp>
#include <multistate/model/decoder.hpp>
#include <multistate/memory/memory.hpp>
#include <multistate/policies.hpp>

namespace {

using namespace multistate;
namespace fs = std::filesystem;

fs::path fault(const char* name) { return fs::path(MULTISTATE_TEST_DATA) / "faults" / name; }

/// Mean over all tokens but the first, in nats.
double nll(const model_view& w, const fs::path& ids) {
  const auto tokens = read_tokens(ids, w.config.vocab).value();
  const int count = static_cast<int>(tokens.size());
  auto d = decoder<>::make(w, count).value();
  auto memory = make_memory(full{.budget = count}, setup_for(w.config)).value();
  std::vector<float> logits(static_cast<std::size_t>(w.config.vocab));
  double sum = 0;
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
    batch_item item;
    item.memory = &memory;
    item.tokens = std::span(tokens).subspan(i, 1);
    item.want = logit_rows::last;
    item.logits = logits.data();
    EXPECT_EQ(d.forward({&item, 1}).message(), "");
    double total = 0;
    for (float x : logits) total += std::exp(static_cast<double>(x));
    sum += std::log(total) - static_cast<double>(logits[static_cast<std::size_t>(tokens[i + 1])]);
  }
  return sum / static_cast<double>(tokens.size() - 1);
}

TEST(said_twice, a_tied_model_with_another_head_is_not_tied) {
  const auto folder = fault("tied_with_another_head");
  const auto w = load_model(folder);
  ASSERT_TRUE(w) << w.reason().message();
  EXPECT_FALSE(w->config.tied);
  EXPECT_EQ(w->notes.size(), 1u);
  EXPECT_NEAR(nll(*w, folder / "ids.tokens"), 2.440569, 2e-6);
}

TEST(said_twice, a_tied_model_may_keep_its_head_alone) {
  const auto folder = fault("tied_head_only");
  const auto w = load_model(folder);
  ASSERT_TRUE(w) << w.reason().message();
  EXPECT_TRUE(w->config.tied);
  EXPECT_NEAR(nll(*w, folder / "ids.tokens"), 5.439197, 2e-6);
}

TEST(said_twice, two_descriptions_of_the_angles_are_refused) {
  const auto folder = fault("rope_scaling_beside_rope_parameters");
  const auto both = load_model(folder);
  ASSERT_FALSE(both);
  EXPECT_NE(both.reason().message().find("rope_parameters and rope_scaling"), std::string_view::npos);
  // Without the other one: the value of whoever takes rope_scaling.
  std::ifstream in(folder / "config.json");
  auto json = nlohmann::json::parse(in);
  json.erase("rope_parameters");
  const auto config = fs::temp_directory_path() / "multistate-said-twice.json";
  std::ofstream(config) << json;
  const auto w = load_huggingface(config, folder / "model.safetensors");
  fs::remove(config);
  ASSERT_TRUE(w) << w.reason().message();
  EXPECT_NEAR(nll(*w, folder / "ids.tokens"), 2.445899, 2e-6);
}

}  // namespace
