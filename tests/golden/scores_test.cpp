// Prompt-time scores and what is kept by them, as kvpress computes them (shared/golden/scores): SnapKV, observed
// attention, AdaKV, PyramidKV.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <multistate/decider/any_decider.hpp>
#include <multistate/io/safetensors.hpp>
#include <multistate/policy/pyramid.hpp>

namespace {

using namespace multistate;

const std::filesystem::path scores_folder = std::filesystem::path(MULTISTATE_SHARED_DATA) / "golden" / "scores";
constexpr int tokens = 64, kv_heads = 2, group = 2;

class scores : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(scores_folder)) GTEST_SKIP() << "there is no " << scores_folder;
    attn = safetensors::open(scores_folder / "inputs.safetensors").value().floats("attn").value();
  }
  safetensors open(const std::string& name) {
    return safetensors::open(scores_folder / (name + ".safetensors")).value();
  }
  static int number(const safetensors& file, const char* name) { return file.ints(name).value()[0]; }

  /// Rows of all queries for one KV head, summed over its query heads: [T][T].
  std::vector<float> rows_of(int kv) const {
    std::vector<float> sum(multistate::to_size(tokens * tokens));
    for (int g = 0; g < group; ++g)
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += attn[multistate::to_size(kv * group + g) * sum.size() + i];
    return sum;
  }
  /// The decider after the whole prompt.
  any_decider after_prompt(const std::string& policy) const {
    auto d = parse_policy(entries_of(standard_policies()), policy)
                 .value()
                 .make_decider({.kv_heads = kv_heads, .heads = kv_heads * group}, {.prompt = tokens})
                 .value();
    d.append(tokens, phase::prompt_end);
    for (int h = 0; h < kv_heads; ++h) {
      const auto rows = rows_of(h);
      d.observe(h, {.data = rows.data(), .stride = tokens, .n = tokens, .queries = tokens, .heads = group});
    }
    d.reduce();
    EXPECT_EQ(d.fault(), fault_kind::none);
    return d;
  }
  static std::vector<std::int32_t> kept(const any_decider& d, int lane) {
    std::vector<std::int32_t> at;
    for (const position p : d.positions(lane))
      if (p >= 0) at.push_back(static_cast<std::int32_t>(p));
    std::sort(at.begin(), at.end());
    return at;
  }
  /// Worths of one KV head, as a decider has them: rows of the last `last` queries, in the order of positions.
  template <policy P>
  std::vector<float> worth(const P& p, int kv, int last) const {
    const auto rows = rows_of(kv);
    std::vector<position> positions(tokens);
    std::vector<slot> order(tokens);
    for (int i = 0; i < tokens; ++i) {
      positions[multistate::to_size(i)] = i;
      order[multistate::to_size(i)] = slot{static_cast<std::uint32_t>(i)};
    }
    std::vector<float> scratch(tokens), other(tokens), columns(2 * tokens), sum(tokens);
    for (std::size_t i = 0; i < rows.size(); ++i) sum[i % tokens] += rows[i];
    lane_ref lane;
    lane.positions = positions;
    lane.now = tokens - 1;
    lane.tokens = tokens;
    lane.columns = columns;
    lane.column_stride = tokens;
    lane.scratch = scratch;
    lane.by_age = order;
    multistate::rows r{.data = rows.data() + (tokens - last) * tokens,
                       .stride = tokens,
                       .n = tokens,
                       .queries = last,
                       .heads = group,
                       .kind = rows_kind::each,
                       .sum = sum.data()};
    if constexpr (observes<P>) p.observe(lane, r);
    const auto w = p.worth(lane, r);
    std::vector<float> all(w.begin(), w.end());
    lane.scratch = other;
    if constexpr (pools<P>) p.pool(lane, all);
    return all;
  }
  void expect_scores(const safetensors& file, int kv, const std::vector<float>& mine, int candidates, float scale) {
    const auto score = file.floats("score").value();
    float most = 0;
    for (int s = 0; s < candidates; ++s) most = std::max(most, score[multistate::to_size(kv * tokens + s)]);
    for (int s = 0; s < candidates; ++s)
      EXPECT_NEAR(mine[multistate::to_size(s)] * scale, score[multistate::to_size(kv * tokens + s)], 1e-5f * most) << s;
  }
  void expect_kept(const safetensors& file, const any_decider& d) {
    const auto expected = file.ints("kept").value();
    const std::size_t k = expected.size() / kv_heads;
    for (int h = 0; h < kv_heads; ++h) {
      const auto first = expected.begin() + static_cast<std::ptrdiff_t>(k) * h;
      EXPECT_EQ(kept(d, h), std::vector<std::int32_t>(first, first + static_cast<std::ptrdiff_t>(k)));
    }
  }

  std::vector<float> attn;  // [H][T][T]
};

