#include <tools/report/reading.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace multistate::tools {

const report_json& field(const report_json& j, std::string_view key) {
  static const report_json nothing;
  if (!j.is_object()) return nothing;
  const auto found = j.find(std::string(key));
  return found == j.end() ? nothing : *found;
}

const report_json& list_at(const report_json& j, std::string_view key) {
  static const report_json nothing = report_json::array();
  const report_json& x = field(j, key);
  return x.is_array() ? x : nothing;
}

double as_number(const report_json& x) {
  return x.is_number() ? x.get<double>() : std::numeric_limits<double>::quiet_NaN();
}
double number_at(const report_json& j, std::string_view key) { return as_number(field(j, key)); }

double end_at(const report_json& j, std::string_view key, std::size_t end) {
  const report_json& x = list_at(j, key);
  return x.size() == 2 ? as_number(x[end]) : std::numeric_limits<double>::quiet_NaN();
}

std::string text_of(const report_json& x) {
  if (x.is_string()) return x.get<std::string>();
  return x.is_null() ? "" : x.dump(-1, ' ', false, report_json::error_handler_t::replace);
}
std::string word_at(const report_json& j, std::string_view key) { return text_of(field(j, key)); }

bool is_true(const report_json& j, std::string_view key) {
  const report_json& x = field(j, key);
  return x.is_boolean() && x.get<bool>();
}

int bounded(double x) {
  constexpr double most = 1 << 28;
  return std::isfinite(x) ? static_cast<int>(std::clamp(x, 0.0, most)) : 0;
}

std::vector<report_json> distinct(const report_json& entries, std::string_view key) {
  std::vector<report_json> out;
  for (const report_json& entry : entries) {
    const report_json& x = field(entry, key);
    if (!x.is_null() && std::find(out.begin(), out.end(), x) == out.end()) out.push_back(x);
  }
  return out;
}

std::string fixed_number(double x, int digits, double factor) {
  if (!std::isfinite(x * factor)) return "";
  std::string out = fmt::format("{:.{}f}", x * factor, digits);
  if (out.find_first_not_of("-0.") == out.npos && out[0] == '-') out.erase(0, 1);
  const std::size_t point = std::min(out.find('.'), out.size()), first = out[0] == '-' ? 1 : 0;
  for (std::size_t at = point; at > first + 3; at -= 3) out.insert(at - 3, 1, ',');
  return out;
}

double longest_window(const report_json& report) {
  double most = 0;
  for (const report_json& window : list_at(report, "windows"))
    if (const double queries = number_at(window, "queries"); queries > most) most = queries;
  return most;
}

bool forgets(const report_json& report, const report_json& budget) {
  const double longest = longest_window(report), together = number_at(report, "chunk");
  const double chunk = together >= 1 ? together : 1;
  return !(longest > 0 && as_number(budget) >= std::floor((longest - 1) / chunk) * chunk);
}

}  // namespace multistate::tools
