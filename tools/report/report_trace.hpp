#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <multistate/eval/seen_states.hpp>
#include <tools/report/report_figures.hpp>
#include <tools/report/report_tables.hpp>

/// What was kept in one window: positions over time, the text shaded by how long each token lived, how far back
/// layers and heads reach.
namespace multistate::tools {

/// The character a token of a byte model shows as.
inline markup token_html(int token, bool bytes) {
  if (!bytes) return whole(token) + " ";
  if (token == 256) return "&#9656;";  // BOS
  if (token == '\n') return "&#8629;\n";
  if (token < 32 || token >= 127) return "&#183;";
  return escaped(std::string(1, static_cast<char>(token)));
}

/// Lives of one lane, two characters of base 64 each: a tenth of the JSON's size.
inline std::string packed_lives(const report_json& deaths) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string out;
  int position = 0;
  for (const report_json& death : deaths) {
    const double at = as_number(death);
    const auto life = static_cast<std::size_t>(std::clamp(std::isfinite(at) ? at - position : 0.0, 0.0, 4095.0));
    (out += digits[life / 64]) += digits[life % 64];
    ++position;
  }
  return out;
}

/// One lane of a traced row. What it points to is the report's.
struct trace_lane {
  const report_json *row = nullptr, *policy_of = nullptr, *budget_of = nullptr;
  int layer = 0, lane = 0, lanes = 0;
  const report_json* deaths = nullptr;

  std::string policy() const { return text_of(*policy_of); }
  std::string budget() const { return budget_of->is_null() ? "all" : text_of(*budget_of); }
};

/// All lanes of the trace whose length is the window's.
inline std::vector<trace_lane> trace_lanes(const report_json& report) {
  const report_json& trace = field(report, "trace");
  const std::size_t T = list_at(trace, "tokens").size();
  std::vector<trace_lane> out;
  for (const report_json& row : list_at(trace, "rows")) {
    const report_json &policy = field(row, "policy"), &budget = field(row, "budget");
    int layer = 0;
    for (const report_json& lanes : list_at(row, "layers")) {
      if (!lanes.is_array()) continue;
      for (std::size_t i = 0; i < lanes.size(); ++i)
        if (lanes[i].is_array() && lanes[i].size() == T && T > 0)
          out.push_back(
              {&row, &policy, &budget, layer, static_cast<int>(i), static_cast<int>(lanes.size()), &lanes[i]});
      ++layer;
    }
  }
  return out;
}

/// As a whole number within reach of ints; what is no number is 0.
inline int bounded(double x) {
  constexpr double most = 1 << 28;
  return std::isfinite(x) ? static_cast<int>(std::clamp(x, 0.0, most)) : 0;
}
/// A state whose death is no number lived not at all.
inline std::vector<int> deaths_of(const trace_lane& lane) {
  std::vector<int> out;
  for (const report_json& death : *lane.deaths)
    out.push_back(death.is_number() ? bounded(as_number(death)) : static_cast<int>(out.size()));
  return out;
}

/// Time to the right, position downwards: a state is a line from when it came to when it went.
inline markup life_svg(const trace_lane& lane) {
  const std::vector<int> deaths = deaths_of(lane);
  const int T = static_cast<int>(deaths.size());
  markup runs;
  for (int p = 0; p < T; ++p)
    if (const int death = std::min(T, deaths[static_cast<std::size_t>(p)]); death > p)
      runs += "M" + whole(p) + " " + whole(p) + "H" + whole(death);
  return "<svg class=\"lives\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 " + whole(T) + " " +
         whole(T) + "\"><title>Kept positions over time: " + escaped(lane.policy()) +
         " at k = " + escaped(lane.budget()) + ", layer " + whole(lane.layer) +
         "</title><desc>Time runs to the right, positions downwards; long lines are states kept for "
         "long.</desc><path d=\"" +
         runs + "\"/></svg>";
}

inline int half(const std::vector<int>& deaths) noexcept { return static_cast<int>(deaths.size() / 2); }

/// How far back each layer and head reaches: a cell is the share of states older than those a window sees, the k before
/// a token and what it was read together with (`chunk`).
inline markup reach_figure(const std::vector<trace_lane>& lanes, int chunk) {
  markup out;
  for (std::size_t i = 0; i < lanes.size();) {
    const trace_lane& first = lanes[i];
    cell_plot p{.title = first.policy() + ":" + first.budget(),
                .description = "Percent of the states seen that are older than all a window sees, by layer and head.",
                .x_title = first.lanes == 1 ? "all heads" : "KV head",
                .y_title = "layer"};
    for (int lane = 0; lane < first.lanes; ++lane)
      p.columns.push_back(first.lanes == 1 ? std::string() : std::to_string(lane));
    const int window = bounded(as_number(*first.budget_of));
    for (; i < lanes.size() && lanes[i].row == first.row; ++i) {
      if (lanes[i].lane == 0) p.rows.push_back(std::to_string(lanes[i].layer));
      const std::vector<int> deaths = deaths_of(lanes[i]);
      const seen_states n = count_seen(deaths, deaths, half(deaths), window + chunk - 1);
      p.cells.push_back(n.all > 0 ? static_cast<double>(n.old) / static_cast<double>(n.all)
                                  : std::numeric_limits<double>::quiet_NaN());
    }
    out += "<figure>" + to_svg(p) + "</figure>\n";
  }
  return "<h3>How far back each layer and head reaches</h3><div class=\"many\">" + out +
         "</div><p class=\"caption\">Percent of the states seen in the second half of the window that are older than "
         "all that a plain window sees.</p>\n";
}

