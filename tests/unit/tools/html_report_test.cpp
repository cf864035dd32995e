#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>

#include <tools/report/html_report.hpp>

namespace {

using namespace multistate::tools;

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
  EXPECT_NE(finding(small(1)).str().find("; 1 window is too few"), std::string::npos);
}

TEST(HtmlReport, WhoCannotBeToldApartIsNamedTogether) {
  EXPECT_EQ(
      finding(small(30)),
      "With k = 64 states a layer (64 kB, 25 % of the unbounded cache), <code>tova</code> and <code>h2o</code> "
      "can't be told apart and cost least, 0.020 to 0.030 nats per token; the dearest, <code>window</code>, costs "
      "0.50 nats per token.");
  report_json alone = small(30);
  alone["rows"][3]["letter"] = "b";
  EXPECT_NE(finding(alone).str().find("<code>tova</code> costs least, 0.020 nats"), std::string::npos);
  report_json plain = small(30);
  for (auto& r : plain["rows"]) r["letter"] = nullptr;
  EXPECT_NE(finding(plain).str().find("without intervals they are not ranked"), std::string::npos);
}

TEST(HtmlReport, TheSentenceIsAboutTheSmallestBudgetThatServes) {
  report_json j = small(8);
  j["rows"].push_back(row("tova", 256, 0.001, "a"));
  EXPECT_EQ(finding(j).str().find("With k = 64 "), 0u);
  j["rows"].push_back(row("tova", 16, 0.8, "a"));
  EXPECT_EQ(finding(j).str().find("With k = 64 "), 0u);
  report_json dear = small(8);
  for (auto& r : dear["rows"]) r["nll_minus_full"] = 0.7;
  dear["rows"].push_back(row("tova", 256, 0.6, "a"));
  EXPECT_EQ(finding(dear).str().find("With k = 256 "), 0u);
  EXPECT_EQ(finding(report_json::object()), "No policy with a budget was measured in this run.");
}

TEST(HtmlReport, WhatIsAbsentIsSaidWithItsFlag) {
  for (const report_json& j : {small(8), report_json::object(), report_json(nullptr)}) {
    const std::string page = to_html(j);
    EXPECT_NE(
        page.find("Not measured in this run: What was kept, Cost by position, Survival (needs a policy with a budget "
                  "below the window); Life by kind of character (needs a model of bytes); Recall (needs a tokenizer, "
                  "and windows within the trained context); Reading the prompt at once, Free running (needs "
                  "<code>--full</code>); The same decisions in other formats and builds (needs <code>--full</code> or "
                  "<code>--against</code>); Time (needs <code>--time</code>).</p>"),
        page.npos);
    EXPECT_EQ(page.find("<h2>Recall"), page.npos);
    EXPECT_EQ(page.find("id=\"data\""), page.npos);
  }
  const std::string whole_page = to_html(synthetic());
  EXPECT_EQ(whole_page.find("Not measured in this run"), std::string::npos);
  for (const char* id :
       {"numbers", "kept", "position", "survival", "kinds", "recall", "modes", "free", "agreement", "time"}) {
    EXPECT_NE(whole_page.find("<a href=\"#" + std::string(id) + "\">"), std::string::npos) << id;
    EXPECT_NE(whole_page.find("<section id=\"" + std::string(id) + "\">"), std::string::npos) << id;
  }
}

TEST(HtmlReport, FieldsOfAnotherKindCountAsAbsent) {
  report_json j = synthetic();
  j["recall"] = 0.5;
  j["trace"] = {1, 2};
  j["pairs"] = "none";
  for (auto& r : j["rows"]) r["interval"] = nullptr, r["survival"] = 3, r["life_by_kind"] = "x";
  const std::string page = to_html(j);
  EXPECT_NE(page.find("Recall (needs"), page.npos);
  EXPECT_NE(page.find("Survival (needs"), page.npos);
}

/// Puts `value` in the place of everything that `key` names, anywhere.
void put(report_json& j, const std::string& key, const report_json& value) {
  for (auto it = j.begin(); it != j.end(); ++it) {
    if (j.is_object() && it.key() == key)
      *it = value;
    else if (it->is_structured())
      put(*it, key, value);
  }
}
void collect_keys(const report_json& j, std::set<std::string>& keys) {
  for (auto it = j.begin(); it != j.end(); ++it) {
    if (j.is_object()) keys.insert(it.key());
    if (it->is_structured()) collect_keys(*it, keys);
  }
}

