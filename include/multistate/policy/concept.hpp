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
#include <multistate/types/state_reader.hpp>

namespace multistate {

/// What a policy may look at, as a value of its settings: which rows it is given, and what it remembers.
struct evidence {
  static constexpr int every_query = max_tokens;

  int last = 0;       ///< the rows of so many of a call's newest queries, one by one
  bool sum = false;   ///< the sum of the rows of all its queries
  double decay = 1;   ///< in that sum each older query's row counts `decay` times less; 0: the newest alone
  bool keys = false;  ///< keys, values or queries of tokens as they enter, through enter()
  bool values = false;
  bool queries = false;
  bool stored_keys = false;    ///< keys or values of all states held, when it decides: lane_ref::key, value
  bool stored_values = false;  ///< as they are stored
  bool query_heads = false;    ///< it looks at no rows, and can still be asked for one query head: lane_ref::query_head
  bool angles = false;         ///< lane_states::angles
  bool order = false;          ///< lane_ref::by_age
  int columns = 0;             ///< numbers that it remembers for each state
  int lane_numbers = 0;        ///< and for each lane
  int work = 0;                ///< floats of scratch in lane_ref::work
  int work_per_state = 0;      ///< and for each state, as many as a lane may hold

  friend constexpr bool operator==(const evidence&, const evidence&) = default;
};

/// The rows that attention delivers for it.
constexpr needs rows_of(const evidence& e) noexcept {
  const needs each = e.last == 0 ? needs::nothing : e.last == 1 && !e.sum ? needs::last_row : needs::each_row;
  return e.sum ? each | needs::row_sum : each;
}
/// Whether it looks at tokens as they enter.
constexpr bool wants_entries(const evidence& e) noexcept { return e.keys || e.values || e.queries; }
/// Whether it reads states when it decides.
constexpr bool wants_states(const evidence& e) noexcept { return e.stored_keys || e.stored_values; }

/// When a lane is asked whether it should be reduced: after a call, and only while it holds more than its budget.
struct moment {
  int n = 0;              ///< states it holds
  int budget = 0;         ///< and keeps
  int tokens = 0;         ///< of this call
  bool one_shot = false;  ///< it is a whole prompt
  phase when = phase::decode;
  position consumed = 0;  ///< tokens read so far, these included
  position prompt = 0;    ///< of them those of the prompt, if any
  int every = 1;          ///< so many more than its budget a lane holds when it is due by the usual rule
};

/// The keys and values of a lane's states, for policies that look at them; with what they have in common.
struct lane_states {
  state_reader reader;
  shape lane;             ///< its query heads and KV heads, of all its layers, and the lengths of their vectors
  rotary_angles angles;   ///< where the policy wants them
  int layer_heads = 1;    ///< KV heads that a layer brings to the lane
  int first_head = 0;     ///< which of the layer's is the first
  std::span<float> room;  ///< [dk + dv] for what is read
  int layer = 0;          ///< which layer is the first
  int heads = 1;          ///< query heads of a layer
  query_statistics queries;

  /// Where a query head of the lane stands among those of all layers.
  constexpr std::size_t query_place(int head) const noexcept {
    const int group = lane.heads / lane.kv_heads, kv = head / group;
    const int place = (layer + kv / layer_heads) * heads + (first_head + kv % layer_heads) * group + head % group;
    return static_cast<std::size_t>(place);
  }
};

/// All that a policy sees of a lane of n states; everything here belongs to the decider.
struct lane_ref {
  std::span<const position> positions;  ///< [n] by slot
  position now = 0;                     ///< the newest token
  position prompt = 0;                  ///< tokens of the prompt, if any
  int tokens = 0;                       ///< of this call
  phase when = phase::decode;
  int layer = 0;  ///< 0 where layers share their lanes
  int lane = 0;
  int budget = 0;                 ///< of this lane
  int query_head = -1;            ///< in worth(): the one of the lane's that it is asked for; -1: all together
  int kv_head = 0;                ///< in enter(): which one of the lane's
  int window = 0;                 ///< the model's own mask, 0: none
  std::span<float> columns;       ///< the policy's memory: evidence::columns numbers for each slot
  std::size_t column_stride = 0;  ///< floats from one column to the next
  std::span<float> numbers;       ///< its memory of the lane: [evidence::lane_numbers], zero in an empty lane
  std::span<float> scratch;       ///< [n], for worth() and pool(), which have different ones
  std::span<const slot> by_age;   ///< [n] slots by increasing position, in worth() and pool(), where it wants `order`
  std::span<float> work;          ///< [work + work_per_state * most states], as wants() says
  const lane_states* states = nullptr;  ///< where it wants stored keys or values, or angles

  /// Memory column i, [n] by slot. Zero when a token enters; moves, undo, fork and save are the decider's work.
  std::span<float> column(int i) const noexcept {
    return columns.subspan(column_stride * static_cast<std::size_t>(i), positions.size());
  }
  /// The key of a state in one of the lane's KV heads, [dk] as it is stored (with its angle unless positions are
  /// in-cache or log), until the next is read. Precondition: wants().stored_keys, and worth() or pool().
  std::span<const float> key(int head, slot s) const noexcept {
    return read(states->reader.key, head, s, states->room.first(static_cast<std::size_t>(states->lane.dk)));
  }
  /// Its value, [dv], until the next is read.
  std::span<const float> value(int head, slot s) const noexcept {
    return read(states->reader.value, head, s, states->room.subspan(static_cast<std::size_t>(states->lane.dk)));
  }

