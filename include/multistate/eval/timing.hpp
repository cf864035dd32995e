#pragma once

#include <chrono>
#include <span>
#include <vector>

#include <multistate/model/batch.hpp>
#include <multistate/memory/sequence_memory.hpp>

namespace multistate {

/// Seconds of a step, or of several.
struct step_time {
  double attention = 0;  ///< storing keys and values, attending
  double policy = 0;     ///< deciding and dropping
  double whole = 0;      ///< with all that the model does beside

  double rest() const noexcept { return whole - attention - policy; }
  void operator+=(const step_time& other) noexcept {
    attention += other.attention;
    policy += other.policy;
    whole += other.whole;
  }
};

namespace detail {

/// Reads the clock where attention begins and ends, and after the decision.
class step_clock final : public memory_observer {
 public:
  using clock = std::chrono::steady_clock;

  void attending(int /*layer*/) noexcept override { last_ = clock::now(); }
  void attended(int /*layer*/, std::span<const attention_task> /*heads*/) noexcept override { lap(sum_.attention); }
  void decided(int /*layer*/, const decision& /*decision*/) noexcept override { lap(sum_.policy); }

  void begin() noexcept {
    sum_ = {};
    begun_ = clock::now();
  }
  step_time end() noexcept {
    sum_.whole = std::chrono::duration<double>(clock::now() - begun_).count();
    return sum_;
  }

 private:
  void lap(double& to) noexcept {
    const auto now = clock::now();
    to += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

  step_time sum_;
  clock::time_point begun_, last_;
};

}  // namespace detail

/// Decodes tokens one by one from an empty memory, with the logits of each; `times` [tokens] gets what each step took.
/// Errors: those of the decoder.
template <class Decoder>
error time_steps(Decoder& model, sequence_memory& memory, std::span<const int> tokens, std::span<step_time> times) {
  std::vector<float> logits(static_cast<std::size_t>(model.config().vocab));
  detail::step_clock clock;
  const scoped_observer watched(memory, clock);
  memory.reset();
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const batch_item item{
        .memory = &memory, .tokens = tokens.subspan(t, 1), .want = logit_rows::last, .logits = logits.data()};
    clock.begin();
    if (const error e = model.forward({&item, 1})) return e;
    times[t] = clock.end();
  }
  return {};
}

}  // namespace multistate
