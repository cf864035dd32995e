#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include <tools/report/columns.hpp>
#include <tools/report/html_report.hpp>
#include <tools/report/report.hpp>
#include <tools/report/text.hpp>
#include <support/locale.hpp>

namespace {

using namespace multistate;
using namespace multistate::tools;

struct small_report {
  small_report() {
    texts[0].name = "a";
    texts[0].tokens.assign(40, 1);
    texts[0].bytes.assign(40, 1);
    sample = text_sample::make(texts, 16, 5, scoring::tail).value();
    r.sample = &*sample;
    r.command_line = {"compare", "--text", "a b"};
    r.bos = 5;
    r.outcome.windows = sample->windows().size();
    const auto add = [&](const char* policy, std::optional<int> budget) -> run_result& {
      run_result& row = r.results.emplace_back();
      row.policy = policy;
      row.budget = budget;
      return row;
    };
    add("full", std::nullopt).measured =
        figures{.nll = 1.25, .perplexity = 3.5, .kl_mean = 0, .kl_median = 0, .kl_p99 = 0, .top1_agreement = 1};
    add("tova,scope=head", 4).measured = figures{.nll = 9.5,
                                                 .nll_minus_full = 8.25,
                                                 .perplexity = 13359.7,
                                                 .states_attended_mean = 5,
                                                 .states_attended_max = 5,
                                                 .bytes_allocated = 123456};
    add("h2o,recent=64", 5).skipped = "needs \"0 <= recent <= budget\"";
    add("window", 8).measured = figures{.nll = INFINITY, .perplexity = INFINITY};
  }
  std::vector<token_text> texts{1};
  std::optional<text_sample> sample;
  report r;
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1)
    lines.push_back(text.substr(at, text.find('\n', at) - at));
  return lines;
}
std::size_t widest(const std::string& text) {
  std::size_t most = 0;
  for (const std::string& line : lines_of(text)) most = std::max(most, line.size());
  return most;
}

TEST(Report, TableIsAligned) {
  const small_report x;
  const auto json = to_json(x.r);
  const std::string table = table_text(json, {.width = 300});
  const auto lines = lines_of(table);
  int entries = 0;
  for (const std::string& line : lines) {
    const bool entry = line.starts_with("full ") || line.starts_with("tova") || line.starts_with("window");
    if (!entry) continue;
    EXPECT_EQ(line.size(), lines[0].size()) << line;  // every column ends in one place
    ++entries;
  }
  EXPECT_EQ(entries, 3);
  EXPECT_NE(table.find("skipped: needs"), table.npos);
  EXPECT_NE(table.find("  5 *   skipped"), table.npos) << table;  // 5 > 16/4
  EXPECT_NE(table.find("  8 **  "), table.npos);
  EXPECT_NE(table.find("  4     "), table.npos);
  EXPECT_EQ(table.find('\033'), table.npos);
  EXPECT_NE(table_text(json, {.colour = true}).find("\033[2mwindow"), table.npos);
}

TEST(Report, ColumnsThatFindNoRoomAreLeftOut) {
  const small_report x;
  const auto json = to_json(x.r);
  std::size_t before = 0;
  for (const int width : {30, 40, 60, 80, 120, 200}) {
    const std::string table = table_text(json, {.width = width});
    EXPECT_LE(widest(table), static_cast<std::size_t>(width)) << table;
    const std::size_t titles = lines_of(table)[0].size();
    EXPECT_GE(titles, before);
    before = titles;
    EXPECT_NE(table.find("cost"), table.npos);
  }
  EXPECT_EQ(table_text(json).find("alike"), std::string::npos) << "an empty column";
  small_report y;
  y.r.results[1].measured->letter = "ab";
  EXPECT_NE(table_text(to_json(y.r)).find("alike"), std::string::npos);
}

