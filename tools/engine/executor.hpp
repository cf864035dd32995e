#pragma once

#include <algorithm>

#include <multistate/util/executor.hpp>
#include <multistate/util/openmp.hpp>

namespace multistate::tools {

/// The programs' one kind of executor: OpenMP threads, or the calling thread alone where there is one.
class tool_executor {
 public:
  explicit tool_executor(int threads) noexcept : threads_(std::max(1, threads)) {}

  template <class F>
  void operator()(int tasks, const F& f) const noexcept {
#if defined(_OPENMP)
    if (threads_ > 1) return openmp{threads_}(tasks, f);
#endif
    serial()(tasks, f);
  }
  int workers() const noexcept { return threads_; }

  static constexpr int most = 1024;  ///< threads that may be asked for

  /// Threads that there is a core for; 1 in a build without OpenMP.
  static int most_useful() noexcept {
#if defined(_OPENMP)
    return std::min(most, omp_get_max_threads());
#else
    return 1;
#endif
  }
  static constexpr bool has_threads() noexcept {
#if defined(_OPENMP)
    return true;
#else
    return false;
#endif
  }

 private:
  int threads_;
};

static_assert(executor<tool_executor>);

}  // namespace multistate::tools
