#pragma once

#include <multistate/policy/concept.hpp>

namespace multistate {

/// SnapKV (Li et al. 2024, arXiv 2404.14469; kvpress SnapKVPress at 8bb29b9): reduces a prompt, or each chunk of one,
/// to the `window` newest states and, of the others, those that the window's queries attended most: the mean over these
/// queries, then the mean over `kernel` neighbours among the older states, nothing counting for zero beyond their ends.
struct snapkv {
  static constexpr std::string_view name = "snapkv";
  int budget = 0;
  scope_kind scope = scope_kind::head;
  int window = 64;
  int kernel = 5;
  static constexpr auto options =
      std::tuple{policy_option{"scope", &snapkv::scope}, policy_option{"window", &snapkv::window},
                 policy_option{"kernel", &snapkv::kernel}};

  constexpr evidence wants() const { return {.last = window, .order = true}; }
  constexpr const char* check(int lane_budget) const {
    if (kernel < 1 || kernel % 2 == 0) return "an odd kernel";
    return window >= 1 && window <= lane_budget ? nullptr : "1 <= window <= budget";
  }
  constexpr protect keeps(int) const { return {0, window}; }
  bool due(const moment& m) const noexcept { return m.when != phase::decode || m.tokens > 1; }
  std::span<const float> worth(const lane_ref& lane, const rows& r) const noexcept {
    const float each = 1.0f / static_cast<float>(r.recorded() * r.heads);
    for (float& w : lane.scratch) w = 0;
    for (int j = 0; j < r.recorded(); ++j)
      for (std::size_t s = 0; s < lane.scratch.size(); ++s) lane.scratch[s] += r.row(j)[s];
    for (float& w : lane.scratch) w *= each;
    return lane.scratch;
  }
  void pool(const lane_ref& lane, std::span<float> worth) const noexcept {
    const int older = static_cast<int>(lane.by_age.size()) - window, half = kernel / 2;
    for (int i = 0; i < older; ++i) {
      double sum = 0;
      for (int j = i > half ? i - half : 0; j <= i + half && j < older; ++j)
        sum += double{worth[index(lane.by_age[to_size(j)])]};
      lane.scratch[index(lane.by_age[to_size(i)])] = static_cast<float>(sum / kernel);
    }
    for (int i = 0; i < older; ++i)
      worth[index(lane.by_age[to_size(i)])] = lane.scratch[index(lane.by_age[to_size(i)])];
  }
};
static_assert(policy<snapkv>);

}  // namespace multistate
