// A policy from outside, whole; BAD has a setting of a type that no string form can have.
#include <multistate/policies.hpp>

#if defined(BAD)
using setting_type = long double;
#else
using setting_type = double;
#endif

struct mine {
  static constexpr std::string_view name = "mine";
  int budget = 0;
  multistate::scope_kind scope = multistate::scope_kind::layer;
  setting_type decay = 0;
  static constexpr auto options = std::tuple{multistate::policy_option{"decay", &mine::decay}};
  constexpr multistate::evidence wants() const { return {}; }
  constexpr const char* check(int) const { return nullptr; }
  constexpr multistate::protect keeps(int) const { return {}; }
};
static_assert(multistate::diagnose_policy<mine>());

int main() {}
