#include <gtest/gtest.h>

#include <fstream>

#include <multistate/tools/html_report.hpp>

namespace {

using namespace multistate::detail;

report_json synthetic() {
  std::ifstream in(MULTISTATE_TEST_DATA "/report/synthetic.json");
  return report_json::parse(in);
}

report_json row(const char* policy, int budget, double cost, const char* letter) {
  return {{"policy", policy},
          {"budget", budget},
          {"nll_minus_full", cost},
          {"letter", letter},
          {"bytes_allocated", budget * 1000}};
}

/// Three policies and the rows beside them at one budget, `windows` windows.
report_json small(int windows) {
  report_json j;
  j["windows"] = report_json::array();
  for (int i = 0; i < windows; ++i) j["windows"].push_back(i);
  j["rows"] = {{{"policy", "full"}, {"budget", nullptr}, {"nll_minus_full", 0}, {"bytes_allocated", 256000}},
               row("window", 64, 0.5, "b"),
               row("tova", 64, 0.02, "a"),
               row("h2o", 64, 0.03, "a"),
               row("random", 64, 0.9, "c"),
               row("oracle", 64, 0.001, "d")};
  return j;
}

TEST(HtmlReport, UnderThirtyWindowsNothingIsRanked) {
  EXPECT_EQ(finding(small(29)),
            "With k = 64 states a layer (64 kB, 25 % of the unbounded cache), forgetting costs from 0.020 to 0.50 nats "
            "per token, depending on the policy; 29 windows are too few to rank them.");
  EXPECT_NE(finding(small(1)).find("; 1 window is too few"), std::string::npos);
}

TEST(HtmlReport, WhoCannotBeToldApartIsNamedTogether) {
  EXPECT_EQ(
      finding(small(30)),
      "With k = 64 states a layer (64 kB, 25 % of the unbounded cache), <code>tova</code> and <code>h2o</code> "
      "can't be told apart and cost least, 0.020 to 0.030 nats per token; the dearest, <code>window</code>, costs "
      "0.50 nats per token.");
  report_json alone = small(30);
  alone["rows"][3]["letter"] = "b";
  EXPECT_NE(finding(alone).find("<code>tova</code> costs least, 0.020 nats"), std::string::npos);
  report_json plain = small(30);
  for (auto& r : plain["rows"]) r["letter"] = nullptr;
  EXPECT_NE(finding(plain).find("without intervals they are not ranked"), std::string::npos);
}

TEST(HtmlReport, TheSentenceIsAboutTheSmallestBudgetThatServes) {
  report_json j = small(8);
  j["rows"].push_back(row("tova", 256, 0.001, "a"));
  EXPECT_EQ(finding(j).find("With k = 64 "), 0u);
  j["rows"].push_back(row("tova", 16, 0.8, "a"));
  EXPECT_EQ(finding(j).find("With k = 64 "), 0u);
  report_json dear = small(8);
  for (auto& r : dear["rows"]) r["nll_minus_full"] = 0.7;
  dear["rows"].push_back(row("tova", 256, 0.6, "a"));
  EXPECT_EQ(finding(dear).find("With k = 256 "), 0u);
  EXPECT_EQ(finding(report_json::object()), "No policy with a budget was measured in this run.");
}

TEST(HtmlReport, WhatIsAbsentIsSaidWithItsFlag) {
  for (const report_json& j : {small(8), report_json::object(), report_json(nullptr)}) {
    const std::string page = to_html(j);
    for (const char* what : {"Recall was not measured", "Which positions were kept was not measured",
                             "Survival was not measured", "Cost by position was not measured",
                             "Free running was not measured", "Life by kind of character was not measured"})
      EXPECT_NE(page.find(what), page.npos) << what;
    EXPECT_NE(page.find("Time was not measured in this run.<"), page.npos);
    EXPECT_EQ(page.find("id=\"data\""), page.npos);
  }
  EXPECT_EQ(to_html(synthetic()).find("not measured in this run"), std::string::npos);
}

TEST(HtmlReport, FieldsOfAnotherKindCountAsAbsent) {
  report_json j = synthetic();
  j["recall"] = 0.5;
  j["trace"] = {1, 2};
  j["pairs"] = "none";
  for (auto& r : j["rows"]) r["interval"] = nullptr, r["survival"] = 3, r["life_by_kind"] = "x";
  const std::string page = to_html(j);
  EXPECT_NE(page.find("Recall was not measured"), page.npos);
  EXPECT_NE(page.find("Survival was not measured"), page.npos);
}

TEST(HtmlReport, DataCannotBecomeMarkup) {
  report_json j = synthetic();
  const std::string evil = "</script><script>alert(1)</script><img src=x onerror='a'>";
  for (const char* key : {"version", "commit", "simd_target", "bos_rule"}) j[key] = evil;
  j["command_line"].push_back(evil);
  j["notes"].push_back(evil);
  for (const char* part : {"rows", "pairs", "prompt_modes"})
    for (auto& r : j[part]) r["policy"] = evil, r["a"] = evil, r["letter"] = evil, r["mode"] = evil;
  for (auto& r : j["trace"]["rows"]) r["policy"] = evil;
  for (auto& r : j["recall"]["cells"]) r["policy"] = evil, r["variant"] = evil;
  for (auto& r : j["recall"]["grid"]) r["policy"] = evil;
  for (auto& r : j["free_run"]["rows"]) r["policy"] = evil, r["sample"] = evil;
  const std::string page = to_html(j);
  EXPECT_EQ(page.find("<img"), page.npos);
  EXPECT_EQ(page.find("<script>alert"), page.npos);
  std::size_t scripts = 0;
  for (std::size_t at = 0; (at = page.find("</script>", at)) != page.npos; ++at) ++scripts;
  EXPECT_EQ(scripts, 2u);  // the trace's data and the page's own
}

TEST(HtmlReport, LivesArePackedInTwoCharacters) {
  EXPECT_EQ(packed_lives({1, 1, 2, 67}), "ABAAAABA");  // lives 1, 0, 0, 64
  EXPECT_EQ(packed_lives({5000, nullptr}), "__AA");    // at most 4,095
}

TEST(HtmlReport, TokensShowAsWhatTheyAre) {
  EXPECT_EQ(token_html('<', true), "&lt;");
  EXPECT_EQ(token_html('\n', true), "&#8629;\n");
  EXPECT_EQ(token_html(0xc3, true), "&#183;");
  EXPECT_EQ(token_html(31999, false), "31999 ");
}

TEST(HtmlReport, NumbersAreReadable) {
  EXPECT_EQ(cell_number(1234567.8, 0), "1,234,568");
  EXPECT_EQ(cell_number(-1234.5, 1), "&#8722;1,234.5");
  EXPECT_EQ(cell_number(-0.00001, 3), "0.000");
  EXPECT_EQ(cell_number(NAN, 3), "&#8211;");
}

TEST(HtmlReport, APolicyLooksTheSameInEveryFigure) {
  const report_json j = small(8);
  EXPECT_EQ(style_of(j, "window"), 0);
  EXPECT_EQ(style_of(j, "tova"), 1);
  EXPECT_EQ(style_of(j, "h2o"), 2);
  const line_plot p = cost_plot(j);
  ASSERT_EQ(p.series.size(), 5u);  // Full is the zero line
  EXPECT_EQ(p.series[3].name, "random");
  EXPECT_TRUE(p.series[3].reference);
  EXPECT_DOUBLE_EQ(p.series[3].points[0].low, 0.001);  // the room down to the oracle
}

}  // namespace
