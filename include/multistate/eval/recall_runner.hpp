#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include <multistate/util/executor.hpp>
#include <multistate/eval/compare.hpp>
#include <multistate/eval/reading.hpp>
#include <multistate/eval/recall.hpp>

namespace multistate {

/// What one thread needs: row 0 is Full. `forks` hold the same rows again; a question is asked of a fork where trials
/// share what comes before it.
template <class Decoder>
struct recall_worker {
  Decoder* model = nullptr;
  std::span<policy_run> rows, forks;
};

struct recall_setup {
  reading_mode mode = reading_mode::sequential;
  int chunk = 1;
  int bos = -1;
  std::size_t first = 0;  ///< number of the first trial: rows with several memories take them in turn
  /// [row][distance] whether it is asked; row 0 should have whatever another has.
  std::vector<std::vector<bool>> asked = {};
  /// Told how much is done, of 1; false ends it after the trials that are whole.
  std::function<bool(double)> progress = {};
};

/// Of one row and distance.
struct recall_count {
  std::int64_t right = 0, asked = 0;
  std::int64_t full_right = 0, both_right = 0;  ///< of those asked
  void operator+=(const recall_count& other) noexcept {
    right += other.right;
    asked += other.asked;
    full_right += other.full_right;
    both_right += other.both_right;
  }
};

struct recall_outcome {
  std::vector<std::vector<recall_count>> counts;  ///< [row][distance]
  std::size_t trials = 0;                         ///< that were run to the end
  bool interrupted = false;
};

namespace detail {

/// Runs trials, all rows of one side by side. An answer is right when each of its tokens is the likeliest one after the
/// right ones before it.
template <class Decoder>
class recall_runner {
 public:
  recall_runner(const recall_worker<Decoder>& worker, const recall_setup& setup)
      : worker_(worker), setup_(setup), vocab_(static_cast<std::size_t>(worker.model->config().vocab)) {
    logits_.resize(worker.rows.size() * vocab_);
  }

  /// Trial `number`: [row][distance] whether the answer was right, where it was asked.
  error operator()(const recall_trial& trial, std::size_t number, std::vector<std::vector<bool>>& right) {
    right.assign(worker_.rows.size(), std::vector<bool>(trial.at.size(), false));
    const bool shared = setup_.mode == reading_mode::sequential || setup_.mode == reading_mode::chunked;
    std::vector<std::size_t> order(trial.at.size());
    for (std::size_t d = 0; d < order.size(); ++d) order[d] = d;
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return trial.at[a] < trial.at[b]; });
    if (shared)
      for (std::size_t r = 0; r < worker_.rows.size(); ++r)
        if (sequence_memory* m = memory(worker_.rows, r, number)) m->reset();
    std::size_t read = 0;  // of the text, by whoever is still asked something
    for (std::size_t i = 0; i < order.size(); ++i) {
      const std::size_t d = order[i];
      if (trial.at[d] == recall_trial::unasked) continue;
      error e;
      if (shared) e = go_on(trial, number, order, i, read);
      if (!e) e = ask(trial, number, d, shared ? read : 0, shared, right);
      if (e) return e;
    }
    return {};
  }

 private:
  static sequence_memory* memory(std::span<policy_run> rows, std::size_t r, std::size_t number) noexcept {
    auto& all = rows[r].memories;
    return all.empty() || rows[r].fresh() ? nullptr : &all[number % all.size()];
  }
  bool asked(std::size_t row, std::size_t d) const noexcept { return setup_.asked[row][d]; }
  std::size_t piece() const noexcept {
    return setup_.mode == reading_mode::chunked ? static_cast<std::size_t>(setup_.chunk) : 1;
  }
  /// Reads up to the last whole chunk before question order[i].
  error go_on(const recall_trial& trial, std::size_t number, const std::vector<std::size_t>& order, std::size_t i,
              std::size_t& read) {
    const std::size_t to = trial.at[order[i]] / piece() * piece();
    readings_.clear();
    for (std::size_t r = 0; r < worker_.rows.size(); ++r) {
      bool later = false;
      for (std::size_t j = i; j < order.size(); ++j)
        later = later || (asked(r, order[j]) && trial.at[order[j]] != recall_trial::unasked);
      if (sequence_memory* m = memory(worker_.rows, r, number); m != nullptr && later)
        readings_.push_back({m, std::span(trial.text).subspan(read, to - read), nullptr});
    }
    read = to;
    return read_together(*worker_.model, readings_, prompt_mode_of(setup_.mode), setup_.chunk, phase::prompt);
  }

