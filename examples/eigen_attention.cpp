// TOVA over keys and values in one's own Eigen matrices: the library decides what to forget and attends, and
// attention's formula in Eigen expressions says by how much it is off.
#include <multistate/eigen/attention.hpp>
#include <multistate/multistate.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

using namespace multistate;

constexpr int kv_heads = 2, group = 4, d = 32, budget = 64, tokens = 1000;

int main() {
  const shape dims{.heads = kv_heads * group, .kv_heads = kv_heads, .dk = d, .dv = d};
  auto decider = multistate::decider<tova>::make({.budget = budget}, {.kv_heads = kv_heads}).value();
  std::vector<std::byte> scratch(attend_scratch_bytes(dims, budget + 1));
  const attention<> attend{.dims = dims, .options = {}, .exec = nullptr, .scratch = scratch};

  std::array<eigen::matrix<float>, kv_heads> keys, values;  // [slot][d]
  for (auto* x : {&keys, &values}) x->fill(eigen::matrix<float>(budget + 1, d));
  Eigen::RowVectorXf q(group * d), out(group * d), row(budget + 1);
  const auto follow = [&](const decision& decided) {
    for (const slot_move& m : decided.lanes[0].moves)
      for (auto* x : {&keys, &values})
        for (auto& states : *x) states.row(index(m.to)) = states.row(index(m.from));
  };

  float furthest = 0;
  for (int t = 0; t < tokens; ++t) {
    follow(decider.append(1));
    const auto place = static_cast<Eigen::Index>(index(decider.slots(0)[0]));
    const int n = decider.live(0);
    for (int h = 0; h < kv_heads; ++h) {
      auto &k = keys[to_size(h)], &v = values[to_size(h)];
      k.row(place).setRandom();
      v.row(place).setRandom();
      q.setRandom();
      const extent states = eigen::extent_over(k.topRows(n), v.topRows(n));
      attention_task task{.kv = {.extents = {&states, 1}, .positions = {}, .ranks = {}, .n = n}, .kv_head = h};
      task.q = q.data();
      task.out = out.data();
      task.row = row.data();
      attend.operator()<needs::last_row, f32>({&task, 1});
      decider.observe(0, {.data = row.data(), .n = n, .heads = group});  // the weights of the group, summed

      const auto exact = eigen::attend<double>(q.cast<double>(), k.topRows(n).cast<double>(),
                                               v.topRows(n).cast<double>(), decider.positions(0), t);
      furthest = std::max({furthest, (out - exact.out.cast<float>()).cwiseAbs().maxCoeff(),
                           (row.head(n) - exact.weights.cast<float>()).cwiseAbs().maxCoeff()});
    }
    follow(decider.reduce());
  }
  std::printf("%d of %d tokens kept, furthest from the formula: %.1e\n", decider.live(0), tokens, double{furthest});
  return furthest < 1e-5f ? 0 : 1;
}
