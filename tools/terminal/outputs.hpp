#pragma once

#include <string>
#include <string_view>
#include <vector>

/// The files that a program writes: what can be said of them before any work, and how they are written.
namespace multistate::tools {

/// A file of the command line.
struct named_file {
  std::string flag, path;
};

/// "-", or another name of what standard output is.
bool is_standard_output(const std::string& path);
/// Written as it is made, not kept under a name.
bool is_stream(const std::string& path);

/// Where an interrupted run writes what there is: "x.part.json" for "x.json".
std::string part_of(const std::string& path);

/// To a file; "-" is standard output, "" nowhere. Errors end the program.
void write_output(const std::string& path, std::string_view text);

/// The files that a model is read from, as inputs of check_outputs.
std::vector<named_file> files_of_model(const std::string& model, const std::string& tokenizer);

/// Before any work, and without touching a file: every output can be written, none is written twice, and none lies
/// where something is read. `parts`: the run may be interrupted and then writes part_of(output). Errors end the
/// program.
void check_outputs(const std::vector<named_file>& outputs, const std::vector<named_file>& inputs, bool parts = true);

}  // namespace multistate::tools
