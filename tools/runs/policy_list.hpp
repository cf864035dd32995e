#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <multistate/decider/any_decider.hpp>
#include <multistate/eval/compare.hpp>
#include <multistate/memory/memory_setup.hpp>
#include <multistate/types/error.hpp>

namespace multistate::tools {

/// A policy as a command line names it: `name[+i][:k][,key=value]...[@incache|@log]`.
struct policy_choice {
  policy_handle policy;
  position_mode positions = position_mode::original;
  bool seed_given = false;  ///< `seed=` is among its settings

  /// Canonical, without budget: "window+4@incache".
  std::string label() const;
};

/// One item of --policies, parsed once: a policy, or a run that only a comparison knows.
struct run_spec {
  run_kind kind = run_kind::policy;
  std::optional<policy_choice> choice;  ///< kind policy
  std::optional<int> budget;            ///< where the item says one

  std::string label() const;
};

/// How a position mode stands behind a policy.
constexpr const char* suffix_of(position_mode positions) noexcept {
  return positions == position_mode::in_cache ? "@incache" : positions == position_mode::log ? "@log" : "";
}

/// The policies that a program knows by name: those of its author first, then the library's.
class policy_list {
 public:
  explicit policy_list(std::vector<policy_entry> own = {});

  /// Errors name the policy, the setting or the position mode, and say what there is.
  result<policy_choice> parse_policy(std::string_view text) const;
  /// The same, or `oracle[:k]`, or `short[:k]`.
  result<run_spec> parse_run(std::string_view text) const;
  /// All names, each with its optional number: "full, window[+N], ...".
  std::string names() const;

 private:
  /// Null: no policy has the name.
  const policy_entry* find(std::string_view name) const noexcept;
  std::vector<policy_entry> entries_;
};

}  // namespace multistate::tools
