#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

namespace multistate {

/// How the worths that a lane's query heads give a state become one. With mean, rows are summed before a policy sees
/// them. The others ask the policy for each query head apart: zmean and zmax first make the worths of each comparable,
/// (s - mean) / max(deviation, 1e-6) over its candidates (TriAttention, Mao et al. 2026, takes zmax).
enum class mix_kind : std::uint8_t { mean, max, zmean, zmax };

namespace detail {

constexpr bool normalises(mix_kind mix) noexcept { return mix == mix_kind::zmean || mix == mix_kind::zmax; }
constexpr bool takes_greatest(mix_kind mix) noexcept { return mix == mix_kind::max || mix == mix_kind::zmax; }

/// worth [n] of one query head by mean and population deviation over the slots that `open` names.
template <class Open>
void normalise(std::span<float> worth, const Open& open) noexcept {
  double count = 0, sum = 0, squares = 0;
  for (std::size_t s = 0; s < worth.size(); ++s)
    if (open(s)) {
      ++count;
      sum += double{worth[s]};
    }
  const double mean = count > 0 ? sum / count : 0;
  for (std::size_t s = 0; s < worth.size(); ++s)
    if (open(s)) squares += (double{worth[s]} - mean) * (double{worth[s]} - mean);
  const double deviation = count > 0 ? std::sqrt(squares / count) : 0;
  const double by = 1.0 / (deviation > 1e-6 ? deviation : 1e-6);
  for (float& w : worth) w = static_cast<float>((double{w} - mean) * by);
}

/// to [n] takes in one more: the sum, or the greatest. NaN stays.
inline void take_in(std::span<float> to, std::span<const float> more, bool greatest, bool first) noexcept {
  for (std::size_t s = 0; s < to.size(); ++s) {
    if (first)
      to[s] = more[s];
    else if (!greatest)
      to[s] += more[s];
    else if (!(more[s] <= to[s]))
      to[s] = more[s];
  }
}

}  // namespace detail

}  // namespace multistate
