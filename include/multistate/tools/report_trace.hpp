#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include <multistate/eval/seen_states.hpp>
#include <multistate/tools/report_figures.hpp>
#include <multistate/tools/report_tables.hpp>

/// What was kept in one window: positions over time, the text shaded by how long each token lived, how far back
/// layers and heads reach.
namespace multistate::detail {

/// The character a token of a byte model shows as; HTML.
inline std::string token_html(int token, bool bytes) {
  if (!bytes) return std::to_string(token) + " ";
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

struct trace_lane {
  std::string policy, budget;
  int layer = 0, lane = 0, lanes = 0;
  const report_json* deaths = nullptr;
};

/// All lanes of the trace whose length is the window's.
inline std::vector<trace_lane> trace_lanes(const report_json& report) {
  const report_json& trace = field(report, "trace");
  const std::size_t T = list_at(trace, "tokens").size();
  std::vector<trace_lane> out;
  for (const report_json& row : list_at(trace, "rows")) {
    int layer = 0;
    for (const report_json& lanes : list_at(row, "layers")) {
      if (!lanes.is_array()) continue;
      for (std::size_t i = 0; i < lanes.size(); ++i)
        if (lanes[i].is_array() && lanes[i].size() == T && T > 0)
          out.push_back({word_at(row, "policy"), field(row, "budget").is_null() ? "all" : field(row, "budget").dump(),
                         layer, static_cast<int>(i), static_cast<int>(lanes.size()), &lanes[i]});
      ++layer;
    }
  }
  return out;
}

/// Time to the right, position downwards: a state is a line from when it came to when it went.
inline std::string life_svg(const trace_lane& lane) {
  const std::size_t T = lane.deaths->size();
  std::string runs;
  for (std::size_t p = 0; p < T; ++p) {
    const double death = as_number((*lane.deaths)[p]);
    if (!(death > static_cast<double>(p))) continue;
    runs += "M" + std::to_string(p) + " " + std::to_string(p) + "H" + pixels(death);
  }
  const std::string side = std::to_string(T);
  return "<svg class=\"lives\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 " + side + " " + side +
         "\"><title>Kept positions over time: " + escaped(lane.policy) + " at k = " + lane.budget + ", layer " +
         std::to_string(lane.layer) +
         "</title><desc>Time runs to the right, positions downwards; long lines are states kept for "
         "long.</desc><path d=\"" +
         runs + "\"/></svg>";
}

inline int budget_of(const trace_lane& lane) {
  constexpr double most = 1 << 28;
  return static_cast<int>(std::clamp(std::atof(lane.budget.c_str()), 0.0, most));
}
/// A state whose death is no number lived not at all.
inline std::vector<int> deaths_of(const trace_lane& lane) {
  constexpr double most = 1 << 28;
  std::vector<int> out;
  for (const report_json& death : *lane.deaths) {
    const double at = as_number(death);
    out.push_back(std::isfinite(at) ? static_cast<int>(std::clamp(at, 0.0, most)) : static_cast<int>(out.size()));
  }
  return out;
}

inline int half(const std::vector<int>& deaths) noexcept { return static_cast<int>(deaths.size() / 2); }

/// How far back each layer and head reaches: a cell is the share of states older than those a window sees, the k before
/// a token and what it was read together with (`chunk`).
inline std::string reach_figure(const std::vector<trace_lane>& lanes, int chunk) {
  std::string out;
  for (std::size_t i = 0; i < lanes.size();) {
    const trace_lane& first = lanes[i];
    cell_plot p{.title = first.policy + ":" + first.budget,
                .description = "Percent of the states seen that are older than all a window sees, by layer and head.",
                .x_title = first.lanes == 1 ? "all heads" : "KV head",
                .y_title = "layer"};
    for (int lane = 0; lane < first.lanes; ++lane)
      p.columns.push_back(first.lanes == 1 ? std::string() : std::to_string(lane));
    for (; i < lanes.size() && lanes[i].policy == first.policy && lanes[i].budget == first.budget; ++i) {
      if (lanes[i].lane == 0) p.rows.push_back(std::to_string(lanes[i].layer));
      const std::vector<int> deaths = deaths_of(lanes[i]);
      const seen_states n = count_seen(deaths, deaths, half(deaths), budget_of(first) + chunk - 1);
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
/// each policy that both traced. Precondition: of one model and text.
inline report_json alike_in_both(const report_json& ours, const report_json& theirs) {
  report_json rows = report_json::array();
  const auto mine = trace_lanes(ours), others = trace_lanes(theirs);
  for (std::size_t i = 0; i < mine.size();) {
    const trace_lane& first = mine[i];
    seen_states sum;
    bool whole = true;
    for (; i < mine.size() && mine[i].policy == first.policy && mine[i].budget == first.budget; ++i) {
      const auto same = std::find_if(others.begin(), others.end(), [&](const trace_lane& l) {
        return l.policy == mine[i].policy && l.budget == mine[i].budget && l.layer == mine[i].layer &&
               l.lane == mine[i].lane && l.lanes == mine[i].lanes;
      });
      whole = whole && same != others.end();
      if (!whole) continue;
      const std::vector<int> deaths = deaths_of(mine[i]);
      const seen_states n = count_seen(deaths, deaths_of(*same), half(deaths), 0);
      sum.all += n.all, sum.alike += n.alike;
    }
    if (whole && sum.all > 0)
      rows.push_back({{"policy", first.policy},
                      {"budget", budget_of(first)},
                      {"alike", static_cast<double>(sum.alike) / static_cast<double>(sum.all)}});
  }
  return rows;
}

inline std::string trace_section(const report_json& report) {
  const report_json& trace = field(report, "trace");
  const auto lanes = trace_lanes(report);
  if (lanes.empty()) return not_measured("Which positions were kept was");
  const double together = number_at(report, "chunk");
  const int chunk = together >= 1 && together < 1 << 28 ? static_cast<int>(together) : 1;
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
        {{"row", l.policy + " at k = " + l.budget},
         {"name", l.lanes == 1 ? "layer " + std::to_string(l.layer)
                               : "layer " + std::to_string(l.layer) + ", head " + std::to_string(l.lane)},
         {"lives", std::move(lives)}});
  }
  std::string json = data.dump(-1, ' ', true, report_json::error_handler_t::replace);
  for (std::size_t at = 0; (at = json.find('<', at)) != json.npos;) json.replace(at, 1, "\\u003c");  // no tag ends it

  // The lane shown before any script runs: the first that is no plain window.
  const trace_lane* first = &lanes[0];
  for (const trace_lane& l : lanes)
    if (l.policy.starts_with("tova") || l.policy.starts_with("h2o")) {
      first = &l;
      break;
    }
  std::string text;
  const double T = static_cast<double>(tokens.size());
  for (std::size_t p = 0; p < tokens.size(); ++p) {
    const double life = as_number((*first->deaths)[p]) - static_cast<double>(p);
    const double room = std::max(1.0, T - static_cast<double>(p));
    const int token = static_cast<int>(std::clamp(as_number(tokens[p]), 0.0, 1e9));
    text += "<span style=\"--s:" + short_number(std::isfinite(life) ? std::clamp(life / room, 0.0, 1.0) : 0, 2) +
            "\">" + token_html(token, bytes) + "</span>";
  }
  return "<div class=\"controls js\"><label>Policy <select id=\"row\"></select></label>"
         "<label>Layer and head <input id=\"lane\" type=\"range\" min=\"0\" max=\"0\" value=\"0\"> <output "
         "id=\"lane-name\"></output></label>"
         "<label>Step <input id=\"step\" type=\"range\" min=\"1\" max=\"" +
         std::to_string(tokens.size()) + "\" value=\"" + std::to_string(tokens.size()) +
         "\"> <output id=\"step-name\"></output></label></div>\n"
         "<div class=\"trace\"><figure><div id=\"lives\">" +
         life_svg(*first) + "</div><figcaption><span id=\"lives-name\"><code>" + escaped(first->policy) +
         "</code> at k = " + first->budget + ", layer " + std::to_string(first->layer) +
         "</span>. Time runs to the right, positions downwards; a line is a state from when it came to when it was "
         "forgotten.</figcaption></figure>\n<div class=\"reading\"><p id=\"says\" role=\"status\">Shaded by the share "
         "of the rest of the window that each token's state "
         "lived: the darker, the longer.</p><div id=\"text\" tabindex=\"0\" role=\"group\" aria-label=\"The text; "
         "arrow keys "
         "move from token to token\" data-first=\"" +
         escaped(first->policy + " at k = " + first->budget) + "\">" + text + "</div></div></div>\n" +
         (left_out > 0 ? "<p class=\"caption\">" + std::to_string(left_out) +
                             " lanes are left out to keep the page small; the JSON has them.</p>\n"
                       : "") +
         reach_figure(lanes, chunk) + "<script type=\"application/json\" id=\"data\">" + json + "</script>\n";
}

}  // namespace multistate::detail
