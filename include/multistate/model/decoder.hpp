#pragma once

// The reference decoder, for the SIMD target of this unit's compiler flags (see attention/attention.hpp).

#include <multistate/model/batch.hpp>
#include <multistate/model/decoder-inl.hpp>
#include <multistate/memory/memory.hpp>
#include <multistate/model/setup_for.hpp>

namespace multistate {

using HWY_NAMESPACE::decoder;

}  // namespace multistate
