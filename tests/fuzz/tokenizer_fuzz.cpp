// A tokenizer file and a text: whatever loads gives any text back, byte for byte.
// The first byte is the length of a text behind it; then a llama2.c tokenizer file, which is also read as pieces for a
// vocabulary that begins as it has to.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <multistate/io/tokenizer_file.hpp>

namespace {

using namespace multistate;

void check(bool good) {
  if (!good) std::abort();
}

void comes_back(const tokenizer& t, std::string_view text) {
  const auto ids = t.encode(text).value();
  const auto counts = t.text_bytes(std::span<const int>(ids));
  check(counts.size() == ids.size());
  std::string back;
  std::size_t bytes = 0;
  int previous = t.bos();
  for (std::size_t i = 0; i < ids.size(); ++i) {
    check(ids[i] >= (t.is_bytes() ? 0 : 3) && ids[i] < t.vocab() && ids[i] != t.bos());
    back += t.decode(ids[i], previous);
    bytes += static_cast<std::size_t>(counts[i]);
    previous = ids[i];
  }
  check(back == text && bytes == text.size());
}

/// Pieces that a tokenizer file of these bytes would have.
int pieces_in(std::span<const std::byte> bytes) {
  int pieces = 0;
  for (std::size_t at = 4; at + 8 <= bytes.size(); ++pieces) {
    const auto length = load_at<std::int32_t>(bytes, at + 4);
    if (length < 0 || static_cast<std::size_t>(length) > bytes.size() - at - 8) break;
    at += 8 + static_cast<std::size_t>(length);
  }
  return pieces;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::size_t n = data[0] < size - 1 ? data[0] : size - 1;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, n);
  const auto rest = std::as_bytes(std::span(data, size)).subspan(1 + n);

  for (const int vocab : {pieces_in(rest), 257, 300, -1, 0x7fffffff})
    if (const auto t = parse_tokenizer(rest, vocab)) comes_back(*t, text);
  for (const int vocab : {256, 257}) comes_back(tokenizer::bytes(vocab), text);

  std::vector<std::string> pieces = {"<unk>", "<s>", "</s>"};
  for (unsigned byte = 0; byte < 256; ++byte) {
    char piece[8];
    std::snprintf(piece, sizeof piece, "<0x%02X>", byte);
    pieces.emplace_back(piece);
  }
  std::vector<float> scores(pieces.size());
  for (std::size_t at = 0; at + 5 < rest.size();) {
    scores.push_back(load_at<float>(rest, at));
    const std::size_t length = static_cast<std::size_t>(rest[at + 4]) % 9, left = rest.size() - at - 5;
    pieces.emplace_back(reinterpret_cast<const char*>(rest.data()) + at + 5, length < left ? length : left);
    at += 5 + pieces.back().size();
  }
  const auto made = llama2c_tokenizer(std::move(pieces), std::move(scores));
  check(static_cast<bool>(made));
  comes_back(*made, text);
  return 0;
}
