#include <gtest/gtest.h>

#include <tools/terminal/command_line.hpp>

namespace {

using namespace multistate;
using namespace multistate::tools;
using choice = policy_choice<standard_policies>;

TEST(CommandLine, WholeNumbers) {
  EXPECT_EQ(whole_number("--n", "12", 1), 12);
  for (const char* wrong : {"", "x", "1x", "0", "-1", "1.5", " 1", "99999999999"})
    EXPECT_THROW(whole_number("--n", wrong, 1), usage_error) << wrong;
  EXPECT_EQ(whole_numbers("--n", "16,64,16,4", 1), (std::vector{16, 64, 4}));
  for (const char* wrong : {"", ",", "1,", "1,,2"}) EXPECT_THROW(whole_numbers("--n", wrong, 1), usage_error) << wrong;
  try {
    whole_number("--n", "x", 1, 9);
  } catch (const usage_error& e) {
    EXPECT_STREQ(e.what(), "--n must be a whole number from 1 to 9; got 'x'");
  }
}

TEST(CommandLine, PositionModeIsTheLastPart) {
  const auto a = choice::parse("window+4:64@incache");
  ASSERT_TRUE(a);
  EXPECT_EQ(a->positions, position_mode::in_cache);
  EXPECT_EQ(a->policy.budget(), 64);
  EXPECT_EQ(a->label(), "window+4@incache");
  const auto b = choice::parse("tova,scope=head");
  ASSERT_TRUE(b);
  EXPECT_EQ(b->positions, position_mode::original);
  EXPECT_EQ(b->label(), "tova,scope=head");
  const auto c = choice::parse("tova:4,pinned=2@log");
  ASSERT_TRUE(c);
  EXPECT_EQ(c->positions, position_mode::log);
  EXPECT_EQ(c->label(), "tova,pinned=2@log");
  EXPECT_EQ(std::string(choice::parse("tova:4@loge").reason().message()),
            "policy 'tova:4@loge': '@loge' is no position mode; there are @incache and @log, as the last part");
  for (const char* wrong : {"tova@", "tova@incache,scope=head", "tova@incache@log", "@log"})
    EXPECT_FALSE(choice::parse(wrong)) << wrong;
}

TEST(CommandLine, SplitsANameFromItsBudget) {
  EXPECT_EQ(split_item("oracle:16"), (std::pair<std::string_view, std::optional<int>>("oracle", 16)));
  EXPECT_EQ(split_item("oracle").second, std::nullopt);
  for (const char* other : {"oracle:0", "oracle:x", "oracle:", "oracle:16,a=b"})
    EXPECT_EQ(split_item(other).first, other);
}

TEST(CommandLine, FindsTheDemo) { EXPECT_TRUE(std::filesystem::is_regular_file(data_folder() / "story.txt")); }

}  // namespace
