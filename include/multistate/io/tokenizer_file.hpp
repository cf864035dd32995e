#pragma once

#include <optional>
#include <utility>

#include <multistate/io/file.hpp>
#include <multistate/tokenizer/llama2c.hpp>

namespace multistate {

namespace detail {

/// Text that begins with a brace. The fourth byte of a tokenizer, the highest of a length, is 0.
inline bool is_json(std::span<const std::byte> bytes) noexcept {
  const auto at = [&](std::size_t i) { return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0u; };
  std::size_t begin = at(0) == 0xef && at(1) == 0xbb && at(2) == 0xbf ? 3 : 0;
  while (at(begin) == ' ' || at(begin) == '\n' || at(begin) == '\r' || at(begin) == '\t') ++begin;
  return at(begin) == '{' && (bytes.size() < 4 || at(3) != 0);
}

/// The first piece that SentencePiece writes. The fourth byte as in is_json().
inline bool is_sentencepiece(std::span<const std::byte> bytes) noexcept {
  const std::string_view begin(reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 16));
  return begin.size() > 4 && begin[0] == '\n' && begin[3] != 0 && begin.find("<unk>") != begin.npos;
}
inline constexpr std::string_view sentencepiece_advice =
    "SentencePiece models are not read; tokenizer.py of llama2.c makes a tokenizer.bin of one";

/// Whether a model of that many rows has padded those of so many pieces: to a round number, by not too many.
constexpr bool is_padded(std::size_t pieces, int rows) noexcept {
  constexpr int most = 1024, round = 8;
  return rows % round == 0 && std::cmp_less(pieces, rows) && std::cmp_greater_equal(pieces, rows - most);
}

}  // namespace detail

/// The bytes of a llama2.c tokenizer file: int32 longest piece, then for each id float32 score, int32 length, bytes.
/// Models pad their rows to a round number: those beyond the file's pieces stand for no text. Errors: not such a file,
/// another vocabulary than the model's.
inline result<tokenizer> parse_tokenizer(std::span<const std::byte> bytes, int vocab) {
  if (is_byte_vocabulary(vocab))
    return error(errc::bad_file, "a vocabulary of ", vocab, " is bytes, which need no tokenizer file");
  if (detail::is_json(bytes)) return error(errc::bad_file, "is JSON, must be a llama2.c tokenizer");
  if (detail::is_sentencepiece(bytes)) return error(errc::bad_file, detail::sentencepiece_advice);
  if (bytes.size() < 4) return error(errc::bad_file, "has ", bytes.size(), " bytes, too few for a tokenizer");
  const auto longest = load_at<std::int32_t>(bytes, 0);
  if (longest <= 0) return error(errc::bad_file, "says its longest piece has ", longest, " bytes: no tokenizer");
  std::vector<std::string> pieces;
  std::vector<float> scores;
  for (std::size_t at = 4; at < bytes.size();) {
    if (bytes.size() - at < 8) return error(errc::bad_file, "ends within piece ", pieces.size());
    scores.push_back(load_at<float>(bytes, at));
    const auto length = load_at<std::int32_t>(bytes, at + 4);
    at += 8;
    if (length < 0 || length > longest || static_cast<std::size_t>(length) > bytes.size() - at)
      return error(errc::bad_file, "piece ", pieces.size(), " has ", length, " bytes, possible are ",
                   std::min<std::size_t>(static_cast<std::size_t>(longest), bytes.size() - at));
    pieces.emplace_back(reinterpret_cast<const char*>(bytes.data() + at), static_cast<std::size_t>(length));
    at += static_cast<std::size_t>(length);
  }
  if (std::cmp_not_equal(pieces.size(), vocab) && !detail::is_padded(pieces.size(), vocab))
    return error(errc::bad_file, "has ", pieces.size(), " pieces, the model's vocabulary ", vocab);
  pieces.resize(static_cast<std::size_t>(vocab));
  scores.resize(pieces.size());
  return llama2c_tokenizer(std::move(pieces), std::move(scores));
}

inline result<tokenizer> load_tokenizer(const std::filesystem::path& path, int vocab) {
  const auto file = file_bytes::open(path);
  if (!file) return file.reason();
  auto made = parse_tokenizer(file->bytes(), vocab);
  if (!made) return detail::file_error(path, made.reason().message());
  return made;
}

/// The tokenizer of a model: bytes where the vocabulary says so, else tokenizer.bin or the first tok*.bin in the
/// model's folder that has its vocabulary, padded only where none has all of it. Error: none does; names the folder.
inline result<tokenizer> find_tokenizer_beside(const std::filesystem::path& model, int vocab) {
  if (is_byte_vocabulary(vocab)) return tokenizer::bytes(vocab);
  std::error_code code;
  auto folder = std::filesystem::is_directory(model, code) ? model : model.parent_path();
  if (folder.empty()) folder = ".";
  std::vector<std::filesystem::path> candidates;
  for (std::filesystem::directory_iterator at(folder, code), end; !code && at != end; at.increment(code)) {
    const std::string name = at->path().filename().string();
    if (name.starts_with("tok") && name.ends_with(".bin")) candidates.push_back(at->path());
  }
  std::sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) {
    return std::pair(a.filename() != "tokenizer.bin", a) < std::pair(b.filename() != "tokenizer.bin", b);
  });
  std::optional<tokenizer> padded;
  for (const auto& path : candidates) {
    auto found = load_tokenizer(path, vocab);
    if (!found) continue;
    const bool whole = !found->decode(vocab - 1, 0).empty();  // the last row stands for some text
    if (whole) return found;
    if (!padded) padded = std::move(*found);
  }
  if (padded) return std::move(*padded);
  if (std::filesystem::exists(folder / "tokenizer.model", code))
    return detail::file_error(folder, "has tokenizer.model and no llama2.c tokenizer: ", detail::sentencepiece_advice);
  return detail::file_error(folder, "has no tokenizer.bin or tok*.bin of ", vocab,
                            " pieces, the model's vocabulary; name a tokenizer, or give the text as .tokens");
}

}  // namespace multistate
