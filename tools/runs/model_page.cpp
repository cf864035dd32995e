#include <tools/runs/model_page.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include <multistate/io/printable.hpp>
#include <tools/engine/engine.hpp>

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

}  // namespace

std::string page_of_model(const std::string& path, const opened_model& model) {
  const model_config& c = model.weights.config;
  const double in_matrices =
      static_cast<double>(layer_floats(c)) * c.layers + static_cast<double>(c.vocab) * c.hidden * (c.tied ? 1.0 : 2.0);
  std::string lines = fmt::format("{}\n", detail::printable(path));
  lines += fmt::format("  {} layers of {} numbers, {} query heads and {} KV heads of {}, {} tokens\n", c.layers,
                       c.hidden, c.heads, c.kv_heads, c.head_dim, c.vocab);
  lines += fmt::format("  {:.1f} million weights; {}\n", in_matrices / 1e6,
                       c.tied ? "the output matrix is the embedding" : "an output matrix of its own");
  lines += kinds_of_layers(c);
  lines += c.context > 0 ? fmt::format("  trained for {} tokens\n", c.context) : "  trained context unknown\n";
  lines += model.words ? fmt::format("  tokenizer of {} pieces\n", model.words->vocab())
                       : fmt::format("  no tokenizer: {}\n", model.no_words);
  lines += c.bos >= 0 ? fmt::format("  every sequence begins with token {}\n", c.bos)
                      : "  no token is put before a sequence\n";
  const bool windows = std::any_of(c.own.begin(), c.own.end(), [](const auto& own) { return own.window > 0; });
  const double all = c.context > 0 ? c.context : 4096;
  lines += fmt::format("  memory in f32: {:.0f} bytes a token; {:.1f} MB for {:.0f} tokens, {:.1f} MB under tova:512\n",
                       state_bytes(c, 1), state_bytes(c, all) / 1e6, all, state_bytes(c, 512) / 1e6);
  if (windows) lines += "  policies act on the layers that see all tokens; the others keep what their window shows\n";
  for (const std::string& note : model.weights.notes) lines += "  note: " + note + "\n";
  return lines;
}

}  // namespace multistate::tools
