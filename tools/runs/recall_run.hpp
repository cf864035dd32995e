#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <functional>
#include <span>

#include <multistate/tokenizer/tokenizer.hpp>
#include <multistate/model/model_view.hpp>
#include <tools/engine/executor.hpp>
#include <tools/runs/journal.hpp>
#include <tools/runs/policy_runs.hpp>

namespace multistate::tools {

struct recall_settings {
  solo_request runs;  ///< its window is the most that a prompt and its answer take
  int chunk = 16;     ///< of prompts read in chunks
  int questions = 0;  ///< a cell
  std::uint64_t seed = 1;
  bool full = false;  ///< 8 facts too, all variants and ways to read, the grid; else one fact, and the floor under Full
  std::function<bool(double)> progress = {};
};

struct recall_report {
  nlohmann::ordered_json json;  ///< facts, questions, seed, cells, grid
  bool interrupted = false;
};

/// Asks every run for facts, trials spread over the executor's workers. `filler` is the text that facts are told in.
/// Parts that the journal holds are not asked again. Errors end the program.
recall_report ask_for_facts(const model_view& weights, const tokenizer& words, std::span<const int> filler,
                            tool_executor& exec, journal& done, recall_settings settings);

}  // namespace multistate::tools
