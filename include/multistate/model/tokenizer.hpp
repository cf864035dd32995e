#pragma once

#include <algorithm>
#include <queue>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <multistate/types/error.hpp>

namespace multistate {

/// The project's rule: a vocabulary of 256 is bytes without BOS, 257 is bytes and BOS 256; else what the model states.
constexpr bool is_byte_vocabulary(int vocab) noexcept { return vocab == 256 || vocab == 257; }
constexpr int bos_of(int vocab, int stated) noexcept { return vocab == 256 ? -1 : vocab == 257 ? 256 : stated; }

/// Text to token ids and back: bytes, or byte pair encoding as llama2.c does it (SentencePiece's, by scores).
class tokenizer {
 public:
  /// One token a byte. Precondition: is_byte_vocabulary(vocab).
  static tokenizer bytes(int vocab) {
    tokenizer t;
    t.vocab_ = vocab;
    return t;
  }
  /// `pieces` by id: 0 unknown, 1 BOS, 2 EOS, then the 256 bytes, then the others; merges of higher `scores` come
  /// first. Errors: fewer than 259 pieces, another number of scores.
  static result<tokenizer> bpe(std::vector<std::string> pieces, std::vector<float> scores);

  int vocab() const noexcept { return vocab_; }
  int bos() const noexcept { return bos_of(vocab_, 1); }
  bool is_bytes() const noexcept { return pieces_.empty(); }

  /// Ids, without BOS. Pairs are merged by best score, leftmost first among equals; O(n log n).
  std::vector<int> encode(std::string_view text) const;
  /// The text of a token that follows `previous` (BOS for the first one): the space that encode() puts before a text is
  /// taken away after BOS. BOS, EOS and ids outside the vocabulary are empty.
  std::string decode(int token, int previous) const;
  /// Bytes of text that a token stands for; over an encoded text they sum to its length.
  int text_bytes(int token, int previous) const { return static_cast<int>(decode(token, previous).size()); }
  /// The same for each token of what encode() made.
  std::vector<int> text_bytes(std::span<const int> tokens) const {
    std::vector<int> counts;
    counts.reserve(tokens.size());
    for (std::size_t i = 0; i < tokens.size(); ++i)
      counts.push_back(text_bytes(tokens[i], i == 0 ? bos() : tokens[i - 1]));
    return counts;
  }

 private:
  static constexpr int first_byte = 3;
  int find(const std::string& piece) const {
    const auto at = ids_.find(piece);
    return at == ids_.end() ? -1 : at->second;
  }
  std::vector<int> split(std::string_view text) const;

  int vocab_ = 256;
  std::vector<std::string> pieces_;  // empty: bytes
  std::vector<float> scores_;
  std::unordered_map<std::string, int> ids_;
  std::size_t longest_ = 0;  // piece, in bytes
};

inline result<tokenizer> tokenizer::bpe(std::vector<std::string> pieces, std::vector<float> scores) {
  if (pieces.size() < first_byte + 256 || pieces.size() > 0x7fffffff)
    return error(errc::bad_input, "a tokenizer of ", pieces.size(),
                 " pieces, must be at least 259: 3 marks and the bytes");
  if (scores.size() != pieces.size())
    return error(errc::bad_input, scores.size(), " scores for ", pieces.size(), " pieces, must be as many");
  tokenizer t;
  t.vocab_ = static_cast<int>(pieces.size());
  for (int i = 0; i < t.vocab_; ++i) {
    const std::string& piece = pieces[static_cast<std::size_t>(i)];
    t.ids_.emplace(piece, i);  // the lowest id where a piece comes twice
    t.longest_ = std::max(t.longest_, piece.size());
  }
  t.pieces_ = std::move(pieces);
  t.scores_ = std::move(scores);
  return t;
}

/// A space, then one token per code point, or one per byte where the vocabulary has no such code point.
inline std::vector<int> tokenizer::split(std::string_view text) const {
  std::vector<int> tokens;
  tokens.reserve(text.size() + 1);
  std::string point;
  const auto add = [&](std::string_view bytes) {
    const int id = find(point.assign(bytes));
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

inline std::vector<int> tokenizer::encode(std::string_view text) const {
  if (is_bytes()) {
    std::vector<int> tokens;
    tokens.reserve(text.size());
    for (char c : text) tokens.push_back(static_cast<unsigned char>(c));
    return tokens;
  }
  // The tokens form a linked list in which a merge keeps the left node, so that places keep their order. The queue
  // holds every pair that can be merged, the best first; pairs whose tokens have changed since stay in it and are
  // skipped.
  std::vector<int> tokens = split(text);
  constexpr std::size_t none = static_cast<std::size_t>(-1);
  struct link {
    std::size_t before, after;
  };
  struct candidate {
    float score;
    std::size_t left;
    int left_token, right_token, merged;
    bool operator<(const candidate& b) const noexcept { return score != b.score ? score < b.score : left > b.left; }
  };
  std::vector<link> links(tokens.size());
  for (std::size_t i = 0; i < links.size(); ++i) links[i] = {i - 1, i + 1 < links.size() ? i + 1 : none};
  std::priority_queue<candidate> queue;
  std::string joined;
  const auto piece = [&](int id) -> const std::string& { return pieces_[static_cast<std::size_t>(id)]; };
  const auto consider = [&](std::size_t left) {
    if (left == none || links[left].after == none) return;
    const int a = tokens[left], b = tokens[links[left].after];
    if (piece(a).size() + piece(b).size() > longest_) return;
    const int id = find(joined.assign(piece(a)).append(piece(b)));
    // Neither NaN nor minus infinity is ever merged: llama2.c's search starts at -1e10.
    if (id >= 0 && scores_[static_cast<std::size_t>(id)] > -1e10f)
      queue.push({scores_[static_cast<std::size_t>(id)], left, a, b, id});
  };
  for (std::size_t i = 0; i < links.size(); ++i) consider(i);
  while (!queue.empty()) {
    const candidate best = queue.top();
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

inline std::string tokenizer::decode(int token, int previous) const {
  if (token < 0 || token >= vocab_ || token == bos()) return {};
  if (is_bytes()) return std::string(1, static_cast<char>(token));
  if (token == 2) return {};  // EOS
  const std::string& piece = pieces_[static_cast<std::size_t>(token)];
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  if (piece.size() == 6 && piece.starts_with("<0x") && piece[5] == '>' && digit(piece[3]) >= 0 && digit(piece[4]) >= 0)
    return std::string(1, static_cast<char>(digit(piece[3]) * 16 + digit(piece[4])));
  return previous == bos() && piece.starts_with(' ') ? piece.substr(1) : piece;
}

}  // namespace multistate
