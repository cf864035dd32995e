#include <tools/report/columns.hpp>

#include <algorithm>
#include <array>
#include <cmath>

#include <multistate/eval/lives.hpp>
#include <multistate/util/assert.hpp>

namespace multistate::tools {

namespace {

using json = report_json;
using value = std::optional<json>;

json maybe(const std::optional<double>& x) { return x && std::isfinite(*x) ? json(*x) : json(nullptr); }

/// Null where nothing was measured.
template <class F>
value of_figures(const run_result& result, const F& f) {
  return result.measured ? json(f(*result.measured)) : json(nullptr);
}
/// The value of one figure, of type double or optional<double>.
template <auto Member>
value figure(const run_result& result, const report&) {
  return of_figures(result, [](const figures& f) { return maybe(f.*Member); });
}
/// The value of a whole number.
template <auto Member>
value count(const run_result& result, const report&) {
  return of_figures(result, [](const figures& f) { return json(f.*Member); });
}

json text_or_null(std::string_view text) { return text.empty() ? json(nullptr) : json(text); }

value recall_of(const run_result& result, const report& all) {
  return mean_recall(all.recall, result.policy, result.budget, "sequential");
}
value speed_of(const run_result& result, const report& all) {
  for (const json& timed : list_at(all.time, "rows"))
    if (word_at(timed, "policy") == result.policy && field(timed, "budget") == budget_json(result.budget))
      return field(field(timed, "tokens_per_second"), "median");
  return nullptr;
}
value interval_of(const run_result& result, const report&) {
  return of_figures(result, [](const figures& f) {
    return f.spread ? json::array({maybe(f.spread->low), maybe(f.spread->high)}) : json(nullptr);
  });
}
value positions_of(const run_result& result, const report&) {
  json out = json::array();
  if (result.measured)
    for (const auto& bin : result.measured->by_position)
      out.push_back({{"position", bin.position}, {"count", bin.count}, {"difference", maybe(bin.difference)}});
  return out;
}
value survival_of(const run_result& result, const report&) {
  json out = json::array();
  if (result.measured)
    for (const auto& point : result.measured->survival) out.push_back({{"age", point.age}, {"alive", point.alive}});
  return out;
}
value kinds_of(const run_result& result, const report&) {
  if (!result.measured || !result.measured->life_by_kind) return nullptr;
  json out;
  for (std::size_t i = 0; i < character_kinds.size(); ++i) {
    const kind_life& kind = (*result.measured->life_by_kind)[i];
    out[character_kinds[i]] = {{"life", maybe(kind.life)}, {"share", kind.share}};
  }
  return out;
}
value differences_of(const run_result& result, const report&) {
  return result.measured ? json(result.measured->window_differences) : json::array();
}

value policy_of(const run_result& result, const report&) { return result.policy; }
value budget_of(const run_result& result, const report&) { return budget_json(result.budget); }
value scope_of(const run_result& result, const report&) {
  return result.scope ? json(text_of(*result.scope)) : json(nullptr);
}
value mode_of(const run_result& result, const report&) { return text_of(result.positions); }
value seeds_of(const run_result& result, const report&) {
  return result.seeds.empty() ? std::nullopt : value(result.seeds);
}
value mark_text(const run_result& result, const report& all) {
  return text_or_null(text_of(mark_of(result.budget, multistate::detail::most_queries(*all.sample))));
}
value skipped_of(const run_result& result, const report&) { return text_or_null(result.skipped); }
value letter_of(const run_result& result, const report&) {
  return text_or_null(result.measured ? std::string_view(result.measured->letter) : "");
}

constexpr double percent = 100, kilobytes = 1e-3;
using enum column_kind;

constexpr std::array columns{
    column{"policy", policy, "policy", "", 0, 1, policy_of},
    column{"budget", budget, "k", "", 0, 1, budget_of},
    column{"scope", other, "", "", 0, 1, scope_of},
    column{"position_mode", other, "", "", 0, 1, mode_of},
    column{"nll", number, "NLL", "nats", 4, 1, figure<&figures::nll>},
    column{"nll_minus_full", number, "cost", "nats", 4, 1, figure<&figures::nll_minus_full>},
    column{"perplexity", number, "perplexity", "", 2, 1, figure<&figures::perplexity>},
    column{"bits_per_byte", number, "bits", "per byte", 3, 1, figure<&figures::bits_per_byte>},
    column{"kl_mean", number, "KL mean", "nats", 4, 1, figure<&figures::kl_mean>},
    column{"kl_median", number, "KL median", "nats", 4, 1, figure<&figures::kl_median>},
    column{"kl_p99", number, "KL p99", "nats", 3, 1, figure<&figures::kl_p99>},
    column{"top1_agreement", number, "top-1", "%", 1, percent, figure<&figures::top1_agreement>},
    column{"recall", number, "recall", "%", 1, percent, recall_of},
    column{"tokens_per_second", number, "speed", "tokens/s", 0, 1, speed_of},
    column{"states_attended_mean", number, "states", "mean", 1, 1, figure<&figures::states_attended_mean>},
    column{"states_attended_max", number, "states", "most", 0, 1, count<&figures::states_attended_max>},
    column{"mean_life", number, "life", "steps", 1, 1, figure<&figures::mean_life>},
    column{"bytes_allocated", number, "memory", "kB", 1, kilobytes, count<&figures::bytes_allocated>},
    column{"bytes_live", number, "live", "kB", 1, kilobytes, figure<&figures::bytes_live>},
    column{"seeds", other, "", "", 0, 1, seeds_of},
    column{"mark", other, "", "", 0, 1, mark_text},
    column{"skipped", other, "", "", 0, 1, skipped_of},
    column{"interval", interval, "95 % interval", "", 4, 1, interval_of},
    column{"gap_closed", number, "gap closed", "%", 1, percent, figure<&figures::gap_closed>},
    column{"kept_mass", number, "mass kept", "%", 1, percent, figure<&figures::kept_mass>},
    column{"letter", letters, "alike", "", 0, 1, letter_of},
    column{"nll_by_position", other, "", "", 0, 1, positions_of},
    column{"survival", other, "", "", 0, 1, survival_of},
    column{"life_by_kind", other, "", "", 0, 1, kinds_of},
    column{"window_differences", other, "", "", 0, 1, differences_of},
};

constexpr std::array<std::string_view, 24> in_csv{"policy",
                                                  "budget",
                                                  "nll",
                                                  "nll_minus_full",
                                                  "perplexity",
                                                  "bits_per_byte",
                                                  "interval_low",
                                                  "interval_high",
                                                  "letter",
                                                  "gap_closed",
                                                  "kept_mass",
                                                  "kl_mean",
                                                  "kl_median",
                                                  "kl_p99",
                                                  "top1_agreement",
                                                  "recall",
                                                  "tokens_per_second",
                                                  "states_attended_mean",
                                                  "states_attended_max",
                                                  "mean_life",
                                                  "bytes_allocated",
                                                  "bytes_live",
                                                  "mark",
                                                  "skipped"};
constexpr std::array<std::string_view, 19> in_text{"policy",
                                                   "budget",
                                                   "nll_minus_full",
                                                   "interval",
                                                   "letter",
                                                   "recall",
                                                   "perplexity",
                                                   "bytes_allocated",
                                                   "states_attended_mean",
                                                   "top1_agreement",
                                                   "nll",
                                                   "bits_per_byte",
                                                   "kl_mean",
                                                   "kl_median",
                                                   "kl_p99",
                                                   "gap_closed",
                                                   "kept_mass",
                                                   "mean_life",
                                                   "bytes_live"};
constexpr std::array<std::string_view, 10> in_page{
    "policy",    "budget",     "nll_minus_full",       "interval",       "letter", "recall",
    "kept_mass", "perplexity", "states_attended_mean", "bytes_allocated"};
constexpr std::array<std::string_view, 12> in_more{
    "policy", "budget",         "nll",        "bits_per_byte",       "kl_mean",   "kl_median",
    "kl_p99", "top1_agreement", "gap_closed", "states_attended_max", "mean_life", "bytes_live"};

}  // namespace

std::span<const column> all_columns() noexcept { return columns; }
std::span<const std::string_view> csv_columns() noexcept { return in_csv; }
std::span<const std::string_view> text_columns() noexcept { return in_text; }
std::span<const std::string_view> page_columns() noexcept { return in_page; }
std::span<const std::string_view> more_columns() noexcept { return in_more; }

const column& column_of(std::string_view key) noexcept {
  const auto found = std::find_if(columns.begin(), columns.end(), [&](const column& c) { return c.key == key; });
  MULTISTATE_ASSERT(found != columns.end());
  return *found;
}

std::string cell_text(const column& c, const report_json& entry) {
  switch (c.kind) {
    case budget:
      return field(entry, c.key).is_null() ? "all" : word_at(entry, c.key);
    case number:
      return fixed_number(number_at(entry, c.key), c.digits, c.factor);
    case interval: {
      const std::string low = fixed_number(end_at(entry, c.key, 0), c.digits, c.factor);
      return low.empty() ? "" : low + " to " + fixed_number(end_at(entry, c.key, 1), c.digits, c.factor);
    }
    default:
      return word_at(entry, c.key);
  }
}

std::vector<const column*> filled_columns(std::span<const std::string_view> keys, const report_json& entries) {
  std::vector<const column*> out;
  for (const std::string_view key : keys) {
    const column& c = column_of(key);
    const bool always = c.kind == policy || c.kind == budget || key == "nll_minus_full";
    if (always || std::any_of(entries.begin(), entries.end(),
                              [&](const report_json& entry) { return !cell_text(c, entry).empty(); }))
      out.push_back(&c);
  }
  return out;
}

}  // namespace multistate::tools
