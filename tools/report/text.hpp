#pragma once

#include <span>
#include <string>
#include <string_view>

#include <tools/report/report.hpp>

/// What `compare` prints. Every text is ready for a terminal: nothing in it controls one but the colours asked for, and
/// no line is wider than `width` unless one word is.
namespace multistate::tools {

struct text_style {
  int width = 80;       ///< columns
  bool colour = false;  ///< entries with k >= T/2 are greyed
};

/// All of it, from the header to the finding; `json` is to_json(r), `written` the files that were written.
std::string report_text(const report& r, const report_json& json, const text_style& style,
                        std::span<const std::string> written = {});

/// How the comparison was done.
std::string header_text(const report& r, const text_style& style = {});

// The others are from the JSON; each is empty where nothing was measured.

/// The table of results: as many of text_columns() as there is room for.
std::string table_text(const report_json& json, const text_style& style = {});
/// Share of right answers to one fact told so many tokens back, of prompts read token by token.
std::string recall_text(const report_json& recall, const text_style& style = {});
/// Cost of a prompt read in each way.
std::string prompt_modes_text(const report_json& modes, const text_style& style = {});
std::string free_run_text(const report_json& run, const text_style& style = {});
std::string time_text(const report_json& time, const text_style& style = {});
/// The share of states that another build kept too.
std::string against_text(const report_json& other, const text_style& style = {});
std::string notes_text(const report_json& json, const text_style& style = {});
/// The verdict, see verdict.hpp.
std::string finding_text(const report_json& json, const text_style& style = {});

/// Lines of at most `width` columns, broken at spaces; those after the first begin with `indent` spaces. Ends with a
/// line feed.
std::string wrapped(std::string_view text, int width, int indent = 0);

}  // namespace multistate::tools
