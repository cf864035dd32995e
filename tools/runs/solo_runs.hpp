#pragma once

#include <nlohmann/json.hpp>

#include <functional>

#include <multistate/eval/sample.hpp>
#include <multistate/tokenizer/tokenizer.hpp>
#include <multistate/model/model_view.hpp>
#include <tools/engine/executor.hpp>
#include <tools/runs/journal.hpp>
#include <tools/runs/policy_runs.hpp>

/// What each run does by itself, not side by side with the others: writes, reads prompts in other ways, takes time. Of
/// runs with several seeds the first. Parts that the journal holds are not done again. Errors end the program.
namespace multistate::tools {

struct solo_setup {
  const model_view& weights;
  const tokenizer* words;  ///< null: none, and texts are shown as ids
  const text_sample& sample;
  tool_executor& exec;
  journal& done;
  solo_request request;
  std::function<bool(double)> progress;  ///< told how much is done, of 1; false ends the work
};

struct solo_outcome {
  nlohmann::ordered_json found;  ///< as the report holds it
  bool interrupted = false;
};

/// Greedy text after the first half of the first window.
solo_outcome run_freely(const solo_setup& setup);
/// A third of each of some windows is the prompt, read in each way; the next third is scored. `chunk`: of reading in
/// chunks.
solo_outcome read_prompts(const solo_setup& setup, int chunk);
/// Share of the states seen in the second half of the first window that are seen too when they are stored in another
/// format: near ties fall otherwise, and then runs part. Null where states overflow in it.
solo_outcome compare_formats(const solo_setup& setup);
/// Steps of the first window, one run after another, all of them seven times over. `share_steps`: all threads work on
/// one step, else one thread does all.
solo_outcome time_runs(const solo_setup& setup, bool share_steps);

}  // namespace multistate::tools
