#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include <multistate/format/formats.hpp>
#include <multistate/model/weights.hpp>
#include <multistate/types/error.hpp>
#include <multistate/types/shape.hpp>

namespace multistate {

/// A matrix [out][in], its vectors of `in` one after another in the format's layout: row_bytes(format, in) each.
struct matrix_view {
  const std::byte* rows = nullptr;
  weight_format format = weight_format::f32;
};

struct layer_view {
  const float* attention_norm = nullptr;
  matrix_view q, k, v, o;
  const float* ffn_norm = nullptr;
  matrix_view gate, up, down;
};

/// A model as the decoder reads it; the memory is somebody else's.
struct model_view {
  model_config config;
  matrix_view embedding;
  std::vector<layer_view> layers;
  const float* final_norm = nullptr;
  matrix_view head;
};

/// Errors: sizes that do not fit the config.
inline error check(const model_weights& w) noexcept {
  using namespace std::string_view_literals;
  const model_config& c = w.config;
  for (const int n : {c.layers, c.hidden, c.heads, c.kv_heads, c.head_dim, c.ffn, c.vocab})
    if (n < 1 || n > max_tokens) return error(errc::bad_shape, "model: every size must be 1 to 2^28; one is ", n);
  if (c.heads % c.kv_heads != 0 || c.rope.dim > c.head_dim)
    return error(errc::bad_shape, "model: needs kv_heads dividing heads and rope.dim <= head_dim; got heads=", c.heads,
                 ", kv_heads=", c.kv_heads, ", rope.dim=", c.rope.dim, ", head_dim=", c.head_dim);
  if (w.layers.size() != to_size(c.layers))
    return error(errc::bad_shape, "model: needs ", c.layers, " layers; got ", w.layers.size());
  error bad;
  const auto sized = [&bad](const std::vector<float>& x, std::string_view name, std::size_t rows, std::size_t columns) {
    if (x.size() != rows * columns && !bad)
      bad = error(errc::bad_shape, "model: ", name, " needs ", rows, " x ", columns, " floats; got ", x.size());
  };
  const std::size_t h = to_size(c.hidden), q = to_size(c.heads) * to_size(c.head_dim),
                    kv = to_size(c.kv_heads) * to_size(c.head_dim);
  sized(w.embedding, "embedding"sv, to_size(c.vocab), h);
  sized(w.final_norm, "final norm"sv, 1, h);
  sized(w.output_matrix(), "head"sv, to_size(c.vocab), h);
  for (const layer_weights& l : w.layers) {
    sized(l.attention_norm, "attention norm"sv, 1, h);
    sized(l.q, "q"sv, q, h);
    sized(l.k, "k"sv, kv, h);
    sized(l.v, "v"sv, kv, h);
    sized(l.o, "o"sv, h, q);
    sized(l.ffn_norm, "ffn norm"sv, 1, h);
    sized(l.gate, "gate"sv, to_size(c.ffn), h);
    sized(l.up, "up"sv, to_size(c.ffn), h);
    sized(l.down, "down"sv, h, to_size(c.ffn));
  }
  return bad;
}

/// Precondition: check(w).
inline model_view view_of(const model_weights& w) {
  const auto floats = [](const std::vector<float>& x) {
    return matrix_view{reinterpret_cast<const std::byte*>(x.data()), weight_format::f32};
  };
  model_view m{w.config, floats(w.embedding), {}, w.final_norm.data(), floats(w.output_matrix())};
  for (const layer_weights& l : w.layers)
    m.layers.push_back({l.attention_norm.data(), floats(l.q), floats(l.k), floats(l.v), floats(l.o), l.ffn_norm.data(),
                        floats(l.gate), floats(l.up), floats(l.down)});
  return m;
}

}  // namespace multistate
