#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <tools/report/html_report.hpp>
#include <tools/report/page_files.hpp>
#include <tools/report/page_sections.hpp>
#include <tools/report/policy_names.hpp>
#include <tools/report/sha256.hpp>
#include <tools/report/trace.hpp>
#include <tools/report/verdict.hpp>

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

std::string finding(const report_json& report) { return plain(verdict_of(report).cost); }

TEST(HtmlReport, UnderThirtyWindowsNothingIsRanked) {
  EXPECT_EQ(
      finding(small(29)),
      "With k = 64 states a layer (64 kB, 25 % of the unbounded cache), tova loses least, 0.020 nats per token "
      "(2.0 % higher perplexity); window loses most, 0.50 (65 % higher perplexity); 29 windows are too few to rank "
      "them.");
  EXPECT_NE(finding(small(1)).find("; 1 window is too few to rank them."), std::string::npos);
}

TEST(HtmlReport, WhoCannotBeToldApartIsNamedTogether) {
  EXPECT_EQ(
      finding(small(30)),
      "With k = 64 states a layer (64 kB, 25 % of the unbounded cache), tova and h2o lose least and can't be told "
      "apart, 0.020 to 0.030 nats per token (at most 3.0 % higher perplexity); window loses most, 0.50 (65 % higher "
      "perplexity).");
  report_json alone = small(30);
  alone["rows"][3]["letter"] = "b";
  EXPECT_NE(finding(alone).find("tova loses least, 0.020 nats"), std::string::npos);
  report_json plain = small(30);
  for (auto& r : plain["rows"]) r["letter"] = nullptr;
  EXPECT_NE(finding(plain).find("without intervals they are not ranked"), std::string::npos);
  report_json same = small(30);
  for (auto& r : same["rows"]) r["letter"] = "a";
  EXPECT_EQ(finding(same).find("loses most"), std::string::npos) << "nobody is worse than the best";
}

TEST(HtmlReport, TheVerdictSaysWhatCostsMeanForThePerplexity) {
  const auto with = [](double cost) {
    report_json j = small(8);
    for (auto& r : j["rows"]) r["nll_minus_full"] = cost;
    return finding(j);
  };
  EXPECT_NE(with(0.1).find("(11 % higher perplexity)"), std::string::npos) << with(0.1);
  EXPECT_NE(with(0).find("(the same perplexity)"), std::string::npos);
  EXPECT_NE(with(-0.002).find("-0.002 nats per token (0.2 % lower perplexity)"), std::string::npos) << with(-0.002);
  EXPECT_NE(with(3).find("(20 times the perplexity)"), std::string::npos) << with(3);
  EXPECT_NE(to_markup(verdict_of(small(8)).cost).str().find("<code>tova</code> loses least"), std::string::npos);
  EXPECT_EQ(to_markup({{phrase::kind::number, "-0.5"}, {phrase::kind::words, " <"}}), "&#8722;0.5 &lt;");
}

/// Cells of one fact, asked at a distance of `times` budgets.
report_json recalled(report_json j, const std::vector<std::tuple<const char*, double, double>>& cells) {
  j["recall"]["cells"] = report_json::array();
  for (const auto& [policy, times, share] : cells)
    j["recall"]["cells"].push_back({{"policy", policy},
                                    {"budget", 64},
                                    {"facts", 1},
                                    {"variant", "last"},
                                    {"mode", "sequential"},
                                    {"distance", 64 * times},
                                    {"asked", 40},
                                    {"share", share},
                                    {"full_share", 1},
                                    {"not_applicable", false}});
  return j;
}

