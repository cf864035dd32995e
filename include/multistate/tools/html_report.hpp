#pragma once

#include <multistate/tools/command_line.hpp>
#include <multistate/tools/report_figures.hpp>
#include <multistate/tools/report_script.hpp>
#include <multistate/tools/report_style.hpp>
#include <multistate/tools/report_tables.hpp>
#include <multistate/tools/report_trace.hpp>

namespace multistate::detail {

inline std::string amount(double x) { return cell_number(x, std::abs(x) < 0.0995 ? 3 : 2); }
inline std::string nats(double x) { return amount(x) + " nats per token"; }

/// What was found, in a sentence made from the data. It names a best group only where letters say who can't be told
/// apart and 30 windows stand behind them; the oracle, Full, random and short are nobody's competitors.
inline std::string finding(const report_json& report) {
  const report_json& rows = list_at(report, "rows");
  const std::size_t windows = list_at(report, "windows").size();
  const report_json* full = nullptr;
  for (const report_json& row : rows)
    if (word_at(row, "policy") == "full") full = &row;
  const double full_bytes = full ? number_at(*full, "bytes_allocated") : std::numeric_limits<double>::quiet_NaN();
  const auto of_budget = [&](const report_json& budget) {
    std::vector<const report_json*> out;
    for (const report_json& row : rows)
      if (field(row, "budget") == budget && !is_reference(word_at(row, "policy")) &&
          std::isfinite(number_at(row, "nll_minus_full")))
        out.push_back(&row);
    std::stable_sort(out.begin(), out.end(), [](const auto* a, const auto* b) {
      return number_at(*a, "nll_minus_full") < number_at(*b, "nll_minus_full");
    });
    return out;
  };
  // The smallest budget at which some policy stays near the unbounded cache, else the largest.
  constexpr double near = 0.05;
  report_json budget;
  std::vector<const report_json*> at;
  bool found = false;
  for (const report_json& k : distinct(rows, "budget")) {
    const auto here = of_budget(k);
    if (here.empty() || !k.is_number()) continue;
    const bool good = number_at(*here[0], "nll_minus_full") <= near;
    const bool smaller = at.empty() || as_number(k) < as_number(budget);
    if (at.empty() || (good && (!found || smaller)) || (!good && !found && !smaller))
      budget = k, at = here, found = good;
  }
  if (at.empty()) return "No policy with a budget was measured in this run.";
  const double bytes = number_at(*at[0], "bytes_allocated");
  const std::string memory =
      cell_number(bytes, 0, 1e-3) + " kB" +
      (full_bytes > 0
           ? ", " + cell_number(bytes / full_bytes, bytes / full_bytes < 0.1 ? 1 : 0, 100) + " % of the unbounded cache"
           : "");
  const double least = number_at(*at.front(), "nll_minus_full"), most = number_at(*at.back(), "nll_minus_full");
  const std::string letters = word_at(*at[0], "letter");
  if (windows < 30 || letters.empty()) {
    return "With k = " + budget.dump() + " states a layer (" + memory + "), forgetting costs from " + amount(least) +
           " to " + nats(most) + ", depending on the policy; " +
           (windows < 30
                ? std::to_string(windows) + (windows == 1 ? " window is" : " windows are") + " too few to rank them."
                : "without intervals they are not ranked.");
  }
  std::vector<std::string> alike;
  double alike_most = least;
  for (const report_json* row : at)
    if (word_at(*row, "letter").find_first_of(letters) != std::string::npos) {
      alike.push_back("<code>" + escaped(word_at(*row, "policy")) + "</code>");
      alike_most = std::max(alike_most, number_at(*row, "nll_minus_full"));
    }
  std::string names;
  for (std::size_t i = 0; i < alike.size(); ++i)
    names += (i == 0 ? "" : i + 1 == alike.size() ? " and " : ", ") + alike[i];
  std::string out = "With k = " + budget.dump() + " states a layer (" + memory + "), " + names;
  out += alike.size() == 1 ? " costs least, " + nats(least)
                           : " can't be told apart and cost least, " + amount(least) + " to " + nats(alike_most);
  if (alike.size() < at.size())
    out += "; the dearest, <code>" + escaped(word_at(*at.back(), "policy")) + "</code>, costs " + nats(most);
  return out + ".";
}

inline std::string how_to_repeat(const report_json& report) {
  std::vector<std::string> command;
  for (const report_json& word : list_at(report, "command_line"))
    if (word.is_string()) command.push_back(word.get<std::string>());
  const report_json& model = field(report, "model");
  html_table t("Under these conditions", {"what", "value"}, 2);
  const auto line = [&](const char* what, const std::string& value) {
    t.row({what, value.empty() ? "unknown" : escaped(value)});
  };
  line("version", word_at(report, "version"));
  line("commit", word_at(report, "commit"));
  line("model", word_at(model, "path"));
  line("model hash", word_at(model, "hash"));
  line("trained context", word_at(model, "trained_context"));
  for (const report_json& text : list_at(report, "texts"))
    line("text", word_at(text, "path") + ", hash " + word_at(text, "hash") + ", " + word_at(text, "tokens_used") +
                     " of " + word_at(text, "tokens") + " tokens");
  line("windows", std::to_string(list_at(report, "windows").size()) + " of T = " + word_at(report, "window") +
                      ", stride " + word_at(report, "stride"));
  line("scored", word_at(report, "scored_tokens") + " tokens (" + word_at(report, "score") + ")");
  line("BOS", word_at(report, "bos_rule"));
  line("chunk", word_at(report, "chunk"));
  line("format of states", word_at(report, "format"));
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
  for (const report_json& row : list_at(report, "rows"))
    if (!list_at(row, "seeds").empty()) {
      line("seeds of random", list_at(row, "seeds").dump());
      break;
    }
  return "<pre>" + escaped(command_text(command)) + "</pre>\n" + t.str();
}

/// A comparison's JSON as one HTML page that needs nothing else: no network, and no script to be read.
inline std::string to_html(const report_json& report) {
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\"><link rel=\"icon\" href=\"data:,\">"
      "<title>What forgetting costs</title>\n<style>" +
      std::string(report_style) +
      "</style></head>\n<body>\n<main>\n<h1>multistate compare: what forgetting costs</h1>\n";
  if (is_true(report, "interrupted"))
    out +=
        "<p class=\"warning\"><strong>A part:</strong> the run was interrupted; not everything below is "
        "measured.</p>\n";
  if (is_true(report, "extrapolation"))
    out +=
        "<p class=\"warning\"><strong>Extrapolation:</strong> windows are longer than the trained context; Full is no "
        "oracle here.</p>\n";
  out += "<p class=\"finding\">" + finding(report) + "</p>\n";
  out += figure(to_svg(cost_plot(report)),
                "Lower is better, further left is smaller. Dashed: <code>random</code>, and <code>oracle</code>, which "
                "knows the attention to come; shaded between them is the room that choosing has. Bands are 95 % "
                "intervals where there are any.");
  const auto section = [&](const char* id, const char* title, const std::string& body) {
    out += "<section id=\"" + std::string(id) + "\"><h2>" + title + "</h2>\n" + body + "</section>\n";
  };
  out +=
      "<nav aria-label=\"Contents\"><a href=\"#numbers\">All numbers</a><a href=\"#kept\">What was kept</a><a "
      "href=\"#recall\">Recall</a><a href=\"#position\">By position</a><a href=\"#survival\">Survival</a><a "
      "href=\"#free\">Free running</a><a href=\"#time\">Time</a><a href=\"#not\">What this does not show</a><a "
      "href=\"#repeat\">How to repeat it</a></nav>\n";
  section("numbers", "All numbers", main_table(report) + pair_table(report));
  section("kept", "What was kept", trace_section(report));
  section("kinds", "Life by kind of character", kind_table(report));
  section("recall", "Recall", recall_figure(report) + needle_figure(report) + recall_table(report));
  section("position", "Cost by position", position_figure(report));
  section("survival", "Survival", survival_figure(report));
  section("modes", "Reading the prompt at once", mode_table(report));
  section("agreement", "The same decisions in other formats", agreement_table(report));
  section("free", "Free running", free_run_section(report));
  section("time", "Time", time_section(report) + time_figure(report));
  out +=
      "<section id=\"not\" class=\"box\"><h2>What this does not show</h2><ul>"
      "<li>Other models: this is one model of one size.</li>"
      "<li>Generation: losses are measured with the true text before each token (teacher forcing).</li>"
      "<li>Instructions, tools or dialogue: none were given.</li>"
      "<li>Recall, where only perplexity was measured: perplexity barely sees it (<i>Pitfalls of KV Cache "
      "Compression</i>, arXiv 2510.00231).</li>"
      "<li>Bit-for-bit decisions elsewhere: near-ties flip between builds, and then runs "
      "diverge.</li></ul></section>\n";
  std::string notes;
  for (const report_json& note : list_at(report, "notes"))
    if (note.is_string()) notes += "<li>" + escaped(note.get<std::string>()) + "</li>";
  section("repeat", "How to repeat it",
          how_to_repeat(report) + (notes.empty() ? "" : "<h3>Notes</h3><ul>" + notes + "</ul>\n"));
  return out + "</main>\n<script>" + std::string(report_script) + "</script>\n</body></html>\n";
}

}  // namespace multistate::detail
