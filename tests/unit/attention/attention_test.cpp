#include <multistate/attention/attention.hpp>
#include <multistate/util/openmp.hpp>
#include <multistate/attention/target.hpp>
#include <multistate/rope/angle_table.hpp>
#include <multistate/rope/rope.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace multistate;

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float inf = std::numeric_limits<float>::infinity();

/// One KV head over dense float memory, with everything attention writes.
struct single {
  shape dims;
  int n;
  int queries;
  attention_options options{};
  std::vector<float> k, v, q, out, row;
  std::vector<position> positions;
  std::vector<std::uint32_t> ranks;
  std::vector<extent> extents;

  single(int group, int d, int n_, int queries_ = 1, unsigned seed = 1)
      : dims{group, 1, d, d}, n(n_), queries(queries_) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& x, int count) {
      for (int i = 0; i < count; ++i) x.push_back(normal(rng));
    };
    fill(k, n * d);
    fill(v, n * d);
    fill(q, queries * group * d);
    out.assign(q.size(), -1.0f);
    row.assign(static_cast<std::size_t>(n * queries), -1.0f);
    for (int s = 0; s < n; ++s) {
      positions.push_back(s);
      ranks.push_back(static_cast<std::uint32_t>(s));
    }
    split({n});
  }

  void split(const std::vector<int>& sizes) {
    extents.clear();
    std::size_t at = 0;
    const auto d = static_cast<std::size_t>(dims.dk);
    for (const int size : sizes) {
      extents.push_back({reinterpret_cast<const std::byte*>(k.data() + at * d),
                         reinterpret_cast<const std::byte*>(v.data() + at * d), d * sizeof(float), d * sizeof(float),
                         size});
      at += static_cast<std::size_t>(size);
    }
  }

  attention_task task() {
    attention_task t;
    t.kv = {extents, positions, ranks, n};
    t.q = q.data();
    t.out = out.data();
    t.q_stride = t.out_stride = static_cast<std::size_t>(dims.heads * dims.dk);
    t.row = row.data();
    t.row_stride = static_cast<std::size_t>(n);
    t.first = positions[static_cast<std::size_t>(n - queries)];
    t.queries = queries;
    return t;
  }

  template <needs Want = needs::each_row, class E = serial>
  void run(E* exec = nullptr) {
    const attention_task t = task();
    run_all<Want>(std::span<const attention_task>(&t, 1), exec);
  }

  template <needs Want, class E = serial, class Format = f32>
  void run_all(std::span<const attention_task> tasks, E* exec = nullptr) {
    const int workers = exec == nullptr ? 1 : exec->workers();
    std::vector<std::byte> scratch(attend_scratch_bytes(dims, n, queries, workers, options.log != nullptr),
                                   std::byte{0xff});
    attention<E>{dims, options, exec, scratch}.template operator()<Want, Format>(tasks);
  }
};

static_assert(rows_given(needs::nothing) == needs::nothing);
static_assert(rows_given(needs::row_sum) == needs::row_sum);
static_assert(rows_given(needs::last_row) == needs::last_row && rows_given(needs::each_row) == needs::each_row);
static_assert(rows_given(needs::last_row | needs::row_sum) == (needs::each_row | needs::row_sum));

static_assert(noexcept(std::declval<const attention<>&>().operator()<needs::last_row>({})));

TEST(attention, worked_example) {
  single s(1, 2, 2);
  s.k = {1, 0, 0, 1};
  s.v = {10, 20, 30, 40};
  s.q = {std::sqrt(2.0f) * std::log(3.0f), 0};  // logits ln 3 and 0: weights 3/4 and 1/4
  s.split({2});
  s.run();
  EXPECT_NEAR(s.row[0], 0.75, 1e-7);
  EXPECT_NEAR(s.row[1], 0.25, 1e-7);
  EXPECT_NEAR(s.out[0], 15, 1e-5);
  EXPECT_NEAR(s.out[1], 25, 1e-5);
  s.options.sink_logits = {};
  const std::array<float, 1> sink{std::log(4.0f)};  // as much as both together
  s.options.sink_logits = sink;
  s.run();
  EXPECT_NEAR(s.row[0], 0.375, 1e-7);
  EXPECT_NEAR(s.row[1], 0.125, 1e-7);
  EXPECT_NEAR(s.out[0], 7.5, 1e-5);
}

