#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include <multistate/model/batch.hpp>
#include <multistate/types/error.hpp>

namespace multistate {

/// How a prompt is read before something is asked of it.
enum class reading_mode : std::uint8_t {
  sequential,  ///< token by token
  chunked,     ///< some tokens at a time
  one_shot,    ///< all at once, one reduction
  read_twice,  ///< token by token, and then all but BOS once more (Arora et al. 2024)
};
inline constexpr std::array<const char*, 4> reading_modes{"sequential", "chunked", "one_shot", "read_twice"};

constexpr prompt_mode prompt_mode_of(reading_mode mode) noexcept {
  return mode == reading_mode::chunked    ? prompt_mode::chunked
         : mode == reading_mode::one_shot ? prompt_mode::one_shot
                                          : prompt_mode::sequential;
}

/// What is read of a prompt, of which the first `done` tokens have been. bos < 0: it does not begin with one.
inline std::vector<int> tokens_to_read(std::span<const int> prompt, reading_mode mode, int bos, std::size_t done = 0) {
  const auto begin = prompt.begin() + static_cast<std::ptrdiff_t>(done);
  std::vector<int> tokens(begin, prompt.end());
  if (mode == reading_mode::read_twice) tokens.insert(tokens.end(), prompt.begin() + (bos >= 0 ? 1 : 0), prompt.end());
  return tokens;
}

/// Tokens that one sequence reads. Nothing is read where there are none.
struct reading {
  sequence_memory* memory = nullptr;
  std::span<const int> tokens;
  float* logits = nullptr;  ///< [vocab] of the last token; null: not wanted
};

/// Reads them side by side, in batches as large as the decoder takes; what comes out does not depend on how they are
/// batched. `chunk` counts where the mode is chunked: pieces begin at each sequence's first token here. Errors: those
/// of the decoder, which must take a whole prompt at once where the mode is one-shot.
template <class Decoder>
error read_together(Decoder& model, std::span<const reading> readings, prompt_mode mode, int chunk,
                    phase end = phase::prompt_end) {
  std::vector<std::size_t> done(readings.size(), 0), places;
  std::vector<batch_item> items;
  const auto room = static_cast<std::size_t>(model.max_tokens());
  for (;;) {
    std::size_t open = 0;
    for (std::size_t i = 0; i < readings.size(); ++i) open += done[i] < readings[i].tokens.size() ? 1 : 0;
    if (open == 0) return {};
    items.clear();
    places.clear();
    std::size_t taken = 0;
    for (std::size_t i = 0; i < readings.size(); ++i) {
      const reading& r = readings[i];
      const std::size_t left = r.tokens.size() - done[i];
      if (left == 0) continue;
      const bool alone = mode == prompt_mode::sequential && !r.memory->one_by_one();
      const std::size_t piece = mode == prompt_mode::one_shot  ? left
                                : mode == prompt_mode::chunked ? static_cast<std::size_t>(chunk)
                                : alone                        ? 1
                                                               : std::max<std::size_t>(1, room / open);
      const std::size_t count = std::min(piece, left);
      if (taken + count > room && !items.empty()) continue;  // in a later batch
      const bool last = count == left;
      items.push_back({.memory = r.memory,
                       .tokens = r.tokens.subspan(done[i], count),
                       .mode = mode == prompt_mode::one_shot  ? attend_mode::one_shot
                               : mode == prompt_mode::chunked ? attend_mode::together
                                                              : attend_mode::one_by_one,
                       .when = last                   ? end
                               : end == phase::decode ? phase::decode
                                                      : phase::prompt,
                       .want = last && r.logits != nullptr ? logit_rows::last : logit_rows::none,
                       .logits = r.logits});
      places.push_back(i);
      taken += count;
    }
    if (const error e = model.forward(items)) return e;
    for (std::size_t i = 0; i < items.size(); ++i) done[places[i]] += items[i].tokens.size();
  }
}

}  // namespace multistate
