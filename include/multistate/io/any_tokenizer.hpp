#pragma once

#include <filesystem>
#include <string>
#include <system_error>

#include <multistate/io/tokenizer_file.hpp>
#include <multistate/io/tokenizer_gguf.hpp>
#include <multistate/io/tokenizer_json.hpp>

namespace multistate {

namespace detail {

inline result<tokenizer> load_tokenizer_gguf(const std::filesystem::path& path) {
  const auto file = gguf::open(path);
  if (!file) return file.reason();
  return read_tokenizer(*file);
}

}  // namespace detail

/// A tokenizer of any kind that can be read, told apart by what the file begins with: a GGUF file's, a tokenizer.json,
/// or a llama2.c tokenizer of `vocab` pieces. Errors: those of the kind.
inline result<tokenizer> open_tokenizer(const std::filesystem::path& path, int vocab) {
  const auto file = file_bytes::open(path);
  if (!file) return file.reason();
  if (detail::is_gguf(file->bytes())) return detail::load_tokenizer_gguf(path);
  return detail::is_json(file->bytes()) ? load_tokenizer_json(path) : load_tokenizer(path, vocab);
}

/// The tokenizer that comes with a model: that of a GGUF file, the tokenizer.json of a Hugging Face folder, else what
/// find_tokenizer_beside() finds, else a tokenizer.json beside a file of another kind. Errors: there is none; the one
/// that there is can't be read.
inline result<tokenizer> find_tokenizer(const std::filesystem::path& model, int vocab) {
  if (is_byte_vocabulary(vocab)) return tokenizer::bytes(vocab);
  std::error_code code;
  const bool folder = std::filesystem::is_directory(model, code);
  if (!folder) {
    const auto file = file_bytes::open(model);
    if (file && detail::is_gguf(file->bytes())) return detail::load_tokenizer_gguf(model);
  }
  const std::string ending = model.extension().string();
  const auto json = (folder ? model : model.parent_path()) / "tokenizer.json";
  const bool there = std::filesystem::exists(json, code);
  if (there && (folder || ending == ".safetensors" || ending == ".json")) return load_tokenizer_json(json);
  auto beside = find_tokenizer_beside(model, vocab);
  return beside || !there ? beside : load_tokenizer_json(json);
}

}  // namespace multistate
