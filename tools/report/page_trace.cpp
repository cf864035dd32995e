#include <tools/report/page_sections.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include <multistate/eval/seen_states.hpp>
#include <tools/report/policy_names.hpp>
#include <tools/report/svg.hpp>
#include <tools/report/trace.hpp>

namespace multistate::tools {

markup token_html(int token, bool bytes) {
  if (!bytes) return whole(token) + " ";
  if (token == 256) return "&#9656;";  // BOS
  if (token == '\n') return "&#8629;\n";
  if (token < 32 || token >= 127) return "&#183;";
  return escaped(std::string(1, static_cast<char>(token)));
}

std::string packed_lives(const report_json& deaths) {
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

namespace {

/// Time to the right, position downwards: a state is a line from when it came to when it went.
markup life_svg(const trace_lane& lane) {
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

/// How far back each layer and head reaches: a cell is the share of states older than those a window sees, the k before
/// a token and what it was read together with (`chunk`).
markup reach_figure(const std::vector<trace_lane>& lanes, int chunk) {
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
    for (; i < lanes.size() && lanes[i].entry == first.entry; ++i) {
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

}  // namespace

markup trace_section(const report_json& report) {
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
    if (!is_reference(l.policy()) && base_name(l.policy()) != "window") {
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
