#include <gtest/gtest.h>

#include <tools/report/html_report.hpp>
#include <tools/report/report.hpp>
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
    const auto add = [&](const char* policy, std::optional<int> budget) -> policy_run& {
      policy_run& row = r.rows.emplace_back();
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

TEST(Report, TableIsAligned) {
  const small_report x;
  const std::string table = table_text(x.r, false);
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < table.size(); at = table.find('\n', at) + 1)
    lines.push_back(table.substr(at, table.find('\n', at) - at));
  const auto bars = [](const std::string& line) {
    std::vector<std::size_t> out;
    for (std::size_t i = 0; i < line.size(); ++i)
      if (line[i] == '|') out.push_back(i);
    return out;
  };
  int rows = 0;
  for (const std::string& line : lines) {
    if (line.find('|') == line.npos || line.find("skipped") != line.npos) continue;
    if (line.find("KL(Full") != line.npos) continue;  // its title has bars
    EXPECT_EQ(bars(line), bars(lines[1])) << line;
    ++rows;
  }
  EXPECT_EQ(rows, 4);
  EXPECT_NE(table.find("skipped: needs"), table.npos);
  EXPECT_NE(table.find("     5 *  |"), table.npos);  // 5 > 16/4
  EXPECT_NE(table.find("     8 ** |"), table.npos);
  EXPECT_NE(table.find("     4    |"), table.npos);
  EXPECT_EQ(table.find('\033'), table.npos);
  EXPECT_NE(table_text(x.r, true).find("\033[2mwindow"), table.npos);
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
  EXPECT_NE(header_text(x.r).find(bos_rule(x.r) + "\n"), std::string::npos) << "in full";
  x.r.bos = -1;
  EXPECT_EQ(bos_rule(x.r), "no BOS: the model has none");
}

TEST(Report, NoPathIsTooLong) {
  small_report x;
  x.r.model = std::string(300, 'm') + "/{braces} %s";
  x.r.texts.push_back({std::string(5000, 't'), 0xabc, 7, 5});
  const std::string head = header_text(x.r);
  EXPECT_NE(head.find("\nmodel    " + x.r.model + "   0000000000000000   trained context unknown\n"), head.npos)
      << head;
  EXPECT_NE(head.find("\ntext     " + x.r.texts[0].path + "   0000000000000abc   5 of 7 tokens\n"), head.npos) << head;
  x.r.model = "a\nb\x1b[2J";
  EXPECT_NE(header_text(x.r).find("\nmodel    a\\x0ab\\x1b[2J   "), head.npos) << header_text(x.r);
  small_report y;
  y.r.rows[1].measured->letter = std::string(300, 'a');
  y.r.rows[2].skipped = std::string(1000, 's');
  const std::string table = table_text(y.r, false);
  EXPECT_NE(table.find(y.r.rows[1].measured->letter + "|"), table.npos);
  EXPECT_NE(table.find("skipped: " + y.r.rows[2].skipped + "\n"), table.npos);
}

TEST(Report, NoLocaleChangesIt) {
  const small_report x;
  const auto outputs = [&] {
    const auto json = to_json(x.r);
    return std::vector{header_text(x.r), table_text(x.r, true), to_csv(json), json.dump(2), to_html(json)};
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
  const std::string table = table_text(x.r, false);
  EXPECT_NE(table.find("     4 *  |"), table.npos);
  EXPECT_NE(table.find("     5 ** |"), table.npos);
  EXPECT_NE(table.find("(T = 10, the tokens of the longest window)"), table.npos) << table;
}

TEST(Report, NotesSayWhatTheNumbersCannot) {
  small_report x;
  const auto notes = [&] {
    std::string out;
    for (const std::string& note : sample_notes(x.r, *x.sample, 1)) out += note + "\n";
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
  x.r.rows[3].budget = 14;
  EXPECT_FALSE(says("nothing was forgotten"));
  x.r.rows[3].budget = 15;  // the last query sees k + 1
  EXPECT_TRUE(says("k = 15: nothing was forgotten, the longest window has 16 tokens")) << notes();
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

TEST(Report, HeaderSaysHowItWasDone) {
  const small_report x;
  const std::string head = header_text(x.r);
  EXPECT_NE(head.find("compare --text 'a b'"), head.npos) << head;
  EXPECT_NE(head.find("T = 16, stride 8; BOS (token 5) opens every window"), head.npos) << head;
  EXPECT_NE(head.find("queries from 8 on"), head.npos) << head;
}

}  // namespace
