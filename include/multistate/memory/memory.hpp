#pragma once

// Memories of whole sequences, for the SIMD target of this unit's compiler flags (see attention/attention.hpp).

#include <multistate/memory/policy_memory-inl.hpp>
#include <multistate/memory/memory_setup.hpp>
#include <multistate/memory/sequence_memory.hpp>
#include <multistate/memory/sequence_pool.hpp>

namespace multistate {

using HWY_NAMESPACE::make_layer_memory;
using HWY_NAMESPACE::make_memory;
using HWY_NAMESPACE::make_sequence_pool;

}  // namespace multistate
