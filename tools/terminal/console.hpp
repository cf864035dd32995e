#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <exception>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include <multistate/io/printable.hpp>

/// The one way by which text leaves a program, and the ways in which a program ends.
namespace multistate::tools {

/// Exit statuses beside 0 (done) and 1 (a comparison failed).
inline constexpr int status_failed = 2;       ///< bad usage or input, or output that could not be written
inline constexpr int status_interrupted = 3;  ///< what there is is a part

/// Ends a program with one line and exit status 2.
struct usage_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// Ends a program with exit status 2 and without a word: whoever read standard output has gone.
struct reader_gone : std::exception {};

// -- standard output and standard error

/// Bytes as they are, at once. Errors end the program: the disk is full, nobody reads, it is closed.
inline void write_out(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (n >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(n));
    } else if (errno == EAGAIN) {
      pollfd wait{STDOUT_FILENO, POLLOUT, 0};
      ::poll(&wait, 1, -1);
    } else if (errno == EPIPE) {
      throw reader_gone();
    } else if (errno != EINTR) {
      throw usage_error("standard output: cannot be written: " + std::generic_category().message(errno));
    }
  }
}
/// Lines for people to read.
inline void print(std::string_view lines) { write_out(detail::printable_lines(lines)); }
/// A document: as it is, but for a terminal.
inline void print_document(std::string_view bytes) {
  if (::isatty(STDOUT_FILENO) != 0)
    print(bytes);
  else
    write_out(bytes);
}
/// Whether nobody would read what is written.
inline bool reader_has_gone() noexcept {
  pollfd look{STDOUT_FILENO, 0, 0};
  return ::poll(&look, 1, 0) > 0 && (look.revents & (POLLERR | POLLNVAL)) != 0;
}

/// Lines on standard error; where they can't be written nothing else suffers.
inline void say(std::string_view lines) noexcept {
  try {
    const std::string text = detail::printable_lines(lines);
    for (std::string_view rest = text; !rest.empty();) {
      const ssize_t n = ::write(STDERR_FILENO, rest.data(), rest.size());
      if (n < 0 && errno != EINTR) return;
      rest.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(0, n)));
    }
  } catch (const std::bad_alloc&) {
  }
}

// -- beginning and end

/// Set by the first Ctrl-C, polite kill or hangup; the second one ends the program.
inline volatile std::sig_atomic_t interrupted = 0;

inline void end_gently_on_interrupt() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before {};
    ::sigaction(signal, nullptr, &before);
    if (signal == SIGHUP && before.sa_handler == SIG_IGN) continue;  // nohup
    std::signal(signal, [](int which) {
      if (interrupted != 0) {
        std::signal(which, SIG_DFL);
        std::raise(which);
      }
      interrupted = 1;
    });
  }
}

/// A standard stream that is closed would be the number of the next file that is opened: something takes its place that
/// says the same. Standard error may be written to, in vain.
inline void fill_standard_streams() noexcept {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(fd, F_GETFD) < 0) {
      const int opened = ::open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY);  // the lowest number, fd
      static_cast<void>(opened);
    }
}

/// Runs a program's body and returns its exit status; whatever ends it early is one line on standard error and
/// status 2.
template <class Body>
int guarded(const char* program, const Body& body) {
  fill_standard_streams();
  std::signal(SIGPIPE, SIG_IGN);
  end_gently_on_interrupt();
  std::string line;
  try {
    const int status = body();
    // Some file systems say only when a file is closed that it could not be written.
    const int copy = ::dup(STDOUT_FILENO);
    if (copy >= 0 && ::close(copy) != 0)
      throw usage_error("standard output: cannot be written: " + std::generic_category().message(errno));
    return status;
  } catch (const reader_gone&) {
    return status_failed;
  } catch (const std::bad_alloc&) {
    line = "out of memory";
  } catch (const std::exception& e) {
    line = e.what();
  }
  std::replace(line.begin(), line.end(), '\n', ' ');
  say(program + (": " + line) + "\n");
  return status_failed;
}

/// What --help and --version print.
template <class App, class Success>
int print_help(const App& app, const Success& success) {
  print(success.get_name() == "CallForVersion" ? std::string(success.what()) + "\n" : app.help());
  return success.get_exit_code();
}

}  // namespace multistate::tools
