// Invariants of what is decided: 2, 5, 8, 9, 12, 14.

#include <bit>

#include <multistate/policies.hpp>

#include <support/property.hpp>

namespace {

using namespace support;

class Invariant02_SizeOrderSubset : public Property {};
class Invariant05_LaterTokensChangeNothing : public Property {};
class Invariant08_MeanLifetime : public Property {};
class Invariant09_Chunks : public Property {};
class Invariant12_OppositeHeads : public Property {};
class Invariant14_Pins : public Property {};

using positions = std::vector<std::int64_t>;

std::vector<positions> all_kept(const run_spec& spec, const runner& r) {
  std::vector<positions> kept;
  for (int layer = 0; layer < spec.layers; ++layer)
    for (int h = 0; h < spec.dims.kv_heads; ++h) kept.push_back(r.kept(layer, h));
  return kept;
}

TEST_F(Invariant02_SizeOrderSubset, AfterEveryReduction) {
  each_round(1200, 2, [&](generator& g) {
    run_spec spec = random_run(g, bounded_policies(), 12);
    const int every = g.one_of(std::vector<int>{1, 1, 3, 5}), count = 45;
    spec.room = {.chunk = g.between(1, 8), .undo = g.chance(30) ? 4 : 0, .every = every};
    SCOPED_TRACE(spec.text());
    const tokens data = random_tokens(g, spec.dims, spec.layers, count);
    const auto r = make_runner(spec, data);
    auto before = all_kept(spec, *r);
    while (r->next() < count) {
      const int c = std::min(count - static_cast<int>(r->next()), g.between(1, spec.room.chunk));
      r->fed(c);
      const auto after = all_kept(spec, *r);
      for (int layer = 0; layer < spec.layers; ++layer)
        for (int h = 0; h < spec.dims.kv_heads; ++h) {
          const std::size_t lane = multistate::to_size(layer * spec.dims.kv_heads + h);
          const positions& now = after[lane];
          auto allowed = before[lane];
          for (int j = c; j > 0; --j) allowed.push_back(r->next() - j);
          const auto size = static_cast<int>(allowed.size());
          const bool reduced = size >= r->budget(layer, h) + every;
          ASSERT_EQ(static_cast<int>(now.size()), reduced ? std::min(size, r->budget(layer, h)) : size);
          ASSERT_TRUE(std::adjacent_find(now.begin(), now.end(), std::greater_equal<>()) == now.end())
              << "not increasing";
          ASSERT_TRUE(std::includes(allowed.begin(), allowed.end(), now.begin(), now.end()));
          if (every == 1) {
            ASSERT_EQ(now.size(), std::min<std::size_t>(static_cast<std::size_t>(r->next()),
                                                        multistate::to_size(r->budget(layer, h))));
          }
        }
      before = after;
    }
  });
}

TEST_F(Invariant05_LaterTokensChangeNothing, NotInLaterCallsNorInTheSameChunk) {
  each_round(800, 5, [&](generator& g) {
    run_spec spec = random_run(g, bounded_policies(), 8);
    const int count = 30;
    spec.room = {.chunk = g.between(1, 9)};
    const bool one_shot_first = g.chance(30);
    if (one_shot_first) spec.room.prompt = g.between(1, count);
    SCOPED_TRACE(spec.text());
    const tokens data = random_tokens(g, spec.dims, spec.layers, count);
    tokens other = random_tokens(g, spec.dims, spec.layers, count);
    const int same = g.between(1, count);  // tokens
    const auto copy = [&](std::vector<float>& to, const std::vector<float>& from) {
      const std::size_t width = from.size() / multistate::to_size(spec.layers * count);
      for (int layer = 0; layer < spec.layers; ++layer) {
        const auto at = static_cast<std::ptrdiff_t>(multistate::to_size(layer * count) * width);
        std::copy_n(from.begin() + at, multistate::to_size(same) * width, to.begin() + at);
      }
    };
    copy(other.q, data.q);
    copy(other.k, data.k);
    copy(other.v, data.v);
    const auto a = make_runner(spec, data), b = make_runner(spec, other);
    while (a->next() < same) {
      const int first = static_cast<int>(a->next());
      const bool shot = one_shot_first && first == 0;
      const int c = shot ? spec.room.prompt : std::min(count - first, g.between(1, spec.room.chunk));
      const auto x = shot ? a->fed_one_shot(c) : a->fed(c), y = shot ? b->fed_one_shot(c) : b->fed(c);
      const std::size_t width = x.size() / multistate::to_size(spec.layers * c);
      for (int layer = 0; layer < spec.layers; ++layer)
        for (int j = 0; j < c && first + j < same; ++j)
          for (std::size_t i = 0; i < width; ++i) {
            const std::size_t at =
                (multistate::to_size(layer) * multistate::to_size(c) + multistate::to_size(j)) * width + i;
            ASSERT_EQ(std::bit_cast<std::uint32_t>(x[at]), std::bit_cast<std::uint32_t>(y[at]))
                << "token " << first + j << " saw a later one";
          }
      if (first + c <= same) {
        ASSERT_EQ(all_kept(spec, *a), all_kept(spec, *b));
      }
    }
  });
}

/// Mean number of states attended over 4096 tokens, which is the mean life of a token's states: 249, 481, 897 and 1537
/// in the paper (Oren et al. 2024, table 5).
template <multistate::policy P>
void mean_lifetime(P settings, int budget, double expected, double printed) {
  using namespace multistate;
  constexpr int count = 4096;
  settings.budget = budget;
  auto d = decider<P>::make(settings, {}).value();
  generator g(8);
  std::vector<float> row(multistate::to_size(budget + 1)), key(1);
  double attended = 0, lives = 0;
  std::vector<int> born_to_drop;
  for (int t = 0; t < count; ++t) {
    d.append(1);
    attended += d.live(0);
    for (int i = 0; i < d.live(0); ++i) row[multistate::to_size(i)] = static_cast<float>(g.next() >> 40);
    key[0] = row[0];
    d.enter(0, 0, key, key, key);
    if (d.needs_rows())
      d.observe(0, {.data = row.data(),
                    .stride = row.size(),
                    .n = d.live(0),
                    .queries = 1,
                    .heads = 1,
                    .kind = rows_of(P{}.wants()) == needs::row_sum ? rows_kind::sum : rows_kind::each});
    for (const position p : d.reduce().lanes[0].dropped_positions)
      lives += static_cast<double>(t - p + 1);  // queries that saw it
  }
  for (const position p : d.positions(0))
    if (p >= 0) lives += static_cast<double>(count - p);
  double identity = 0;
  for (int t = 1; t <= count; ++t) identity += std::min(t, budget + 1);
  EXPECT_DOUBLE_EQ(attended / count, identity / count);
  EXPECT_DOUBLE_EQ(lives / count, identity / count);
  EXPECT_NEAR(attended / count, expected, 0.005);
  EXPECT_EQ(std::round(attended / count), printed);
}

TEST_F(Invariant08_MeanLifetime, IsThePapersForEveryPolicy) {
  const struct {
    int budget;
    double mean, printed;
  } rows[] = {{256, 248.97, 249}, {512, 480.94, 481}, {1024, 896.88, 897}, {2048, 1536.75, 1537}};
  for (const auto& r : rows) {
    SCOPED_TRACE(r.budget);
    mean_lifetime(multistate::window{}, r.budget, r.mean, r.printed);
    mean_lifetime(multistate::window{.sinks = 4}, r.budget, r.mean, r.printed);
    mean_lifetime(multistate::tova{}, r.budget, r.mean, r.printed);
    mean_lifetime(multistate::h2o{}, r.budget, r.mean, r.printed);
    mean_lifetime(multistate::random_choice{}, r.budget, r.mean, r.printed);
    mean_lifetime(multistate::knorm{}, r.budget, r.mean, r.printed);
  }
}

TEST_F(Invariant09_Chunks, OfOneEqualTokenByToken) {
  each_round(400, 9, [&](generator& g) {
    run_spec spec = random_run(g, bounded_policies(), 8);
    run_spec roomy = spec;
    roomy.room = {.chunk = g.between(2, 9), .prompt = 1};
    const int count = 30;
    SCOPED_TRACE(spec.text());
    const tokens data = random_tokens(g, spec.dims, spec.layers, count);
    const auto a = make_runner(spec, data), b = make_runner(roomy, data);
    for (int t = 0; t < count; ++t) {
      const auto x = a->fed(1), y = t == 0 ? b->fed_one_shot(1) : b->fed(1);
      if (t > 0 || spec.keys == format::f32) {
        ASSERT_EQ(different(x, y), "");
      }
      ASSERT_EQ(all_kept(spec, *a), all_kept(spec, *b));
    }
  });
}

/// The released code of TOVA, for a whole prompt: topk over the mean of the last query's rows, then sorted by position.
TEST_F(Invariant09_Chunks, OfAllTokensEqualTheReleasedCode) {
  each_round(400, 12, [&](generator& g) {
    run_spec spec;
    spec.dims = random_dimensions(g);
    const int count = g.between(2, 40);
    spec.policy = {.name = "tova", .scope = lanes_by::layer, .budget = g.between(1, count)};
    const bool shot = g.chance(50);
    spec.room = {.chunk = shot ? 1 : count, .prompt = shot ? count : 0};
    SCOPED_TRACE(spec.text());
    const tokens data = random_tokens(g, spec.dims, 1, count);
    const naive reference(spec.policy, data, data);
    const auto r = make_runner(spec, data);
    shot ? r->fed_one_shot(count) : r->fed(count);
    positions everything;
    for (int t = 0; t < count; ++t) everything.push_back(t);
    std::vector<std::pair<double, std::int64_t>> mean(multistate::to_size(count));
    for (int h = 0; h < spec.dims.heads; ++h) {
      const auto row = reference.attend(0, h, h / spec.dims.group(), count - 1, everything);
      for (int t = 0; t < count; ++t)
        mean[multistate::to_size(t)] = {
            mean[multistate::to_size(t)].first + row[multistate::to_size(t)] / spec.dims.heads, t};
    }
    std::sort(mean.rbegin(), mean.rend());
    const std::size_t k = multistate::to_size(spec.policy.budget);
    if (k < mean.size() && mean[k - 1].first - mean[k].first < too_close * mean[k].first) return;
    positions expected;
    for (std::size_t i = 0; i < k; ++i) expected.push_back(mean[i].second);
    std::sort(expected.begin(), expected.end());
    ASSERT_EQ(r->kept(0, 0), expected);
  });
}

/// Three tokens, budget one. Token by token 0 loses to 1, then 1 to 2; all at once the last query likes 0 best.
TEST_F(Invariant09_Chunks, OfOneAndOfAllDiffer) {
  tokens data{
      .dims = {1, 1, 2, 1}, .layers = 1, .count = 3, .q = {0, 1, 0, 1, 1, 0}, .k = {9, -9, 0, 9, 5, 0}, .v = {1, 2, 3}};
  run_spec spec{.policy = {.name = "tova", .scope = lanes_by::layer, .budget = 1}, .dims = data.dims};
  spec.room = {.chunk = 3};
  const auto single = make_runner(spec, data), whole = make_runner(spec, data);
  for (int t = 0; t < 3; ++t) single->fed(1);
  whole->fed(3);
  EXPECT_EQ(single->kept(0, 0), positions{2});
  EXPECT_EQ(whole->kept(0, 0), positions{0});
}

/// Three tokens, two heads with a KV head each, budget two: what each head keeps where heads decide apart, and what
/// both keep where they decide together.
void expect_scopes_differ(policy_spec policy, const std::vector<float>& q, const std::vector<float>& k,
                          const std::vector<positions>& apart, const positions& together) {
  const tokens data{.dims = {2, 2, 1, 1}, .layers = 1, .count = 3, .q = q, .k = k, .v = {1, 1, 2, 2, 3, 3}};
  policy.budget = 2;
  for (const lanes_by scope : {lanes_by::head, lanes_by::layer}) {
    policy.scope = scope;
    const auto r = make_runner({.policy = policy, .dims = data.dims}, data);
    for (int t = 0; t < 3; ++t) r->fed(1);
    for (int h = 0; h < 2; ++h)
      EXPECT_EQ(r->kept(0, h), scope == lanes_by::head ? apart[multistate::to_size(h)] : together) << h;
  }
}

/// Both heads like the newest best. Head 0 looks away from token 1, head 1 from token 0, the first a little less in the
/// mean.
TEST_F(Invariant12_OppositeHeads, DifferByScopeInTova) {
  expect_scopes_differ({.name = "tova"}, {0, 0, 0, 0, 1, 1}, {1, -1, -2, 1.5f, 3, 3}, {{0, 2}, {1, 2}}, {1, 2});
}

/// Sums after three tokens, about: head 0 (2.4, 0, 0.6), head 1 (1, 1.4, 0.6), both (3.4, 1.4, 1.2).
TEST_F(Invariant12_OppositeHeads, DifferByScopeInH2o) {
  expect_scopes_differ({.name = "h2o", .recent = 0}, {0, 0, 8, 8, 8, 8}, {1, 0, 0, 1, 1.05f, 1.05f}, {{0, 2}, {0, 1}},
                       {0, 1});
}

TEST_F(Invariant14_Pins, StayWhateverTheirScoresAndGoLikeOthersAfterwards) {
  int went = 0;
  each_round(1000, 14, [&](generator& g) {
    run_spec spec = random_run(g, bounded_policies(), 10);
    spec.policy.budget = std::max(spec.policy.budget, 3);
    if (spec.policy.name == "window" || spec.policy.name == "tova") spec.policy.first = std::min(spec.policy.first, 1);
    spec.policy.newest = std::min(spec.policy.newest, 1);
    if (spec.policy.name == "h2o") spec.policy.recent = g.between(0, 1);
    for (int& b : spec.lane_budgets) b = std::max(b, 3);
    spec.room = {.chunk = g.between(1, 4), .undo = g.chance(20) ? 3 : 0, .every = g.one_of(std::vector<int>{1, 1, 2})};
    const int count = 50;
    SCOPED_TRACE(spec.text());
    const tokens data = random_tokens(g, spec.dims, spec.layers, count), stored = rounded(data, spec.keys, spec.values);
    const auto r = make_runner(spec, data);
    naive slow(spec.policy, stored, data, spec.lane_budgets);
    slow.every = spec.room.every;
    std::vector<naive::range> pins;
    positions must_stay;
    while (r->next() < count) {
      if (pins.empty() && g.chance(30)) {
        const std::int64_t first = std::max<std::int64_t>(0, r->next() - g.between(0, 3)),
                           last = first + g.between(1, 2);
        if (r->pin(first, last)) {
          pins.push_back({first, last});
          must_stay.clear();
        }
      } else if (!pins.empty() && g.chance(15)) {
        ASSERT_TRUE(r->unpin(pins[0].first, pins[0].last));
        pins.clear();
      }
      slow.pins = pins;
      const auto before = all_kept(spec, *r);
      const int c = std::min(count - static_cast<int>(r->next()), g.between(1, spec.room.chunk));
      const std::int64_t first_new = r->next();
      r->fed(c);
      slow.feed(c);
      const auto after = all_kept(spec, *r);
      for (std::size_t lane = 0; lane < after.size(); ++lane) {
        positions candidates = before[lane];
        for (int j = 0; j < c; ++j) candidates.push_back(first_new + j);
        for (const std::int64_t p : candidates) {
          const bool is_pinned = !pins.empty() && p >= pins[0].first && p < pins[0].last;
          const bool structural = p < spec.policy.first || p >= r->next() - spec.policy.newest ||
                                  (spec.policy.name == "h2o" && p >= r->next() - spec.policy.recent);
          const bool is_kept = std::binary_search(after[lane].begin(), after[lane].end(), p);
          if (is_pinned || structural) {
            ASSERT_TRUE(is_kept) << p << (is_pinned ? " was pinned" : " was protected");
          }
        }
      }
      if (slow.margin < too_close) return;
      for (int layer = 0; layer < spec.layers; ++layer)
        for (int h = 0; h < spec.dims.kv_heads; ++h) ASSERT_EQ(r->kept(layer, h), slow.lane_of(layer, h).kept);
    }
    ++went;
  });
  EXPECT_GT(went, 0);
}

/// The state that is looked at least, pinned: it stays; released: it is the next to go.
TEST_F(Invariant14_Pins, KeepTheLowestAndReleaseIt) {
  tokens data{.dims = {1, 1, 1, 1},
              .layers = 1,
              .count = 6,
              .q = {1, 1, 1, 1, 1, 1},
              .k = {-9, 1, 2, 3, 4, 5},
              .v = {0, 1, 2, 3, 4, 5}};
  run_spec spec{.policy = {.name = "tova", .scope = lanes_by::layer, .budget = 2}, .dims = data.dims};
  const auto r = make_runner(spec, data);
  r->fed(1);
  ASSERT_TRUE(r->pin(0, 1));
  for (int t = 1; t < 5; ++t) r->fed(1);
  EXPECT_EQ(r->kept(0, 0), (positions{0, 4}));
  ASSERT_TRUE(r->unpin(0, 1));
  r->fed(1);
  EXPECT_EQ(r->kept(0, 0), (positions{4, 5}));
}

}  // namespace
