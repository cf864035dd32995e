#pragma once

// Needs OpenMP (-fopenmp); without it there is nothing in here.
#if defined(_OPENMP)

#include <omp.h>

#include <multistate/util/executor.hpp>

namespace multistate {

/// OpenMP threads, each with a fixed share of the tasks.
struct openmp {
  int threads = omp_get_max_threads();

  template <class F>
  void operator()(int tasks, const F& f) const noexcept {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int task = 0; task < tasks; ++task) f(task, omp_get_thread_num());
  }
  int workers() const noexcept { return threads; }
};

static_assert(executor<openmp>);

}  // namespace multistate

#endif
