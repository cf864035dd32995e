// A policy that remembers; BAD has a typing error in the name of the hook that reads what it remembers.
#include <multistate/policies.hpp>

#if defined(BAD)
#define WORTH wroth
#else
#define WORTH worth
#endif

struct mine {
  static constexpr std::string_view name = "mine";
  int budget = 0;
  multistate::scope_kind scope = multistate::scope_kind::layer;
  static constexpr auto options = std::tuple{multistate::policy_option{"scope", &mine::scope}};
  constexpr multistate::evidence wants() const { return {.last = 1, .columns = 1}; }
  constexpr const char* check(int) const { return nullptr; }
  constexpr multistate::protect keeps(int) const { return {}; }
  void observe(const multistate::lane_ref&, const multistate::rows&) const noexcept {}
  std::span<const float> WORTH(const multistate::lane_ref& lane, const multistate::rows&) const noexcept {
    return lane.column(0);
  }
};
static_assert(multistate::diagnose_policy<mine>());

int main() {}
