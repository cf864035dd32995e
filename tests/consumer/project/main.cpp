// What a user's first program looks like: the policies alone, or with attention.
#include <cstdio>
#include <string_view>

#if defined(USE_core)
#include <multistate/policies.hpp>
#elif defined(USE_tools)
#include <multistate/policies.hpp>
#include <multistate/tools/programs.hpp>
#elif defined(USE_dispatch)
#include <multistate/attention/dispatched.hpp>
#include <multistate/policies.hpp>
#else
#include <multistate/multistate.hpp>
#endif
#if defined(USE_eigen)
#include <multistate/eigen/attention.hpp>
#endif
#include <multistate/version.hpp>

#if (defined(WAY_subprojects) || defined(WAY_package_and_subprojects)) && \
    !(defined(FROM_hwy) && defined(FROM_nlohmann_json))
#error "a subproject's own target was not used"
#endif

int main() {
  auto made = multistate::decider<multistate::tova>::make({.budget = 4}, {.kv_heads = 1}, {});
  if (!made) return 1;
#if defined(USE_tools)
  char name[] = "compare", flag[] = "--version";
  char* arguments[] = {name, flag, nullptr};
  return multistate::compare_main<>(2, arguments);
#endif
#if defined(USE_core) || defined(USE_tools)
  const std::string_view target = "none";
#elif defined(USE_dispatch)
  const std::string_view target = multistate::dispatched_attention_target();
#else
  const std::string_view target = multistate::attention_target();
#endif
  std::printf("multistate %s, attention: %.*s\n", MULTISTATE_VERSION, static_cast<int>(target.size()), target.data());
}
