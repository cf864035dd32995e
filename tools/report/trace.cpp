#include <tools/report/trace.hpp>

#include <algorithm>

#include <multistate/eval/seen_states.hpp>

namespace multistate::tools {

std::string trace_lane::policy() const { return text_of(*policy_of); }
std::string trace_lane::budget() const { return budget_of->is_null() ? "all" : text_of(*budget_of); }

std::vector<trace_lane> trace_lanes(const report_json& report) {
  const report_json& trace = field(report, "trace");
  const std::size_t T = list_at(trace, "tokens").size();
  std::vector<trace_lane> out;
  for (const report_json& entry : list_at(trace, "rows")) {
    const report_json &policy = field(entry, "policy"), &budget = field(entry, "budget");
    int layer = 0;
    for (const report_json& lanes : list_at(entry, "layers")) {
      if (!lanes.is_array()) continue;
      for (std::size_t i = 0; i < lanes.size(); ++i)
        if (lanes[i].is_array() && lanes[i].size() == T && T > 0)
          out.push_back(
              {&entry, &policy, &budget, layer, static_cast<int>(i), static_cast<int>(lanes.size()), &lanes[i]});
      ++layer;
    }
  }
  return out;
}

std::vector<int> deaths_of(const trace_lane& lane) {
  std::vector<int> out;
  for (const report_json& death : *lane.deaths)
    out.push_back(death.is_number() ? bounded(as_number(death)) : static_cast<int>(out.size()));
  return out;
}

int half(const std::vector<int>& deaths) noexcept { return static_cast<int>(deaths.size() / 2); }

report_json alike_in_both(const report_json& ours, const report_json& theirs) {
  report_json entries = report_json::array();
  const auto mine = trace_lanes(ours), others = trace_lanes(theirs);
  for (std::size_t i = 0; i < mine.size();) {
    const trace_lane& first = mine[i];
    const auto begin = std::find_if(others.begin(), others.end(), [&](const trace_lane& l) {
      return *l.policy_of == *first.policy_of && *l.budget_of == *first.budget_of;
    });
    auto same = begin;
    seen_states sum;
    bool every = true;
    for (; i < mine.size() && mine[i].entry == first.entry; ++i) {
      every = every && same != others.end() && same->entry == begin->entry && same->layer == mine[i].layer &&
              same->lane == mine[i].lane && same->lanes == mine[i].lanes &&
              same->deaths->size() == mine[i].deaths->size();
      if (!every) continue;
      const std::vector<int> deaths = deaths_of(mine[i]);
      const seen_states n = count_seen(deaths, deaths_of(*same++), half(deaths), 0);
      sum.all += n.all, sum.alike += n.alike;
    }
    if (every && sum.all > 0)
      entries.push_back({{"policy", first.policy()},
                         {"budget", bounded(as_number(*first.budget_of))},
                         {"alike", static_cast<double>(sum.alike) / static_cast<double>(sum.all)}});
  }
  return entries;
}

}  // namespace multistate::tools