TEST(attention, a_chunk_gives_each_token_the_bits_of_its_own_call) {
  const auto rotation = rope::make({.dim = 24}).value();
  for (const auto& [group, n] : {std::pair{1, 150}, {3, 150}, {4, 150}, {7, 150}, {20, 150}, {1, 410}, {4, 660}})
    for (const int window : {0, 30, 270}) {
      single chunk(group, 24, n, 60);
      chunk.options.window = window;
      chunk.options.log = n == 410 ? &rotation : nullptr;
      chunk.run();
      for (int j = 0; j < 60; ++j) {
        single alone(group, 24, n, 60);
        alone.options = chunk.options;
        attention_task t = alone.task();
        t.kv.n = n - 60 + j + 1;
        t.queries = 1;
        t.q += static_cast<std::size_t>(j) * t.q_stride;
        t.first += j;
        alone.run_all<needs::each_row>(std::span<const attention_task>(&t, 1));
        const auto width = static_cast<std::size_t>(group * 24);
        for (std::size_t i = 0; i < width; ++i)
          ASSERT_EQ(chunk.out[static_cast<std::size_t>(j) * width + i], alone.out[i]);
        for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i)
          ASSERT_EQ(chunk.row[static_cast<std::size_t>(j * n) + i],
                    i < static_cast<std::size_t>(t.kv.n) ? alone.row[i] : 0);
      }
    }
}

TEST(attention, extents_change_no_bit) {
  single whole(4, 40, 100, 3);
  whole.run();
  single parts(4, 40, 100, 3);
  parts.split({0, 1, 31, 0, 0, 33, 2, 3, 30, 0});
  parts.run();
  EXPECT_EQ(whole.out, parts.out);
  EXPECT_EQ(whole.row, parts.row);
}

/// Runs tasks backwards on changing workers.
struct backwards {
  template <class F>
  void operator()(int tasks, const F& f) const noexcept {
    for (int t = tasks - 1; t >= 0; --t) f(t, t % 3);
  }
  int workers() const noexcept { return 3; }
};
static_assert(executor<backwards>);

template <class E>
void compare_executors(E& exec) {
  const int heads = 7;
  std::vector<single> a, b;
  for (int i = 0; i < heads; ++i) {
    a.emplace_back(4, 16, 50, 8, static_cast<unsigned>(i));
    b.emplace_back(4, 16, 50, 8, static_cast<unsigned>(i));
  }
  std::vector<attention_task> tasks_a, tasks_b;
  for (auto& s : a) s.split({50}), tasks_a.push_back(s.task());
  for (auto& s : b) s.split({50}), tasks_b.push_back(s.task());
  a[0].run_all<needs::row_sum>(tasks_a);
  b[0].run_all<needs::row_sum>(tasks_b, &exec);
  for (std::size_t i = 0; i < heads; ++i) {
    EXPECT_EQ(a[i].out, b[i].out);
    EXPECT_EQ(a[i].row, b[i].row);
  }
}

/// Fewer heads than workers: the states of one head are shared out.
template <class E>
void compare_split_heads(E& exec) {
  const auto rotation = rope::make({.dim = 24}).value();
  for (const int n : {1, 31, 255, 256, 257, 300, 511, 512, 700, 1500})
    for (const int heads : {1, 2})
      for (const bool options : {false, true}) {
        std::vector<single> a, b;
        std::vector<attention_task> tasks_a, tasks_b;
        const std::array<float, 3> sink{0.5f, -1.0f, 3.0f};
        for (auto* group : {&a, &b})
          for (int i = 0; i < heads; ++i) {
            single& s = group->emplace_back(3, 24, n, 1, static_cast<unsigned>(n + i));
            for (float& x : s.q) x *= 4;
            if (!options) continue;
            s.options.sink_logits = sink, s.options.softcap = 5, s.options.log = &rotation;
            for (position& p : s.positions) p += p / 5 * 20;
          }
        for (auto& s : a) s.split({n}), tasks_a.push_back(s.task());
        for (auto& s : b) s.split({n / 3, 0, n - n / 3}), tasks_b.push_back(s.task());
        a[0].run_all<needs::last_row>(tasks_a);
        b[0].run_all<needs::last_row>(tasks_b, &exec);
        for (std::size_t i = 0; i < a.size(); ++i) {
          ASSERT_EQ(a[i].out, b[i].out) << n;
          ASSERT_EQ(a[i].row, b[i].row) << n;
        }
      }
}

