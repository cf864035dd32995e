// A policy from outside, whole; BAD forgets what its memory per slot is.
#include <multistate/policies.hpp>

struct mine {
  static constexpr std::string_view name = "mine";
  static constexpr multistate::needs wants = multistate::needs::last_row;
#if !defined(BAD)
  static constexpr int columns = 0;
#endif
  int budget = 0;
  multistate::scope_kind scope = multistate::scope_kind::layer;
  static constexpr auto options = std::tuple{multistate::policy_option{"scope", &mine::scope}};
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
