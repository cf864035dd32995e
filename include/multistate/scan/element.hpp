#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <span>

#include <multistate/util/assert.hpp>
#include <multistate/util/finite.hpp>

namespace multistate {

/// The weights of some states: the largest logit m and the sum of exp(logit - m); no states: sum 0.
template <std::floating_point T>
struct scan_part {
  T max;
  T sum;
};

/// What joins two parts: their largest logit, and by what the sums and the values of either are multiplied.
template <std::floating_point T>
struct scan_factors {
  T max;
  T into;
  T from;
};

/// The rule of every merge, in kernels too. Precondition: `from` has states (its sum is not 0). NaN goes into a factor.
template <std::floating_point T>
scan_factors<T> scan_rule(const scan_part<T>& into, const scan_part<T>& from) noexcept {
  const auto power = [](T below) { return below >= T(0) ? T(1) : std::exp(below); };
  if (into.sum <= T(0)) return {from.max, T(0), power(from.max - from.max)};  // exp(-inf - -inf) would be NaN
  const T max = into.max < from.max ? from.max : into.max;
  return {max, power(into.max - max), power(from.max - max)};
}

/// Attention over some of the states, so that it can be merged with attention over others ("Attention as an RNN",
/// Feng et al. 2024). The memory of `value` is the caller's.
template <std::floating_point T>
struct scan_element {
  T max = -std::numeric_limits<T>::infinity();  ///< the largest logit m
  T sum = 0;                                    ///< sum of exp(logit - m)
  std::span<T> value;                           ///< [dv] sum of exp(logit - m) v
};

/// Makes `e` the attention over no states at all: merging it changes nothing.
template <std::floating_point T>
void scan_clear(scan_element<T>& e) noexcept {
  e.max = -std::numeric_limits<T>::infinity();
  e.sum = 0;
  for (T& x : e.value) x = 0;
}

/// `into` = attention over the states of both. Associative, and commutative; NaN and infinities go the way of a
/// softmax.
template <std::floating_point T>
void scan_merge(scan_element<T>& into, const scan_element<T>& from) noexcept {
  MULTISTATE_ASSERT(into.value.size() == from.value.size());
  if (from.sum <= T(0)) return;  // no states: exp(-inf - -inf) would be NaN
  if (into.sum <= T(0)) {
    into.max = from.max;
    into.sum = from.sum;
    for (std::size_t i = 0; i < into.value.size(); ++i) into.value[i] = from.value[i];
    return;
  }
  const bool first = into.sum <= T(0);
  const scan_factors<T> by = scan_rule<T>({into.max, into.sum}, {from.max, from.sum});
  into.max = by.max;
  into.sum = into.sum * by.into + from.sum * by.from;
  for (std::size_t i = 0; i < into.value.size(); ++i)
    into.value[i] = (first ? T(0) : into.value[i] * by.into) + from.value[i] * by.from;
}

/// One more state, value [dv]; an empty `value` is a zero vector (a learned sink). A logit of -inf is no state.
template <std::floating_point T>
void scan_add(scan_element<T>& e, T logit, std::span<const T> value) noexcept {
  MULTISTATE_ASSERT(value.empty() || value.size() == e.value.size());
  if (is_minus_infinity(logit)) return;
  const bool first = e.sum <= T(0);
  const scan_factors<T> by = scan_rule<T>({e.max, e.sum}, {logit, T(1)});
  e.max = by.max;
  e.sum = e.sum * by.into + by.from;
  for (std::size_t i = 0; i < e.value.size(); ++i) {
    const T kept = first ? T(0) : e.value[i] * by.into;
    e.value[i] = value.empty() ? kept : kept + by.from * value[i];
  }
}

/// The attention's output, [dv]; zeros where there was no state. May write over e.value.
template <std::floating_point T>
void scan_normalise(const scan_element<T>& e, std::span<T> out) noexcept {
  MULTISTATE_ASSERT(out.size() == e.value.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = e.sum <= T(0) ? T(0) : e.value[i] / e.sum;
}

}  // namespace multistate
