#pragma once

#include <cstdint>
#include <vector>

namespace multistate {

/// Which two elements of a head turn together: (i, i + d/2) as Hugging Face stores Llama, or (2i, 2i + 1) as llama2.c
/// does.
enum class rope_pairing : std::uint8_t { halves, adjacent };

/// How a rope's frequencies are made from its base (modeling_rope_utils.py of transformers); `still`: all are 0, for a
/// layer whose keys are not turned; `divided`: longrope's, each by a divisor of its own.
enum class rope_scaling : std::uint8_t { none, linear, llama3, dynamic, yarn, divided, still };

/// Rotary position embedding (Su et al. 2021), with the context extensions that checkpoints use.
struct rope_config {
  int dim = 0;             ///< rotated elements of a head, even
  double theta = 10000.0;  ///< base
  rope_pairing pairing = rope_pairing::halves;
  rope_scaling scaling = rope_scaling::none;
  double factor = 1.0;            ///< linear, llama3, dynamic, yarn
  double low_freq_factor = 1.0;   ///< llama3
  double high_freq_factor = 4.0;  ///< llama3
  double original_context = 0.0;  ///< all but none, linear, still: tokens of the original training context
  double beta_fast = 32.0;        ///< yarn: turns within the original context above which a pair is not stretched
  double beta_slow = 1.0;         ///< yarn: and below which it is stretched in full
  bool truncate = true;           ///< yarn: the pairs between are counted in whole ones
  double attention_factor = 1.0;  ///< what cosines and sines are multiplied by
  double session = 0.0;           ///< dynamic, divided: the most tokens a sequence will have; 0: the original context
  std::vector<float> short_divisors = {};  ///< divided: [dim / 2] up to the original context
  std::vector<float> long_divisors = {};   ///< divided: [dim / 2] for longer sessions; empty: the short ones
  friend bool operator==(const rope_config&, const rope_config&) = default;
};

}  // namespace multistate
