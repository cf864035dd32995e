#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <multistate/model/sampling.hpp>
#include <multistate/tokenizer/tokenizer.hpp>
#include <multistate/types/error.hpp>
#include <multistate/util/hash.hpp>

namespace multistate {

/// What a recall question may lean on: `last`, the fact alone, the question unseen while forgetting; `first_too`, the
/// question also opens the text; `removed`, nothing: the chance floor.
enum class recall_variant : std::uint8_t { last, first_too, removed };

/// Where the facts of a trial stand. Distances count tokens from the first one of the fact's value to the first one of
/// the answer.
struct recall_layout {
  int facts = 1;
  recall_variant variant = recall_variant::last;
  int before = 64;                  ///< tokens before the fact that is asked for, BOS included
  std::vector<int> distances = {};  ///< at which it is asked for, each time as if for the first time
};

/// Filler text in which facts are told, and the question for one of them. A prompt is the first `at` tokens of the text
/// and the question.
struct recall_trial {
  static constexpr std::size_t unasked = static_cast<std::size_t>(-1);
  std::vector<int> text;        ///< BOS first where there is one
  std::vector<std::size_t> at;  ///< of each distance; unasked where statement and question don't fit into it
  std::vector<int> question, answer;

  std::vector<int> prompt(std::size_t distance) const {
    std::vector<int> tokens(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at[distance]));
    tokens.insert(tokens.end(), question.begin(), question.end());
    return tokens;
  }
};

/// Makes trials: facts are lines `#KEY=VALUE;` of three capitals and five digits, questions `?KEY=`, filler is pieces
/// of a text. The same trial for the same seed and number, on every machine.
class recall_generator {
 public:
  /// `filler` and `words` must outlive it; bos < 0: none. Errors: hardly any filler.
  static result<recall_generator> make(std::span<const int> filler, const tokenizer& words, int bos,
                                       std::uint64_t seed) {
    if (filler.size() < 2) return error(errc::bad_input, "recall: the filler text has ", filler.size(), " tokens");
    if (const auto tried = words.encode("\n#KEY=12345;\n?KEY="); !tried) return tried.reason();
    return recall_generator(filler, words, bos, seed);
  }

  /// Errors: facts that don't fit.
  result<recall_trial> trial(const recall_layout& layout, std::uint64_t number) const {
    uniform_draws draws(mix(seed_) ^ number);
    std::vector<std::string> keys;
    std::vector<std::vector<int>> statements;
    recall_trial t;
    std::size_t value_at = 0;
    for (int i = 0; i < layout.facts; ++i) {
      std::string key = fresh_key(draws, keys), value;
      for (int digit = 0; digit < 5; ++digit) value += static_cast<char>('0' + below(draws, 10));
      statements.push_back(encode("\n#" + key + "=" + value + ";\n"));
      if (i == 0) {
        value_at = split("\n#" + key + "=", value + ";\n").first.size();
        std::tie(t.question, t.answer) = split("\n?" + key + "=", value);
      }
      keys.push_back(std::move(key));
    }
    const std::size_t before = static_cast<std::size_t>(std::max(layout.before, 0)), told = statements[0].size();
    if (bos_ >= 0) t.text.push_back(bos_);
    if (layout.variant == recall_variant::first_too)
      for (const int token : encode("\n?" + keys[0] + "=\n")) t.text.push_back(token);
    const std::size_t opened = t.text.size();
    if (opened > before)
      return error(errc::bad_input, "recall: ", before, " tokens before the fact leave no room for the ", opened,
                   " that open the text");
    std::size_t end = before + told;
    for (const int distance : layout.distances) {
      const std::size_t least = told - value_at + t.question.size();
      const std::size_t at = static_cast<std::size_t>(std::max(distance, 0)) + before + value_at;
      t.at.push_back(distance >= 0 && static_cast<std::size_t>(distance) >= least ? at - t.question.size()
                                                                                  : recall_trial::unasked);
      if (t.at.back() != recall_trial::unasked) end = std::max(end, t.at.back());
    }
    const std::size_t from = below(draws, filler_.size());
    while (t.text.size() < end) t.text.push_back(filler_[(from + t.text.size()) % filler_.size()]);
    std::vector<std::pair<std::size_t, std::size_t>> taken{{0, opened}, {before, before + told}};
    if (layout.variant != recall_variant::removed) put(t.text, before, statements[0]);
    for (std::size_t i = 1; i < statements.size(); ++i) {
      const auto places = free_places(taken, t, statements[i].size());
      if (places.empty()) return error(errc::bad_input, "recall: ", layout.facts, " facts don't fit into the text");
      const std::size_t place = places[below(draws, places.size())];
      put(t.text, place, statements[i]);
      taken.emplace_back(place, place + statements[i].size());
    }
    return t;
  }

 private:
  recall_generator(std::span<const int> filler, const tokenizer& words, int bos, std::uint64_t seed)
      : filler_(filler), words_(&words), bos_(bos), seed_(seed) {}

  static std::size_t below(uniform_draws& draws, std::size_t n) {
    return std::min(n - 1, static_cast<std::size_t>(draws() * static_cast<double>(n)));
  }
  static std::string fresh_key(uniform_draws& draws, const std::vector<std::string>& used) {
    std::string key;
    do {
      key.clear();
      for (int i = 0; i < 3; ++i) key += static_cast<char>('A' + below(draws, 26));
    } while (std::find(used.begin(), used.end(), key) != used.end());
    return key;
  }
  /// Letters, digits and signs, which make() has tried.
  std::vector<int> encode(const std::string& text) const { return *words_->encode(text); }
  /// The tokens of head + tail: those that the head alone has too, and the rest.
  std::pair<std::vector<int>, std::vector<int>> split(const std::string& head, const std::string& tail) const {
    const std::vector<int> all = encode(head + tail), alone = encode(head);
    const auto cut = std::mismatch(all.begin(), all.end(), alone.begin(), alone.end()).first;
    return {{all.begin(), cut}, {cut, all.end()}};
  }
  static void put(std::vector<int>& text, std::size_t at, const std::vector<int>& tokens) {
    std::copy(tokens.begin(), tokens.end(), text.begin() + static_cast<std::ptrdiff_t>(at));
  }
  /// Where a statement overlaps nothing that is taken and no question comes before its end.
  static std::vector<std::size_t> free_places(const std::vector<std::pair<std::size_t, std::size_t>>& taken,
                                              const recall_trial& t, std::size_t size) {
    std::vector<std::size_t> places;
    for (std::size_t p = 0; p + size <= t.text.size(); ++p) {
      const bool overlaps =
          std::any_of(taken.begin(), taken.end(), [&](const auto& x) { return p < x.second && x.first < p + size; });
      const bool cut = std::any_of(t.at.begin(), t.at.end(), [&](std::size_t at) { return p < at && at < p + size; });
      if (!overlaps && !cut) places.push_back(p);
    }
    return places;
  }

  std::span<const int> filler_;
  const tokenizer* words_;
  int bos_;
  std::uint64_t seed_;
};

}  // namespace multistate
