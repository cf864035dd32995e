# Plausible mistakes: name, file below include/multistate, the text that stands there exactly once, what it becomes.
FAULTS = [
    ("room_made_before_attending", "decider/decider_impl.hpp",
     """      if (due && s.live > s.budget) {
        drop = choose(i, r, s.live - s.budget);
        MULTISTATE_ASSERT(drop == s.live - s.budget);""",
     """      if (due && s.live >= s.budget) {
        drop = choose(i, r, s.live - s.budget + 1);"""),
    ("newest_protected", "policy/tova.hpp", "return {pinned, newest}; }", "return {pinned, newest < 1 ? 1 : newest}; }"),
    ("newest_scored_zero", "policy/h2o.hpp", "accumulate(lane.column(0).data(), lane.column(1).data(), row.data(), row.size());",
     """accumulate(lane.column(0).data(), lane.column(1).data(), row.data(), row.size());
    for (std::size_t s = 0; s < row.size(); ++s)
      if (lane.positions[s] == lane.now) lane.column(0)[s] = 0.0f;"""),
    ("recent_off_by_one", "select/lowest.hpp", "p > now - structural.newest", "p >= now - structural.newest"),
    ("recent_is_the_smaller_half", "policy/h2o.hpp", "recent < 0 ? lane_budget - lane_budget / 2 : recent", "recent < 0 ? lane_budget / 2 : recent"),
    ("first_off_by_one", "select/lowest.hpp", "p < structural.first", "p <= structural.first"),
    ("heads_interleaved", "step/step.hpp", "t.q = io.q + static_cast<std::size_t>(h) * group * dk;", "t.q = io.q + static_cast<std::size_t>(h) * dk;"),
    ("non_causal_chunk", "attention/scalar.hpp", "causal = n - queries + j + 1;", "causal = n;"),
    ("sum_for_last_row", "policy/tova.hpp", "wants = needs::last_row;", "wants = needs::row_sum;"),
    ("last_row_for_sum", "policy/h2o.hpp", "wants = needs::row_sum;", "wants = needs::last_row;"),
    ("first_row_for_last", "types/rows.hpp", "row(summed ? 0 : queries - 1)", "row(0)"),
    ("last_head_for_all", "select/fold.hpp", "  if (first) {", "  if (first || true) {"),
    ("memory_not_moved_with_its_slot", "decider/decider_impl.hpp", "columns_[column + to] = columns_[column + from];", "(void)column;"),
    ("memory_not_cleared_for_a_new_token", "decider/decider_impl.hpp",
     "for (int k = 0; k < P::columns; ++k) columns_[P::columns * s.base + u(k) * u(s.capacity) + at] = 0.0f;", ""),
    ("memory_not_undone", "decider/undo_impl.hpp",
     "columns_[P::columns * s.base + c * u(s.capacity) + j] = old_columns_[from + c * width + j];", "(void)from, (void)width;"),
    ("position_taken_for_slot", "state/multi_state.hpp",
     "encode(x, s, k + static_cast<std::size_t>(positions[s]) * k_stride, v + static_cast<std::size_t>(positions[s]) * v_stride)",
     "encode(x, s, k + s * k_stride, v + s * v_stride)"),
    ("slot_taken_for_age", "policy/h2o.hpp", "lane.now - lane.positions[s] + 1", "lane.now - static_cast<position>(s) + 1"),
    ("sentinel_scores", "policy/h2o.hpp", "    if (!normalised) return sum;",
     """    for (std::size_t s = 0; s < sum.size(); ++s)
      if (lane.positions[s] > lane.now - keeps(lane.budget).newest) sum[s] += 1e4f;
    if (!normalised) return sum;"""),
    ("ties_newest_first", "select/lowest.hpp", "a.key < b.key : a.pos < b.pos", "a.key < b.key : a.pos > b.pos"),
    ("nan_not_lowest", "select/lowest.hpp", "magnitude > 0x7f800000 ? -0x7fffffff - 1 : (magnitude ^ sign) - sign", "(magnitude ^ sign) - sign"),
    ("rank_order_lost", "decider/decider_impl.hpp", "if (rank < out.size()) out[rank] = slot{at};",
     "if (rank < out.size()) out[rank] = slot{static_cast<std::uint32_t>(rank)};"),
    ("budget_per_head_for_layer", "decider/decider_impl.hpp", "s.budget = d.budgets_[u(i)] = budget;",
     "s.budget = d.budgets_[u(i)] = budget * (d.lanes_ == 1 ? where.kv_heads : 1);"),
    ("pins_forgotten", "select/lowest.hpp", " || pinned(pins, p);", ";"),
    ("every_off_by_one", "decider/decider_impl.hpp", "const bool due = pending_ >= room_.every;", "const bool due = pending_ > room_.every;"),
    ("refused_rows_counted", "decider/decider_impl.hpp", ".queries = accepted, .heads", ".queries = appended_, .heads"),
    ("precision_of_sums", "policy/h2o.hpp", "part = static_cast<float>(total - double{whole});", "part = 0.0f;"),
    ("dropped_state_not_kept_for_undo", "state/multi_state.hpp", "copy_row(x, s, u(x.capacity + x.next_aside));", ""),
    ("moves_forgotten", "state/multi_state.hpp",
     "copy_row(x, m.from == aside ? u(x.capacity + x.next_aside) : index(m.from), index(m.to));", ""),
    ("normalised_by_one_query_less", "policy/h2o.hpp", "lane.now - lane.positions[s] + 1", "lane.now - lane.positions[s]"),
]
