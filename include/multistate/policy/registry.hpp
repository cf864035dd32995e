#pragma once

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <multistate/policy/a2sf.hpp>
#include <multistate/policy/asked.hpp>
#include <multistate/policy/expected.hpp>
#include <multistate/policy/full.hpp>
#include <multistate/policy/h2o.hpp>
#include <multistate/policy/keydiff.hpp>
#include <multistate/policy/knorm.hpp>
#include <multistate/policy/lagkv.hpp>
#include <multistate/policy/observed.hpp>
#include <multistate/policy/random.hpp>
#include <multistate/policy/rkv.hpp>
#include <multistate/policy/settings.hpp>
#include <multistate/policy/snapkv.hpp>
#include <multistate/policy/tova.hpp>
#include <multistate/policy/window.hpp>

namespace multistate {

/// The policies that a program knows by name. A researcher's own joins by registry<mine, full, window, ...>.
template <policy... P>
struct registry {};

using standard_policies =
    registry<full, window, h2o, tova, a2sf, random_choice, knorm, keydiff, snapkv, observed, lagkv, expected, rkv>;

/// One policy of a registry with its settings: `name[+i][:budget][,key=value]...`. Hands out the concrete type, so that
/// everything from there on is static.
template <class Registry>
class any_policy;

template <policy... P>
class any_policy<registry<P...>> {
 public:
  template <class Q>
    requires(std::same_as<Q, P> || ...)
  any_policy(const Q& settings, const frame& general = {}) noexcept  // NOLINT(google-explicit-constructor)
      : settings_(settings), general_(general) {}

  /// Without `:budget` the budget is 0 and settings are checked when one is given (with_budget).
  static result<any_policy> parse(std::string_view text) {
    const std::string_view whole = text;
    const std::string_view head = cut(text, ',');
    std::string_view name = head;
    name = cut(name, ':');
    name = cut(name, '+');
    result<any_policy> found =
        error(errc::bad_string, "policy '", whole, "': no policy is called '", name, "'; there are: ", names());
    const auto try_policy = [&]<class Q>(std::type_identity<Q>) {
      if (Q::name != name) return false;
      found = parse_as<Q>(whole, head, text);
      return true;
    };
    static_cast<void>((try_policy(std::type_identity<P>()) || ...));
    return found;
  }

  /// All names, each with its optional suffix.
  static std::string names() {
    std::string list;
    ((list += list.empty() ? "" : ", ", list += P::name, list += has_suffix<P>() ? "[+N]" : ""), ...);
    return list;
  }

  std::string_view name() const noexcept {
    return visit([]<class Q>(const Q&) { return std::string_view(Q::name); });
  }
  int budget() const noexcept {
    return visit([](const auto& p) { return p.budget; });
  }
  scope_kind scope() const noexcept {
    return visit([](const auto& p) { return p.scope; });
  }
  evidence wants() const noexcept {
    return visit([](const auto& p) { return p.wants(); });
  }
  /// What its string says beside the policy's own settings.
  const frame& general() const noexcept { return general_; }
  bool unbounded() const noexcept {
    return visit([]<class Q>(const Q&) { return has_no_budget<Q>; });
  }
  /// The same settings with another budget, or why that can't be.
  result<any_policy> with_budget(int states) const {
    return visit([&](auto p) -> result<any_policy> {
      p.budget = states;
      if (const error e = check(p, general_)) return e;
      return any_policy(p, general_);
    });
  }
  /// Canonical form: settings that are not the default, in the order of the policy's options.
  std::string str() const { return print(true); }
  std::string str_without_budget() const { return print(false); }

  template <class F>
  decltype(auto) visit(F&& f) const {
    return std::visit(std::forward<F>(f), settings_);
  }

 private:
  /// The part before the separator; text becomes what follows it.
  static std::string_view cut(std::string_view& text, char separator) {
    const std::size_t at = text.find(separator);
    const std::string_view part = text.substr(0, at);
    text.remove_prefix(at == text.npos ? text.size() : at + 1);
    return part;
  }

  static constexpr std::string_view suffix = "+";

  template <class Q, class F>
  static void each_option(F&& f) {
    std::apply([&](const auto&... o) { (f(o), ...); }, Q::options);
  }
  template <class Q>
  static constexpr bool has_suffix() {
    return std::apply([](const auto&... o) { return ((o.key == suffix) || ... || false); }, Q::options);
  }

