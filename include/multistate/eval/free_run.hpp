#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include <multistate/eval/prompt_score.hpp>
#include <multistate/model/sampling.hpp>

namespace multistate {

/// What a row wrote by itself after a prompt.
struct free_text {
  std::vector<int> tokens;     ///< the likeliest one each time
  double repeated_4grams = 0;  ///< share of its runs of four tokens that stood in it before
  double nll_under_full = 0;   ///< nats per token, of the memory that keeps everything after the same prompt
};

/// Share of the runs of `n` tokens that stood before; 0 where there is none.
inline double repeated_share(std::span<const int> tokens, std::size_t n) {
  if (tokens.size() < n) return 0;
  const std::size_t runs = tokens.size() - n + 1;
  std::set<std::vector<int>> seen;
  for (std::size_t i = 0; i < runs; ++i) seen.emplace(&tokens[i], &tokens[i] + n);
  return static_cast<double>(runs - seen.size()) / static_cast<double>(runs);
}

/// Place of the first token of `a` that `b` does not have there; none where all are alike. Precondition: equally long.
inline std::optional<int> first_difference(std::span<const int> a, std::span<const int> b) noexcept {
  const auto at = std::mismatch(a.begin(), a.end(), b.begin()).first;
  if (at == a.end()) return std::nullopt;
  return static_cast<int>(at - a.begin());
}

/// Writes `count` tokens after a prompt that is read token by token from an empty memory; then `reference`, which keeps
/// everything, reads both. Errors: those of the decoder; logits that are not finite. Precondition: neither is empty.
template <class Decoder>
result<free_text> run_freely(Decoder& model, sequence_memory& memory, sequence_memory& reference,
                             std::span<const int> prompt, int count) {
  std::vector<float> logits(static_cast<std::size_t>(model.config().vocab));
  free_text out;
  memory.reset();
  const reading whole{&memory, prompt, logits.data()};
  error e = read_together(model, std::span(&whole, 1), prompt_mode::sequential, 1);
  while (!e) {
    out.tokens.push_back(greedy(logits));
    if (static_cast<int>(out.tokens.size()) == count) break;
    const batch_item item{
        .memory = &memory, .tokens = std::span(out.tokens).last(1), .want = logit_rows::last, .logits = logits.data()};
    e = model.forward({&item, 1});
  }
  if (e) return e;
  const auto score = score_after(model, reference, prompt, out.tokens, reading_mode::sequential, 1, -1);
  if (!score) return score.reason();
  out.repeated_4grams = repeated_share(out.tokens, 4);
  out.nll_under_full = score->nll;
  return out;
}

}  // namespace multistate
