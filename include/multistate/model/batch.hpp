#pragma once

#include <cstdint>
#include <span>

#include <multistate/memory/sequence_memory.hpp>

namespace multistate {

/// Which tokens of a call get logits.
enum class logit_rows : std::uint8_t { none, last, all };

/// The next tokens of one sequence.
struct batch_item {
  sequence_memory* memory = nullptr;
  std::span<const int> tokens;  ///< one when decoding, else a chunk or a whole prompt
  attend_mode mode = attend_mode::together;
  phase when = phase::decode;
  logit_rows want = logit_rows::none;
  float* logits = nullptr;  ///< [vocab] for last, [tokens][vocab] for all
  /// Item before this one in the batch, whose memory holds the same and whose tokens are the same: what is computed for
  /// that one is this one's too, and only this memory's policy does anything. No logits. -1: none.
  int same_as = -1;
};

/// How a prompt of any length is read (Oren et al. 2024; policies that look at rows decide differently in each).
enum class prompt_mode : std::uint8_t {
  sequential,  ///< token by token: the paper's algorithm
  chunked,     ///< some tokens at a time, one reduction for each
  one_shot,    ///< all at once, one reduction: the authors' released code; needs limits::prompt
};

}  // namespace multistate
