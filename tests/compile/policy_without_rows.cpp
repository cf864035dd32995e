// An attention that gives no rows (a fused one) goes with a window; BAD asks it to serve a policy that reads rows.
#include <multistate/policies.hpp>
#include <multistate/step/step.hpp>

struct fused {
  template <multistate::needs W, class KeyFormat, class ValueFormat>
    requires(W == multistate::needs::nothing)
  void operator()(std::span<const multistate::attention_task>) const noexcept {}
};

#if defined(BAD)
using chosen = multistate::tova;
#else
using chosen = multistate::window;
#endif
using memory = multistate::multi_state<multistate::f32, multistate::f32>;

void decode(std::span<const multistate::layer_of<chosen, memory>> layers, std::span<const multistate::step_io> io,
            const multistate::shape& dims, std::span<std::byte> scratch) {
  multistate::step(layers, io, dims, scratch, fused{});
}
