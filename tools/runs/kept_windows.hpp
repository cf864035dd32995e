#pragma once

#include <algorithm>
#include <exception>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <multistate/eval/compare.hpp>
#include <tools/runs/journal.hpp>
#include <tools/runs/totals_json.hpp>

namespace multistate::tools {

/// Keeps the finished parts of windows in a journal: "window/3", what the rows in lockstep gave, and
/// "window/3/short:64", what a row of fresh queries gave up to query "next".
class kept_windows final : public window_store {
  using json = nlohmann::ordered_json;

 public:
  /// Of a comparison of these rows.
  kept_windows(journal& into, std::span<const policy_run> rows, const text_sample& sample,
               const comparison_setup& setup)
      : journal_(into), rows_(rows), sample_(sample), setup_(setup) {}

  result<bool> restore(std::size_t window, std::vector<std::vector<totals>>& rows) override {
    bool found = false;
    const error e = guard([&] {
      found = journal_.restore(name(window), [&](const json& kept) {
        list_of(kept, rows.size());
        std::vector<std::vector<totals::window_sums>> read(rows.size());
        for (std::size_t r = 0; r < rows.size(); ++r)
          for (const json& run : list_of(kept[r], runs_of(r))) {
            read[r].push_back(window_sums_from(run, shape(window, r, read[r].size())));
            check_against_full(read[r].back(), read[0][0]);
          }
        for (std::size_t r = 0; r < rows.size(); ++r)
          for (std::size_t i = 0; i < read[r].size(); ++i) rows[r][i].go_on(std::move(read[r][i]));
      });
    });
    if (e) return e;
    return found;
  }
  error keep(std::size_t window, const std::vector<std::vector<totals>>& rows) override {
    return guard([&] {
      json all = json::array();
      for (std::size_t r = 0; r < rows.size(); ++r) {
        json& runs = all.emplace_back(json::array());
        for (std::size_t i = 0; i < runs_of(r); ++i) runs.push_back(to_json(rows[r][i].window()));
      }
      journal_.keep(name(window), all);
    });
  }
  result<int> restore_fresh(std::size_t window, std::size_t row, totals& so_far) override {
    int next = 0;
    const error e = guard([&] {
      journal_.restore(name(window, row), [&](const json& kept) {
        const text_window& w = sample_.windows()[window];
        const auto at = static_cast<int>(whole_of(kept.at("next"), w.scored_from + 1, w.queries));
        const int done = at - w.scored_from;
        std::vector<int> without = targets_of_bos(w, w.scored_from, at);
        so_far.go_on(window_sums_from(kept.at("sums"), {.first = w.scored_from,
                                                        .queries = at,
                                                        .scored = done - static_cast<int>(without.size()),
                                                        .steps = done,
                                                        .without = std::move(without)}));
        next = at;
      });
    });
    if (e) return e;
    return next;
  }
  error keep_fresh(std::size_t window, std::size_t row, const totals& so_far, int next) override {
    return guard([&] { journal_.keep(name(window, row), {{"next", next}, {"sums", to_json(so_far.window())}}); });
  }

 private:
  /// Nothing may leave a worker but an error.
  template <class F>
  static error guard(const F& f) {
    try {
      f();
      return {};
    } catch (const std::bad_alloc&) {
      return error(errc::out_of_memory, "out of memory");
    } catch (const std::exception& e) {
      return error(errc::bad_file, e.what());
    }
  }

  static std::string name(std::size_t window) { return "window/" + std::to_string(window); }
  std::string name(std::size_t window, std::size_t row) const {
    return name(window) + "/" + rows_[row].policy + ":" + std::to_string(*rows_[row].budget);
  }
  std::vector<int> targets_of_bos(const text_window& w, int begin, int end) const {
    std::vector<int> queries;
    for (int j = begin; j < end; ++j)
      if (sample_.is_bos(sample_.target(w, j))) queries.push_back(j);
    return queries;
  }
  std::size_t runs_of(std::size_t row) const { return rows_[row].fresh() ? 0 : rows_[row].memories.size(); }
  window_shape shape(std::size_t window, std::size_t row, std::size_t run) const {
    const text_window& w = sample_.windows()[window];
    const policy_run& e = rows_[row];
    const sequence_memory& memory = e.memories[run];
    const int first = setup_.every_position ? 0 : w.scored_from;
    window_shape s{.first = first,
                   .queries = w.queries,
                   .scored = w.scored(),
                   .steps = (w.queries + setup_.chunk - 1) / setup_.chunk,
                   .ages = detail::ages_of(e, sample_).size(),
                   .without = targets_of_bos(w, first, w.queries)};
    for (int layer = 0; layer < memory.layers(); ++layer) s.states += std::int64_t{memory.lanes(layer)} * w.queries;
    const auto traced = traced_budget(rows_);
    if (window == 0 && run == 0 && traced && e.budget == traced) s.deaths = static_cast<std::size_t>(s.states);
    return s;
  }

  journal& journal_;
  std::span<const policy_run> rows_;
  const text_sample& sample_;
  const comparison_setup& setup_;
};

}  // namespace multistate::tools
