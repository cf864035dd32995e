#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include <multistate/util/executor.hpp>

namespace support {

/// Threads that begin and end with each call: no pool to look at, tasks in whatever order.
struct threads {
  int count = 3;

  template <class F>
  void operator()(int tasks, const F& f) const noexcept {
    std::atomic<int> next{0};
    const auto work = [&](int worker) {
      for (int task; (task = next.fetch_add(1)) < tasks;) f(task, worker);
    };
    std::vector<std::thread> others;
    for (int w = 1; w < count; ++w) others.emplace_back(work, w);
    work(0);
    for (std::thread& t : others) t.join();
  }
  int workers() const noexcept { return count; }
};
static_assert(multistate::executor<threads>);

}  // namespace support
