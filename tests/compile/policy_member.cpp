// A policy from outside, whole; BAD forgets what it looks at.
#include <multistate/policies.hpp>

struct mine {
  static constexpr std::string_view name = "mine";
  int budget = 0;
  multistate::scope_kind scope = multistate::scope_kind::layer;
  static constexpr auto options = std::tuple{multistate::policy_option{"scope", &mine::scope}};
#if !defined(BAD)
  constexpr multistate::evidence wants() const { return {.last = 1}; }
#endif
  constexpr const char* check(int) const { return nullptr; }
  constexpr multistate::protect keeps(int) const { return {}; }
  std::span<const float> worth(const multistate::lane_ref&, const multistate::rows& r) const noexcept {
    return r.last();
  }
};

int main() {
  auto made = multistate::decider<mine>::make({.budget = 4}, {.kv_heads = 1}, {});
  return made ? 0 : 1;
}