TEST(attention, executors_change_no_bit) {
  backwards order;
  compare_executors(order);
  compare_split_heads(order);
#if defined(_OPENMP)
  for (const int threads : {1, 2, 5}) {
    openmp pool{threads};
    compare_executors(pool);
    compare_split_heads(pool);
  }
#endif
}

TEST(attention, rows_are_what_was_multiplied) {
  single s(4, 16, 90, 30);
  s.run<needs::each_row>();
  std::vector<double> sum(90, 0.0);
  for (std::size_t j = 0; j < 30; ++j) {
    double total = 0;
    for (std::size_t i = 0; i < 90; ++i) {
      total += double(s.row[j * 90 + i]);
      sum[i] += double(s.row[j * 90 + i]);
      EXPECT_EQ(s.row[j * 90 + i] == 0.0f, i > 60 + j);
    }
    EXPECT_NEAR(total, 4, 1e-5);
  }
  single last(4, 16, 90, 30);
  last.run<needs::last_row>();
  for (std::size_t i = 0; i < 90; ++i) EXPECT_EQ(last.row[i], s.row[29 * 90 + i]);
  for (std::size_t i = 90; i < last.row.size(); ++i) EXPECT_EQ(last.row[i], -1.0f);
  single added(4, 16, 90, 30);
  added.run<needs::row_sum>();
  for (std::size_t i = 0; i < 90; ++i) EXPECT_NEAR(added.row[i], sum[i], 1e-6 * sum[i]);
  EXPECT_EQ(added.out, s.out);
  single none(4, 16, 90, 30);
  attention_task t = none.task();
  t.row = nullptr;
  none.run_all<needs::nothing>(std::span<const attention_task>(&t, 1));
  EXPECT_EQ(none.out, s.out);
}

// In float32, adding 6000 rows one by one would lose the last ones.
TEST(attention, row_sums_of_long_chunks_are_precise) {
  const int length = 6000;
  single s(2, 1, length, length);
  for (float& x : s.q) x = 0;
  s.row.resize(static_cast<std::size_t>(length));
  s.run<needs::row_sum>();
  double harmonic = 0;  // slot i gets sum over j >= i of 1 / (j + 1), from each of two heads
  for (std::size_t i = length; i-- > 0;) {
    harmonic += 2.0 / double(i + 1);
    ASSERT_NEAR(s.row[i], harmonic, 3e-7 * harmonic) << i;
  }
}

TEST(attention, long_rows_are_precise) {
  const int n = 100000;
  single s(1, 4, n);
  for (float& x : s.q) x = 0;
  std::vector<double> mean(4, 0.0);
  for (std::size_t i = 0; i < s.v.size(); ++i) mean[i % 4] += (double(s.v[i] += 1.0f)) / n;
  s.run();
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(s.out[i], mean[i], 2e-6);
  double total = 0;
  for (const float w : s.row) total += double(w);
  EXPECT_NEAR(total, 1, 1e-6);
}

TEST(attention, many_query_heads) {
  single s(70, 3, 40);
  s.run();
  for (std::size_t h = 0; h < 70; ++h) {
    single one(1, 3, 40);
    one.k = s.k;
    one.v = s.v;
    one.q.assign(s.q.begin() + static_cast<std::ptrdiff_t>(3 * h),
                 s.q.begin() + static_cast<std::ptrdiff_t>(3 * h + 3));
    one.split({40});
    one.run();
    for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(one.out[i], s.out[3 * h + i]);
  }
}

