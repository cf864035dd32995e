#pragma once

#include <array>
#include <cmath>

#include <tools/report/report_reading.hpp>

/// The tables of the page, each from the comparison's JSON to HTML.
namespace multistate::tools {

/// A table that scrolls inside itself on a narrow screen. Titles and cells are HTML; the first column names the row.
class html_table {
 public:
  html_table(const markup& caption, std::initializer_list<markup> titles, std::size_t words = 1)
      : words_(words), columns_(titles.size()) {
    html_ = "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"" + caption + "\"><table><caption>" +
            caption + "</caption><thead><tr>";
    std::size_t i = 0;
    for (const markup& title : titles)
      html_ += (i++ < words_ ? "<th scope=\"col\" class=\"word\">" : "<th scope=\"col\">") + title + "</th>";
    html_ += "</tr></thead><tbody>";
  }
  void row(const std::vector<markup>& cells, const markup& kind = {}) {
    html_ += kind.empty() ? "<tr>" : "<tr class=\"" + kind + "\">";
    for (std::size_t i = 0; i < cells.size(); ++i)
      html_ += i == 0       ? "<th scope=\"row\">" + cells[i] + "</th>"
               : i < words_ ? "<td class=\"word\">" + cells[i] + "</td>"
                            : "<td>" + cells[i] + "</td>";
    html_ += "</tr>";
    ++rows_;
  }
  /// A row whose third cell takes the place of all that would follow.
  void remark(const markup& name, const markup& second, const markup& words) {
    html_ += "<tr><th scope=\"row\">" + name + "</th><td>" + second + "</td><td class=\"word absent\" colspan=\"" +
             whole(columns_ - 2) + "\">" + words + "</td></tr>";
    ++rows_;
  }
  bool empty() const noexcept { return rows_ == 0; }
  markup str() const { return html_ + "</tbody></table></div>\n"; }

