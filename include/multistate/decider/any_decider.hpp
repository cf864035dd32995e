#pragma once

// Policies and deciders whose type is not known: for programs, bindings and libraries that are compiled once and take
// any policy. An engine that knows its policy uses decider<P>.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <multistate/decider/decider.hpp>
#include <multistate/policy/policy_value.hpp>
#include <multistate/policy/registry.hpp>
#include <multistate/policy/then.hpp>

namespace multistate {

/// A decider whose policy is not known to whoever runs it; where only one policy decides, the first of the two is
/// empty. Made by policy_handle::make_decider().
using any_decider = decider<then<policy_value, policy_value>>;

namespace detail {

/// What can be done with settings whose type is not known, beside deciding.
struct settings_functions {
  std::string (*text)(const policy_value&, bool with_budget);
  void (*set_budget)(policy_value&, int states);
  void (*set_scope)(policy_value&, scope_kind scope);
  std::optional<std::uint64_t> (*seed)(const policy_value&);
  void (*set_seed)(policy_value&, std::uint64_t seed);
};

template <policy P>
framed<P>& settings_in(policy_value& v) noexcept {
  return static_cast<asked<framed<P>>*>(v.data())->of;
}
template <policy P>
const framed<P>& settings_in(const policy_value& v) noexcept {
  return static_cast<const asked<framed<P>>*>(v.data())->of;
}

/// Calls f with the member "seed", where settings of P have one.
template <policy P, class Settings, class F>
void with_seed_of(Settings& p, const F& f) {
  std::apply(
      [&](const auto&... o) {
        [[maybe_unused]] const auto one = [&](const auto& option) {
          if constexpr (std::is_same_v<std::remove_cvref_t<decltype(p.*option.member)>, std::uint64_t>)
            if (option.key == "seed") f(p.*option.member);
        };
        (one(o), ...);
      },
      P::options);
}

template <policy P>
inline constexpr settings_functions settings_functions_of = {
    [](const policy_value& v, bool with_budget) {
      const any_policy<registry<P>> alone(static_cast<const P&>(settings_in<P>(v)), settings_in<P>(v).general);
      return with_budget ? alone.str() : alone.str_without_budget();
    },
    [](policy_value& v, int states) { settings_in<P>(v).budget = states; },
    [](policy_value& v, scope_kind scope) { settings_in<P>(v).scope = scope; },
    [](const policy_value& v) {
      std::optional<std::uint64_t> found;
      with_seed_of<P>(settings_in<P>(v), [&](const std::uint64_t& seed) { found = seed; });
      return found;
    },
    [](policy_value& v, std::uint64_t seed) {
      with_seed_of<P>(settings_in<P>(v), [&](std::uint64_t& to) { to = seed; });
    }};

}  // namespace detail

/// A policy with its settings, whatever its type, or two in turn.
class policy_handle {
 public:
  template <policy P>
  explicit policy_handle(const P& settings, const frame& general = {})
      : second_(framed<P>{settings, general}), second_functions_(&detail::settings_functions_of<P>) {}

  /// `prompt` decides while a prompt is read, `decode` afterwards; the budget is that of `prompt`, and so is the scope.
  static result<policy_handle> pair_of(const policy_handle& prompt, const policy_handle& decode) {
    if (prompt.paired() || decode.paired())
      return error(errc::bad_string, "policy: only two can follow each other, prompt/decode");
    policy_handle both = decode;
    both.first_ = prompt.second_;
    both.first_functions_ = prompt.second_functions_;
    both.second_functions_->set_scope(both.second_, prompt.scope());
    if (decode.budget() > 0) return error(errc::bad_string, "policy '", both.str(), "': the budget stands on the left");
    both.second_functions_->set_budget(both.second_, prompt.budget());
    if (both.budget() > 0)
      if (const error e = both.ask().check(both.budget())) return e;
    return both;
  }

