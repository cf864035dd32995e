#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <multistate/eval/ranking.hpp>
#include <multistate/eval/sample.hpp>
#include <tools/report/reading.hpp>
#include <tools/report/result.hpp>

namespace multistate::tools {

/// All that a comparison found. Every output is written from it: JSON directly, the others from the JSON.
struct report {
  struct text {
    std::string path;
    std::uint64_t hash = 0;
    std::size_t tokens = 0;      ///< of the whole text
    std::size_t used = 0;        ///< of its beginning
    std::size_t bos_first = 0;   ///< BOS that its file begins with, for which that of the window stands
    std::size_t bos_inside = 0;  ///< of the tokens used
  };
  std::vector<std::string> command_line;
  std::string model;  ///< path
  std::uint64_t model_hash = 0;
  int trained_context = 0;  ///< tokens; 0: not known
  std::vector<text> texts;
  int bos = -1;            ///< token; -1: none
  std::string bos_reason;  ///< who says so
  std::string format;      ///< of stored states
  std::string products;    ///< exact or fast
  int chunk = 1;           ///< tokens read together
  int threads = 1;
  std::string simd_target;
  bool extrapolation = false;  ///< windows are longer than the trained context
  double full_bytes_per_token = 0;
  std::vector<std::string> notes;
  const text_sample* sample = nullptr;  ///< must outlive the writing
  std::vector<run_result> results;      ///< full first, then by budget
  comparison outcome;
  bool interrupted = false;  ///< in whatever it did
  ranking statistics;        ///< its pairs are of `results`

  // What other runs gave, as it stands in the JSON; null or empty: not asked for.
  report_json recall, prompt_modes = report_json::array(), free_run, agreement = report_json::array(), time;
  std::string other_path;  ///< of the JSON that another build wrote
  report_json other;       ///< that JSON; null: none
};

/// A budget as JSON says it: null keeps everything.
report_json budget_json(std::optional<int> budget);

/// Mean share of right answers over the recall cells that apply to a policy: one fact, the question last. Null: none.
report_json mean_recall(const report_json& recall, std::string_view policy, std::optional<int> budget,
                        std::string_view mode);

/// What has to be known about numbers from so much text, and of what they speak.
std::vector<std::string> sample_notes(const report& r);

/// What opens the windows, and what was done with the BOS that texts have themselves.
std::string bos_rule(const report& r);

report_json to_json(const report& r);

/// The entries' figures of to_json(), one line each; nothing where not measured.
std::string to_csv(const report_json& report);

/// The commit that the program was built from; empty where the build did not say.
std::string_view built_from() noexcept;

}  // namespace multistate::tools
