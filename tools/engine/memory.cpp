// Memories of layers, compiled once for each SIMD target: for any policy, and for keys and values of one format.

#include <tools/engine/engine.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tools/engine/memory.cpp"
#include <hwy/foreach_target.h>
// Highway's own order: foreach_target before highway.
#include <hwy/highway.h>

#include <multistate/memory/policy_memory-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {

result<std::unique_ptr<layer_memory>> make_layer_of_target(weight_format format, const policy_handle& policy,
                                                           const memory_setup& setup, int layer) {
  return with_state_format(
      format, [&]<class Format>(Format) { return HWY_NAMESPACE::make_layer_memory<Format>(policy, setup, layer); });
}

result<sequence_memory> make_memory_of_target(weight_format format, const policy_handle& policy,
                                              const memory_setup& setup) {
  return with_state_format(format,
                           [&]<class Format>(Format) { return HWY_NAMESPACE::make_memory<Format>(policy, setup); });
}

}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace multistate {

HWY_EXPORT(make_layer_of_target);
HWY_EXPORT(make_memory_of_target);

namespace tools {

result<std::unique_ptr<layer_memory>> make_layer_memory(weight_format format, const policy_handle& policy,
                                                        const memory_setup& setup, int layer) {
  return HWY_DYNAMIC_DISPATCH(make_layer_of_target)(format, policy, setup, layer);
}

result<sequence_memory> make_memory(weight_format format, const policy_handle& policy, const memory_setup& setup) {
  return HWY_DYNAMIC_DISPATCH(make_memory_of_target)(format, policy, setup);
}

std::size_t state_bytes_of(weight_format format, const shape& dims) noexcept {
  return with_state_format(format, [&]<class Format>(Format) { return multi_state<Format>::state_bytes(dims); });
}

}  // namespace tools
}  // namespace multistate
#endif