TEST(HtmlReport, DataCannotBecomeMarkup) {
  const std::string evil = "</script><script>alert(1)</script><!--<img src=x onerror='a' \"onload=b>";
  std::set<std::string> keys;
  collect_keys(synthetic(), keys);
  EXPECT_TRUE(keys.contains("budget") && keys.contains("policy"));
  keys.insert("");  // nothing
  for (const std::string& key : keys) {
    report_json j = synthetic();
    j["command_line"].push_back(evil);
    j["notes"].push_back(evil);
    put(j, key, evil);
    const std::string page = to_html(j);
    EXPECT_EQ(page.find("<img"), page.npos) << key;
    EXPECT_EQ(page.find("<!--"), page.npos) << key;
    EXPECT_EQ(page.find("<script>alert"), page.npos) << key;
    std::size_t scripts = 0, data = page.find("id=\"data\"") == page.npos ? 0 : 1;
    for (std::size_t at = 0; (at = page.find("</script>", at)) != page.npos; ++at) ++scripts;
    EXPECT_EQ(scripts, 1 + data) << key;  // the trace's data and the page's own
  }
}

TEST(HtmlReport, ThePageLetsNothingInThatIsNotItsOwn) {
  const std::string page = to_html(synthetic());
  EXPECT_NE(
      page.find("content=\"default-src 'none'; img-src data:; style-src 'sha256-" + sha256_base64(report_style) +
                "'; script-src 'sha256-" + sha256_base64(report_script) + "'; base-uri 'none'; form-action 'none'\""),
      page.npos);
  EXPECT_EQ(page.find(" style=\""), page.npos);  // the policy would not let it in
  EXPECT_LT(page.find("Content-Security-Policy"), page.find("<link"));
}

