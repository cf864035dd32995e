#pragma once

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <multistate/io/file.hpp>
#include <tools/report/markup.hpp>
#include <tools/report/svg.hpp>

/// How the page reads a comparison's JSON: whatever is absent, null or of another kind was not measured.
namespace multistate::tools {

using report_json = nlohmann::ordered_json;

inline const report_json& field(const report_json& j, std::string_view key) {
  static const report_json nothing;
  if (!j.is_object()) return nothing;
  const auto found = j.find(std::string(key));
  return found == j.end() ? nothing : *found;
}

/// The elements of a list; none where it is no list.
inline const report_json& list_at(const report_json& j, std::string_view key) {
  static const report_json nothing = report_json::array();
  const report_json& x = field(j, key);
  return x.is_array() ? x : nothing;
}

inline double as_number(const report_json& x) {
  return x.is_number() ? x.get<double>() : std::numeric_limits<double>::quiet_NaN();
}
inline double number_at(const report_json& j, std::string_view key) { return as_number(field(j, key)); }

/// One end of an interval [low, high].
inline double end_at(const report_json& j, std::string_view key, std::size_t end) {
  const report_json& x = list_at(j, key);
  return x.size() == 2 ? as_number(x[end]) : std::numeric_limits<double>::quiet_NaN();
}

inline std::string text_of(const report_json& x) {
  if (x.is_string()) return x.get<std::string>();
  return x.is_null() ? "" : x.dump(-1, ' ', false, report_json::error_handler_t::replace);
}
inline std::string word_at(const report_json& j, std::string_view key) { return text_of(field(j, key)); }

inline bool is_true(const report_json& j, std::string_view key) {
  const report_json& x = field(j, key);
  return x.is_boolean() && x.get<bool>();
}

/// Not measured prints as an en dash.
inline markup cell_number(double x, int digits, double factor = 1) {
  if (!std::isfinite(x * factor)) return "&#8211;";
  std::string out = fmt::format("{:.{}f}", x * factor, digits);
  if (out.find_first_not_of("-0.") == out.npos && out[0] == '-') out.erase(0, 1);
  const std::size_t point = std::min(out.find('.'), out.size()), first = out[0] == '-' ? 1 : 0;
  for (std::size_t at = point; at > first + 3; at -= 3) out.insert(at - 3, ",");
  return out[0] == '-' ? "&#8722;" + markup::as_is(std::string_view(out).substr(1)) : markup::as_is(out);
}

/// A row's budget.
inline markup budget_cell(const report_json& row) {
  return field(row, "budget").is_null() ? "all" : escaped(word_at(row, "budget"));
}

/// Whatever stands in the JSON under `key`, each value once, in order of appearance.
inline std::vector<report_json> distinct(const report_json& rows, std::string_view key) {
  std::vector<report_json> out;
  for (const report_json& row : rows) {
    const report_json& x = field(row, key);
    if (!x.is_null() && std::find(out.begin(), out.end(), x) == out.end()) out.push_back(x);
  }
  return out;
}

/// Rows that are measured beside the policies: what there is to gain and to lose.
inline bool is_reference(std::string_view policy) {
  return policy.starts_with("random") || policy.starts_with("oracle") || policy.starts_with("short") ||
         policy == "full";
}

/// Policies by their style: the standard rows have the first, solid ones.
inline constexpr std::array<std::string_view, 12> known_styles{
    "window",          "window+4", "window+4@incache", "h2o",      "h2o,scope=layer", "tova",
    "tova,scope=head", "knorm",    "window+4@log",     "window+1", "tova@incache",    "tova@log"};

/// A policy looks the same in every figure of every report: its name alone is its style. Of other policies two may want
/// the same one; then the later by name takes the next that is free.
inline int style_of(const report_json& report, std::string_view policy) {
  if (is_reference(policy)) return 0;
  const auto known = std::find(known_styles.begin(), known_styles.end(), policy);
  if (known != known_styles.end()) return static_cast<int>(known - known_styles.begin());
  std::set<std::string> others{std::string(policy)};
  for (const report_json& row : list_at(report, "rows")) {
    const std::string name = word_at(row, "policy");
    if (!is_reference(name) && std::find(known_styles.begin(), known_styles.end(), name) == known_styles.end())
      others.insert(name);
  }
  constexpr std::size_t first = known_styles.size(), free = plot_styles - first;
  std::array<bool, free> taken{};
  std::size_t at = 0, count = 0;
  for (const std::string& name : others) {
    at = hash_bytes(std::as_bytes(std::span(name))) % free;
    for (; taken[at] && count < free; at = (at + 1) % free) continue;
    taken[at] = true;
    ++count;
    if (name == policy) break;
  }
  return static_cast<int>(first + at);
}

/// The most queries of a window; 0 where the report does not say.
inline double longest_window(const report_json& report) {
  double most = 0;
  for (const report_json& window : list_at(report, "windows"))
    if (const double queries = number_at(window, "queries"); queries > most) most = queries;
  return most;
}

/// Whether something was forgotten at this budget: it does not hold all that comes before the last chunk of the longest
/// window. True where the report does not say.
inline bool forgets(const report_json& report, const report_json& budget) {
  const double longest = longest_window(report), together = number_at(report, "chunk");
  const double chunk = together >= 1 ? together : 1;
  return !(longest > 0 && as_number(budget) >= std::floor((longest - 1) / chunk) * chunk);
}

}  // namespace multistate::tools
