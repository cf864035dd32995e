#include <tools/report/page_sections.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <multistate/eval/lives.hpp>
#include <tools/report/columns.hpp>
#include <tools/terminal/flags.hpp>

namespace multistate::tools {

namespace {

/// A table that scrolls inside itself on a narrow screen. Titles and cells are HTML; the first column names the entry.
class html_table {
 public:
  html_table(const markup& caption, const std::vector<markup>& titles, std::size_t words = 1)
      : words_(words), columns_(titles.size()) {
    html_ = "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"" + caption + "\"><table><caption>" +
            caption + "</caption><thead><tr>";
    std::size_t i = 0;
    for (const markup& title : titles)
      html_ += (i++ < words_ ? "<th scope=\"col\" class=\"word\">" : "<th scope=\"col\">") + title + "</th>";
    html_ += "</tr></thead><tbody>";
  }
  void line(const std::vector<markup>& cells, const markup& kind = {}) {
    html_ += kind.empty() ? "<tr>" : "<tr class=\"" + kind + "\">";
    for (std::size_t i = 0; i < cells.size(); ++i)
      html_ += i == 0       ? "<th scope=\"row\">" + cells[i] + "</th>"
               : i < words_ ? "<td class=\"word\">" + cells[i] + "</td>"
                            : "<td>" + cells[i] + "</td>";
    html_ += "</tr>";
    ++lines_;
  }
  /// An entry whose third cell takes the place of all that would follow.
  void remark(const markup& name, const markup& second, const markup& words) {
    html_ += "<tr><th scope=\"row\">" + name + "</th><td>" + second + "</td><td class=\"word absent\" colspan=\"" +
             whole(columns_ - 2) + "\">" + words + "</td></tr>";
    ++lines_;
  }
  bool empty() const noexcept { return lines_ == 0; }
  markup str() const { return html_ + "</tbody></table></div>\n"; }

