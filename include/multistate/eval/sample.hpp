#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <multistate/types/error.hpp>

namespace multistate {

/// A text as the model sees it, without BOS.
struct token_text {
  std::string name;
  std::uint64_t hash = 0;
  std::vector<int> tokens;
  std::vector<int> bytes;   ///< of each token; empty where nobody can tell
  bool characters = false;  ///< tokens below 256 are bytes of text
};

/// Which targets count: those of queries in the window's second half, or every one.
enum class scoring : std::uint8_t { tail, all };

/// One window of a text: `queries` inputs, BOS first where there is one. Query j >= scored_from is scored, unless its
/// target is BOS.
struct text_window {
  std::size_t text = 0;   ///< which one
  std::size_t first = 0;  ///< text token of the first query that is not BOS
  int queries = 0;
  int scored_from = 0;
  int bos_targets = 0;  ///< from there on
  int scored() const noexcept { return queries - scored_from - bos_targets; }
};

/// Windows of T tokens over texts, each from an empty cache: [BOS] and T - 1 tokens, the last query predicts the text's
/// next token. Scored targets tile a text: with `tail` from T/2 on at stride T/2, with `all` from its start at stride
/// T. A text shorter than T, of n tokens, is one window scored from target n/2 on. A BOS inside a text, where documents
/// are joined, is an input like any other, but never a target; where a window would begin with it, it is read once.
class text_sample {
 public:
  /// Errors: T below 2, no text, a text of fewer than two tokens, nothing to score.
  static result<text_sample> make(std::span<const token_text> texts, int window, int bos, scoring rule) {
    if (window < 2) return error(errc::bad_input, "a window must have at least 2 tokens; got ", window);
    if (texts.empty()) return error(errc::bad_input, "there is no text to score");
    text_sample s;
    s.texts_ = texts;
    s.window_ = window;
    s.bos_ = bos;
    s.rule_ = rule;
    const int skip = s.skip();
    for (std::size_t t = 0; t < texts.size(); ++t) {
      const std::size_t n = texts[t].tokens.size();
      if (n < 2) return error(errc::bad_input, texts[t].name, ": has ", n, " tokens, needs at least 2 to score one");
      if (n < static_cast<std::size_t>(window)) {
        const int count = static_cast<int>(n);
        s.add({t, 0, count - skip, rule == scoring::all ? 0 : count / 2 - skip});
        continue;
      }
      const int from = rule == scoring::all ? 0 : window - window / 2;
      for (std::size_t first = 0; first < n; first += static_cast<std::size_t>(s.stride())) {
        const std::size_t left = n - first;  // targets are first + skip ... n - 1
        if (left <= static_cast<std::size_t>(from) + static_cast<std::size_t>(skip)) break;
        const std::size_t targets = left - static_cast<std::size_t>(skip);
        s.add({t, first, targets < static_cast<std::size_t>(window) ? static_cast<int>(targets) : window, from});
      }
    }
    if (s.windows_.empty())
      return error(errc::bad_input, texts[0].name, ": nothing to score in the second halves of windows of ", window,
                   " tokens");
    return s;
  }

  std::span<const token_text> texts() const noexcept { return texts_; }
  std::span<const text_window> windows() const noexcept { return windows_; }
  int window() const noexcept { return window_; }
  int stride() const noexcept { return rule_ == scoring::all ? window_ : window_ / 2; }
  scoring rule() const noexcept { return rule_; }
  int bos() const noexcept { return bos_; }

  int input(const text_window& w, int query) const noexcept {
    return has_bos() && query == 0 ? bos_ : texts_[w.text].tokens[target_index(w, query - 1)];
  }
  /// [queries]
  std::vector<int> inputs(const text_window& w) const {
    std::vector<int> tokens;
    tokens.reserve(static_cast<std::size_t>(w.queries));
    for (int j = 0; j < w.queries; ++j) tokens.push_back(input(w, j));
    return tokens;
  }
  int target(const text_window& w, int query) const noexcept { return texts_[w.text].tokens[target_index(w, query)]; }
  /// Place of a query's target in its text.
  std::size_t target_index(const text_window& w, int query) const noexcept {
    return w.first + static_cast<std::size_t>(query + skip());
  }

  /// Whether a query counts.
  bool scores(const text_window& w, int query) const noexcept {
    return query >= w.scored_from && !is_bos(target(w, query));
  }
  bool is_bos(int token) const noexcept { return has_bos() && token == bos_; }

  /// Scored targets of the first `windows` windows.
  std::int64_t scored(std::size_t windows) const noexcept {
    std::int64_t count = 0;
    for (const text_window& w : std::span(windows_).first(windows)) count += w.scored();
    return count;
  }
  /// Text bytes of the same; 0 where nobody can tell.
  std::int64_t bytes(std::size_t windows) const noexcept {
    std::int64_t count = 0;
    for (const text_window& w : std::span(windows_).first(windows)) {
      if (texts_[w.text].bytes.empty()) return 0;
      for (int j = w.scored_from; j < w.queries; ++j)
        if (scores(w, j)) count += texts_[w.text].bytes[target_index(w, j)];
    }
    return count;
  }

 private:
  /// A window, if it has a scored target.
  void add(text_window w) {
    for (; w.queries > 0 && is_bos(target(w, 0)); --w.queries, ++w.first)  // ours stands for it
      if (w.scored_from > 0) --w.scored_from;
    for (int j = w.scored_from; j < w.queries; ++j) w.bos_targets += is_bos(target(w, j)) ? 1 : 0;
    if (w.scored() > 0) windows_.push_back(w);
  }
  bool has_bos() const noexcept { return bos_ >= 0; }
  /// Text tokens between a window's first one and its first target.
  int skip() const noexcept { return has_bos() ? 0 : 1; }

  std::span<const token_text> texts_;  ///< the caller's
  std::vector<text_window> windows_;
  int window_ = 0;
  int bos_ = -1;
  scoring rule_ = scoring::tail;
};

/// Nats per scored target of the first `windows` windows, for one that knows nothing of the text but how often each of
/// `vocab` tokens has been a target before (Krichevsky and Trofimov 1981): a model that does worse does not know such a
/// text. Precondition: there is a target.
inline double counting_nll(const text_sample& sample, std::size_t windows, int vocab) {
  std::vector<std::int64_t> seen(static_cast<std::size_t>(vocab));
  double nll = 0, count = 0;
  for (const text_window& w : sample.windows().first(windows))
    for (int j = w.scored_from; j < w.queries; ++j) {
      if (!sample.scores(w, j)) continue;
      std::int64_t& times = seen[static_cast<std::size_t>(sample.target(w, j))];
      nll -= std::log((static_cast<double>(times++) + 0.5) / (count + 0.5 * vocab));
      ++count;
    }
  return nll / count;
}

}  // namespace multistate
