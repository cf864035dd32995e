#pragma once

#include <cmath>

#include <multistate/policy/concept.hpp>

/// A policy that is not the library's: it uses every hook there is, each row of a chunk, keys, and three columns.
namespace foreign {

struct busy {
  static constexpr std::string_view name = "busy";
  static constexpr int columns = 3;
  int budget = 0;
  multistate::scope_kind scope = multistate::scope_kind::head;
  int newest = 0;
  static constexpr auto options =
      std::tuple{multistate::policy_option{"scope", &busy::scope}, multistate::policy_option{"newest", &busy::newest}};

  constexpr multistate::evidence wants() const {
    return {.last = multistate::evidence::every_query, .keys = true, .columns = columns};
  }
  constexpr const char* check(int lane_budget) const { return newest <= lane_budget ? nullptr : "newest <= budget"; }
  constexpr multistate::protect keeps(int) const { return {0, newest}; }
  /// Attention that fades: the column halves its memory in about five queries.
  void observe(const multistate::lane_ref& lane, const multistate::rows& r) const noexcept {
    for (int j = 0; j < r.queries; ++j)
      for (std::size_t s = 0; s < r.row(j).size(); ++s) {
        lane.column(0)[s] = lane.column(0)[s] * 0.875f + r.row(j)[s];
        lane.column(2)[s] += 1.0f;  // rows seen since this token entered, the whole of its own chunk included
      }
  }
  void enter(const multistate::lane_ref& lane, multistate::slot s, std::span<const float> key, std::span<const float>,
             std::span<const float>) const noexcept {
    double square = 0;
    for (const float x : key) square += double{x} * double{x};
    lane.column(1)[multistate::index(s)] += static_cast<float>(std::sqrt(square));
  }
  std::span<const float> worth(const multistate::lane_ref& lane, const multistate::rows&) const noexcept {
    for (std::size_t s = 0; s < lane.scratch.size(); ++s)
      lane.scratch[s] = lane.column(0)[s] * (1.0f + lane.column(1)[s]);
    return lane.scratch;
  }
};
static_assert(multistate::policy<busy>);

}  // namespace foreign
