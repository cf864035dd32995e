#pragma once

#include <cstdint>

namespace multistate {

/// Which two elements of a head turn together: (i, i + d/2) as Hugging Face stores Llama, or (2i, 2i + 1) as llama2.c
/// does.
enum class rope_pairing : std::uint8_t { halves, adjacent };

enum class rope_scaling : std::uint8_t { none, linear, llama3 };

/// Rotary position embedding (Su et al. 2021), with the context extensions that Llama checkpoints use.
struct rope_config {
  int dim = 0;             ///< rotated elements of a head, even
  double theta = 10000.0;  ///< base
  rope_pairing pairing = rope_pairing::halves;
  rope_scaling scaling = rope_scaling::none;
  double factor = 1.0;            ///< linear, llama3
  double low_freq_factor = 1.0;   ///< llama3
  double high_freq_factor = 4.0;  ///< llama3
  double original_context = 0.0;  ///< llama3: tokens of the original training context
  friend bool operator==(const rope_config&, const rope_config&) = default;
};

}  // namespace multistate
