#pragma once

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <array>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include <multistate/eval/compare.hpp>
#include <multistate/eval/ranking.hpp>
#include <multistate/io/file.hpp>
#include <tools/terminal/command_line.hpp>
#include <tools/report/report_reading.hpp>
#include <multistate/version.hpp>

#if !defined(MULTISTATE_COMMIT)
#define MULTISTATE_COMMIT ""  // the build may say which commit it is
#endif

namespace multistate::tools {

/// What every output of a comparison carries.
struct report {
  struct text {
    std::string path;
    std::uint64_t hash = 0;
    std::size_t tokens = 0;  ///< of the whole text
    std::size_t used = 0;
    std::size_t bos_first = 0;   ///< BOS that its file begins with, for which that of the window stands
    std::size_t bos_inside = 0;  ///< of the tokens used
  };
  std::vector<std::string> command_line;
  std::string model;
  std::uint64_t model_hash = 0;
  int trained_context = 0;
  std::vector<text> texts;
  int bos = -1;
  std::string format;
  int chunk = 1;
  int threads = 1;
  std::string simd_target;
  bool extrapolation = false;
  double full_bytes_per_token = 0;
  std::vector<std::string> notes;
  const text_sample* sample = nullptr;
  std::vector<policy_run> rows;
  comparison outcome;
  bool interrupted = false;  ///< in whatever it did
  ranking statistics;
};

/// A budget as JSON says it: null keeps everything.
inline nlohmann::ordered_json budget_json(const policy_run& row) {
  return row.budget ? nlohmann::ordered_json(*row.budget) : nlohmann::ordered_json(nullptr);
}

/// "k > T/4": little was forgotten there; "k >= T/2": next to nothing. T is the longest window that there is.
inline std::string_view mark_of(const policy_run& row, int longest) noexcept {
  if (!row.budget) return {};
  return 2.0 * *row.budget >= longest ? "k >= T/2" : 4.0 * *row.budget > longest ? "k > T/4" : "";
}

/// What has to be known about numbers from so much text.
inline std::vector<std::string> sample_notes(const report& r, const text_sample& sample, int chunk) {
  std::vector<std::string> out;
  const std::size_t blocks = r.statistics.blocks;
  if (blocks < block_bootstrap::least_blocks)
    out.push_back(fmt::format("no 95 % intervals: they need {} blocks of windows to draw from, here {} {}",
                              block_bootstrap::least_blocks, blocks == 1 ? "is" : "are", blocks));
  else if (constexpr std::size_t good = 10; blocks < good)
    out.push_back(fmt::format("95 % intervals from {} blocks of windows are rough, rather too narrow", blocks));
  const int longest = detail::most_queries(sample);
  std::string all_kept;
  std::optional<int> last;
  for (const policy_run& row : r.rows) {
    if (row.budget && row.budget != last && *row.budget >= detail::most_forgotten(sample, chunk))
      all_kept += (all_kept.empty() ? "" : ", ") + std::to_string(*row.budget);
    last = row.budget;
  }
  if (!all_kept.empty())
    out.push_back(fmt::format("k = {}: nothing was forgotten, the longest window has {} tokens", all_kept, longest));
  constexpr std::int64_t few = 256;
  if (const std::int64_t scored = sample.scored(r.outcome.windows); scored < few)
    out.push_back(fmt::format("a text this short says next to nothing about policies: {} tokens are scored", scored));
  return out;
}

/// What opens the windows, and what was done with the BOS that texts have themselves.
inline std::string bos_rule(const report& r) {
  if (r.bos < 0) return "no BOS: the model has none";
  std::string rule = "BOS (token " + std::to_string(r.bos) + ") opens every window";
  std::string first;
  std::size_t having = 0, inside = 0;
  for (const auto& t : r.texts) {
    inside += t.bos_inside;
    if (t.bos_first == 0) continue;
    first += (having++ == 0 ? "" : ", ") + detail::printable(t.path);
  }
  if (having > 0)
    rule += having == r.texts.size() ? "; the ids begin with it, and it is read once"
                                     : "; it is read once where the ids begin with it (" + first + ")";
  if (inside > 0) rule += "; " + std::to_string(inside) + " inside the texts, which are no targets";
  return rule;
}

inline std::string header_text(const report& r) {
  const text_sample& s = *r.sample;
  const auto windows = s.windows().first(r.outcome.windows);
  std::string out;
  if (r.extrapolation)
    out += fmt::format("EXTRAPOLATION: windows of {} tokens, the model was trained on {}; Full is no oracle here\n\n",
                       s.window(), r.trained_context);
  out += "multistate " MULTISTATE_VERSION + std::string(*MULTISTATE_COMMIT != 0 ? " (" MULTISTATE_COMMIT ")" : "") +
         "   " + command_text(r.command_line) + "\n";
  out += fmt::format("model    {}   {}   trained context {}\n", detail::printable(r.model), hash_text(r.model_hash),
                     r.trained_context > 0 ? std::to_string(r.trained_context) : "unknown");
  for (const auto& t : r.texts)
    out += fmt::format("text     {}   {}   {} of {} tokens\n", detail::printable(t.path), hash_text(t.hash), t.used,
                       t.tokens);
  out += fmt::format("windows  {} of {} done, T = {}, stride {}; {}\n", windows.size(), s.windows().size(), s.window(),
                     s.stride(), bos_rule(r));
  std::string from = "every query";
  if (s.rule() == scoring::tail && !windows.empty()) {
    from = "queries from " + std::to_string(windows[0].scored_from) + " on";
    for (const text_window& w : windows)
      if (w.scored_from != windows[0].scored_from) from = "queries of each window's second half";
  }
  out += fmt::format("scored   {} tokens, {} bytes: {}\n", s.scored(windows.size()), s.bytes(windows.size()), from);
  out += fmt::format("states   {}, {}; Full: {:.0f} bytes a token\n", r.format,
                     r.chunk == 1 ? "one token a step" : fmt::format("chunks of {}", r.chunk), r.full_bytes_per_token);
  out += fmt::format("machine  SIMD {}, {} thread{}\n", r.simd_target, r.threads, r.threads == 1 ? "" : "s");
  if (r.statistics.blocks < block_bootstrap::least_blocks)
    out += "95 %     no intervals: too few windows\n";
  else
    out += fmt::format("95 %     block bootstrap: {} resamples of {} of {} neighbouring window{}, seed {}{}\n",
                       r.statistics.how.resamples, r.statistics.over_texts ? "texts, then blocks" : "blocks",
                       r.statistics.block_windows, r.statistics.block_windows == 1 ? "" : "s", r.statistics.how.seed,
                       r.statistics.over_texts ? ""
                       : r.texts.size() == 1   ? "; this text only"
                                               : "; these texts only");
  for (const policy_run& row : r.rows)
    if (row.seeds.size() > 1) {
      out += fmt::format("random   mean over seeds {} to {}\n", row.seeds.front(), row.seeds.back());
      break;
    }
  return out;
}

/// Aligned; `colour`: rows with k >= T/2 are greyed.
inline std::string table_text(const report& r, bool colour) {
  std::size_t wide = 6;
  for (const policy_run& row : r.rows) wide = std::max(wide, row.policy.size());
  const auto name = [&](std::string text) {
    text.resize(wide, ' ');
    return text;
  };
  const auto number = [](std::optional<double> x, std::size_t width, int digits, double factor = 1) {
    std::string text = !x                            ? "-"
                       : !std::isfinite(*x)          ? "inf"
                       : std::abs(*x) * factor < 1e5 ? fmt::format("{:.{}f}", *x * factor, digits)
                                                     : fmt::format("{:.2g}", *x * factor);
    text.insert(0, width - std::min(width, text.size()), ' ');
    return text;
  };
  constexpr const char* titles = "{:>8}  {:<15}{:<5}|{:>7}{:>11}{:>7} | {:<23}|{:>6} |{:>14} |{:>6} |{:>9}{:>8}\n";
  constexpr const char* units =
      "{:>8}  {:<15}{:<5}|{:>7}{:>11}{:>7} |{:>7}{:>8}{:>8} |{:>6} |{:>8}{:>6} |{:>6} |{:>9}{:>8}\n";
  std::string out = name("") + "    budget |" +
                    fmt::format(titles, "NLL-Full", "95 %", "rank", "NLL", "perplexity", "bits/",
                                "KL(Full||policy), nats", "top-1", "states seen", "life", "allocated", "live") +
                    name("policy") + "    states |" +
                    fmt::format(units, "nats/tok", "nats/tok", "", "n/tok", "", "byte", "mean", "median", "p99", "%",
                                "mean", "max", "steps", "kB", "kB");
  const std::string rule(out.find('\n'), '-');
  out += rule + "\n";
  std::optional<int> group;
  const int longest = detail::most_queries(*r.sample);
  bool starred = false, greyed = false;
  for (const policy_run& row : r.rows) {
    if (row.budget != group) out += rule + "\n";
    group = row.budget;
    const std::string_view mark = mark_of(row, longest);
    const bool grey = mark == "k >= T/2";
    starred = starred || mark == "k > T/4";
    greyed = greyed || grey;
    if (colour && grey) out += "\033[2m";
    out += name(row.policy) + fmt::format(" {:>6} {:<2} |", row.budget ? std::to_string(*row.budget) : "all",
                                          grey           ? "**"
                                          : mark.empty() ? ""
                                                         : "*");
    if (row.measured) {
      const figures& f = *row.measured;
      out += number(f.nll_minus_full, 8, 4) +
             (f.spread ? number(f.spread->low, 8, 4) + number(f.spread->high, 8, 4) : std::string(16, ' ')) +
             fmt::format(" {:<5}|", f.letter) + number(f.nll, 7, 4) + number(f.perplexity, 11, 3) +
             number(f.bits_per_byte, 7, 4) + " |" + number(f.kl_mean, 7, 4) + number(f.kl_median, 8, 4) +
             number(f.kl_p99, 8, 4) + " |" + number(f.top1_agreement, 6, 1, 100) + " |" +
             number(f.states_attended_mean, 8, 1) + fmt::format("{:6}", f.states_attended_max) + " |" +
             number(f.mean_life, 6, 1) + " |" + number(static_cast<double>(f.bytes_allocated), 9, 1, 1e-3) +
             number(f.bytes_live, 8, 1, 1e-3);
    } else {
      out += " " + (row.skipped.empty() ? "not run" : "skipped: " + row.skipped);
    }
    if (colour && grey) out += "\033[0m";
    out += "\n";
  }
  if (starred || greyed) out += "\n";  // footnotes
  if (starred) out += "*   k > T/4: not much was forgotten\n";
  if (greyed) out += "**  k >= T/2: little was forgotten, nothing from k = T on\n";
  if ((starred || greyed) && longest < r.sample->window())
    out += fmt::format("    (T = {}, the tokens of the longest window)\n", longest);
  return out;
}

/// What a row has beside single figures.
inline void add_curves(nlohmann::ordered_json& x, const figures& f) {
  using json = nlohmann::ordered_json;
  const auto maybe = [](const std::optional<double>& v) { return v && std::isfinite(*v) ? json(*v) : json(nullptr); };
  x["interval"] = f.spread ? json::array({maybe(f.spread->low), maybe(f.spread->high)}) : json(nullptr);
  x["gap_closed"] = maybe(f.gap_closed);
  x["kept_mass"] = maybe(f.kept_mass);
  x["letter"] = f.letter.empty() ? json(nullptr) : json(f.letter);
  x["nll_by_position"] = json::array();
  for (const auto& bin : f.by_position)
    x["nll_by_position"].push_back(
        {{"position", bin.position}, {"count", bin.count}, {"difference", maybe(bin.difference)}});
  x["survival"] = json::array();
  for (const auto& point : f.survival) x["survival"].push_back({{"age", point.age}, {"alive", point.alive}});
  x["life_by_kind"] = nullptr;
  for (std::size_t i = 0; f.life_by_kind && i < character_kinds.size(); ++i)
    x["life_by_kind"][character_kinds[i]] = {{"life", maybe((*f.life_by_kind)[i].life)},
                                             {"share", (*f.life_by_kind)[i].share}};
}

inline nlohmann::ordered_json pairs_json(const report& r) {
  using json = nlohmann::ordered_json;
  json out = json::array();
  for (const row_pair& p : r.statistics.pairs)
    out.push_back({{"budget", p.budget},
                   {"a", r.rows[p.a].policy},
                   {"b", r.rows[p.b].policy},
                   {"difference", p.difference},
                   {"interval", p.spread ? json::array({p.spread->low, p.spread->high}) : json(nullptr)},
                   {"p", p.p ? json(*p.p) : json(nullptr)},
                   {"p_holm", p.p_holm ? json(*p.p_holm) : json(nullptr)}});
  return out;
}

/// When each state of the first window was dropped: [layer][lane][position] of the traced rows.
inline nlohmann::ordered_json trace_json(const report& r) {
  using json = nlohmann::ordered_json;
  const text_sample& s = *r.sample;
  const text_window& w = s.windows()[0];
  json rows = json::array();
  for (const policy_run& row : r.rows) {
    if (!row.measured || row.measured->deaths.empty()) continue;
    json layers = json::array();
    auto at = row.measured->deaths.begin();
    for (int layer = 0; layer < row.memories[0].layers(); ++layer) {
      json lanes = json::array();
      for (int lane = 0; lane < row.memories[0].lanes(layer); ++lane, at += w.queries)
        lanes.push_back(std::vector<int>(at, at + w.queries));
      layers.push_back(std::move(lanes));
    }
    rows.push_back({{"policy", row.policy}, {"budget", *row.budget}, {"layers", std::move(layers)}});
  }
  return {{"window", 0}, {"tokens", s.inputs(w)}, {"first_token", w.first}, {"rows", std::move(rows)}};
}

inline nlohmann::ordered_json to_json(const report& r) {
  using json = nlohmann::ordered_json;
  const auto maybe = [](const std::optional<double>& x) { return x && std::isfinite(*x) ? json(*x) : json(nullptr); };
  const text_sample& s = *r.sample;
  json out;
  out["program"] = "multistate compare";
  out["version"] = MULTISTATE_VERSION;
  out["commit"] = *MULTISTATE_COMMIT != 0 ? json(MULTISTATE_COMMIT) : json(nullptr);
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
  for (const policy_run& row : r.rows) {
    json x;
    x["policy"] = row.policy;
    x["budget"] = budget_json(row);
    x["scope"] = row.memories.empty()
                     ? json(nullptr)
                     : json(std::array{"head", "layer", "model"}[static_cast<std::size_t>(row.memories[0].scope(0))]);
    const std::size_t mode = row.policy.find('@');
    x["position_mode"] = mode == row.policy.npos ? "original" : row.policy.substr(mode + 1);
    const figures f = row.measured.value_or(figures{});
    const auto measured = [&](auto value) { return row.measured ? maybe(value) : json(nullptr); };
    x["nll"] = measured(f.nll);
    x["nll_minus_full"] = measured(f.nll_minus_full);
    x["perplexity"] = measured(f.perplexity);
    x["bits_per_byte"] = maybe(f.bits_per_byte);
    x["kl_mean"] = maybe(f.kl_mean);
    x["kl_median"] = maybe(f.kl_median);
    x["kl_p99"] = maybe(f.kl_p99);
    x["top1_agreement"] = maybe(f.top1_agreement);
    x["recall"] = nullptr;
    x["tokens_per_second"] = nullptr;
    x["states_attended_mean"] = measured(f.states_attended_mean);
    x["states_attended_max"] = row.measured ? json(f.states_attended_max) : json(nullptr);
    x["mean_life"] = maybe(f.mean_life);
    x["bytes_allocated"] = row.measured ? json(f.bytes_allocated) : json(nullptr);
    x["bytes_live"] = measured(f.bytes_live);
    if (!row.seeds.empty()) x["seeds"] = row.seeds;
    const std::string_view mark = mark_of(row, detail::most_queries(s));
    x["mark"] = mark.empty() ? json(nullptr) : json(mark);
    x["skipped"] = row.skipped.empty() ? json(nullptr) : json(row.skipped);
    add_curves(x, f);
    x["window_differences"] = f.window_differences;
    out["rows"].push_back(std::move(x));
  }
  out["bootstrap"] = {{"resamples", r.statistics.how.resamples},
                      {"seed", r.statistics.how.seed},
                      {"block_windows", r.statistics.block_windows},
                      {"over", r.statistics.over_texts ? "texts and blocks" : "blocks"},
                      {"this_text_only", !r.statistics.over_texts}};
  out["pairs"] = pairs_json(r);
  out["trace"] = trace_json(r);
  return out;
}

/// The rows' figures of to_json(), one line each; nothing where not measured.
inline std::string to_csv(const nlohmann::ordered_json& report) {
  constexpr std::array columns{"policy",
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
  std::string out;
  for (const char* column : columns) (out += out.empty() ? "" : ",") += column;
  out += "\n";
  for (const auto& row : list_at(report, "rows")) {
    std::string line;
    for (const char* column : columns) {
      const std::string_view name = column;
      const bool low = name == "interval_low";
      const auto& ends = list_at(row, "interval");
      std::string text = !low && name != "interval_high" ? word_at(row, name)
                         : ends.size() == 2              ? text_of(ends[low ? 0 : 1])
                                                         : "";
      if (text.find_first_of(",\"\n") != text.npos) {
        for (std::size_t at = 0; (at = text.find('"', at)) != text.npos; at += 2) text.insert(at, 1, '"');
        text = '"' + text + '"';
      }
      (line += line.empty() && column == columns[0] ? "" : ",") += text;
    }
    out += line + "\n";
  }
  return out;
}

}  // namespace multistate::tools
