#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <multistate/types/error.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/version.hpp>
#include <tools/terminal/console.hpp>

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

/// --bos auto|yes|no, as every program that reads text has it.
void add_bos_flag(CLI::App& app, std::string& bos);

/// Reads the command line into what the options are bound to. The exit status where nothing is left to do (--help,
/// --version); what is wrong ends the program as a usage error.
std::optional<int> parse_flags(CLI::App& app, int argc, char** argv);

/// One program from its command line to its exit status: `add` binds the flags to the arguments, `body` does the work.
template <class Arguments>
int run_program(const std::string& name, const std::string& summary, const std::string& footer, int argc, char** argv,
                void (*add)(CLI::App&, Arguments&), const std::function<int(const Arguments&)>& body) {
  return guarded(name.c_str(), [&] {
    CLI::App app(summary, name);
    Arguments arguments;
    add(app, arguments);
    app.footer(footer);
    app.set_version_flag("--version", name + " " MULTISTATE_VERSION);
    if (const auto status = parse_flags(app, argc, argv)) return *status;
    return body(arguments);
  });
}

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
