#include <tools/runs/recall_run.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <multistate/eval/recall_runner.hpp>
#include <multistate/eval/statistics.hpp>
#include <tools/engine/engine.hpp>
#include <tools/report/report.hpp>
#include <tools/terminal/flags.hpp>

namespace multistate::tools {

namespace {

// Asks every row for facts, trials spread over the executor's workers. Errors end the program as usage errors.
class recall_run {
  using json = nlohmann::ordered_json;
  static constexpr int least_before = 64;  ///< tokens before the fact
  static constexpr int around = 32;        ///< tokens of a prompt beside those before the fact and the distance
  static constexpr int rows_together = 16;
  static constexpr double applicable = 0.9;  ///< share that Full must answer

 public:
  recall_run(const model_view& weights, const tokenizer& words, std::span<const int> filler, tool_executor& exec,
             journal& done, recall_settings settings)
      : weights_(weights),
        exec_(exec),
        journal_(done),
        s_(std::move(settings)),
        make_(value_or_usage(recall_generator::make(filler, words, weights.config.bos, s_.seed))),
        words_(words) {}

  // Token by token everything, read in other ways one fact with the question last.
  recall_report operator()() {
    using enum recall_variant;
    const std::vector<int> facts = s_.full ? std::vector{1, 8} : std::vector{1};
    const std::vector variants = s_.full ? std::vector{last, first_too, removed} : std::vector{last, removed};
    const std::size_t other_modes = s_.full ? reading_modes.size() - 1 : 0;
    parts_ = static_cast<double>(facts.size() * variants.size() + other_modes + (s_.full ? 1 : 0));
    out_.json = {{"facts", facts},
                 {"questions", s_.questions},
                 {"seed", s_.seed},
                 {"cells", json::array()},
                 {"grid", json::array()}};
    make_workers(reading_mode::sequential);
    for (const int n : facts)
      for (const recall_variant variant : variants)
        if (!out_.interrupted) cells(reading_mode::sequential, n, variant);
    if (s_.full && !out_.interrupted) grid();
    for (std::size_t m = 1; m <= other_modes && !out_.interrupted; ++m) {
      make_workers(static_cast<reading_mode>(m));
      cells(static_cast<reading_mode>(m), 1, last);
    }
    return std::move(out_);
  }

 private:
  static constexpr std::array<std::pair<const char*, std::int64_t recall_count::*>, 4> count_names{
      {{"right", &recall_count::right},
       {"asked", &recall_count::asked},
       {"full_right", &recall_count::full_right},
       {"both_right", &recall_count::both_right}}};

  struct worker {
    std::vector<policy_run> rows, forks;
    tool_executor alone{1};
    std::optional<any_decoder> model;
  };

  std::vector<policy_run> take_rows(reading_mode mode) const {
    return solo_runs_of(weights_.config, s_.runs,
                        {.chunk = mode == reading_mode::chunked ? s_.chunk : 1,
                         .prompt = mode == reading_mode::one_shot ? s_.runs.window : 0});
  }
  void make_workers(reading_mode mode) {
    workers_.clear();
    for (int i = 0; i < exec_.workers(); ++i) {
      worker& s = workers_.emplace_back();
      s.rows = take_rows(mode);
      s.forks = take_rows(mode);
      const int together = std::max(static_cast<int>(s.rows.size()) * rows_together, s_.runs.window);
      s.model = value_or_usage(any_decoder::make(weights_, together, s.alone, s_.runs.products));
    }
  }

