#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <queue>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <multistate/tokenizer/tokenizer.hpp>

namespace multistate {

namespace detail {

/// Byte pair encoding as llama2.c does it (SentencePiece's, by scores). Marks, bytes and pieces of text are told apart
/// by their ids: no text gives a mark, or a byte that it has not, by spelling it.
class llama2c_vocabulary final : public vocabulary {
 public:
  /// As llama2c_tokenizer() says.
  static result<tokenizer> make(std::vector<std::string> pieces, std::vector<float> scores);

  /// Pairs are merged by best score, leftmost first among equals; O(n log n) merges, each of which compares as many
  /// bytes as it makes.
  result<std::vector<int>> encode(std::string_view text, spelling) const override;
  std::string_view piece(int token) const noexcept override { return shown_[static_cast<std::size_t>(token)]; }
  bool is_special(int token) const noexcept override { return token == 1 || token == 2; }
  int special(std::string_view spelt) const noexcept override { return spelt == "<s>" ? 1 : spelt == "</s>" ? 2 : -1; }

 private:
  static constexpr int first_byte = 3, first_text = first_byte + 256;

  /// A polynomial of the bytes modulo 2^61 - 1, so that a joined piece is found without being written down.
  struct fingerprint {
    std::uint64_t sum = 0, power = 1;

    static constexpr std::uint64_t times(std::uint64_t a, std::uint64_t b) noexcept {
      constexpr std::uint64_t prime = (std::uint64_t{1} << 61) - 1, low = (std::uint64_t{1} << 32) - 1;
      // a * b by halves of 32 bits: 2^64 is 8, 2^32 times x is x's low 29 bits shifted and its high bits.
      const std::uint64_t high = (a >> 32) * (b >> 32), middle = (a >> 32) * (b & low) + (a & low) * (b >> 32),
                          lower = (a & low) * (b & low);
      const std::uint64_t folded = (high << 3) + (middle >> 29) + ((middle & ((std::uint64_t{1} << 29) - 1)) << 32) +
                                   (lower & prime) + (lower >> 61);
      return folded % prime;
    }
    static fingerprint of(std::string_view bytes) noexcept {
      fingerprint f;
      for (const char c : bytes) f = f.then({static_cast<std::uint64_t>(static_cast<unsigned char>(c)) + 1, base});
      return f;
    }
    /// Of these bytes and then those.
    fingerprint then(const fingerprint& next) const noexcept {
      constexpr std::uint64_t prime = (std::uint64_t{1} << 61) - 1;
      return {(times(sum, next.power) + next.sum) % prime, times(power, next.power)};
    }
    static constexpr std::uint64_t base = 0x1b2e5c7f3a94d681 % ((std::uint64_t{1} << 61) - 1);
  };

  const std::string& spelt(int id) const noexcept { return pieces_[static_cast<std::size_t>(id)]; }
  static constexpr bool is_byte(int id) noexcept { return id >= first_byte && id < first_text; }
  static std::string byte_piece(int byte) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    return {'<', '0', 'x', digits[static_cast<std::size_t>(byte / 16)], digits[static_cast<std::size_t>(byte % 16)],
            '>'};
  }
  /// The byte that a piece spells; -1: none.
  static int spelt_byte(std::string_view piece) noexcept {
    const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
    const bool spelt = piece.size() == 6 && piece.starts_with("<0x") && piece[5] == '>' && digit(piece[3]) >= 0 &&
                       digit(piece[4]) >= 0;
    return spelt ? digit(piece[3]) * 16 + digit(piece[4]) : -1;
  }

  /// The piece of text with this fingerprint that is the one meant; -1: none.
  template <class Same>
  int find(const fingerprint& f, const Same& same) const {
    for (std::size_t at = f.sum & (table_.size() - 1); table_[at] >= 0; at = (at + 1) & (table_.size() - 1)) {
      const int id = table_[at];
      if (prints_[static_cast<std::size_t>(id)].sum == f.sum && same(spelt(id))) return id;
    }
    return -1;
  }
  int find(std::string_view bytes) const {
    return find(fingerprint::of(bytes), [&](const std::string& p) { return p == bytes; });
  }
  int find_joined(int left, int right) const {
    const std::string &a = spelt(left), &b = spelt(right);
    return find(
        prints_[static_cast<std::size_t>(left)].then(prints_[static_cast<std::size_t>(right)]),
        [&](const std::string& p) { return p.size() == a.size() + b.size() && p.starts_with(a) && p.ends_with(b); });
  }
  std::vector<int> split(std::string_view text) const;

