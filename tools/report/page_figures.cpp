#include <tools/report/page_sections.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include <tools/report/policy_names.hpp>

namespace multistate::tools {

namespace {

markup figure(const markup& svg, const markup& caption) {
  return "<figure>" + svg + "<figcaption>" + caption + "</figcaption></figure>\n";
}

/// "Dotted: random, oracle. ": the lines of references that are drawn. Empty where there are none.
markup dotted_lines(const std::vector<const line_plot*>& plots) {
  std::vector<std::string> names;
  for (const line_plot* p : plots)
    for (const plot_series& s : p->series)
      if (s.reference && std::find(names.begin(), names.end(), s.name) == names.end()) names.push_back(s.name);
  markup out;
  for (const std::string& name : names)
    out += (out.empty() ? "Dotted: <code>" : ", <code>") + escaped(name) + "</code>";
  return out.empty() ? out : out + ". ";
}

/// Limits that hold all points and the ends of their intervals.
void fit(line_plot& p, std::string x_title, bool x_log, std::string y_title, bool y_from_zero) {
  std::vector<double> xs, ys;
  if (y_from_zero) ys.push_back(0);
  for (const plot_series& s : p.series)
    for (const plot_point& q : s.points) {
      xs.push_back(q.x);
      ys.insert(ys.end(), {q.y, q.low, q.high});
    }
  p.x = axis_over(std::move(x_title), xs, x_log);
  p.y = axis_over(std::move(y_title), ys);
}

/// What each entry lists: points (x, y) under `key`.
struct listed_curve {
  const char *key, *x, *y;
  bool survives = false;  ///< a share of states, to be seen beside that of an exact window
};

/// One small plot a budget of such curves.
markup plots_by_budget(const report_json& report, const listed_curve& curve, const line_plot& like, bool x_log,
                       const markup& caption) {
  const report_json& entries = list_at(report, "rows");
  markup out;
  std::vector<line_plot> plots;
  for (const report_json& budget : distinct(entries, "budget")) {
    line_plot p = like;
    p.width = 560, p.height = 330;
    p.title += " at k = " + text_of(budget);
    double most = 0;
    for (const report_json& entry : entries) {
      if (field(entry, "budget") != budget) continue;
      const std::string policy = word_at(entry, "policy");
      plot_series s{policy, {}, style_of(policy), is_reference(policy), false};
      for (const report_json& q : list_at(entry, curve.key))
        s.points.push_back({number_at(q, curve.x), number_at(q, curve.y)});
      for (std::size_t i = 1; curve.survives && i < s.points.size();
           ++i)  // older results counted other states at each age
        s.points[i].y = std::min(s.points[i].y, s.points[i - 1].y);
      constexpr std::size_t most_marks = 24;  // lines that meet are told apart by their marks, not by colour alone
      s.marks = !s.reference && s.points.size() <= most_marks;
      for (const plot_point& q : s.points) most = std::max(most, q.x);
      if (!s.points.empty()) p.series.push_back(std::move(s));
    }
    if (p.series.empty()) continue;
    if (curve.survives) {  // Window forgets at one age exactly
      const double k = as_number(budget);
      p.series.push_back({"exact window", {{1, 1}, {k, 1}, {k + 1, 0}, {std::max(most, k + 1), 0}}, 0, true, false});
    }
    fit(p, like.x.title, x_log, like.y.title, true);
    out += "<figure><h3>k = " + escaped(text_of(budget)) + "</h3>" + to_svg(p) + "</figure>\n";
    plots.push_back(std::move(p));
  }
  if (out.empty()) return out;
  std::vector<const line_plot*> drawn;
  for (const line_plot& p : plots) drawn.push_back(&p);
  return "<div class=\"pair\">" + out + "</div><p class=\"caption\">" + dotted_lines(drawn) + caption + "</p>\n";
}

}  // namespace

line_plot cost_plot(const report_json& report) {
  line_plot p{
      .title = "What each policy costs, against the memory it takes",
      .description = "Lines fall from left to right: more memory, less cost. The numbers are in the main table."};
  const report_json& entries = list_at(report, "rows");
  std::map<std::string, double> oracle;
  for (const report_json& entry : entries)
    if (role_of(word_at(entry, "policy")) == entry_role::oracle)
      oracle[word_at(entry, "budget")] = number_at(entry, "nll_minus_full");
  for (const report_json& name : distinct(entries, "policy")) {
    const std::string policy = name.is_string() ? name.get<std::string>() : "";
    const entry_role role = role_of(policy);
    if (role == entry_role::full || role == entry_role::short_context) continue;
    plot_series s{policy, {}, style_of(policy), is_reference(policy), !is_reference(policy)};
    for (const report_json& entry : entries) {
      if (field(entry, "policy") != name || field(entry, "budget").is_null()) continue;
      plot_point q{number_at(entry, "bytes_allocated") / 1e3, number_at(entry, "nll_minus_full")};
      const auto ideal = oracle.find(word_at(entry, "budget"));
      if (role == entry_role::random && ideal != oracle.end())
        q.low = ideal->second, q.high = q.y;
      else if (!s.reference)
        q.low = end_at(entry, "interval", 0), q.high = end_at(entry, "interval", 1);
      if (std::isfinite(q.y) && q.x > 0) s.points.push_back(q);
    }
    std::sort(s.points.begin(), s.points.end(), [](const auto& a, const auto& b) { return a.x < b.x; });
    if (!s.points.empty()) p.series.push_back(std::move(s));
  }
  fit(p, "allocated memory of one sequence, kB (log)", true, "nats per token above the unbounded cache", true);
  return p;
}

markup cost_figure(const report_json& report) {
  const line_plot p = cost_plot(report);
  bool oracle = false, room = false, bands = false;
  for (const plot_series& s : p.series) {
    oracle = oracle || role_of(s.name) == entry_role::oracle;
    for (const plot_point& q : s.points) (s.reference ? room : bands) |= std::isfinite(q.low) && std::isfinite(q.high);
  }
  return figure(to_svg(p),
                "Lower is better, further left is smaller. " + dotted_lines({&p}) +
                    (oracle ? "<code>oracle</code> knows the attention to come. " : "") +
                    (room ? "Shaded between <code>random</code> and it is the room that choosing has. " : "") +
                    (bands ? "Bands are 95 % intervals." : ""));
}

markup position_figure(const report_json& report) {
  const line_plot like{.title = "Cost against position",
                       .description = "One line a policy; zero is the unbounded cache.",
                       .x = {.title = "position in the window"},
                       .y = {.title = "nats above Full"}};
  return plots_by_budget(report, {"nll_by_position", "position", "difference"}, like, false,
                         "Until position k nothing is forgotten and all lines lie on zero.");
}

markup time_figure(const report_json& report) {
  constexpr std::array parts{std::pair{"rest", "rest_us"}, std::pair{"attention", "attention_us"},
                             std::pair{"policy", "policy_us"}};
  const report_json& entries = list_at(field(report, "time"), "rows");
  const report_json& traced = list_at(field(report, "trace"), "rows");
  const auto budgets = distinct(entries, "budget");
  report_json shown = traced.empty() ? report_json() : field(traced[0], "budget");
  if (std::find(budgets.begin(), budgets.end(), shown) == budgets.end())
    shown = budgets.empty() ? report_json() : budgets[0];
  std::vector<line_plot> plots;
  double most = 0;
  for (const report_json& entry : entries) {
    if (!field(entry, "budget").is_null() && field(entry, "budget") != shown) continue;
    line_plot p{.title = "Time per token of " + word_at(entry, "policy"),
                .description = "Three bands on top of each other: what the model does beside, attention, policy.",
                .width = 560,
                .height = 250};
    std::vector<plot_point> below;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      plot_series s{parts[i].first, {}, static_cast<int>(i), false, false};
      for (const report_json& bin : list_at(entry, "by_position")) {
        const std::size_t at = s.points.size();
        const double low = i == 0 ? 0 : below[at].y, high = low + number_at(bin, parts[i].second);
        s.points.push_back({number_at(bin, "position"), high, low, high});
        if (std::isfinite(high)) most = std::max(most, high);
      }
      below = s.points;
      if (!s.points.empty()) p.series.push_back(std::move(s));
    }
    if (!p.series.empty()) plots.push_back(std::move(p));
  }
  markup out;
  for (line_plot& p : plots) {
    fit(p, "position", false, "microseconds", true);
    p.y.high = most;
    out += "<figure><h3>" + escaped(p.title) + "</h3>" + to_svg(p) + "</figure>\n";
  }
  return out.empty() ? out
                     : "<div class=\"pair\">" + out +
                           "</div><p class=\"caption\">Stacked from below: what the model does "
                           "beside, attention, policy; " +
                           (shown.is_null() ? "" : "k = " + escaped(text_of(shown)) + " and ") + "Full.</p>\n";
}

