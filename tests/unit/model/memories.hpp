#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include <multistate/memory/memory.hpp>
#include <multistate/policies.hpp>
#include <unit/model/models.hpp>

namespace support {

using make_kind = std::function<multistate::sequence_memory(const multistate::model_config&, const multistate::limits&,
                                                            multistate::position_mode)>;

template <class Keys = multistate::f32, class Values = Keys, multistate::policy P>
make_kind memory_kind(const P& settings) {
  return [settings](const multistate::model_config& c, const multistate::limits& room, multistate::position_mode at) {
    return multistate::make_memory<Keys, Values>(settings, setup_for(c, room, at)).value();
  };
}

/// Policies that look at nothing, at rows, at sums, at keys; all scopes and formats. No two are alike.
inline std::vector<make_kind> memory_kinds() {
  using namespace multistate;
  return {memory_kind(window{.budget = 6, .sinks = 2}),
          memory_kind(tova{.budget = 7}),
          memory_kind<f16>(tova{.budget = 6, .scope = scope_kind::model}),
          memory_kind(h2o{.budget = 8}),
          memory_kind<bf16, f32>(h2o{.budget = 7, .scope = scope_kind::layer}),
          memory_kind<bf16>(h2o{.budget = 7, .scope = scope_kind::model, .normalised = true}),
          memory_kind(knorm{.budget = 6}),
          memory_kind(multistate::random_choice{.budget = 5})};
}

inline void expect_same_states(const multistate::sequence_memory& a, const multistate::sequence_memory& b) {
  EXPECT_EQ(a.next_position(), b.next_position());
  for (int l = 0; l < a.layers(); ++l)
    for (int lane = 0; lane < a.lanes(l); ++lane) EXPECT_EQ(kept(a, l, lane), kept(b, l, lane));
}

}  // namespace support
