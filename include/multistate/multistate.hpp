#pragma once

/// The library without a model: policies, multi-states, rotary positions, SIMD attention, the step that joins them.

#include <multistate/util/language.hpp>  // first: says what is missing

#include <multistate/util/macros_off.hpp>

#include <multistate/attention/attention.hpp>
#include <multistate/policies.hpp>
#include <multistate/policy/registry.hpp>
#include <multistate/scan/element.hpp>
#include <multistate/state/multi_state.hpp>
#include <multistate/step/one_shot.hpp>
#include <multistate/step/step.hpp>

#include <multistate/util/macros_on.hpp>