markup survival_figure(const report_json& report) {
  const line_plot like{.title = "Share of states alive at an age",
                       .description = "Lines start at one and never rise; a plain window's falls at age k at once.",
                       .x = {.title = "age, tokens (log)"},
                       .y = {.title = "share alive"}};
  return plots_by_budget(report, {"survival", "age", "alive", true}, like, true,
                         "A long tail is a policy that keeps some states for good. States that are alive when their "
                         "window ends count up to there (Kaplan and Meier&#39;s estimate).");
}

markup recall_figure(const report_json& report) {
  const report_json& cells = list_at(field(report, "recall"), "cells");
  markup out;
  std::vector<line_plot> plots;
  for (const report_json& facts : distinct(cells, "facts"))
    for (const report_json& budget : distinct(cells, "budget")) {
      std::map<std::string, plot_series> lines;
      std::map<double, std::pair<double, int>> floor, full;
      for (const report_json& c : cells) {
        if (field(c, "facts") != facts || field(c, "budget") != budget || word_at(c, "mode") != "sequential") continue;
        const double x = number_at(c, "distance_over_k"), share = number_at(c, "share");
        const std::string policy = word_at(c, "policy"), variant = word_at(c, "variant");
        if (variant == "removed" && std::isfinite(share)) floor[x].first += share, ++floor[x].second;
        if (variant != "last" || is_true(c, "not_applicable")) continue;
        plot_series& s = lines[policy];
        s.name = policy, s.style = style_of(policy), s.reference = is_reference(policy);
        s.marks = !s.reference;
        s.points.push_back({x, share, end_at(c, "interval", 0), end_at(c, "interval", 1)});
        if (const double f = number_at(c, "full_share"); std::isfinite(f)) full[x].first += f, ++full[x].second;
      }
      const bool one = facts == 1;
      line_plot p{.title = (one ? "Recall of one fact" : "Recall of one of " + text_of(facts) + " facts") +
                           " at k = " + text_of(budget),
                  .description = "Share of questions answered right against the distance of the fact in budgets.",
                  .width = 560,
                  .height = 330};
      for (auto& [name, s] : lines) {
        std::sort(s.points.begin(), s.points.end(), [](const auto& a, const auto& b) { return a.x < b.x; });
        p.series.push_back(std::move(s));
      }
      if (p.series.empty()) continue;
      for (const auto& [name, means] : {std::pair{"Full", &full}, std::pair{"fact removed", &floor}}) {
        plot_series s{name, {}, 0, true, false};
        for (const auto& [x, mean] : *means) s.points.push_back({x, mean.first / mean.second});
        if (!s.points.empty()) p.series.push_back(std::move(s));
      }
      fit(p, "distance / k (log)", true, "share right", true);
      p.y.low = 0, p.y.high = 1;
      out += "<figure><h3>" + escaped(text_of(facts)) + (one ? " fact" : " facts") +
             ", k = " + escaped(text_of(budget)) + "</h3>" + to_svg(p) + "</figure>\n";
      plots.push_back(std::move(p));
    }
  if (out.empty())
    return cells.empty()
               ? out
               : "<p class=\"absent\">No cell applies: Full itself answers fewer than 90 % of the questions, so "
                 "that nobody can be said to have forgotten.</p>\n";
  std::vector<const line_plot*> drawn;
  for (const line_plot& p : plots) drawn.push_back(&p);
  return "<div class=\"pair\">" + out + "</div><p class=\"caption\">" + dotted_lines(drawn) +
         "The question comes last, unseen while forgetting. Bands: 95 % (Wilson).</p>\n";
}

