#include <tools/terminal/progress.hpp>

#include <fmt/format.h>

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

namespace multistate::tools {

std::string duration_text(double seconds) {
  constexpr double minute = 60, hour = 60 * minute;
  if (seconds < 2 * minute) return fmt::format("{:.0f} s", seconds);
  return seconds < 2 * hour ? fmt::format("{:.0f} min", seconds / minute) : fmt::format("{:.1f} h", seconds / hour);
}

std::string memory_text() {
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  return fmt::format("{:.1f} GB", static_cast<double>(use.ru_maxrss) * 1024 / 1e9);
}

progress_bar::progress_bar(bool wanted) : shown_(wanted && ::isatty(STDERR_FILENO) != 0) {}

void progress_bar::begin(std::string phase) {
  clear();
  phase_ = std::move(phase);
  begun_ = clock::now();
}

void progress_bar::operator()(double done) {
  const auto now = clock::now();
  if (!shown_ || now - drawn_ < std::chrono::milliseconds(100)) return;
  drawn_ = now;
  constexpr int width = 40;
  const int full = static_cast<int>(done * width);
  const double seconds = std::chrono::duration<double>(now - begun_).count();
  const std::string line = fmt::format("\r\033[K[{:#<{}}{:.<{}}] {:3.0f} %  {:>6} left  {}", "", full, "", width - full,
                                       100 * done, duration_text(done > 0 ? seconds * (1 - done) / done : 0.0), phase_);
  std::fputs(line.c_str(), stderr);
}

void progress_bar::clear() {
  if (shown_ && drawn_ != clock::time_point()) std::fputs("\r\033[K", stderr);
  drawn_ = {};
}

}  // namespace multistate::tools
