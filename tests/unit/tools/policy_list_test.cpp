#include <tools/runs/policy_list.hpp>

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include <multistate/tools/programs.hpp>

namespace {

using namespace multistate;
using namespace multistate::tools;

/// Keeps the newest, under another name.
struct mine : window {
  static constexpr std::string_view name = "mine";
};

TEST(policy_list, position_mode_is_the_last_part) {
  const policy_list known;
  const auto a = known.parse_policy("window+4:64@incache");
  ASSERT_TRUE(a);
  EXPECT_EQ(a->positions, position_mode::in_cache);
  EXPECT_EQ(a->policy.budget(), 64);
  EXPECT_EQ(a->label(), "window+4@incache");
  const auto b = known.parse_policy("tova,scope=head");
  ASSERT_TRUE(b);
  EXPECT_EQ(b->positions, position_mode::original);
  EXPECT_EQ(b->label(), "tova,scope=head");
  const auto c = known.parse_policy("tova:4,pinned=2@log");
  ASSERT_TRUE(c);
  EXPECT_EQ(c->positions, position_mode::log);
  EXPECT_EQ(c->label(), "tova,pinned=2@log");
  EXPECT_EQ(std::string(known.parse_policy("tova:4@loge").reason().message()),
            "policy 'tova:4@loge': '@loge' is no position mode; there are @incache and @log, as the last part");
  for (const char* wrong : {"tova@", "tova@incache,scope=head", "tova@incache@log", "@log"})
    EXPECT_FALSE(known.parse_policy(wrong)) << wrong;
}

TEST(policy_list, runs_that_only_a_comparison_knows) {
  const policy_list known;
  EXPECT_EQ(known.parse_run("oracle:16")->kind, run_kind::oracle);
  EXPECT_EQ(known.parse_run("oracle:16")->budget, 16);
  EXPECT_EQ(known.parse_run("oracle")->budget, std::nullopt);
  EXPECT_EQ(known.parse_run("short:8")->kind, run_kind::short_context);
  EXPECT_EQ(known.parse_run("short:8")->label(), "short");
  EXPECT_EQ(known.parse_run("tova:8")->kind, run_kind::policy);
  EXPECT_EQ(known.parse_run("tova:8")->budget, 8);
  EXPECT_EQ(known.parse_run("tova")->budget, std::nullopt);
  for (const char* wrong : {"oracle:0", "oracle:x", "oracle:", "oracle:16,a=b", "short@log", ""})
    EXPECT_FALSE(known.parse_run(wrong)) << wrong;
}

TEST(policy_list, says_which_there_are) {
  EXPECT_EQ(policy_list().names(),
            "full, window[+N], h2o, tova, a2sf, random, knorm, keydiff, snapkv, observed, lagkv, expected, rkv");
  EXPECT_EQ(std::string(policy_list().parse_run("nonsense").reason().message()),
            "policy 'nonsense': no policy is called 'nonsense'; there are: full, window[+N], h2o, tova, a2sf, random, "
            "knorm, keydiff, snapkv, observed, lagkv, expected, rkv; and oracle, short");
  EXPECT_NE(policy_list().parse_run("tova,colour=red").reason().message().find("has no 'colour'"),
            std::string_view::npos);
}

TEST(policy_list, knows_a_programs_own_policies_first) {
  const policy_list known(entries<mine>());
  EXPECT_EQ(
      known.names(),
      "mine[+N], full, window[+N], h2o, tova, a2sf, random, knorm, keydiff, snapkv, observed, lagkv, expected, rkv");
  EXPECT_EQ(known.parse_policy("mine+2:8")->policy.str(), "mine+2:8");
}

TEST(policy_list, tells_a_seed_that_was_given) {
  const policy_list known;
  EXPECT_FALSE(known.parse_policy("random:4")->seed_given);
  EXPECT_TRUE(known.parse_policy("random:4,seed=0")->seed_given);
}

}  // namespace
