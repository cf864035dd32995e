#include <tools/terminal/flags.hpp>

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include <tools/runs/opened_model.hpp>
#include <tools/terminal/console.hpp>

namespace {

using namespace multistate::tools;

/// What a validator says of a text; empty: fine.
std::string said(const CLI::Validator& check, std::string text) { return check(text); }

TEST(flags, whole_numbers) {
  EXPECT_EQ(said(whole_number(1), "12"), "");
  for (const char* wrong : {"", "x", "1x", "0", "-1", "1.5", " 1", "99999999999"})
    EXPECT_NE(said(whole_number(1), wrong), "") << wrong;
  EXPECT_EQ(said(whole_number(1, 9), "x"), "must be a whole number from 1 to 9; got 'x'");
}

TEST(flags, lists_of_whole_numbers) {
  EXPECT_EQ(said(whole_number_list(1), "16,64,16,4"), "");
  EXPECT_EQ(numbers_of("16,64,16,4"), (std::vector{16, 64, 4}));
  for (const char* wrong : {"", ",", "1,", "1,,2", "1,x", "0"})
    EXPECT_NE(said(whole_number_list(1), wrong), "") << wrong;
}

TEST(flags, real_numbers) {
  for (const char* right : {"0", "1", "0.5", "1e-3"}) EXPECT_EQ(said(real_number(0, 1), right), "") << right;
  for (const char* wrong : {"", "nan", "inf", "-0.1", "1.1", "0,5", "0.5x", "0x1p-1"})
    EXPECT_NE(said(real_number(0, 1), wrong), "") << wrong;
  EXPECT_EQ(said(real_number(0, 100), "nan"), "must be a number from 0 to 100; got 'nan'");
}

TEST(flags, choices) {
  EXPECT_EQ(said(one_of({"a", "b", "c"}), "b"), "");
  EXPECT_EQ(said(one_of({"a", "b", "c"}), "d"), "must be a, b or c; got 'd'");
  EXPECT_EQ(said(one_of({"a"}), "d"), "must be a; got 'd'");
}

TEST(flags, what_is_refused_reads_as_a_sentence) {
  CLI::App app;
  std::string numbers;
  app.add_option("--n", numbers)->check(whole_number_list(1, 9));
  const auto parse = [&](std::vector<std::string> words) {
    std::vector<char*> arguments;
    for (std::string& w : words) arguments.push_back(w.data());
    return parse_flags(app, static_cast<int>(arguments.size()), arguments.data());
  };
  EXPECT_EQ(parse({"program", "--n", "1,2,1"}), std::nullopt);
  EXPECT_EQ(numbers_of(numbers), (std::vector{1, 2}));
  try {
    parse({"program", "--n", "1,,2"});
    FAIL() << "an empty item is no number";
  } catch (const usage_error& e) {
    EXPECT_STREQ(e.what(), "--n must be a whole number from 1 to 9; got ''");
  }
}

TEST(flags, words_as_a_shell_takes_them) {
  EXPECT_EQ(command_text({"compare", "--text", "my file", "it's"}), "compare --text 'my file' 'it'\\''s'");
}

TEST(opened_model, finds_the_demo) { EXPECT_TRUE(std::filesystem::is_regular_file(data_folder() / "story.txt")); }

}  // namespace