  // `part` names it among those that were asked before; of many questions each group is one.
  recall_outcome ask(const std::string& part, reading_mode mode, const recall_layout& layout, int questions,
                     std::vector<std::vector<bool>> asked) {
    constexpr int group = 40;
    recall_setup how{.mode = mode, .chunk = s_.chunk, .bos = weights_.config.bos, .asked = std::move(asked)};
    const double before = done_;
    recall_outcome all;
    all.counts.assign(how.asked.size(), std::vector<recall_count>(layout.distances.size()));
    for (int begin = 0; begin < questions && !all.interrupted; begin += group) {
      const int end = std::min(begin + group, questions);
      const std::string name = part + "/" + std::to_string(begin) + "-" + std::to_string(end);
      recall_outcome some;
      const bool kept =
          journal_.restore(name, [&](const json& was) { some.counts = counts_of(was, how, layout, end - begin); });
      if (!kept) {
        std::vector<recall_trial> trials;
        for (int i = begin; i < end; ++i)
          trials.push_back(value_or_usage(make_.trial(layout, static_cast<std::uint64_t>(i))));
        how.first = static_cast<std::size_t>(begin);
        how.progress = [&](double part_done) {
          const double share = (begin + part_done * (end - begin)) / questions;
          return !s_.progress || s_.progress((before + share * share_) / parts_);
        };
        std::vector<recall_worker<any_decoder>> views;
        for (worker& s : workers_) views.push_back({&*s.model, s.rows, s.forks});
        some = value_or_usage(run_recall<any_decoder>(views, exec_, trials, how));
        if (some.trials == trials.size()) journal_.keep(name, json_of(some.counts));
      }
      for (std::size_t r = 0; r < some.counts.size(); ++r)
        for (std::size_t d = 0; d < some.counts[r].size(); ++d) all.counts[r][d] += some.counts[r][d];
      all.interrupted = some.interrupted;
    }
    done_ = before + share_;
    out_.interrupted = all.interrupted;
    return all;
  }
  // Four tables [row][distance].
  static json json_of(const std::vector<std::vector<recall_count>>& counts) {
    json out;
    for (const auto& [key, member] : count_names) {
      json& table = out[key] = json::array();
      for (const auto& row : counts) {
        json& values = table.emplace_back(json::array());
        for (const recall_count& c : row) values.push_back(c.*member);
      }
    }
    return out;
  }
  static std::vector<std::vector<recall_count>> counts_of(const json& from, const recall_setup& how,
                                                          const recall_layout& layout, int questions) {
    std::vector<std::vector<recall_count>> out(how.asked.size(), std::vector<recall_count>(layout.distances.size()));
    for (const auto& [key, member] : count_names) {
      const json& table = list_of(from.at(key), out.size());
      for (std::size_t r = 0; r < out.size(); ++r) {
        const auto values = wholes_of(table[r], out[r].size(), 0, questions);
        for (std::size_t d = 0; d < values.size(); ++d) out[r][d].*member = values[d];
      }
    }
    for (std::size_t r = 0; r < out.size(); ++r)
      for (std::size_t d = 0; d < out[r].size(); ++d) {
        const recall_count& c = out[r][d];
        if (c.right > c.asked || c.full_right > c.asked || c.both_right > std::min(c.right, c.full_right) ||
            c.right + c.full_right - c.both_right > c.asked || (c.asked > 0 && !how.asked[r][d]))
          throw bad_record("answers that do not fit the questions");
      }
    return out;
  }

  void cells(reading_mode mode, int facts, recall_variant variant) {
    const std::vector<policy_run>& rows = workers_[0].rows;
    recall_layout layout{.facts = facts, .variant = variant, .before = least_before + 24 * (facts - 1)};
    const int times = mode == reading_mode::read_twice ? 2 : 1;
    const auto fits = [&](int distance) { return times * (layout.before + around + distance) <= s_.runs.window; };
    const auto wanted = [&](const policy_run& row) {
      const int k = *row.budget;
      return k % 2 == 0 ? std::vector{k / 2, k, 2 * k, 4 * k} : std::vector{k, 2 * k, 4 * k};
    };
    const bool full_only = variant == recall_variant::removed && !s_.full;
    for (const policy_run& row : rows)
      if (row.budget && !row.memories.empty())
        for (const int d : wanted(row))
          if (fits(d)) layout.distances.push_back(d);
    std::sort(layout.distances.begin(), layout.distances.end());
    layout.distances.erase(std::unique(layout.distances.begin(), layout.distances.end()), layout.distances.end());
    std::vector<std::vector<bool>> asked;
    for (const policy_run& row : rows) {
      const std::vector<int> mine = row.budget ? wanted(row) : layout.distances;
      asked.emplace_back();
      for (const int d : layout.distances)
        asked.back().push_back((!row.budget || !full_only) && std::find(mine.begin(), mine.end(), d) != mine.end());
    }
    share_ = 1;
    constexpr std::array variants{"last", "first_too", "removed"};
    const std::string part = fmt::format("recall/{}/{}/{}", reading_modes[static_cast<std::size_t>(mode)], facts,
                                         variants[static_cast<std::size_t>(variant)]);
    const recall_outcome got = ask(part, mode, layout, s_.questions, std::move(asked));
    for (std::size_t r = 0; r < rows.size(); ++r)
      for (std::size_t d = 0; d < layout.distances.size(); ++d) {
        const recall_count& c = got.counts[r][d];
        if (c.asked == 0) continue;
        const std::optional<int> k = rows[r].budget;
        const auto n = static_cast<double>(c.asked);
        const interval range = wilson(c.right, c.asked);
        const double full_share = static_cast<double>(c.full_right) / n;
        out_.json["cells"].push_back(
            {{"policy", rows[r].policy},
             {"budget", budget_json(rows[r].budget)},
             {"facts", facts},
             {"variant", variants[static_cast<std::size_t>(variant)]},
             {"mode", reading_modes[static_cast<std::size_t>(mode)]},
             {"distance", layout.distances[d]},
             {"distance_over_k", k ? json(static_cast<double>(layout.distances[d]) / *k) : json(nullptr)},
             {"right", c.right},
             {"asked", c.asked},
             {"share", static_cast<double>(c.right) / n},
             {"interval", {range.low, range.high}},
             {"given_full", c.full_right > 0
                                ? json(static_cast<double>(c.both_right) / static_cast<double>(c.full_right))
                                : json(nullptr)},
             {"full_share", full_share},
             // Nobody is to answer what was never told.
             {"not_applicable", variant != recall_variant::removed && full_share < applicable}});
      }
  }