  error ask(const recall_trial& trial, std::size_t number, std::size_t d, std::size_t read, bool shared,
            std::vector<std::vector<bool>>& right) {
    const std::vector<int> prompt = trial.prompt(d);
    const std::vector<int> tokens = tokens_to_read(prompt, setup_.mode, setup_.bos, read);
    std::vector<std::size_t> running;
    readings_.clear();
    for (std::size_t r = 0; r < worker_.rows.size(); ++r) {
      sequence_memory* m = memory(shared ? worker_.forks : worker_.rows, r, number);
      if (m == nullptr || !asked(r, d)) continue;
      if (!shared)
        m->reset();
      else if (!m->copy_from(*memory(worker_.rows, r, number)))
        return error(errc::bad_input, worker_.rows[r].policy, ": recall needs forks that are made alike");
      readings_.push_back({m, tokens, &logits_[r * vocab_]});
      running.push_back(r);
    }
    error e = read_together(*worker_.model, readings_, prompt_mode_of(setup_.mode), setup_.chunk);
    for (std::size_t a = 0; !e && !running.empty(); ++a) {
      std::vector<std::size_t> still;
      std::vector<reading> next;
      for (std::size_t i = 0; i < running.size(); ++i) {
        const std::span<const float> x(&logits_[running[i] * vocab_], vocab_);
        if (greedy(x) != trial.answer[a]) continue;
        if (a + 1 == trial.answer.size()) right[running[i]][d] = true;
        still.push_back(running[i]);
        next.push_back({readings_[i].memory, std::span(trial.answer).subspan(a, 1), readings_[i].logits});
      }
      if (a + 1 == trial.answer.size()) break;
      running = std::move(still);
      readings_ = std::move(next);
      e = read_together(*worker_.model, readings_, prompt_mode::sequential, 1, phase::decode);
    }
    return e;
  }

  const recall_worker<Decoder>& worker_;
  const recall_setup& setup_;
  std::size_t vocab_;
  std::vector<reading> readings_;
  std::vector<float> logits_;  ///< [row][vocab]
};

}  // namespace detail

/// Asks the questions of all trials of each row that has memories; rows with several memories share the trials out
/// among them. The same counts for any number of workers and threads. `across` shares out trials, one a worker. Errors:
/// those of the decoder.
template <class Decoder, executor Across>
result<recall_outcome> run_recall(std::span<const recall_worker<Decoder>> workers, Across& across,
                                  std::span<const recall_trial> trials, const recall_setup& setup) {
  std::vector<detail::recall_runner<Decoder>> runners;
  for (const auto& worker : workers) runners.emplace_back(worker, setup);
  recall_outcome done;
  const std::size_t rows = workers[0].rows.size();
  done.counts.assign(rows, std::vector<recall_count>(trials.empty() ? 0 : trials[0].at.size()));
  std::vector<std::vector<std::vector<bool>>> right(workers.size());
  std::vector<error> errors(workers.size());
  while (done.trials < trials.size() && !done.interrupted) {
    const std::size_t round = std::min(workers.size(), trials.size() - done.trials);
    const auto one = [&](int task, int) {
      const auto i = static_cast<std::size_t>(task);
      errors[i] = runners[i](trials[done.trials + i], setup.first + done.trials + i, right[i]);
    };
    if (round == 1)
      one(0, 0);
    else
      across(static_cast<int>(round), one);
    for (std::size_t i = 0; i < round; ++i) {
      if (errors[i]) return errors[i];
      const recall_trial& t = trials[done.trials + i];
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t d = 0; d < t.at.size(); ++d) {
          if (!setup.asked[r][d] || t.at[d] == recall_trial::unasked || workers[0].rows[r].memories.empty()) continue;
          const bool mine = right[i][r][d], full = right[i][0][d];
          done.counts[r][d] += {mine ? 1 : 0, 1, full ? 1 : 0, mine && full ? 1 : 0};
        }
    }
    done.trials += round;
    if (setup.progress && !setup.progress(static_cast<double>(done.trials) / static_cast<double>(trials.size())))
      done.interrupted = true;
  }
  return done;
}

}  // namespace multistate
