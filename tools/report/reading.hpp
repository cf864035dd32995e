#pragma once

#include <nlohmann/json.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

/// How the writers read a comparison's JSON, which may be anybody's: whatever is absent, null or of another kind was
/// not measured. json::value() throws where a value is of another kind.
namespace multistate::tools {

using report_json = nlohmann::ordered_json;

const report_json& field(const report_json& j, std::string_view key);

/// The elements of a list; none where it is no list.
const report_json& list_at(const report_json& j, std::string_view key);

/// NaN where it is no number.
double as_number(const report_json& x);
double number_at(const report_json& j, std::string_view key);

/// One end of an interval [low, high]; NaN where there is none.
double end_at(const report_json& j, std::string_view key, std::size_t end);

/// A string as it is, anything else as JSON; null is empty.
std::string text_of(const report_json& x);
std::string word_at(const report_json& j, std::string_view key);

bool is_true(const report_json& j, std::string_view key);

/// As a whole number within reach of ints; what is no number is 0.
int bounded(double x);

/// What stands in the entries under `key`, each value once, in order of appearance.
std::vector<report_json> distinct(const report_json& entries, std::string_view key);

/// A number in fixed notation times `factor`, with commas between thousands; never "-0". Empty where it is not finite.
std::string fixed_number(double x, int digits, double factor = 1);

/// The most queries of a window; 0 where the report does not say.
double longest_window(const report_json& report);

/// Whether something was forgotten at this budget: it does not hold all that comes before the last chunk of the longest
/// window. True where the report does not say.
bool forgets(const report_json& report, const report_json& budget);

}  // namespace multistate::tools
