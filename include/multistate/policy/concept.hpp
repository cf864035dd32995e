#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <tuple>

#include <multistate/types/ids.hpp>
#include <multistate/types/rows.hpp>
#include <multistate/types/shape.hpp>

namespace multistate {

/// All that a policy sees of a lane of n states; everything here belongs to the decider.
struct lane_ref {
  std::span<const position> positions;  ///< [n] by slot
  position now = 0;                     ///< the newest token
  phase when = phase::decode;
  int layer = 0;  ///< 0 at scope model
  int lane = 0;
  int budget = 0;                 ///< of this lane
  int window = 0;                 ///< the model's own mask, 0: none
  std::span<float> columns;       ///< the policy's memory: P::columns numbers for each slot
  std::size_t column_stride = 0;  ///< floats from one column to the next
  std::span<float> scratch;       ///< [n], for worth()

  /// Memory column i, [n] by slot. Zero when a token enters; moves, undo, fork and save are the decider's work.
  std::span<float> column(int i) const noexcept {
    return columns.subspan(column_stride * static_cast<std::size_t>(i), positions.size());
  }
};

/// What a setting in a policy's string form can be.
template <class T>
concept setting = std::same_as<T, bool> || std::same_as<T, int> || std::same_as<T, std::uint64_t> ||
                  std::same_as<T, unsigned long long> || std::same_as<T, float> || std::same_as<T, double> ||
                  std::same_as<T, scope_kind>;

/// One `key=value` of a policy's string form. The key "+" (an int) is the
/// number in `name+N`.
template <class P, class T>
struct policy_option {
  std::string_view key;
  T P::*member;
};
template <class P, class T>
policy_option(std::string_view, T P::*) -> policy_option<P, T>;

// The contract of a policy, member by member; docs/write-a-policy.md explains each.
template <class P>
concept has_name = requires {
  { P::name } -> std::convertible_to<std::string_view>;
};
template <class P>
concept has_wants = requires {
  { P::wants } -> std::convertible_to<needs>;
};
template <class P>
concept has_columns = requires {
  { P::columns } -> std::same_as<const int&>;
};
template <class P>
concept has_budget = requires(P p) {
  { p.budget } -> std::same_as<int&>;
};
template <class P>
concept has_scope = requires(const P p) {
  { p.scope } -> std::convertible_to<scope_kind>;
};
namespace detail {
template <class T>
inline constexpr bool is_options = false;
template <class... P, class... T>
inline constexpr bool is_options<std::tuple<policy_option<P, T>...>> = (setting<T> && ...);
}  // namespace detail
template <class P>
concept has_options = detail::is_options<std::remove_cvref_t<decltype(P::options)>>;
template <class P>
concept has_check = requires(const P p, int budget) {
  { p.check(budget) } -> std::same_as<const char*>;
};
template <class P>
concept has_keeps = requires(const P p, int budget) {
  { p.keeps(budget) } -> std::same_as<protect>;
};

/// worth(): what each state is worth, [n] by slot; the lowest go. Without it the oldest unprotected state goes.
template <class P>
concept scores = requires(const P p, const lane_ref& lane, const rows& r) {
  { p.worth(lane, r) } noexcept -> std::convertible_to<std::span<const float>>;
};
/// observe(): the rows of the tokens just attended, once a cycle, for policies that remember.
template <class P>
concept observes = requires(const P p, const lane_ref& lane, const rows& r) {
  { p.observe(lane, r) } noexcept;
};
/// enter(): key (un-rotated, where whoever runs it has it), value and query in float32 of a token that just entered,
/// before storage; once for each KV head of the lane, in head order.
template <class P>
concept enters = requires(const P p, const lane_ref& lane, slot s, std::span<const float> x) {
  { p.enter(lane, s, x, x, x) } noexcept;
};

/// A policy that takes no budget in its string form: whoever runs it gives it room for all tokens.
template <class P>
concept has_no_budget = requires { requires P::unbounded; };

namespace detail {
// A hook with a typing error in its signature would be a hook that is never called.
template <class P>
concept names_worth = requires { &P::worth; };
template <class P>
concept names_observe = requires { &P::observe; };
template <class P>
concept names_enter = requires { &P::enter; };

template <class P>
concept hooks_fit = (!names_worth<P> || scores<P>)&&(!names_observe<P> || observes<P>)&&(!names_enter<P> || enters<P>);

constexpr bool wants_entries(needs n) noexcept { return any(n & (needs::keys | needs::values | needs::queries)); }

template <class P>
concept uses_what_it_wants =
    (P::columns == 0 || ((observes<P> || enters<P>)&&scores<P>)) &&
    (!any(rows_of(P::wants)) || scores<P> || observes<P>)&&(wants_entries(P::wants) == enters<P>);
}  // namespace detail

template <class P>
concept policy =
    std::is_trivially_copyable_v<P> && has_name<P> && has_wants<P> && has_columns<P> && has_budget<P> && has_scope<P> &&
    has_options<P> && has_check<P> && has_keeps<P> && detail::hooks_fit<P> && detail::uses_what_it_wants<P>;

/// Says which member is missing instead of "constraints not satisfied"; a template for policies calls it first.
template <class P>
consteval bool diagnose_policy() {
  static_assert(std::is_trivially_copyable_v<P>,
                "a policy is a settings value: trivially copyable (docs/write-a-policy.md)");
  static_assert(has_name<P>, "a policy needs: static constexpr std::string_view name (docs/write-a-policy.md)");
  static_assert(has_wants<P>, "a policy needs: static constexpr needs wants, what it reads (docs/write-a-policy.md)");
  static_assert(has_columns<P>,
                "a policy needs: static constexpr int columns, its numbers per slot (docs/write-a-policy.md)");
  static_assert(has_budget<P>, "a policy needs: int budget, in states (docs/write-a-policy.md)");
  static_assert(has_scope<P>, "a policy needs: scope_kind scope (docs/write-a-policy.md)");
  static_assert(
      has_options<P>,
      "a policy needs: static constexpr auto options, a std::tuple of policy_option{\"key\", &P::member}; members are "
      "bool, int, std::uint64_t, float, double or scope_kind (docs/write-a-policy.md)");
  static_assert(
      has_check<P>,
      "a policy needs: const char* check(int budget) const, the broken rule or nullptr (docs/write-a-policy.md)");
  static_assert(has_keeps<P>,
                "a policy needs: protect keeps(int budget) const, what is never dropped (docs/write-a-policy.md)");
  static_assert(!detail::names_worth<P> || scores<P>,
                "worth must be: std::span<const float> worth(const lane_ref&, const rows&) const noexcept "
                "(docs/write-a-policy.md)");
  static_assert(!detail::names_observe<P> || observes<P>,
                "observe must be: void observe(const lane_ref&, const rows&) const noexcept (docs/write-a-policy.md)");
  static_assert(!detail::names_enter<P> || enters<P>,
                "enter must be: void enter(const lane_ref&, slot, std::span<const float> k, v, q) const noexcept "
                "(docs/write-a-policy.md)");
  if constexpr (has_columns<P>) {
    static_assert(P::columns == 0 || observes<P> || enters<P>,
                  "columns are filled by observe() or enter(), and there is neither (docs/write-a-policy.md)");
    static_assert(P::columns == 0 || scores<P>,
                  "columns are what worth() reads, and there is no worth() (docs/write-a-policy.md)");
  }
  if constexpr (has_wants<P>) {
    static_assert(!any(rows_of(P::wants)) || scores<P> || observes<P>,
                  "a policy that wants rows needs worth() or observe() (docs/write-a-policy.md)");
    static_assert(detail::wants_entries(P::wants) == enters<P>,
                  "wants keys, values or queries and enter() go together (docs/write-a-policy.md)");
  }
  return true;
}

}  // namespace multistate
