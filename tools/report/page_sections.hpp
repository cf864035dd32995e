#pragma once

#include <string>

#include <tools/report/markup.hpp>
#include <tools/report/reading.hpp>
#include <tools/report/svg.hpp>

/// The figures and tables of the page: each from the comparison's JSON to HTML, empty where nothing was measured.
namespace multistate::tools {

// -- cells

/// As fixed_number(), with a minus sign; what was not measured is an en dash.
markup cell_number(double x, int digits, double factor = 1);

/// The policy of an entry.
markup name_cell(const report_json& entry);
/// Its budget.
markup budget_cell(const report_json& entry);

// -- figures (page_figures.cpp)

/// NLL above Full's against allocated bytes, one line a policy; the room between random and the oracle is shaded.
line_plot cost_plot(const report_json& report);
/// The plot, and what is seen in it.
markup cost_figure(const report_json& report);
/// Cost against position, a plot for each budget.
markup position_figure(const report_json& report);
/// Share of states alive against their age, a plot for each budget.
markup survival_figure(const report_json& report);
/// Share of questions answered against distance / k, the question unseen while forgetting, one plot for a number of
/// facts and a budget.
markup recall_figure(const report_json& report);
/// Share right by length and depth.
markup needle_figure(const report_json& report);
/// Time per token against position, its three parts stacked: Full and the budget that is traced.
markup time_figure(const report_json& report);

// -- tables (page_tables.cpp)

/// The columns that tell most, and the others folded away.
markup main_tables(const report_json& report);
markup pair_table(const report_json& report);
markup recall_table(const report_json& report);
markup kind_table(const report_json& report);
markup free_run_section(const report_json& report);
markup mode_table(const report_json& report);
markup agreement_table(const report_json& report);
markup time_table(const report_json& report);
/// The command, and under what conditions it ran; what is not known is left out.
markup how_to_repeat(const report_json& report);

// -- what was kept (page_trace.cpp)

/// Positions over time, the text shaded by how long each token lived, how far back layers and heads reach.
markup trace_section(const report_json& report);
/// The character that a token of a byte model shows as; the number of another token.
markup token_html(int token, bool bytes);
/// Lives of one lane, two characters of base 64 each: a tenth of the JSON's size.
std::string packed_lives(const report_json& deaths);

}  // namespace multistate::tools