TEST(attention, nan_in_a_query_stays_with_it) {
  for (const bool cap : {false, true}) {
    single clean(2, 8, 50, 6);
    single dirty(2, 8, 50, 6);
    const std::size_t token = 2;
    dirty.q[token * 16 + 8 + 3] = nan;  // its second head
    if (cap) clean.options.softcap = dirty.options.softcap = 5;
    clean.run();
    dirty.run();
    for (std::size_t i = 0; i < clean.out.size(); ++i) {
      if (i / 8 == token * 2 + 1) {
        EXPECT_TRUE(std::isnan(dirty.out[i])) << i;
      } else {
        EXPECT_EQ(dirty.out[i], clean.out[i]) << i;
      }
    }
    for (std::size_t i = 0; i < clean.row.size(); ++i) {
      if (i / 50 == token && i % 50 <= 44 + token) {
        EXPECT_TRUE(std::isnan(dirty.row[i])) << i;
      } else {
        EXPECT_EQ(dirty.row[i], clean.row[i]) << i;
      }
    }
  }
}

TEST(attention, what_a_query_cannot_see_never_reaches_it) {
  // Later tokens of the chunk, where a pass of several tokens crosses a block of states (96) too.
  const std::size_t n = 98;
  const std::size_t tokens = 12;
  single clean(4, 20, n, tokens);
  clean.run();
  for (std::size_t bad = 1; bad < tokens; ++bad) {
    single later(4, 20, n, tokens);
    for (std::size_t s = n - tokens + bad; s < n; ++s)
      for (std::size_t i = 0; i < 20; ++i) later.k[s * 20 + i] = later.v[s * 20 + i] = nan;
    later.run();
    for (std::size_t j = 0; j < tokens; ++j)
      for (std::size_t i = 0; i < 80; ++i) {
        if (j < bad) {
          ASSERT_EQ(later.out[j * 80 + i], clean.out[j * 80 + i]) << bad << " " << j;
        } else {
          ASSERT_TRUE(std::isnan(later.out[j * 80 + i])) << bad << " " << j;
        }
      }
  }

  // States outside of the window, in a shuffled order of slots.
  for (const int queries : {1, 5}) {
    single far(3, 20, 90, queries);
    far.options.window = 25;
    std::shuffle(far.positions.begin(), far.positions.end() - queries, std::mt19937(3));
    far.run();
    const auto expected = far.out;
    const auto rows = far.row;
    for (std::size_t s = 0; s < 90; ++s)
      if (far.positions[s] <= 90 - queries - 25)
        for (std::size_t i = 0; i < 20; ++i) far.k[s * 20 + i] = far.v[s * 20 + i] = nan;
    far.run();
    EXPECT_EQ(far.out, expected);
    EXPECT_EQ(far.row, rows);
    for (int slot = 0; slot <= 90 - queries; ++slot) {  // those the first query may see
      const auto at = static_cast<std::size_t>(slot);
      EXPECT_EQ(rows[at] > 0, far.positions[at] > 90 - queries - 25);
    }
  }
}

TEST(attention, infinities_go_the_way_of_a_softmax) {
  single s(1, 2, 20);
  s.q = {1, 0};
  s.k[2 * 7] = -inf;
  s.run();
  EXPECT_EQ(s.row[7], 0.0f);
  for (const float x : s.out) EXPECT_TRUE(std::isfinite(x));
  s.k[2 * 7] = inf;
  s.run();
  EXPECT_TRUE(std::isnan(s.out[0]));
  s.options.softcap = 30;  // caps it
  s.run();
  EXPECT_NEAR(s.row[7], 1, 1e-6);

  single big(1, 2, 20);  // logits of 1e30: no overflow, all on one
  big.q = {1e30f, 0};
  big.k[2 * 11] = 9;
  big.run();
  EXPECT_EQ(big.row[11], 1.0f);
  EXPECT_EQ(big.out[0], big.v[2 * 11]);
}

