#include <tools/runs/opened_model.hpp>

#include <system_error>
#include <utility>

#include <multistate/io/model_file.hpp>
#include <multistate/io/tokenizer_file.hpp>
#include <tools/terminal/console.hpp>
#include <tools/terminal/flags.hpp>

namespace multistate::tools {

opened_model open_model(const std::string& path, const std::string& tokenizer_path) {
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

std::filesystem::path data_folder() {
  std::error_code code;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", code);
  if (!code) {
    auto installed = (program.parent_path() / MULTISTATE_INSTALL_DATA_DIR).lexically_normal();
    if (std::filesystem::is_directory(installed / "demo_model", code)) return installed;
  }
  if (std::filesystem::is_directory(std::filesystem::path(MULTISTATE_BUILD_DATA_DIR) / "demo_model", code))
    return MULTISTATE_BUILD_DATA_DIR;
  return {};
}

std::filesystem::path demo(const std::string& flag) {
  const auto folder = data_folder();
  if (folder.empty())
    throw usage_error(flag +
                      " is needed: the demo model and text are neither beside this program nor in its source tree");
  return folder / (flag == "--model" ? "demo_model" : "story.txt");
}

std::size_t layer_floats(const model_config& c) noexcept {
  return to_size(c.hidden) * (2 * to_size(c.heads) * to_size(c.head_dim) +
                              2 * to_size(c.kv_heads) * to_size(c.head_dim) + 3 * to_size(c.ffn));
}

}  // namespace multistate::tools
