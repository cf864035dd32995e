#pragma once

// Attention for the SIMD target of this unit's compiler flags (static dispatch). What target-dependent names there are
// lives in a namespace of that target and is only brought out here: an inline function that called them from outside
// would be another one in each unit with other flags.

#include <multistate/attention/attend-inl.hpp>
#include <multistate/util/executor.hpp>
#include <multistate/attention/options.hpp>

namespace multistate {

using HWY_NAMESPACE::attention;
using HWY_NAMESPACE::attention_target;

}  // namespace multistate
