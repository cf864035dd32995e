#pragma once

#include <cstdint>
#include <string_view>

#include <multistate/attention/attention.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {
namespace detail {

/// Highway's best target for this CPU; better ones are lower numbers. Asked here rather than with
/// hwy::SupportedTargets(), which would be the only thing that needs libhwy at link time.
inline std::int64_t best_target() noexcept {
#if HWY_ARCH_X86 && (HWY_COMPILER_GCC || HWY_COMPILER_CLANG)
  __builtin_cpu_init();
  const bool ssse3 = __builtin_cpu_supports("ssse3") != 0;
  const bool sse4 = ssse3 && __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("sse4.2") &&
                    __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
  const bool avx2 = sse4 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool avx3 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512cd");
  if (avx3) return HWY_AVX3;
  if (avx2) return HWY_AVX2;
  if (sse4) return HWY_SSE4;
  if (ssse3) return HWY_SSSE3;
#endif
  return HWY_TARGET;
}

}  // namespace detail

/// The best SIMD target this CPU could run, where it can be asked (x86); else the one compiled for.
inline std::string_view best_attention_target() noexcept { return hwy::TargetName(detail::best_target()); }

/// This unit was compiled for less than the CPU has: -march=native, or -march=haswell -maes, would be faster.
inline bool attention_target_is_narrower_than_cpu() noexcept { return HWY_TARGET > detail::best_target(); }

}  // namespace HWY_NAMESPACE

using HWY_NAMESPACE::attention_target_is_narrower_than_cpu;
using HWY_NAMESPACE::best_attention_target;

}  // namespace multistate
HWY_AFTER_NAMESPACE();
