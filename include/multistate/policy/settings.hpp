#pragma once

#include <bit>
#include <cstdint>
#include <tuple>
#include <type_traits>

#include <multistate/policy/concept.hpp>
#include <multistate/types/error.hpp>
#include <multistate/util/finite.hpp>

namespace multistate {

namespace detail {

template <class T>
void append_value(error& e, const T& value) noexcept {
  if constexpr (std::is_same_v<T, scope_kind>)
    e.append(value == scope_kind::head ? "head" : value == scope_kind::layer ? "layer" : "model");
  else if constexpr (std::is_same_v<T, bool>)
    e.append(value ? "true" : "false");
  else
    e.append(value);
}

/// A setting as a word: equal for equal ones, and of numbers only for the same bits.
template <setting T>
constexpr std::uint64_t setting_bits(T value) noexcept {
  if constexpr (std::is_same_v<T, float>)
    return std::bit_cast<std::uint32_t>(value);
  else if constexpr (std::is_same_v<T, double>)
    return std::bit_cast<std::uint64_t>(value);
  else
    return static_cast<std::uint64_t>(value);
}

/// Null where it is in range: a whole number may be the default, whatever that is, or a count.
template <class P, class Option>
const char* broken_range(const P& settings, const Option& o) noexcept {
  const auto value = settings.*o.member;
  using T = std::remove_const_t<decltype(value)>;
  if constexpr (std::is_same_v<T, int>)
    return value == P{}.*o.member || (value >= 0 && value <= max_tokens) ? nullptr : "settings >= 0 and not above 2^28";
  else if constexpr (std::is_floating_point_v<T>)
    return is_finite(value) ? nullptr : "finite settings";
  else
    return nullptr;
}

}  // namespace detail

/// Whether a lane of `lane_budget` states can run with these settings; the error names the rule and all settings.
template <policy P>
error check_settings(const P& settings, int lane_budget) noexcept {
  if (lane_budget < 1 || lane_budget > max_tokens)
    return error(errc::bad_budget, P::name, ": budget must be 1 to ", max_tokens, " states; got ", lane_budget);
  const char* rule = nullptr;
  std::apply([&](const auto&... o) { ((rule = rule != nullptr ? rule : detail::broken_range(settings, o)), ...); },
             P::options);
  if (rule == nullptr) rule = settings.check(lane_budget);
  if (rule == nullptr) return {};
  error e(errc::bad_policy, P::name, ": needs ", std::string_view(rule), "; got budget=", lane_budget);
  std::apply(
      [&](const auto&... o) {
        ((e.append(", "), e.append(o.key), e.append("="), detail::append_value(e, settings.*o.member)), ...);
      },
      P::options);
  return e;
}

}  // namespace multistate
