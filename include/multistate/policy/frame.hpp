#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <tuple>

#include <multistate/policy/concept.hpp>
#include <multistate/policy/mix.hpp>

namespace multistate {

/// How the lanes of a layer share their budgets: each has the same, or adaptive_heads.hpp deals them.
enum class head_budgets : std::uint8_t { equal, adaptive };
/// How layers share theirs: each has the same, or pyramid.hpp deals them.
enum class layer_budgets : std::uint8_t { equal, pyramid };

/// What can be said beside the settings of any policy that scores. The decider does it; no policy has to know.
struct frame {
  mix_kind mix = mix_kind::mean;  ///< how the query heads of a lane become one worth
  int every = 1;                  ///< a lane is reduced once it holds so many more than its budget
  int segments = 0;               ///< of positions, each of which keeps its best `quota` states; 0: none
  int quota = 0;
  head_budgets heads = head_budgets::equal;
  double floor = 0.2;  ///< adaptive: the share of an equal budget that no head goes below
  layer_budgets layers = layer_budgets::equal;
  static constexpr auto options =
      std::tuple{policy_option{"mix", &frame::mix},           policy_option{"every", &frame::every},
                 policy_option{"segments", &frame::segments}, policy_option{"quota", &frame::quota},
                 policy_option{"heads", &frame::heads},       policy_option{"floor", &frame::floor},
                 policy_option{"layers", &frame::layers}};

  friend constexpr bool operator==(const frame& a, const frame& b) noexcept {
    return a.mix == b.mix && a.every == b.every && a.segments == b.segments && a.quota == b.quota &&
           a.heads == b.heads && !(a.floor < b.floor) && !(b.floor < a.floor) && a.layers == b.layers;
  }
};

/// A policy together with its frame; itself a policy.
template <policy P>
struct framed : P {
  frame general{};
  constexpr frame frame_at(phase) const noexcept { return general; }
};

/// Whether a policy says something of its frame.
template <class P>
concept has_frame = requires(const P p, phase when) {
  { p.frame_at(when) } noexcept -> std::same_as<frame>;
};

/// The words of a setting that has words, in the order of its enum.
constexpr auto names_of(scope_kind) noexcept {
  return std::array<std::string_view, 4>{"head", "layer", "model", "model_head"};
}
constexpr auto names_of(mix_kind) noexcept { return std::array<std::string_view, 4>{"mean", "max", "zmean", "zmax"}; }
constexpr auto names_of(head_budgets) noexcept { return std::array<std::string_view, 2>{"equal", "adaptive"}; }
constexpr auto names_of(layer_budgets) noexcept { return std::array<std::string_view, 2>{"equal", "pyramid"}; }

}  // namespace multistate
