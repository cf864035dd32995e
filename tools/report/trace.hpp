#pragma once

#include <string>
#include <vector>

#include <tools/report/reading.hpp>

/// What was kept in one window, as the JSON tells it: when each state of each lane was dropped.
namespace multistate::tools {

/// One lane of a traced entry. What it points to is the report's.
struct trace_lane {
  const report_json *entry = nullptr, *policy_of = nullptr, *budget_of = nullptr;
  int layer = 0, lane = 0, lanes = 0;
  const report_json* deaths = nullptr;

  std::string policy() const;
  std::string budget() const;  ///< "64"; "all"
};

/// All lanes of the trace whose length is the window's.
std::vector<trace_lane> trace_lanes(const report_json& report);

/// [position] first query that no longer saw the state; one whose death is no number lived not at all.
std::vector<int> deaths_of(const trace_lane& lane);

/// The query from which on states are counted.
int half(const std::vector<int>& deaths) noexcept;

/// Of the states that one build saw in the second half of the traced window, the share that another saw too; an entry
/// for each policy that both traced. Precondition: of one model and text. `theirs` may hold anything: an entry of it
/// that has another shape is none.
report_json alike_in_both(const report_json& ours, const report_json& theirs);

}  // namespace multistate::tools
