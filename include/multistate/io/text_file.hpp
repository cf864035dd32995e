#pragma once

#include <multistate/io/file.hpp>

namespace multistate {

/// A text as its bytes, whatever they are. Errors: not a regular file, a Git LFS pointer in its place.
inline result<std::string> read_text(const std::filesystem::path& path) {
  const auto file = file_bytes::open(path);
  if (!file) return file.reason();
  if (detail::is_lfs_pointer(file->bytes())) return detail::lfs_pointer(path);
  return std::string(reinterpret_cast<const char*>(file->bytes().data()), file->size());
}

/// A .tokens file: int32 ids, little endian. Errors: a length that is no multiple of 4, an id outside [0, vocab).
inline result<std::vector<int>> read_tokens(const std::filesystem::path& path, int vocab) {
  const auto file = file_bytes::open(path);
  if (!file) return file.reason();
  if (detail::is_lfs_pointer(file->bytes())) return detail::lfs_pointer(path);
  if (file->size() % 4 != 0)
    return detail::file_error(path, "has ", file->size(), " bytes, must be int32 ids and so a multiple of 4");
  std::vector<int> tokens(file->size() / 4);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = load_at<std::int32_t>(file->bytes(), 4 * i);
    if (tokens[i] < 0 || tokens[i] >= vocab)
      return detail::file_error(path, "token ", i, " is ", tokens[i], ", must be in [0, ", vocab, ")");
  }
  return tokens;
}

}  // namespace multistate
