#include <tools/runs/model_page.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <multistate/io/chat_template.hpp>
#include <multistate/io/gguf.hpp>
#include <multistate/io/printable.hpp>
#include <multistate/tokenizer/chat.hpp>
#include <tools/engine/engine.hpp>
#include <tools/terminal/console.hpp>
#include <tools/terminal/flags.hpp>

namespace multistate::tools {

namespace {

std::string_view name_of(rope_scaling scaling) noexcept {
  switch (scaling) {
    case rope_scaling::linear:
      return "linear";
    case rope_scaling::llama3:
      return "llama3";
    case rope_scaling::dynamic:
      return "dynamic";
    case rope_scaling::yarn:
      return "yarn";
    case rope_scaling::divided:
      return "divided frequency by frequency";
    case rope_scaling::still:
    case rope_scaling::none:
      break;
  }
  return "not stretched";
}

/// "base 10000, not stretched"
std::string angles(const rope_config& rope, int head_dim) {
  if (rope.scaling == rope_scaling::still) return "without rotary angles";
  std::string text = fmt::format("rotary base {}, {}", rope.theta, name_of(rope.scaling));
  if (rope.factor > 1.0) text += fmt::format(" {} times", rope.factor);
  if (rope.dim < head_dim) text += fmt::format(", {} of {} numbers of a head turned", rope.dim, head_dim);
  return text;
}

/// The kinds of layers, with how many there are of each.
std::string kinds_of_layers(const model_config& c) {
  std::string lines;
  for (int layer = 0; layer < c.layers; ++layer) {
    const layer_attention mine{c.window_of(layer), c.rope_of(layer)};
    int count = 0;
    bool first = true;
    for (int other = 0; other < c.layers; ++other) {
      if (!(layer_attention{c.window_of(other), c.rope_of(other)} == mine)) continue;
      first = first && other >= layer;
      ++count;
    }
    if (!first) continue;
    const std::string seen = mine.window > 0 ? fmt::format("see the newest {} tokens", mine.window) : "see all tokens";
    lines += fmt::format("  {} of {} layers {}; {}\n", count, c.layers, seen, angles(mine.rope, c.head_dim));
  }
  return lines;
}

/// Bytes of keys and values with so many tokens in each layer without a window.
double state_bytes(const model_config& c, double tokens) {
  double sum = 0;
  for (int layer = 0; layer < c.layers; ++layer) {
    const int window = c.window_of(layer);
    sum += (window > 0 ? std::min<double>(tokens, window - 1) : tokens) * 8.0 * c.kv_heads * c.head_dim;
  }
  return sum;
}

/// "98.0 MB"; below one, "12.3 kB".
std::string size_text(double bytes) {
  return bytes < 1e6 ? fmt::format("{:.1f} kB", bytes / 1e3) : fmt::format("{:.1f} MB", bytes / 1e6);
}

/// "q4_1 (210 matrices, 66.4 MB), q8_0 (1 matrix, 30.1 MB)", in the order in which they come, the embedding first.
std::string formats_of(const model_view& m) {
  struct sums {
    weight_format format;
    int matrices = 0;
    std::size_t bytes = 0;
  };
  std::vector<sums> all;
  const auto add = [&](const matrix_view& matrix, std::size_t out, std::size_t in) {
    auto at = std::find_if(all.begin(), all.end(), [&](const sums& s) { return s.format == matrix.format; });
    if (at == all.end()) at = all.insert(all.end(), {matrix.format});
    ++at->matrices;
    at->bytes += out * row_bytes(matrix.format, in);
  };
  const std::size_t vocab = to_size(m.config.vocab), hidden = to_size(m.config.hidden);
  add(m.embedding, vocab, hidden);
  if (!m.config.tied) add(m.head, vocab, hidden);
  for (const layer_view& layer : m.layers)
    for (const auto& x : detail::layer_matrices(m.config)) add(layer.*x.view, x.out, x.in);
  std::string text;
  for (const sums& s : all)
    text += fmt::format("{}{} ({} {}, {})", text.empty() ? "" : ", ", name_of(s.format), s.matrices,
                        s.matrices == 1 ? "matrix" : "matrices", size_text(static_cast<double>(s.bytes)));
  return text;
}

/// What a GGUF file calls its tokenizer: ", gpt2 split as smollm"; "" for other files.
std::string kind_of_tokenizer(const std::string& path) {
  std::error_code code;
  if (!std::filesystem::is_regular_file(path, code)) return {};
  const auto bytes = file_bytes::open(path);
  if (!bytes || !detail::is_gguf(bytes->bytes())) return {};
  const gguf file = value_or_usage(gguf::open(path));
  const auto model = file.text("tokenizer.ggml.model"), pre = file.text("tokenizer.ggml.pre");
  std::string text;
  if (model && *model) text += fmt::format(", of kind {}", detail::printable(**model));
  if (pre && *pre && **model != "llama") text += fmt::format(" split as {}", detail::printable(**pre));
  return text;
}

/// How `generate --chat` marks messages, or why it can't.
std::string chat_of(const std::string& path, const opened_model& model) {
  const auto source = find_chat_template(path);
  if (!source) return fmt::format("can't be read: {}", source.reason().message());
  if (source->empty()) return "no template";
  if (!model.words) return "needs a tokenizer";
  const auto made = chat::make(*source, *model.words);
  return made ? std::string(made->format().name) : detail::printable(made.reason().message());
}

/// Sizes of the network, weights and kinds of layers.
std::string shape_of_model(const loaded_model& m) {
  const model_config& c = m.config;
  const double weights =
      static_cast<double>(layer_floats(c)) * c.layers + static_cast<double>(c.vocab) * c.hidden * (c.tied ? 1.0 : 2.0);
  std::string lines = fmt::format("  family {}: {} layers, {} wide, feed-forward {}\n", detail::printable(m.family),
                                  c.layers, c.hidden, c.ffn);
  lines += fmt::format("  attention: {} query heads, {} KV head{}, each of {} numbers\n", c.heads, c.kv_heads,
                       c.kv_heads == 1 ? "" : "s", c.head_dim);
  lines += kinds_of_layers(c);
  lines += fmt::format("  {:.1f} {} weights: {}\n", weights < 1e6 ? weights / 1e3 : weights / 1e6,
                       weights < 1e6 ? "thousand" : "million", formats_of(m));
  return lines + (c.tied ? "  the output matrix is the embedding\n" : "  an output matrix of its own\n");
}

/// States in so many bytes, for the trained context and under a budget.
std::string memory_of_model(const model_config& c) {
  const int all = c.context > 0 ? c.context : 4096, budget = std::clamp(all / 2, 1, 512);
  std::string lines =
      c.context > 0 ? fmt::format("  trained for {} tokens\n", c.context) : "  trained context unknown\n";
  lines += fmt::format(
      "  memory of a sequence: {:.0f} bytes a token with states in f32, half of that in f16\n"
      "    everything kept, {} tokens: {}; under tova:{}, however long: {}\n",
      state_bytes(c, 1), all, size_text(state_bytes(c, all)), budget, size_text(state_bytes(c, budget)));
  if (std::any_of(c.own.begin(), c.own.end(), [](const auto& own) { return own.window > 0; }))
    lines += "    policies act on the layers that see all tokens; the others keep what their window shows\n";
  return lines;
}

}  // namespace

std::string page_of_model(const std::string& path, const opened_model& model) {
  const int bos = model.weights.config.bos;
  std::string lines = fmt::format("{}\n", detail::printable(path)) + shape_of_model(model.weights);
  lines += model.words ? fmt::format("  tokenizer: {} pieces{}\n", model.words->vocab(), kind_of_tokenizer(path))
                       : fmt::format("  no tokenizer: {}\n", model.no_words);
  const std::string spelt = bos >= 0 && model.words ? detail::printable(model.words->spell({&bos, 1})) : "";
  const std::string opens =
      bos < 0 ? "nothing is put before a text"
              : fmt::format("every text begins with token {}{}{}", bos, spelt.empty() ? "" : " ", spelt);
  lines += fmt::format("  BOS: {} ({})\n", opens, model.bos_rule);
  lines += fmt::format("  chat: {}\n", chat_of(path, model));
  lines += memory_of_model(model.weights.config);
  for (const std::string& note : model.weights.notes) lines += "  note: " + note + "\n";
  return lines;
}

}  // namespace multistate::tools
