#pragma once

#include <array>
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

namespace detail {

/// A matrix of a layer: [out][in], and its members.
struct layer_matrix {
  std::string_view name;
  std::vector<float> layer_weights::*floats;
  matrix_view layer_view::*view;
  std::size_t out, in;
};
constexpr std::array<layer_matrix, 7> layer_matrices(const model_config& c) noexcept {
  using w = layer_weights;
  using v = layer_view;
  const std::size_t hidden = to_size(c.hidden), ffn = to_size(c.ffn), d = to_size(c.head_dim), q = to_size(c.heads) * d,
                    kv = to_size(c.kv_heads) * d;
  return {{{"q", &w::q, &v::q, q, hidden},
           {"k", &w::k, &v::k, kv, hidden},
           {"v", &w::v, &v::v, kv, hidden},
           {"o", &w::o, &v::o, hidden, q},
           {"gate", &w::gate, &v::gate, ffn, hidden},
           {"up", &w::up, &v::up, ffn, hidden},
           {"down", &w::down, &v::down, hidden, ffn}}};
}

/// A norm or bias of a layer: [size], and its members.
struct layer_vector {
  std::string_view name;
  std::vector<float> layer_weights::*floats;
  const float* layer_view::*view;
  std::size_t size;
  bool needed = false;  ///< by the config
};
constexpr std::array<layer_vector, 13> layer_vectors(const model_config& c) noexcept {
  using w = layer_weights;
  using v = layer_view;
  const std::size_t hidden = to_size(c.hidden), ffn = to_size(c.ffn), d = to_size(c.head_dim), q = to_size(c.heads) * d,
                    kv = to_size(c.kv_heads) * d;
  const bool normed = c.qk_norm != query_norm::none, head = c.qk_norm == query_norm::head;
  return {{{"attention norm", &w::attention_norm, &v::attention_norm, hidden},
           {"attention post norm", &w::attention_post_norm, &v::attention_post_norm, hidden},
           {"ffn norm", &w::ffn_norm, &v::ffn_norm, hidden},
           {"ffn post norm", &w::ffn_post_norm, &v::ffn_post_norm, hidden},
           {"q bias", &w::q_bias, &v::q_bias, q},
           {"k bias", &w::k_bias, &v::k_bias, kv},
           {"v bias", &w::v_bias, &v::v_bias, kv},
           {"o bias", &w::o_bias, &v::o_bias, hidden},
           {"gate bias", &w::gate_bias, &v::gate_bias, ffn},
           {"up bias", &w::up_bias, &v::up_bias, ffn},
           {"down bias", &w::down_bias, &v::down_bias, hidden},
           {"q norm", &w::q_norm, &v::q_norm, head ? d : q, normed},
           {"k norm", &w::k_norm, &v::k_norm, head ? d : kv, normed}}};
}

}  // namespace detail

/// Errors: sizes that do not fit each other.
inline error check(const model_config& c) noexcept {
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
  return {};
}

/// Errors: sizes that do not fit the config.
inline error check(const model_weights& w) noexcept {
  using namespace std::string_view_literals;
  const model_config& c = w.config;
  if (error e = check(c)) return e;
  if (w.layers.size() != to_size(c.layers))
    return error(errc::bad_shape, "model: needs ", c.layers, " layers; got ", w.layers.size());
  error bad;
  const auto sized = [&bad](const std::vector<float>& x, std::string_view name, std::size_t rows, std::size_t columns) {
    if (x.size() != rows * columns && !bad)
      bad = error(errc::bad_shape, "model: ", name, " needs ", rows, " x ", columns, " floats; got ", x.size());
  };
  sized(w.embedding, "embedding"sv, to_size(c.vocab), to_size(c.hidden));
  sized(w.final_norm, "final norm"sv, 1, to_size(c.hidden));
  sized(w.output_matrix(), "head"sv, to_size(c.vocab), to_size(c.hidden));
  for (const layer_weights& l : w.layers) {
    for (const auto& m : detail::layer_matrices(c)) sized(l.*m.floats, m.name, m.out, m.in);
    for (const auto& v : detail::layer_vectors(c))
      if (v.needed || !(l.*v.floats).empty()) sized(l.*v.floats, v.name, 1, v.size);
  }
  return bad;
}

/// Precondition: check(w). The weights have to outlive it.
inline model_view view_of(const model_weights& w) {
  const auto floats = [](const std::vector<float>& x) {
    return matrix_view{reinterpret_cast<const std::byte*>(x.data()), weight_format::f32};
  };
  model_view m{w.config, floats(w.embedding), {}, w.final_norm.data(), floats(w.output_matrix())};
  for (const layer_weights& from : w.layers) {
    layer_view& to = m.layers.emplace_back();
    for (const auto& x : detail::layer_matrices(w.config)) to.*x.view = floats(from.*x.floats);
    for (const auto& x : detail::layer_vectors(w.config))
      if (!(from.*x.floats).empty()) to.*x.view = (from.*x.floats).data();
  }
  return m;
}

/// All weights of a model as floats, whatever their formats.
inline model_weights floats_of(const model_view& m) {
  const model_config& c = m.config;
  const auto floats = [](const matrix_view& from, std::size_t out, std::size_t in) {
    std::vector<float> all(out * in);
    for (std::size_t o = 0; o < out; ++o)
      load_row(from.format, all.data() + o * in, from.rows + o * row_bytes(from.format, in), in);
    return all;
  };
  const std::size_t vocab = to_size(c.vocab), hidden = to_size(c.hidden);
  model_weights w{c, floats(m.embedding, vocab, hidden), {}, {m.final_norm, m.final_norm + hidden}, {}};
  if (!c.tied) w.head = floats(m.head, vocab, hidden);
  for (const layer_view& from : m.layers) {
    layer_weights& to = w.layers.emplace_back();
    for (const auto& x : detail::layer_matrices(c)) to.*x.floats = floats(from.*x.view, x.out, x.in);
    for (const auto& x : detail::layer_vectors(c))
      if (from.*x.view != nullptr) (to.*x.floats).assign(from.*x.view, from.*x.view + x.size);
  }
  return w;
}

}  // namespace multistate
