#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include <multistate/eval/figures.hpp>
#include <multistate/eval/reading.hpp>
#include <multistate/model/batch.hpp>
#include <multistate/types/error.hpp>

namespace multistate {

/// How well a text is predicted after a prompt that was read in some way.
struct prompt_score {
  double nll = 0;  ///< nats per token of the text
  int states_attended_max = 0;
};

namespace detail {

/// The most states that any query attended.
class attended_count final : public memory_observer {
 public:
  void attended(int /*layer*/, std::span<const attention_task> heads) noexcept override {
    for (const attention_task& head : heads) most_ = std::max(most_, head.kv.n);
  }
  int most() const noexcept { return most_; }

 private:
  int most_ = 0;
};

}  // namespace detail

/// Reads the prompt from an empty memory, then the text token by token: the prompt predicts the text's first token. bos
/// < 0: the prompt does not begin with one. `no_target`: a token of the text that is read but not scored. Errors: those
/// of the decoder, which must take a whole prompt at once where the mode is one-shot; logits that are not finite.
/// Precondition: neither is empty.
template <class Decoder>
result<prompt_score> score_after(Decoder& model, sequence_memory& memory, std::span<const int> prompt,
                                 std::span<const int> text, reading_mode mode, int chunk, int bos, int no_target = -1) {
  const auto vocab = static_cast<std::size_t>(model.config().vocab);
  const auto most = static_cast<std::size_t>(model.max_tokens());
  const std::size_t piece = memory.one_by_one() ? std::min(text.size(), most) : 1;
  std::vector<float> logits(piece * vocab);
  double sum = 0;
  std::size_t scored = 0;
  const auto add = [&](std::size_t row, std::size_t at) {
    if (text[at] == no_target) return error();
    double log_p = 0;
    const std::span<const float> x(&logits[row * vocab], vocab);
    if (!log_probability(x, static_cast<std::size_t>(text[at]), log_p))
      return error(errc::bad_input, "logits are not finite ", at, " tokens after the prompt");
    sum -= log_p;
    ++scored;
    return error();
  };

  const std::vector<int> tokens = tokens_to_read(prompt, mode, bos);
  detail::attended_count attended;
  const scoped_observer watched(memory, attended);
  memory.reset();
  const reading whole{&memory, tokens, logits.data()};
  error e = read_together(model, std::span(&whole, 1), prompt_mode_of(mode), chunk);
  if (!e) e = add(0, 0);
  for (std::size_t at = 0; at + 1 < text.size() && !e;) {
    const std::size_t count = std::min(piece, text.size() - 1 - at);
    const batch_item item{.memory = &memory,
                          .tokens = text.subspan(at, count),
                          .mode = attend_mode::one_by_one,
                          .want = logit_rows::all,
                          .logits = logits.data()};
    e = model.forward({&item, 1});
    for (std::size_t i = 0; i < count && !e; ++i) e = add(i, at + i + 1);
    at += count;
  }
  if (e) return e;
  return prompt_score{scored > 0 ? sum / static_cast<double>(scored) : 0.0, attended.most()};
}

}  // namespace multistate
