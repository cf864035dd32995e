#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>

#include <multistate/model/config.hpp>
#include <multistate/model/tokenizer.hpp>
#include <multistate/model/weights.hpp>

namespace multistate::tools {

/// A model and what turns text into its tokens; the tokenizer may be missing where text comes as .tokens.
struct opened_model {
  model_weights weights;
  std::optional<tokenizer> words;
  std::string no_words;  ///< why there is no tokenizer
};

/// Reads both; the tokenizer lies beside the model where `tokenizer_path` is empty. Errors end the program.
opened_model open_model(const std::string& path, const std::string& tokenizer_path);

/// Where the demo model and text lie, beside an installed program or in the source tree; empty where there are none.
std::filesystem::path data_folder();
/// The demo's file for "--model" or "--text". Ends the program where there is none.
std::filesystem::path demo(const std::string& flag);

/// Numbers in one layer's matrices: multiplications a token.
std::size_t layer_floats(const model_config& c) noexcept;

}  // namespace multistate::tools
