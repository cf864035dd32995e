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

/// Which rows of a cycle are kept until its reduction.
struct kept_rows {
  int each = 0;      ///< those of so many of its newest queries
  bool sum = false;  ///< their sum
  double decay = 1;
};

/// The rows of the cycle under way, which wait for its reduction, of each lane, summed over its KV heads (and layers)
/// in the order in which they come; or apart for each query head, then they are planes. Allocates in allocate_lanes()
/// and allocate() only.
class waiting_rows {
 public:
  /// Memory for what is counted of each lane. False when there is none.
  bool allocate_lanes(int lanes) noexcept { return lanes_.allocate(to_size(lanes)); }
  /// Memory for the rows of the lanes of `book`: in each of `planes`, those of `queries` queries and their sum. False
  /// when there is none.
  bool allocate(const lane_book& book, int queries, bool sum, int planes) noexcept {
    queries_ = to_size(queries);
    entries_ = queries_ + (sum ? 1 : 0);
    planes_ = to_size(planes);
    return floats_.allocate(planes_ * entries_ * book.slots());
  }

  /// Begins a cycle.
  void clear() noexcept { lanes_.fill({}); }
  /// How many times a lane was observed in this cycle.
  int observations(int i) const noexcept { return lanes_[to_size(i)].observations; }
  /// Query heads that were observed in it.
  int heads(int i) const noexcept { return lanes_[to_size(i)].heads; }
  /// Counts an observation of `heads` query heads. Returns whether it is the cycle's first of this lane.
  bool count(int i, int heads) noexcept {
    lanes_[to_size(i)].heads += heads;
    return lanes_[to_size(i)].observations++ == 0;
  }
  /// Counts an observation and adds its rows. Precondition: they hold what is to be kept; with planes, there is room
  /// for so many query heads.
  void add(int i, const lane_book::lane& l, const rows& r, const kept_rows& keep) noexcept {
    const int plane = heads(i);
    const bool first = count(i, r.heads);
    if (planes_ == 1) return add_plane(l, 0, r, keep, first);
    for (int h = 0; h < r.heads; ++h) add_plane(l, to_size(plane + h), r.heads == 1 ? r : r.head(h), keep, true);
  }
  /// The same where one row is all that is kept, of `heads` query heads, and there are no planes: the newest
  /// query's, or the sum.
  void add_row(int i, const lane_book::lane& l, std::span<const float> row, int heads, bool sum) noexcept {
    const std::size_t at = sum ? queries_ * to_size(l.capacity) : 0;
    fold({floats_.data() + entries_ * l.base + at, row.size()}, row, count(i, heads));
  }
  /// The rows of a lane's `accepted` tokens over the states that are live once the other tokens are forgotten: `keep`
  /// as in add(), where `all` tokens wait one by one until it is known which of them stay.
  rows take(int i, const lane_book& book, int accepted, const kept_rows& keep, bool all) noexcept {
    const lane_book::lane& l = book.at(i);
    const int each = keep.each < accepted ? keep.each : accepted;
    rows r{.data = place(l, 0, all ? to_size(accepted - each) : 0),
           .stride = to_size(l.capacity),
           .n = l.live,
           .queries = each,
           .heads = lanes_[to_size(i)].heads,
           .kind = rows_kind::each};
    if (planes_ > 1) r.head_stride = entries_ * to_size(l.capacity);
    if (keep.sum) {
      if (all)
        for (std::size_t plane = 0; plane < planes_; ++plane) {
          const rows each_one{.data = place(l, plane, 0),
                              .stride = to_size(l.capacity),
                              .n = l.live,
                              .queries = accepted,
                              .kind = rows_kind::each};
          fold_sum({place(l, plane, queries_), to_size(l.live)}, each_one, true, keep.decay);
        }
      r.sum = place(l, 0, queries_);
    }
    if (each == 0) {
      r.data = r.sum;
      r.kind = rows_kind::sum;
      r.queries = accepted;
    } else if (keep.each == 1 && !keep.sum) {
      r.kind = rows_kind::last;
      r.queries = accepted;
    }
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

  /// One row of a lane; the sum is number queries_.
  float* place(const lane_book::lane& l, std::size_t plane, std::size_t row) noexcept {
    return floats_.data() + planes_ * entries_ * l.base + (plane * entries_ + row) * to_size(l.capacity);
  }
  void add_plane(const lane_book::lane& l, std::size_t plane, const rows& r, const kept_rows& keep,
                 bool first) noexcept {
    const std::size_t n = to_size(r.n);
    if (keep.each == 1 && !keep.sum) return fold({place(l, plane, 0), n}, r.last(), first);
    const int given = r.kind == rows_kind::each ? r.queries : 1;
    for (int j = 0; j < keep.each; ++j) fold({place(l, plane, to_size(j)), n}, r.row(given - keep.each + j), first);
    if (!keep.sum) return;
    const std::span<float> sum(place(l, plane, queries_), n);
    if (r.sum != nullptr)
      fold(sum, r.total(), first);
    else
      fold_sum(sum, r, first, keep.decay);
  }

  std::size_t queries_ = 0, entries_ = 0, planes_ = 1;
  buffer<counts> lanes_;
  buffer<float> floats_;  ///< [lane][plane][query, then sum][capacity]
};

}  // namespace multistate::detail
