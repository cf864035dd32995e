#pragma once

#include <cstddef>
#include <string_view>
#include <utility>

#include <multistate/rope/rope.hpp>
#include <multistate/util/assert.hpp>
#include <multistate/util/buffer.hpp>
#include <multistate/types/error.hpp>

namespace multistate {

/// Cosines and sines of the ranks [0, ranks): in-cache positions (Xiao et al. 2023) turn every key anew at every step.
class angle_table {
 public:
  static result<angle_table> make(const rope_config& config, int ranks) noexcept {
    using namespace std::string_view_literals;
    if (ranks < 1) return error(errc::bad_limits, "angle table: ranks is "sv, ranks, ", must be at least 1"sv);
    auto rotation = rope::make(config);
    if (!rotation) return rotation.reason();
    angle_table made(std::move(*rotation));
    made.ranks_ = ranks;
    const std::size_t width = made.rope_.angle_floats();
    if (static_cast<std::size_t>(ranks) > static_cast<std::size_t>(-1) / width ||
        !made.cos_sin_.allocate(static_cast<std::size_t>(ranks) * width))
      return error(errc::out_of_memory, "angle table: no memory for "sv, ranks, " ranks of "sv, config.dim,
                   " floats"sv);
    for (int rank = 0; rank < ranks; ++rank)
      made.rope_.angles(rank, made.cos_sin_.data() + static_cast<std::size_t>(rank) * width);
    return made;
  }

  const rope& rotation() const noexcept { return rope_; }
  int ranks() const noexcept { return ranks_; }
  std::size_t bytes() const noexcept { return cos_sin_.bytes(); }

  /// What rope::rotate takes: [2][dim / 2].
  const float* row(std::size_t rank) const noexcept {
    MULTISTATE_ASSERT(rank < static_cast<std::size_t>(ranks_));
    return cos_sin_.data() + rank * rope_.angle_floats();
  }

 private:
  explicit angle_table(rope&& rotation) noexcept : rope_(std::move(rotation)) {}

  rope rope_;
  buffer<float> cos_sin_;  ///< [ranks][2][dim / 2]
  int ranks_ = 0;
};

}  // namespace multistate
