#pragma once

#include <concepts>

namespace multistate {

namespace detail {

struct any_task {
  void operator()(int /*task*/, int /*worker*/) const noexcept {}
};

}  // namespace detail

/// How work gets parallel: e(tasks, f) calls f(task, worker) once for every task of [0, tasks), in any order and on any
/// thread, with worker in [0, e.workers()) and never the same one twice at a time, and returns when all are done.
template <class E>
concept executor = requires(E& e, const detail::any_task& f) {
  { e(1, f) } noexcept;
  { e.workers() } noexcept -> std::convertible_to<int>;
};

/// One after another, on the calling thread.
struct serial {
  template <class F>
  void operator()(int tasks, const F& f) const noexcept {
    for (int task = 0; task < tasks; ++task) f(task, 0);
  }
  constexpr int workers() const noexcept { return 1; }
};

static_assert(executor<serial>);

}  // namespace multistate
