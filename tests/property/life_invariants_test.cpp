// Invariants of a memory's life: 11 and 13.

#include <cmath>
#include <bit>

#include <support/allocations.hpp>
#include <support/property.hpp>

namespace {

using namespace support;

class Invariant11_ConstantBytes : public Property {};
class Invariant13_UndoForkSave : public Property {};

class Invariant11_ConstantBytes_ForAMillionSteps : public testing::TestWithParam<std::string> {};

TEST_P(Invariant11_ConstantBytes_ForAMillionSteps, WithoutAllocating) {
  generator g(11);
  run_spec spec{.policy = {.name = GetParam(), .scope = lanes_by::head, .budget = 4}, .dims = {1, 1, 1, 1}};
  spec.keys = format::f16;
  spec.values = format::f16;
  const tokens data = random_tokens(g, spec.dims, 1, 997);
  const auto r = make_runner(spec, data);
  std::vector<float> out(1);
  for (int t = 0; t < 10; ++t) r->feed(1, out.data());
  const std::size_t bytes = r->bytes(), allocated = allocations();
  for (int t = 10; t < 1000000; ++t) r->feed(1, out.data());
  EXPECT_EQ(allocations(), allocated);
  EXPECT_EQ(r->bytes(), bytes);
  EXPECT_EQ(r->next(), 1000000);
  EXPECT_EQ(r->kept(0, 0).size(), 4u);
  EXPECT_TRUE(std::isfinite(out[0]));
}
INSTANTIATE_TEST_SUITE_P(policy, Invariant11_ConstantBytes_ForAMillionSteps, testing::ValuesIn(bounded_policies()),
                         [](const auto& i) { return i.param; });

TEST_F(Invariant11_ConstantBytes, WithChunksHeldTokensAndUndo) {
  each_round(160, 11, [&](generator& g) {
    run_spec spec = random_run(g, bounded_policies(), 9);
    spec.with_simd = false;
    spec.room = {.chunk = 4, .hold = 4, .undo = 5, .every = g.between(1, 3)};
    SCOPED_TRACE(spec.text());
    const tokens data = random_tokens(g, spec.dims, spec.layers, 400);
    const auto r = make_runner(spec, data);
    std::vector<float> out(r->out_size(4));
    for (int t = 0; t < 16; ++t) r->feed(4, out.data());
    r->feed_held(4, 2, out.data());
    const std::size_t bytes = r->bytes(), allocated = allocations();
    for (int i = 0; i < 60; ++i) {
      r->feed(g.between(1, 4), out.data());
      r->feed_held(4, g.between(0, 4), out.data());
      r->feed(2, out.data());
      r->undo(2);
    }
    ASSERT_EQ(allocations(), allocated);
    ASSERT_EQ(r->bytes(), bytes);
  });
}

/// One random cycle of at most `most` tokens; says how many stayed.
int random_cycle(generator& g, const run_spec& spec, runner& r, int most, std::vector<float>* out = nullptr) {
  const int c = g.between(1, std::min(most, spec.room.chunk));
  const bool held = spec.room.hold > 0 && g.chance(50);
  const int taken = held ? std::min(c, spec.room.hold) : c, accepted = held ? g.between(0, taken) : taken;
  const auto x = held ? r.fed_held(taken, accepted) : r.fed(taken);
  if (out != nullptr) *out = x;
  return accepted;
}

/// The same `count` random cycles for both: the same outputs.
void expect_same_cycles(generator& g, const run_spec& spec, runner& a, runner& b, int count) {
  for (int i = 0; i < count; ++i) {
    generator same = g;
    std::vector<float> x, y;
    random_cycle(g, spec, a, 5, &x);
    random_cycle(same, spec, b, 5, &y);
    ASSERT_EQ(different(x, y), "") << "cycle " << i;
  }
}

run_spec random_undoing_run(generator& g) {
  run_spec spec = random_run(g, bounded_policies(), 8);
  spec.room = {.chunk = g.between(1, 5), .undo = g.between(1, 8), .every = g.one_of(std::vector<int>{1, 1, 2, 4})};
  spec.room.hold = g.chance(40) ? g.between(1, spec.room.chunk) : 0;
  return spec;
}

TEST_F(Invariant13_UndoForkSave, UndoneIsAsIfItHadNeverBeen) {
  each_round(1200, 13, [&](generator& g) {
    const run_spec spec = random_undoing_run(g);
    SCOPED_TRACE(spec.text());
    const tokens data = random_tokens(g, spec.dims, spec.layers, 300),
                 other = random_tokens(g, spec.dims, spec.layers, 300);
    const auto r = make_runner(spec, data), never = make_runner(spec, data);
    for (int round = 0; round < 12; ++round) {
      ASSERT_NO_FATAL_FAILURE(expect_same_cycles(g, spec, *r, *never, g.between(0, 4)));
      const auto before = r->save();
      r->use(other);  // what is undone was something else
      int count = 0;
      while (count < spec.room.undo && !(count > 0 && g.chance(25))) {
        if (count > 0 && g.chance(20)) r->pin(r->next(), r->next() + 1);
        count += random_cycle(g, spec, *r, spec.room.undo - count);
      }
      r->use(data);
      ASSERT_TRUE(r->undo(count));
      const auto after = r->save();
      ASSERT_TRUE(after == before) << "round " << round;
      ASSERT_TRUE(after == never->save()) << "round " << round;
      ASSERT_EQ(r->slots(0, 0), never->slots(0, 0));
    }
  });
}

TEST_F(Invariant13_UndoForkSave, UndoInPartsAndNoFurtherThanAllowed) {
  each_round(600, 15, [&](generator& g) {
    const run_spec spec = random_undoing_run(g);
    SCOPED_TRACE(spec.text());
    const tokens data = random_tokens(g, spec.dims, spec.layers, 300);
    const auto r = make_runner(spec, data);
    std::vector<std::vector<std::byte>> states{r->save()};
    std::vector<int> taken;
    for (int i = 0; i < 40; ++i) {
      const int c = random_cycle(g, spec, *r, 5);
      if (c == 0) {
        ASSERT_TRUE(r->save() == states.back());
        continue;
      }
      states.push_back(r->save());
      taken.push_back(c);
    }
    int undone = 0;
    while (!taken.empty()) {
      const bool may = undone + taken.back() <= spec.room.undo;
      ASSERT_EQ(r->undo(taken.back()), may) << "after " << undone;
      if (!may) {
        ASSERT_TRUE(r->save() == states.back()) << "a refused undo changed something";
        break;
      }
      undone += taken.back();
      taken.pop_back();
      states.pop_back();
      ASSERT_TRUE(r->save() == states.back());
    }
  });
}

TEST_F(Invariant13_UndoForkSave, ForkedAndRestoredRunsGoOn) {
  each_round(800, 16, [&](generator& g) {
    run_spec spec = random_undoing_run(g);
    if (g.chance(50)) spec.room.undo = spec.room.hold = 0;  // then there are holes
    SCOPED_TRACE(spec.text());
    const tokens data = random_tokens(g, spec.dims, spec.layers, 300),
                 other = random_tokens(g, spec.dims, spec.layers, 300);
    const auto r = make_runner(spec, data), fork = make_runner(spec, data), restored = make_runner(spec, data);
    for (int i = g.between(0, 20); i > 0; --i) random_cycle(g, spec, *r, 5);
    for (int i = g.between(0, 5); i > 0; --i) random_cycle(g, spec, *fork, 5);  // what it was is gone
    ASSERT_TRUE(fork->copy_from(*r));
    const auto file = r->save();
    ASSERT_TRUE(restored->load(file));
    ASSERT_TRUE(fork->save() == file);
    ASSERT_TRUE(restored->save() == file);
    fork->use(other);  // goes another way: the others do not notice
    generator away = g, again = g;
    for (int i = 0; i < 8; ++i) random_cycle(away, spec, *fork, 5);
    ASSERT_NO_FATAL_FAILURE(expect_same_cycles(g, spec, *r, *restored, 12));
    ASSERT_TRUE(r->save() == restored->save());
    const auto twin = make_runner(spec, data);
    ASSERT_TRUE(twin->load(file));
    twin->use(other);
    for (int i = 0; i < 8; ++i) random_cycle(again, spec, *twin, 5);
    ASSERT_TRUE(twin->save() == fork->save());
  });
}

/// A fork can take back what came before it.
TEST_F(Invariant13_UndoForkSave, ForksUndo) {
  each_round(320, 17, [&](generator& g) {
    const run_spec spec = random_undoing_run(g);
    SCOPED_TRACE(spec.text());
    const tokens data = random_tokens(g, spec.dims, spec.layers, 300);
    const auto r = make_runner(spec, data), fork = make_runner(spec, data);
    for (int i = 0; i < 12; ++i) random_cycle(g, spec, *r, 5);
    const auto before = r->save();
    int count = 0;
    while (count == 0) count = random_cycle(g, spec, *r, spec.room.undo);
    ASSERT_TRUE(fork->copy_from(*r));
    ASSERT_TRUE(fork->undo(count));
    ASSERT_TRUE(fork->save() == before);
    random_cycle(g, spec, *fork, 1);
    ASSERT_TRUE(r->undo(count));
    ASSERT_TRUE(r->save() == before);
  });
}

}  // namespace