/// Of the states that one build saw in the second half of the traced window, the share that another saw too; a row for
/// each policy that both traced. Precondition: of one model and text. `theirs` may hold anything: a row of it that has
/// another shape is none.
inline report_json alike_in_both(const report_json& ours, const report_json& theirs) {
  report_json rows = report_json::array();
  const auto mine = trace_lanes(ours), others = trace_lanes(theirs);
  for (std::size_t i = 0; i < mine.size();) {
    const trace_lane& first = mine[i];
    const auto begin = std::find_if(others.begin(), others.end(), [&](const trace_lane& l) {
      return *l.policy_of == *first.policy_of && *l.budget_of == *first.budget_of;
    });
    auto same = begin;
    seen_states sum;
    bool every = true;
    for (; i < mine.size() && mine[i].row == first.row; ++i) {
      every = every && same != others.end() && same->row == begin->row && same->layer == mine[i].layer &&
              same->lane == mine[i].lane && same->lanes == mine[i].lanes &&
              same->deaths->size() == mine[i].deaths->size();
      if (!every) continue;
      const std::vector<int> deaths = deaths_of(mine[i]);
      const seen_states n = count_seen(deaths, deaths_of(*same++), half(deaths), 0);
      sum.all += n.all, sum.alike += n.alike;
    }
    if (every && sum.all > 0)
      rows.push_back({{"policy", first.policy()},
                      {"budget", bounded(as_number(*first.budget_of))},
                      {"alike", static_cast<double>(sum.alike) / static_cast<double>(sum.all)}});
  }
  return rows;
}

inline markup trace_section(const report_json& report) {
  const report_json& trace = field(report, "trace");
  const auto lanes = trace_lanes(report);
  if (lanes.empty()) return {};
  const int chunk = std::max(1, bounded(number_at(report, "chunk")));
  const report_json& tokens = list_at(trace, "tokens");
  bool bytes = true;
  for (const report_json& token : tokens) bytes = bytes && as_number(token) <= 256;

  // Lanes beyond this much text are left out, and the page says so: it has to open at once.
  constexpr std::size_t most = 1'000'000;
  report_json data = {{"lanes", report_json::array()}};
  std::size_t size = 0, left_out = 0;
  for (const trace_lane& l : lanes) {
    std::string lives = packed_lives(*l.deaths);
    if (size + lives.size() > most || l.deaths->size() > 4095) {
      ++left_out;
      continue;
    }
    size += lives.size();
    data["lanes"].push_back(
        {{"row", l.policy() + " at k = " + l.budget()},
         {"name", l.lanes == 1 ? fmt::format("layer {}", l.layer) : fmt::format("layer {}, head {}", l.layer, l.lane)},
         {"lives", std::move(lives)}});
  }
  std::string json = data.dump(-1, ' ', true, report_json::error_handler_t::replace);
  for (std::size_t at = 0; (at = json.find('<', at)) != json.npos;) json.replace(at, 1, "\\u003c");  // no tag ends it

  // The lane shown before any script runs: the first that is no plain window.
  const trace_lane* first = &lanes[0];
  for (const trace_lane& l : lanes)
    if (l.policy().starts_with("tova") || l.policy().starts_with("h2o")) {
      first = &l;
      break;
    }
  markup text;
  const std::vector<int> deaths = deaths_of(*first);
  for (std::size_t p = 0; p < tokens.size(); ++p) {
    const double share = static_cast<double>(deaths[p] - static_cast<int>(p)) / static_cast<double>(tokens.size() - p);
    text += "<span class=\"s" + whole(static_cast<int>(std::lround(20 * std::clamp(share, 0.0, 1.0)))) + "\">" +
            token_html(bounded(as_number(tokens[p])), bytes) + "</span>";
  }
  return "<div class=\"controls js\"><label>Policy <select id=\"row\"></select></label>"
         "<label>Layer and head <input id=\"lane\" type=\"range\" min=\"0\" max=\"0\" value=\"0\"> <output "
         "id=\"lane-name\"></output></label>"
         "<label>Step <input id=\"step\" type=\"range\" min=\"1\" max=\"" +
         whole(tokens.size()) + "\" value=\"" + whole(tokens.size()) +
         "\"> <output id=\"step-name\"></output></label></div>\n"
         "<div class=\"trace\"><figure><div id=\"lives\">" +
         life_svg(*first) + "</div><figcaption><span id=\"lives-name\"><code>" + escaped(first->policy()) +
         "</code> at k = " + escaped(first->budget()) + ", layer " + whole(first->layer) +
         "</span>. Time runs to the right, positions downwards; a line is a state from when it came to when it was "
         "forgotten.</figcaption></figure>\n<div class=\"reading\"><p id=\"says\" role=\"status\">Shaded by the share "
         "of the rest of the window that each token's state "
         "lived: the darker, the longer.</p><div id=\"text\" tabindex=\"0\" role=\"group\" aria-label=\"The text; "
         "arrow keys "
         "move from token to token\" data-first=\"" +
         escaped(first->policy() + " at k = " + first->budget()) + "\">" + text + "</div></div></div>\n" +
         (left_out > 0 ? "<p class=\"caption\">" + whole(left_out) +
                             " lanes are left out to keep the page small; the JSON has them.</p>\n"
                       : markup()) +
         reach_figure(lanes, chunk) + "<script type=\"application/json\" id=\"data\">" + markup::as_is(json) +
         "</script>\n";
}

}  // namespace multistate::tools
