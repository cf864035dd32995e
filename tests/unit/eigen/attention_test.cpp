// The formula itself, against attention worked out by hand; tests/differential/ holds the kernel against it.

#include <multistate/eigen/attention.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <initializer_list>
#include <limits>

namespace {

using namespace multistate;

/// Keys 0, ln 2 and ln 3 against queries of 1: weights 1 : 2 : 3.
template <class Scalar>
struct three_states {
  eigen::matrix<Scalar> k{{0}, {std::log(Scalar{2})}, {std::log(Scalar{3})}}, v{{6}, {60}, {600}};
  std::array<position, 3> positions{4, 7, 9};

  /// The newest query is the one at 9.
  eigen::attended<Scalar> run(std::initializer_list<std::initializer_list<Scalar>> q,
                              const attention_options& options = {}) const {
    const auto first = 10 - static_cast<position>(q.size());
    return eigen::attend<Scalar>(eigen::matrix<Scalar>(q), k, v, positions, first, options);
  }
};

template <class Scalar>
class eigen_attention : public testing::Test {
 protected:
  static constexpr Scalar epsilon = 8 * std::numeric_limits<Scalar>::epsilon();
  const three_states<Scalar> states;

  void expect_row(const attention_options& options, Scalar a, Scalar b, Scalar c) const {
    const eigen::matrix<Scalar> row = states.run({{1}}, options).weights;
    EXPECT_TRUE(row.isApprox(eigen::matrix<Scalar>{{a, b, c}}, epsilon)) << row;
  }
};
using scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(eigen_attention, scalars);

TYPED_TEST(eigen_attention, weights_of_one_query) {
  this->expect_row({}, TypeParam{1} / 6, TypeParam{2} / 6, TypeParam{3} / 6);
  EXPECT_NEAR(this->states.run({{1}}).out(0, 0), 321, 1e-4);
}

TYPED_TEST(eigen_attention, query_heads_of_a_group_are_summed) {
  const auto a = this->states.run({{1, 0}});  // 1 : 2 : 3 and 1 : 1 : 1
  EXPECT_NEAR(a.out(0, 0), 321, 1e-4);
  EXPECT_NEAR(a.out(0, 1), 222, 1e-4);
  EXPECT_NEAR(a.weights(0, 2), TypeParam{1} / 2 + TypeParam{1} / 3, this->epsilon);
}

TYPED_TEST(eigen_attention, a_chunk_is_causal_and_gives_rows_of_each_kind) {
  const auto a = this->states.run({{1}, {0}});  // at 8, where 9 is not seen, and at 9
  using matrix = eigen::matrix<TypeParam>;
  const TypeParam third = TypeParam{1} / 3;
  EXPECT_EQ(a.weights(0, 2), 0);
  EXPECT_TRUE(a.given(rows_kind::each).isApprox(matrix{{third, 2 * third, 0}, {third, third, third}}, this->epsilon));
  EXPECT_TRUE(a.given(rows_kind::last).isApprox(matrix{{third, third, third}}, this->epsilon));
  EXPECT_TRUE(a.given(rows_kind::sum).isApprox(matrix{{2 * third, 1, third}}, this->epsilon));
}

TYPED_TEST(eigen_attention, options) {
  using std::exp, std::log, std::tanh;
  const auto expect = [&](const attention_options& o, TypeParam a, TypeParam b, TypeParam c, TypeParam sink = 0) {
    const TypeParam sum = a + b + c + sink;
    this->expect_row(o, a / sum, b / sum, c / sum);
  };
  const auto capped = [](TypeParam logit) { return exp(TypeParam{0.5} * tanh(logit / TypeParam{0.5})); };
  const std::array<float, 1> slope{0.25f}, sink{0.5f};
  expect({.scale = 2}, 1, 4, 9);
  expect({.softcap = 0.5f}, 1, capped(log(TypeParam{2})), capped(log(TypeParam{3})));
  expect({.window = 3}, 0, 2, 3);
  expect({.window = 2}, 0, 0, 3);
  expect({.sink_logits = sink}, 1, 2, 3, exp(TypeParam{0.5}));
  expect({.alibi = slope}, exp(TypeParam{-1.25}), 2 * exp(TypeParam{-0.5}), 3);
}

TYPED_TEST(eigen_attention, angles_are_ranks_or_log_positions) {
  using matrix = eigen::matrix<TypeParam>;
  const angle_table table = angle_table::make({.dim = 2}, 2).value();
  const std::array<position, 2> positions{41, 30};  // 11 apart, or one rank
  for (const bool log : {false, true}) {
    const double apart = log ? std::log(std::log(11.0)) : 1.0;
    const attention_options options{
        .scale = 1, .in_cache = log ? nullptr : &table, .log = log ? &table.rotation() : nullptr};
    const matrix row =
        eigen::attend<TypeParam>(matrix{{1, 0}}, matrix{{1, 0}, {1, 0}}, matrix::Zero(2, 1), positions, 41, options)
            .weights;
    EXPECT_NEAR(row(0, 1), std::exp(std::cos(apart)) / (std::exp(std::cos(apart)) + std::exp(1.0)), this->epsilon);
  }
}

TYPED_TEST(eigen_attention, pairs_are_halves_or_neighbours) {
  using matrix = eigen::matrix<TypeParam>;
  const Eigen::ArrayXd place = Eigen::ArrayXd::Constant(1, 2.0);
  const Eigen::ArrayXd frequencies = (Eigen::ArrayXd(2) << std::acos(0.0) / 2, 0.0).finished();  // a quarter, and none
  const matrix x{{1, 2, 3, 4, 5}};
  EXPECT_TRUE(eigen::rotated<TypeParam>(x, place, frequencies, rope_pairing::halves)
                  .isApprox(matrix{{-3, 2, 1, 4, 5}}, this->epsilon));
  EXPECT_TRUE(eigen::rotated<TypeParam>(x, place, frequencies, rope_pairing::adjacent)
                  .isApprox(matrix{{-2, 1, 3, 4, 5}}, this->epsilon));
}

}  // namespace
