// The oracle itself, against attention worked out by hand.

#include <multistate/attention/scalar.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cmath>

namespace {

using namespace multistate;

struct three_states {
  // Keys 0, ln 2 and ln 3 against a query of 1: weights 1 : 2 : 3.
  std::array<float, 3> k{0.0f, std::log(2.0f), std::log(3.0f)};
  std::array<float, 3> v{6.0f, 60.0f, 600.0f};
  std::array<position, 3> positions{4, 7, 9};
  std::array<float, 2> q{1.0f, 0.0f};
  std::array<float, 2> out{};
  std::array<float, 9> row{};
  extent e{reinterpret_cast<const std::byte*>(k.data()), reinterpret_cast<const std::byte*>(v.data()), 4, 4, 3};

  attention_task task(int queries = 1) {
    attention_task t;
    t.kv = {std::span<const extent>(&e, 1), positions, {}, 3};
    t.q = q.data();
    t.q_stride = t.out_stride = 1;
    t.out = out.data();
    t.row = row.data();
    t.row_stride = 3;
    t.first = 9;
    t.queries = queries;
    return t;
  }
  template <needs Want>
  void run(const attention_options& options, const attention_task& t, shape dims = {1, 1, 1, 1}) {
    scalar_attention{dims, options}.operator()<Want>(std::span<const attention_task>(&t, 1));
  }
};

TEST(scalar_attention, weights_of_one_query) {
  three_states s;
  s.run<needs::last_row>({}, s.task());
  EXPECT_NEAR(s.row[0], 1 / 6.0, 1e-7);
  EXPECT_NEAR(s.row[1], 2 / 6.0, 1e-7);
  EXPECT_NEAR(s.row[2], 3 / 6.0, 1e-7);
  EXPECT_NEAR(s.out[0], 1 + 20 + 300, 1e-4);
}

TEST(scalar_attention, a_chunk_is_causal) {
  three_states s;
  s.q = {1.0f, 0.0f};
  attention_task t = s.task(2);
  t.first = 8;
  s.run<needs::each_row>({}, t);
  EXPECT_NEAR(s.row[0], 1 / 3.0, 1e-7);
  EXPECT_NEAR(s.row[1], 2 / 3.0, 1e-7);
  EXPECT_EQ(s.row[2], 0.0f);
  for (std::size_t i = 3; i < 6; ++i) EXPECT_NEAR(s.row[i], 1 / 3.0, 1e-7);
  EXPECT_NEAR(s.out[1], 222, 1e-4);
  s.run<needs::row_sum>({}, t);
  EXPECT_NEAR(s.row[1], 1, 1e-7);
}

TEST(scalar_attention, options) {
  three_states s;
  attention_options o;
  o.scale = 2;  // 1 : 4 : 9
  s.run<needs::last_row>(o, s.task());
  EXPECT_NEAR(s.row[1], 4 / 14.0, 1e-7);

  o = {};
  o.window = 3;  // positions 7 and 9 of own 9
  s.run<needs::last_row>(o, s.task());
  EXPECT_EQ(s.row[0], 0.0f);
  EXPECT_NEAR(s.row[1], 2 / 5.0, 1e-7);
  o.window = 2;  // 9 alone
  s.run<needs::last_row>(o, s.task());
  EXPECT_EQ(s.row[1], 0.0f);
  EXPECT_EQ(s.row[2], 1.0f);

  o = {};
  const std::array<float, 1> sink{std::log(6.0f)};
  o.sink_logits = sink;
  s.run<needs::last_row>(o, s.task());
  EXPECT_NEAR(s.row[2], 3 / 12.0, 1e-7);
  EXPECT_NEAR(s.out[0], 321 / 2.0, 1e-4);

  o = {};
  const std::array<float, 1> slope{std::log(2.0f)};  // halves per position back: 1/32 : 2/4 : 3
  o.alibi = slope;
  s.run<needs::last_row>(o, s.task());
  EXPECT_NEAR(s.row[0], (1 / 32.0) / (1 / 32.0 + 0.5 + 3), 1e-7);

  o = {};
  o.softcap = 0.5f;
  s.run<needs::last_row>(o, s.task());
  const double a = std::exp(0.5 * std::tanh(std::log(2.0) / 0.5));
  const double b = std::exp(0.5 * std::tanh(std::log(3.0) / 0.5));
  EXPECT_NEAR(s.row[2], b / (1 + a + b), 1e-6);
}

TEST(scalar_attention, angles_are_ranks_or_log_positions) {
  rope_config c;
  c.dim = 2;
  const auto table = angle_table::make(c, 8).value();
  std::array<float, 4> k{1, 0, 1, 0};
  std::array<float, 2> v{1, 0};
  std::array<float, 2> q{1, 0};
  std::array<std::uint32_t, 2> ranks{1, 0};
  std::array<float, 1> out{};
  const extent e{reinterpret_cast<const std::byte*>(k.data()), reinterpret_cast<const std::byte*>(v.data()), 8, 4, 2};
  attention_task t;
  t.kv = {std::span<const extent>(&e, 1), {}, ranks, 2};
  t.q = q.data();
  t.out = out.data();
  attention_options o;
  o.scale = 1;
  o.in_cache = &table;
  scalar_attention{{1, 1, 2, 1}, o}.operator()<needs::nothing>(std::span<const attention_task>(&t, 1));
  const double near = std::exp(1.0);           // slot 0 has the query's rank
  const double far = std::exp(std::cos(1.0));  // slot 1 is one behind
  EXPECT_NEAR(out[0], near / (near + far), 1e-6);

  o.in_cache = nullptr;
  o.log = &table.rotation();
  for (const auto& [gap, apart] : {std::pair<position, double>{10, 10}, {11, std::log(std::log(11.0))}}) {
    const std::array<position, 2> positions{30 + gap, 30};
    t.kv.positions = positions;
    scalar_attention{{1, 1, 2, 1}, o}.operator()<needs::nothing>(std::span<const attention_task>(&t, 1));
    EXPECT_NEAR(out[0], near / (near + std::exp(std::cos(apart))), 1e-6) << gap;
  }
}

}  // namespace
