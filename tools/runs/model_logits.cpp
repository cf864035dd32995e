#include <tools/runs/model_logits.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <multistate/io/gguf.hpp>
#include <multistate/io/model_file.hpp>
#include <multistate/io/safetensors.hpp>
#include <multistate/io/text_file.hpp>
#include <multistate/model/setup_for.hpp>
#include <tools/engine/engine.hpp>
#include <tools/terminal/console.hpp>
#include <tools/terminal/flags.hpp>

namespace multistate::tools {

namespace {

/// The files of a folder that may hold a tensor, or the one file.
std::vector<std::filesystem::path> tensor_files(const std::filesystem::path& model) {
  std::error_code code;
  if (!std::filesystem::is_directory(model, code)) return {model};
  std::vector<std::filesystem::path> files;
  for (std::filesystem::directory_iterator at(model, code), end; !code && at != end; at.increment(code))
    if (at->path().extension() == ".safetensors") files.push_back(at->path());
  std::sort(files.begin(), files.end());
  // Where there is one model.safetensors or an index, other files are no part of the model.
  const auto one = model / "model.safetensors";
  if (std::filesystem::exists(one, code)) return {one};
  return files;
}

bool is_gguf(const std::filesystem::path& path) {
  const auto file = value_or_usage(file_bytes::open(path));
  return path.extension() == ".gguf" || detail::is_gguf(file.bytes());
}

}  // namespace

void write_logits(const logits_request& request) {
  loaded_model weights = value_or_usage(load_model(request.model));
  const std::vector<int> tokens = value_or_usage(read_tokens(request.tokens, weights.config.vocab));
  if (tokens.empty()) throw usage_error(request.tokens + ": has no tokens, must have at least one");
  constexpr int chunk = 64;
  const auto count = static_cast<std::int64_t>(tokens.size()) + request.greedy;
  if (count > max_tokens) throw usage_error("--logits: too many tokens in all, must be at most 2^28");
  const int most = static_cast<int>(count);
  if (request.context != 0 && request.context < most)
    throw usage_error("--context " + std::to_string(request.context) + " is less than the " + std::to_string(most) +
                      " tokens of this session");
  weights.config.state_session(request.context != 0 ? request.context : most);

  tool_executor exec(tool_executor::most_useful());
  any_decoder decoder = value_or_usage(any_decoder::make(weights, chunk, exec, product_mode::exact));
  sequence_memory memory = value_or_usage(make_memory(weight_format::f32, policy_handle(full{.budget = most}),
                                                      setup_for(weights.config, {.chunk = chunk})));
  const std::size_t vocab = to_size(weights.config.vocab);
  std::vector<float> logits(tokens.size() * vocab);
  if (const error e = decoder.prompt(memory, tokens, prompt_mode::chunked, chunk, logit_rows::all, logits.data()))
    throw usage_error(std::string(e.message()));

  std::vector<std::int32_t> greedy;
  std::vector<float> last(logits.end() - static_cast<std::ptrdiff_t>(vocab), logits.end());
  while (static_cast<int>(greedy.size()) < request.greedy) {
    const int next = static_cast<int>(std::max_element(last.begin(), last.end()) - last.begin());
    greedy.push_back(next);
    batch_item item{&memory, {&next, 1}};
    item.want = logit_rows::last;
    item.logits = last.data();
    if (const error e = decoder.forward({&item, 1})) throw usage_error(std::string(e.message()));
  }
  std::vector<named_tensor> tensors = {{"logits", {tokens.size(), vocab}, std::span<const float>(logits)}};
  if (request.greedy > 0) tensors.push_back({"greedy", {greedy.size()}, std::span<const std::int32_t>(greedy)});
  value_or_usage(write_safetensors(request.out, tensors));
}

void write_tensor(const std::string& model, const std::string& name, const std::string& out) {
  std::vector<float> values;
  std::vector<std::size_t> shape;
  bool found = false;
  for (const auto& path : tensor_files(model)) {
    if (is_gguf(path)) {
      const gguf file = value_or_usage(gguf::open(path));
      const gguf_tensor* t = file.find_tensor(name);
      if (t == nullptr) continue;
      values = gguf::floats(*t);
      shape = t->shape;
    } else {
      const safetensors file = value_or_usage(safetensors::open(path));
      const tensor_info* t = file.find(name);
      if (t == nullptr) continue;
      values = value_or_usage(file.floats(name));
      shape = t->shape;
    }
    found = true;
    break;
  }
  if (!found) throw usage_error(detail::printable(model) + ": has no tensor " + detail::shown(std::string_view(name)));
  const std::array tensors = {named_tensor{"value", shape, std::span<const float>(values)}};
  value_or_usage(write_safetensors(out, tensors));
}

}  // namespace multistate::tools