TEST(Report, NoLineIsWiderThanTheTerminal) {
  std::ifstream in(MULTISTATE_TEST_DATA "/report/synthetic.json");
  auto json = nlohmann::ordered_json::parse(in);
  small_report x;
  x.r.model = "models/demo";
  x.r.texts = {{.path = "story.txt", .tokens = 40, .used = 40}};
  x.r.command_line = {"compare", "--policies", "tova,window,h2o", "--budgets", "16,64,256",  "--text",
                      "a story", "--json",     "report.json",     "--html",    "report.html"};
  json["notes"].push_back("a note that is long enough to stand in more than one line of any terminal that there is");
  for (const int width : {80, 100, 160}) {
    const std::string text = report_text(x.r, json, {.width = width}, std::vector<std::string>{"report.html"});
    EXPECT_LE(widest(text), static_cast<std::size_t>(width)) << text;
    EXPECT_TRUE(text.ends_with("\nwrote report.html\n")) << text;
    EXPECT_NE(text.find("\n" + finding_text(json, {.width = width})), text.npos) << "the finding ends the text";
  }
}

TEST(Report, RecallHasItsDistancesOnTop) {
  report_json recall;
  recall["questions"] = 40;
  recall["cells"] = report_json::array();
  const auto add = [&](const char* policy, report_json budget, const char* variant, int distance, double share,
                       bool none = false) {
    recall["cells"].push_back({{"policy", policy},
                               {"budget", budget},
                               {"facts", 1},
                               {"variant", variant},
                               {"mode", "sequential"},
                               {"distance", distance},
                               {"share", share},
                               {"not_applicable", none}});
  };
  add("full", nullptr, "last", 16, 1);
  add("full", nullptr, "last", 32, 0.5, true);
  add("tova", 16, "last", 16, 0.075);
  add("full", nullptr, "removed", 16, 0);
  EXPECT_EQ(recall_text(recall),
            "recall   right answers, %, to one fact told so many tokens back; 40 questions\n"
            "         each; n/a: Full itself is right on fewer than 90 %\n"
            "                       16     32\n"
            "full                  100    n/a\n"
            "tova:16                 8\n"
            "full, fact removed      0\n");
  EXPECT_EQ(recall_text(nullptr), "");
  // More distances than there is room for stand below each other.
  for (int distance = 64; distance < 64 * 30; distance += 64) add("tova", 16, "last", distance, 0);
  EXPECT_LE(widest(recall_text(recall)), 80u) << recall_text(recall);
}

TEST(Report, LinesBreakAtSpaces) {
  EXPECT_EQ(wrapped("note: one two three", 12, 6), "note: one\n      two\n      three\n");
  EXPECT_EQ(wrapped("a   b", 80), "a   b\n");
  EXPECT_EQ(wrapped("a-word-that-is-wider b", 5), "a-word-that-is-wider\nb\n");
  EXPECT_EQ(wrapped("", 5), "\n");
}

TEST(Report, JsonIsNullWhereNothingWasMeasured) {
  const small_report x;
  const auto json = to_json(x.r);
  EXPECT_EQ(json["rows"].size(), 4u);
  EXPECT_TRUE(json["rows"][0]["budget"].is_null());
  EXPECT_EQ(json["rows"][0]["kl_mean"], 0.0);
  EXPECT_TRUE(json["rows"][1]["kl_mean"].is_null());
  EXPECT_TRUE(json["rows"][1]["recall"].is_null());
  EXPECT_TRUE(json["rows"][2]["nll"].is_null());
  EXPECT_EQ(json["rows"][2]["mark"], "k > T/4");
  EXPECT_TRUE(json["rows"][3]["nll"].is_null());  // JSON has no infinity
  EXPECT_EQ(json["windows"].size(), x.r.outcome.windows);
  EXPECT_EQ(json["window"], 16);
}

TEST(Report, CsvQuotes) {
  const small_report x;
  const std::string csv = to_csv(to_json(x.r));
  EXPECT_NE(csv.find("\n\"tova,scope=head\",4,9.5,8.25,"), csv.npos) << csv;
  EXPECT_NE(csv.find("\"needs \"\"0 <= recent <= budget\"\"\""), csv.npos) << csv;
  EXPECT_NE(csv.find("\nfull,,1.25,"), csv.npos) << csv;
}

