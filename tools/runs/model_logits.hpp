#pragma once

#include <string>

namespace multistate::tools {

/// What `inspect` computes of a model. `tokens`: a .tokens file; `greedy`: tokens that follow, 0: none; `context`: the
/// most tokens that the session is said to have, 0: those of the file and the greedy ones.
struct logits_request {
  std::string model, tokens, out;
  int greedy = 0, context = 0;
};

/// Writes the tensors `logits` F32 [T, vocab] and, where asked for, `greedy` I32 [N], from an empty memory and without
/// BOS. Errors end the program.
void write_logits(const logits_request& request);

/// Writes the tensor `value` F32: the numbers of the tensor `name` in a GGUF or .safetensors file, or a folder of
/// these, which need hold no whole model. Errors end the program.
void write_tensor(const std::string& model, const std::string& name, const std::string& out);

}  // namespace multistate::tools
