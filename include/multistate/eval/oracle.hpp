#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include <multistate/policy/concept.hpp>
#include <multistate/util/buffer.hpp>
#include <multistate/types/error.hpp>

namespace multistate {

/// For one window: how much attention each state will still get from Full. First filled with Full's rows, of each KV
/// head or summed over those of a layer; finish() turns them into sums over later queries.
class oracle_table {
 public:
  static constexpr std::uint64_t most_bytes = std::uint64_t{2} << 30;

  /// `heads`: KV heads of a layer whose rows are kept apart; 1: all of them summed. Error: more than most_bytes.
  static result<oracle_table> make(int layers, int heads, int window) {
    oracle_table t;
    t.row_floats_ = row_floats(window);
    const std::size_t lanes = static_cast<std::size_t>(layers) * static_cast<std::size_t>(heads);
    const std::uint64_t bytes = bytes_of(layers, heads, window);
    if (bytes > most_bytes || !t.rows_.allocate(t.row_floats_ * lanes))
      return error(errc::out_of_memory, "the oracle would need ", bytes, " bytes for windows of ", window,
                   " tokens; it may take ", most_bytes);
    t.layers_ = layers;
    t.heads_ = heads;
    t.window_ = static_cast<std::size_t>(window);
    t.own_.resize(lanes * t.window_);
    t.later_.resize(static_cast<std::size_t>(window));
    return t;
  }
  int heads() const noexcept { return heads_; }
  /// Of the rows of such a table.
  static constexpr std::uint64_t bytes_of(int layers, int heads, int window) noexcept {
    return std::uint64_t{row_floats(window)} * static_cast<std::uint64_t>(layers) * static_cast<std::uint64_t>(heads) *
           sizeof(float);
  }

  /// Full's row of the query at `now`, by slot.
  void put(int layer, int head, position now, std::span<const position> positions,
           std::span<const float> row) noexcept {
    float* to = &rows_[at(lane(layer, head), now)];
    for (std::size_t s = 0; s < row.size(); ++s)
      if (positions[s] <= now) to[positions[s]] = row[s];
  }
  /// After the rows of `queries` queries are in.
  void finish(int queries) noexcept {
    for (std::size_t l = 0; l < lane(layers_, 0); ++l) {
      for (double& sum : later_) sum = 0;
      for (position now = queries - 1; now >= 0; --now) {
        float* row = &rows_[at(l, now)];
        for (std::size_t p = 0; p <= static_cast<std::size_t>(now); ++p) {
          const float weight = row[p];
          if (static_cast<position>(p) == now) own_[l * window_ + p] = weight;
          row[p] = static_cast<float>(later_[p]);
          later_[p] += double{weight};
        }
      }
    }
  }
  /// What queries after `now` give each state, [now + 1] by position.
  std::span<const float> worth(int layer, int head, position now) const noexcept {
    return rows_.span(at(lane(layer, head), now), static_cast<std::size_t>(now) + 1);
  }
  /// What queries [first, last) of a head gave the state of position p, those before p nothing. After finish().
  double mass(int layer, int head, position p, position first, position last) const noexcept {
    if (std::max(first, p) >= last) return 0;
    const auto place = static_cast<std::size_t>(p);
    const double after = double{worth(layer, head, last - 1)[place]};
    if (first > p) return double{worth(layer, head, first - 1)[place]} - after;
    return double{own_[lane(layer, head) * window_ + place]} + double{worth(layer, head, p)[place]} - after;
  }
  std::size_t bytes() const noexcept { return rows_.bytes() + own_.size() * sizeof(float); }

 private:
  static constexpr std::size_t row_floats(int window) noexcept {
    return static_cast<std::size_t>(window) * (static_cast<std::size_t>(window) + 1) / 2;
  }
  std::size_t lane(int layer, int head) const noexcept {
    return static_cast<std::size_t>(layer) * static_cast<std::size_t>(heads_) + static_cast<std::size_t>(head);
  }
  std::size_t at(std::size_t lane, position now) const noexcept {
    const auto n = static_cast<std::size_t>(now);
    return lane * row_floats_ + n * (n + 1) / 2;
  }
  buffer<float> rows_;      ///< [layer][head][now][position <= now]
  std::vector<float> own_;  ///< [layer][head][position] what a state's own query gave it
  std::vector<double> later_;
  std::size_t window_ = 0;
  std::size_t row_floats_ = 0;
  int layers_ = 0, heads_ = 1;
};

/// Full, which writes its rows into a table. Scope: head where the table keeps heads apart, else layer.
struct oracle_recorder {
  static constexpr std::string_view name = "oracle-recorder";
  static constexpr std::tuple<> options{};
  static constexpr bool unbounded = true;
  int budget = 0;
  scope_kind scope = scope_kind::layer;
  oracle_table* table = nullptr;

  constexpr evidence wants() const { return {.last = evidence::every_query}; }
  constexpr const char* check(int) const { return table != nullptr ? nullptr : "a table"; }
  constexpr protect keeps(int lane_budget) const { return {lane_budget, 0}; }
  void observe(const lane_ref& lane, const rows& r) const noexcept {
    for (int j = 0; j < r.queries; ++j)
      table->put(lane.layer, lane.lane, lane.now - (r.queries - 1) + j, lane.positions, r.row(j));
  }
};
static_assert(policy<oracle_recorder>);

/// How far there is to go: drops what Full's later queries attend least, ranked anew at each step, the newest a
/// candidate. It knows the future, so it is no policy that could run, and in no registry.
struct oracle {
  static constexpr std::string_view name = "oracle";
  static constexpr std::tuple<> options{};
  int budget = 0;
  scope_kind scope = scope_kind::layer;
  const oracle_table* table = nullptr;

  constexpr evidence wants() const { return {}; }
  constexpr const char* check(int) const { return table != nullptr ? nullptr : "a table"; }
  constexpr protect keeps(int) const { return {}; }
  std::span<const float> worth(const lane_ref& lane, const rows&) const noexcept {
    for (int head = 0; head < table->heads(); ++head) {
      const auto later = table->worth(lane.layer, head, lane.now);
      for (std::size_t s = 0; s < lane.positions.size(); ++s) {
        const float more = lane.positions[s] < 0 ? 0.0f : later[static_cast<std::size_t>(lane.positions[s])];
        lane.scratch[s] = head == 0 ? more : lane.scratch[s] + more;
      }
    }
    return lane.scratch;
  }
};
static_assert(policy<oracle>);

}  // namespace multistate
