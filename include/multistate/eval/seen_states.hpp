#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace multistate {

/// How many states some queries of a lane saw; a state counts once for each of them.
struct seen_states {
  std::int64_t all = 0;
  std::int64_t old = 0;    ///< of more than some age
  std::int64_t alike = 0;  ///< that the same queries of another lane saw too
};

/// What queries [from, T) saw. A state of position p was seen by queries [p, deaths[p]), in the other lane by
/// [p, others[p]). Precondition: as many of both, from >= 0.
inline seen_states count_seen(std::span<const int> deaths, std::span<const int> others, int from, int age) noexcept {
  seen_states n;
  for (std::size_t at = 0; at < deaths.size(); ++at) {
    const int p = static_cast<int>(at), begin = std::max(p, from);
    n.all += std::max(0, deaths[at] - begin);
    n.old += std::max(0, deaths[at] - std::max(p + age + 1, from));
    n.alike += std::max(0, std::min(deaths[at], others[at]) - begin);
  }
  return n;
}

}  // namespace multistate
