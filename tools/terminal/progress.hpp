#pragma once

#include <chrono>
#include <string>

namespace multistate::tools {

/// "45 s", "12 min" or "2.5 h".
std::string duration_text(double seconds);
/// What the program has taken so far at most: "0.9 GB".
std::string memory_text();

/// One line on the terminal that is written over and taken away at the end; nothing where standard error is no
/// terminal.
class progress_bar {
  using clock = std::chrono::steady_clock;

 public:
  explicit progress_bar(bool wanted);
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;
  ~progress_bar() { clear(); }

  /// Begins a phase; its time left is counted from now.
  void begin(std::string phase);
  /// How much of the phase is done, of 1.
  void operator()(double done);
  void clear();

 private:
  bool shown_;
  std::string phase_;
  clock::time_point begun_ = clock::now(), drawn_;
};

}  // namespace multistate::tools
