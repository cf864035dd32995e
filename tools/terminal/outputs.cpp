#include <tools/terminal/outputs.hpp>

#include <fmt/format.h>

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <span>

#include <multistate/io/write_file.hpp>
#include <tools/terminal/console.hpp>

namespace multistate::tools {

namespace {

// What all names of one file share, whether it is there or not; none for a stream.
struct file_identity {
  dev_t device;
  ino_t inode;       ///< of the file, or of the folder it would be in
  std::string name;  ///< in that folder
  friend bool operator==(const file_identity&, const file_identity&) = default;

  static std::optional<file_identity> of(const std::string& path) {
    const auto to = detail::find_target(path);
    if (!to || to->stream) return std::nullopt;
    if (to->there) return file_identity{to->status.st_dev, to->status.st_ino, {}};
    struct stat folder {};
    if (::stat(detail::folder_of(to->file).c_str(), &folder) != 0) return std::nullopt;
    return file_identity{folder.st_dev, folder.st_ino, to->file.filename().string()};
  }
};

}  // namespace

bool is_standard_output(const std::string& path) {
  struct stat it {
  }, out{};
  return path == "-" || (!path.empty() && ::stat(path.c_str(), &it) == 0 && ::fstat(STDOUT_FILENO, &out) == 0 &&
                         it.st_dev == out.st_dev && it.st_ino == out.st_ino);
}

bool is_stream(const std::string& path) {
  if (is_standard_output(path)) return true;
  const auto to = detail::find_target(path);
  return to && to->stream;
}

std::string part_of(const std::string& path) {
  if (path.empty() || is_stream(path)) return path;
  const std::filesystem::path whole(path);
  return (whole.parent_path() / whole.stem()).string() + ".part" + whole.extension().string();
}

void write_output(const std::string& path, std::string_view text) {
  if (path.empty()) return;
  if (is_standard_output(path)) return print_document(text);
  if (const auto written = write_file(path, std::as_bytes(std::span(text))); !written)
    throw usage_error(std::string(written.reason().message()));
}

std::vector<named_file> files_of_model(const std::string& model, const std::string& tokenizer) {
  std::vector<named_file> files{{"--model", model}};
  if (!tokenizer.empty()) files.push_back({"--tokenizer", tokenizer});
  std::error_code code;
  const bool folder = std::filesystem::is_directory(model, code);
  std::filesystem::directory_iterator entry(folder ? std::filesystem::path(model) : detail::folder_of(model), code);
  for (; !code && entry != std::filesystem::directory_iterator(); entry.increment(code)) {
    const std::string name = entry->path().filename().string();
    if (name == "config.json" || name.starts_with("tok") || name.ends_with(".index.json") ||
        (folder && (name.ends_with(".safetensors") || name.ends_with(".bin"))))
      files.push_back({"--model", entry->path().string()});
  }
  return files;
}

void check_outputs(const std::vector<named_file>& outputs, const std::vector<named_file>& inputs, bool parts) {
  struct taken {
    std::string flag;
    file_identity file;
  };
  std::vector<taken> all;
  const auto take = [&](const std::string& flag, const std::string& path, bool written) {
    const auto file = file_identity::of(path);
    if (!file) return;
    for (const taken& other : all)
      if (written && other.flag != flag && other.file == *file)
        throw usage_error(fmt::format("{}: cannot be written by {}, it is a file of {} too: name another one", path,
                                      flag, other.flag));
    all.push_back({flag, *file});
  };
  for (const named_file& in : inputs)
    if (!in.path.empty()) take(in.flag, in.path, false);
  std::string standard;
  for (const named_file& out : outputs) {
    if (out.path.empty()) continue;
    if (is_standard_output(out.path)) {
      if (!standard.empty())
        throw usage_error(out.flag + " and " + standard + " cannot both go to standard output: name a file for one");
      standard = out.flag;
      continue;
    }
    for (const std::string& path : {out.path, parts ? part_of(out.path) : out.path}) {
      if (const error e = can_write_file(path)) throw usage_error(std::string(e.message()));
      take(out.flag, path, true);
    }
  }
}

}  // namespace multistate::tools
