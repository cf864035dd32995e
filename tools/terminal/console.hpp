#pragma once

#include <csignal>
#include <cstddef>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>

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
void write_out(std::string_view bytes);
/// Lines for people to read.
void print(std::string_view lines);
/// A document: as it is, but for a terminal.
void print_document(std::string_view bytes);
/// Whether nobody would read what is written.
bool reader_has_gone() noexcept;

/// Lines on standard error; where they can't be written nothing else suffers.
void say(std::string_view lines) noexcept;

/// Columns of the terminal that standard output is: at least 80, and 80 where it is none.
std::size_t terminal_width() noexcept;
/// Whether standard output is a terminal.
bool shows_colours() noexcept;

// -- beginning and end

/// Whether the program was asked to end: Ctrl-C, a polite kill or hangup. The second one ends it at once.
extern volatile std::sig_atomic_t interrupted;

/// Runs a program's body and returns its exit status; whatever ends it early is one line on standard error and
/// status_failed.
int guarded(const char* program, const std::function<int()>& body);

}  // namespace multistate::tools