  /// Whether a policy of its own decides while a prompt is read.
  bool paired() const noexcept { return !first_.empty(); }
  /// The name of the policy; of the first of two.
  std::string_view name() const noexcept { return ask().name(); }
  /// States a lane; 0: not said.
  int budget() const noexcept { return ask().budget(); }
  scope_kind scope() const noexcept { return ask().scope(); }
  evidence wants() const noexcept { return ask().wants(); }
  bool unbounded() const noexcept { return ask().unbounded(); }
  /// What the string says beside the settings of the policy that decides in a phase.
  frame frame_at(phase when) const noexcept { return ask().frame_at(when); }
  /// Whether it reduces prompts alone, so that memory grows while single tokens follow.
  bool prompts_only() const noexcept {
    const int k = budget() > 0 ? budget() : 1;
    return !unbounded() && !ask().due({.n = max_tokens,
                                       .budget = k,
                                       .tokens = 1,
                                       .consumed = max_tokens,
                                       .every = frame_at(phase::decode).every},
                                      true);
  }
  /// The value of its setting "seed", where it has one.
  std::optional<std::uint64_t> seed() const noexcept { return second_functions_->seed(second_); }
  /// The same settings with another budget, or why that can't be.
  result<policy_handle> with_budget(int states) const {
    policy_handle other = *this;
    other.second_functions_->set_budget(other.second_, states);
    if (paired()) other.first_functions_->set_budget(other.first_, states);
    if (const error e = other.ask().check(states)) return e;
    return other;
  }
  /// The same settings with another seed. Precondition: seed().
  policy_handle with_seed(std::uint64_t seed) const {
    policy_handle other = *this;
    other.second_functions_->set_seed(other.second_, seed);
    return other;
  }
  /// Canonical form: settings that are not the default, in the order of the policy's options.
  std::string str() const { return text(true); }
  std::string str_without_budget() const { return text(false); }
  /// As decider<P>::make().
  result<any_decider> make_decider(const placement& where, const limits& room = {},
                                   std::span<const int> lane_budgets = {}) const {
    return any_decider::make({first_, second_}, where, room, lane_budgets);
  }

 private:
  detail::asked<then<policy_value, policy_value>> ask() const noexcept {
    return then<policy_value, policy_value>{first_, second_};
  }
  std::string text(bool with_budget) const {
    if (!paired()) return second_functions_->text(second_, with_budget);
    return first_functions_->text(first_, with_budget) + "/" + second_functions_->text(second_, false);
  }

  policy_value first_, second_;
  const detail::settings_functions* first_functions_ = nullptr;
  const detail::settings_functions* second_functions_ = nullptr;
};

/// A policy that a program knows by name.
struct policy_entry {
  std::string_view name;
  bool takes_number = false;                              ///< `name+N`
  result<policy_handle> (*parse)(std::string_view text);  ///< `name[+i][:budget][,key=value]...`
};

/// The entry of one policy type.
template <policy P>
policy_entry entry_of() noexcept {
  bool takes_number = false;
  std::apply([&](const auto&... o) { takes_number = ((o.key == "+") || ... || false); }, P::options);
  return {P::name, takes_number, [](std::string_view text) -> result<policy_handle> {
            auto parsed = any_policy<registry<P>>::parse(text);
            if (!parsed) return parsed.reason();
            return parsed->visit([&](const P& p) { return policy_handle(p, parsed->general()); });
          }};
}

/// The entries of a registry, in its order.
template <policy... P>
std::vector<policy_entry> entries_of(registry<P...>) {
  return {entry_of<P>()...};
}

/// One policy of a list by its string, or two: `prompt/decode`. The error names the policy or setting, and what there
/// is.
inline result<policy_handle> parse_policy(std::span<const policy_entry> known, std::string_view text) {
  const auto one = [&](std::string_view part) -> result<policy_handle> {
    const std::string_view name = part.substr(0, part.find_first_of("+:,"));
    std::string names;
    for (const policy_entry& entry : known) {
      if (entry.name == name) return entry.parse(part);
      ((names += names.empty() ? "" : ", ") += entry.name) += entry.takes_number ? "[+N]" : "";
    }
    return error(errc::bad_string, "policy '", text, "': no policy is called '", name,
                 "'; there are: ", std::string_view(names));
  };
  const std::size_t at = text.find('/');
  if (at == text.npos) return one(text);
  auto prompt = one(text.substr(0, at)), decode = one(text.substr(at + 1));
  if (!prompt) return prompt;
  if (!decode) return decode;
  if (text.find(",scope=", at) != text.npos && prompt->scope() != decode->scope())
    return error(errc::bad_string, "policy '", text, "': both sides need the same scope");
  return policy_handle::pair_of(*prompt, *decode);
}

}  // namespace multistate
