// The attention kernel, compiled once for each SIMD target that includes it. Ordinary users include attention.hpp;
// a unit with run-time dispatch includes this one through Highway's foreach_target.h.

#if defined(MULTISTATE_ATTENTION_ATTEND_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_ATTENTION_ATTEND_INL_HPP_
#undef MULTISTATE_ATTENTION_ATTEND_INL_HPP_
#else
#define MULTISTATE_ATTENTION_ATTEND_INL_HPP_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include <multistate/util/executor.hpp>
#include <multistate/attention/options.hpp>
#include <multistate/attention/task-inl.hpp>
#include <multistate/util/assert.hpp>
#include <multistate/format/element.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/types/task.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {
namespace detail {

/// What an executor runs.
template <class KeyFormat, class ValueFormat>
struct attend_whole {
  const attend_call& call;

  void operator()(int task, int worker) const noexcept {
    float* mine = call.worker_scratch(static_cast<std::size_t>(worker));
    task_attender<KeyFormat, ValueFormat>(call, static_cast<std::size_t>(task), mine, mine).run();
  }
};

/// Item: part `item % parts` of task `item / parts`, whose results meet in the scratch of the worker of that number.
template <class KeyFormat, class ValueFormat>
struct attend_part {
  const attend_call& call;
  std::size_t parts;

  void operator()(int item, int worker) const noexcept {
    const std::size_t task = static_cast<std::size_t>(item) / parts;
    const std::size_t part = static_cast<std::size_t>(item) % parts;
    if (part >= attention_parts(static_cast<std::size_t>(call.tasks[task].kv.n))) return;
    task_attender<KeyFormat, ValueFormat>(call, task, call.worker_scratch(static_cast<std::size_t>(worker)),
                                          call.worker_scratch(task))
        .run_part(part);
  }
};
template <class KeyFormat, class ValueFormat>
struct attend_merge {
  const attend_call& call;

  void operator()(int task, int /*worker*/) const noexcept {
    float* shared = call.worker_scratch(static_cast<std::size_t>(task));
    task_attender<KeyFormat, ValueFormat>(call, static_cast<std::size_t>(task), shared, shared).merge_parts();
  }
};

}  // namespace detail

/// Softmax attention over extents, and the rows that policies look at. Keys and values have formats apart; scores,
/// softmax and sums are float32 or better. With keys in i8, queries are rounded to whole numbers (round_query), unless
/// they have to be turned: a score is off by at most scale * max|q| / min(65534, 2^25 / dk) times the sum of |k|; up to
/// dk = 512 that is a 250th of what rounding the keys did. Scratch: attend_scratch_bytes(); one object may not be
/// called from two threads at once. NaN in a query gives NaN out and NaN rows for that query, and so do infinite
/// logits; a query that sees nothing gives 0.
template <executor E = serial>
struct attention {
  shape dims;
  attention_options options;
  E* exec = nullptr;  ///< serial may stay null
  std::span<std::byte> scratch;

  template <needs Want, class KeyFormat = f32, class ValueFormat = KeyFormat>
  void operator()(std::span<const attention_task> tasks) const noexcept {
    int max_n = 1;
    int max_queries = 1;
    for (const attention_task& task : tasks) {
      check(task, rows_given(Want));
      max_n = (std::max)(max_n, task.kv.n);
      max_queries = (std::max)(max_queries, task.queries);
    }
    const int workers = workers_of();
    const bool log = options.log != nullptr;
    MULTISTATE_ASSERT(scratch.size() >= attend_scratch_bytes(dims, max_n, max_queries, workers, log));
    const multistate::detail::attention_layout layout(dims, max_n, max_queries, workers, log);
    constexpr std::size_t line = multistate::detail::attention_pad * sizeof(float);
    const auto address = reinterpret_cast<std::uintptr_t>(scratch.data());
    auto* base = reinterpret_cast<float*>(scratch.data() + (line - address % line) % line);
    const detail::attend_call call{tasks, dims, options, layout, rows_given(Want), base};
    const int count = static_cast<int>(tasks.size());
    const std::size_t parts = multistate::detail::attention_parts(static_cast<std::size_t>(max_n));
    if (count < workers && parts > 1 && max_queries == 1 && options.window == 0) {
      share(static_cast<int>(tasks.size() * parts), detail::attend_part<KeyFormat, ValueFormat>{call, parts});
      share(count, detail::attend_merge<KeyFormat, ValueFormat>{call});
    } else {
      share(count, detail::attend_whole<KeyFormat, ValueFormat>{call});
    }
  }

 private:
  int workers_of() const noexcept {
    if constexpr (std::is_same_v<E, serial>) {
      return 1;
    } else {
      MULTISTATE_ASSERT(exec != nullptr);
      return exec->workers();
    }
  }
  template <class F>
  void share(int items, const F& f) const noexcept {
    if constexpr (std::is_same_v<E, serial>)
      serial()(items, f);
    else
      (*exec)(items, f);
  }
  /// What a caller must see to; nothing in a build without assertions.
  void check([[maybe_unused]] const attention_task& task, [[maybe_unused]] needs rows) const noexcept {
    [[maybe_unused]] const auto n = static_cast<std::size_t>(task.kv.n);
    MULTISTATE_ASSERT(task.queries >= 1 && task.kv.n >= task.queries);
    MULTISTATE_ASSERT(task.kv_head >= 0 && task.kv_head < dims.kv_heads);
    [[maybe_unused]] std::size_t held = 0;
    for (const extent& e : task.kv.extents) held += static_cast<std::size_t>(e.n);
    MULTISTATE_ASSERT(held >= n);
    MULTISTATE_ASSERT(rows == needs::nothing || task.row != nullptr);
    MULTISTATE_ASSERT(rows != needs::rows_and_sum || task.sum != nullptr);
    MULTISTATE_ASSERT((options.window == 0 && options.alibi.empty() && options.log == nullptr) ||
                      task.kv.positions.size() >= n);
    MULTISTATE_ASSERT(options.sink_logits.empty() ||
                      options.sink_logits.size() == static_cast<std::size_t>(dims.heads));
    MULTISTATE_ASSERT(options.alibi.empty() || options.alibi.size() == static_cast<std::size_t>(dims.heads));
    MULTISTATE_ASSERT(options.rotation() == nullptr ||
                      (task.kv.ranks.size() >= n && options.rotation()->config().dim <= dims.dk));
    MULTISTATE_ASSERT(options.in_cache == nullptr ||
                      (options.log == nullptr && options.in_cache->ranks() >= task.kv.n));
  }
};

/// The SIMD target this unit's attention was compiled for, as Highway names it ("AVX2", "NEON", "SCALAR").
inline std::string_view attention_target() noexcept { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_ATTENTION_ATTEND_INL_HPP_
