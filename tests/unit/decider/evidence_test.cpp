// What a policy may remember and when it may act: the example of docs/write-a-policy.md.

#include <multistate/policies.hpp>
#include <multistate/policy/frame.hpp>

#include <gtest/gtest.h>

#include <vector>

using namespace multistate;

namespace {

struct longest {
  static constexpr std::string_view name = "longest";
  int budget = 0;
  scope_kind scope = scope_kind::head;
  static constexpr auto options = std::tuple{policy_option{"scope", &longest::scope}};

  constexpr evidence wants() const { return {.keys = true, .columns = 1, .lane_numbers = 1}; }
  constexpr const char* check(int) const { return nullptr; }
  constexpr protect keeps(int) const { return {4, 0}; }
  int room() const noexcept { return 32; }
  bool due(const moment& m) const noexcept { return m.n >= m.budget + 32; }
  void enter(const lane_ref& lane, slot s, std::span<const float> key, std::span<const float>,
             std::span<const float>) const noexcept {
    float square = 0;
    for (const float x : key) square += x * x;
    lane.column(0)[index(s)] += square;
    lane.numbers[0] += (square - lane.numbers[0]) / 16;
  }
  std::span<const float> worth(const lane_ref& lane, const rows&) const noexcept {
    for (std::size_t s = 0; s < lane.scratch.size(); ++s) lane.scratch[s] = lane.numbers[0] - lane.column(0)[s];
    return lane.scratch;
  }
};

void token(decider<longest>& d, int t) {
  d.append(1);
  for (int lane = 0; lane < d.lanes(); ++lane) {
    const float key[] = {static_cast<float>((t * 37 + lane) % 11)};
    d.enter(lane, 0, key, key, key);
  }
  d.reduce();
}
std::vector<std::byte> saved(const decider<longest>& d) {
  std::vector<std::byte> bytes(d.save_bytes());
  d.save(bytes);
  return bytes;
}

TEST(evidence, of_keys_and_numbers_of_a_lane_at_a_time_of_its_own) {
  auto d = decider<longest>::make({.budget = 8}, {.kv_heads = 2}, {.undo = 3}).value();
  EXPECT_EQ(d.room().every, 33);
  for (int t = 0; t < 39; ++t) token(d, t);
  EXPECT_EQ(d.live(0), 39);
  token(d, 39);
  EXPECT_EQ(d.live(0), 8) << "32 more than the budget";
  std::vector<position> first;
  for (const position p : d.positions(1))
    if (p < 4) first.push_back(p);
  EXPECT_EQ(first.size(), 4u) << "protected";
}

TEST(evidence, numbers_of_a_lane_come_back) {
  auto d = decider<longest>::make({.budget = 8}, {.kv_heads = 2}, {.undo = 3}).value(),
       e = decider<longest>::make({.budget = 8}, {.kv_heads = 2}, {.undo = 3}).value();
  for (int t = 0; t < 20; ++t) token(d, t);
  const auto before = saved(d);
  const float number = d.numbers(1)[0];
  EXPECT_GT(number, 0.0f);
  for (int t = 20; t < 23; ++t) token(d, t);
  EXPECT_NE(d.numbers(1)[0], number);
  ASSERT_TRUE(d.undo(3));
  EXPECT_EQ(saved(d), before);
  ASSERT_EQ(e.load(before).message(), "");
  EXPECT_EQ(e.numbers(1)[0], number);
  ASSERT_TRUE(e.copy_from(d));
  d.restart(0);
  EXPECT_EQ(d.numbers(1)[0], 0.0f);
}

TEST(frame, says_what_it_can_not_honour) {
  const auto reason = [](const auto& p) {
    auto made = multistate::decider<std::remove_cvref_t<decltype(p)>>::make(p, {.kv_heads = 1, .heads = 2}, {});
    return std::string(made ? "" : made.reason().message());
  };
  EXPECT_EQ(reason(framed<tova>{{.budget = 4}, {.segments = 3, .quota = 2}}),
            "tova: needs segments * quota <= budget; got segments=3, quota=2, budget=4");
  EXPECT_EQ(reason(framed<tova>{{.budget = 4}, {.segments = 3}}),
            "tova: segments and quota go together, each 1 or more; got segments=3, quota=0");
  EXPECT_EQ(reason(framed<tova>{{.budget = 4}, {.heads = head_budgets::adaptive}}),
            "tova: heads=adaptive needs scope head or model_head");
  EXPECT_EQ(reason(framed<longest>{{.budget = 4}, {.mix = mix_kind::max}}),
            "longest: mix needs a policy that looks at attention rows and at nothing else");
  EXPECT_EQ(reason(framed<tova>{{.budget = 4}, {.every = 0}}), "tova: every must be 1 to 268435456; got 0");
  EXPECT_EQ(reason(framed<tova>{{.budget = 4}, {.floor = 1.5}}), "tova: floor must be 0 to 1; got 1.5");
  EXPECT_EQ(reason(framed<tova>{{.budget = 4}, {.mix = mix_kind::max}}), "");
}

}  // namespace
