#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <vector>

#if defined(__unix__)
#include <sys/resource.h>
#endif

namespace bench {

template <class F>
double seconds_of(F&& f) {
  const auto begin = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// How often something else has taken a core from this process.
inline long preemptions() {
#if defined(__unix__)
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
#else
  return 0;
#endif
}

/// Tells the repetitions in which nothing took a core away.
class quiet_time {
 public:
  bool quiet() const { return preemptions() == before_; }

 private:
  long before_ = preemptions();
};

/// One figure over the repetitions of a case. The median is what counts: other work on the machine comes and goes. Of
/// repetitions that were not quiet only where there are hardly others.
class sample {
 public:
  static constexpr std::size_t enough = 3;

  void add(double value, bool quiet = true) {
    values_.push_back(value);
    if (quiet) quiet_.push_back(value);
  }
  /// Whether what is reported comes from repetitions with other work between.
  bool disturbed() const { return quiet_.size() < enough; }
  double at(double share) const {
    std::vector<double> sorted = disturbed() ? values_ : quiet_;
    if (sorted.empty()) return 0;
    const auto place = static_cast<std::ptrdiff_t>(share * static_cast<double>(sorted.size() - 1) + 0.5);
    std::nth_element(sorted.begin(), sorted.begin() + place, sorted.end());
    return sorted[static_cast<std::size_t>(place)];
  }
  double median() const { return at(0.5); }
  double min() const { return at(0.0); }
  double max() const { return at(1.0); }

 private:
  std::vector<double> values_, quiet_;
};

}  // namespace bench
