#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>

#include <string_view>
#include <vector>

#include <multistate/io/loaded_model.hpp>
#include <multistate/model/config.hpp>
#include <multistate/tokenizer/tokenizer.hpp>

namespace multistate::tools {

/// A model and what turns text into its tokens; the tokenizer may be missing where text comes as .tokens.
struct opened_model {
  loaded_model weights;
  std::optional<tokenizer> words;
  std::string no_words;  ///< why there is no tokenizer
  std::string bos_rule;  ///< whether BOS opens a text, and who says so

  /// The ids of a text, without BOS. What can't be tokenized, or gives ids that the model has no embedding of, ends the
  /// program.
  std::vector<int> encode(std::string_view text) const;
};

/// Reads both; the tokenizer lies beside the model where `tokenizer_path` is empty. `bos` says whether BOS opens each
/// text: yes, no, or auto, what the tokenizer does by itself (the model's config where there is no tokenizer);
/// config.bos of what comes back is -1 where it does not. Errors end the program.
opened_model open_model(const std::string& path, const std::string& tokenizer_path, const std::string& bos = "auto");

/// Where the demo model and text lie, beside an installed program or in the source tree; empty where there are none.
std::filesystem::path data_folder();
/// The demo's file for "--model" or "--text". Ends the program where there is none.
std::filesystem::path demo(const std::string& flag);

/// Numbers in one layer's matrices: multiplications a token.
std::size_t layer_floats(const model_config& c) noexcept;

}  // namespace multistate::tools
