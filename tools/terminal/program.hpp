#pragma once

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <multistate/util/openmp.hpp>
#include <multistate/io/model_file.hpp>
#include <multistate/io/tokenizer_file.hpp>
#include <multistate/model/config.hpp>
#include <tools/terminal/command_line.hpp>
#include <tools/terminal/outputs.hpp>

/// What the programs have in common.
namespace multistate::tools {

#if defined(_OPENMP)
using tool_executor = openmp;
inline tool_executor make_executor(int threads) { return {threads}; }
inline int default_threads() { return omp_get_max_threads(); }
#else
using tool_executor = serial;
inline tool_executor make_executor(int) { return {}; }
inline int default_threads() { return 1; }
#endif

/// "" is the default number. More than one needs OpenMP.
inline int threads_of(std::string_view text) {
  constexpr int most = 1024;
  if (text.empty()) return std::min(most, default_threads());
  const int threads = whole_number("--threads", text, 1, most);
  if (std::is_same_v<tool_executor, serial> && threads > 1)
    throw usage_error("--threads must be 1: this program was built without OpenMP");
  return threads;
}

/// A model and what turns text into its tokens; the tokenizer may be missing where text comes as .tokens.
struct opened_model {
  model_weights weights;
  std::optional<tokenizer> words;
  std::string no_words;  ///< why there is no tokenizer
};

inline opened_model open_model(const std::string& path, const std::string& tokenizer_path) {
  opened_model m{value_or_usage(load_model(path)), {}, {}};
  const int vocab = m.weights.config.vocab;
  auto words = tokenizer_path.empty() ? find_tokenizer_beside(path, vocab) : load_tokenizer(tokenizer_path, vocab);
  if (words) {
    m.words = std::move(*words);
    if (m.weights.config.bos >= 0) m.weights.config.bos = m.words->bos();  // the one that its texts begin with
  } else if (!tokenizer_path.empty()) {
    throw usage_error(std::string(words.reason().message()));
  } else {
    m.no_words = words.reason().message();
  }
  return m;
}

/// The demo model and text, for whoever names none.
inline std::filesystem::path demo(std::string_view flag) {
  const auto folder = data_folder();
  if (folder.empty())
    throw usage_error(std::string(flag) +
                      " is needed: the demo model and text are neither beside this program nor in its source tree");
  return folder / (flag == "--model" ? "demo_model" : "story.txt");
}

/// Weights of one layer's matrices: multiplications a token.
inline std::size_t layer_floats(const model_config& c) noexcept {
  return to_size(c.hidden) * (2 * to_size(c.heads) * to_size(c.head_dim) +
                              2 * to_size(c.kv_heads) * to_size(c.head_dim) + 3 * to_size(c.ffn));
}

}  // namespace multistate::tools