 private:
  std::span<const float> read(state_reader::read* f, int head, slot s, std::span<float> out) const noexcept {
    f(states->reader.from, head / states->layer_heads, states->first_head + head % states->layer_heads, s,
      positions[index(s)], out);
    return out;
  }
};

/// What a setting in a policy's string form can be.
template <class T>
concept setting = std::same_as<T, bool> || std::same_as<T, int> || std::same_as<T, std::uint64_t> ||
                  std::same_as<T, unsigned long long> || std::same_as<T, float> || std::same_as<T, double> ||
                  (std::is_enum_v<T> && sizeof(T) == 1);

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
concept has_wants = requires(const P p) {
  { p.wants() } -> std::same_as<evidence>;
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

/// worth(): what each state is worth, [n] by slot; the lowest go. Without it, and where it returns nothing, the oldest
/// unprotected state goes.
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

/// pool(): looks at the worths [n] by slot once more, when those of several query heads have become one.
template <class P>
concept pools = requires(const P p, const lane_ref& lane, std::span<float> worth) {
  { p.pool(lane, worth) } noexcept;
};
/// due(): whether a lane that holds more than its budget is reduced now. Without it: once it holds limits.every more.
template <class P>
concept has_due = requires(const P p, const moment& m) {
  { p.due(m) } noexcept -> std::same_as<bool>;
};

/// room(): so many states more than its budget a lane may hold before it is due.
template <class P>
concept has_room = requires(const P p) {
  { p.room() } noexcept -> std::same_as<int>;
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
concept names_pool = requires { &P::pool; };
template <class P>
concept names_due = requires { &P::due; };
template <class P>
concept names_room = requires { &P::room; };

template <class P>
concept hooks_fit =
    (!names_worth<P> || scores<P>)&&(!names_observe<P> || observes<P>)&&(!names_enter<P> || enters<P>)&&(
        !names_pool<P> || pools<P>)&&(!names_due<P> || has_due<P>)&&(!names_room<P> || has_room<P>);

/// What it wants with the default settings, or nothing where that is not known to the compiler.
template <class P>
constexpr evidence default_evidence() {
  if constexpr (requires { typename std::integral_constant<int, (static_cast<void>(P{}.wants()), 0)>; })
    return P{}.wants();
  else
    return {};
}
/// Whether the compiler knows what it wants with the default settings.
template <class P>
concept fixed_wants = requires { typename std::integral_constant<int, (static_cast<void>(P{}.wants()), 0)>; };

template <class P>
concept uses_what_it_wants =
    !fixed_wants<P> || ((default_evidence<P>().columns == 0 || ((observes<P> || enters<P>)&&scores<P>)) &&
                        (rows_of(default_evidence<P>()) == needs::nothing || scores<P> ||
                         observes<P>)&&(wants_entries(default_evidence<P>()) == enters<P>));
}  // namespace detail

template <class P>
concept policy =
    std::is_trivially_copyable_v<P> && has_name<P> && has_wants<P> && has_budget<P> && has_scope<P> && has_options<P> &&
    has_check<P> && has_keeps<P> && detail::hooks_fit<P> && detail::uses_what_it_wants<P>;

/// Says which member is missing instead of "constraints not satisfied"; a template for policies calls it first.
template <class P>
consteval bool diagnose_policy() {
  static_assert(std::is_trivially_copyable_v<P>,
                "a policy is a settings value: trivially copyable (docs/write-a-policy.md)");
  static_assert(has_name<P>, "a policy needs: static constexpr std::string_view name (docs/write-a-policy.md)");
  static_assert(has_wants<P>,
                "a policy needs: constexpr evidence wants() const, what it looks at (docs/write-a-policy.md)");
  static_assert(has_budget<P>, "a policy needs: int budget, in states (docs/write-a-policy.md)");
  static_assert(has_scope<P>, "a policy needs: scope_kind scope (docs/write-a-policy.md)");
  static_assert(
      has_options<P>,
      "a policy needs: static constexpr auto options, a std::tuple of policy_option{\"key\", &P::member}; members are "
      "bool, int, std::uint64_t, float, double or an enum of one byte (docs/write-a-policy.md)");
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
  static_assert(!detail::names_pool<P> || pools<P>,
                "pool must be: void pool(const lane_ref&, std::span<float> worth) const noexcept "
                "(docs/write-a-policy.md)");
  static_assert(!detail::names_due<P> || has_due<P>,
                "due must be: bool due(const moment&) const noexcept (docs/write-a-policy.md)");
  static_assert(!detail::names_room<P> || has_room<P>,
                "room must be: int room() const noexcept (docs/write-a-policy.md)");
  if constexpr (has_wants<P>) {
    constexpr evidence wants = detail::default_evidence<P>();
    static_assert(wants.columns == 0 || observes<P> || enters<P>,
                  "columns are filled by observe() or enter(), and there is neither (docs/write-a-policy.md)");
    static_assert(wants.columns == 0 || scores<P>,
                  "columns are what worth() reads, and there is no worth() (docs/write-a-policy.md)");
    static_assert(rows_of(wants) == needs::nothing || scores<P> || observes<P>,
                  "a policy that wants rows needs worth() or observe() (docs/write-a-policy.md)");
    static_assert(!detail::fixed_wants<P> || wants_entries(wants) == enters<P>,
                  "wants keys, values or queries and enter() go together (docs/write-a-policy.md)");
  }
  return true;
}

}  // namespace multistate
