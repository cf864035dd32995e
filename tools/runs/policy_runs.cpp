#include <tools/runs/policy_runs.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include <multistate/eval/oracle.hpp>
#include <multistate/model/setup_for.hpp>
#include <tools/engine/engine.hpp>
#include <tools/terminal/console.hpp>

namespace multistate::tools {

namespace {

// A run that can't be made says why in the place of its figures.
void skip(policy_run& run, const error& why) {
  run.memories.clear();
  run.seeds.clear();
  run.skipped = why.message();
}

}  // namespace

void run_maker::add(const run_spec& spec) {
  std::vector<std::optional<int>> budgets(s_.budgets.begin(), s_.budgets.end());
  if (spec.budget) budgets.assign(1, spec.budget);
  if (spec.choice && spec.choice->policy.unbounded()) budgets.assign(1, std::nullopt);
  for (const std::optional<int> budget : budgets) switch (spec.kind) {
      case run_kind::policy:
        add_policy(*spec.choice, budget);
        break;
      case run_kind::oracle:
        add_oracle(*budget);
        break;
      case run_kind::short_context:
        add_short_context(*budget);
        break;
    }
}

std::vector<policy_run> run_maker::take() && {
  std::stable_sort(runs_.begin(), runs_.end(), [](const policy_run& a, const policy_run& b) {
    return a.budget.value_or(0) < b.budget.value_or(0);
  });
  return std::move(runs_);
}

// Null when there is such a run already.
policy_run* run_maker::add_run(std::string policy, run_kind kind, std::optional<int> budget) {
  for (const policy_run& run : runs_)
    if (run.policy == policy && run.budget == budget) return nullptr;
  policy_run& run = runs_.emplace_back();
  run.policy = std::move(policy);
  run.kind = kind;
  run.budget = budget;
  return &run;
}

// True when it could be made; else the run is skipped.
bool run_maker::add_memory(policy_run& run, const policy_handle& policy, const memory_setup& setup) {
  auto made = make_memory(s_.format, policy, setup);
  if (made)
    run.memories.push_back(std::move(*made));
  else
    skip(run, made.reason());
  return static_cast<bool>(made);
}

void run_maker::add_policy(const policy_choice& choice, std::optional<int> budget) {
  policy_run* run = add_run(choice.label(), run_kind::policy, budget);
  if (run == nullptr) return;
  const auto policy = choice.policy.with_budget(budget.value_or(s_.window));
  if (!policy) return skip(*run, policy.reason());
  memory_setup setup = s_.setup;
  run->positions = setup.positions = choice.positions;
  if (choice.positions == position_mode::in_cache) setup.angles = angles_for(policy->budget() + setup.room.chunk);
  if (!policy->seed()) {
    add_memory(*run, *policy, setup);
    return;
  }
  run->drawn = !choice.seed_given;
  const std::uint64_t first = choice.seed_given ? *policy->seed() : 0;
  for (std::uint64_t i = 0; i < (choice.seed_given ? 1 : random_seeds); ++i) {
    run->seeds.push_back(first + i);
    if (!add_memory(*run, policy->with_seed(first + i), setup)) return;
  }
}

void run_maker::add_oracle(int budget) {
  policy_run* run = add_run(std::string(name_of(run_kind::oracle)), run_kind::oracle, budget);
  if (run == nullptr) return;
  if (s_.table == nullptr)
    run->skipped = "the oracle's table would be too large";
  else
    add_memory(*run, policy_handle(oracle{.budget = budget, .table = s_.table}), s_.setup);
}

void run_maker::add_short_context(int budget) {
  policy_run* run = add_run(std::string(name_of(run_kind::short_context)), run_kind::short_context, budget);
  if (run == nullptr) return;
  if (s_.bos && budget < 2)
    return skip(*run, error(errc::bad_budget, "short: needs room for BOS and a token; got budget=", budget));
  constexpr int together = 512;  // tokens of one forward
  const int k = std::min(budget, s_.window);
  for (int i = 0; i < std::max(2, together / k); ++i)
    if (!add_memory(*run, policy_handle(full{.budget = k}), s_.setup)) return;
}

// Shared by all runs with in-cache positions; null, and made by each, where it can't be.
std::shared_ptr<const angle_table> run_maker::angles_for(int ranks) {
  if (angles_ != nullptr && angles_->ranks() >= ranks) return angles_;
  if (auto made = angle_table::make(s_.setup.rope, ranks))
    angles_ = std::make_shared<const angle_table>(std::move(*made));
  return angles_;
}

std::vector<policy_run> make_runs(run_maker::settings settings, std::span<const run_spec> items) {
  run_maker maker(std::move(settings));
  maker.add({.kind = run_kind::policy, .choice = policy_choice{.policy = policy_handle(full())}, .budget = {}});
  for (const run_spec& item : items) maker.add(item);
  return std::move(maker).take();
}

void need_forgetting(std::span<const policy_run> runs, const text_sample& sample, int chunk) {
  const int forgettable = detail::most_forgotten(sample, chunk);
  std::string budgets;
  std::optional<int> last;
  for (const policy_run& run : runs) {
    if (!run.budget || run.memories.empty()) continue;
    if (*run.budget < forgettable) return;
    if (run.budget != last) budgets += (budgets.empty() ? "" : ", ") + std::to_string(*run.budget);
    last = run.budget;
  }
  if (!budgets.empty())
    throw usage_error(fmt::format(
        "nothing would be forgotten: the longest window has {} tokens and no budget ({}) is below {}; give smaller "
        "--budgets, or a longer text",
        detail::most_queries(sample), budgets, forgettable));
}

std::vector<policy_run> solo_runs_of(const model_config& config, const solo_request& request, const limits& room) {
  std::vector<run_spec> items = request.items;
  std::erase_if(items, [](const run_spec& item) { return item.kind != run_kind::policy; });
  return make_runs({.setup = setup_for(config, room),
                    .format = request.format,
                    .budgets = request.budgets,
                    .window = request.window,
                    .bos = config.bos >= 0,
                    .table = nullptr},
                   items);
}

}  // namespace multistate::tools
