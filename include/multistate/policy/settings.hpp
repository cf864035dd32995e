#pragma once

#include <cstdint>
#include <tuple>
#include <type_traits>

#include <multistate/policy/concept.hpp>
#include <multistate/types/error.hpp>

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

/// A number may be the default, whatever that is, or a count.
template <class P, class Option>
bool in_range(const P& settings, const Option& o) noexcept {
  if constexpr (std::is_same_v<std::remove_cvref_t<decltype(settings.*o.member)>, int>) {
    const int value = settings.*o.member;
    return value == P{}.*o.member || (value >= 0 && value <= max_tokens);
  } else {
    return true;
  }
}

}  // namespace detail

/// Whether a lane of `lane_budget` states can run with these settings; the error names the rule and all settings.
template <policy P>
error check_settings(const P& settings, int lane_budget) noexcept {
  if (lane_budget < 1 || lane_budget > max_tokens)
    return error(errc::bad_budget, P::name, ": budget must be 1 to ", max_tokens, " states; got ", lane_budget);
  const char* rule = nullptr;
  std::apply(
      [&](const auto&... o) {
        ((rule = detail::in_range(settings, o) ? rule : "settings >= 0 and not above 2^28"), ...);
      },
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
