#pragma once

#include <bit>
#include <cstdint>
#include <tuple>
#include <type_traits>

#include <multistate/policy/frame.hpp>
#include <multistate/types/error.hpp>
#include <multistate/util/finite.hpp>

namespace multistate {

namespace detail {

template <class T>
void append_value(error& e, const T& value) noexcept {
  if constexpr (std::is_enum_v<T>)
    e.append(names_of(value)[static_cast<std::size_t>(value)]);
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

/// Whether a policy of that name, which looks at `wants`, can have this frame; the error names what it can't honour.
inline error check_frame(std::string_view name, const frame& f, const evidence& wants, bool scores, scope_kind scope,
                         int lane_budget) noexcept {
  if (f == frame{}) return {};
  const auto wrong = [&](const auto&... parts) { return error(errc::bad_policy, name, ": ", parts...); };
  if (f.every < 1 || f.every > max_tokens) return wrong("every must be 1 to ", max_tokens, "; got ", f.every);
  if (f.mix != mix_kind::mean && (rows_of(wants) == needs::nothing || wants_entries(wants) || wants_states(wants)))
    return wrong("mix needs a policy that looks at attention rows and at nothing else");
  if (!scores && (f.segments > 0 || f.heads != head_budgets::equal))
    return wrong("segments and heads need a policy that scores");
  if (f.segments < 0 || f.quota < 0 || (f.segments > 0) != (f.quota > 0))
    return wrong("segments and quota go together, each 1 or more; got segments=", f.segments, ", quota=", f.quota);
  if (std::int64_t{f.segments} * f.quota > lane_budget)
    return wrong("needs segments * quota <= budget; got segments=", f.segments, ", quota=", f.quota,
                 ", budget=", lane_budget);
  if (!(f.floor >= 0 && f.floor <= 1)) return wrong("floor must be 0 to 1; got ", f.floor);
  if (f.heads != head_budgets::equal && !by_head(scope)) return wrong("heads=adaptive needs scope head or model_head");
  if (f.layers != layer_budgets::equal && spans_layers(scope)) return wrong("layers=pyramid needs scope head or layer");
  return {};
}

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
