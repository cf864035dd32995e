// The whole decoder against the transformer's formulas in Eigen's double matrices.

#include <multistate/model/decoder.hpp>
#include <multistate/model/memory.hpp>
#include <multistate/policies.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include <support/eigen.hpp>
#include <unit/model/models.hpp>

namespace {

using namespace multistate;
using support::feed;
using support::furthest;
using support::matrix;
using support::random_ids;
using support::random_model;
using support::u;

/// The transformer from its formulas, in double: every query sees its own position and the `reach[layer]` before it.
std::vector<double> reference(const model_weights& m, const std::vector<int>& ids, const std::vector<int>& reach) {
  const auto mapped = [](const std::vector<float>& w, Eigen::Index rows) -> matrix {
    using stored = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    return Eigen::Map<const stored>(w.data(), rows, static_cast<Eigen::Index>(w.size()) / rows).cast<double>();
  };
  const auto norm = [&](const matrix& x, const std::vector<float>& w) -> matrix {
    matrix y = x;
    for (Eigen::Index t = 0; t < x.rows(); ++t)
      y.row(t) =
          (x.row(t) / std::sqrt(x.row(t).squaredNorm() / static_cast<double>(x.cols()) + double{m.config.norm_eps}))
              .cwiseProduct(mapped(w, 1));
    return y;
  };
  const model_config& c = m.config;
  const Eigen::Index T = static_cast<Eigen::Index>(ids.size()), d = c.head_dim;
  const auto rotated = [&](matrix x) {  // [T][heads * d]
    for (Eigen::Index h = 0; h < x.cols() / d; ++h)
      support::rotate(x.middleCols(h * d, d), c.rope.dim, c.rope.theta, c.rope.pairing == rope_pairing::halves,
                      [](Eigen::Index t) { return static_cast<double>(t); });
    return x;
  };
  matrix x(T, c.hidden);
  const matrix embedding = mapped(m.embedding, c.vocab);
  for (Eigen::Index t = 0; t < T; ++t) x.row(t) = embedding.row(ids[static_cast<std::size_t>(t)]);
  for (int layer = 0; layer < c.layers; ++layer) {
    const layer_weights& w = m.layers[u(layer)];
    const matrix h = norm(x, w.attention_norm);
    const matrix q = rotated(h * mapped(w.q, c.heads * d).transpose());
    const matrix k = rotated(h * mapped(w.k, c.kv_heads * d).transpose());
    const matrix v = h * mapped(w.v, c.kv_heads * d).transpose();
    matrix out = matrix::Zero(T, c.heads * d);
    for (Eigen::Index t = 0; t < T; ++t)
      for (int head = 0; head < c.heads; ++head) {
        const Eigen::Index kv = head / (c.heads / c.kv_heads) * d,
                           begin = std::max<Eigen::Index>(0, t - reach[u(layer)]);
        Eigen::VectorXd a = k.block(begin, kv, t + 1 - begin, d) * q.block(t, head * d, 1, d).transpose() /
                            std::sqrt(static_cast<double>(d));
        a = (a.array() - a.maxCoeff()).exp();
        out.block(t, head * d, 1, d) = (a / a.sum()).transpose() * v.block(begin, kv, t + 1 - begin, d);
      }
    x += out * mapped(w.o, c.hidden).transpose();
    const matrix f = norm(x, w.ffn_norm);
    const matrix gate = f * mapped(w.gate, c.ffn).transpose(), up = f * mapped(w.up, c.ffn).transpose();
    x += (gate.array() / (1.0 + (-gate.array()).exp()) * up.array()).matrix() * mapped(w.down, c.hidden).transpose();
  }
  const matrix logits = norm(x, m.final_norm) * mapped(m.output_matrix(), c.vocab).transpose();
  return {logits.data(), logits.data() + logits.size()};
}

TEST(decoder_against_eigen, sees_all_that_came_before) {
  const std::vector<support::model_sizes> shapes{
      {.layers = 2, .hidden = 32, .heads = 4, .kv_heads = 2, .head_dim = 8, .ffn = 48, .vocab = 40},
      {.layers = 1, .hidden = 37, .heads = 3, .kv_heads = 3, .head_dim = 7, .ffn = 51, .vocab = 29, .tied = true},
      {.layers = 3,
       .hidden = 20,
       .heads = 5,
       .kv_heads = 1,
       .head_dim = 6,
       .ffn = 17,
       .vocab = 101,
       .pairing = rope_pairing::adjacent},
      {.layers = 2, .hidden = 1, .heads = 1, .kv_heads = 1, .head_dim = 2, .ffn = 1, .vocab = 2, .tied = true}};
  for (const auto& s : shapes) {
    const model_weights m = random_model(s);
    const std::vector<int> ids = random_ids(25, s.vocab);
    const auto expected = reference(m, ids, std::vector<int>(u(s.layers), 1000));
    auto d = decoder<>::make(m, 25).value();
    for (const std::size_t chunk : {1u, 4u, 25u}) {
      auto memory = make_memory(full{.budget = 25}, setup_for(m.config, {.chunk = 25})).value();
      EXPECT_LT(furthest(feed(d, memory, ids, chunk), expected), 1e-4) << s.hidden << ", chunk " << chunk;
    }
    auto memory = make_memory(full{.budget = 25}, setup_for(m.config, {.prompt = 25})).value();
    EXPECT_LT(furthest(feed(d, memory, ids, 25, attend_mode::one_shot), expected), 1e-4) << s.hidden;
    memory = make_memory(full{.budget = 25}, setup_for(m.config)).value();
    EXPECT_LT(furthest(feed(d, memory, ids, 25, attend_mode::one_by_one), expected), 1e-4) << s.hidden;
    memory = make_memory(full{.budget = 25}, setup_for(m.config, {.chunk = 3}, position_mode::in_cache)).value();
    EXPECT_LT(furthest(feed(d, memory, ids, 3), expected), 1e-4) << s.hidden;
  }
}

/// Token by token a window of k states is a mask: a query sees the k kept states and itself.
TEST(decoder_against_eigen, sees_the_window_of_each_layer) {
  const model_weights m = random_model({.layers = 3});
  const std::vector<int> ids = random_ids(30, m.config.vocab);
  std::vector<std::unique_ptr<layer_memory>> parts(3);
  for (int l = 0; l < 3; ++l)
    parts[u(l)] = make_layer_memory(window{.budget = l == 1 ? 5 : 11}, setup_for(m.config), l).value();
  auto memory = sequence_memory::make(std::move(parts)).value();
  auto d = decoder<>::make(m, 30).value();
  EXPECT_LT(furthest(feed(d, memory, ids), reference(m, ids, {11, 5, 11})), 1e-4);
}

}  // namespace
