#pragma once

#include <nlohmann/json.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <multistate/tools/svg.hpp>

/// How the page reads a comparison's JSON: whatever is absent, null or of another kind was not measured.
namespace multistate::detail {

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

inline std::string word_at(const report_json& j, std::string_view key) {
  const report_json& x = field(j, key);
  if (x.is_string()) return x.get<std::string>();
  return x.is_null() ? "" : x.dump(-1, ' ', false, report_json::error_handler_t::replace);
}

inline bool is_true(const report_json& j, std::string_view key) {
  const report_json& x = field(j, key);
  return x.is_boolean() && x.get<bool>();
}

/// Not measured prints as an en dash.
inline std::string cell_number(double x, int digits, double factor = 1) {
  if (!std::isfinite(x)) return "&#8211;";
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, x * factor);
  std::string out = text.data();
  if (out.find_first_not_of("-0.") == out.npos && out[0] == '-') out.erase(0, 1);
  const std::size_t point = std::min(out.find('.'), out.size()), first = out[0] == '-' ? 1 : 0;
  for (std::size_t at = point; at > first + 3; at -= 3) out.insert(at - 3, ",");
  return out[0] == '-' ? "&#8722;" + out.substr(1) : out;
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

/// A policy looks the same in every figure: its place among the rows is its style.
inline int style_of(const report_json& report, std::string_view policy) {
  int style = 0;
  for (const report_json& name : distinct(list_at(report, "rows"), "policy")) {
    if (name == policy) return style;
    if (name.is_string() && !is_reference(name.get<std::string>())) ++style;
  }
  return style;
}

inline std::string not_measured(std::string_view what) {
  return "<p class=\"absent\">" + std::string(what) + " not measured in this run.</p>\n";
}

}  // namespace multistate::detail
