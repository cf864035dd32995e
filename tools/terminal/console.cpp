#include <tools/terminal/console.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <system_error>

#include <multistate/io/printable.hpp>

namespace multistate::tools {

volatile std::sig_atomic_t interrupted = 0;

namespace {

// Set by the first Ctrl-C, polite kill or hangup; the second one ends the program.
void end_gently_on_interrupt() {
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

// A standard stream that is closed would be the number of the next file that is opened: something takes its place that
// says the same. Standard error may be written to, in vain.
void fill_standard_streams() noexcept {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(fd, F_GETFD) < 0) {
      const int opened = ::open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY);  // the lowest number, fd
      static_cast<void>(opened);
    }
}

}  // namespace

void print(std::string_view lines) { write_out(detail::printable_lines(lines)); }

void write_out(std::string_view bytes) {
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

void print_document(std::string_view bytes) {
  if (::isatty(STDOUT_FILENO) != 0)
    print(bytes);
  else
    write_out(bytes);
}

bool reader_has_gone() noexcept {
  pollfd look{STDOUT_FILENO, 0, 0};
  return ::poll(&look, 1, 0) > 0 && (look.revents & (POLLERR | POLLNVAL)) != 0;
}

void say(std::string_view lines) noexcept {
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

int guarded(const char* program, const std::function<int()>& body) {
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

std::size_t terminal_width() noexcept {
  constexpr std::size_t usual = 80;
  winsize size{};
  if (::isatty(STDOUT_FILENO) == 0 || ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return usual;
  return std::max<std::size_t>(usual, size.ws_col);
}

bool shows_colours() noexcept { return ::isatty(STDOUT_FILENO) != 0; }

}  // namespace multistate::tools
