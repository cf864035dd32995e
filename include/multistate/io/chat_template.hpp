#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>

#include <multistate/io/gguf.hpp>
#include <multistate/io/json.hpp>
#include <multistate/io/text_file.hpp>

namespace multistate {

/// A model's own chat template: a GGUF file's tokenizer.chat_template, a folder's chat_template.jinja or the
/// chat_template of its tokenizer_config.json (of several the one called "default"); "" where there is none. Errors:
/// files that can't be read.
inline result<std::string> find_chat_template(const std::filesystem::path& model) {
  std::error_code code;
  const bool in_folder = std::filesystem::is_directory(model, code);
  if (!in_folder) {
    const auto bytes = file_bytes::open(model);
    if (!bytes) return bytes.reason();
    if (bytes->size() >= 4 && std::memcmp(bytes->bytes().data(), "GGUF", 4) == 0) {
      const auto file = gguf::open(model);
      if (!file) return file.reason();
      const auto text = file->text("tokenizer.chat_template");
      if (!text) return text.reason();
      return std::string(text->value_or(""));
    }
  }
  const auto folder = in_folder ? model : model.parent_path();
  if (std::filesystem::exists(folder / "chat_template.jinja", code)) return read_text(folder / "chat_template.jinja");
  if (!std::filesystem::exists(folder / "tokenizer_config.json", code)) return std::string();
  const auto config = detail::read_json(folder / "tokenizer_config.json", std::uint64_t{1} << 28);
  if (!config) return config.reason();
  const auto found = config->find("chat_template");
  if (found == config->end()) return std::string();
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array())
    for (const auto& one : *found)
      if (one.is_object() && one.value("name", "") == "default" && one.contains("template") &&
          one["template"].is_string())
        return one["template"].get<std::string>();
  return std::string();
}

}  // namespace multistate
