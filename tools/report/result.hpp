#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <multistate/eval/compare.hpp>
#include <multistate/eval/figures.hpp>
#include <multistate/memory/memory_setup.hpp>
#include <multistate/types/ids.hpp>

namespace multistate::tools {

/// What one entry of a comparison, a policy at a budget, gave. A plain value: no memory of a sequence lives on in it.
struct run_result {
  std::string policy;         ///< canonical, without budget; position mode behind '@'
  std::optional<int> budget;  ///< states a layer; none: keeps everything
  position_mode positions = position_mode::original;
  std::optional<scope_kind> scope = {};  ///< none: it was not run
  std::vector<int> lanes = {};           ///< [layers] of its memory
  std::vector<std::uint64_t> seeds = {};
  std::string skipped = {};  ///< why it was not run
  std::optional<figures> measured = {};
};

/// What a run gave, without its memories.
run_result result_of(const policy_run& run);

/// Whether a budget is small beside the longest window, of T tokens.
enum class budget_mark : std::uint8_t {
  none,           ///< k <= T/4
  above_quarter,  ///< little was forgotten
  above_half,     ///< k >= T/2: next to nothing was forgotten
};
budget_mark mark_of(std::optional<int> budget, int longest_window) noexcept;

/// As JSON and CSV say it: "", "k > T/4", "k >= T/2".
std::string_view text_of(budget_mark mark) noexcept;
/// `none` for any other text.
budget_mark parse_mark(std::string_view text) noexcept;

/// "head", "layer", "model".
std::string_view text_of(scope_kind scope) noexcept;
/// "original", "incache", "log".
std::string_view text_of(position_mode positions) noexcept;

}  // namespace multistate::tools
