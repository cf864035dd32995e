#include <tools/report/html_report.hpp>

#include <algorithm>
#include <string_view>
#include <utility>

#include <tools/report/page_files.hpp>
#include <tools/report/page_sections.hpp>
#include <tools/report/policy_names.hpp>
#include <tools/report/sha256.hpp>
#include <tools/report/verdict.hpp>

namespace multistate::tools {

namespace {

markup warning(const char* kind, const markup& words) {
  return "<p class=\"warning\"><strong>" + markup(kind) + ":</strong> " + words + "</p>\n";
}

markup paper_link(const policy_words& words) {
  if (words.arxiv.empty()) return {};
  return " <a href=\"https://arxiv.org/abs/" + escaped(words.arxiv) + "\">" + escaped(words.paper) + "</a>";
}

/// The policies of the report and what they do, and the words that its figures need.
markup reading_guide(const report_json& report) {
  std::vector<std::pair<const policy_words*, markup>> known;
  bool heads = false, in_cache = false, log = false;
  for (const report_json& name : distinct(list_at(report, "rows"), "policy")) {
    const std::string policy = text_of(name);
    heads = heads || policy.find("scope=") != policy.npos;
    in_cache = in_cache || policy.ends_with("@incache");
    log = log || policy.ends_with("@log");
    const policy_words* words = words_of(policy);
    if (words == nullptr) continue;
    const markup shown = code(words->sinks ? "window+N" : std::string(words->base));
    if (std::find(known.begin(), known.end(), std::pair(words, shown)) == known.end()) known.emplace_back(words, shown);
  }
  markup out =
      "<dl><dt>state, k</dt><dd>The key and value of one token in one layer; k is how many of them a policy may "
      "keep.</dd>"
      "<dt>nats per token</dt><dd>How much worse the text is predicted: 0.1 nats per token is a perplexity 10 % "
      "higher.</dd>"
      "<dt>mass kept</dt><dd>The share of the unbounded cache&#39;s attention that falls on states still there.</dd>";
  for (const auto& [words, name] : known)
    out += "<dt>" + name + "</dt><dd>" + escaped(words->does) + paper_link(*words) + "</dd>";
  if (heads)
    out +=
        "<dt><code>scope=</code></dt><dd>Each KV head decides for itself (head), or all of a layer together "
        "(layer).</dd>";
  if (in_cache)
    out += "<dt><code>@incache</code></dt><dd>Keys are numbered by their place in the cache, not in the text.</dd>";
  if (log) out += "<dt><code>@log</code></dt><dd>Long gaps between keys count as their logarithm.</dd>";
  out += "</dl>";
  return out;
}

/// What a reader sees first: what was found, its plot, and what the names mean.
markup first_screen(const report_json& report) {
  const verdict found = verdict_of(report);
  markup out;
  if (!found.interrupted.empty()) out += warning("Interrupted", to_markup(found.interrupted));
  if (is_true(report, "extrapolation"))
    out += warning("Extrapolation", "windows are longer than the trained context; Full is no oracle here.");
  out += "<p class=\"finding\">" + to_markup(found.cost) + "</p>\n";
  if (!found.recall.empty()) out += "<p class=\"finding more\">" + to_markup(found.recall) + "</p>\n";
  return out + "<div class=\"opening\">" + cost_figure(report) + "<aside><h2>How to read it</h2>" +
         reading_guide(report) + "</aside></div>\n";
}

markup notes_list(const report_json& report) {
  markup notes;
  for (const report_json& note : list_at(report, "notes"))
    if (note.is_string()) notes += "<li>" + escaped(note.get<std::string>()) + "</li>";
  return notes.empty() ? notes : "<h3>Notes</h3><ul>" + notes + "</ul>\n";
}

/// "Recall (needs a tokenizer); ": sections that nothing filled, those with one need together.
markup left_out(const std::vector<page_section>& all) {
  markup out;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto absent = [](const page_section& s) { return s.body.empty() && !s.filled_by.empty(); };
    if (!absent(all[i])) continue;
    std::size_t next = i + 1;
    while (next < all.size() && !absent(all[next])) ++next;
    const bool more = next < all.size() && all[next].filled_by == all[i].filled_by;
    out +=
        escaped(all[i].title) + (more ? ", " : " (needs " + all[i].filled_by + ")" + (next < all.size() ? "; " : ""));
  }
  return out.empty() ? out : "<p class=\"absent\">Not measured in this run: " + out + ".</p>\n";
}

markup with_navigation(const std::vector<page_section>& all) {
  markup links, bodies;
  for (const page_section& s : all) {
    if (s.body.empty()) continue;
    links += "<a href=\"#" + escaped(s.id) + "\">" + escaped(s.title) + "</a>";
    bodies += "<section id=\"" + escaped(s.id) + "\"><h2>" + escaped(s.title) + "</h2>\n" + s.body + "</section>\n";
  }
  return "<nav aria-label=\"Contents\">" + links + "</nav>\n" + bodies + left_out(all);
}

/// The text with each {name} replaced; what takes a name's place is not looked into.
std::string filled(std::string_view page, const std::vector<std::pair<std::string_view, std::string>>& places) {
  std::string out;
  while (!page.empty()) {
    std::size_t first = page.size();
    const std::pair<std::string_view, std::string>* found = nullptr;
    for (const auto& place : places)
      if (const std::size_t at = page.find(place.first); at < first) first = at, found = &place;
    out += page.substr(0, first);
    page.remove_prefix(first);
    if (found == nullptr) break;
    out += found->second;
    page.remove_prefix(found->first.size());
  }
  return out;
}

}  // namespace

std::vector<page_section> page_sections(const report_json& report) {
  const markup always = "a policy with a budget below the window";
  return {
      {"numbers", "All numbers", always, main_tables(report) + pair_table(report)},
      {"recall", "Recall", "a tokenizer, and windows within the trained context",
       recall_figure(report) + needle_figure(report) + recall_table(report)},
      {"kept", "What was kept", always, trace_section(report)},
      {"position", "Cost by position", always, position_figure(report)},
      {"survival", "Survival", always, survival_figure(report)},
      {"kinds", "Life by kind of character", "a model of bytes", kind_table(report)},
      {"modes", "Reading the prompt at once", "<code>--full</code>", mode_table(report)},
      {"free", "Free running", "<code>--full</code>", free_run_section(report)},
      {"agreement", "The same decisions in other formats and builds", "<code>--full</code> or <code>--against</code>",
       agreement_table(report)},
      {"time", "Time", "<code>--time</code>", time_table(report) + time_figure(report)},
      {"limits", "What this does not show", "", markup::as_is(limits_html())},
      {"repeat", "How to repeat it", "", how_to_repeat(report) + notes_list(report)},
  };
}

std::string to_html(const report_json& report) {
  const markup body = first_screen(report) + with_navigation(page_sections(report));
  return filled(page_html(), {{"{style hash}", sha256_base64(page_css())},
                              {"{script hash}", sha256_base64(page_js())},
                              {"{style}", std::string(page_css())},
                              {"{body}", body.str()},
                              {"{script}", std::string(page_js())}});
}

}  // namespace multistate::tools
