#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <multistate/eval/compare.hpp>
#include <multistate/memory/memory.hpp>
#include <multistate/model/model_view.hpp>
#include <tools/terminal/command_line.hpp>

namespace multistate::tools {

inline constexpr std::array<std::string_view, 4> format_names{"f32", "f16", "bf16", "i8"};

/// f(Format()) of the format that has this name; of f32 where none has.
template <class F>
auto with_format(std::string_view name, const F& f) {
  const auto format = parse_weight_format(name);
  return multistate::with_format(format ? *format : weight_format::f32, f);
}

/// Memory of a sequence with states stored in the format of this name.
template <policy P>
result<sequence_memory> make_memory_of(std::string_view format, const P& settings, const memory_setup& setup) {
  return with_format(format, [&]<class Format>(Format) { return make_memory<Format>(settings, setup); });
}

/// Bytes of one token's key and value in one KV head.
inline std::size_t state_bytes_of(std::string_view format, const shape& dims) noexcept {
  return with_format(format, [&]<class Format>(Format) { return multi_state<Format>::state_bytes(dims); });
}

/// Whether an item of --policies is a row that only a comparison can run.
inline bool is_no_policy(std::string_view item) {
  const auto name = split_item(item).first;
  return name == "oracle" || name == "short";
}

/// Builds the rows of a comparison.
template <class Registry>
class run_maker {
  using any = any_policy<Registry>;

 public:
  struct settings {
    memory_setup setup;  ///< as setup_for(model, {.chunk}) makes it
    std::string_view format;
    std::vector<int> budgets;
    int window = 0;  ///< T: room of whoever keeps everything
    bool bos = false;
    oracle_table* table = nullptr;
  };
  static constexpr std::uint64_t random_seeds = 5;

  explicit run_maker(settings s) : s_(std::move(s)) {}

  /// One item of --policies: at every budget, or as it stands; `oracle` and `short` are rows too.
  error add(std::string_view item) {
    const auto [name, budget] = split_item(item);
    if (is_no_policy(item)) {
      for (const int k : budget ? std::vector{*budget} : s_.budgets) name == "oracle" ? add_oracle(k) : add_short(k);
      return {};
    }
    const auto choice = policy_choice<Registry>::parse(item);
    if (!choice) {
      error e = choice.reason();
      if (e.message().find("no policy is called") != std::string_view::npos) e.append("; and oracle, short");
      return e;
    }
    const bool seeded = item.find("seed=") != item.npos;
    if (choice->policy.unbounded())
      add_one(*choice, std::nullopt, seeded);
    else if (choice->policy.budget() > 0)
      add_one(*choice, choice->policy.budget(), seeded);
    else
      for (const int k : s_.budgets) add_one(*choice, k, seeded);
    return {};
  }

  /// Full first, then by budget; rows of one budget in the order they were added.
  std::vector<policy_run> take() && {
    std::stable_sort(rows_.begin(), rows_.end(), [](const policy_run& a, const policy_run& b) {
      return std::pair(a.policy != "full", a.budget.value_or(0)) < std::pair(b.policy != "full", b.budget.value_or(0));
    });
    return std::move(rows_);
  }

 private:
  /// Null when there is such a row already.
  policy_run* add_row(std::string policy, std::optional<int> budget) {
    for (const policy_run& row : rows_)
      if (row.policy == policy && row.budget == budget) return nullptr;
    policy_run& row = rows_.emplace_back();
    row.policy = std::move(policy);
    row.budget = budget;
    return &row;
  }
  /// True when it could be made; else the row is skipped and says why.
  template <policy P>
  bool add_memory(policy_run& row, const P& p, const memory_setup& setup) {
    auto made = make_memory_of(s_.format, p, setup);
    if (made)
      row.memories.push_back(std::move(*made));
    else
      skip(row, made.reason());
    return static_cast<bool>(made);
  }
  static void skip(policy_run& row, const error& why) {
    row.memories.clear();
    row.seeds.clear();
    row.skipped = why.message();
  }

  void add_one(const policy_choice<Registry>& choice, std::optional<int> budget, bool seeded) {
    policy_run* row = add_row(choice.label(), budget);
    if (row == nullptr) return;
    const auto policy = choice.policy.with_budget(budget.value_or(s_.window));
    if (!policy) return skip(*row, policy.reason());
    memory_setup setup = s_.setup;
    setup.positions = choice.positions;
    if (choice.positions == position_mode::in_cache) setup.angles = angles_for(policy->budget() + setup.room.chunk);
    policy->visit([&]<class P>(const P& p) {
      if constexpr (std::is_same_v<P, random_choice>) {
        random_choice drawn = p;
        for (std::uint64_t seed = 0; seed < (seeded ? 1 : random_seeds); ++seed) {
          if (!seeded) drawn.seed = seed;
          row->seeds.push_back(drawn.seed);
          if (!add_memory(*row, drawn, setup)) return;
        }
      } else {
        add_memory(*row, p, setup);
      }
    });
  }
  void add_oracle(int budget) {
    policy_run* row = add_row("oracle", budget);
    if (row == nullptr) return;
    if (s_.table == nullptr)
      row->skipped = "the oracle's table would be too large";
    else
      add_memory(*row, oracle{.budget = budget, .table = s_.table}, s_.setup);
  }
  void add_short(int budget) {
    policy_run* row = add_row("short", budget);
    if (row == nullptr) return;
    row->fresh = true;
    if (s_.bos && budget < 2)
      return skip(*row, error(errc::bad_budget, "short: needs room for BOS and a token; got budget=", budget));
    constexpr int together = 512;  // tokens of one forward
    const int k = std::min(budget, s_.window);
    for (int i = 0; i < std::max(2, together / k); ++i)
      if (!add_memory(*row, full{.budget = k}, s_.setup)) return;
  }
  /// Shared by all rows with in-cache positions; null, and made by each, where it can't be.
  std::shared_ptr<const angle_table> angles_for(int ranks) {
    if (angles_ != nullptr && angles_->ranks() >= ranks) return angles_;
    if (auto made = angle_table::make(s_.setup.rope, ranks))
      angles_ = std::make_shared<const angle_table>(std::move(*made));
    return angles_;
  }

  settings s_;
  std::vector<policy_run> rows_;
  std::shared_ptr<const angle_table> angles_;
};

/// Refuses a comparison in which nothing is forgotten: every row that runs holds the longest window.
inline void need_forgetting(std::span<const policy_run> rows, const text_sample& sample, int chunk) {
  const int forgettable = multistate::detail::most_forgotten(sample, chunk);
  std::string budgets;
  std::optional<int> last;
  for (const policy_run& row : rows) {
    if (!row.budget || row.memories.empty()) continue;
    if (*row.budget < forgettable) return;
    if (row.budget != last) budgets += (budgets.empty() ? "" : ", ") + std::to_string(*row.budget);
    last = row.budget;
  }
  if (!budgets.empty())
    throw usage_error(fmt::format(
        "nothing would be forgotten: the longest window has {} tokens and no budget ({}) is below {}; give smaller "
        "--budgets, or a longer text",
        multistate::detail::most_queries(sample), budgets, forgettable));
}

/// All rows of the items, and Full, which comes first. Errors end the program as usage errors.
template <class Registry>
std::vector<policy_run> make_runs(typename run_maker<Registry>::settings settings,
                                  const std::vector<std::string>& items) {
  run_maker<Registry> maker(std::move(settings));
  for (const std::string& item : items) ok_or_usage(maker.add(item));
  ok_or_usage(maker.add("full"));
  return std::move(maker).take();
}

}  // namespace multistate::tools
