#include <tools/report/policy_names.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include <multistate/io/file.hpp>
#include <tools/report/svg.hpp>

namespace multistate::tools {

namespace {

constexpr std::array<policy_words, 13> known_words{{
    {"full", false, "Keeps everything: the unbounded cache.", "", ""},
    {"window", false, "Keeps the newest k.", "", ""},
    {"window", true, "Keeps the first N, the sinks, and the newest k - N.", "StreamingLLM", "2309.17453"},
    {"h2o", false, "Keeps the newest half, and of the others those that got the most attention so far.", "H2O",
     "2306.14048"},
    {"tova", false, "Drops whichever state the current query attends least.", "TOVA", "2401.06104"},
    {"knorm", false, "Keeps those with the smallest keys.", "", ""},
    {"keydiff", false, "Keeps those whose keys are unlike the others.", "KeyDiff", "2504.15364"},
    {"lagkv", false, "Keeps those that stand out in the range of what follows them.", "LagKV", "2504.04704"},
    {"expected", false, "Keeps those that queries to come are expected to attend.", "ExpectedAttention", "2510.00636"},
    {"rkv", false, "Keeps those that the newest queries attend and that are like no other.", "R-KV", "2505.24133"},
    {"random", false, "Drops any: the baseline.", "", ""},
    {"oracle", false, "Knows which states later queries will attend: no policy, but what choosing could gain.", "", ""},
    {"short", false, "Has no memory: each query anew on the newest k tokens.", "", ""},
}};

/// Names by their style. Entries beside the policies have none: they are grey.
constexpr std::array<std::string_view, 12> known_styles{"window",          "window+4", "window+4@incache", "h2o",
                                                        "h2o,scope=layer", "tova",     "tova,scope=head",  "knorm",
                                                        "window+4@log",    "window+1", "tova@incache",     "tova@log"};

}  // namespace

std::string_view base_name(std::string_view policy) noexcept {
  return policy.substr(0, std::min(policy.find_first_of("+,@:"), policy.size()));
}

entry_role role_of(std::string_view policy) noexcept {
  const std::string_view base = base_name(policy);
  if (base == "full") return entry_role::full;
  if (base == "random") return entry_role::random;
  if (base == "oracle") return entry_role::oracle;
  if (base == "short") return entry_role::short_context;
  return entry_role::policy;
}

const policy_words* words_of(std::string_view policy) noexcept {
  const std::string_view base = base_name(policy);
  const bool sinks = policy.substr(base.size()).starts_with('+');
  const policy_words* found = nullptr;
  for (const policy_words& words : known_words)
    if (words.base == base && (found == nullptr || words.sinks == sinks)) found = &words;
  return found;
}

int style_of(std::string_view policy) noexcept {
  if (is_reference(policy)) return 0;
  const auto known = std::find(known_styles.begin(), known_styles.end(), policy);
  if (known != known_styles.end()) return static_cast<int>(known - known_styles.begin());
  constexpr std::size_t first = known_styles.size(), free = plot_styles - first;
  return static_cast<int>(first + hash_bytes(std::as_bytes(std::span(policy))) % free);
}

}  // namespace multistate::tools
