#pragma once

#include <cmath>
#include <concepts>
#include <string_view>

namespace multistate {

/// What one step does to a memory M [dk][dv], with key x = f(k) and value v:
///   u = rate (v - recall M'x)
///   M = decay M + x u'                        or, where the rule has a momentum S [dk][dv],
///   S = carry S + x u', M = decay M + S       with M'x of the M before.
/// Every rule of this folder is a choice of these four numbers.
struct memory_update {
  double decay = 1;   ///< what the old memory counts afterwards
  double rate = 1;    ///< how much is written
  double recall = 0;  ///< how much of what the memory answers for the key is taken off the value
  double carry = 0;   ///< what the old momentum counts afterwards
};

/// f(x) = x.
struct identity_feature {
  static double of(double x) noexcept { return x; }
};

/// f(x) = ELU(x) + 1 (Katharopoulos et al. 2020): above 0, so that a sum of such keys can divide.
struct elu_feature {
  static double of(double x) noexcept { return x > 0 ? x + 1 : std::exp(x); }
};

/// A rule by which memories are written.
template <class R>
concept memory_rule = std::copyable<R> && requires(const R& rule, const typename R::gates& g, typename R::feature f) {
  { R::name } -> std::convertible_to<std::string_view>;
  {
    R::normalised
  } -> std::convertible_to<bool>;                // the memory keeps z [dk], the sum of the keys, and divides by f(q).z
  { R::momentum } -> std::convertible_to<bool>;  // it keeps S
  { rule.steps } -> std::convertible_to<int>;    // keys and values that one token writes, one after the other
  { rule.update(g, 0) } noexcept -> std::same_as<memory_update>;  // of step 0 to steps - 1 of a token
  { f.of(1.0) } noexcept -> std::same_as<double>;
};

}  // namespace multistate
