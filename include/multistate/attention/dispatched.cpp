// Attention for all SIMD targets that the compiler can make, and the choice among them at run time. Compile it once
// into a program that uses dispatched.hpp, with the flags of the oldest CPU it shall run on, and link libhwy, which
// asks the CPU; linking multistate::dispatch does both. HWY_DISABLED_TARGETS leaves targets out.

#include <multistate/attention/dispatched.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "multistate/attention/dispatched.cpp"
#include <hwy/foreach_target.h>
// Highway's own order: foreach_target before highway.
#include <hwy/highway.h>

#include <multistate/attention/attend-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {

template <class Format>
void attend_format(const multistate::detail::dispatched_call& call) {
  multistate::detail::any_executor exec = call.exec;
  const attention<multistate::detail::any_executor> attend{call.dims, call.options, &exec, call.scratch};
  switch (call.rows) {
    case needs::last_row:
      return attend.template operator()<needs::last_row, Format>(call.tasks);
    case needs::row_sum:
      return attend.template operator()<needs::row_sum, Format>(call.tasks);
    case needs::rows_and_sum:
      return attend.template operator()<needs::rows_and_sum, Format>(call.tasks);
    case needs::each_row:
      return attend.template operator()<needs::each_row, Format>(call.tasks);
    default:
      return attend.template operator()<needs::nothing, Format>(call.tasks);
  }
}

// Not noexcept: HWY_EXPORT does not take that.
void attend_here(const multistate::detail::dispatched_call& call) {
  using multistate::detail::dispatched_format;
  switch (call.format) {
    case dispatched_format::f16:
      return attend_format<f16>(call);
    case dispatched_format::bf16:
      return attend_format<bf16>(call);
    case dispatched_format::i8:
      return attend_format<i8>(call);
    default:
      return attend_format<f32>(call);
  }
}

std::string_view target_here() { return attention_target(); }

}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace multistate {

HWY_EXPORT(attend_here);
HWY_EXPORT(target_here);

namespace detail {

void attend_dispatched(const dispatched_call& call) noexcept { HWY_DYNAMIC_DISPATCH(attend_here)(call); }
std::string_view dispatched_target() noexcept { return HWY_DYNAMIC_DISPATCH(target_here)(); }

}  // namespace detail
}  // namespace multistate
#endif
