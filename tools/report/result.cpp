#include <tools/report/result.hpp>

#include <array>
#include <cstddef>

namespace multistate::tools {

namespace {

constexpr std::array<std::string_view, 3> mark_texts{"", "k > T/4", "k >= T/2"};
constexpr std::array<std::string_view, 3> scope_texts{"head", "layer", "model"};
constexpr std::array<std::string_view, 3> position_texts{"original", "incache", "log"};

}  // namespace

run_result result_of(const policy_run& run) {
  run_result out{.policy = run.policy, .budget = run.budget, .positions = run.positions};
  out.seeds = run.seeds;
  out.skipped = run.skipped;
  out.measured = run.measured;
  if (run.memories.empty()) return out;
  const sequence_memory& memory = run.memories[0];
  out.scope = memory.scope(0);
  for (int layer = 0; layer < memory.layers(); ++layer) out.lanes.push_back(memory.lanes(layer));
  return out;
}

budget_mark mark_of(std::optional<int> budget, int longest_window) noexcept {
  if (!budget) return budget_mark::none;
  if (2.0 * *budget >= longest_window) return budget_mark::above_half;
  return 4.0 * *budget > longest_window ? budget_mark::above_quarter : budget_mark::none;
}

std::string_view text_of(budget_mark mark) noexcept { return mark_texts[static_cast<std::size_t>(mark)]; }
budget_mark parse_mark(std::string_view text) noexcept {
  for (const budget_mark mark : {budget_mark::above_quarter, budget_mark::above_half})
    if (text == text_of(mark)) return mark;
  return budget_mark::none;
}

std::string_view text_of(scope_kind scope) noexcept { return scope_texts[static_cast<std::size_t>(scope)]; }
std::string_view text_of(position_mode positions) noexcept {
  return position_texts[static_cast<std::size_t>(positions)];
}

}  // namespace multistate::tools