TEST(Report, SaysWhatWasDoneWithTheBosOfTexts) {
  small_report x;
  x.r.texts = {{.path = "a.tokens", .tokens = 40, .used = 40, .bos_first = 1}};
  EXPECT_EQ(bos_rule(x.r), "BOS (token 5) opens every window; the ids begin with it, and it is read once");
  x.r.texts.push_back({.path = "b.tokens", .bos_inside = 3});
  x.r.texts.push_back({.path = "c.tokens", .bos_first = 2});
  EXPECT_EQ(
      bos_rule(x.r),
      "BOS (token 5) opens every window; it is read once where the ids begin with it (a.tokens, c.tokens); 3 inside "
      "the texts, which are no targets");
  const auto json = to_json(x.r);
  EXPECT_EQ(json["bos_rule"], bos_rule(x.r));
  EXPECT_EQ(json["texts"][2]["bos_first"], 2);
  EXPECT_EQ(json["texts"][1]["bos_inside"], 3);
  EXPECT_NE(header_text(x.r, {.width = 400}).find(bos_rule(x.r) + "\n"), std::string::npos) << "in full";
  x.r.bos_reason = "--bos yes";
  EXPECT_TRUE(bos_rule(x.r).starts_with("BOS (token 5) opens every window (--bos yes); "));
  x.r.bos = -1;
  x.r.bos_reason.clear();
  EXPECT_EQ(bos_rule(x.r), "no BOS: the model has none");
  x.r.bos_reason = "the tokenizer adds none";
  EXPECT_EQ(bos_rule(x.r), "no BOS: the tokenizer adds none");
}

TEST(Report, NoPathIsTooLong) {
  small_report x;
  x.r.model = std::string(300, 'm') + "/{braces} %s";
  report::text& text = x.r.texts.emplace_back();
  text.path.assign(5000, 't');
  text.hash = 0xabc;
  text.tokens = 7;
  text.used = 5;
  const std::string head = header_text(x.r);  // a word is never cut
  EXPECT_NE(head.find("\nmodel    " + x.r.model.substr(0, 300) + "/{braces}\n         %s   0000000000000000   trained"),
            head.npos)
      << head;
  EXPECT_NE(head.find("\ntext     " + x.r.texts[0].path + "\n         0000000000000abc   5 of 7 tokens\n"), head.npos)
      << head;
  x.r.model = "a\nb\x1b[2J";
  EXPECT_NE(header_text(x.r).find("\nmodel    a\\x0ab\\x1b[2J   "), head.npos) << header_text(x.r);
  small_report y;
  y.r.results[1].policy = std::string(300, 'p');
  y.r.results[2].skipped = std::string(1000, 's');
  const std::string table = table_text(to_json(y.r));
  EXPECT_NE(table.find("ppp..  "), table.npos) << table;
  EXPECT_NE(table.find(y.r.results[2].skipped + "\n"), table.npos);
}

TEST(Report, NoLocaleChangesIt) {
  const small_report x;
  const auto outputs = [&] {
    const auto json = to_json(x.r);
    return std::vector{header_text(x.r), table_text(json, {.colour = true}), to_csv(json), json.dump(2), to_html(json)};
  };
  const auto plain = outputs();
  const support::comma_locale there;
  EXPECT_EQ(outputs(), plain);
  EXPECT_EQ(nlohmann::ordered_json::parse(plain[3]), to_json(x.r));
  if (!there.in_c()) GTEST_SKIP() << "no locale with decimal commas; C++ alone had one";
}

