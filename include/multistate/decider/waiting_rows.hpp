#pragma once

#include <cstddef>
#include <span>

#include <multistate/decider/lane_book.hpp>
#include <multistate/select/fold.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/rows.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/util/buffer.hpp>

namespace multistate::detail {

/// The rows of the cycle under way, which wait for its reduction: of each lane, one row or one for each query, summed
/// over its KV heads (and layers) in the order in which they come. Allocates in allocate_lanes() and allocate()
/// only.
class waiting_rows {
 public:
  /// Memory for what is counted of each lane. False when there is none.
  bool allocate_lanes(int lanes) noexcept { return lanes_.allocate(to_size(lanes)); }
  /// Memory for the rows of the lanes of `book`, with room for `queries` rows each; 0: rows are counted only. False
  /// when there is none.
  bool allocate(const lane_book& book, int queries) noexcept {
    queries_ = to_size(queries);
    return floats_.allocate(queries_ * book.slots());
  }

  /// Begins a cycle.
  void clear() noexcept { lanes_.fill({}); }
  /// How many times a lane was observed in this cycle.
  int observations(int i) const noexcept { return lanes_[to_size(i)].observations; }
  /// Counts an observation of `heads` query heads. Returns whether it is the cycle's first of this lane.
  bool count(int i, int heads) noexcept {
    lanes_[to_size(i)].heads += heads;
    return lanes_[to_size(i)].observations++ == 0;
  }
  /// Counts an observation and adds its rows, kept as each one, their sum, or the last one.
  void add(int i, const lane_book::lane& l, const rows& r, rows_kind kept) noexcept {
    const bool first = count(i, r.heads);
    const std::size_t n = to_size(r.n), at = queries_ * l.base;
    if (kept == rows_kind::each) {
      for (int j = 0; j < r.queries; ++j) fold(floats_.span(at + to_size(j) * to_size(l.capacity), n), r.row(j), first);
    } else if (kept == rows_kind::sum) {
      fold_sum(floats_.span(at, n), r, first);
    } else {
      fold(floats_.span(at, n), r.last(), first);
    }
  }
  /// The rows of a lane's `accepted` tokens, kept in one way and wanted in another, over the states that are live once
  /// the other tokens are forgotten. Once a cycle: a sum is taken in place.
  rows take(int i, const lane_book& book, int accepted, rows_kind kept, rows_kind wanted) noexcept {
    const lane_book::lane& l = book.at(i);
    const std::size_t at = queries_ * l.base;
    rows r{.data = floats_.data() + at,
           .stride = to_size(l.capacity),
           .n = l.live,
           .queries = accepted,
           .heads = lanes_[to_size(i)].heads,
           .kind = rows_kind::each};
    if (wanted == rows_kind::sum && kept == rows_kind::each) fold_sum(floats_.span(at, to_size(l.live)), r, true);
    if (wanted == rows_kind::sum || kept == rows_kind::last) r.kind = wanted;
    return r;
  }
  /// All memory held, from allocate() on.
  std::size_t bytes() const noexcept { return lanes_.bytes() + floats_.bytes(); }

 private:
  /// Counts of one lane.
  struct counts {
    int observations = 0;
    int heads = 0;
  };
  std::size_t queries_ = 0;
  buffer<counts> lanes_;
  buffer<float> floats_;  ///< [lane][query][capacity]
};

}  // namespace multistate::detail
