#pragma once

// Attention for the CPU that the program runs on, whatever it was compiled for. Compile dispatched.cpp once beside it,
// or link multistate::dispatch. Nothing of Highway is included here.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include <multistate/util/executor.hpp>
#include <multistate/attention/options.hpp>
#include <multistate/util/assert.hpp>
#include <multistate/format/element.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/types/task.hpp>

namespace multistate {

namespace detail {

/// A caller's executor, without its type.
class any_executor {
 public:
  template <executor E>
  explicit any_executor(E& exec) noexcept : object_(&exec), workers_(exec.workers()) {
    run_ = [](void* object, int tasks, const any_work& f) noexcept { (*static_cast<E*>(object))(tasks, f); };
  }

  template <class F>
  void operator()(int tasks, const F& f) const noexcept {
    run_(object_, tasks,
         {&f, [](const void* work, int task, int worker) noexcept { (*static_cast<const F*>(work))(task, worker); }});
  }
  int workers() const noexcept { return workers_; }

 private:
  struct any_work {
    const void* work;
    void (*call)(const void* work, int task, int worker) noexcept;
    void operator()(int task, int worker) const noexcept { call(work, task, worker); }
  };

  void* object_;
  void (*run_)(void* object, int tasks, const any_work& f) noexcept = nullptr;
  int workers_;
};

/// Of keys and values alike.
enum class dispatched_format : std::uint8_t { none, f32, f16, bf16, i8 };

template <class Format>
inline constexpr dispatched_format dispatched_format_of = dispatched_format::none;
template <>
inline constexpr dispatched_format dispatched_format_of<f32> = dispatched_format::f32;
template <>
inline constexpr dispatched_format dispatched_format_of<f16> = dispatched_format::f16;
template <>
inline constexpr dispatched_format dispatched_format_of<bf16> = dispatched_format::bf16;
template <>
inline constexpr dispatched_format dispatched_format_of<i8> = dispatched_format::i8;

/// One call of dispatched_attention.
struct dispatched_call {
  const shape& dims;
  const attention_options& options;
  any_executor exec;
  std::span<std::byte> scratch;
  std::span<const attention_task> tasks;
  needs rows;  ///< as rows_given() says
  dispatched_format format;
};

// In dispatched.cpp.
void attend_dispatched(const dispatched_call& call) noexcept;
std::string_view dispatched_target() noexcept;

}  // namespace detail

/// Called like `attention`, and runs the best of the SIMD targets that dispatched.cpp was compiled for; its bits are
/// those of that target's `attention`. Keys and values have the same format: f32, f16, bf16 or i8.
template <executor E = serial>
struct dispatched_attention {
  shape dims;
  attention_options options;
  E* exec = nullptr;  ///< serial may stay null
  std::span<std::byte> scratch;

  template <needs Want, class KeyFormat = f32, class ValueFormat = KeyFormat>
  void operator()(std::span<const attention_task> tasks) const noexcept {
    static_assert(std::is_same_v<KeyFormat, ValueFormat>,
                  "dispatched_attention: keys and values must have the same format; `attention` takes any two");
    static_assert(detail::dispatched_format_of<KeyFormat> != detail::dispatched_format::none,
                  "dispatched_attention: knows f32, f16, bf16 and i8; `attention` takes other formats");
    constexpr detail::dispatched_format format = detail::dispatched_format_of<KeyFormat>;
    if constexpr (std::is_same_v<E, serial>) {
      serial one_after_another;
      const detail::any_executor each(one_after_another);
      detail::attend_dispatched({dims, options, each, scratch, tasks, rows_given(Want), format});
    } else {
      MULTISTATE_ASSERT(exec != nullptr);
      const detail::any_executor each(*exec);
      detail::attend_dispatched({dims, options, each, scratch, tasks, rows_given(Want), format});
    }
  }
};

/// The SIMD target that is run on this CPU, as Highway names it ("AVX3", "AVX2", "SCALAR").
inline std::string_view dispatched_attention_target() noexcept { return detail::dispatched_target(); }

}  // namespace multistate