TEST(Report, MarksGoByTheLongestWindowThereIs) {
  small_report x;
  x.texts[0].tokens.resize(10);
  x.texts[0].bytes.resize(10);
  x.sample = text_sample::make(x.texts, 1024, 5, scoring::tail).value();
  x.r.sample = &*x.sample;
  x.r.outcome.windows = 1;
  const auto json = to_json(x.r);
  EXPECT_EQ(json["window"], 1024);
  EXPECT_EQ(json["rows"][1]["mark"], "k > T/4");   // 4 of 10
  EXPECT_EQ(json["rows"][2]["mark"], "k >= T/2");  // 5 of 10
  const std::string table = table_text(json);
  EXPECT_NE(table.find("  4 *   "), table.npos) << table;
  EXPECT_NE(table.find("  5 **  "), table.npos);
  EXPECT_NE(table.find("(T = 10, the tokens of the longest window)"), table.npos) << table;
}

TEST(Report, NotesSayWhatTheNumbersCannot) {
  small_report x;
  const auto notes = [&] {
    std::string out;
    for (const std::string& note : sample_notes(x.r)) out += note + "\n";
    return out;
  };
  const auto says = [&](const char* message) { return notes().find(message) != std::string::npos; };
  x.r.statistics.blocks = 3;
  EXPECT_TRUE(says("no 95 % intervals: they need 4 blocks of windows to draw from, here are 3\n")) << notes();
  EXPECT_NE(header_text(x.r).find("95 %     no intervals: too few windows\n"), std::string::npos);
  x.r.statistics.blocks = 4;
  EXPECT_TRUE(says("95 % intervals from 4 blocks of windows are rough"));
  x.r.statistics.blocks = 10;
  EXPECT_FALSE(says("95 %"));
  EXPECT_TRUE(says("intervals and ranks speak of these texts only (fewer than five)\n")) << notes();
  x.r.results[3].budget = 14;
  EXPECT_FALSE(says("nothing was forgotten"));
  x.r.results[3].budget = 15;  // the last query sees k + 1
  EXPECT_TRUE(says("k = 15: nothing was forgotten, the longest window has 16 tokens")) << notes();
  EXPECT_TRUE(says("fewer than 30 windows: no ranking\n"));
  EXPECT_TRUE(says("a text this short says next to nothing about policies: 32 tokens are scored")) << notes();
}

TEST(Report, NothingIsPutInTheIntervalsPlace) {
  small_report x;
  x.r.statistics.pairs.push_back({.budget = 4, .a = 1, .b = 3, .difference = 0.5});
  const auto json = to_json(x.r);
  EXPECT_TRUE(json["rows"][1]["interval"].is_null());
  for (const char* key : {"interval", "p", "p_holm"}) EXPECT_TRUE(json["pairs"][0][key].is_null()) << key;
  EXPECT_NE(to_csv(json).find("\n\"tova,scope=head\",4,9.5,8.25,13359.7,,,,"), std::string::npos) << to_csv(json);
  EXPECT_NE(to_html(json).find("<td>0.5000</td><td>&#8211;</td><td>&#8211;</td><td>&#8211;</td>"), std::string::npos);
}

TEST(Report, KeysOfTheJsonAndColumnsOfTheCsvStay) {
  small_report x;
  x.r.results[1].seeds = {0, 1};
  const auto json = to_json(x.r);
  std::string keys;
  for (const auto& [key, value] : json["rows"][1].items()) keys += key + " ";
  EXPECT_EQ(
      keys,
      "policy budget scope position_mode nll nll_minus_full perplexity bits_per_byte kl_mean kl_median kl_p99 "
      "top1_agreement recall tokens_per_second states_attended_mean states_attended_max mean_life bytes_allocated "
      "bytes_live seeds mark skipped interval gap_closed kept_mass letter nll_by_position survival life_by_kind "
      "window_differences ");
  keys.clear();
  for (const auto& [key, value] : json.items()) keys += key + " ";
  EXPECT_EQ(keys,
            "program version commit command_line model texts bos bos_rule window stride score scored_tokens "
            "scored_bytes chunk format products simd_target threads extrapolation interrupted notes windows rows "
            "bootstrap pairs "
            "trace recall prompt_modes free_run agreement time against ");
  EXPECT_TRUE(
      to_csv(to_json(x.r))
          .starts_with(
              "policy,budget,nll,nll_minus_full,perplexity,bits_per_byte,interval_low,interval_high,letter,gap_closed,"
              "kept_mass,kl_mean,kl_median,kl_p99,top1_agreement,recall,tokens_per_second,states_attended_mean,"
              "states_attended_max,mean_life,bytes_allocated,bytes_live,mark,skipped\n"));
  EXPECT_EQ(to_json(x.r)["rows"][1]["window_differences"], nlohmann::ordered_json::array());
  EXPECT_TRUE(to_json(x.r)["recall"].is_null());
}

