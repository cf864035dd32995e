// Each map shows what lies in memory, at the place where it lies.

#include <multistate/eigen/maps.hpp>
#include <multistate/eigen/weights.hpp>
#include <multistate/policies.hpp>

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include <unit/model/models.hpp>

namespace {

using namespace multistate;

template <class KeyFormat, class ValueFormat>
multi_state<KeyFormat, ValueFormat> filled(const shape& dims, int tokens) {
  auto decider = multistate::decider<full>::make({.budget = tokens}, {.kv_heads = dims.kv_heads}).value();
  auto states = multi_state<KeyFormat, ValueFormat>::make(dims, decider.plan()).value();
  for (int t = 0; t < tokens; ++t) {
    states.apply(decider.append(1));
    for (int h = 0; h < dims.kv_heads; ++h) {
      std::vector<float> k(to_size(dims.dk)), v(to_size(dims.dv));
      for (std::size_t i = 0; i < k.size(); ++i) k[i] = float(100 * h + 10 * t) + float(i);
      for (std::size_t i = 0; i < v.size(); ++i) v[i] = -1 - float(100 * h + 10 * t) - float(i);
      states.write(h, decider.slots(0), k.data(), v.data(), k.size(), v.size());
    }
    states.apply(decider.reduce());
  }
  return states;
}

TEST(eigen_maps, states_of_one_head) {
  const shape dims{.heads = 4, .kv_heads = 2, .dk = 3, .dv = 5};
  const auto states = filled<f32, f32>(dims, 4);
  for (int h = 0; h < 2; ++h) {
    const eigen::matrix_map k = eigen::keys(states, h), v = eigen::values(states, h);
    ASSERT_EQ(k.rows(), 4);
    ASSERT_EQ(k.cols(), 3);
    ASSERT_EQ(v.rows(), 4);
    ASSERT_EQ(v.cols(), 5);
    for (int t = 0; t < 4; ++t) {
      for (int i = 0; i < 3; ++i) EXPECT_EQ(k(t, i), float(100 * h + 10 * t + i));
      for (int i = 0; i < 5; ++i) EXPECT_EQ(v(t, i), float(-1 - 100 * h - 10 * t - i));
    }
  }
}

TEST(eigen_maps, the_side_in_f32_of_mixed_formats) {
  const shape dims{.heads = 1, .kv_heads = 1, .dk = 2, .dv = 3};
  EXPECT_EQ(eigen::keys(filled<f32, f16>(dims, 3), 0).rows(), 3);
  const auto states = filled<i8, f32>(dims, 3);
  EXPECT_EQ(eigen::values(states, 0)(2, 1), -22.0f);
}

TEST(eigen_maps, rows_of_weights) {
  const std::array<float, 10> memory{1, 2, 3, -1, -1, 4, 5, 6, -1, -1};
  const rows each{.data = memory.data(), .stride = 5, .n = 3, .queries = 2};
  eigen::matrix<float> expected(2, 3);
  expected << 1, 2, 3, 4, 5, 6;
  EXPECT_EQ(eigen::weights(each), expected);
  for (const rows_kind kind : {rows_kind::last, rows_kind::sum}) {
    const rows one{.data = memory.data(), .stride = 0, .n = 3, .queries = 2, .heads = 1, .kind = kind};
    EXPECT_EQ(eigen::weights(one), expected.topRows(1));
  }
}

TEST(eigen_maps, an_extent_over_blocks_of_matrices) {
  eigen::matrix<float> keys(5, 4), values(6, 7);
  const extent e = eigen::extent_over(keys.block(1, 1, 3, 2), values.topRows(3));
  EXPECT_EQ(e.n, 3);
  EXPECT_EQ(e.k, reinterpret_cast<const std::byte*>(&keys(1, 1)));
  EXPECT_EQ(e.v, reinterpret_cast<const std::byte*>(&values(0, 0)));
  EXPECT_EQ(e.k_stride, 4 * sizeof(float));
  EXPECT_EQ(e.v_stride, 7 * sizeof(float));
}

TEST(eigen_maps, matrices_of_a_model) {
  const support::model_sizes sizes{
      .layers = 2, .hidden = 5, .heads = 4, .kv_heads = 2, .head_dim = 3, .ffn = 7, .vocab = 6};
  const model_weights m = support::random_model(sizes);
  const eigen::model_matrices maps = eigen::matrices_of(m);
  const auto shows = [](const auto& map, const std::vector<float>& w, Eigen::Index out, Eigen::Index in) {
    EXPECT_EQ(map.rows(), out);
    EXPECT_EQ(map.cols(), in);
    ASSERT_EQ(static_cast<std::size_t>(out * in), w.size());
    EXPECT_EQ(map(out - 1, 0), w[static_cast<std::size_t>((out - 1) * in)]);
    EXPECT_EQ(map(0, in - 1), w[static_cast<std::size_t>(in - 1)]);
  };
  shows(maps.embedding, m.embedding, 6, 5);
  shows(maps.final_norm, m.final_norm, 1, 5);
  shows(maps.head, m.head, 6, 5);
  ASSERT_EQ(maps.layers.size(), 2u);
  for (std::size_t l = 0; l < 2; ++l) {
    const layer_weights& w = m.layers[l];
    shows(maps.layers[l].attention_norm, w.attention_norm, 1, 5);
    shows(maps.layers[l].q, w.q, 12, 5);
    shows(maps.layers[l].k, w.k, 6, 5);
    shows(maps.layers[l].v, w.v, 6, 5);
    shows(maps.layers[l].o, w.o, 5, 12);
    shows(maps.layers[l].ffn_norm, w.ffn_norm, 1, 5);
    shows(maps.layers[l].gate, w.gate, 7, 5);
    shows(maps.layers[l].up, w.up, 7, 5);
    shows(maps.layers[l].down, w.down, 5, 7);
  }
}

}  // namespace
