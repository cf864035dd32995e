#include <gtest/gtest.h>

#include <multistate/eval/timing.hpp>
#include <multistate/model/decoder.hpp>
#include <multistate/memory/memory.hpp>
#include <multistate/policy/tova.hpp>
#include <unit/model/models.hpp>

namespace {

using namespace multistate;

TEST(timing, the_parts_of_every_step_are_there_and_fit_into_the_whole) {
  const model_weights w = support::random_model({.vocab = 257}, 3);
  std::vector<int> tokens{256};
  for (int i = 1; i < 40; ++i) tokens.push_back(i);
  auto model = decoder<>::make(w, 1).value();
  for (const scope_kind scope : {scope_kind::layer, scope_kind::head, scope_kind::model}) {
    auto memory = make_memory(tova{.budget = 9, .scope = scope}, setup_for(w.config)).value();
    std::vector<step_time> times(tokens.size());
    ASSERT_EQ(time_steps(model, memory, tokens, times).code(), errc::ok);
    EXPECT_EQ(memory.next_position(), 40);
    for (const step_time& t : times) {
      EXPECT_GT(t.attention, 0);
      EXPECT_GT(t.policy, 0);
      EXPECT_GT(t.rest(), 0);
    }
  }
}

}  // namespace
