#include <gtest/gtest.h>

#include <set>

#include <multistate/util/openmp.hpp>
#include <multistate/eval/recall_runner.hpp>
#include <multistate/model/decoder.hpp>
#include <multistate/memory/memory.hpp>
#include <multistate/policy/full.hpp>
#include <multistate/policy/h2o.hpp>
#include <multistate/policy/random.hpp>
#include <multistate/policy/window.hpp>
#include <unit/model/models.hpp>

namespace {

using namespace multistate;

constexpr int bos = 256;

std::string text_of(std::span<const int> tokens) {
  std::string text;
  for (const int t : tokens) text += t == bos ? '^' : static_cast<char>(t);
  return text;
}

struct generated {
  tokenizer words = tokenizer::bytes(257);
  std::vector<int> filler = words.encode("it was a bright cold day in april and the clocks were striking. ").value();
  recall_trial operator()(const recall_layout& layout, std::uint64_t number = 0, std::uint64_t seed = 1) const {
    return recall_generator::make(filler, words, bos, seed).value().trial(layout, number).value();
  }
};

TEST(recall, the_question_comes_at_the_distance_asked_for) {
  const recall_trial t = generated()({.before = 20, .distances = {13, 40, 12}});
  const std::string question = text_of(t.question), answer = text_of(t.answer);
  ASSERT_EQ(question.size(), 6u);
  ASSERT_EQ(answer.size(), 5u);
  EXPECT_EQ(question.substr(0, 2), "\n?");
  const std::string statement = "\n#" + question.substr(2) + answer + ";\n";
  EXPECT_EQ(t.at[2], recall_trial::unasked);  // twelve tokens have no room for both lines
  for (std::size_t d : {0u, 1u}) {
    const std::string prompt = text_of(t.prompt(d));
    EXPECT_EQ(prompt[0], '^');
    EXPECT_EQ(prompt.find(statement), 20u);
    EXPECT_TRUE(prompt.ends_with(question));
    EXPECT_EQ(prompt.size() - (20 + 6), d == 0 ? 13u : 40u);
  }
}

TEST(recall, other_facts_are_whole_and_have_other_keys) {
  const generated make;
  for (std::uint64_t number = 0; number < 20; ++number) {
    const recall_trial t = make({.facts = 8, .before = 100, .distances = {16, 64, 200}}, number);
    const std::string text = text_of(t.text);
    std::set<std::string> keys;
    for (std::size_t p = 0; (p = text.find("\n#", p)) != text.npos; ++p) {
      keys.insert(text.substr(p + 2, 3));
      EXPECT_EQ(text.substr(p + 11, 2), ";\n");
      for (const std::size_t at : t.at) EXPECT_TRUE(at <= p || at >= p + 13) << "a question in a statement";
    }
    EXPECT_EQ(keys.size(), 8u);
  }
}

TEST(recall, variants_differ_in_the_question_first_and_in_the_fact_only) {
  const generated make;
  const recall_trial last = make({.before = 30, .distances = {60}});
  const recall_trial first = make({.variant = recall_variant::first_too, .before = 30, .distances = {60}});
  const recall_trial removed = make({.variant = recall_variant::removed, .before = 30, .distances = {60}});
  EXPECT_EQ(first.answer, last.answer);
  EXPECT_EQ(removed.answer, last.answer);
  EXPECT_EQ(text_of(first.text).substr(0, 8), "^" + text_of(last.question) + "\n");
  EXPECT_EQ(text_of(removed.text).find('#'), std::string::npos);
  EXPECT_EQ(text_of(removed.text).substr(0, 30), text_of(last.text).substr(0, 30));
  EXPECT_EQ(text_of(removed.text).substr(43), text_of(last.text).substr(43));
  EXPECT_EQ(removed.text.size(), last.text.size());
}

TEST(recall, seeds_and_numbers_make_trials) {
  const generated make;
  const recall_layout layout{.before = 30, .distances = {60}};
  EXPECT_EQ(make(layout, 3).text, make(layout, 3).text);
  EXPECT_NE(make(layout, 3).answer, make(layout, 4).answer);
  EXPECT_NE(make(layout, 3, 1).text, make(layout, 3, 2).text);
}

TEST(recall, facts_that_do_not_fit_are_an_error) {
  const generated make;
  const auto generator = recall_generator::make(make.filler, make.words, bos, 1).value();
  EXPECT_FALSE(generator.trial({.facts = 8, .before = 10, .distances = {20}}, 0));
  EXPECT_FALSE(generator.trial({.variant = recall_variant::first_too, .before = 3, .distances = {60}}, 0));
  EXPECT_FALSE(recall_generator::make({}, make.words, bos, 1));
}

/// full, window:8, h2o:12, random:12 with two seeds; answers of random models are made right by asking what they say.
struct worker {
  explicit worker(const model_weights& w, const memory_setup& setup)
      : model(decoder<serial>::make(w, 130, alone).value()) {
    for (auto* rows : {&a, &b}) {
      const auto add = [&](const char* name, const auto&... policies) {
        rows->emplace_back().policy = name;
        (rows->back().memories.push_back(make_memory(policies, setup).value()), ...);
      };
      add("full", full{.budget = 300});
      add("window", window{.budget = 8});
      add("h2o", h2o{.budget = 12, .recent = 6});
      add("random", multistate::random_choice{.budget = 12, .seed = 1},
          multistate::random_choice{.budget = 12, .seed = 2});
    }
  }
  recall_worker<decoder<serial>> view() { return {&model, a, b}; }
  serial alone;
  decoder<serial> model;
  std::vector<policy_run> a, b;
};

model_weights byte_model() { return support::random_model({.vocab = 257}, 4); }

/// Token by token in plain calls, nothing shared; the chosen mode by the decoder's own prompt().
std::vector<int> said(const model_weights& w, sequence_memory& memory, const recall_trial& t, std::size_t d,
                      reading_mode mode, int chunk) {
  serial alone;
  auto model = decoder<serial>::make(w, 300, alone).value();
  std::vector<int> prompt = t.prompt(d);
  if (mode == reading_mode::read_twice) {
    const std::vector<int> again(prompt.begin() + 1, prompt.end());
    prompt.insert(prompt.end(), again.begin(), again.end());
  }
  std::vector<float> logits(257);
  memory.reset();
  EXPECT_EQ(model.prompt(memory, prompt, prompt_mode_of(mode), chunk, logit_rows::last, logits.data()).code(),
            errc::ok);
  std::vector<int> out;
  for (const int token : t.answer) {
    out.push_back(greedy(logits));
    const batch_item item{.memory = &memory, .tokens = {&token, 1}, .want = logit_rows::last, .logits = logits.data()};
    EXPECT_EQ(model.forward({&item, 1}).code(), errc::ok);
  }
  return out;
}

TEST(recall, counts_equal_those_of_each_question_alone) {
  const model_weights w = byte_model();
  const generated make;
  int rights = 0, wrongs = 0, apart = 0;
  for (const reading_mode mode :
       {reading_mode::sequential, reading_mode::chunked, reading_mode::one_shot, reading_mode::read_twice}) {
    const int chunk = mode == reading_mode::chunked ? 7 : 1;
    const memory_setup setup =
        setup_for(w.config, {.chunk = chunk, .prompt = mode == reading_mode::one_shot ? 120 : 0});
    worker one(w, setup), two(w, setup), reference(w, setup);
    std::vector<recall_trial> trials;
    for (std::uint64_t i = 0; i < 6; ++i) {
      trials.push_back(make({.before = 25, .distances = {40, 13, 75}}, i));
      // A short answer that Full, or the window, gives at one of the distances.
      trials.back().answer.resize(2);
      const std::size_t d = i % 3;
      auto& memory = reference.a[i % 2].memories[0];
      for (std::size_t a = 0; a < 2; ++a) trials.back().answer[a] = said(w, memory, trials.back(), d, mode, chunk)[a];
    }
    recall_setup how{.mode = mode, .chunk = chunk, .bos = bos};
    how.asked = {{true, true, true}, {true, true, true}, {true, false, true}, {false, true, true}};
    std::vector<std::vector<recall_count>> expected(4, std::vector<recall_count>(3));
    for (std::size_t i = 0; i < trials.size(); ++i)
      for (std::size_t d = 0; d < 3; ++d) {
        const bool full_right = said(w, reference.a[0].memories[0], trials[i], d, mode, chunk) == trials[i].answer;
        for (std::size_t r = 0; r < 4; ++r) {
          if (!how.asked[r][d]) continue;
          auto& memories = reference.a[r].memories;
          const bool right = said(w, memories[i % memories.size()], trials[i], d, mode, chunk) == trials[i].answer;
          expected[r][d] += {right, 1, full_right, right && full_right};
          rights += right;
          wrongs += !right;
          apart += right != full_right;
        }
      }
    std::vector<recall_worker<decoder<serial>>> workers{one.view()};
    serial alone;
    openmp threads{2};
    for (int count = 1; count <= 2; ++count) {
      const auto got = count == 1 ? run_recall<decoder<serial>>(workers, alone, trials, how).value()
                                  : run_recall<decoder<serial>>(workers, threads, trials, how).value();
      EXPECT_EQ(got.trials, trials.size());
      for (std::size_t r = 0; r < 4; ++r)
        for (std::size_t d = 0; d < 3; ++d) {
          EXPECT_EQ(got.counts[r][d].right, expected[r][d].right) << r << " " << d;
          EXPECT_EQ(got.counts[r][d].asked, expected[r][d].asked);
          EXPECT_EQ(got.counts[r][d].full_right, expected[r][d].full_right);
          EXPECT_EQ(got.counts[r][d].both_right, expected[r][d].both_right);
        }
      workers.push_back(two.view());
    }
  }
  EXPECT_GT(rights, 20);
  EXPECT_GT(wrongs, 20);
  EXPECT_GT(apart, 5);
}

TEST(recall, an_interrupt_ends_it_with_whole_trials) {
  const model_weights w = byte_model();
  const generated make;
  std::vector<recall_trial> trials;
  for (std::uint64_t i = 0; i < 4; ++i) trials.push_back(make({.before = 25, .distances = {13}}, i));
  worker one(w, setup_for(w.config));
  recall_setup how{.bos = bos, .asked = std::vector(4, std::vector<bool>{true})};
  how.progress = [](double done) { return done < 0.5; };
  const std::vector<recall_worker<decoder<serial>>> workers{one.view()};
  serial alone;
  const auto got = run_recall<decoder<serial>>(workers, alone, trials, how).value();
  EXPECT_TRUE(got.interrupted);
  EXPECT_EQ(got.trials, 2u);
  EXPECT_EQ(got.counts[1][0].asked, 2);
}

}  // namespace
