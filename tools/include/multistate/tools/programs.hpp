#pragma once

// The programs as functions, for a program of one's own that knows more policies:
//
//   int main(int argc, char** argv) { return multistate::compare_main<mine>(argc, argv); }
//
// Link multistate::tools. A policy enters as a table of functions over its decider: no kernel is compiled again for it.

#include <vector>

#include <multistate/decider/any_decider.hpp>

namespace multistate {

namespace tools {

int run_compare(int argc, char** argv, std::vector<policy_entry> own);
int run_generate(int argc, char** argv, std::vector<policy_entry> own);
int run_replay(int argc, char** argv, std::vector<policy_entry> own);
int run_inspect(int argc, char** argv);

template <class... Mine>
std::vector<policy_entry> entries() {
  static_assert((diagnose_policy<Mine>() && ... && true));
  return {entry_of<Mine>()...};
}

}  // namespace tools

/// The program `compare`: policies x budgets on a model and a text. `Mine` are policies beside the library's own; they
/// are among those that are always compared. Exit status: 0 done, 2 bad usage or input, or output that could not be
/// written, 3 interrupted: what is written is a part.
template <class... Mine>
int compare_main(int argc, char** argv) {
  return tools::run_compare(argc, argv, tools::entries<Mine...>());
}

/// The program `generate`: text from a model under a policy, without end. Exit status: 0 done, 2 as above, 3
/// interrupted before all tokens were made.
template <class... Mine>
int generate_main(int argc, char** argv) {
  return tools::run_generate(argc, argv, tools::entries<Mine...>());
}

/// The program `replay`: recorded queries, keys and values through a policy. Exit status: 0 done, 1 something differs
/// from what was expected, 2 as above, 3 interrupted.
template <class... Mine>
int replay_main(int argc, char** argv) {
  return tools::run_replay(argc, argv, tools::entries<Mine...>());
}

/// The program `inspect`: what is in a model, and text to its ids and back. Exit status: 0 done, 2 as above, or a model
/// that is broken or not supported.
inline int inspect_main(int argc, char** argv) { return tools::run_inspect(argc, argv); }

}  // namespace multistate
