#include <tools/runs/opened_model.hpp>

#include <fmt/format.h>

#include <system_error>
#include <utility>

#include <multistate/io/model_file.hpp>
#include <multistate/io/any_tokenizer.hpp>
#include <tools/terminal/console.hpp>
#include <tools/terminal/flags.hpp>

namespace multistate::tools {

std::vector<int> opened_model::encode(std::string_view text) const {
  if (!words) throw usage_error(no_words);
  std::vector<int> tokens = value_or_usage(words->encode(text));
  for (const int token : tokens)
    if (token >= weights.config.vocab)
      throw usage_error(fmt::format("the tokenizer gives the id {}, and the model has a vocabulary of {}", token,
                                    weights.config.vocab));
  return tokens;
}

opened_model open_model(const std::string& path, const std::string& tokenizer_path, const std::string& bos) {
  opened_model m{value_or_usage(load_model(path)), {}, {}, {}};
  int& opens = m.weights.config.bos;
  const int stated = opens, vocab = m.weights.config.vocab;
  auto words = tokenizer_path.empty() ? find_tokenizer(path, vocab) : open_tokenizer(tokenizer_path, vocab);
  if (words) {
    m.words = std::move(*words);
    const bool adds = !m.words->opens().empty();
    opens = adds ? m.words->bos() : -1;
    m.bos_rule = adds ? "the tokenizer adds it" : "the tokenizer adds none";
  } else if (!tokenizer_path.empty()) {
    throw usage_error(std::string(words.reason().message()));
  } else {
    m.no_words = words.reason().message();
    m.bos_rule = opens >= 0 ? "the model's config names it" : "the model's config names none";
  }
  if (bos == "yes") {
    if (opens < 0) opens = m.words && m.words->bos() >= 0 ? m.words->bos() : stated;
    if (opens < 0) throw usage_error("--bos yes: neither the tokenizer nor the model's config has a BOS");
    m.bos_rule = "--bos yes";
  } else if (bos == "no") {
    opens = -1;
    m.bos_rule = "--bos no";
  }
  if (opens >= vocab) throw usage_error(fmt::format("BOS is {}, and the model has a vocabulary of {}", opens, vocab));
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
