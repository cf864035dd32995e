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
  const auto seed = [](int layer, int head) { return 5 * layer + 3 * head; };
  auto table = oracle_table::make(2, 3, 8);
  ASSERT_TRUE(table);
  EXPECT_EQ(table->heads(), 3);
  for (int pass = 0; pass < 2; ++pass) {  // it is filled anew for every window
    const int queries = pass == 0 ? 8 : 6;
    for (int layer = 0; layer < 2; ++layer)
      for (int head = 0; head < 3; ++head)
        for (position now = 0; now < queries; ++now) {
          std::vector<position> positions;  // slots in any order
          for (position s = 0; s <= now; ++s) positions.push_back(now - s);
          const auto row = row_at(seed(layer, head), now);
          table->put(layer, head, now, positions, std::vector<float>(row.rbegin(), row.rend()));
        }
    table->finish(queries);
    for (int layer = 0; layer < 2; ++layer)
      for (int head = 0; head < 3; ++head)
        for (position now = 0; now < queries; ++now)
          for (position p = 0; p <= now; ++p) {
            float expected = 0;
            for (position later = now + 1; later < queries; ++later)
              expected += row_at(seed(layer, head), later)[static_cast<std::size_t>(p)];
            EXPECT_EQ(table->worth(layer, head, now)[static_cast<std::size_t>(p)], expected);
            float given = 0;
            for (position at = std::max<position>(p, 2); at <= now; ++at)
              given += row_at(seed(layer, head), at)[static_cast<std::size_t>(p)];
            EXPECT_EQ(table->mass(layer, head, p, 2, now + 1), given);
          }
  }
}

TEST(Oracle, RefusesTooLargeATable) {
  const auto table = oracle_table::make(1000, 1, 1 << 20);
  ASSERT_FALSE(table);
  EXPECT_EQ(table.reason().code(), errc::out_of_memory);
}

TEST(Oracle, RecorderFillsTheTableInChunksToo) {
  for (const int heads : {1, 2})
    for (const int chunk : {1, 3}) {
      auto table = oracle_table::make(3, heads, 7);
      ASSERT_TRUE(table);
      const scope_kind scope = heads == 1 ? scope_kind::layer : scope_kind::head;
      auto decider = multistate::decider<oracle_recorder>::make(
          {.budget = 7, .scope = scope, .table = &*table}, {.kv_heads = 2, .layer = 2, .layers = 3}, {.chunk = chunk});
      ASSERT_TRUE(decider);
      for (position at = 0; at < 7;) {
        const int c = static_cast<int>(std::min<position>(chunk, 7 - at));
        decider->append(c);
        const std::size_t n = static_cast<std::size_t>(at + c);
        for (int head = 0; head < 2; ++head) {
          std::vector<float> data(static_cast<std::size_t>(c) * n);
          for (int j = 0; j < c; ++j) {
            const auto row = row_at(2 + head, at + j);
            std::copy(row.begin(), row.end(), &data[static_cast<std::size_t>(j) * n]);
          }
          decider->observe(heads == 1 ? 0 : head,
                           {.data = data.data(), .stride = n, .n = static_cast<int>(n), .queries = c, .heads = 2});
        }
        decider->reduce();
        at += c;
      }
      table->finish(7);
      for (std::size_t p = 0; p <= 5; ++p)
        if (heads == 1) {
          EXPECT_EQ(table->worth(2, 0, 5)[p], row_at(2, 6)[p] + row_at(3, 6)[p]);
        } else {
          EXPECT_EQ(table->worth(2, 0, 5)[p], row_at(2, 6)[p]);
          EXPECT_EQ(table->worth(2, 1, 5)[p], row_at(3, 6)[p]);
        }
    }
}

TEST(Oracle, DropsWhatTheFutureNeedsLeast) {
  auto table = oracle_table::make(1, 2, 6);
  ASSERT_TRUE(table);
  for (position now = 0; now < 6; ++now)
    for (int head = 0; head < 2; ++head) {  // position 2 is the first head's, all others the second one's
      std::vector<position> positions;
      std::vector<float> row;
      for (position p = 0; p <= now; ++p)
        positions.push_back(p), row.push_back(p != 1 && p != 3 && (p == 2) == (head == 0) ? 1.0f : 0.0f);
      table->put(0, head, now, positions, row);
    }
  table->finish(6);
  auto decider = multistate::decider<oracle>::make({.budget = 3, .table = &*table}, {});
  ASSERT_TRUE(decider);
  for (int t = 0; t < 5; ++t) {
    decider->append(1);
    decider->reduce();
  }
  std::vector<position> kept(decider->positions(0).begin(), decider->positions(0).end());
  std::erase(kept, -1);
  std::sort(kept.begin(), kept.end());
  EXPECT_EQ(kept, (std::vector<position>{0, 2, 4}));  // 1 goes first, then 3 as soon as it came
  EXPECT_FALSE(multistate::decider<oracle>::make({.budget = 3}, {}));
}

}  // namespace
