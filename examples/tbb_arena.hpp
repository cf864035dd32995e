// An executor of one's own: the slots of a TBB arena. Copy it; the library itself does not know TBB.
#pragma once

#include <multistate/util/executor.hpp>

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

/// Each thread in the arena has a slot of its own: that is the worker.
struct tbb_arena {
  tbb::task_arena& arena;

  template <class F>
  void operator()(int tasks, const F& f) const noexcept {
    if (workers() == 1) {  // such an arena may still let a second thread in
      for (int task = 0; task < tasks; ++task) f(task, 0);
      return;
    }
    const auto one = [&f](int task) {
      // Where f waits for TBB tasks of its own, its thread takes no other task meanwhile: the slot would be in use
      // twice.
      tbb::this_task_arena::isolate([&f, task] { f(task, tbb::this_task_arena::current_thread_index()); });
    };
    arena.execute([&one, tasks] {
      // Nor does the caller's thread begin other work of the arena, while it waits for the last tasks.
      tbb::this_task_arena::isolate([&one, tasks] { tbb::parallel_for(0, tasks, one, tbb::simple_partitioner()); });
    });
  }
  int workers() const noexcept { return arena.max_concurrency(); }
};

static_assert(multistate::executor<tbb_arena>);
