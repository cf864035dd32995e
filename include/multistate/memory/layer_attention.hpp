#pragma once

#include <multistate/rope/config.hpp>

namespace multistate {

/// What the attention of one layer has of its own, where a model's layers differ.
struct layer_attention {
  int window = 0;    ///< a query sees so many newest tokens, itself included; 0: all
  rope_config rope;  ///< its angles
  friend bool operator==(const layer_attention&, const layer_attention&) = default;
};

}  // namespace multistate