TEST(Report, WhatOtherRunsGaveStandsBesideTheFigures) {
  small_report x;
  const auto cell = [](const char* variant, int distance, double share, bool none) {
    return report_json{
        {"policy", "tova,scope=head"}, {"budget", 4},          {"facts", 1},     {"variant", variant},
        {"mode", "sequential"},        {"distance", distance}, {"share", share}, {"not_applicable", none}};
  };
  x.r.recall = {{"cells",
                 {cell("last", 2, 1, false), cell("last", 4, 0.5, false), cell("last", 8, 0, true),
                  cell("removed", 4, 0, false)}}};
  x.r.time = {{"rows", {{{"policy", "tova,scope=head"}, {"budget", 4}, {"tokens_per_second", {{"median", 7}}}}}}};
  x.r.prompt_modes = {{{"policy", "tova,scope=head"}, {"budget", 4}, {"mode", "sequential"}, {"recall", nullptr}}};
  const auto json = to_json(x.r);
  EXPECT_EQ(json["rows"][1]["recall"], 0.75);
  EXPECT_TRUE(json["rows"][0]["recall"].is_null());
  EXPECT_EQ(json["rows"][1]["tokens_per_second"], 7);
  EXPECT_EQ(json["prompt_modes"][0]["recall"], 0.75);
}

TEST(Report, ResultsAreValues) {
  policy_run run;
  run.policy = "tova@log";
  run.budget = 4;
  run.skipped = "no room";
  run.positions = position_mode::log;
  const run_result result = result_of(run);
  EXPECT_EQ(result.policy, "tova@log");
  EXPECT_EQ(result.positions, position_mode::log);
  EXPECT_FALSE(result.scope.has_value());
  small_report x;
  x.r.results.push_back(result);
  const auto json = to_json(x.r)["rows"][4];
  EXPECT_EQ(json["position_mode"], "log");
  EXPECT_TRUE(json["scope"].is_null());
  EXPECT_EQ(json["skipped"], "no room");
}

TEST(Report, EveryWriterKnowsItsColumns) {
  for (const auto keys : {text_columns(), page_columns(), more_columns()})
    for (const std::string_view key : keys) EXPECT_FALSE(column_of(key).title.empty()) << key;
  for (const std::string_view key : csv_columns())
    EXPECT_TRUE(key.starts_with("interval_") || column_of(key).key == key) << key;
  for (const budget_mark mark : {budget_mark::none, budget_mark::above_quarter, budget_mark::above_half})
    EXPECT_EQ(parse_mark(text_of(mark)), mark);
  EXPECT_EQ(mark_of(4, 16), budget_mark::none);
  EXPECT_EQ(mark_of(5, 16), budget_mark::above_quarter);
  EXPECT_EQ(mark_of(8, 16), budget_mark::above_half);
  EXPECT_EQ(mark_of(std::nullopt, 16), budget_mark::none);
}

TEST(Report, HeaderSaysHowItWasDone) {
  const small_report x;
  const std::string head = header_text(x.r);
  EXPECT_NE(head.find("compare --text 'a b'"), head.npos) << head;
  EXPECT_NE(head.find("T = 16, stride 8; BOS (token 5) opens every"), head.npos) << head;
  EXPECT_NE(head.find("queries from 8 on"), head.npos) << head;
}

}  // namespace
