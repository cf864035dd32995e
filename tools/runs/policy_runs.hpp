#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <multistate/eval/compare.hpp>
#include <multistate/memory/memory_setup.hpp>
#include <multistate/model/model_view.hpp>
#include <multistate/model/product_mode.hpp>
#include <multistate/rope/angle_table.hpp>
#include <tools/runs/policy_list.hpp>

namespace multistate::tools {

/// How many seeds a policy that draws at random is run with, where its text says none.
inline constexpr std::uint64_t random_seeds = 5;

/// Makes the runs of a comparison: the memories that each item of --policies needs.
class run_maker {
 public:
  struct settings {
    memory_setup setup;  ///< as setup_for(model, {.chunk}) makes it
    weight_format format = weight_format::f32;
    std::vector<int> budgets;  ///< of items that say none
    int window = 0;            ///< T: room of whoever keeps everything
    bool bos = false;
    oracle_table* table = nullptr;
  };

  explicit run_maker(settings s) : s_(std::move(s)) {}

  /// One item of --policies: at every budget, or as it stands.
  void add(const run_spec& spec);
  /// Full first, then by budget; runs of one budget in the order they were added.
  std::vector<policy_run> take() &&;

 private:
  policy_run* add_run(std::string policy, run_kind kind, std::optional<int> budget);
  bool add_memory(policy_run& run, const policy_handle& policy, const memory_setup& setup);
  void add_policy(const policy_choice& choice, std::optional<int> budget);
  void add_oracle(int budget);
  void add_short_context(int budget);
  std::shared_ptr<const angle_table> angles_for(int ranks);

  settings s_;
  std::vector<policy_run> runs_;
  std::shared_ptr<const angle_table> angles_;
};

/// All runs of the items, and Full, which comes first.
std::vector<policy_run> make_runs(run_maker::settings settings, std::span<const run_spec> items);

/// Refuses a comparison in which nothing is forgotten: every run that is made holds the longest window.
void need_forgetting(std::span<const policy_run> runs, const text_sample& sample, int chunk);

/// Runs that are asked alone, not side by side with the others.
struct solo_request {
  std::vector<run_spec> items;  ///< oracle and short are left out
  std::vector<int> budgets;
  weight_format format = weight_format::f32;
  int window = 0;  ///< most tokens of a sequence
  product_mode products = product_mode::exact;
};

std::vector<policy_run> solo_runs_of(const model_config& config, const solo_request& request, const limits& room);

}  // namespace multistate::tools
