#pragma once

#include <string>

#include <tools/runs/opened_model.hpp>

namespace multistate::tools {

/// What a person wants to know of a model, a line each: sizes, layers and their kinds, angles, tokenizer, BOS, context,
/// memory; and what its files say twice or for nothing.
std::string page_of_model(const std::string& path, const opened_model& model);

}  // namespace multistate::tools
