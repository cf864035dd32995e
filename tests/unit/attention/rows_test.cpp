// Rows of the last few queries, sums that fade, rows of each query head: the kernel against the formula.

#include <multistate/attention/attention.hpp>
#include <multistate/attention/scalar.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include <support/random.hpp>

using namespace multistate;

namespace {

template <needs Want>
void compare(support::generator& g) {
  const int group = g.between(1, 4), n = g.between(1, 700), c = g.chance(30) ? 1 : g.between(1, std::min(n, 60));
  const shape dims{group, 1, 8, 4};
  const auto floats = [&](int count) {
    std::vector<float> x(to_size(count));
    for (float& f : x) f = static_cast<float>(g.normal());
    return x;
  };
  const std::vector<float> q = floats(c * group * 8), k = floats(n * 8), v = floats(n * 4);
  std::vector<position> positions(to_size(n));
  for (int i = 0; i < n; ++i) positions[to_size(i)] = i;
  const extent states{.k = reinterpret_cast<const std::byte*>(k.data()),
                      .v = reinterpret_cast<const std::byte*>(v.data()),
                      .k_stride = 8 * sizeof(float),
                      .v_stride = 4 * sizeof(float),
                      .n = n};
  const int last = any(Want & needs::each_row) ? g.between(1, c + 3) : 0;
  const bool apart = g.chance(50);
  const auto stride = to_size(n + 5), plane = stride * to_size(c + 4);
  attention_options options;
  if (g.chance(30)) options.window = g.between(1, n);
  const auto task = [&](std::vector<float>& out, std::vector<float>& rows) {
    out.assign(to_size(c * group * 4), 0.0f);
    rows.assign(plane * 5, -7.0f);
    attention_task t;
    t.kv = {.extents = {&states, 1}, .positions = positions, .ranks = {}, .n = n};
    t.q = q.data();
    t.q_stride = to_size(group * 8);
    t.out = out.data();
    t.out_stride = to_size(group * 4);
    t.row = rows.data();
    t.row_stride = stride;
    t.sum = rows.data() + plane - stride;
    t.head_stride = apart ? plane : 0;
    t.decay = 0.9;
    t.first = n - c;
    t.queries = c;
    t.row_queries = last;
    return t;
  };
  std::vector<float> out, rows, right_out, right_rows;
  const attention_task mine = task(out, rows), right = task(right_out, right_rows);
  std::vector<std::byte> scratch(attend_scratch_bytes(dims, n, c));
  attention<>{dims, options, nullptr, scratch}.operator()<Want, f32, f32>({&mine, 1});
  scalar_attention{dims, options}.operator()<Want, f32, f32>({&right, 1});
  for (std::size_t i = 0; i < rows.size(); ++i)
    ASSERT_NEAR(rows[i], right_rows[i], 1e-4f) << "n " << n << ", c " << c << ", last " << last << ", group " << group
                                               << (apart ? ", apart" : "") << ", at " << i;
  for (std::size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], right_out[i], 1e-5f);
}

TEST(attention_rows, are_those_of_the_formula) {
  support::generator g(5);
  for (int i = 0; i < 60 && !HasFailure(); ++i) {
    compare<needs::last_row>(g);
    compare<needs::row_sum>(g);
    compare<needs::each_row>(g);
    compare<needs::rows_and_sum>(g);
  }
}

}  // namespace