 private:
  markup html_;
  std::size_t words_, columns_, rows_ = 0;
};

inline markup name_cell(const report_json& row) { return "<code>" + escaped(word_at(row, "policy")) + "</code>"; }
inline markup interval_cell(const report_json& row, int digits) {
  const double low = end_at(row, "interval", 0), high = end_at(row, "interval", 1);
  return std::isfinite(low) ? cell_number(low, digits) + " to " + cell_number(high, digits) : "&#8211;";
}

inline markup main_table(const report_json& report) {
  html_table t("All rows", {"policy", "k", "NLL &#8722; Full, nats/token", "95 % interval", "alike", "recall %",
                            "gap closed %", "mass kept %", "NLL", "perplexity", "bits/byte", "KL mean", "KL p99",
                            "top-1 %", "states, mean", "states, most", "life, steps", "allocated, kB", "live, kB"});
  report_json group;
  for (const report_json& row : list_at(report, "rows")) {
    const std::string mark = word_at(row, "mark"), skipped = word_at(row, "skipped");
    const markup k = budget_cell(row);
    const bool grey = mark == "k >= T/2", first = field(row, "budget") != group;
    const markup kind = grey ? first ? "grey first" : "grey" : first ? "first" : "";
    group = field(row, "budget");
    if (!skipped.empty()) {
      t.remark(name_cell(row), k, "skipped: " + escaped(skipped));
      continue;
    }
    const auto n = [&](const char* key, int digits, double factor = 1) {
      return cell_number(number_at(row, key), digits, factor);
    };
    t.row({name_cell(row),
           k + (mark.empty() ? ""
                : grey       ? "&#8202;**"
                             : "&#8202;*"),
           n("nll_minus_full", 4), interval_cell(row, 4), escaped(word_at(row, "letter")), n("recall", 1, 100),
           n("gap_closed", 1, 100), n("kept_mass", 1, 100), n("nll", 4), n("perplexity", 2), n("bits_per_byte", 3),
           n("kl_mean", 4), n("kl_p99", 3), n("top1_agreement", 1, 100), n("states_attended_mean", 1),
           n("states_attended_max", 0), n("mean_life", 1), n("bytes_allocated", 0, 1e-3), n("bytes_live", 0, 1e-3)},
          kind);
  }
  return t.str() +
         "<p class=\"caption\">Rows of one budget that share a letter under <i>alike</i> can't be told apart. * k &gt; "
         "T/4: not much was forgotten; ** k &#8805; T/2: little or nothing was (T: the longest window). <i>Recall</i>: "
         "facts told earlier, mean over distances; <i>gap closed</i>: how much of what <code>random</code> loses a "
         "policy does not lose; <i>mass kept</i>: the share of Full's attention on states that the policy has; "
         "<i>states</i>: attended by a query; <i>life</i>: queries that see a state; <i>allocated</i>: all memory of "
         "one sequence, <i>live</i>: its keys and values.</p>\n";
}

inline markup pair_table(const report_json& report) {
  html_table t("Differences between policies, nats per token",
               {"first", "second", "k", "difference", "95 % interval", "p", "p (Holm)"}, 2);
  for (const report_json& p : list_at(report, "pairs"))
    t.row({"<code>" + escaped(word_at(p, "a")) + "</code>", "<code>" + escaped(word_at(p, "b")) + "</code>",
           escaped(word_at(p, "budget")), cell_number(number_at(p, "difference"), 4), interval_cell(p, 4),
           cell_number(number_at(p, "p"), 4), cell_number(number_at(p, "p_holm"), 4)});
  if (t.empty()) return {};
  return "<details><summary>Every pair of policies</summary>" + t.str() + "</details>\n";
}

inline markup recall_table(const report_json& report) {
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
    t.row({name_cell(c), question, escaped(word_at(c, "mode")), escaped(word_at(c, "budget")),
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

inline markup kind_table(const report_json& report) {
  constexpr std::array kinds{"blank", "newline", "punctuation", "capital", "digit", "letter", "other"};
  html_table t("Mean life by kind of character, steps",
               {"policy", "k", "blank", "newline", "punctuation", "capital", "digit", "letter", "other"});
  bool shares = false;
  for (const report_json& row : list_at(report, "rows")) {
    const report_json& by = field(row, "life_by_kind");
    if (!by.is_object()) continue;
    const auto line = [&](markup name, markup k, const char* key, int digits, double factor) {
      std::vector<markup> cells{std::move(name), std::move(k)};
      for (const char* kind : kinds) cells.push_back(cell_number(number_at(field(by, kind), key), digits, factor));
      return cells;
    };
    if (!shares) t.row(line("<i>share of the text, %</i>", "", "share", 1, 100));
    shares = true;
    t.row(line(name_cell(row), budget_cell(row), "life", 1, 1));
  }
  return t.empty() ? markup() : t.str();
}

inline markup free_run_section(const report_json& report) {
  const report_json& run = field(report, "free_run");
  html_table t("Greedy continuations",
               {"policy", "k", "first token unlike Full's", "repeated 4-grams %", "NLL under Full"});
  markup samples;
  for (const report_json& row : list_at(run, "rows")) {
    const markup k = budget_cell(row);
    t.row({name_cell(row), k,
           field(row, "first_divergence").is_null() ? "none" : escaped(word_at(row, "first_divergence")),
           cell_number(number_at(row, "repeated_4grams"), 1, 100), cell_number(number_at(row, "nll_under_full"), 3)});
    samples +=
        "<h4>" + name_cell(row) + " k = " + k + "</h4><blockquote>" + escaped(word_at(row, "sample")) + "</blockquote>";
  }
  if (t.empty()) return {};
  return t.str() + "<p class=\"caption\">Shown, never ranked.</p><details><summary>The samples</summary>" + samples +
         "</details>\n";
}

inline markup mode_table(const report_json& report) {
  html_table t("How the prompt is read",
               {"policy", "reading", "k", "NLL &#8722; Full", "95 % interval", "recall %", "states, most"}, 2);
  for (const report_json& row : list_at(report, "prompt_modes"))
    t.row({name_cell(row), escaped(word_at(row, "mode")), escaped(word_at(row, "budget")),
           cell_number(number_at(row, "nll_minus_full"), 4), interval_cell(row, 4),
           cell_number(number_at(row, "recall"), 1, 100), cell_number(number_at(row, "states_attended_max"), 0)});
  if (t.empty()) return {};
  return t.str() +
         "<p class=\"caption\">Token by token, some tokens at a time, all at once with one reduction, and token by "
         "token "
         "twice over; then as many tokens are scored. Full read token by token is what the others are compared "
         "with.</p>\n";
}

inline markup agreement_table(const report_json& report) {
  const report_json& rows = list_at(report, "agreement");
  html_table t("States kept alike when they are stored in another format, percent",
               {"policy", "k", "f32", "f16", "bf16", "i8"});
  for (const report_json& row : rows) {
    const auto share = [&](const char* format) {
      return format == word_at(report, "format") ? markup("100.0")
                                                 : cell_number(number_at(field(row, "alike"), format), 1, 100);
    };
    t.row({name_cell(row), budget_cell(row), share("f32"), share("f16"), share("bf16"), share("i8")});
  }
  const report_json& other = field(report, "against");
  html_table builds(
      "States kept alike in another build, percent",
      {"policy", "k", escaped((word_at(other, "simd_target") + ", " + word_at(other, "format")).substr(0, 100))});
  for (const report_json& row : list_at(other, "rows"))
    builds.row({name_cell(row), budget_cell(row), cell_number(number_at(row, "alike"), 1, 100)});
  if (t.empty() && builds.empty()) return {};
  return (t.empty() ? markup() : t.str()) + (builds.empty() ? markup() : builds.str()) +
         "<p class=\"caption\">Of the states seen in the second half of the first window. Near ties fall otherwise "
         "where keys are rounded or sums are added up in another order, and from there on runs part.</p>\n";
}

/// Time per token, its three parts as one bar beside the numbers.
inline markup time_section(const report_json& report) {
  const report_json& rows = list_at(field(report, "time"), "rows");
  html_table t("Time per token, microseconds",
               {"policy", "k", "tokens/s", "from", "to", "attention", "policy", "rest", "parts"});
  constexpr std::array keys{"attention_us", "policy_us", "rest_us"};
  double most = 0;
  for (const report_json& row : rows) {
    double sum = 0;
    for (const char* key : keys) sum += number_at(row, key);
    if (std::isfinite(sum)) most = std::max(most, sum);
  }
  for (const report_json& row : rows) {
    const report_json& rate = field(row, "tokens_per_second");
    markup bar = "<svg class=\"bar\" viewBox=\"0 0 160 12\" aria-hidden=\"true\">";
    double at = 0;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const double part = number_at(row, keys[i]);
      if (!(part > 0) || !(most > 0)) continue;
      bar += "<rect class=\"part" + whole(i) + "\" x=\"" + pixels(at) + "\" y=\"0\" height=\"12\" width=\"" +
             pixels(160 * part / most) + "\"/>";
      at += 160 * part / most;
    }
    t.row({name_cell(row), budget_cell(row), cell_number(number_at(rate, "median"), 0),
           cell_number(number_at(rate, "low"), 0), cell_number(number_at(rate, "high"), 0),
           cell_number(number_at(row, keys[0]), 1), cell_number(number_at(row, keys[1]), 1),
           cell_number(number_at(row, keys[2]), 1), bar + "</svg>"});
  }
  return t.empty() ? markup()
                   : t.str() +
                         "<p class=\"caption\">Bars from the left: attention (filled), policy (dark), rest "
                         "(pale). Median of separate runs, with the lowest and highest.</p>\n";
}

}  // namespace multistate::tools