TEST(Sha256, IsThatOfTheStandard) {
  EXPECT_EQ(sha256_base64(""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
  EXPECT_EQ(sha256_base64("abc"), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
  EXPECT_EQ(sha256_base64(std::string(55, 'x')), "1eKFaDzU78AtAhpcYgFGlJWJAQBdb3HongmJ+sd+QHI=");
  EXPECT_EQ(sha256_base64(std::string(56, 'x')), "BMJiYTcO51QVSdFt7jIMcj4/0UZx5moJmv4KN3wWiI4=");
  EXPECT_EQ(sha256_base64(std::string(64, 'x')), "fOEAlx9k5wAej+WlGXPs3+HO1Cvv5+6NX9YhlQa1OTw=");
  EXPECT_EQ(sha256_base64(std::string(119, 'x')), "AAtI1O3w+nvuPGI27NJ4W6pdtO64u1Q0GwKeDZ+l+ww=");
  EXPECT_EQ(sha256_base64(std::string(1000, 'x')), "RPg1RJSlugO6F5Ko0+nFNMR6kYGYD956P0SwbvKufH8=");
}

TEST(HtmlReport, HostileNumbersAreNumbers) {
  std::set<std::string> keys;
  collect_keys(synthetic(), keys);
  const report_json all = synthetic();
  for (const std::string& key : keys)
    for (const report_json& value :
         {report_json(1e308), report_json(-7), report_json(nullptr), report_json::array({1e300, -1e300})}) {
      report_json j = all;
      put(j, key, value);
      const std::string page = to_html(j);
      EXPECT_EQ(page.find("nan\""), page.npos) << key << value;
      EXPECT_TRUE(page.ends_with("</body></html>\n"));
      EXPECT_TRUE(alike_in_both(all, j).is_array() && alike_in_both(j, all).is_array());
    }
}

TEST(HtmlReport, CaptionsSpeakOfWhatIsDrawn) {
  report_json j = small(8);
  const auto caption = [&] {
    const std::string page = to_html(j);
    const std::size_t at = page.find("<figcaption>");
    return page.substr(at, page.find("</figcaption>", at) - at);
  };
  EXPECT_NE(caption().find("Dotted: <code>random</code>, <code>oracle</code>. "), std::string::npos) << caption();
  EXPECT_NE(caption().find("room that choosing has"), std::string::npos);
  EXPECT_EQ(caption().find("95 %"), std::string::npos);
  j["rows"].erase(5);
  EXPECT_NE(caption().find("Dotted: <code>random</code>. "), std::string::npos);
  EXPECT_EQ(caption().find("oracle"), std::string::npos);
  EXPECT_EQ(caption().find("room"), std::string::npos);
  j["rows"].erase(4);
  EXPECT_EQ(caption(), "<figcaption>Lower is better, further left is smaller. ");
  j["rows"][1]["interval"] = {0.4, 0.6};
  EXPECT_NE(caption().find("Bands are 95 % intervals."), std::string::npos);
}

TEST(HtmlReport, ASurvivalCurveNeverRises) {
  report_json j = small(8);
  for (auto& r : j["rows"])
    if (!r["budget"].is_null())
      r["survival"] = {{{"age", 1}, {"alive", 1}}, {{"age", 10}, {"alive", 0.25}}, {{"age", 100}, {"alive", 1}}};
  const std::string page = to_html(j);
  EXPECT_NE(page.find("<title>tova: 0.25 at 100</title>"), page.npos);
  EXPECT_NE(page.find("<code>exact window</code>"), page.npos);
}

TEST(HtmlReport, NothingForgottenCostsNothing) {
  report_json j = small(1);
  j["windows"] = {{{"queries", 60}}};
  EXPECT_EQ(finding(j), "Nothing was forgotten in this run: every budget holds the longest window, 60 tokens.");
  j["windows"] = {{{"queries", 65}}};  // the last query sees k + 1
  EXPECT_EQ(finding(j).str().find("Nothing was forgotten"), 0u);
  j["windows"] = {{{"queries", 66}}};
  EXPECT_EQ(finding(j).str().find("With k = 64 "), 0u);
  j["chunk"] = 33;  // the second chunk sees k and itself
  EXPECT_EQ(finding(j).str().find("Nothing was forgotten"), 0u);
  j["rows"].push_back(row("tova", 16, 0.3, ""));
  EXPECT_EQ(
      finding(j),
      "With k = 16 states a layer (16 kB, 6.2 % of the unbounded cache), forgetting costs 0.30 nats per token under "
      "<code>tova</code>; 1 window is too few to rank them.");
}

TEST(HtmlReport, AnInterruptedRunSaysSo) {
  report_json j = small(8);
  EXPECT_EQ(to_html(j).find("Interrupted:"), std::string::npos);
  j["interrupted"] = true;
  EXPECT_NE(to_html(j).find("Interrupted:"), std::string::npos);
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

TEST(HtmlReport, APolicyLooksTheSameInEveryReport) {
  report_json j = small(8);
  EXPECT_EQ(style_of(j, "window"), 0);
  EXPECT_EQ(style_of(j, "h2o"), 3);
  EXPECT_EQ(style_of(j, "tova"), 5);
  const int mine = style_of(j, "mine");
  EXPECT_GE(mine, static_cast<int>(known_styles.size()));
  j["rows"].insert(j["rows"].begin() + 1, row("mine", 64, 0.1, ""));
  EXPECT_EQ(style_of(j, "tova"), 5);
  EXPECT_EQ(style_of(j, "mine"), mine);
  std::set<int> styles;
  for (int i = 0; i < plot_styles - static_cast<int>(known_styles.size()) - 1; ++i)
    j["rows"].push_back(row(("other" + std::to_string(i)).c_str(), 64, 0.1, ""));
  for (const auto& r : j["rows"])
    if (!is_reference(word_at(r, "policy"))) styles.insert(style_of(j, word_at(r, "policy")));
  EXPECT_EQ(styles.size(), 3 + static_cast<std::size_t>(plot_styles) - known_styles.size());  // each has its own
  EXPECT_LT(*styles.rbegin(), plot_styles);
}

TEST(HtmlReport, TheCostPlotHasTheRoomForChoosing) {
  const line_plot p = cost_plot(small(8));
  ASSERT_EQ(p.series.size(), 5u);  // Full is the zero line
  EXPECT_EQ(p.series[3].name, "random");
  EXPECT_TRUE(p.series[3].reference);
  EXPECT_DOUBLE_EQ(p.series[3].points[0].low, 0.001);  // the room down to the oracle
}

}  // namespace
