// The whole decoder against the transformer's formulas in Eigen's double matrices.

#include <multistate/eigen/attention.hpp>
#include <multistate/eigen/weights.hpp>
#include <multistate/model/decoder.hpp>
#include <multistate/memory/memory.hpp>
#include <multistate/policies.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include <unit/model/models.hpp>

namespace {

using namespace multistate;
using matrix = eigen::matrix<double>;
using support::feed;
using support::furthest;
using support::random_ids;
using support::random_model;

/// What a query sees of its sequence, and where it stands there.
struct sight {
  position first = 0, reach = 1000;  ///< the first tokens, those of its chunk up to itself, and `reach` before it
  position chunk = 1;
  bool log = false;

  std::vector<position> seen_from(position t) const {
    std::vector<position> seen;
    for (position i = 0; i <= t; ++i)
      if (i < first || i >= t / chunk * chunk - reach) seen.push_back(i);
    return seen;
  }
  std::vector<double> places(const std::vector<position>& seen) const {
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
  const model_config& c = m.config;
  const eigen::model_matrices maps = eigen::matrices_of(m);
  const Eigen::Index T = static_cast<Eigen::Index>(ids.size()), d = c.head_dim, group = c.heads / c.kv_heads;
  const auto norm = [&](const matrix& x, const eigen::vector_map& w) -> matrix {
    const Eigen::ArrayXd rms = (x.rowwise().squaredNorm() / double(x.cols())).array() + double{c.norm_eps};
    return (x.array().colwise() / rms.sqrt()).rowwise() * w.cast<double>().array();
  };
  const auto product = [](const matrix& x, const eigen::matrix_map& w) -> matrix {
    return x * w.cast<double>().transpose();
  };
  const Eigen::ArrayXd frequencies =
      Eigen::pow(c.rope.theta, -2.0 / c.rope.dim * Eigen::ArrayXd::LinSpaced(c.rope.dim / 2, 0, c.rope.dim / 2 - 1));
  const auto rotated = [&](const matrix& x, const std::vector<double>& places) -> matrix {  // [places][d]
    const Eigen::Map<const Eigen::ArrayXd> at(places.data(), static_cast<Eigen::Index>(places.size()));
    return eigen::rotated<double>(x, at, frequencies, c.rope.pairing);
  };
  matrix x(T, c.hidden);
  for (Eigen::Index t = 0; t < T; ++t) x.row(t) = maps.embedding.row(ids[static_cast<std::size_t>(t)]).cast<double>();
  for (std::size_t layer = 0; layer < maps.layers.size(); ++layer) {
    const eigen::layer_matrices& w = maps.layers[layer];
    const matrix h = norm(x, w.attention_norm);
    const matrix q = product(h, w.q), k = product(h, w.k), v = product(h, w.v);
    matrix out(T, c.heads * d);
    for (Eigen::Index t = 0; t < T; ++t) {
      const std::vector<position> seen = sights[layer].seen_from(t);
      const std::vector<double> places = sights[layer].places(seen);
      for (int kv = 0; kv < c.kv_heads; ++kv) {
        const auto columns = Eigen::seqN(kv * d, d);
        matrix own(1, group * d);
        for (Eigen::Index g = 0; g < group; ++g)
          own.middleCols(g * d, d) = rotated(q.block(t, (kv * group + g) * d, 1, d), {places.back()});
        out.block(t, kv * group * d, 1, group * d) =
            eigen::attend<double>(own, rotated(k(seen, columns), places), v(seen, columns), seen, t).out;
      }
    }
    x += product(out, w.o);
    const matrix f = norm(x, w.ffn_norm);
    const matrix gate = product(f, w.gate), up = product(f, w.up);
    x += product((gate.array() / (1.0 + (-gate.array()).exp()) * up.array()).matrix(), w.down);
  }
  const matrix logits = product(norm(x, maps.final_norm), maps.head);
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
