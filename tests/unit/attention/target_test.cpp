// What the CPU could run, against Highway's own answer.

#include <multistate/attention/target.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

namespace {

using namespace multistate;

/// The lowest bit is the best target. Those beyond AVX3 differ in what attention has no use for.
std::int64_t best_by_highway() {
#if HWY_ARCH_X86
  const std::int64_t all = hwy::SupportedTargets();
  return std::max<std::int64_t>(all & -all, HWY_AVX3);
#else
  return HWY_TARGET;
#endif
}

TEST(target, the_best_is_highways) { EXPECT_EQ(best_attention_target(), hwy::TargetName(best_by_highway())); }

TEST(target, narrower_where_the_cpu_has_a_better_one) {
  EXPECT_EQ(attention_target_is_narrower_than_cpu(), HWY_TARGET > best_by_highway()) << attention_target();
}

}  // namespace
