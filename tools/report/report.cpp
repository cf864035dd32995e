#include <tools/report/report.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include <multistate/io/file.hpp>
#include <multistate/io/printable.hpp>
#include <multistate/version.hpp>
#include <tools/report/columns.hpp>
#include <tools/report/trace.hpp>

#if !defined(MULTISTATE_COMMIT)
#define MULTISTATE_COMMIT ""  // the build may say which commit it is
#endif

namespace multistate::tools {

namespace {

using json = report_json;

json pairs_json(const report& r) {
  json out = json::array();
  for (const row_pair& p : r.statistics.pairs)
    out.push_back({{"budget", p.budget},
                   {"a", r.results[p.a].policy},
                   {"b", r.results[p.b].policy},
                   {"difference", p.difference},
                   {"interval", p.spread ? json::array({p.spread->low, p.spread->high}) : json(nullptr)},
                   {"p", p.p ? json(*p.p) : json(nullptr)},
                   {"p_holm", p.p_holm ? json(*p.p_holm) : json(nullptr)}});
  return out;
}

/// When each state of the first window was dropped: [layer][lane][position] of the traced results.
json trace_json(const report& r) {
  const text_sample& s = *r.sample;
  const text_window& w = s.windows()[0];
  json traced = json::array();
  for (const run_result& result : r.results) {
    if (!result.measured || result.measured->deaths.empty()) continue;
    json layers = json::array();
    auto at = result.measured->deaths.begin();
    for (const int count : result.lanes) {
      json lanes = json::array();
      for (int lane = 0; lane < count; ++lane, at += w.queries) lanes.push_back(std::vector<int>(at, at + w.queries));
      layers.push_back(std::move(lanes));
    }
    traced.push_back({{"policy", result.policy}, {"budget", *result.budget}, {"layers", std::move(layers)}});
  }
  return {{"window", 0}, {"tokens", s.inputs(w)}, {"first_token", w.first}, {"rows", std::move(traced)}};
}

json result_json(const run_result& result, const report& r) {
  json out;
  for (const column& c : all_columns())
    if (auto value = c.get(result, r)) out[std::string(c.key)] = std::move(*value);
  return out;
}

/// The kept states of another build beside these.
json against_json(const report& r, const json& ours) {
  if (r.other.is_null()) return nullptr;
  return {{"path", r.other_path},
          {"simd_target", word_at(r.other, "simd_target")},
          {"format", word_at(r.other, "format")},
          {"version", word_at(r.other, "version")},
          {"rows", alike_in_both(ours, r.other)}};
}

/// A cell of the CSV, quoted where it has to be.
std::string csv_cell(std::string text) {
  if (text.find_first_of(",\"\n") == text.npos) return text;
  for (std::size_t at = 0; (at = text.find('"', at)) != text.npos; at += 2) text.insert(at, 1, '"');
  return '"' + text + '"';
}

}  // namespace

std::string_view built_from() noexcept { return MULTISTATE_COMMIT; }

json budget_json(std::optional<int> budget) { return budget ? json(*budget) : json(nullptr); }

json mean_recall(const json& recall, std::string_view policy, std::optional<int> budget, std::string_view mode) {
  double sum = 0;
  int cells = 0;
  for (const json& cell : list_at(recall, "cells")) {
    if (field(cell, "facts") != 1 || word_at(cell, "variant") != "last" || word_at(cell, "mode") != mode ||
        is_true(cell, "not_applicable") || word_at(cell, "policy") != policy ||
        field(cell, "budget") != budget_json(budget))
      continue;
    sum += number_at(cell, "share");
    ++cells;
  }
  return cells > 0 ? json(sum / cells) : json(nullptr);
}

std::vector<std::string> sample_notes(const report& r) {
  std::vector<std::string> out;
  if (!r.statistics.over_texts)
    out.push_back("intervals and ranks speak of " +
                  std::string(r.texts.size() == 1 ? "this text only" : "these texts only (fewer than five)"));
  if (r.outcome.windows < ranking::least_windows)
    out.push_back(fmt::format("fewer than {} windows: no ranking", ranking::least_windows));
  const std::size_t blocks = r.statistics.blocks;
  if (blocks < block_bootstrap::least_blocks)
    out.push_back(fmt::format("no 95 % intervals: they need {} blocks of windows to draw from, here {} {}",
                              block_bootstrap::least_blocks, blocks == 1 ? "is" : "are", blocks));
  else if (constexpr std::size_t good = 10; blocks < good)
    out.push_back(fmt::format("95 % intervals from {} blocks of windows are rough, rather too narrow", blocks));
  const text_sample& sample = *r.sample;
  std::string all_kept;
  std::optional<int> last;
  for (const run_result& result : r.results) {
    if (result.budget && result.budget != last && *result.budget >= multistate::detail::most_forgotten(sample, r.chunk))
      all_kept += (all_kept.empty() ? "" : ", ") + std::to_string(*result.budget);
    last = result.budget;
  }
  if (!all_kept.empty())
    out.push_back(fmt::format("k = {}: nothing was forgotten, the longest window has {} tokens", all_kept,
                              multistate::detail::most_queries(sample)));
  constexpr std::int64_t few = 256;
  if (const std::int64_t scored = sample.scored(r.outcome.windows); scored < few)
    out.push_back(fmt::format("a text this short says next to nothing about policies: {} tokens are scored", scored));
  return out;
}

std::string bos_rule(const report& r) {
  if (r.bos < 0) return "no BOS: " + (r.bos_reason.empty() ? "the model has none" : r.bos_reason);
  std::string rule = "BOS (token " + std::to_string(r.bos) + ") opens every window";
  if (!r.bos_reason.empty()) rule += " (" + r.bos_reason + ")";
  std::string first;
  std::size_t having = 0, inside = 0;
  for (const auto& t : r.texts) {
    inside += t.bos_inside;
    if (t.bos_first == 0) continue;
    first += (having++ == 0 ? "" : ", ") + multistate::detail::printable(t.path);
  }
  if (having > 0)
    rule += having == r.texts.size() ? "; the ids begin with it, and it is read once"
                                     : "; it is read once where the ids begin with it (" + first + ")";
  if (inside > 0) rule += "; " + std::to_string(inside) + " inside the texts, which are no targets";
  return rule;
}

json to_json(const report& r) {
  const text_sample& s = *r.sample;
  json out;
  out["program"] = "multistate compare";
  out["version"] = MULTISTATE_VERSION;
  out["commit"] = built_from().empty() ? json(nullptr) : json(built_from());
  out["command_line"] = r.command_line;
  out["model"] = {{"path", r.model},
                  {"hash", hash_text(r.model_hash)},
                  {"trained_context", r.trained_context > 0 ? json(r.trained_context) : json(nullptr)},
                  {"bytes_per_token", r.full_bytes_per_token}};
  out["texts"] = json::array();
  for (const auto& t : r.texts)
    out["texts"].push_back({{"path", t.path},
                            {"hash", hash_text(t.hash)},
                            {"tokens", t.tokens},
                            {"tokens_used", t.used},
                            {"bos_first", t.bos_first},
                            {"bos_inside", t.bos_inside}});
  out["bos"] = r.bos >= 0 ? json(r.bos) : json(nullptr);
  out["bos_rule"] = bos_rule(r);
  out["window"] = s.window();
  out["stride"] = s.stride();
  out["score"] = s.rule() == scoring::all ? "all" : "tail";
  out["scored_tokens"] = s.scored(r.outcome.windows);
  out["scored_bytes"] = s.bytes(r.outcome.windows) > 0 ? json(s.bytes(r.outcome.windows)) : json(nullptr);
  out["chunk"] = r.chunk;
  out["format"] = r.format;
  out["products"] = r.products;
  out["simd_target"] = r.simd_target;
  out["threads"] = r.threads;
  out["extrapolation"] = r.extrapolation;
  out["interrupted"] = r.interrupted;
  out["notes"] = r.notes;
  out["windows"] = json::array();
  for (const text_window& w : s.windows().first(r.outcome.windows))
    out["windows"].push_back({{"text", w.text},
                              {"first_token", w.first},
                              {"queries", w.queries},
                              {"scored_from", w.scored_from},
                              {"scored", w.scored()}});
  out["rows"] = json::array();
  for (const run_result& result : r.results) out["rows"].push_back(result_json(result, r));
  out["bootstrap"] = {{"resamples", r.statistics.how.resamples},
                      {"seed", r.statistics.how.seed},
                      {"block_windows", r.statistics.block_windows},
                      {"over", r.statistics.over_texts ? "texts and blocks" : "blocks"},
                      {"this_text_only", !r.statistics.over_texts}};
  out["pairs"] = pairs_json(r);
  out["trace"] = trace_json(r);
  out["recall"] = r.recall;
  out["prompt_modes"] = r.prompt_modes;
  for (json& entry : out["prompt_modes"])
    if (!r.recall.is_null()) {
      const json& budget = entry["budget"];
      entry["recall"] = mean_recall(r.recall, entry["policy"].get<std::string>(),
                                    budget.is_null() ? std::nullopt : std::optional(budget.get<int>()),
                                    entry["mode"].get<std::string>());
    }
  out["free_run"] = r.free_run;
  out["agreement"] = r.agreement;
  out["time"] = r.time;
  out["against"] = against_json(r, out);
  return out;
}

std::string to_csv(const json& report) {
  std::string out;
  for (const std::string_view key : csv_columns()) (out += out.empty() ? "" : ",") += key;
  out += "\n";
  for (const json& entry : list_at(report, "rows")) {
    std::string line;
    for (const std::string_view key : csv_columns()) {
      const bool low = key == "interval_low", high = key == "interval_high";
      const json& ends = list_at(entry, "interval");
      std::string text = !low && !high ? word_at(entry, key) : ends.size() == 2 ? text_of(ends[low ? 0 : 1]) : "";
      if (key != csv_columns()[0]) line += ",";
      line += csv_cell(std::move(text));
    }
    out += line + "\n";
  }
  return out;
}

}  // namespace multistate::tools