/// Keys and values of `s` in i8, under the same tasks.
void run_in_i8(single& s) {
  const std::size_t size = row_bytes<i8>(s.dims.dk), n = static_cast<std::size_t>(s.n),
                    d = static_cast<std::size_t>(s.dims.dk);
  std::vector<std::byte> rows(2 * n * size);
  for (std::size_t i = 0; i < n; ++i) {
    store_row<i8>(&rows[i * size], &s.k[i * d], s.dims.dk);
    store_row<i8>(&rows[(n + i) * size], &s.v[i * d], s.dims.dk);
  }
  const extent whole{rows.data(), rows.data() + n * size, size, size, s.n};
  attention_task t = s.task();
  t.kv.extents = {&whole, 1};
  s.run_all<needs::each_row, serial, i8>({&t, 1});
}

TEST(attention, rounded_queries_keep_what_is_not_finite_to_themselves) {
  for (const std::size_t d : {40u, 600u})
    for (const float bad : {nan, inf, -inf}) {
      single clean(5, static_cast<int>(d), 50, 3), dirty(5, static_cast<int>(d), 50, 3);
      std::fill_n(&dirty.q[2 * d + 3], d - 3, bad);  // the third head of the first token
      run_in_i8(clean);
      run_in_i8(dirty);
      for (std::size_t i = 0; i < clean.out.size(); ++i)
        if (i / d == 2)
          EXPECT_TRUE(std::isnan(dirty.out[i])) << i;
        else
          EXPECT_EQ(dirty.out[i], clean.out[i]) << i;
    }
  single none(1, 40, 5);
  std::fill(none.q.begin(), none.q.end(), 0.0f);
  run_in_i8(none);
  for (const float weight : none.row) EXPECT_FLOAT_EQ(weight, 0.2f);
}

TEST(attention, sums_of_rounded_queries_do_not_overflow) {
  for (const int d : {31, 512, 513, 2000}) {
    single s(1, d, 2);
    std::fill(s.q.begin(), s.q.end(), 3.0f);
    std::fill_n(s.k.begin(), d, 0.5f);
    std::fill_n(s.k.begin() + d, d, -0.5f);
    s.options.scale = 1.0f / (3 * 0.5f * static_cast<float>(d));  // logits 1 and -1
    run_in_i8(s);
    EXPECT_NEAR(s.row[0], 1 / (1 + std::exp(-2.0)), 1e-5) << d;
  }
}

TEST(attention, a_query_that_sees_nothing_gives_zeros) {
  single s(2, 20, 10);
  s.options.window = 1;
  attention_task t = s.task();
  t.first = 100;
  s.run_all<needs::last_row>(std::span<const attention_task>(&t, 1));
  for (const float x : s.out) EXPECT_EQ(x, 0.0f);
  for (const float x : s.row) EXPECT_EQ(x, 0.0f);
}

TEST(attention, in_cache_equals_keys_rotated_beforehand) {
  for (const auto pairing : {rope_pairing::halves, rope_pairing::adjacent}) {
    rope_config c;
    c.dim = 34;
    c.pairing = pairing;
    const auto table = angle_table::make(c, 60).value();
    single s(3, 40, 60, 4);
    std::shuffle(s.ranks.begin(), s.ranks.end() - 4, std::mt19937(5));
    single rotated(3, 40, 60, 4);
    s.options.in_cache = &table;
    s.run();
    for (std::size_t i = 0; i < 60; ++i) {
      const std::span<float> key(rotated.k.data() + i * 40, 40);
      table.rotation().rotate(key, table.row(s.ranks[i]), key);
    }
    for (std::size_t i = 0; i < 12; ++i) {
      const std::span<float> query(rotated.q.data() + i * 40, 40);
      table.rotation().rotate(query, table.row(56 + i / 3), query);
    }
    rotated.run();
    for (std::size_t i = 0; i < s.out.size(); ++i) EXPECT_NEAR(s.out[i], rotated.out[i], 1e-5);
  }
}

