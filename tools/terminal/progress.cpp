#include <tools/terminal/progress.hpp>

#include <fmt/format.h>

#include <unistd.h>

#include <cstdio>
#include <utility>

namespace multistate::tools {

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
  const std::string line = fmt::format("\r\033[K[{:#<{}}{:.<{}}] {:3.0f} %  {:4.0f} s left  {}", "", full, "",
                                       width - full, 100 * done, done > 0 ? seconds * (1 - done) / done : 0.0, phase_);
  std::fputs(line.c_str(), stderr);
}

void progress_bar::clear() {
  if (shown_ && drawn_ != clock::time_point()) std::fputs("\r\033[K", stderr);
  drawn_ = {};
}

}  // namespace multistate::tools
