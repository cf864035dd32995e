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

/// Vectors as in layer_weights; null: the model has none.
struct layer_view {
  const float* attention_norm = nullptr;
  matrix_view q, k, v, o;
  const float* ffn_norm = nullptr;
  matrix_view gate, up, down;
  const float *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr, *o_bias = nullptr;
  const float *gate_bias = nullptr, *up_bias = nullptr, *down_bias = nullptr;
  const float *q_norm = nullptr, *k_norm = nullptr;
  const float *attention_post_norm = nullptr, *ffn_post_norm = nullptr;
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
  if (!c.own.empty() && c.own.size() != to_size(c.layers))
    return error(errc::bad_shape, "model: needs what is a layer's own for ", c.layers, " layers; got ", c.own.size());
  for (const layer_attention& own : c.own)
    if (own.rope.dim != c.rope.dim)
      return error(errc::bad_shape, "model: all layers must turn ", c.rope.dim, " elements of a head; one turns ",
                   own.rope.dim);
  if (w.layers.size() != to_size(c.layers))
    return error(errc::bad_shape, "model: needs ", c.layers, " layers; got ", w.layers.size());
  error bad;
  const auto sized = [&bad](const std::vector<float>& x, std::string_view name, std::size_t rows, std::size_t columns) {
    if (x.size() != rows * columns && !bad)
      bad = error(errc::bad_shape, "model: ", name, " needs ", rows, " x ", columns, " floats; got ", x.size());
  };
  const auto may_be = [&](const std::vector<float>& x, std::string_view name, std::size_t size) {
    if (!x.empty()) sized(x, name, 1, size);
  };
  const std::size_t h = to_size(c.hidden), ffn = to_size(c.ffn), d = to_size(c.head_dim),
                    q = to_size(c.heads) * to_size(c.head_dim), kv = to_size(c.kv_heads) * to_size(c.head_dim);
  sized(w.embedding, "embedding"sv, to_size(c.vocab), h);
  sized(w.final_norm, "final norm"sv, 1, h);
  sized(w.output_matrix(), "head"sv, to_size(c.vocab), h);
  for (const layer_weights& l : w.layers) {
    may_be(l.attention_norm, "attention norm"sv, h);
    may_be(l.attention_post_norm, "attention post norm"sv, h);
    sized(l.q, "q"sv, q, h);
    sized(l.k, "k"sv, kv, h);
    sized(l.v, "v"sv, kv, h);
    sized(l.o, "o"sv, h, q);
    may_be(l.ffn_norm, "ffn norm"sv, h);
    may_be(l.ffn_post_norm, "ffn post norm"sv, h);
    sized(l.gate, "gate"sv, ffn, h);
    sized(l.up, "up"sv, ffn, h);
    sized(l.down, "down"sv, h, ffn);
    may_be(l.q_bias, "q bias"sv, q);
    may_be(l.k_bias, "k bias"sv, kv);
    may_be(l.v_bias, "v bias"sv, kv);
    may_be(l.o_bias, "o bias"sv, h);
    may_be(l.gate_bias, "gate bias"sv, ffn);
    may_be(l.up_bias, "up bias"sv, ffn);
    may_be(l.down_bias, "down bias"sv, h);
    if (c.qk_norm == query_norm::none) continue;
    sized(l.q_norm, "q norm"sv, 1, c.qk_norm == query_norm::head ? d : q);
    sized(l.k_norm, "k norm"sv, 1, c.qk_norm == query_norm::head ? d : kv);
  }
  return bad;
}

namespace detail {

/// Norms and biases of a layer; its matrices are for others.
inline layer_view vectors_of(const layer_weights& l) noexcept {
  const auto floats = [](const std::vector<float>& x) { return x.empty() ? nullptr : x.data(); };
  layer_view v;
  v.attention_norm = floats(l.attention_norm);
  v.ffn_norm = floats(l.ffn_norm);
  v.q_bias = floats(l.q_bias);
  v.k_bias = floats(l.k_bias);
  v.v_bias = floats(l.v_bias);
  v.o_bias = floats(l.o_bias);
  v.gate_bias = floats(l.gate_bias);
  v.up_bias = floats(l.up_bias);
  v.down_bias = floats(l.down_bias);
  v.q_norm = floats(l.q_norm);
  v.k_norm = floats(l.k_norm);
  v.attention_post_norm = floats(l.attention_post_norm);
  v.ffn_post_norm = floats(l.ffn_post_norm);
  return v;
}

}  // namespace detail

/// Precondition: check(w).
inline model_view view_of(const model_weights& w) {
  const auto floats = [](const std::vector<float>& x) {
    return matrix_view{reinterpret_cast<const std::byte*>(x.data()), weight_format::f32};
  };
  model_view m{w.config, floats(w.embedding), {}, w.final_norm.data(), floats(w.output_matrix())};
  for (const layer_weights& l : w.layers) {
    layer_view& v = m.layers.emplace_back(detail::vectors_of(l));
    v.q = floats(l.q);
    v.k = floats(l.k);
    v.v = floats(l.v);
    v.o = floats(l.o);
    v.gate = floats(l.gate);
    v.up = floats(l.up);
    v.down = floats(l.down);
  }
  return m;
}

}  // namespace multistate