 private:
  markup html_;
  std::size_t words_, columns_, lines_ = 0;
};

}  // namespace

markup cell_number(double x, int digits, double factor) {
  const std::string text = fixed_number(x, digits, factor);
  if (text.empty()) return "&#8211;";
  return text[0] == '-' ? "&#8722;" + markup::as_is(std::string_view(text).substr(1)) : markup::as_is(text);
}
markup name_cell(const report_json& entry) { return code(word_at(entry, "policy")); }
markup budget_cell(const report_json& entry) { return escaped(cell_text(column_of("budget"), entry)); }
namespace {

markup interval_cell(const report_json& entry, int digits) {
  const double low = end_at(entry, "interval", 0), high = end_at(entry, "interval", 1);
  return std::isfinite(low) ? cell_number(low, digits) + " to " + cell_number(high, digits) : "&#8211;";
}

/// Of the table of results.
markup result_cell(const column& c, const report_json& entry) {
  switch (c.kind) {
    case column_kind::policy:
      return name_cell(entry);
    case column_kind::budget: {
      const budget_mark mark = parse_mark(word_at(entry, "mark"));
      return budget_cell(entry) + (mark == budget_mark::above_half      ? "&#8202;**"
                                   : mark == budget_mark::above_quarter ? "&#8202;*"
                                                                        : "");
    }
    case column_kind::number:
      return cell_number(number_at(entry, c.key), c.digits, c.factor);
    case column_kind::interval:
      return interval_cell(entry, c.digits);
    default:
      return escaped(word_at(entry, c.key));
  }
}

html_table result_table(const markup& caption, std::span<const std::string_view> keys, const report_json& entries) {
  const std::vector<const column*> columns = filled_columns(keys, entries);
  std::vector<markup> titles;
  for (const column* c : columns)
    titles.push_back(escaped(c->title) + (c->unit.empty() ? "" : ", " + escaped(c->unit)));
  html_table t(caption, titles);
  report_json group;
  for (const report_json& entry : entries) {
    const std::string skipped = word_at(entry, "skipped");
    const bool grey = parse_mark(word_at(entry, "mark")) == budget_mark::above_half,
               first = field(entry, "budget") != group;
    group = field(entry, "budget");
    if (!skipped.empty()) {
      t.remark(name_cell(entry), budget_cell(entry), "skipped: " + escaped(skipped));
      continue;
    }
    std::vector<markup> cells;
    for (const column* c : columns) cells.push_back(result_cell(*c, entry));
    t.line(cells, grey ? first ? "grey first" : "grey" : first ? "first" : "");
  }
  return t;
}

/// What the columns of a table mean, those that it has.
markup column_words(std::span<const std::string_view> keys, const report_json& entries) {
  struct words {
    std::string_view key;
    const char* text;
  };
  static constexpr std::array all{
      words{"nll_minus_full", "<i>Cost</i>: nats per token above the unbounded cache&#39;s (NLL minus Full&#39;s). "},
      words{"letter", "Policies of one budget that share a letter under <i>alike</i> can&#39;t be told apart. "},
      words{"recall",
            "<i>Recall</i>: questions about facts told earlier that are answered right, mean over distances. "},
      words{"states_attended_mean", "<i>States</i>: attended by a query. "},
      words{"bytes_allocated", "<i>Memory</i>: all that one sequence takes. "},
      words{"nll", "<i>NLL</i>: negative log-likelihood of the text. "},
      words{"kl_mean", "<i>KL</i>: divergence of the predictions from the unbounded cache&#39;s. "},
      words{"top1_agreement", "<i>Top-1</i>: how often the likeliest token is the same. "},
      words{"gap_closed", "<i>Gap closed</i>: how much of what <code>random</code> loses a policy does not lose. "},
      words{"kept_mass",
            "<i>Mass kept</i>: the share of the unbounded cache&#39;s attention that falls on states that "
            "the policy has. "},
      words{"mean_life", "<i>Life</i>: queries that see a state. "},
      words{"bytes_live", "<i>Live</i>: its keys and values. "}};
  markup out;
  for (const column* c : filled_columns(keys, entries))
    for (const words& w : all)
      if (w.key == c->key) out += w.text;
  return out;
}

}  // namespace

markup main_tables(const report_json& report) {
  const report_json& entries = list_at(report, "rows");
  bool starred = false, greyed = false;
  for (const report_json& entry : entries) {
    const budget_mark mark = parse_mark(word_at(entry, "mark"));
    starred = starred || mark == budget_mark::above_quarter;
    greyed = greyed || mark == budget_mark::above_half;
  }
  return result_table("What each policy costs and keeps", page_columns(), entries).str() + "<p class=\"caption\">" +
         column_words(page_columns(), entries) + (starred ? "* k &gt; T/4: not much was forgotten. " : "") +
         (greyed ? "** k &#8805; T/2: little or nothing was forgotten. " : "") +
         (starred || greyed ? "T: the longest window. " : "") +
         "</p>\n<details><summary>More figures of each policy</summary>" +
         result_table("More figures", more_columns(), entries).str() + "<p class=\"caption\">" +
         column_words(more_columns(), entries) + "</p></details>\n";
}

markup pair_table(const report_json& report) {
  html_table t("Differences between policies, nats per token",
               {"first", "second", "k", "difference", "95 % interval", "p", "p (Holm)"}, 2);
  for (const report_json& p : list_at(report, "pairs"))
    t.line({code(word_at(p, "a")), code(word_at(p, "b")), escaped(word_at(p, "budget")),
            cell_number(number_at(p, "difference"), 4), interval_cell(p, 4), cell_number(number_at(p, "p"), 4),
            cell_number(number_at(p, "p_holm"), 4)});
  if (t.empty()) return {};
  return "<details><summary>Every pair of policies</summary>" + t.str() + "</details>\n";
}

markup recall_table(const report_json& report) {
  html_table t("Recall, percent right",
               {"policy", "question", "reading", "k", "facts", "distance", "right", "asked", "share", "95 % interval",
                "where Full is right", "Full"},
               3);
  for (const report_json& c : list_at(field(report, "recall"), "cells")) {
    const bool none = is_true(c, "not_applicable");
    const std::string variant = word_at(c, "variant");
    const markup question = variant == "last"        ? "last"
                            : variant == "first_too" ? "first too"
                            : variant == "removed"   ? "fact removed"
                                                     : escaped(variant);
    const double low = end_at(c, "interval", 0);
    t.line({name_cell(c), question, escaped(word_at(c, "mode")), escaped(word_at(c, "budget")),
            escaped(word_at(c, "facts")), escaped(word_at(c, "distance")), escaped(word_at(c, "right")),
            escaped(word_at(c, "asked")), none ? "n/a" : cell_number(number_at(c, "share"), 1, 100),
            none || !std::isfinite(low)
                ? "&#8211;"
                : cell_number(low, 1, 100) + " to " + cell_number(end_at(c, "interval", 1), 1, 100),
            none ? "n/a" : cell_number(number_at(c, "given_full"), 1, 100),
            cell_number(number_at(c, "full_share"), 1, 100)},
           none ? "grey" : "");
  }
  return t.empty() ? markup() : "<details><summary>Every recall cell</summary>" + t.str() + "</details>\n";
}

markup kind_table(const report_json& report) {
  std::vector<markup> titles{"policy", "k"};
  titles.insert(titles.end(), character_kinds.begin(), character_kinds.end());
  html_table t("Mean life by kind of character, steps", titles);
  bool shares = false;
  for (const report_json& entry : list_at(report, "rows")) {
    const report_json& by = field(entry, "life_by_kind");
    if (!by.is_object()) continue;
    const auto line = [&](markup name, markup k, const char* key, int digits, double factor) {
      std::vector<markup> cells{std::move(name), std::move(k)};
      for (const char* kind : character_kinds)
        cells.push_back(cell_number(number_at(field(by, kind), key), digits, factor));
      return cells;
    };
    if (!shares) t.line(line("<i>share of the text, %</i>", "", "share", 1, 100));
    shares = true;
    t.line(line(name_cell(entry), budget_cell(entry), "life", 1, 1));
  }
  return t.empty() ? markup() : t.str();
}

markup free_run_section(const report_json& report) {
  const report_json& run = field(report, "free_run");
  html_table t("Greedy continuations",
               {"policy", "k", "first token unlike Full's", "repeated 4-grams %", "NLL under Full"});
  markup samples;
  for (const report_json& entry : list_at(run, "rows")) {
    const markup k = budget_cell(entry);
    t.line({name_cell(entry), k,
            field(entry, "first_divergence").is_null() ? "none" : escaped(word_at(entry, "first_divergence")),
            cell_number(number_at(entry, "repeated_4grams"), 1, 100),
            cell_number(number_at(entry, "nll_under_full"), 3)});
    samples += "<h4>" + name_cell(entry) + " k = " + k + "</h4><blockquote>" + escaped(word_at(entry, "sample")) +
               "</blockquote>";
  }
  if (t.empty()) return {};
  return t.str() + "<p class=\"caption\">Shown, never ranked.</p><details><summary>The samples</summary>" + samples +
         "</details>\n";
}

markup mode_table(const report_json& report) {
  html_table t("How the prompt is read",
               {"policy", "reading", "k", "NLL &#8722; Full", "95 % interval", "recall %", "states, most"}, 2);
  for (const report_json& entry : list_at(report, "prompt_modes"))
    t.line({name_cell(entry), escaped(word_at(entry, "mode")), escaped(word_at(entry, "budget")),
            cell_number(number_at(entry, "nll_minus_full"), 4), interval_cell(entry, 4),
            cell_number(number_at(entry, "recall"), 1, 100), cell_number(number_at(entry, "states_attended_max"), 0)});
  if (t.empty()) return {};
  return t.str() +
         "<p class=\"caption\">Token by token, some tokens at a time, all at once with one reduction, and token by "
         "token "
         "twice over; then as many tokens are scored. Full read token by token is what the others are compared "
         "with.</p>\n";
}

markup agreement_table(const report_json& report) {
  const report_json& entries = list_at(report, "agreement");
  html_table t("States kept alike when they are stored in another format, percent",
               {"policy", "k", "f32", "f16", "bf16", "i8"});
  for (const report_json& entry : entries) {
    const auto share = [&](const char* format) {
      return format == word_at(report, "format") ? markup("100.0")
                                                 : cell_number(number_at(field(entry, "alike"), format), 1, 100);
    };
    t.line({name_cell(entry), budget_cell(entry), share("f32"), share("f16"), share("bf16"), share("i8")});
  }
  const report_json& other = field(report, "against");
  html_table builds(
      "States kept alike in another build, percent",
      {"policy", "k", escaped((word_at(other, "simd_target") + ", " + word_at(other, "format")).substr(0, 100))});
  for (const report_json& entry : list_at(other, "rows"))
    builds.line({name_cell(entry), budget_cell(entry), cell_number(number_at(entry, "alike"), 1, 100)});
  if (t.empty() && builds.empty()) return {};
  return (t.empty() ? markup() : t.str()) + (builds.empty() ? markup() : builds.str()) +
         "<p class=\"caption\">Of the states seen in the second half of the first window. Near ties fall otherwise "
         "where keys are rounded or sums are added up in another order, and from there on runs part.</p>\n";
}

markup time_table(const report_json& report) {
  const report_json& entries = list_at(field(report, "time"), "rows");
  html_table t("Time per token, microseconds",
               {"policy", "k", "tokens/s", "from", "to", "attention", "policy", "rest", "parts"});
  constexpr std::array keys{"attention_us", "policy_us", "rest_us"};
  double most = 0;
  for (const report_json& entry : entries) {
    double sum = 0;
    for (const char* key : keys) sum += number_at(entry, key);
    if (std::isfinite(sum)) most = std::max(most, sum);
  }
  for (const report_json& entry : entries) {
    const report_json& rate = field(entry, "tokens_per_second");
    markup bar = "<svg class=\"bar\" viewBox=\"0 0 160 12\" aria-hidden=\"true\">";
    double at = 0;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const double part = number_at(entry, keys[i]);
      if (!(part > 0) || !(most > 0)) continue;
      bar += "<rect class=\"part" + whole(i) + "\" x=\"" + pixels(at) + "\" y=\"0\" height=\"12\" width=\"" +
             pixels(160 * part / most) + "\"/>";
      at += 160 * part / most;
    }
    t.line({name_cell(entry), budget_cell(entry), cell_number(number_at(rate, "median"), 0),
            cell_number(number_at(rate, "low"), 0), cell_number(number_at(rate, "high"), 0),
            cell_number(number_at(entry, keys[0]), 1), cell_number(number_at(entry, keys[1]), 1),
            cell_number(number_at(entry, keys[2]), 1), bar + "</svg>"});
  }
  return t.empty() ? markup()
                   : t.str() +
                         "<p class=\"caption\">Bars from the left: attention (filled), policy (dark), rest "
                         "(pale). Median of separate runs, with the lowest and highest.</p>\n";
}

