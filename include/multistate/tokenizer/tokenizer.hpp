#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <multistate/types/error.hpp>

namespace multistate {

/// The project's rule: a vocabulary of 256 is bytes without BOS, 257 is bytes and BOS 256; else what the model states.
constexpr bool is_byte_vocabulary(int vocab) noexcept { return vocab == 256 || vocab == 257; }
constexpr int bos_of(int vocab, int stated) noexcept { return vocab == 256 ? -1 : vocab == 257 ? 256 : stated; }

/// What the spelling of a special token is in a text: text, as in anything that a user wrote, or that token.
enum class spelling : bool { text, special };

/// One kind of tokenizer, which class tokenizer holds. Reading it from several threads is safe.
class vocabulary {
 public:
  virtual ~vocabulary() = default;
  /// Ids, with nothing put before or behind them.
  virtual result<std::vector<int>> encode(std::string_view text, spelling specials) const = 0;
  /// The bytes that a token stands for; those of a special token are its spelling. Precondition: token in [0, vocab).
  virtual std::string_view piece(int token) const noexcept = 0;
  /// Whether a token is no text: BOS, the end of a turn.
  virtual bool is_special(int token) const noexcept = 0;
  /// The special token of that spelling; -1: none.
  virtual int special(std::string_view spelt) const noexcept = 0;
  /// Whether a space at the start of the token can be the one that encode() puts before a text.
  virtual bool may_open(int /*token*/) const noexcept { return true; }
};

/// Text to token ids and back. Special tokens come from a text only where spelling::special asks for them. A value that
/// is cheap to copy.
class tokenizer {
 public:
  /// What a vocabulary does not say of itself.
  struct manners {
    int vocab = 0;                   ///< ids are in [0, vocab)
    int bos = -1;                    ///< -1: none
    std::vector<int> opens = {};     ///< what it puts before a text by itself, most often BOS
    std::vector<int> closes = {};    ///< and behind it
    bool drops_first_space = false;  ///< encode() puts a space before a text, which decode() takes away
  };
  tokenizer(std::shared_ptr<const vocabulary> words, manners how) : words_(std::move(words)), how_(std::move(how)) {}

  /// One token a byte. Precondition: is_byte_vocabulary(vocab).
  static tokenizer bytes(int vocab);

  int vocab() const noexcept { return how_.vocab; }
  int bos() const noexcept { return how_.bos; }
  std::span<const int> opens() const noexcept { return how_.opens; }
  std::span<const int> closes() const noexcept { return how_.closes; }
  bool is_bytes() const noexcept { return is_byte_vocabulary(vocab()); }
  int special(std::string_view spelt) const noexcept { return words_->special(spelt); }
  bool is_special(int token) const noexcept { return inside(token) && words_->is_special(token); }

  /// Ids, without BOS. Errors: bytes that are not UTF-8 where the vocabulary is of code points; a rule of the
  /// tokenizer's that is not known here.
  result<std::vector<int>> encode(std::string_view text, spelling specials = spelling::text) const {
    return words_->encode(text, specials);
  }
  /// The text of a token that follows `previous` (BOS, or -1, for the first one). Special tokens and ids outside the
  /// vocabulary are empty. A code point may be spread over several tokens.
  std::string decode(int token, int previous) const {
    if (!inside(token) || words_->is_special(token)) return {};
    return std::string(shown(token, previous == bos() || previous < 0));
  }
  /// The bytes of all tokens, special ones spelt out.
  std::string spell(std::span<const int> tokens) const {
    std::string text;
    for (std::size_t i = 0; i < tokens.size(); ++i)
      if (inside(tokens[i])) text += shown(tokens[i], i == 0);
    return text;
  }
  /// Bytes of text that a token stands for; over an encoded text they sum to its length, unless the tokenizer writes
  /// some of it in another way (NFC).
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
  bool inside(int token) const noexcept { return token >= 0 && token < vocab(); }
  std::string_view shown(int token, bool first) const noexcept {
    const std::string_view text = words_->piece(token);
    return first && how_.drops_first_space && text.starts_with(' ') && words_->may_open(token) ? text.substr(1) : text;
  }

  std::shared_ptr<const vocabulary> words_;
  manners how_;
};

namespace detail {

/// 256 bytes, and BOS where there are 257.
class byte_vocabulary final : public vocabulary {
 public:
  byte_vocabulary() {
    for (int byte = 0; byte < 256; ++byte) bytes_[byte] = static_cast<char>(byte);
  }
  result<std::vector<int>> encode(std::string_view text, spelling) const override {
    std::vector<int> tokens;
    tokens.reserve(text.size());
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
    return tokens;
  }
  std::string_view piece(int token) const noexcept override {
    return token < 256 ? std::string_view(bytes_ + token, 1) : std::string_view();
  }
  bool is_special(int token) const noexcept override { return token == 256; }
  int special(std::string_view) const noexcept override { return -1; }

 private:
  char bytes_[256];
};

}  // namespace detail

inline tokenizer tokenizer::bytes(int vocab) {
  const int bos = bos_of(vocab, -1);
  std::vector<int> opens;
  if (bos >= 0) opens.push_back(bos);
  return {std::make_shared<detail::byte_vocabulary>(), {.vocab = vocab, .bos = bos, .opens = std::move(opens)}};
}

}  // namespace multistate