TEST_F(scores, snapkv) {
  for (const char* name : {"snapkv_a", "snapkv_b"}) {
    const auto file = open(name);
    const int k = number(file, "k"), window = number(file, "window"), kernel = number(file, "kernel");
    for (int h = 0; h < kv_heads; ++h)
      expect_scores(file, h, worth(snapkv{.budget = k, .window = window, .kernel = kernel}, h, window), tokens - window,
                    1.0f);
    expect_kept(file, after_prompt("snapkv:" + std::to_string(k) + ",window=" + std::to_string(window) +
                                   ",kernel=" + std::to_string(kernel)));
  }
}

TEST_F(scores, observed_attention) {
  const auto file = open("observed");
  for (int h = 0; h < kv_heads; ++h) expect_scores(file, h, worth(observed{.budget = 32}, h, 1), tokens, 1.0f / group);
  expect_kept(file, after_prompt("observed:32"));
}

TEST_F(scores, adakv) {
  for (const char* name : {"adakv_a", "adakv_b"}) {
    const auto file = open(name);
    const auto alpha = std::to_string(file.floats("alpha").value()[0]).substr(0, 4);
    const auto d = after_prompt("snapkv:" + std::to_string(number(file, "k")) +
                                ",window=" + std::to_string(number(file, "window")) +
                                ",kernel=" + std::to_string(number(file, "kernel")) + ",heads=adaptive,floor=" + alpha);
    const auto mask = file.ints("mask").value(), counts = file.ints("counts").value();
    for (int h = 0; h < kv_heads; ++h) {
      EXPECT_EQ(d.budget(h), counts[multistate::to_size(h)]) << name << ", floor " << alpha;
      std::vector<std::int32_t> expected;
      for (int s = 0; s < tokens; ++s)
        if (mask[multistate::to_size(h * tokens + s)] != 0) expected.push_back(s);
      EXPECT_EQ(kept(d, h), expected) << name;
    }
  }
}

TEST_F(scores, pyramidkv) {
  const auto file = open("pyramidkv");
  const int k = number(file, "k"), window = number(file, "window");
  const auto budgets = file.ints("budgets").value(), expected = file.ints("kept").value();
  std::vector<int> mine(budgets.size());
  pyramid_budgets(tokens, k, window, mine, number(file, "beta"));
  EXPECT_EQ(mine, std::vector<int>(budgets.begin(), budgets.end()));
  for (std::size_t l = 0; l < budgets.size(); ++l) {
    const auto d = after_prompt("snapkv:" + std::to_string(mine[l]) + ",window=" + std::to_string(window) +
                                ",kernel=" + std::to_string(number(file, "kernel")));
    for (int h = 0; h < kv_heads; ++h) {
      auto at = expected.begin() + static_cast<std::ptrdiff_t>(l * kv_heads + multistate::to_size(h)) * tokens;
      std::vector<std::int32_t> right(at, at + tokens);
      std::erase(right, -1);
      EXPECT_EQ(kept(d, h), right) << "layer " << l;
    }
  }
  const auto table = file.ints("table").value(), table_budgets = file.ints("table_budgets").value();
  const auto exact = file.floats("table_exact").value();
  for (std::size_t i = 0; i < table.size() / 6; ++i) {
    const std::int32_t* row = table.data() + i * 6;
    std::vector<int> all(multistate::to_size(row[2]));
    std::vector<double> shares(all.size());
    pyramid_budgets(row[0], row[1], row[3], all, row[4], shares);
    int sum = 0;
    for (std::size_t l = 0; l < all.size(); ++l) {
      sum += all[l];
      EXPECT_EQ(all[l], table_budgets[i * 32 + l]) << "entry " << i << ", layer " << l;
      EXPECT_NEAR(shares[l], exact[i * 32 + l], 1e-3) << "entry " << i << ", layer " << l;
    }
    EXPECT_EQ(sum, row[5]);
  }
}

}  // namespace
