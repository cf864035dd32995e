#pragma once

/// Deciding alone, for engines with an attention and a cache of their own: policies, ranking, bookkeeping.

#include <multistate/util/language.hpp>  // first: says what is missing

#include <multistate/util/macros_off.hpp>

#include <multistate/decider/decider.hpp>
#include <multistate/policy/full.hpp>
#include <multistate/policy/h2o.hpp>
#include <multistate/policy/knorm.hpp>
#include <multistate/policy/random.hpp>
#include <multistate/policy/tova.hpp>
#include <multistate/policy/window.hpp>

#include <multistate/util/macros_on.hpp>
