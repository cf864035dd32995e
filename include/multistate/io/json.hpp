#pragma once

#include <concepts>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <multistate/io/file.hpp>

namespace multistate::detail {

/// A value as it stands in the file, for messages. A template, so that nothing turns into JSON to get here.
template <std::same_as<nlohmann::json> Json>
std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() > 60) text = std::string(cut_text(text, 57)) + "...";
  return printable(text);
}

/// The byte of a JSON text where it is nested deeper than that; none: it nowhere is.
inline std::optional<std::size_t> nested_deeper(std::string_view text, int most) noexcept {
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '\\')
      ++i;
    else if (c == '"')
      quoted = !quoted;
    else if (!quoted && (c == '[' || c == '{') && ++depth > most)
      return i;
    else if (!quoted && (c == ']' || c == '}'))
      --depth;
  }
  return std::nullopt;
}

/// Reads a file that holds one JSON object. Errors: longer than `most` bytes, not JSON, nested deeper than 64.
inline result<nlohmann::json> read_json(const std::filesystem::path& path,
                                        std::uint64_t most = std::uint64_t{16} << 20) {
  const auto file = file_bytes::open(path, most);
  if (!file) return file.reason();
  const std::string_view text(reinterpret_cast<const char*>(file->bytes().data()), file->size());
  // The parser takes any depth and far more memory than text for it, so the depth is looked at first.
  constexpr int deepest = 64;
  if (const auto at = nested_deeper(text, deepest))
    return file_error(path, "is nested deeper than ", deepest, " at byte ", *at);
  auto json = nlohmann::json::parse(text, nullptr, false);
  if (json.is_discarded()) return file_error(path, "is not JSON");
  if (!json.is_object()) return file_error(path, "holds ", shown(json), ", must be a JSON object");
  return json;
}

}  // namespace multistate::detail
