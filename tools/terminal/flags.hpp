#pragma once

#include <CLI/CLI.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <multistate/types/error.hpp>
#include <multistate/types/shape.hpp>

/// The flags of a program: what CLI11 checks, and how what it refuses is said.
namespace multistate::tools {

/// A whole number from `least` to `most`.
CLI::Validator whole_number(int least, int most = max_tokens);
/// Whole numbers from `least` to `most` with commas between them, none of them missing: CLI11's own lists pass over an
/// empty item.
CLI::Validator whole_number_list(int least, int most = max_tokens);
/// The numbers of such a list, each once. Precondition: it was checked.
std::vector<int> numbers_of(std::string_view list);
/// A number from `least` to `most`, in the C locale's writing.
CLI::Validator real_number(double least, double most);
/// The name of a storage format: f32, f16, bf16 or i8.
CLI::Validator format_name();
/// One of these words.
CLI::Validator one_of(std::vector<std::string> words);

/// Reads the command line into what the options are bound to. The exit status where nothing is left to do (--help,
/// --version); what is wrong ends the program as a usage error.
std::optional<int> parse_flags(CLI::App& app, int argc, char** argv);

/// Throws usage_error where there is an error.
void ok_or_usage(const error& e);
/// The value; throws usage_error where there is none.
template <class T>
T value_or_usage(result<T>&& r) {
  if (!r) ok_or_usage(r.reason());
  return std::move(*r);
}

/// Words as a shell takes them, on one line.
std::string command_text(const std::vector<std::string>& words);

}  // namespace multistate::tools
