// A policy of one's own beside the library's: `compare` with all of them on the demo model, for instance
//   custom_policy --policies full,window+1,half,tova --budgets 32,64
#include <multistate/tools/programs.hpp>

/// Keeps the newer half of the budget and, of the older states, those that the current query attends most: TOVA with a
/// recent window, or H2O without memory.
struct half {
  static constexpr std::string_view name = "half";
  int budget = 0;
  multistate::scope_kind scope = multistate::scope_kind::layer;
  static constexpr auto options = std::tuple{multistate::policy_option{"scope", &half::scope}};

  constexpr multistate::evidence wants() const { return {.last = 1}; }
  constexpr const char* check(int) const { return nullptr; }
  constexpr multistate::protect keeps(int lane_budget) const { return {0, lane_budget / 2}; }
  std::span<const float> worth(const multistate::lane_ref&, const multistate::rows& r) const noexcept {
    return r.last();
  }
};
static_assert(multistate::diagnose_policy<half>());  // says what is missing

int main(int argc, char** argv) { return multistate::compare_main<half>(argc, argv); }
