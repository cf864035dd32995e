// Invariants of what comes out of attention: 1, 3, 4, 6, 7, 10.

#include <bit>
#include <cstring>

#include <multistate/format/element.hpp>

#include <support/property.hpp>

namespace {

using namespace support;

class Invariant01_FullBitForBit : public Property {};
class Invariant03_CompactedEqualsMasked : public Property {};
class Invariant04_FreedStatesNeverReachAnOutput : public Property {};
class Invariant06_BatchEqualsAlone : public Property {};
class Invariant07_DuplicatedHeads : public Property {};
class Invariant10_OrderInMemory : public Property {};

/// Feeds all tokens in calls of 1 to room.chunk, or first a one-shot prompt.
struct schedule {
  bool one_shot_first = false;
  std::vector<int> calls;
  schedule(generator& g, run_spec& spec, int count) {
    if (g.chance(30)) {
      one_shot_first = true;
      calls.push_back(spec.room.prompt = g.between(1, count));
    }
    for (int t = calls.empty() ? 0 : calls[0]; t < count; t += calls.back())
      calls.push_back(std::min(count - t, g.between(1, spec.room.chunk)));
  }
  std::vector<float> feed(runner& r, std::size_t call) const {
    return one_shot_first && call == 0 ? r.fed_one_shot(calls[0]) : r.fed(calls[call]);
  }
};

TEST_F(Invariant01_FullBitForBit, AnyPolicyWithRoomForAll) {
  each_round(800, 1, [&](generator& g) {
    run_spec spec = random_run(g, bounded_policies(), 9);
    const int count = g.between(1, 40);
    spec.lane_budgets.clear();
    spec.policy.budget = std::max(count, spec.policy.budget) + g.between(0, 3);
    spec.room = {.chunk = g.between(1, 9), .undo = g.chance(30) ? 3 : 0, .every = g.one_of(std::vector<int>{1, 1, 3})};
    const tokens data = random_tokens(g, spec.dims, spec.layers, count);
    const schedule calls(g, spec, count);
    SCOPED_TRACE(spec.text());
    run_spec unbounded = spec;
    unbounded.policy = {.name = "full", .scope = spec.policy.scope, .budget = spec.policy.budget};
    const auto bounded = make_runner(spec, data), full = make_runner(unbounded, data);
    for (std::size_t i = 0; i < calls.calls.size(); ++i)
      ASSERT_EQ(different(calls.feed(*bounded, i), calls.feed(*full, i)), "");
  });
}

/// What attention over full memory gives with every dropped column at minus infinity.
std::vector<double> masked(const naive& reference, const run_spec& spec, const runner& r,
                           const std::vector<std::vector<std::int64_t>>& kept, int c) {
  std::vector<double> out;
  const std::int64_t first = r.next();
  for (int layer = 0; layer < spec.layers; ++layer)
    for (int j = 0; j < c; ++j)
      for (int h = 0; h < spec.dims.heads; ++h) {
        const int kv = h / spec.dims.group();
        auto seen = kept[multistate::to_size(layer * spec.dims.kv_heads + kv)];
        for (int i = 0; i <= j; ++i) seen.push_back(first + i);
        const auto weights = reference.attend(layer, h, kv, first + j, seen);
        for (int x = 0; x < spec.dims.dv; ++x) {
          double sum = 0;
          for (std::size_t i = 0; i < seen.size(); ++i)
            sum += weights[i] * double{reference.value(layer, kv, seen[i])[x]};
          out.push_back(sum);
        }
      }
  return out;
}

std::vector<std::vector<std::int64_t>> kept_of_all(const run_spec& spec, const runner& r) {
  std::vector<std::vector<std::int64_t>> kept;
  for (int layer = 0; layer < spec.layers; ++layer)
    for (int h = 0; h < spec.dims.kv_heads; ++h) kept.push_back(r.kept(layer, h));
  return kept;
}

TEST_F(Invariant03_CompactedEqualsMasked, AtEveryStep) {
  each_round(800, 3, [&](generator& g) {
    run_spec spec = random_run(g, bounded_policies(), 9);
    spec.room = {.chunk = g.between(1, 6), .undo = g.chance(30) ? 3 : 0, .every = g.one_of(std::vector<int>{1, 1, 3})};
    const int count = 40;
    SCOPED_TRACE(spec.text());
    const tokens data = random_tokens(g, spec.dims, spec.layers, count), stored = rounded(data, spec.keys, spec.values);
    const naive reference(spec.policy, stored, data);
    const auto r = make_runner(spec, data);
    while (r->next() < count) {
      const int c = std::min(count - static_cast<int>(r->next()), g.between(1, spec.room.chunk));
      const auto expected = masked(reference, spec, *r, kept_of_all(spec, *r), c);
      ASSERT_LE(furthest(r->fed(c), expected), close_enough) << "at token " << r->next();
    }
  });
}

TEST_F(Invariant04_FreedStatesNeverReachAnOutput, NanInAllFreeSlots) {
  each_round(800, 4, [&](generator& g) {
    run_spec spec = random_run(g, bounded_policies(), 7);
    spec.own_arena = true;
    spec.room = {.chunk = g.between(1, 6), .undo = g.chance(30) ? 3 : 0, .every = g.one_of(std::vector<int>{1, 1, 3})};
    const int count = 40;
    const tokens data = random_tokens(g, spec.dims, spec.layers, count);
    const schedule calls(g, spec, count);
    SCOPED_TRACE(spec.text());
    const auto poisoned = make_runner(spec, data), clean = make_runner(spec, data);
    for (std::size_t i = 0; i < calls.calls.size(); ++i) {
      poisoned->fill_free(std::byte{0xff});
      clean->fill_free(std::byte{0});
      const auto out = calls.feed(*poisoned, i);
      ASSERT_EQ(different(out, calls.feed(*clean, i)), "") << "call " << i;
      for (const float x : out) ASSERT_TRUE(std::isfinite(x));
      ASSERT_EQ(kept_of_all(spec, *poisoned), kept_of_all(spec, *clean));
    }
  });
}

TEST_F(Invariant06_BatchEqualsAlone, WithChunksOfTheirOwn) {
  each_round(600, 6, [&](generator& g) {
    run_spec spec = random_run(g, bounded_policies(), 7);
    spec.room = {.chunk = g.between(1, 6)};
    const int count = 30, sequences = g.between(2, 4);
    SCOPED_TRACE(spec.text());
    std::vector<tokens> data;
    for (int i = 0; i < sequences; ++i) data.push_back(random_tokens(g, spec.dims, spec.layers, count));
    std::vector<std::unique_ptr<runner>> alone, together;
    for (const tokens& x : data) {
      alone.push_back(make_runner(spec, x));
      together.push_back(make_runner(spec, x));
    }
    for (int call = 0; call < 30 / spec.room.chunk; ++call) {
      std::vector<int> c;
      std::vector<std::vector<float>> out;
      std::vector<float*> to;
      std::vector<runner*> others;
      for (std::size_t i = 0; i < together.size(); ++i) {
        c.push_back(g.between(1, spec.room.chunk));
        out.emplace_back(together[i]->out_size(c.back()));
        if (i > 0) others.push_back(together[i].get());
      }
      for (auto& o : out) to.push_back(o.data());
      together[0]->feed_batch(others, c, to);
      for (std::size_t i = 0; i < together.size(); ++i) {
        ASSERT_EQ(different(out[i], alone[i]->fed(c[i])), "") << "sequence " << i;
        ASSERT_EQ(kept_of_all(spec, *together[i]), kept_of_all(spec, *alone[i]));
      }
    }
  });
}

TEST_F(Invariant07_DuplicatedHeads, ReproduceGroupedOnesAtLayerScope) {
  each_round(600, 7, [&](generator& g) {
    run_spec grouped = random_run(g, {"window", "h2o", "tova", "knorm", "random"}, 8);
    grouped.policy.scope = g.chance(70) ? lanes_by::layer : lanes_by::model;
    grouped.lane_budgets.clear();
    grouped.dims.heads = grouped.dims.kv_heads * g.between(2, 3);
    grouped.room = {.chunk = g.between(1, 4)};
    const int count = 30;
    SCOPED_TRACE(grouped.text());
    const tokens data = random_tokens(g, grouped.dims, grouped.layers, count);
    run_spec plain = grouped;
    plain.dims.kv_heads = plain.dims.heads;
    tokens copied = data;
    copied.dims = plain.dims;
    copied.k.clear();
    copied.v.clear();
    for (int layer = 0; layer < data.layers; ++layer)
      for (int t = 0; t < count; ++t)
        for (int h = 0; h < plain.dims.heads; ++h) {
          const int kv = h / grouped.dims.group();
          copied.k.insert(copied.k.end(), data.key(layer, t) + kv * data.dims.dk,
                          data.key(layer, t) + (kv + 1) * data.dims.dk);
          copied.v.insert(copied.v.end(), data.value(layer, t) + kv * data.dims.dv,
                          data.value(layer, t) + (kv + 1) * data.dims.dv);
        }
    const tokens stored = rounded(data, grouped.keys, grouped.values);
    naive slow(grouped.policy, stored, data);
    const auto a = make_runner(grouped, data), b = make_runner(plain, copied);
    while (a->next() < count) {
      const int c = std::min(count - static_cast<int>(a->next()), g.between(1, grouped.room.chunk));
      ASSERT_LE(furthest(a->fed(c), b->fed(c)), 1e-5);
      slow.feed(c);
      if (slow.margin < too_close) return;
      for (int layer = 0; layer < grouped.layers; ++layer) ASSERT_EQ(a->kept(layer, 0), b->kept(layer, 0));
    }
  });
}

/// H = Hkv against attention that knows nothing of groups.
TEST_F(Invariant07_DuplicatedHeads, OneQueryHeadEachIsMultiHead) {
  each_round(240, 8, [&](generator& g) {
    run_spec spec = random_run(g, {"full"}, 8);
    spec.dims.heads = spec.dims.kv_heads;
    const int count = 20;
    spec.policy.budget = count;
    SCOPED_TRACE(spec.text());
    const tokens data = random_tokens(g, spec.dims, spec.layers, count), stored = rounded(data, spec.keys, spec.values);
    const auto r = make_runner(spec, data);
    const auto d = spec.dims;
    for (int t = 0; t < count; ++t) {
      std::vector<double> expected;
      for (int layer = 0; layer < spec.layers; ++layer)
        for (int h = 0; h < d.heads; ++h) {
          std::vector<double> out(multistate::to_size(d.dv), 0.0);
          double total = 0;
          for (int s = 0; s <= t; ++s) {
            double dot = 0;
            for (int x = 0; x < d.dk; ++x)
              dot += double{stored.query(layer, t)[h * d.dk + x]} * double{stored.key(layer, s)[h * d.dk + x]};
            const double w = std::exp(dot / std::sqrt(d.dk));
            total += w;
            for (int x = 0; x < d.dv; ++x)
              out[multistate::to_size(x)] += w * double{stored.value(layer, s)[h * d.dv + x]};
          }
          for (const double x : out) expected.push_back(x / total);
        }
      ASSERT_LE(furthest(r->fed(1), expected), close_enough);
    }
  });
}

/// With undo the newest state moves into a hole, without it the next token does: the same states in another order.
TEST_F(Invariant10_OrderInMemory, DoesNotChangeOutputsOrDecisions) {
  int other_order = 0;
  each_round(600, 10, [&](generator& g) {
    run_spec spec = random_run(g, bounded_policies(), 9);
    spec.room = {.chunk = g.between(1, 3)};
    const int count = 40;
    SCOPED_TRACE(spec.text());
    const tokens data = random_tokens(g, spec.dims, spec.layers, count), stored = rounded(data, spec.keys, spec.values);
    run_spec moved = spec;
    moved.room.undo = 2;
    const auto a = make_runner(spec, data), b = make_runner(moved, data);
    naive slow(spec.policy, stored, data, spec.lane_budgets);
    while (a->next() < count) {
      const int c = std::min(count - static_cast<int>(a->next()), g.between(1, spec.room.chunk));
      ASSERT_LE(furthest(a->fed(c), b->fed(c)), close_enough);
      slow.feed(c);
      if (slow.margin < too_close) return;
      ASSERT_EQ(kept_of_all(spec, *a), kept_of_all(spec, *b));
      other_order += a->slots(0, 0) != b->slots(0, 0) ? 1 : 0;
    }
  });
  EXPECT_GT(other_order, 0) << "the test compares what it should";
}

/// Attention over extents of one state each, in any order.
TEST_F(Invariant10_OrderInMemory, AttentionOverShuffledExtents) {
  using namespace multistate;
  each_round(600, 11, [&](generator& g) {
    const dimensions dims = random_dimensions(g);
    const int n = g.between(1, 40), dk = dims.dk, dv = dims.dv, group = dims.group();
    run_spec spec;
    random_formats(g, spec);
    const tokens data = rounded(random_tokens(g, {group, 1, dk, dv}, 1, n), spec.keys, spec.values);
    std::vector<std::vector<std::byte>> keys, values;
    const auto encode = [](const float* x, int width, format formats) {
      std::vector<std::byte> row;
      for (int i = 0; i < width; ++i) {
        if (formats == format::f32) {
          row.resize(row.size() + 4);
          std::memcpy(row.data() + row.size() - 4, x + i, 4);
        } else {
          const std::uint16_t e = formats == format::f16 ? f16::store(x[i]) : bf16::store(x[i]);
          row.resize(row.size() + 2);
          std::memcpy(row.data() + row.size() - 2, &e, 2);
        }
      }
      return row;
    };
    for (int s = 0; s < n; ++s) {
      keys.push_back(encode(data.key(0, s), dk, spec.keys));
      values.push_back(encode(data.value(0, s), dv, spec.values));
    }
    std::vector<int> order(multistate::to_size(n));
    for (int s = 0; s < n; ++s) order[multistate::to_size(s)] = s;
    const auto attend = [&](const engine& by, const std::vector<int>& at, std::vector<float>& row) {
      std::vector<extent> extents;
      for (const int s : at)
        extents.push_back({.k = keys[multistate::to_size(s)].data(),
                           .v = values[multistate::to_size(s)].data(),
                           .k_stride = keys[multistate::to_size(s)].size(),
                           .v_stride = values[multistate::to_size(s)].size(),
                           .n = 1});
      std::vector<position> positions(at.begin(), at.end());
      std::vector<float> out(multistate::to_size(group * dv)), by_slot(multistate::to_size(n));
      attention_task task;
      task.kv = {.extents = extents, .positions = positions, .ranks = {}, .n = n};
      task.q = data.query(0, n - 1);
      task.q_stride = multistate::to_size(group * dk);
      task.out = out.data();
      task.out_stride = multistate::to_size(group * dv);
      task.row = by_slot.data();
      task.row_stride = multistate::to_size(n);
      task.first = n - 1;
      by.attend(needs::last_row, spec.keys, spec.values, {&task, 1});
      row.resize(multistate::to_size(n));
      for (std::size_t i = 0; i < at.size(); ++i) row[multistate::to_size(at[i])] = by_slot[i];
      return out;
    };
    for (const auto& by : {plain_engine({group, 1, dk, dv}), simd_engine({group, 1, dk, dv}, n, 1)}) {
      std::vector<float> row, shuffled_row;
      const auto out = attend(*by, order, row);
      auto shuffled = order;
      g.shuffle(shuffled);
      ASSERT_LE(furthest(attend(*by, shuffled, shuffled_row), out), 1e-5);
      ASSERT_LE(furthest(shuffled_row, row), 1e-5);
    }
  });
}

}  // namespace