  template <class T>
    requires std::is_enum_v<T>
  static bool read(std::string_view text, T& to) {
    const auto names = names_of(T{});
    const auto at = std::find(names.begin(), names.end(), text);
    if (at != names.end()) to = static_cast<T>(at - names.begin());
    return at != names.end();
  }
  static bool read(std::string_view text, bool& to) {
    to = text == "true";
    return text == "true" || text == "false";
  }
  template <std::integral T>
  static bool read(std::string_view text, T& to) {
    T value{};
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code != std::errc() || end != text.data() + text.size() || text.starts_with('-')) return false;
    if (std::is_same_v<T, int> && std::cmp_greater(value, max_tokens)) return false;
    to = value;
    return true;
  }
  template <std::floating_point T>
  static bool read(std::string_view text, T& to) {
    T value{};
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code != std::errc() || end != text.data() + text.size() || !is_finite(value)) return false;
    to = value;
    return true;
  }
  template <class T>
  static std::string expected_value() {
    if constexpr (std::is_enum_v<T>) {
      std::string list;
      const auto names = names_of(T{});
      for (std::size_t i = 0; i < names.size(); ++i)
        (list += i == 0 ? "" : i + 1 == names.size() ? " or " : ", ") += names[i];
      return list;
    } else if constexpr (std::is_same_v<T, bool>)
      return "true or false";
    else if constexpr (std::is_same_v<T, int>)
      return "a whole number from 0 to 2^28";
    else if constexpr (std::floating_point<T>)
      return "a finite number such as 0.5 or 1e-3";
    else
      return "a whole number from 0 to 2^64 - 1";
  }

  template <class Q>
  static std::string keys() {
    std::string list;
    std::vector<std::string_view> seen;  // a key of the policy's own goes before one that all have
    const auto add = [&](const auto& o) {
      if (o.key != suffix && std::find(seen.begin(), seen.end(), o.key) == seen.end()) {
        (list += list.empty() ? "" : ", ") += o.key;
        seen.push_back(o.key);
      }
    };
    each_option<Q>(add);
    if (scores<Q>) each_option<frame>(add);
    return list.empty() ? "none" : list;
  }

  /// Whether the budget, settings and frame fit each other.
  template <class Q>
  static error check(const Q& p, const frame& general) {
    return detail::asked<framed<Q>>{{p, general}}.check(p.budget);
  }

  /// head: `name[+i][:budget]`, rest: `key=value,...`.
  template <class Q>
  static result<any_policy> parse_as(std::string_view whole, std::string_view head, std::string_view rest) {
    const auto wrong = [&](const auto&... parts) {
      return error(errc::bad_string, "policy '", whole, "': ", parts...);
    };
    Q p;
    frame general;
    error bad;
    const auto assign = [&](std::string_view key, std::string_view text) {
      bool known = false;
      const auto give = [&](auto& settings, const auto& o) {
        if (o.key != key || known) return;
        known = true;
        using value = std::remove_cvref_t<decltype(settings.*o.member)>;
        if (!read(text, settings.*o.member))
          bad = wrong(key, key == suffix ? "" : "=", text, ": '", text, "' is not ",
                      std::string_view(expected_value<value>()));
      };
      each_option<Q>([&](const auto& o) { give(p, o); });
      if (scores<Q>) each_option<frame>([&](const auto& o) { give(general, o); });
      return known;
    };

    const bool has_budget = head.find(':') != head.npos;
    std::string_view name = cut(head, ':');
    if (has_budget) {
      if (has_no_budget<Q>) return wrong(Q::name, " takes no budget: it keeps everything");
      if (!read(head, p.budget) || p.budget < 1)
        return wrong("'", head, "' is not a budget: a whole number from 1 to 2^28");
    }
    if (name.find('+') != name.npos) {
      cut(name, '+');
      if (!assign(suffix, name)) return wrong(Q::name, " takes no '+", name, "'");
    }
    std::vector<std::string_view> seen;
    for (bool more = whole.find(',') != whole.npos; more && !bad;) {
      more = rest.find(',') != rest.npos;
      std::string_view text = cut(rest, ',');
      const bool assigned = text.find('=') != text.npos;
      const std::string_view key = cut(text, '=');
      if (!assigned) return wrong("'", key, "' should be key=value; keys of ", Q::name, ": ", keys<Q>());
      if (std::find(seen.begin(), seen.end(), key) != seen.end()) return wrong("'", key, "' is given twice");
      seen.push_back(key);
      if (key == suffix || !assign(key, text)) return wrong(Q::name, " has no '", key, "'; there are: ", keys<Q>());
    }
    if (bad) return bad;
    if (p.budget > 0)
      if (const error e = check(p, general)) return wrong(e.message());
    return any_policy(p, general);
  }

  template <class T>
  static std::string value_text(const T& value) {
    error text;  // writes numbers the same in every locale
    detail::append_value(text, value);
    return std::string(text.message());
  }
  std::string print(bool with_budget) const {
    return visit([&]<class Q>(const Q& p) {
      std::string text(Q::name), settings;
      const auto print = [&](const auto& from, const auto& usual, const auto& o) {
        if (detail::setting_bits(from.*o.member) == detail::setting_bits(usual.*o.member)) return;
        const std::string value = value_text(from.*o.member);
        if (o.key == suffix)
          text.append(suffix).append(value);
        else
          settings.append(",").append(o.key).append("=").append(value);
      };
      each_option<Q>([&](const auto& o) { print(p, Q{}, o); });
      each_option<frame>([&](const auto& o) { print(general_, frame{}, o); });
      if (with_budget && p.budget > 0 && !has_no_budget<Q>) text += ':' + std::to_string(p.budget);
      return text + settings;
    });
  }

  std::variant<P...> settings_;
  frame general_;
};

/// Cuts a list of policies at its commas: an item with '=' belongs to the one before. Two commas, or one at an end,
/// have an empty item between them, which is no policy.
inline std::vector<std::string> split_policies(std::string_view list) {
  std::vector<std::string> out;
  for (bool more = !list.empty(); more;) {
    const std::size_t at = list.find(',');
    more = at != list.npos;
    const std::string_view item = list.substr(0, at);
    list.remove_prefix(at == list.npos ? list.size() : at + 1);
    if (!out.empty() && item.find('=') != item.npos)
      (out.back() += ',') += item;
    else
      out.emplace_back(item);
  }
  return out;
}

}  // namespace multistate
