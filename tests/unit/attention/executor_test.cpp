#include <multistate/util/executor.hpp>
#include <multistate/util/openmp.hpp>

#include <gtest/gtest.h>

#include <array>
#include <atomic>

namespace {

using multistate::executor;

struct counting {
  std::array<std::atomic<int>, 100>& seen;
  int workers;
  void operator()(int task, int worker) const noexcept {
    seen[static_cast<std::size_t>(task)] += worker >= 0 && worker < workers ? 1 : 1000;
  }
};

template <class E>
void every_task_once(E& exec) {
  std::array<std::atomic<int>, 100> seen{};
  exec(100, counting{seen, exec.workers()});
  for (const auto& count : seen) EXPECT_EQ(count, 1);
  exec(0, counting{seen, exec.workers()});
  for (const auto& count : seen) EXPECT_EQ(count, 1);
}

struct no_workers {
  template <class F>
  void operator()(int /*tasks*/, const F& /*f*/) const noexcept {}
};
struct may_throw {
  template <class F>
  void operator()(int /*tasks*/, const F& /*f*/) const {}
  int workers() const noexcept { return 1; }
};
static_assert(!executor<no_workers>);
static_assert(!executor<may_throw>);
static_assert(!executor<int>);

TEST(executor, serial) {
  multistate::serial exec;
  every_task_once(exec);
}

#if defined(_OPENMP)
TEST(executor, openmp) {
  for (const int threads : {1, 2, 7}) {
    multistate::openmp exec{threads};
    every_task_once(exec);
  }
}
#endif

}  // namespace
