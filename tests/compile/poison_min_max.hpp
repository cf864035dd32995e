#pragma once

// The macros of windows.h that stand in the way most often, after all standard headers that ours include.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#define max(a, b) poisoned by windows.h
#define min(a, b) poisoned by windows.h
