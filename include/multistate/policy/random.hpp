#pragma once

#include <multistate/policy/concept.hpp>
#include <multistate/util/hash.hpp>

namespace multistate {

/// The baseline without which a ranking says nothing: every state, the newest too, is equally likely to go, drawn anew
/// at each reduction. Seeded by position, so that undo, batches and threads change nothing.
struct random_choice {
  static constexpr std::string_view name = "random";
  int budget = 0;
  scope_kind scope = scope_kind::head;
  std::uint64_t seed = 0;
  static constexpr auto options =
      std::tuple{policy_option{"scope", &random_choice::scope}, policy_option{"seed", &random_choice::seed}};

  constexpr evidence wants() const { return {}; }
  constexpr const char* check(int) const { return nullptr; }
  constexpr protect keeps(int) const { return {}; }
  std::span<const float> worth(const lane_ref& lane, const rows&) const noexcept {
    const std::uint64_t place = static_cast<std::uint64_t>(lane.layer) << 32 | static_cast<std::uint64_t>(lane.lane);
    const std::uint64_t draw = mix(mix(seed ^ mix(place)) ^ static_cast<std::uint64_t>(lane.now));
    for (std::size_t s = 0; s < lane.scratch.size(); ++s)
      lane.scratch[s] = static_cast<float>(mix(draw ^ static_cast<std::uint64_t>(lane.positions[s])) >> 40);
    return lane.scratch;
  }
};
static_assert(policy<random_choice>);

}  // namespace multistate
