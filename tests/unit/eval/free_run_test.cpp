#include <gtest/gtest.h>

#include <multistate/eval/free_run.hpp>
#include <multistate/model/decoder.hpp>
#include <multistate/memory/memory.hpp>
#include <multistate/policy/full.hpp>
#include <multistate/policy/window.hpp>
#include <unit/model/models.hpp>

namespace {

using namespace multistate;

TEST(free_run, repeated_runs_are_those_that_stood_before) {
  EXPECT_EQ(repeated_share(std::vector{1, 2, 3}, 4), 0);
  EXPECT_EQ(repeated_share(std::vector{1, 2, 3, 4, 5}, 4), 0);
  EXPECT_EQ(repeated_share(std::vector{1, 1, 1, 1, 1, 1}, 4), 2.0 / 3);     // of 1111 three times
  EXPECT_EQ(repeated_share(std::vector{1, 2, 1, 2, 1, 2, 1}, 4), 2.0 / 4);  // 1212 2121 1212 2121
  EXPECT_EQ(repeated_share(std::vector{1, 2, 3, 4, 1, 2, 3, 5}, 4), 0);
}

TEST(free_run, the_first_difference_counts_from_0) {
  EXPECT_EQ(first_difference(std::vector{1, 2, 3}, std::vector{1, 2, 3}), std::nullopt);
  EXPECT_EQ(first_difference(std::vector{1, 2, 3}, std::vector{9, 2, 3}), 0);
  EXPECT_EQ(first_difference(std::vector{1, 2, 3}, std::vector{1, 2, 4}), 2);
}

TEST(free_run, writes_the_likeliest_token_and_full_judges_it) {
  const model_weights w = support::random_model({.vocab = 257}, 3);
  const memory_setup setup = setup_for(w.config);
  const std::vector<int> prompt{256, 10, 20, 30, 40, 50, 60, 70};
  auto model = decoder<>::make(w, 16).value();
  auto reference = make_memory(full{.budget = 40}, setup).value();
  auto narrow = make_memory(window{.budget = 4}, setup).value();
  auto wide = make_memory(full{.budget = 40}, setup).value();
  const auto a = run_freely(model, narrow, reference, prompt, 25).value();
  const auto b = run_freely(model, wide, reference, prompt, 25).value();
  ASSERT_EQ(a.tokens.size(), 25u);
  EXPECT_NE(a.tokens, b.tokens);

  for (const bool bounded : {true, false}) {
    auto memory = make_memory(full{.budget = 40}, setup).value();
    auto forgetful = make_memory(window{.budget = 4}, setup).value();
    sequence_memory& writer = bounded ? forgetful : memory;
    std::vector<float> logits(257);
    std::vector<int> written;
    for (std::size_t i = 0; i < prompt.size() + 25; ++i) {
      if (i >= prompt.size()) written.push_back(greedy(logits));
      const int token = i < prompt.size() ? prompt[i] : written.back();
      const batch_item item{
          .memory = &writer, .tokens = {&token, 1}, .want = logit_rows::last, .logits = logits.data()};
      ASSERT_EQ(model.forward({&item, 1}).code(), errc::ok);
    }
    EXPECT_EQ(written, bounded ? a.tokens : b.tokens);
  }
  const auto score = score_after(model, reference, prompt, a.tokens, reading_mode::sequential, 1, 256).value();
  EXPECT_EQ(a.nll_under_full, score.nll);
}

}  // namespace
