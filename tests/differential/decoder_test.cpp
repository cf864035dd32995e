// The whole decoder against the transformer's formulas in Eigen's double matrices.

#include <multistate/model/decoder.hpp>
#include <multistate/memory/memory.hpp>
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

/// What a query sees of its sequence, and where it stands there.
struct sight {
  Eigen::Index first = 0, reach = 1000;  ///< the first tokens, those of its chunk up to itself, and `reach` before it
  Eigen::Index chunk = 1;
  bool log = false;

  std::vector<Eigen::Index> seen_from(Eigen::Index t) const {
    std::vector<Eigen::Index> seen;
    for (Eigen::Index i = 0; i <= t; ++i)
      if (i < first || i >= t / chunk * chunk - reach) seen.push_back(i);
    return seen;
  }
  std::vector<double> places(const std::vector<Eigen::Index>& seen) const {
    std::vector<double> all;
    for (std::size_t i = 0; i < seen.size(); ++i) {
      const auto gap = static_cast<double>(i == 0 ? 0 : seen[i] - seen[i - 1]);
      const double counted = log && gap > 10 ? std::log(std::log(gap)) : gap;
      all.push_back(i == 0 ? 0 : all.back() + counted);
    }
    return all;
  }
};

/// The transformer from its formulas, in double.
std::vector<double> reference(const model_weights& m, const std::vector<int>& ids, const std::vector<sight>& sights) {
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
  const auto rotated = [&](matrix x, const std::vector<double>& places) {  // [places][d]
    support::rotate(x, c.rope.dim, c.rope.theta, c.rope.pairing == rope_pairing::halves,
                    [&](Eigen::Index r) { return places[static_cast<std::size_t>(r)]; });
    return x;
  };
  matrix x(T, c.hidden);
  const matrix embedding = mapped(m.embedding, c.vocab);
  for (Eigen::Index t = 0; t < T; ++t) x.row(t) = embedding.row(ids[static_cast<std::size_t>(t)]);
  for (int layer = 0; layer < c.layers; ++layer) {
    const layer_weights& w = m.layers[multistate::to_size(layer)];
    const matrix h = norm(x, w.attention_norm);
    const matrix q = h * mapped(w.q, c.heads * d).transpose();
    const matrix k = h * mapped(w.k, c.kv_heads * d).transpose();
    const matrix v = h * mapped(w.v, c.kv_heads * d).transpose();
    matrix out = matrix::Zero(T, c.heads * d);
    for (Eigen::Index t = 0; t < T; ++t) {
      const std::vector<Eigen::Index> seen = sights[multistate::to_size(layer)].seen_from(t);
      const std::vector<double> places = sights[multistate::to_size(layer)].places(seen);
      for (int head = 0; head < c.heads; ++head) {
        const auto kv = Eigen::seqN(head / (c.heads / c.kv_heads) * d, d);
        Eigen::VectorXd a = rotated(k(seen, kv), places) *
                            rotated(q.block(t, head * d, 1, d), {places.back()}).transpose() /
                            std::sqrt(static_cast<double>(d));
        a = (a.array() - a.maxCoeff()).exp();
        out.block(t, head * d, 1, d) = (a / a.sum()).transpose() * v(seen, kv);
      }
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
    const auto expected = reference(m, ids, std::vector<sight>(multistate::to_size(s.layers)));
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
    const auto by_rank = feed(d, memory, ids, 3);
    EXPECT_LT(furthest(by_rank, expected), 1e-4) << s.hidden;
    memory = make_memory(full{.budget = 25}, setup_for(m.config, {.chunk = 3}, position_mode::log)).value();
    EXPECT_EQ(feed(d, memory, ids, 3), by_rank) << s.hidden;
  }
}

/// Token by token a window of k states is a mask: a query sees the k kept states and itself.
TEST(decoder_against_eigen, sees_the_window_of_each_layer) {
  const model_weights m = random_model({.layers = 3});
  const std::vector<int> ids = random_ids(30, m.config.vocab);
  std::vector<std::unique_ptr<layer_memory>> parts(3);
  for (int l = 0; l < 3; ++l)
    parts[multistate::to_size(l)] =
        make_layer_memory(window{.budget = l == 1 ? 5 : 11}, setup_for(m.config), l).value();
  auto memory = sequence_memory::make(std::move(parts)).value();
  auto d = decoder<>::make(m, 30).value();
  EXPECT_LT(furthest(feed(d, memory, ids), reference(m, ids, {{.reach = 11}, {.reach = 5}, {.reach = 11}})), 1e-4);
}

/// The gap behind two sinks grows: up to 10 log positions are the original ones, beyond they are not.
TEST(decoder_against_eigen, counts_long_gaps_less_with_log_positions) {
  for (const rope_pairing pairing : {rope_pairing::halves, rope_pairing::adjacent})
    for (const int chunk : {1, 4}) {
      const model_weights m = random_model({.head_dim = 10, .pairing = pairing});
      const std::vector<int> ids = random_ids(40, m.config.vocab);
      const auto vocab = static_cast<std::size_t>(m.config.vocab);
      auto d = decoder<>::make(m, 40).value();
      const auto run = [&](position_mode at) {
        auto memory = make_memory(window{.budget = 9, .sinks = 2}, setup_for(m.config, {.chunk = chunk}, at)).value();
        return feed(d, memory, ids, multistate::to_size(chunk));
      };
      const sight seen{.first = 2, .reach = 7, .chunk = chunk, .log = true};
      const auto log = run(position_mode::log), original = run(position_mode::original);
      EXPECT_LT(furthest(log, reference(m, ids, {seen, seen})), 1e-4);
      const auto up_to = [&](const std::vector<float>& x, std::size_t tokens) {
        return std::vector(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(tokens * vocab));
      };
      const std::size_t short_gaps = chunk == 1 ? 19 : 20;  // token 18 sees 0, 1 and 11 to 18; 16 to 19 from 9 on
      EXPECT_LT(furthest(up_to(log, short_gaps), up_to(original, short_gaps)), 1e-4);
      EXPECT_GT(furthest(up_to(log, short_gaps + 1), up_to(original, short_gaps + 1)), 0.01);
    }
}

}  // namespace
