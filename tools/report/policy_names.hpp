#pragma once

#include <string_view>

/// What the names of policies stand for, for every writer: one table of those that this program brings.
namespace multistate::tools {

/// What an entry of a comparison is there for.
enum class entry_role : unsigned char {
  policy,         ///< one of those compared
  full,           ///< keeps everything: what the others are compared with
  random,         ///< the baseline
  oracle,         ///< knows the attention to come
  short_context,  ///< no memory: each query on the newest tokens
};

/// A name without sinks, settings and position mode: "window" of "window+4@incache".
std::string_view base_name(std::string_view policy) noexcept;

entry_role role_of(std::string_view policy) noexcept;

/// Whether an entry stands beside the policies and shows what there is to gain and to lose.
inline bool is_reference(std::string_view policy) noexcept { return role_of(policy) != entry_role::policy; }

/// What one kind of policy does, for a reader who has not heard of it.
struct policy_words {
  std::string_view base;   ///< its name
  bool sinks;              ///< the form with +N
  std::string_view does;   ///< "Keeps the newest k states."
  std::string_view paper;  ///< its title; empty: none
  std::string_view arxiv;  ///< number of the paper; empty: none
};

/// Null for a policy that this program does not bring.
const policy_words* words_of(std::string_view policy) noexcept;

/// Colour and mark (see plot_styles) of a policy, in every figure of every report: its name alone decides. Names that
/// this program does not bring are spread over the styles that are free, and may fall together.
int style_of(std::string_view policy) noexcept;

}  // namespace multistate::tools