markup how_to_repeat(const report_json& report) {
  std::vector<std::string> command;
  for (const report_json& word : list_at(report, "command_line"))
    if (word.is_string()) command.push_back(word.get<std::string>());
  const report_json& model = field(report, "model");
  html_table t("Under these conditions", {"what", "value"}, 2);
  const auto line = [&](const char* name, const std::string& value) {
    if (!value.empty()) t.line({name, escaped(value)});
  };
  line("version", word_at(report, "version"));
  line("commit", word_at(report, "commit"));
  line("model", word_at(model, "path"));
  line("model hash", word_at(model, "hash"));
  line("trained context", word_at(model, "trained_context"));
  for (const report_json& text : list_at(report, "texts"))
    line("text", word_at(text, "path") + ", hash " + word_at(text, "hash") + ", " + word_at(text, "tokens_used") +
                     " of " + word_at(text, "tokens") + " tokens");
  if (field(report, "window").is_number())
    line("windows", std::to_string(list_at(report, "windows").size()) + " of T = " + word_at(report, "window") +
                        ", stride " + word_at(report, "stride"));
  if (field(report, "scored_tokens").is_number())
    line("scored", word_at(report, "scored_tokens") + " tokens (" + word_at(report, "score") + ")");
  line("BOS", word_at(report, "bos_rule"));
  line("chunk", word_at(report, "chunk"));
  line("format of states", word_at(report, "format"));
  line("products", word_at(report, "products"));
  line("SIMD target", word_at(report, "simd_target"));
  line("threads", word_at(report, "threads"));
  const report_json& boot = field(report, "bootstrap");
  if (boot.is_object())
    line("intervals", "block bootstrap, " + word_at(boot, "resamples") + " resamples, seed " + word_at(boot, "seed") +
                          ", blocks of " + word_at(boot, "block_windows") + " windows, over " + word_at(boot, "over") +
                          (is_true(boot, "this_text_only") ? "; this text only" : ""));
  const report_json& recall = field(report, "recall");
  if (recall.is_object())
    line("recall", word_at(recall, "questions") + " questions a cell, seed " + word_at(recall, "seed"));
  for (const report_json& entry : list_at(report, "rows"))
    if (!list_at(entry, "seeds").empty()) {
      line("seeds of random", list_at(entry, "seeds").dump());
      break;
    }
  return (command.empty() ? markup() : "<pre>" + escaped(command_text(command)) + "</pre>\n") +
         (t.empty() ? markup() : t.str());
}

}  // namespace multistate::tools
