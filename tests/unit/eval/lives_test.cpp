#include <gtest/gtest.h>

#include <multistate/eval/figures.hpp>
#include <multistate/eval/lives.hpp>
#include <multistate/memory/memory.hpp>
#include <multistate/policy/window.hpp>

namespace {

using namespace multistate;

/// Attends `queries` tokens of zeros, `chunk` at a time, in both layers.
void attend_zeros(sequence_memory& memory, int queries, int chunk) {
  const shape& d = memory.dims();
  std::vector<float> zeros(multistate::to_size(chunk) * multistate::to_size(d.heads) * multistate::to_size(d.dk), 0.0f),
      out(zeros.size());
  std::vector<std::byte> scratch(memory.scratch_bytes());
  for (int at = 0; at < queries; at += chunk)
    for (int layer = 0; layer < memory.layers(); ++layer)
      memory.attend(layer,
                    {.q = zeros.data(),
                     .k = zeros.data(),
                     .v = zeros.data(),
                     .out = out.data(),
                     .c = std::min(chunk, queries - at)},
                    attend_mode::together, scratch);
}

TEST(Lives, WindowsSurvivalIsExact) {
  // Window drops the state of position p after query p + k: it is seen by k + 1 queries, its own included.
  constexpr int queries = 30, k = 8;
  for (const scope_kind scope : {scope_kind::head, scope_kind::layer, scope_kind::model}) {
    memory_setup setup;
    setup.dims = {.heads = 4, .kv_heads = 2, .dk = 8, .dv = 8};
    setup.layers = 2;
    auto memory = make_memory(window{.budget = k, .scope = scope}, setup).value();
    lives seen(memory, 40);
    memory.watch(&seen);
    for (int window_of_text = 0; window_of_text < 2; ++window_of_text) {  // begin() forgets the first one
      memory.reset();
      seen.begin(queries);
      attend_zeros(memory, queries, 1);
    }
    ASSERT_EQ(seen.layers(), 2);
    for (int layer = 0; layer < 2; ++layer) {
      ASSERT_EQ(seen.lanes(layer), scope == scope_kind::head ? 2 : 1);
      for (int lane = 0; lane < seen.lanes(layer); ++lane)
        for (int p = 0; p < queries; ++p)
          EXPECT_EQ(seen.deaths(layer, lane)[static_cast<std::size_t>(p)], std::min(p + k + 1, queries));
    }
    const std::vector<int> ages = survival_ages(queries, k);
    EXPECT_EQ(ages, (std::vector{0, 1, 2, 4, 7, 8, 9, 16, 29}));
    life_sums sums;
    std::vector<int> kinds(queries, static_cast<int>(character_kind::letter));
    kinds[0] = life_sums::not_counted;
    kinds[1] = static_cast<int>(character_kind::blank);
    sums.add(seen, ages, kinds, nullptr, 0);
    for (std::size_t a = 0; a < ages.size(); ++a) {
      EXPECT_EQ(sums.seen[a] > 0, ages[a] <= k + 1) << ages[a];  // later none is left to be seen or not
      EXPECT_EQ(sums.alive[a], ages[a] <= k ? sums.seen[a] : 0) << ages[a];
    }
    std::int64_t attended = 0;
    const int lanes = seen.lanes(0) + seen.lanes(1);
    for (int t = 1; t <= queries; ++t) attended += std::min(t, k + 1);
    EXPECT_EQ(sums.life, attended * lanes);
    EXPECT_EQ(sums.states, queries * lanes);
    EXPECT_EQ(sums.kind_states[static_cast<std::size_t>(character_kind::blank)], lanes);
    EXPECT_EQ(sums.kind_life[static_cast<std::size_t>(character_kind::blank)], (k + 1) * lanes);
    EXPECT_EQ(sums.kind_states[static_cast<std::size_t>(character_kind::letter)], (queries - 2) * lanes);
  }
}

/// Survival of one layer of one lane, as figures tell it.
std::vector<survival_point> survival_of(const window& policy, int queries) {
  memory_setup setup;
  setup.dims = {.heads = 1, .kv_heads = 1, .dk = 8, .dv = 8};
  auto memory = make_memory(policy, setup).value();
  lives seen(memory, queries);
  memory.watch(&seen);
  seen.begin(queries);
  attend_zeros(memory, queries, 1);
  const std::vector<int> ages = survival_ages(queries, policy.budget);
  totals one;
  one.score(1, 1, 0, true);
  one.lived().add(seen, ages, std::vector(static_cast<std::size_t>(queries), life_sums::no_kind), nullptr, 0);
  one.end_window();
  return totals::sum_up(std::span(&one, 1), 0, true, ages).survival;
}

TEST(Lives, SurvivalNeverRises) {
  // Four sinks stay, all others go at age k - 3: of those that are followed to k - 1, the next age that is told, four
  // live on.
  constexpr int queries = 100, k = 16;
  const auto points = survival_of({.budget = k, .sinks = 4}, queries);
  EXPECT_EQ(points.back().age, queries - 1);
  for (const survival_point& p : points) EXPECT_TRUE(p.age > k - 4 || p.alive == 1) << p.age;
  for (std::size_t i = 1; i < points.size(); ++i) EXPECT_LE(points[i].alive, points[i - 1].alive) << points[i].age;
  EXPECT_DOUBLE_EQ(points.back().alive, 4.0 / (queries - (k - 1)));
  for (const survival_point& p : survival_of({.budget = k}, queries)) EXPECT_EQ(p.alive, p.age <= k ? 1 : 0) << p.age;
  for (const survival_point& p : survival_of({.budget = queries}, queries)) EXPECT_EQ(p.alive, 1) << p.age;
}

TEST(Lives, SurvivalIsKaplanAndMeiers) {
  // Their example in small: of 6 followed to age 1 one dies, of 4 that are followed on to age 2 one more, the last two
  // are followed to age 3 and live.
  totals one;
  one.score(1, 1, 0, true);
  one.lived().states = 6;
  one.lived().seen = {6, 6, 4, 2, 0};
  one.lived().alive = {6, 5, 3, 2, 0};
  one.end_window();
  const std::vector ages{0, 1, 2, 3, 4};
  const auto points = totals::sum_up(std::span(&one, 1), 0, true, ages).survival;
  ASSERT_EQ(points.size(), 4u);  // nobody was followed to 4
  EXPECT_DOUBLE_EQ(points[1].alive, 5.0 / 6);
  EXPECT_DOUBLE_EQ(points[2].alive, 5.0 / 6 * 3 / 4);
  EXPECT_DOUBLE_EQ(points[3].alive, 5.0 / 6 * 3 / 4);
}

TEST(Lives, SeenInBothCountsTheStatesOfTheFirst) {
  memory_setup setup;
  setup.dims = {.heads = 2, .kv_heads = 1, .dk = 8, .dv = 8};
  setup.layers = 2;
  auto wide = make_memory(window{.budget = 8}, setup).value();
  auto narrow = make_memory(window{.budget = 4}, setup).value();
  lives more(wide, 30), fewer(narrow, 30);
  wide.watch(&more);
  narrow.watch(&fewer);
  more.begin(30);
  fewer.begin(30);
  attend_zeros(wide, 30, 1);
  attend_zeros(narrow, 30, 1);
  EXPECT_DOUBLE_EQ(seen_in_both(more, fewer, 15), 5.0 / 9);  // k + 1 states a query
  EXPECT_EQ(seen_in_both(fewer, more, 15), 1);
  EXPECT_EQ(seen_in_both(more, more, 0), 1);
  EXPECT_EQ(seen_in_both(more, fewer, 30), 1);
}

TEST(Lives, ChunksDropAtTheirEnd) {
  memory_setup setup;
  setup.dims = {.heads = 2, .kv_heads = 1, .dk = 8, .dv = 8};
  setup.room.chunk = 4;
  auto memory = make_memory(window{.budget = 3}, setup).value();
  lives seen(memory, 10);
  memory.watch(&seen);
  seen.begin(10);
  attend_zeros(memory, 10, 4);
  const auto deaths = seen.deaths(0, 0);
  EXPECT_EQ(std::vector(deaths.begin(), deaths.end()), (std::vector{4, 8, 8, 8, 8, 10, 10, 10, 10, 10}));
}

TEST(Lives, KindsOfCharacters) {
  const auto is = [](int byte, character_kind kind) { EXPECT_EQ(kind_of(byte), kind) << byte; };
  is(' ', character_kind::blank);
  is('\t', character_kind::blank);
  is('\n', character_kind::newline);
  is('.', character_kind::punctuation);
  is('~', character_kind::punctuation);
  is('A', character_kind::capital);
  is('z', character_kind::letter);
  is('0', character_kind::digit);
  is(0, character_kind::other);
  is(127, character_kind::other);
  is(0xc3, character_kind::other);
}

}  // namespace