TEST(attention, log_equals_keys_rotated_beforehand) {
  for (const auto pairing : {rope_pairing::halves, rope_pairing::adjacent}) {
    const auto rotation = rope::make({.dim = 34, .pairing = pairing}).value();
    single s(3, 40, 60, 4), rotated(3, 40, 60, 4);
    std::vector<double> places;  // gaps 11, 10 and 1 by turns; 1 in the chunk
    position at = 5;
    for (std::size_t i = 0; i < 60; ++i) {
      const int gap = i == 0 || i >= 56 ? 1 : i % 3 == 0 ? 11 : i % 3 == 1 ? 10 : 1;
      s.positions[i] = at += gap;
      places.push_back((i == 0 ? 77 : places.back()) + (gap == 11 ? std::log(std::log(11.0)) : gap));
    }
    std::vector<std::uint32_t> order(56);
    std::iota(order.begin(), order.end(), 0u);
    std::shuffle(order.begin(), order.end(), std::mt19937(5));
    const std::vector<position> by_age = s.positions;
    for (std::size_t i = 0; i < 56; ++i) s.positions[i] = by_age[s.ranks[i] = order[i]];
    s.options.log = &rotation;
    s.run();
    std::vector<float> angles(rotation.angle_floats());
    for (std::size_t i = 0; i < 60; ++i) {
      const std::span<float> key(rotated.k.data() + i * 40, 40);
      rotation.angles(places[s.ranks[i]], angles.data());
      rotation.rotate(key, angles.data(), key);
    }
    for (std::size_t i = 0; i < 12; ++i) {
      const std::span<float> query(rotated.q.data() + i * 40, 40);
      rotation.angles(places[56 + i / 3], angles.data());
      rotation.rotate(query, angles.data(), query);
    }
    rotated.run();
    for (std::size_t i = 0; i < s.out.size(); ++i) EXPECT_NEAR(s.out[i], rotated.out[i], 1e-5);
  }
}

TEST(attention, log_positions_are_ranks_where_nothing_is_missing) {
  const auto table = angle_table::make({.dim = 24}, 300).value();
  single log(2, 24, 300, 5), ranks(2, 24, 300, 5);
  log.options.log = &table.rotation();
  ranks.options.in_cache = &table;
  log.run();
  ranks.run();
  EXPECT_EQ(log.out, ranks.out);
  EXPECT_EQ(log.row, ranks.row);
}

TEST(attention, an_unused_kv_head_of_options_is_not_read) {
  // Head 1 of two: sinks and slopes are indexed by query head.
  single s(2, 8, 30);
  s.dims = {4, 2, 8, 8};
  const std::array<float, 4> sinks{nan, nan, 0.5f, -0.5f};
  const std::array<float, 4> slopes{nan, nan, 0.25f, 0.5f};
  s.options.sink_logits = sinks;
  s.options.alibi = slopes;
  attention_task t = s.task();
  t.kv_head = 1;
  s.run_all<needs::last_row>(std::span<const attention_task>(&t, 1));
  for (const float x : s.out) EXPECT_TRUE(std::isfinite(x));
}

TEST(attention, scratch_grows_with_what_it_is_for) {
  const shape dims{8, 2, 64, 64};
  EXPECT_LE(attend_scratch_bytes(dims, 100), attend_scratch_bytes(dims, 101));
  EXPECT_LE(attend_scratch_bytes(dims, 100, 1), attend_scratch_bytes(dims, 100, 2));
  EXPECT_LT(attend_scratch_bytes(dims, 100, 1, 1), attend_scratch_bytes(dims, 100, 1, 2));
  EXPECT_LT(attend_scratch_bytes(dims, 100, 1, 1, false), attend_scratch_bytes(dims, 100, 1, 1, true));
  EXPECT_EQ(attend_scratch_bytes(dims, 100, 64), attend_scratch_bytes(dims, 100, 100000));
  static_assert(attend_scratch_bytes({1, 1, 1, 1}, 1) > 0);
}

TEST(attention, the_target_has_a_name) {
  EXPECT_FALSE(attention_target().empty());
  EXPECT_NE(attention_target(), "Unknown");
  EXPECT_FALSE(best_attention_target().empty());
  EXPECT_FALSE(attention_target_is_narrower_than_cpu() && attention_target() == best_attention_target());
  RecordProperty("target", std::string(attention_target()));
}

}  // namespace
