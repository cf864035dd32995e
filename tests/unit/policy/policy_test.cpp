#include <multistate/policies.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include <support/busy_policy.hpp>

namespace {

using namespace multistate;

// What each one reads and remembers.
static_assert(full{}.wants() == evidence{} && !scores<full> && !observes<full>);
static_assert(window{}.wants() == evidence{} && !scores<window> && !enters<window>);
static_assert(tova{}.wants() == evidence{.last = 1} && rows_of(tova{}.wants()) == needs::last_row && scores<tova> &&
              !observes<tova>);
static_assert(h2o{}.wants() == evidence{.sum = true, .columns = 2} && rows_of(h2o{}.wants()) == needs::row_sum &&
              scores<h2o> && observes<h2o>);
static_assert(knorm{}.wants() == evidence{.keys = true, .columns = 1} && enters<knorm> && !observes<knorm>);
static_assert(multistate::random_choice{}.wants() == evidence{} && scores<multistate::random_choice>);
static_assert(observes<foreign::busy> && enters<foreign::busy> && scores<foreign::busy>);

// Defaults that the papers set.
static_assert(full{}.scope == scope_kind::layer && window{}.scope == scope_kind::layer &&
              tova{}.scope == scope_kind::layer);
static_assert(h2o{}.scope == scope_kind::head && knorm{}.scope == scope_kind::head &&
              multistate::random_choice{}.scope == scope_kind::head);
static_assert(h2o{}.recent == -1 && !h2o{}.normalised && tova{}.pinned == 0 && tova{}.newest == 0 &&
              window{}.sinks == 0);

// A hook with a typing error is no policy, rather than a policy whose hook is never called.
struct misspelt : tova {
  void observe(lane_ref&) const noexcept {}
};
static_assert(!policy<misspelt>);
struct throwing : tova {
  std::span<const float> worth(const lane_ref&, const rows& r) const { return r.last(); }
};
static_assert(!policy<throwing>);
struct deaf : window {
  constexpr evidence wants() const { return {.last = 1}; }  // wants rows and has no hook for them
};
static_assert(!policy<deaf>);
struct keyless : window {
  constexpr evidence wants() const { return {.keys = true}; }
};
static_assert(!policy<keyless>);

protect kept_by(const auto& p, int budget) { return p.keeps(budget); }

TEST(keeps, as_the_papers_say) {
  EXPECT_EQ(kept_by(window{.budget = 8, .sinks = 4}, 8).first, 4);
  EXPECT_EQ(kept_by(window{.budget = 8, .sinks = 4}, 8).newest, 0);
  EXPECT_EQ(kept_by(h2o{.budget = 7}, 7).newest, 4);  // k - k/2
  EXPECT_EQ(kept_by(h2o{.budget = 8}, 8).newest, 4);
  EXPECT_EQ(kept_by(h2o{.budget = 1}, 1).newest, 1);
  EXPECT_EQ(kept_by(h2o{.budget = 8}, 5).newest, 3);  // a ragged lane's own budget counts
  EXPECT_EQ(kept_by(h2o{.budget = 8, .recent = 0}, 8).newest, 0);
  EXPECT_EQ(kept_by(h2o{.budget = 8}, 8).first, 0);
  EXPECT_EQ(kept_by(tova{.budget = 8, .pinned = 3, .newest = 1}, 8).first, 3);
  EXPECT_EQ(kept_by(tova{.budget = 8, .pinned = 3, .newest = 1}, 8).newest, 1);
  EXPECT_EQ(kept_by(full{.budget = 8}, 8).first, 8);
  EXPECT_EQ(kept_by(knorm{.budget = 8}, 8).newest, 0);
}

template <class P>
std::string refusal(const P& p, int budget) {
  const error e = check_settings(p, budget);
  return !e ? "" : std::string(e.message());
}

TEST(check_settings, accepts_what_can_run) {
  EXPECT_EQ(refusal(tova{.budget = 4, .pinned = 3, .newest = 1}, 4), "");
  EXPECT_EQ(refusal(window{.budget = 4, .sinks = 4}, 4), "");
  EXPECT_EQ(refusal(h2o{.budget = 4, .recent = 4}, 4), "");
  EXPECT_EQ(refusal(h2o{.budget = 4, .recent = 0}, 4), "");
  EXPECT_EQ(refusal(full{}, 1 << 28), "");
  EXPECT_EQ(refusal(multistate::random_choice{.budget = 1, .seed = ~0ull}, 1), "");
}

TEST(check_settings, names_rule_and_values) {
  EXPECT_EQ(refusal(tova{}, 0), "tova: budget must be 1 to 268435456 states; got 0");
  EXPECT_EQ(refusal(full{}, -3), "full: budget must be 1 to 268435456 states; got -3");
  EXPECT_EQ(refusal(full{}, (1 << 28) + 1), "full: budget must be 1 to 268435456 states; got 268435457");
  EXPECT_EQ(refusal(window{.sinks = 5}, 4), "window: needs sinks <= budget; got budget=4, +=5");
  EXPECT_EQ(refusal(tova{.scope = scope_kind::head, .pinned = 3, .newest = 2}, 4),
            "tova: needs pinned + newest <= budget; got budget=4, scope=head, pinned=3, newest=2");
  EXPECT_EQ(refusal(h2o{.scope = scope_kind::model, .recent = 5}, 4),
            "h2o: needs 0 <= recent <= budget; got budget=4, scope=model, recent=5, normalised=false");
}

TEST(check_settings, refuses_negative_and_absurd_settings) {
  const std::string rule = "needs settings >= 0 and not above 2^28";
  EXPECT_NE(refusal(tova{.pinned = -1, .newest = 1}, 4).find(rule), std::string::npos);
  EXPECT_NE(refusal(window{.sinks = -4}, 4).find(rule), std::string::npos);
  EXPECT_NE(refusal(tova{.pinned = 2147483647, .newest = 2147483647}, 4).find(rule), std::string::npos);
  EXPECT_NE(refusal(h2o{.recent = -2}, 4), "");
  EXPECT_EQ(check_settings(tova{.pinned = -1}, 4).code(), errc::bad_policy);
  EXPECT_EQ(check_settings(tova{}, 0).code(), errc::bad_budget);
}

/// A lane of n states that a test fills by hand.
struct lane {
  std::vector<position> positions;
  std::vector<float> columns, scratch;
  lane_ref ref;
  explicit lane(std::vector<position> at, int column_count = 2)
      : positions(std::move(at)),
        columns(positions.size() * static_cast<std::size_t>(column_count)),
        scratch(positions.size()) {
    ref.positions = positions;
    ref.columns = columns;
    ref.column_stride = positions.size();
    ref.scratch = scratch;
    for (const position p : positions) ref.now = std::max(ref.now, p);
  }
};
std::vector<float> listed(std::span<const float> s) { return {s.begin(), s.end()}; }
rows summed(const std::vector<float>& row) {
  return {.data = row.data(),
          .stride = row.size(),
          .n = static_cast<int>(row.size()),
          .queries = 1,
          .heads = 1,
          .kind = rows_kind::sum};
}

TEST(tova, is_worth_the_last_row) {
  const lane l({0, 1});
  const std::vector<float> w{9, 9, 0.25f, 0.75f};
  EXPECT_EQ(listed(tova{}.worth(l.ref, {.data = w.data(), .stride = 2, .n = 2, .queries = 2})),
            (std::vector<float>{0.25f, 0.75f}));
}

TEST(h2o, adds_rows_up) {
  const lane l({0, 1, 2});
  h2o{}.observe(l.ref, summed({0.5f, 0.25f, 0.25f}));
  h2o{}.observe(l.ref, summed({0.125f, 0.5f, 0.375f}));
  EXPECT_EQ(listed(h2o{}.worth(l.ref, {})), (std::vector<float>{0.625f, 0.75f, 0.625f}));
}

TEST(h2o, normalised_divides_by_the_queries_that_saw_the_state) {
  const lane l({4, 0, 7});
  h2o{}.observe(l.ref, summed({2, 4, 1}));
  EXPECT_EQ(listed(h2o{.normalised = true}.worth(l.ref, {})),
            (std::vector<float>{0.5f, 0.5f, 1.0f}));  // 4, 8 and 1 queries
}

TEST(h2o, normalised_counts_no_more_queries_than_the_mask_lets_see) {
  lane l({4, 0, 7});
  l.ref.window = 5;
  h2o{}.observe(l.ref, summed({2, 4, 1}));
  EXPECT_EQ(listed(h2o{.normalised = true}.worth(l.ref, {})), (std::vector<float>{0.5f, 0.8f, 1.0f}));
}

TEST(h2o, keeps_its_precision_over_a_million_steps) {
  const lane l({0, 1});
  const std::vector<float> row{0.01f, 1e-7f};
  l.ref.column(0)[0] = 3e5f;
  double first = 3e5, second = 0;
  for (int i = 0; i < 1000000; ++i) {
    h2o{}.observe(l.ref, summed(row));
    first += double{row[0]};
    second += double{row[1]};
  }
  EXPECT_NEAR(double{l.ref.column(0)[0]} + double{l.ref.column(1)[0]}, first, 1e-3);
  EXPECT_FLOAT_EQ(h2o{}.worth(l.ref, {})[0], static_cast<float>(first));  // float32 alone would still be at 3e5
  EXPECT_FLOAT_EQ(h2o{}.worth(l.ref, {})[1], static_cast<float>(second));
}

TEST(knorm, is_worth_minus_the_norms_of_a_lane) {
  const lane l({0, 1}, 1);
  const std::vector<float> key{3, -4}, other{0, 1};
  knorm{}.enter(l.ref, slot{1}, key, {}, {});
  knorm{}.enter(l.ref, slot{1}, other, {}, {});
  EXPECT_EQ(listed(knorm{}.worth(l.ref, {})), (std::vector<float>{0, -6}));
}

// Runs that were published with a seed depend on these.
TEST(random_choice, draws_the_same_everywhere) {
  lane l({0, 1, 2, 3});
  l.ref.layer = 2;
  l.ref.lane = 1;
  const std::vector<float> drawn = listed(multistate::random_choice{.seed = 3}.worth(l.ref, {}));
  // mix(mix(mix(seed ^ mix(layer << 32 | lane)) ^ now) ^ position) >> 40, computed apart
  EXPECT_EQ(drawn, (std::vector<float>{1655279.0f, 12230427.0f, 14005117.0f, 4514033.0f}));
}

TEST(random_choice, depends_on_seed_layer_lane_position_and_step) {
  lane l({5, 6});
  const auto draw = [&](std::uint64_t seed) {
    return listed(multistate::random_choice{.seed = seed}.worth(l.ref, {}));
  };
  const auto plain = draw(0);
  EXPECT_EQ(draw(0), plain);
  EXPECT_NE(draw(1), plain);
  l.ref.now = 7;
  EXPECT_NE(draw(0), plain);
  l.ref.now = 6;
  l.ref.layer = 1;
  const auto layer = draw(0);
  EXPECT_NE(layer, plain);
  l.ref.layer = 0;
  l.ref.lane = 1;
  EXPECT_NE(draw(0), plain);
  EXPECT_NE(draw(0), layer);
}

TEST(random_choice, drops_every_place_equally_often) {
  constexpr int n = 10, draws = 20000;
  std::vector<int> dropped(n);
  lane l({0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  for (int i = 0; i < draws; ++i) {
    for (position& p : l.positions) p += 1 + i % 3;
    l.ref.now = l.positions.back() + i;
    std::vector<slot> out(1, no_slot);
    ASSERT_EQ(lowest(multistate::random_choice{.seed = 42}.worth(l.ref, {}), l.positions,
                     {.structural = {}, .now = l.ref.now, .pins = {}}, out),
              1u);
    ++dropped[index(out[0])];
  }
  double chi_square = 0;
  for (const int count : dropped)
    chi_square += (count - draws / n) * (count - draws / n) / static_cast<double>(draws / n);
  EXPECT_LT(chi_square, 27.9);  // 9 degrees of freedom, p = 0.001; the seed is fixed
}

}  // namespace
