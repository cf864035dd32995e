#pragma once

#include <cstdint>
#include <span>

#include <multistate/select/lowest.hpp>
#include <multistate/types/shape.hpp>

namespace multistate {

/// The sum over the query heads of one KV head of the L1 norm of W_o[:, head] v, over their number: how far a value can
/// move what its layer puts out. `output` [hidden][query head][dv]; `lane` heads of the layer.
inline double projected_length(std::span<const float> output, const shape& layer, int kv_head,
                               std::span<const float> value) noexcept {
  const std::size_t dv = value.size(), all = to_size(layer.heads) * dv;
  double sum = 0;
  for (std::size_t row = 0; row + all <= output.size(); row += all)
    for (int g = 0; g < layer.group(); ++g) {
      const float* weights = output.data() + row + to_size(kv_head * layer.group() + g) * dv;
      double out = 0;
      for (std::size_t i = 0; i < dv; ++i) out += double{weights[i]} * double{value[i]};
      sum += out < 0 ? -out : out;
    }
  return sum / layer.group();
}

/// CriticalKV's first stage (Feng et al. 2025, arXiv 2502.03805; kvpress CriticalKVPress at 8bb29b9): tier [n] becomes
/// 1 for the best states by `worth` until `first` are held, protected ones counted, and 0 for others. `order` [n] is
/// scratch.
inline void mark_first_stage(std::span<const float> worth, std::span<const position> positions, const protection& kept,
                             int first, std::span<slot> order, std::span<std::uint8_t> tier) noexcept {
  std::size_t open = 0;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    tier[i] = 0;
    if (kept.covers(positions[i]))
      --first;
    else
      order[open++] = slot{static_cast<std::uint32_t>(i)};
  }
  detail::sort_by_worth(order.first(open), worth, positions);
  for (; first > 0 && open > 0; --first) tier[index(order[--open])] = 1;
}

}  // namespace multistate
