#include <gtest/gtest.h>

#include <multistate/decider/decider.hpp>
#include <multistate/eval/oracle.hpp>

namespace {

using namespace multistate;

/// Full's row of the query at `now` of a made-up model.
std::vector<float> row_at(int layer, position now) {
  std::vector<float> row;
  for (position p = 0; p <= now; ++p) row.push_back(static_cast<float>((7 * p + 3 * now + layer) % 11));
  return row;
}

TEST(Oracle, TableHoldsWhatLaterQueriesGive) {
  auto table = oracle_table::make(2, 8);
  ASSERT_TRUE(table);
  for (int pass = 0; pass < 2; ++pass) {  // it is filled anew for every window
    const int queries = pass == 0 ? 8 : 6;
    for (int layer = 0; layer < 2; ++layer)
      for (position now = 0; now < queries; ++now) {
        std::vector<position> positions;  // slots in any order
        for (position s = 0; s <= now; ++s) positions.push_back(now - s);
        const auto row = row_at(layer, now);
        table->put(layer, now, positions, std::vector<float>(row.rbegin(), row.rend()));
      }
    table->finish(queries);
    for (int layer = 0; layer < 2; ++layer)
      for (position now = 0; now < queries; ++now)
        for (position p = 0; p <= now; ++p) {
          float expected = 0;
          for (position later = now + 1; later < queries; ++later)
            expected += row_at(layer, later)[static_cast<std::size_t>(p)];
          EXPECT_EQ(table->worth(layer, now)[static_cast<std::size_t>(p)], expected);
        }
  }
}

TEST(Oracle, RefusesTooLargeATable) {
  const auto table = oracle_table::make(1000, 1 << 20);
  ASSERT_FALSE(table);
  EXPECT_EQ(table.reason().code(), errc::out_of_memory);
}

TEST(Oracle, RecorderFillsTheTableInChunksToo) {
  for (const int chunk : {1, 3}) {
    auto table = oracle_table::make(3, 7);
    ASSERT_TRUE(table);
    auto who = decider<oracle_recorder>::make({.budget = 7, .table = &*table}, {.kv_heads = 2, .layer = 2, .layers = 3},
                                              {.chunk = chunk});
    ASSERT_TRUE(who);
    for (position at = 0; at < 7;) {
      const int c = static_cast<int>(std::min<position>(chunk, 7 - at));
      who->append(c);
      const std::size_t n = static_cast<std::size_t>(at + c);
      std::vector<float> data(static_cast<std::size_t>(c) * n);
      for (int j = 0; j < c; ++j) {
        const auto row = row_at(2, at + j);
        std::copy(row.begin(), row.end(), data.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(j) * n));
      }
      for (int head = 0; head < 2; ++head)
        who->observe(0, {.data = data.data(), .stride = n, .n = static_cast<int>(n), .queries = c, .heads = 2});
      who->reduce();
      at += c;
    }
    table->finish(7);
    for (position p = 0; p <= 5; ++p)
      EXPECT_EQ(table->worth(2, 5)[static_cast<std::size_t>(p)], 2 * row_at(2, 6)[static_cast<std::size_t>(p)]);
  }
}

TEST(Oracle, DropsWhatTheFutureNeedsLeast) {
  auto table = oracle_table::make(1, 6);
  ASSERT_TRUE(table);
  for (position now = 0; now < 6; ++now) {
    std::vector<position> positions;
    std::vector<float> row;
    for (position p = 0; p <= now; ++p) positions.push_back(p), row.push_back(p == 1 ? 0.0f : p == 3 ? 0.0f : 1.0f);
    table->put(0, now, positions, row);
  }
  table->finish(6);
  auto who = decider<oracle>::make({.budget = 3, .table = &*table}, {});
  ASSERT_TRUE(who);
  for (int t = 0; t < 5; ++t) {
    who->append(1);
    who->reduce();
  }
  std::vector<position> kept(who->positions(0).begin(), who->positions(0).end());
  std::erase(kept, -1);
  std::sort(kept.begin(), kept.end());
  EXPECT_EQ(kept, (std::vector<position>{0, 2, 4}));  // 1 goes first, then 3 as soon as it came
  EXPECT_FALSE(decider<oracle>::make({.budget = 3}, {}));
}

}  // namespace
