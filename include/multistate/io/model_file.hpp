#pragma once

#include <new>

#include <multistate/io/gguf_model.hpp>
#include <multistate/io/huggingface.hpp>
#include <multistate/io/llama2c.hpp>

namespace multistate {

namespace detail {

inline result<loaded_model> load_by_content(const std::filesystem::path& path) {
  std::error_code code;
  if (std::filesystem::is_directory(path, code)) return load_huggingface(path);
  const std::string name = path.filename().string();
  if (name.ends_with(".gguf")) return load_gguf(path);
  if (name.ends_with(".index.json")) return load_huggingface(path);
  if (name.ends_with(".json")) return file_error(path, "is no model; name its folder, or model.safetensors.index.json");
  bool named = name.ends_with(".safetensors");
  {
    const auto file = file_bytes::open(path);
    if (!file) return file.reason();
    const auto bytes = file->bytes();
    if (is_lfs_pointer(bytes)) return lfs_pointer(path);
    if (is_gguf(bytes)) return load_gguf(path);
    if (begins_with(bytes, "PK\3\4") || begins_with(bytes, "\x80\x02"))
      return error(errc::not_supported, path.string(), ": is PyTorch's own file, which may run code and is not read; ",
                   "load it with transformers, then save_pretrained() writes safetensors");
    if (bytes.size() > 8 && bytes[8] == std::byte{'{'} && load_at<std::uint64_t>(bytes, 0) <= bytes.size() - 8)
      named = true;
  }
  return named ? load_huggingface(path) : load_llama2c(path);
}

}  // namespace detail

/// A model of any kind that can be read: a GGUF file, a Hugging Face folder, .safetensors file or index, or a llama2.c
/// checkpoint; told apart by what the file begins with. Errors: those of the kind; out_of_memory.
inline result<loaded_model> load_model(const std::filesystem::path& path) {
  std::string name;
  try {
    name = path.string();
    return detail::load_by_content(path);
  } catch (const std::bad_alloc&) {
    return error(errc::out_of_memory, name, ": no memory for the model");
  }
}

}  // namespace multistate
