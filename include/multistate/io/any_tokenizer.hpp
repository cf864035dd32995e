#pragma once

#include <filesystem>
#include <string>
#include <system_error>

#include <multistate/io/tokenizer_file.hpp>
#include <multistate/io/tokenizer_json.hpp>

namespace multistate {

/// A tokenizer of any kind that can be read, told apart by what the file begins with: a tokenizer.json, or a llama2.c
/// tokenizer of `vocab` pieces. Errors: those of the kind.
inline result<tokenizer> open_tokenizer(const std::filesystem::path& path, int vocab) {
  const auto file = file_bytes::open(path);
  if (!file) return file.reason();
  return detail::is_json(file->bytes()) ? load_tokenizer_json(path) : load_tokenizer(path, vocab);
}

/// The tokenizer that comes with a model: the tokenizer.json of a Hugging Face folder, else what
/// find_tokenizer_beside() finds, else a tokenizer.json beside a file of another kind. Errors: there is none; the one
/// that there is can't be read.
inline result<tokenizer> find_tokenizer(const std::filesystem::path& model, int vocab) {
  if (is_byte_vocabulary(vocab)) return tokenizer::bytes(vocab);
  std::error_code code;
  const bool folder = std::filesystem::is_directory(model, code);
  const std::string ending = model.extension().string();
  const auto json = (folder ? model : model.parent_path()) / "tokenizer.json";
  const bool there = std::filesystem::exists(json, code);
  if (there && (folder || ending == ".safetensors" || ending == ".json")) return load_tokenizer_json(json);
  auto beside = find_tokenizer_beside(model, vocab);
  return beside || !there ? beside : load_tokenizer_json(json);
}

}  // namespace multistate