TEST(HtmlReport, TheVerdictSaysWhetherFactsBeyondTheBudgetAreLost) {
  const auto say = [](const std::vector<std::tuple<const char*, double, double>>& cells) {
    return plain(verdict_of(recalled(small(8), cells)).recall);
  };
  EXPECT_EQ(plain(verdict_of(small(8)).recall), "");
  EXPECT_EQ(say({{"tova", 1, 1}, {"window", 1, 1}}), "") << "nothing further back was asked";
  EXPECT_EQ(say({{"tova", 1, 1}, {"tova", 2, 0}, {"window", 2, 0}, {"random", 2, 0.5}}),
            "Facts told further back than the last k tokens are lost under every policy: no question about them is "
            "answered right; the unbounded cache answers 100 %.");
  EXPECT_EQ(say({{"tova", 2, 0.05}, {"tova", 4, 0}, {"window", 2, 0}}),
            "Facts told further back than the last k tokens are lost under every policy: at most 3 % of the questions "
            "about them are answered right; the unbounded cache answers 100 %.");
  EXPECT_EQ(say({{"tova", 2, 0.5}, {"window", 2, 0}}),
            "Of questions about facts told further back than the last k tokens tova answers most, 50 %, and window "
            "fewest, 0 %; the unbounded cache answers 100 %.");
  EXPECT_EQ(say({{"tova", 2, 0.95}}),
            "Facts told further back than the last k tokens are remembered under tova: at least 95 % of the questions "
            "about them are answered right; the unbounded cache answers 100 %.");
  report_json none = recalled(small(8), {{"tova", 2, 0}});
  none["recall"]["cells"][0]["not_applicable"] = true;
  EXPECT_EQ(plain(verdict_of(none).recall), "");
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
    EXPECT_NE(
        page.find(
            "Not measured in this run: Recall (needs a tokenizer, and windows within the trained context); What was "
            "kept, Cost by position, Survival (needs a policy with a budget below the window); Life by kind of "
            "character (needs a model of bytes); Reading the prompt at once, Free running (needs "
            "<code>--full</code>); The same decisions in other formats and builds (needs <code>--full</code> or "
            "<code>--against</code>); Time (needs <code>--time</code>).</p>"),
        page.npos);
    EXPECT_EQ(page.find("<h2>Recall"), page.npos);
    EXPECT_EQ(page.find("id=\"data\""), page.npos);
  }
  const std::string whole_page = to_html(synthetic());
  EXPECT_EQ(whole_page.find("Not measured in this run"), std::string::npos);
}

/// What comes between two texts, each time that they stand in the page.
std::vector<std::string> between(const std::string& page, const std::string& before, const std::string& after) {
  std::vector<std::string> out;
  for (std::size_t at = 0; (at = page.find(before, at)) != page.npos;) {
    at += before.size();
    out.push_back(page.substr(at, page.find(after, at) - at));
  }
  return out;
}

TEST(HtmlReport, TheNavigationLeadsToEverySectionThatThereIs) {
  for (const report_json& j : {synthetic(), small(8), report_json(nullptr)}) {
    const std::string page = to_html(j);
    const std::string nav = between(page, "<nav", "</nav>")[0];
    const auto links = between(nav, "href=\"#", "\""), sections = between(page, "<section id=\"", "\"");
    EXPECT_EQ(links, sections);
    std::vector<std::string> filled;
    for (const page_section& s : page_sections(j))
      if (!s.body.empty()) filled.push_back(s.id);
    EXPECT_EQ(sections, filled);
  }
  EXPECT_EQ(page_sections(synthetic()).size(), between(to_html(synthetic()), "<section id=\"", "\"").size());
}

TEST(HtmlReport, WhatIsNotKnownIsLeftOut) {
  report_json j = synthetic();
  EXPECT_NE(to_html(j).find("<th scope=\"row\">commit</th>"), std::string::npos);
  j["commit"] = nullptr;
  const std::string page = to_html(j);
  EXPECT_EQ(page.find("commit</th>"), page.npos);
  EXPECT_EQ(page.find("unknown"), page.npos);
}

