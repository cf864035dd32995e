#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <tools/report/report.hpp>

/// The columns of the table of results, each declared once; the writers of JSON, CSV, text and page go over this list.
namespace multistate::tools {

/// What a column holds.
enum class column_kind : std::uint8_t {
  policy,    ///< a name
  budget,    ///< a whole number, null for all
  number,    ///< times `factor`, with `digits`
  interval,  ///< [low, high]
  letters,   ///< few characters
  other,     ///< in the JSON only: lists, or said otherwise
};

struct column {
  std::string_view key;  ///< in JSON and CSV
  column_kind kind;
  std::string_view title, unit;  ///< as people read them
  int digits;
  double factor;  ///< from the JSON's unit to this one
  /// The JSON's value of a result; none: the key is left out.
  std::optional<report_json> (*get)(const run_result& result, const report& all);
};

/// In the order of the JSON.
std::span<const column> all_columns() noexcept;

/// The columns that a writer shows, in its order.
std::span<const std::string_view> csv_columns() noexcept;   ///< interval_low and interval_high are ends of `interval`
std::span<const std::string_view> text_columns() noexcept;  ///< where there is no room the last ones are left out
std::span<const std::string_view> page_columns() noexcept;  ///< the columns that tell most
std::span<const std::string_view> more_columns() noexcept;  ///< a second table of the page

/// Precondition: there is one.
const column& column_of(std::string_view key) noexcept;

/// A cell as text in ASCII; empty where nothing was measured. `entry` is one of the JSON's rows.
std::string cell_text(const column& c, const report_json& entry);

/// Those of `keys` that some entry has a value for; policy, budget and cost are always there.
std::vector<const column*> filled_columns(std::span<const std::string_view> keys, const report_json& entries);

}  // namespace multistate::tools
