// Memories under policies for prompts: what they take, and that states stay where the decider thinks they are.

#include <multistate/memory/memory.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include <support/random.hpp>

using namespace multistate;

namespace {

result<sequence_memory> memory_of(const std::string& policy, const memory_setup& setup) {
  return make_memory<f32>(parse_policy(entries_of(standard_policies()), policy).value(), setup);
}

TEST(prompt_memory, of_a_long_prompt_grows_with_window_times_prompt) {
  const auto scratch = [](const std::string& policy, int prompt) {
    memory_setup setup;
    setup.dims = {4, 2, 64, 64};
    setup.room.prompt = prompt;
    const auto m = memory_of(policy, setup).value();
    return static_cast<double>(m.scratch_bytes() + m.bytes());
  };
  const std::string policy = "snapkv:512,window=64/tova,scope=head";
  const double small = scratch(policy, 8192), large = scratch(policy, 32768);
  EXPECT_LT(large, 4.1 * small);
  // Rows of 64 queries, in scratch and waiting, for two KV heads; what is left is less than as much again.
  EXPECT_LT(large, 2.0 * (2.0 * 2 * 64 * 32768 * sizeof(float)));
}

TEST(prompt_memory, adaptive_heads_take_the_bytes_of_equal_ones) {
  support::generator g(3);
  memory_setup setup;
  setup.dims = {6, 3, 8, 8};
  setup.layers = 2;
  setup.room = {.chunk = 4, .prompt = 60};
  auto even = memory_of("snapkv:16,window=4/tova,scope=head", setup).value();
  for (const bool chunked : {false, true}) {
    auto dealt = memory_of("snapkv:16,window=4,heads=adaptive/tova,scope=head", setup).value();
    EXPECT_EQ(dealt.arena_bytes(), even.arena_bytes());
    const int count = 90;
    std::vector<float> q, k, v, out(to_size(60 * 6 * 8));
    for (auto& [to, heads] : {std::pair(&q, 6), std::pair(&k, 3), std::pair(&v, 3)})
      for (int i = 0; i < count * heads * 8; ++i) to->push_back(static_cast<float>(g.normal() * (heads == 6 ? 3 : 1)));
    std::vector<std::byte> scratch(dealt.scratch_bytes());
    bool uneven = false;
    for (int t = 0; t < count;) {
      const int c = t >= 60 ? 1 : chunked ? 4 : 60;
      for (int layer = 0; layer < 2; ++layer) {
        std::vector<std::vector<position>> seen(3);
        for (int h = 0; h < 3; ++h)
          for (const position p : dealt.positions(layer, h))
            if (p >= 0) seen[to_size(h)].push_back(p);
        dealt.attend(layer,
                     {.q = q.data() + t * 48,
                      .k = k.data() + t * 24,
                      .v = v.data() + t * 24,
                      .out = out.data(),
                      .c = c,
                      .when = t >= 60       ? phase::decode
                              : t + c == 60 ? phase::prompt_end
                                            : phase::prompt},
                     c == 60 ? attend_mode::one_shot : attend_mode::together, scratch);
        if (t < 60) continue;
        for (int h = 0; h < 6; ++h) {  // the same over the positions that were kept
          std::vector<double> w, right(8, 0.0);
          auto& at = seen[to_size(h / 2)];
          if (h % 2 == 0) at.push_back(t);
          double most = -1e300, sum = 0;
          for (const position p : at) {
            double dot = 0;
            for (int x = 0; x < 8; ++x)
              dot += double{q[to_size(t * 48 + h * 8 + x)]} *
                     double{k[static_cast<std::size_t>(p) * 24 + to_size(h / 2 * 8 + x)]};
            w.push_back(dot / std::sqrt(8.0));
            most = std::max(most, w.back());
          }
          for (double& x : w) sum += x = std::exp(x - most);
          for (std::size_t i = 0; i < w.size(); ++i)
            for (int x = 0; x < 8; ++x)
              right[to_size(x)] +=
                  w[i] / sum * double{v[static_cast<std::size_t>(at[i]) * 24 + to_size(h / 2 * 8 + x)]};
          for (int x = 0; x < 8; ++x) ASSERT_NEAR(out[to_size(h * 8 + x)], right[to_size(x)], 1e-4) << "token " << t;
        }
      }
      t += c;
      if (t < 60) continue;
      for (int layer = 0; layer < 2; ++layer) {
        int sum = 0;
        for (int h = 0; h < 3; ++h) {
          sum += dealt.budget(layer, h);
          uneven = uneven || dealt.budget(layer, h) != 16;
          EXPECT_EQ(dealt.live(layer, h), dealt.budget(layer, h));
        }
        EXPECT_EQ(sum, 48);
      }
    }
    EXPECT_TRUE(uneven);
    auto copy = memory_of("snapkv:16,window=4,heads=adaptive/tova,scope=head", setup).value();
    ASSERT_TRUE(copy.copy_from(dealt));
    EXPECT_EQ(copy.budget(0, 1), dealt.budget(0, 1));
    dealt.reset();
    EXPECT_EQ(dealt.budget(0, 1), 16);
    ASSERT_TRUE(dealt.copy_from(copy));
  }
}

TEST(prompt_memory, pyramid_budgets_have_the_sum_of_equal_ones) {
  memory_setup setup;
  setup.dims = {4, 2, 16, 16};
  setup.layers = 5;
  setup.room.prompt = 600;
  auto even = memory_of("snapkv:100,window=4/tova,scope=head", setup).value();
  auto m = memory_of("snapkv:100,window=4,layers=pyramid/tova,scope=head", setup).value();
  int sum = 0;
  for (int l = 0; l < 5; ++l) sum += m.budget(l, 0);
  EXPECT_EQ(sum, 500);
  EXPECT_GT(m.budget(0, 0), 190);
  EXPECT_EQ(m.budget(4, 0), 5);
  EXPECT_LE(m.arena_bytes(), even.arena_bytes());
}

}  // namespace
