#pragma once

#include <multistate/memory/memory_setup.hpp>
#include <multistate/model/config.hpp>

namespace multistate {

/// What the memories of a model's layers have in common: its heads, layers and rotary angles, and the caller's room.
inline memory_setup setup_for(const model_config& config, const limits& room = {},
                              position_mode positions = position_mode::original) {
  memory_setup setup;
  setup.dims = config.attention_shape();
  setup.layers = config.layers;
  setup.room = room;
  setup.positions = positions;
  setup.rope = config.rope;
  setup.own = config.own;
  setup.attention.scale = config.attention_scale;
  setup.attention.softcap = config.softcap;
  return setup;
}

}  // namespace multistate