TEST(HtmlReport, ThePoliciesOfTheReportAreExplained) {
  const std::string page = to_html(small(8));
  EXPECT_NE(page.find("https://arxiv.org/abs/2401.06104\">TOVA</a>"), page.npos);
  EXPECT_NE(page.find("https://arxiv.org/abs/2306.14048\">H2O</a>"), page.npos);
  EXPECT_EQ(page.find("StreamingLLM"), page.npos) << "no sinks in this report";
  EXPECT_EQ(page.find("@incache"), page.npos);
  EXPECT_NE(page.find("0.1 nats per token is a perplexity 10 % higher"), page.npos);
  EXPECT_NE(to_html(synthetic()).find("https://arxiv.org/abs/2309.17453\">StreamingLLM</a>"), page.npos);
  EXPECT_EQ(words_of("window+4@incache")->arxiv, "2309.17453");
  EXPECT_EQ(words_of("window")->arxiv, "");
  EXPECT_EQ(words_of("tova,scope=head")->base, "tova");
  EXPECT_EQ(words_of("mine"), nullptr);
  EXPECT_TRUE(is_reference("random,seed=3") && is_reference("short") && is_reference("full"));
  EXPECT_FALSE(is_reference("randomised") || is_reference("window"));
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
  EXPECT_NE(page.find("content=\"default-src 'none'; img-src data:; style-src 'sha256-" + sha256_base64(page_css()) +
                      "'; script-src 'sha256-" + sha256_base64(page_js()) + "'; base-uri 'none'; form-action 'none'\""),
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
  EXPECT_EQ(finding(j).find("Nothing was forgotten"), 0u);
  j["windows"] = {{{"queries", 66}}};
  EXPECT_EQ(finding(j).find("With k = 64 "), 0u);
  j["chunk"] = 33;  // the second chunk sees k and itself
  EXPECT_EQ(finding(j).find("Nothing was forgotten"), 0u);
  j["rows"].push_back(row("tova", 16, 0.3, ""));
  EXPECT_EQ(
      finding(j),
      "With k = 16 states a layer (16 kB, 6.2 % of the unbounded cache), forgetting costs 0.30 nats per token under "
      "tova (35 % higher perplexity); 1 window is too few to rank them.");
}

TEST(HtmlReport, AnInterruptedRunSaysSo) {
  report_json j = small(8);
  EXPECT_EQ(to_html(j).find("Interrupted:"), std::string::npos);
  j["interrupted"] = true;
  EXPECT_NE(to_html(j).find("Interrupted:"), std::string::npos);
  EXPECT_EQ(
      plain(verdict_of(j).interrupted),
      "The run was interrupted: the figures are of the 8 windows that it finished, and may change when it goes on.");
  j = small(1);
  j["interrupted"] = true;
  EXPECT_NE(plain(verdict_of(j).interrupted).find("of the one window that it finished"), std::string::npos);
  EXPECT_TRUE(verdict_of(small(8)).interrupted.empty());
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
  EXPECT_EQ(style_of("window"), 0);
  EXPECT_EQ(style_of("h2o"), 3);
  EXPECT_EQ(style_of("tova"), 5);
  // In reports with other policies beside it, whatever their order.
  report_json a = small(8), b = small(8);
  b["rows"].insert(b["rows"].begin() + 1, row("mine", 64, 0.1, ""));
  a["rows"].push_back(row("mine", 64, 0.1, ""));
  a["rows"].push_back(row("another", 64, 0.2, ""));
  const auto styles = [](const report_json& j) {
    std::map<std::string, std::pair<int, bool>> out;
    for (const plot_series& s : cost_plot(j).series) out[s.name] = {s.style, s.reference};
    return out;
  };
  const auto in_a = styles(a), in_b = styles(b);
  for (const char* name : {"window", "tova", "h2o", "random", "oracle", "mine"})
    EXPECT_EQ(in_a.at(name), in_b.at(name));
  std::set<int> known;
  for (const char* name : {"window", "window+4", "window+4@incache", "h2o", "h2o,scope=layer", "tova",
                           "tova,scope=head", "knorm", "window+4@log", "window+1", "tova@incache", "tova@log"})
    known.insert(style_of(name));
  EXPECT_EQ(known.size(), 12u);
  for (int i = 0; i < 100; ++i) {
    const int mine = style_of("other" + std::to_string(i));
    EXPECT_TRUE(mine >= 12 && mine < plot_styles && !known.contains(mine)) << mine;
  }
}

TEST(HtmlReport, NoTwoStylesAreAlike) {
  std::set<std::pair<int, std::string>> seen;
  for (int style = 0; style < plot_styles; ++style) seen.emplace(style % plot_colours, plot_mark(style, 0, 0).str());
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(plot_styles));
}

TEST(HtmlReport, TheCostPlotHasTheRoomForChoosing) {
  const line_plot p = cost_plot(small(8));
  ASSERT_EQ(p.series.size(), 5u);  // Full is the zero line
  EXPECT_EQ(p.series[3].name, "random");
  EXPECT_TRUE(p.series[3].reference);
  EXPECT_DOUBLE_EQ(p.series[3].points[0].low, 0.001);  // the room down to the oracle
}

}  // namespace