  int vocab_ = 0;
  std::vector<std::string> pieces_;
  std::vector<std::string> shown_;  ///< [pieces] the bytes that each stands for
  std::vector<float> scores_;
  std::vector<fingerprint> prints_;  ///< [pieces], of pieces of text
  std::vector<int> table_;  ///< ids of pieces of text by fingerprint, -1: free; a power of two, half of it free
  int space_ = -1;          ///< the piece " "
};

inline result<tokenizer> llama2c_vocabulary::make(std::vector<std::string> pieces, std::vector<float> scores) {
  if (pieces.size() < first_text || pieces.size() > 0x7fffffff)
    return error(errc::bad_input, "a tokenizer of ", pieces.size(),
                 " pieces, must be at least 259: 3 marks and the bytes");
  if (scores.size() != pieces.size())
    return error(errc::bad_input, scores.size(), " scores for ", pieces.size(), " pieces, must be as many");
  for (int byte = 0; byte < 256; ++byte)
    if (const std::string& piece = pieces[static_cast<std::size_t>(first_byte + byte)]; piece != byte_piece(byte))
      return error(errc::bad_input, "piece ", first_byte + byte, " of a tokenizer must be the byte ", byte_piece(byte),
                   "; it has ", piece.size(), " bytes of something else");
  auto made = std::make_shared<llama2c_vocabulary>();
  llama2c_vocabulary& t = *made;
  t.vocab_ = static_cast<int>(pieces.size());
  t.pieces_ = std::move(pieces);
  t.scores_ = std::move(scores);
  t.prints_.resize(t.pieces_.size());
  t.table_.resize(std::bit_ceil(2 * t.pieces_.size()), -1);
  for (int id = first_text; id < t.vocab_; ++id) {
    const std::string& piece = t.spelt(id);
    const bool spells_a_mark = piece == t.spelt(0) || piece == t.spelt(1) || piece == t.spelt(2) || piece == "<unk>" ||
                               piece == "<s>" || piece == "</s>" || piece == "<pad>" || spelt_byte(piece) >= 0;
    if (spells_a_mark || piece.empty() || t.find(piece) >= 0) continue;  // the lowest id where a piece comes twice
    const fingerprint& f = t.prints_[static_cast<std::size_t>(id)] = fingerprint::of(piece);
    std::size_t at = f.sum & (t.table_.size() - 1);
    while (t.table_[at] >= 0) at = (at + 1) & (t.table_.size() - 1);
    t.table_[at] = id;
  }
  t.space_ = t.find(" ");
  t.shown_ = t.pieces_;
  t.shown_[1] = "<s>";
  t.shown_[2] = "</s>";
  for (int id = first_byte; id < t.vocab_; ++id)
    if (const int byte = spelt_byte(t.spelt(id)); byte >= 0)
      t.shown_[static_cast<std::size_t>(id)] = std::string(1, static_cast<char>(byte));
  const int vocab = t.vocab_;
  return tokenizer(std::move(made), {.vocab = vocab, .bos = 1, .opens = {1}, .drops_first_space = true});
}

/// A space, then one token per code point, or one per byte where the vocabulary has no such code point.
inline std::vector<int> llama2c_vocabulary::split(std::string_view text) const {
  std::vector<int> tokens;
  tokens.reserve(text.size() + 1);
  const auto add = [&](std::string_view bytes) {
    const int id = find(bytes);
    if (id >= 0)
      tokens.push_back(id);
    else
      for (char c : bytes) tokens.push_back(first_byte + static_cast<unsigned char>(c));
  };
  const auto continues = [&](std::size_t i) {
    return i < text.size() && (static_cast<unsigned char>(text[i]) & 0xc0u) == 0x80;
  };
  if (!text.empty()) add(" ");
  for (std::size_t i = 0; i < text.size();) {
    std::size_t n = 1;  // stray continuation bytes are taken together like a code point, four at most
    while (n < 4 && continues(i + n)) ++n;
    add(text.substr(i, n));
    i += n;
  }
  return tokens;
}

inline result<std::vector<int>> llama2c_vocabulary::encode(std::string_view text, spelling) const {
  // The tokens form a linked list in which a merge keeps the left node, so that places keep their order. The queue
  // holds every pair that can be merged, the best first; pairs whose tokens have changed since stay in it and are
  // skipped.
  std::vector<int> tokens = split(text);
  constexpr std::size_t none = static_cast<std::size_t>(-1);
  struct link {
    std::size_t before, after;
  };
  struct neighbours {
    float score;
    std::size_t left;
    int left_token, right_token, merged;
    bool operator<(const neighbours& b) const noexcept {
      return score < b.score || (score <= b.score && left > b.left);
    }
  };
  std::vector<link> links(tokens.size());
  for (std::size_t i = 0; i < links.size(); ++i) links[i] = {i - 1, i + 1 < links.size() ? i + 1 : none};
  std::priority_queue<neighbours> queue;
  const auto consider = [&](std::size_t left) {
    if (left == none || links[left].after == none) return;
    const int a = tokens[left], b = tokens[links[left].after];
    if (is_byte(a) || is_byte(b)) return;
    const int id = find_joined(a, b);
    // Neither NaN nor minus infinity is ever merged: llama2.c's search starts at -1e10.
    if (id >= 0 && scores_[static_cast<std::size_t>(id)] > -1e10f)
      queue.push({scores_[static_cast<std::size_t>(id)], left, a, b, id});
  };
  for (std::size_t i = 0; i < links.size(); ++i) consider(i);
  while (!queue.empty()) {
    const neighbours best = queue.top();
    queue.pop();
    const std::size_t right = links[best.left].after;
    if (tokens[best.left] != best.left_token || right == none || tokens[right] != best.right_token) continue;
    tokens[best.left] = best.merged;
    tokens[right] = -1;
    links[best.left].after = links[right].after;
    if (links[right].after != none) links[links[right].after].before = best.left;
    consider(links[best.left].before);
    consider(best.left);
  }
  std::erase(tokens, -1);
  return tokens;
}

}  // namespace detail

/// A llama2.c vocabulary. `pieces` by id: 0 unknown, 1 BOS, 2 EOS, then the 256 bytes as <0x00> to <0xFF>, then pieces
/// of text; merges of higher `scores` come first. Errors: fewer than 259 pieces, another number of scores, other bytes.
inline result<tokenizer> llama2c_tokenizer(std::vector<std::string> pieces, std::vector<float> scores) {
  return detail::llama2c_vocabulary::make(std::move(pieces), std::move(scores));
}

}  // namespace multistate
