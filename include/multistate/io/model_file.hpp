#pragma once

#include <multistate/io/huggingface.hpp>
#include <multistate/io/llama2c.hpp>

namespace multistate {

/// A model of any kind that can be read: a Hugging Face folder or .safetensors file, or a llama2.c checkpoint; told
/// apart by what the file begins with. Errors: those of the kind; GGUF is not built yet.
inline result<model_weights> load_model(const std::filesystem::path& path) {
  std::error_code code;
  if (std::filesystem::is_directory(path, code)) return load_huggingface(path);
  bool named = path.extension() == ".safetensors";
  {
    const auto file = file_bytes::open(path);
    if (!file) return file.reason();
    const auto bytes = file->bytes();
    if (bytes.size() >= 4 && load_at<std::uint32_t>(bytes, 0) == 0x46554747)
      return error(errc::not_supported, path.string(),
                   ": is a GGUF file, which is not built yet; must be Hugging Face safetensors or llama2.c");
    if (bytes.size() > 8 && bytes[8] == std::byte{'{'} && load_at<std::uint64_t>(bytes, 0) <= bytes.size() - 8)
      named = true;
  }
  return named ? load_huggingface(path) : load_llama2c(path);
}

}  // namespace multistate
