#include <gtest/gtest.h>

#include <multistate/eval/prompt_score.hpp>
#include <multistate/model/decoder.hpp>
#include <multistate/memory/memory.hpp>
#include <multistate/policy/full.hpp>
#include <multistate/policy/h2o.hpp>
#include <multistate/policy/tova.hpp>
#include <unit/model/models.hpp>

namespace {

using namespace multistate;

std::vector<int> some_tokens(int n, unsigned seed) {
  std::vector<int> tokens{256};
  for (int i = 1; i < n; ++i) tokens.push_back(static_cast<int>((seed = seed * 1664525u + 1013904223u) >> 24));
  return tokens;
}

double nll(std::span<const float> logits, int token) {
  double sum = 0;
  for (const float x : logits) sum += std::exp(double{x});
  return std::log(sum) - double{logits[static_cast<std::size_t>(token)]};
}

/// Prompt by the decoder's own reader, then plain calls of one token.
template <policy P>
double plainly(const model_weights& w, const P& settings, const memory_setup& setup, std::span<const int> prompt,
               std::span<const int> text, reading_mode mode, int chunk) {
  auto model = decoder<>::make(w, 200).value();
  auto memory = make_memory(settings, setup).value();
  std::vector<int> tokens(prompt.begin(), prompt.end());
  if (mode == reading_mode::read_twice) tokens.insert(tokens.end(), prompt.begin() + 1, prompt.end());
  std::vector<float> logits(257);
  EXPECT_EQ(model.prompt(memory, tokens, prompt_mode_of(mode), chunk, logit_rows::last, logits.data()).code(),
            errc::ok);
  double sum = 0;
  for (const int token : text) {
    sum += nll(logits, token);
    const batch_item item{.memory = &memory, .tokens = {&token, 1}, .want = logit_rows::last, .logits = logits.data()};
    EXPECT_EQ(model.forward({&item, 1}).code(), errc::ok);
  }
  return sum / static_cast<double>(text.size());
}

TEST(prompt_score, equals_plain_calls_in_every_way_to_read) {
  const model_weights w = support::random_model({.vocab = 257}, 7);
  const auto prompt = some_tokens(41, 1), text = some_tokens(30, 2);
  for (std::size_t m = 0; m < reading_modes.size(); ++m) {
    const auto mode = static_cast<reading_mode>(m);
    const int chunk = mode == reading_mode::chunked ? 6 : 1;
    const memory_setup setup = setup_for(w.config, {.chunk = chunk, .prompt = mode == reading_mode::one_shot ? 41 : 0});
    for (const int most : {41, 200}) {
      auto model = decoder<>::make(w, most).value();
      auto memory = make_memory(h2o{.budget = 9, .recent = 4}, setup).value();
      const auto got = score_after(model, memory, prompt, text, mode, chunk, 256).value();
      EXPECT_NEAR(got.nll, plainly(w, h2o{.budget = 9, .recent = 4}, setup, prompt, text, mode, chunk), 1e-9);
      EXPECT_EQ(got.states_attended_max, mode == reading_mode::one_shot ? 41 : mode == reading_mode::chunked ? 15 : 10);
    }
  }
}

TEST(prompt_score, a_policy_that_decides_for_all_layers_reads_token_by_token) {
  const model_weights w = support::random_model({.vocab = 257}, 7);
  const auto prompt = some_tokens(20, 3), text = some_tokens(9, 4);
  const tova whole{.budget = 7, .scope = scope_kind::model};
  auto model = decoder<>::make(w, 64).value();
  auto memory = make_memory(whole, setup_for(w.config)).value();
  const auto got = score_after(model, memory, prompt, text, reading_mode::sequential, 1, 256).value();
  EXPECT_NEAR(got.nll, plainly(w, whole, setup_for(w.config), prompt, text, reading_mode::sequential, 1), 1e-9);
}

TEST(prompt_score, a_text_of_one_token_needs_the_prompt_alone) {
  const model_weights w = support::random_model({.vocab = 257}, 7);
  const auto prompt = some_tokens(5, 3);
  const int token = 17;
  auto model = decoder<>::make(w, 64).value();
  auto memory = make_memory(full{.budget = 5}, setup_for(w.config)).value();
  EXPECT_TRUE(score_after(model, memory, prompt, std::span(&token, 1), reading_mode::sequential, 1, 256));
}

}  // namespace
