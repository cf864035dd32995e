#pragma once

// What the property tests share: rounds with printed seeds, random runs, comparisons.

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <support/data.hpp>
#include <support/furthest.hpp>
#include <support/naive.hpp>
#include <support/random.hpp>
#include <support/runner.hpp>

namespace support {

/// One test of an invariant: `body(generator)` for as many rounds as `base` times MULTISTATE_TEST_ROUNDS; stops at the
/// first that fails and says how to repeat it.
class Property : public testing::Test {
 protected:
  template <class Body>
  void each_round(int base, std::uint64_t salt, const Body& body) {
    const int count = rounds(base);
    RecordProperty("seed", std::to_string(base_seed()));
    RecordProperty("rounds", count);
    std::printf("seed %llu, %d rounds\n", static_cast<unsigned long long>(base_seed()), count);
    for (int i = 0; i < count && !HasFailure(); ++i) {
      const round_seed round{base_seed(), i};
      SCOPED_TRACE(round.text());
      generator g = round.make(salt);
      body(g);
    }
  }
};

/// The storage formats that runners have.
inline void random_formats(generator& g, run_spec& spec) {
  const int which = g.between(0, 3);
  spec.keys = which == 2 ? format::f16 : which == 3 ? format::bf16 : format::f32;
  spec.values = spec.keys == format::f32 ? format::f32 : format::f16;
}

/// Any run of the policies in `names` with at most `most` tokens of budget: shapes, scopes, formats, ragged budgets.
inline run_spec random_run(generator& g, const std::vector<std::string>& names, int most) {
  run_spec spec;
  spec.dims = random_dimensions(g);
  spec.layers = g.one_of(std::vector<int>{1, 1, 3});
  random_formats(g, spec);
  spec.policy = random_policy(g, g.chance(20) ? 1 : g.between(1, most), names);
  if (spec.policy.scope == lanes_by::head && g.chance(40) && spec.policy.name != "full") {
    for (int h = 0; h < spec.dims.kv_heads; ++h) spec.lane_budgets.push_back(spec.policy.budget + g.between(0, 3));
  }
  spec.with_simd = g.chance(30);
  return spec;
}

/// The first place where bits differ, or nothing.
inline std::string different(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return "sizes " + std::to_string(a.size()) + " and " + std::to_string(b.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i]))
      return "[" + std::to_string(i) + "] " + std::to_string(a[i]) + " and " + std::to_string(b[i]);
  return "";
}

/// Attention in float32, or in double with rounded results, against double: values are about 1 and there are few
/// states.
inline constexpr double close_enough = 2e-5;
/// A decision that float32 scores can't be trusted with.
inline constexpr double too_close = 2e-5;

}  // namespace support