markup needle_figure(const report_json& report) {
  const report_json& grid = list_at(field(report, "recall"), "grid");
  markup out;
  const auto lengths = distinct(grid, "length"), depths = distinct(grid, "depth");
  for (const report_json& policy : distinct(grid, "policy"))
    for (const report_json& budget : distinct(grid, "budget")) {
      cell_plot p{.title = text_of(policy) + ":" + text_of(budget),
                  .description = "Percent of questions answered right by length and depth.",
                  .x_title = "length, tokens",
                  .y_title = "depth"};
      for (const report_json& l : lengths) p.columns.push_back(text_of(l));
      bool any = false;
      for (const report_json& d : depths) {
        p.rows.push_back(short_number(100 * as_number(d), 3).str() + " %");
        for (const report_json& l : lengths) {
          double share = std::numeric_limits<double>::quiet_NaN();
          for (const report_json& c : grid)
            if (field(c, "policy") == policy && field(c, "budget") == budget && field(c, "length") == l &&
                field(c, "depth") == d && !is_true(c, "not_applicable"))
              share = number_at(c, "share"), any = true;
          p.cells.push_back(share);
        }
      }
      if (any) out += "<figure>" + to_svg(p) + "</figure>\n";
    }
  if (out.empty()) return out;
  return "<h3>Needle grids</h3><div class=\"many\">" + out +
         "</div><p class=\"caption\">Percent right by length of the text and depth of the fact; n/a: Full itself is "
         "under 90 %.</p>\n";
}

}  // namespace multistate::tools
