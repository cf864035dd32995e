#pragma once

#include <tools/terminal/command_line.hpp>
#include <tools/report/report_figures.hpp>
#include <tools/report/report_script.hpp>
#include <tools/report/report_style.hpp>
#include <tools/report/report_tables.hpp>
#include <tools/report/report_trace.hpp>
#include <tools/report/sha256.hpp>

namespace multistate::tools {

inline markup amount(double x) { return cell_number(x, std::abs(x) < 0.0995 ? 3 : 2); }
inline markup nats(double x) { return amount(x) + " nats per token"; }

/// What was found, in a sentence made from the data. It names a best group only where letters say who can't be told
/// apart and 30 windows stand behind them; the oracle, Full, random and short are nobody's competitors, and a budget
/// that holds whole windows has forgotten nothing.
inline markup finding(const report_json& report) {
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
  bool found = false, kept_all = false;
  for (const report_json& k : distinct(rows, "budget")) {
    const auto current = of_budget(k);
    if (current.empty() || !k.is_number()) continue;
    if (!forgets(report, k)) {
      kept_all = true;
      continue;
    }
    const bool good = number_at(*current[0], "nll_minus_full") <= near;
    const bool smaller = at.empty() || as_number(k) < as_number(budget);
    if (at.empty() || (good && (!found || smaller)) || (!good && !found && !smaller))
      budget = k, at = current, found = good;
  }
  if (at.empty())
    return kept_all ? "Nothing was forgotten in this run: every budget holds the longest window, " +
                          cell_number(longest_window(report), 0) + " tokens."
                    : markup("No policy with a budget was measured in this run.");
  const double bytes = number_at(*at[0], "bytes_allocated");
  const markup memory =
      cell_number(bytes, 0, 1e-3) + " kB" +
      (full_bytes > 0
           ? ", " + cell_number(bytes / full_bytes, bytes / full_bytes < 0.1 ? 1 : 0, 100) + " % of the unbounded cache"
           : markup());
  const markup with = "With k = " + escaped(text_of(budget)) + " states a layer (" + memory + "), ";
  const double least = number_at(*at.front(), "nll_minus_full"), most = number_at(*at.back(), "nll_minus_full");
  const std::string letters = word_at(*at[0], "letter");
  if (windows < 30 || letters.empty()) {
    return with + "forgetting costs " +
           (at.size() == 1 ? nats(least) + " under <code>" + escaped(word_at(*at[0], "policy")) + "</code>; "
                           : "from " + amount(least) + " to " + nats(most) + ", depending on the policy; ") +
           (windows < 30 ? whole(windows) + (windows == 1 ? " window is" : " windows are") + " too few to rank them."
                         : "without intervals they are not ranked.");
  }
  std::vector<markup> alike;
  double alike_most = least;
  for (const report_json* row : at)
    if (word_at(*row, "letter").find_first_of(letters) != std::string::npos) {
      alike.push_back("<code>" + escaped(word_at(*row, "policy")) + "</code>");
      alike_most = std::max(alike_most, number_at(*row, "nll_minus_full"));
    }
  markup names;
  for (std::size_t i = 0; i < alike.size(); ++i)
    names += (i == 0 ? "" : i + 1 == alike.size() ? " and " : ", ") + alike[i];
  markup out = with + names;
  out += alike.size() == 1 ? " costs least, " + nats(least)
                           : " can't be told apart and cost least, " + amount(least) + " to " + nats(alike_most);
  if (alike.size() < at.size())
    out += "; the dearest, <code>" + escaped(word_at(*at.back(), "policy")) + "</code>, costs " + nats(most);
  return out + ".";
}

inline markup how_to_repeat(const report_json& report) {
  std::vector<std::string> command;
  for (const report_json& word : list_at(report, "command_line"))
    if (word.is_string()) command.push_back(word.get<std::string>());
  const report_json& model = field(report, "model");
  html_table t("Under these conditions", {"what", "value"}, 2);
  const auto line = [&](const char* name, const std::string& value) {
    t.row({name, value.empty() ? markup("unknown") : escaped(value)});
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

/// What the names in the tables mean.
inline markup glossary() {
  return "<details><summary>What the names mean</summary><dl>"
         "<dt>state, k</dt><dd>A state is the key and value of one token; k is how many of them a policy may keep.</dd>"
         "<dt>nats per token</dt><dd>How much worse the text is predicted: 0.1 is a perplexity 10 % higher.</dd>"
         "<dt><code>full</code></dt><dd>Keeps everything.</dd>"
         "<dt><code>window</code>, <code>window+4</code></dt><dd>The newest k; the first 4 and the newest k &#8722; 4 "
         "(StreamingLLM, the first are its sinks).</dd>"
         "<dt><code>h2o</code></dt><dd>The newest half, and those with the most attention so far (heavy hitters).</dd>"
         "<dt><code>tova</code></dt><dd>Those that the current query attends most.</dd>"
         "<dt><code>knorm</code></dt><dd>Those with the smallest keys.</dd>"
         "<dt><code>random</code></dt><dd>Any: the baseline.</dd>"
         "<dt><code>oracle</code></dt><dd>Those that later queries will attend: it knows the future and is no "
         "policy.</dd>"
         "<dt><code>short</code></dt><dd>No cache: each query anew on the newest k tokens.</dd>"
         "<dt><code>scope=head</code>, <code>scope=layer</code></dt><dd>Each KV head decides for itself, or all of a "
         "layer together.</dd>"
         "<dt><code>@incache</code></dt><dd>Keys are numbered by their place in the cache; else by that in the "
         "text.</dd>"
         "<dt><code>@log</code></dt><dd>Long gaps between keys count as their logarithm.</dd></dl></details>\n";
}

/// A part of the page. Empty: it is left out, and one line says what would fill it.
struct chapter {
  const char* id;
  const char* title;
  const char* filled_by;
  markup body;
};

inline markup chapters(const std::vector<chapter>& all) {
  markup links, bodies, left_out;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const chapter& c = all[i];
    if (!c.body.empty()) {
      links += "<a href=\"#" + markup(c.id) + "\">" + c.title + "</a>";
      bodies += "<section id=\"" + markup(c.id) + "\"><h2>" + c.title + "</h2>\n" + c.body + "</section>\n";
      continue;
    }
    const bool more =
        i + 1 < all.size() && all[i + 1].body.empty() && all[i + 1].filled_by == std::string_view(c.filled_by);
    left_out += markup(c.title) + (more ? ", " : " (needs " + markup(c.filled_by) + "); ");
  }
  if (!left_out.empty())
    bodies += "<p class=\"absent\">Not measured in this run: " +
              markup::as_is(left_out.str().substr(0, left_out.str().size() - 2)) + ".</p>\n";
  return "<nav aria-label=\"Contents\">" + links +
         "<a href=\"#not\">What this does not show</a><a href=\"#repeat\">How to repeat it</a></nav>\n" + bodies;
}

/// A comparison's JSON as one HTML page that needs nothing else: no network, and no script to be read. Its policy lets
/// no other style and script in than its own, and nothing be fetched.
inline std::string to_html(const report_json& report) {
  markup out =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"Content-Security-Policy\" "
      "content=\"default-src 'none'; img-src data:; style-src 'sha256-" +
      markup::as_is(sha256_base64(report_style)) + "'; script-src 'sha256-" +
      markup::as_is(sha256_base64(report_script)) +
      "'; base-uri 'none'; form-action 'none'\"><meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\"><link rel=\"icon\" href=\"data:,\">"
      "<title>What forgetting costs</title>\n<style>" +
      markup::as_is(report_style) +
      "</style></head>\n<body>\n<main>\n<h1>multistate compare: what forgetting costs</h1>\n";
  if (is_true(report, "interrupted"))
    out +=
        "<p class=\"warning\"><strong>A part:</strong> the run was interrupted; not everything below is "
        "measured.</p>\n";
  if (is_true(report, "extrapolation"))
    out +=
        "<p class=\"warning\"><strong>Extrapolation:</strong> windows are longer than the trained context; Full is no "
        "oracle here.</p>\n";
  if (is_true(report, "interrupted"))
    out +=
        "<p class=\"warning\"><strong>Interrupted:</strong> this is what was done until then, a part of what was asked "
        "for.</p>\n";
  out += "<p class=\"finding\">" + finding(report) + "</p>\n" + cost_figure(report) + glossary();
  const char* always = "a policy with a budget below the window";
  out += chapters({
      {"numbers", "All numbers", "", main_table(report) + pair_table(report)},
      {"kept", "What was kept", always, trace_section(report)},
      {"position", "Cost by position", always, position_figure(report)},
      {"survival", "Survival", always, survival_figure(report)},
      {"kinds", "Life by kind of character", "a model of bytes", kind_table(report)},
      {"recall", "Recall", "a tokenizer, and windows within the trained context",
       recall_figure(report) + needle_figure(report) + recall_table(report)},
      {"modes", "Reading the prompt at once", "<code>--full</code>", mode_table(report)},
      {"free", "Free running", "<code>--full</code>", free_run_section(report)},
      {"agreement", "The same decisions in other formats and builds", "<code>--full</code> or <code>--against</code>",
       agreement_table(report)},
      {"time", "Time", "<code>--time</code>", time_section(report) + time_figure(report)},
  });
  out +=
      "<section id=\"not\" class=\"box\"><h2>What this does not show</h2><ul>"
      "<li>Other models: this is one model of one size.</li>"
      "<li>Generation: losses are measured with the true text before each token (teacher forcing).</li>"
      "<li>Instructions, tools or dialogue: none were given.</li>"
      "<li>Recall, where only perplexity was measured: perplexity barely sees it (<i>Pitfalls of KV Cache "
      "Compression</i>, arXiv 2510.00231).</li>"
      "<li>Bit-for-bit decisions elsewhere: near-ties flip between builds, and then runs "
      "diverge.</li></ul></section>\n";
  markup notes;
  for (const report_json& note : list_at(report, "notes"))
    if (note.is_string()) notes += "<li>" + escaped(note.get<std::string>()) + "</li>";
  out += "<section id=\"repeat\"><h2>How to repeat it</h2>\n" + how_to_repeat(report) +
         (notes.empty() ? notes : "<h3>Notes</h3><ul>" + notes + "</ul>\n") + "</section>\n";
  return out + "</main>\n<script>" + markup::as_is(report_script) + "</script>\n</body></html>\n";
}

}  // namespace multistate::tools
