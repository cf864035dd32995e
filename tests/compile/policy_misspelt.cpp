// A policy from outside, whole; BAD has a typing error in the name of a hook, which would otherwise never be called.
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
  constexpr multistate::evidence wants() const { return {.last = 1}; }
  constexpr const char* check(int) const { return nullptr; }
  constexpr multistate::protect keeps(int) const { return {}; }
  std::span<const float> WORTH(const multistate::lane_ref&, const multistate::rows& r) const noexcept {
    return r.last();
  }
};
static_assert(multistate::diagnose_policy<mine>());

int main() {}