  // The needle plot: where in a prompt of some length the fact stands.
  void grid() {
    const std::vector<policy_run>& rows = workers_[0].rows;
    const int bos = weights_.config.bos >= 0 ? 1 : 0;
    const auto size = [&](const char* text) { return static_cast<int>(value_or_usage(words_.encode(text)).size()); };
    const int statement = size("\n#QXV=48213;\n"), head = size("\n#QXV="), question = size("\n?QXV=");
    std::vector<int> lengths;
    for (int length = 128; length + around <= s_.runs.window + around / 2; length *= 2) lengths.push_back(length);
    if (lengths.empty() || lengths.back() + around < s_.runs.window) lengths.push_back(s_.runs.window - around);
    constexpr std::array depths{0.0, 0.25, 0.5, 0.75, 1.0};
    constexpr int most_questions = 50;  // twenty cells a row, none of which shares its text with another
    share_ = 1 / static_cast<double>(lengths.size() * depths.size());
    for (const int length : lengths)
      for (const double depth : depths) {
        if (out_.interrupted) return;
        const int free = length - bos - statement - question;
        if (free < 0) continue;
        recall_layout layout{.before = bos + static_cast<int>(std::lround(depth * free))};
        layout.distances = {length - layout.before - head};
        const std::string part = fmt::format("recall/grid/{}/{:.2f}", length, depth);
        const auto got = ask(part, reading_mode::sequential, layout, std::min(s_.questions, most_questions),
                             std::vector(rows.size(), std::vector<bool>{true}));
        for (std::size_t r = 0; r < rows.size(); ++r) {
          const recall_count& c = got.counts[r][0];
          if (c.asked == 0) continue;
          const auto n = static_cast<double>(c.asked);
          out_.json["grid"].push_back({{"policy", rows[r].policy},
                                       {"budget", budget_json(rows[r].budget)},
                                       {"length", length},
                                       {"depth", depth},
                                       {"right", c.right},
                                       {"asked", c.asked},
                                       {"share", static_cast<double>(c.right) / n},
                                       {"not_applicable", static_cast<double>(c.full_right) / n < applicable}});
        }
      }
  }

  const model_view& weights_;
  tool_executor& exec_;
  journal& journal_;
  recall_settings s_;
  recall_generator make_;
  const tokenizer& words_;
  std::deque<worker> workers_;  // decoders refer to what is beside them
  recall_report out_;
  double parts_ = 1, done_ = 0, share_ = 1;
};

}  // namespace

recall_report ask_for_facts(const model_view& weights, const tokenizer& words, std::span<const int> filler,
                            tool_executor& exec, journal& done, recall_settings settings) {
  return recall_run(weights, words, filler, exec, done, std::move(settings))();
}

}  // namespace multistate::tools
