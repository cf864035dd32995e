#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <multistate/policies.hpp>
#include <multistate/state/multi_state.hpp>

/// Random programs over everything a decider does, followed by its states and by a slow model that knows positions but
/// neither slots nor holes nor moves. After every operation all three must agree.
namespace support::program {

using namespace multistate;

/// Where the next choice comes from: a seed.
class seeded {
 public:
  explicit seeded(std::uint64_t seed) : at_(mix(seed)) {}
  int between(int least, int most) {
    return least + static_cast<int>(next() % static_cast<std::uint64_t>(most - least + 1));
  }
  bool one_in(int n) { return next() % static_cast<std::uint64_t>(n) == 0; }
  std::uint64_t next() { return mix(at_ += 0x9e3779b97f4a7c15u); }
  bool ended() const { return false; }

 private:
  std::uint64_t at_;
};

/// Or the bytes of a fuzzer, one for each choice.
class given {
 public:
  explicit given(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  int between(int least, int most) { return least + static_cast<int>(next()) % (most - least + 1); }
  bool one_in(int n) { return static_cast<int>(next()) % n == 0; }
  std::uint64_t next() { return at_ < bytes_.size() ? bytes_[at_++] : 0; }
  bool ended() const { return at_ >= bytes_.size(); }

 private:
  std::span<const std::uint8_t> bytes_;
  std::size_t at_ = 0;
};

/// What runs, for the message of a promise that is broken.
struct progress {
  std::uint64_t seed = 0;
  long operation = 0;
  const char* broken = "";
};
inline progress now;

inline void promise(bool kept, const char* which) {
  if (kept) [[likely]]
    return;
  std::fprintf(stderr, "random program, seed %llu, operation %ld (%s): broken: %s\n",
               static_cast<unsigned long long>(now.seed), now.operation, now.broken, which);
  std::abort();
}

// ---- the slow model -------------------------------------------------------------------------------------------------

inline constexpr int most_states = 48, most_tokens = 16, most_lanes = 3;

struct known_state {
  position at = 0;
  double sum = 0;  ///< of the weights so far: exact, since weights are few bits long
  float norm = 0;
};
struct known_lane {
  std::array<known_state, most_states> states;  ///< by position
  int n = 0;
  int budget = 0;
};
struct known_memory {
  std::array<known_lane, most_lanes> lanes;
  int lane_count = 0;
  position next = 0;
  std::array<position_range, 8> pins;
  int pin_count = 0;

  std::span<const position_range> pinned() const { return {pins.data(), multistate::to_size(pin_count)}; }
};

template <policy P>
bool is_protected(const P& p, const known_memory& m, const known_lane& lane, int k) {
  const protect keep = p.keeps(lane.budget);
  const position at = lane.states[multistate::to_size(k)].at;
  if (at < keep.first || k >= lane.n - keep.newest) return true;
  for (const auto& r : m.pinned())
    if (at >= r.first && at < r.last) return true;
  return false;
}

/// Whether what is protected, tokens to come included, fits every lane.
template <policy P>
bool pins_fit(const P& p, const known_memory& m, const known_lane& lane) {
  const protect keep = p.keeps(lane.budget);
  std::vector<position> held;
  for (const auto& r : m.pinned()) {
    for (position at = std::max({r.first, m.next, position{keep.first}}); at < r.last; ++at) {
      held.push_back(at);
      if (held.size() > multistate::to_size(64 + lane.budget)) return false;
    }
    for (int i = 0; i < lane.n; ++i) {
      const position at = lane.states[multistate::to_size(i)].at;
      if (at >= r.first && at < r.last && at >= keep.first) held.push_back(at);
    }
  }
  std::sort(held.begin(), held.end());
  const auto distinct = std::unique(held.begin(), held.end()) - held.begin();
  return distinct + keep.first + keep.newest <= lane.budget;
}

// ---- a decider, its states and the model ----------------------------------------------------------------------------

template <policy P, class Source>
class follower {
  template <policy Q, class S>
  friend class follower;

 public:
  explicit follower(Source& source) : source_(source) {}

  /// False when the settings that were drawn can't be.
  bool make(int kv_heads = 0, int lanes = 0) {
    Source& r = source_;
    room_ = {.chunk = r.between(1, 5),
             .hold = 0,
             .undo = r.one_in(2) ? r.between(1, 6) : 0,
             .every = r.one_in(2) ? r.between(1, 4) : 1,
             .prompt = r.one_in(3) ? r.between(1, most_tokens) : 0,
             .window = r.one_in(4) ? r.between(1, 6) : 0};
    if (r.one_in(3)) room_.hold = r.between(1, room_.chunk);
    settings_ = P{};
    settings_.scope = static_cast<scope_kind>(r.between(0, 2));
    settings_.budget = std::is_same_v<P, full> ? 30 : r.between(1, 9);
    if constexpr (std::is_same_v<P, window>) settings_.sinks = r.between(0, 3);
    if constexpr (std::is_same_v<P, tova>) settings_.pinned = r.between(0, 2), settings_.newest = r.between(0, 2);
    if constexpr (std::is_same_v<P, h2o>) settings_.recent = r.between(-1, 4), settings_.normalised = r.one_in(2);
    if constexpr (std::is_same_v<P, multistate::random_choice>) settings_.seed = r.next();
    where_ = {.kv_heads = kv_heads > 0 ? kv_heads : r.between(1, most_lanes), .layer = 0, .layers = 1};
    if (settings_.scope == scope_kind::model) where_.layers = r.between(1, 3);
    const int count = lanes_of(settings_.scope, where_.kv_heads);
    if (lanes > 0 && count != lanes) return false;
    budgets_.clear();
    if (!has_no_budget<P> && r.one_in(2))
      for (int i = 0; i < count; ++i) budgets_.push_back(r.between(1, 9));
    auto made = decider<P>::make(settings_, where_, room_, budgets_);
    if (!made) return false;
    decider_.emplace(std::move(*made));
    salt_ = r.next();
    has_nan_ = r.one_in(4);
    steps_ = r.one_in(2) ? 3 : 1023;  // few: ties
    forget_all();
    return true;
  }

  void operation() {
    Source& r = source_;
    switch (r.between(0, 24)) {
      case 0:
        return pin();
      case 1:
        return unpin();
      case 2:
      case 3:
        return undo();
      case 4:
        return fork();
      case 5:
      case 6:
        return r.one_in(4) ? travel() : save_and_load();
      case 7:
        return close();
      case 8:
        return r.one_in(8) ? restart() : token();
      case 9:
        if (room_.prompt > 0 && model_.next == 0) return prompt(r.between(1, room_.prompt));
        [[fallthrough]];
      case 10:
      case 11:
        if (room_.hold > 0) return held(r.between(1, room_.hold));
        [[fallthrough]];
      case 12:
      case 13:
        return chunk(r.between(1, room_.chunk));
      case 14:
        return r.one_in(3) ? take_over() : token();
      case 15:
        return r.one_in(2) ? mistake() : token();
      default:
        return token();
    }
  }

  /// All that the three must agree in.
  void compare() {
    const decider<P>& d = *decider_;
    promise(d.next_position() == model_.next, "next position");
    promise(d.fault() == fault_kind::none, "no fault");
    for (int i = 0; i < d.lanes(); ++i) {
      const known_lane& lane = model_.lanes[multistate::to_size(i)];
      const auto positions = d.positions(i);
      const int holes = static_cast<int>(positions.size()) - lane.n;
      promise(d.live(i) == lane.n, "live states");
      promise(lane.n <= lane.budget + room_.slack(), "budget");
      promise(positions.size() <= multistate::to_size(d.capacity(i)) &&
                  (holes == 0 || (holes == 1 && room_.undo + room_.hold == 0)),
              "at most one hole");
      std::array<slot, most_states> order;
      promise(d.rank_order(i, order) == multistate::to_size(lane.n), "rank order");
      for (int k = 0; k < lane.n; ++k) {
        const known_state& s = lane.states[multistate::to_size(k)];
        const std::size_t at = index(order[multistate::to_size(k)]);
        promise(at < positions.size() && positions[at] == s.at, "positions");
        if constexpr (std::is_same_v<P, h2o>) {
          const double sum = double{d.column(i, 0)[at]} + double{d.column(i, 1)[at]};
          promise(sum == s.sum || (std::isnan(sum) && std::isnan(s.sum)), "sums");
        }
        if constexpr (std::is_same_v<P, knorm>) promise(-d.column(i, 0)[at] == s.norm, "norms");
      }
      std::array<position_range, most_states> ranges;
      const std::size_t count = d.kept_ranges(i, ranges);
      int k = 0;
      for (std::size_t j = 0; j < count; ++j)
        for (position p = ranges[j].first; p < ranges[j].last; ++p)
          promise(k < lane.n && lane.states[multistate::to_size(k++)].at == p, "kept ranges");
      promise(k == lane.n, "kept ranges");
      for (auto& states : states_)
        for (int h = 0; h < where_.kv_heads; ++h)
          if (d.lane_of(h) == i) compare_states(states, h, positions, holes > 0);
    }
  }

 private:
  using state_type = multi_state<f32>;

  int layers() const { return settings_.scope == scope_kind::model ? where_.layers : 1; }
  shape dims() const { return {where_.kv_heads, where_.kv_heads, 2, 1}; }
  float tag(position p) const { return static_cast<float>((p - travelled_) % 4096); }

  void forget_all() {
    known_memory empty;
    empty.lane_count = decider_->lanes();
    for (int i = 0; i < decider_->lanes(); ++i) empty.lanes[multistate::to_size(i)].budget = decider_->budget(i);
    model_ = empty;
    history_.clear();
    travelled_ = 0;
    states_.clear();
    for (int i = 0; i < layers(); ++i) states_.push_back(state_type::make(dims(), decider_->plan()).value());
  }

  void compare_states(state_type& states, int h, std::span<const position> positions, bool hole) {
    promise(states.live(h) == decider_->live(decider_->lane_of(h)) && states.executed(decider_->moment()),
            "live states follow");
    if (hole) return;
    extent where;
    states.view(h, where);
    for (int s = 0; s < states.live(h); ++s) {
      float key[2], value;
      std::memcpy(key, where.k + multistate::to_size(s) * where.k_stride, sizeof key);
      std::memcpy(&value, where.v + multistate::to_size(s) * where.v_stride, sizeof value);
      promise(key[0] == tag(positions[multistate::to_size(s)]) && key[1] == static_cast<float>(h) && value == -key[0],
              "stored states");
    }
    const auto poison = [](const std::byte* at, std::size_t bytes) {
      std::memset(const_cast<std::byte*>(at), 0xff, bytes);
    };
    const std::size_t free = multistate::to_size(states.capacity(h) - states.live(h)),
                      from = multistate::to_size(states.live(h));
    poison(where.k + from * where.k_stride, free * where.k_stride);
    poison(where.v + from * where.v_stride, free * where.v_stride);
  }

  void execute(const multistate::decision& decision) {
    for (state_type& s : states_)
      promise(s.apply(decision,
                      [&](int h, position p, std::span<const float> k, std::span<const float> v) {
                        promise(k[0] == tag(p) && k[1] == static_cast<float>(h) && v[0] == -k[0], "dropped states");
                      }),
              "states execute every decision");
  }

  // ---- the cycle

  void token() {
    if (fits(1)) cycle(1, phase::decode, false, 1);
  }
  void chunk(int c) {
    if (fits(c)) now.broken = "chunk", cycle(c, phase::decode, false, c);
  }
  void held(int c) {
    if (fits(c)) now.broken = "held", cycle(c, phase::decode, true, source_.between(0, c));
  }
  void prompt(int c) {
    if (fits(c)) now.broken = "prompt", cycle(c, phase::prompt_end, false, c, true);
  }
  bool fits(int c) const { return !has_no_budget<P> || model_.next - travelled_ + c <= decider_->budget(0); }

  void cycle(int c, phase when, bool hold, int accepted, bool one_shot = false, bool forgetful = false) {
    if (room_.undo > 0) before_ = model_;
    append(c, when, hold, one_shot);
    if (forgetful) {
      if (decider_->needs_rows())
        promise(decider_->reduce().fault == fault_kind::lane_not_observed, "rows are missing");
      promise(decider_->append(1).fault != fault_kind::none && decider_->slots(0).empty(), "the cycle is not over");
      decider_->clear_fault();
    }
    observe(c, hold);
    reduce(c, hold, accepted, one_shot);
    if (room_.undo == 0 || accepted == 0) return;
    if (c > room_.chunk) return history_.clear();
    history_.emplace_back(accepted, before_);
    int tokens = 0;
    for (const auto& [count, memory] : history_) tokens += count;
    while (tokens > room_.undo) {
      tokens -= history_.front().first;
      history_.erase(history_.begin());
    }
  }

  void append(int c, phase when, bool hold, bool one_shot) {
    decider<P>& d = *decider_;
    d.append(c, when, hold);
    if (!one_shot) execute(d.last());
    first_ = model_.next;
    model_.next += c;
    for (int i = 0; i < d.lanes(); ++i) {
      known_lane& lane = model_.lanes[multistate::to_size(i)];
      promise(d.slots(i).size() == multistate::to_size(c), "a slot for each token");
      for (int j = 0; j < c; ++j) lane.states[multistate::to_size(lane.n++)] = {.at = first_ + j};
    }
    float keys[2 * most_tokens], values[most_tokens];
    for (int layer = 0; layer < layers(); ++layer)
      for (int h = 0; h < where_.kv_heads; ++h) {
        const int i = d.lane_of(h);
        known_lane& lane = model_.lanes[multistate::to_size(i)];
        for (int j = 0; j < c; ++j) {
          keys[2 * j] = tag(first_ + j);
          keys[2 * j + 1] = static_cast<float>(h);
          values[j] = -keys[2 * j];
          if constexpr (enters<P>) {
            const float norm = static_cast<float>(mix(salt_ ^ static_cast<std::uint64_t>(first_ + j) * 31) % 7);
            const float key[2] = {norm, 0};
            d.enter(i, j, key, key, key);
            lane.states[multistate::to_size(lane.n - c + j)].norm += norm;
          }
        }
        if (!one_shot) states_[multistate::to_size(layer)].write(h, d.slots(i), keys, values, 2, 1);
      }
  }

  float weight(position state, position query, int head, int layer) const {
    const std::uint64_t h = mix(salt_ ^ static_cast<std::uint64_t>(state) * 0x9e3779b97f4a7c15u ^
                                static_cast<std::uint64_t>(query) << 20 ^ static_cast<std::uint64_t>(4 * layer + head));
    if (has_nan_ && h % 97 == 0) return std::numeric_limits<float>::quiet_NaN();
    return static_cast<float>((h >> 8) & steps_) / 1024.0f;
  }

  /// Hands in rows in one of the forms that the policy takes, and notes them by state.
  void observe(int c, bool hold) {
    decider<P>& d = *decider_;
    for (int i = 0; i < d.lanes(); ++i)
      for (int j = 0; j < c; ++j) seen_[multistate::to_size(i)][multistate::to_size(j)].fill(0);
    if (!any(rows_of(P{}.wants())) || (!d.needs_rows() && source_.one_in(2))) return;
    for (int layer = 0; layer < layers(); ++layer)
      for (int h = 0; h < where_.kv_heads; ++h) {
        const int i = d.lane_of(h), n = d.live(i), stride = n + 3;
        const known_lane& lane = model_.lanes[multistate::to_size(i)];
        std::array<slot, most_states> order;
        d.rank_order(i, order);
        rows_.assign(multistate::to_size(c * stride), std::numeric_limits<float>::quiet_NaN());
        sum_.assign(multistate::to_size(n), 0.0f);
        for (int j = 0; j < c; ++j)
          for (int k = 0; k < n; ++k) {
            const position p = lane.states[multistate::to_size(k)].at;
            const float w = p > first_ + j ? 0.0f : weight(p, first_ + j, h, layer);
            seen_[multistate::to_size(i)][multistate::to_size(j)][multistate::to_size(k)] += double{w};
            rows_[multistate::to_size(j * stride) + index(order[multistate::to_size(k)])] = w;
            sum_[index(order[multistate::to_size(k)])] += w;
          }
        rows r{.data = rows_.data(), .stride = multistate::to_size(stride), .n = n, .queries = c};
        const bool each = hold || any(rows_of(P{}.wants()) & needs::each_row);
        if (!each && any(rows_of(P{}.wants()) & needs::row_sum) && source_.one_in(2)) {
          r.data = sum_.data();
          r.kind = rows_kind::sum;
        } else if (!each && any(rows_of(P{}.wants()) & needs::last_row) && source_.one_in(2)) {
          r.data = rows_.data() + multistate::to_size((c - 1) * stride);
          r.queries = 1;
        }
        d.observe(i, r);
      }
  }

  void reduce(int c, bool hold, int accepted, bool one_shot) {
    decider<P>& d = *decider_;
    const multistate::decision& decision = d.reduce(hold || source_.one_in(2) ? accepted : -1);
    promise(decision.fault == fault_kind::none, "no fault");
    model_.next -= c - accepted;
    for (int i = 0; i < d.lanes(); ++i) {
      known_lane& lane = model_.lanes[multistate::to_size(i)];
      lane.n -= c - accepted;
      std::array<position, most_states> gone;
      const int drop = accepted > 0 ? choose(i, accepted, gone) : 0;
      const auto said = decision.lanes[multistate::to_size(i)].dropped_positions;
      promise(said.size() == multistate::to_size(drop) && std::equal(said.begin(), said.end(), gone.begin()),
              "what is dropped");
      if (accepted > 0) compare_ranks(i, {gone.data(), multistate::to_size(drop)});
      const auto left = std::remove_if(lane.states.begin(), lane.states.begin() + lane.n, [&](const known_state& s) {
        return std::binary_search(gone.begin(), gone.begin() + drop, s.at);
      });
      lane.n = static_cast<int>(left - lane.states.begin());
      promise(decision.lanes[multistate::to_size(i)].live == lane.n, "live states of a decision");
    }
    if (!one_shot) return execute(decision);
    float keys[2 * most_tokens], values[most_tokens];
    for (state_type& s : states_)
      for (int h = 0; h < where_.kv_heads; ++h) {
        for (int j = 0; j < c; ++j)
          keys[2 * j] = tag(j), keys[2 * j + 1] = static_cast<float>(h), values[j] = -keys[2 * j];
        s.write_kept(h, decision.lanes[multistate::to_size(d.lane_of(h))], d.positions(d.lane_of(h)), keys, values, 2,
                     1);
      }
  }

  /// The positions that the lane drops, increasing; returns how many. Adds the rows up first.
  int choose(int i, int accepted, std::array<position, most_states>& gone) {
    known_lane& lane = model_.lanes[multistate::to_size(i)];
    if constexpr (std::is_same_v<P, h2o>)
      for (int k = 0; k < lane.n; ++k)
        for (int j = 0; j < accepted; ++j)
          lane.states[multistate::to_size(k)].sum +=
              seen_[multistate::to_size(i)][multistate::to_size(j)][multistate::to_size(k)];
    const int drop = lane.n >= lane.budget + room_.every ? lane.n - lane.budget : 0;
    if (drop == 0) return 0;
    struct candidate {
      float worth;
      position at;
      bool operator<(const candidate& b) const {
        if (std::isnan(worth) != std::isnan(b.worth)) return std::isnan(worth);
        return std::isnan(worth) || worth == b.worth ? at < b.at : worth < b.worth;
      }
    };
    std::array<candidate, most_states> all;
    int count = 0;
    const position newest = model_.next - 1;
    for (int k = 0; k < lane.n; ++k) {
      const known_state& s = lane.states[multistate::to_size(k)];
      if (is_protected(settings_, model_, lane, k)) continue;
      float worth = 0;
      if constexpr (std::is_same_v<P, tova>)
        worth = static_cast<float>(
            seen_[multistate::to_size(i)][multistate::to_size(accepted - 1)][multistate::to_size(k)]);
      if constexpr (std::is_same_v<P, h2o>) {
        const position age = newest - s.at + 1;
        const position queries = room_.window > 0 ? std::min<position>(age, room_.window) : age;
        worth = static_cast<float>(s.sum) / (settings_.normalised ? static_cast<float>(queries) : 1.0f);
      }
      if constexpr (std::is_same_v<P, knorm>) worth = -s.norm;
      if constexpr (std::is_same_v<P, multistate::random_choice>) {
        const std::uint64_t draw =
            mix(mix(settings_.seed ^ mix(static_cast<std::uint64_t>(i))) ^ static_cast<std::uint64_t>(newest));
        worth = static_cast<float>(mix(draw ^ static_cast<std::uint64_t>(s.at)) >> 40);
      }
      all[multistate::to_size(count++)] = {worth, s.at};
    }
    promise(count >= drop, "enough may go");
    std::sort(all.begin(), all.begin() + count);
    for (int k = 0; k < drop; ++k) gone[multistate::to_size(k)] = all[multistate::to_size(k)].at;
    std::sort(gone.begin(), gone.begin() + drop);
    return drop;
  }

  /// kept_ranks() are those of the states before, less the dropped ones.
  void compare_ranks(int i, std::span<const position> gone) {
    const known_lane& lane = model_.lanes[multistate::to_size(i)];
    std::array<rank_range, most_states> ranges;
    const std::size_t count = decider_->kept_ranks(i, ranges);
    std::size_t at = 0;
    int rank = count > 0 ? ranges[0].first : 0;
    for (int k = 0; k < lane.n; ++k) {
      if (std::binary_search(gone.begin(), gone.end(), lane.states[multistate::to_size(k)].at)) continue;
      while (at < count && rank == ranges[at].last) rank = ++at < count ? ranges[at].first : rank;
      promise(at < count && rank == k, "kept ranks");
      ++rank;
    }
    promise(count == 0 || (at + 1 == count && rank == ranges[at].last), "kept ranks");
  }

  // ---- everything else

  void pin() {
    now.broken = "pin";
    constexpr position last_position = std::numeric_limits<position>::max();
    position first = model_.next - source_.between(0, 20), last = first + source_.between(0, 6);
    if (source_.one_in(30)) first = last_position - source_.between(0, 9), last = last_position;
    if (source_.one_in(40)) last = last_position;
    known_memory with = model_;
    bool fine = first >= 0 && last > first && model_.pin_count < decider<P>::max_pins;
    if (fine) {
      with.pins[multistate::to_size(with.pin_count++)] = {first, last};
      for (int i = 0; i < decider_->lanes(); ++i)
        fine = fine && pins_fit(settings_, with, with.lanes[multistate::to_size(i)]);
    }
    promise(decider_->pin(first, last) == fine, "pins that fit are taken, no others");
    if (fine) model_ = with;
  }

  void unpin() {
    now.broken = "unpin";
    position_range which{model_.next - source_.between(0, 20), model_.next};
    if (model_.pin_count > 0 && source_.one_in(2))
      which = model_.pins[multistate::to_size(source_.between(0, model_.pin_count - 1))];
    const auto end = model_.pins.begin() + model_.pin_count, found = std::find(model_.pins.begin(), end, which);
    promise(decider_->unpin(which.first, which.last) == (found != end), "unpin of what is pinned");
    if (found == end) return;
    std::copy(found + 1, end, found);
    --model_.pin_count;
  }

  void undo() {
    now.broken = "undo";
    const int tokens = source_.between(0, 7);
    int held = 0;
    std::size_t cycles = 0;
    while (held < tokens && cycles < history_.size()) held += history_[history_.size() - ++cycles].first;
    const bool fine = tokens >= 1 && held == tokens;
    promise(decider_->can_undo(tokens) == fine && decider_->undo(tokens) == fine, "undo of whole cycles");
    if (!fine) return;
    model_ = history_[history_.size() - cycles].second;
    history_.resize(history_.size() - cycles);
    execute(decider_->last());
  }

  void close() {
    now.broken = "close";
    execute(decider_->close());
    for (int i = 0; i < decider_->lanes(); ++i)
      promise(decider_->positions(i).size() == multistate::to_size(decider_->live(i)), "no hole");
  }

  void restart() {
    now.broken = "restart";
    decider_->restart(0);
    forget_all();
  }

  template <class T>
  static std::vector<std::byte> saved(const T& x) {
    std::vector<std::byte> file(x.save_bytes());
    x.save(file);
    return file;
  }

  void fork() {
    now.broken = "fork";
    auto copy = decider<P>::make(settings_, where_, room_, budgets_).value();
    promise(copy.copy_from(*decider_) && saved(copy) == saved(*decider_), "a fork is equal");
    for (state_type& s : states_) {
      auto other = state_type::make(dims(), copy.plan()).value();
      promise(other.copy_from(s), "states fork");
      s = std::move(other);
    }
    decider_ = std::move(copy);
  }

  void save_and_load() {
    now.broken = "save and load";
    auto copy = decider<P>::make(settings_, where_, room_, budgets_).value();
    const auto file = saved(*decider_);
    promise(copy.load(file).code() == errc::ok && saved(copy) == file, "what is saved loads");
    for (state_type& s : states_) {
      auto other = state_type::make(dims(), copy.plan()).value();
      promise(other.load(saved(s), copy.last()).code() == errc::ok, "states load at the same moment");
      s = std::move(other);
    }
    decider_ = std::move(copy);
    history_.clear();
  }

  /// To where positions need more than 31 or 32 bits.
  void travel() {
    now.broken = "travel";
    if (travelled_ > 0 || model_.pin_count > 0 || has_no_budget<P>) return;
    const position by = (source_.one_in(2) ? position{1} << 31 : position{1} << 32) - 12 - model_.next;
    auto file = saved(*decider_);
    const auto add = [&](std::size_t at) {
      position p = 0;
      std::memcpy(&p, file.data() + at, sizeof p);
      if (p >= 0) p += by;
      std::memcpy(file.data() + at, &p, sizeof p);
    };
    constexpr std::size_t next_at = 32, pins_at = next_at + 28;
    add(next_at);
    add(next_at + 16);  // what came before a hand-over goes along
    std::size_t at = pins_at + decider<P>::max_pins * sizeof(position_range);
    for (int i = 0; i < decider_->lanes(); ++i) {
      const std::size_t slots = decider_->positions(i).size(), live = multistate::to_size(decider_->live(i));
      at += 12;
      for (std::size_t s = 0; s < slots; ++s) add(at + s * sizeof(position));
      at += slots * sizeof(position) + live * sizeof(std::uint32_t) +
            multistate::to_size(P{}.wants().columns) * slots * sizeof(float);
    }
    promise(decider_->load(file).code() == errc::ok, "positions may be large");
    travelled_ = by;
    model_.next += by;
    for (int i = 0; i < decider_->lanes(); ++i)
      for (int k = 0; k < model_.lanes[multistate::to_size(i)].n; ++k)
        model_.lanes[multistate::to_size(i)].states[multistate::to_size(k)].at += by;
    history_.clear();
  }

  template <policy Q>
  void take_over_from() {
    follower<Q, Source> other(source_);
    if (!other.make(where_.kv_heads, decider_->lanes()) || other.layers() != layers()) return;
    other.has_nan_ = false;
    for (int t = source_.between(0, 12); t > 0; --t) {
      if (source_.one_in(6))
        other.pin();
      else
        other.chunk(source_.between(1, std::min(2, other.room_.chunk)));
    }
    now.broken = "take over";
    bool fine = true;
    for (int i = 0; i < decider_->lanes(); ++i) {
      known_lane lane = other.model_.lanes[multistate::to_size(i)];
      const bool hole = other.decider_->positions(i).size() > multistate::to_size(lane.n);
      lane.budget = decider_->budget(i);
      fine = fine && lane.n <= lane.budget + room_.slack() && !(hole && room_.undo + room_.hold > 0);
      fine = fine && (other.model_.pin_count == 0 || pins_fit(settings_, other.model_, lane));
    }
    promise(decider_->take_over(*other.decider_) == fine, "taken over where it fits");
    if (!fine) return;
    for (int i = 0; i < decider_->lanes(); ++i) {
      const int budget = model_.lanes[multistate::to_size(i)].budget;
      model_.lanes[multistate::to_size(i)] = other.model_.lanes[multistate::to_size(i)];
      model_.lanes[multistate::to_size(i)].budget = budget;
      if constexpr (!std::is_same_v<P, Q>)
        for (known_state& s : model_.lanes[multistate::to_size(i)].states) s.sum = 0, s.norm = 0;
    }
    model_.next = other.model_.next;
    model_.pins = other.model_.pins;
    model_.pin_count = other.model_.pin_count;
    history_.clear();
    travelled_ = 0;
    float keys[2 * most_states], values[most_states];  // by position: there are fewer
    for (state_type& s : states_)
      for (int h = 0; h < where_.kv_heads; ++h) {
        for (int p = 0; p < most_states; ++p)
          keys[2 * p] = tag(p), keys[2 * p + 1] = static_cast<float>(h), values[p] = -keys[2 * p];
        const int lane = decider_->lane_of(h);
        s.write_kept(h, decider_->last().lanes[multistate::to_size(lane)], decider_->positions(lane), keys, values, 2,
                     1);
      }
  }
  void take_over() {
    switch (source_.between(0, 4)) {
      case 0:
        return take_over_from<window>();
      case 1:
        return take_over_from<tova>();
      case 2:
        return take_over_from<h2o>();
      case 3:
        return take_over_from<knorm>();
      default:
        return take_over_from<multistate::random_choice>();
    }
  }

  /// What a caller may do wrong changes nothing, is named, and stays named until it is cleared.
  void mistake() {
    now.broken = "mistake";
    decider<P>& d = *decider_;
    const std::uint64_t moment = d.moment();
    switch (source_.between(0, 3)) {
      case 0:
        promise(d.reduce().fault == fault_kind::out_of_order, "reduce() comes after append()");
        break;
      case 1:
        promise(d.append(0).fault == fault_kind::wrong_count, "no tokens");
        break;
      case 2:
        promise(d.append(most_states).fault == fault_kind::wrong_count, "more tokens than fit");
        break;
      default:
        promise(d.reduce(-7).fault == fault_kind::out_of_order, "reduce() comes after append()");
        break;
    }
    promise(d.append(1).fault == d.fault() && d.reduce().fault == d.fault() && !d.undo(1), "a fault stays");
    d.clear_fault();
    promise(d.moment() == moment, "nothing was changed");
    if (fits(1)) cycle(1, phase::decode, false, 1, false, true);
  }

  Source& source_;
  P settings_;
  placement where_;
  limits room_;
  std::vector<int> budgets_;
  std::optional<decider<P>> decider_;
  std::vector<state_type> states_;  ///< of each layer at scope model, else one
  known_memory model_, before_;
  std::vector<std::pair<int, known_memory>> history_;  ///< tokens of a cycle, what there was before it
  position travelled_ = 0;                             ///< how far positions were moved
  position first_ = 0;                                 ///< of the cycle under way
  std::uint64_t salt_ = 0, steps_ = 0;
  bool has_nan_ = false;
  std::vector<float> rows_, sum_;
  std::array<std::array<std::array<double, most_states>, most_tokens>, most_lanes> seen_;  ///< [lane][query][state]
};

template <policy P, class Source>
long run_of(Source& source, long most) {
  follower<P, Source> f(source);
  if (!f.make()) return 0;
  long done = 0;
  for (; done < most && !source.ended(); ++done) {
    now.operation = done;
    now.broken = "token";
    f.operation();
    f.compare();
  }
  return done;
}

/// One program of at most so many operations; returns how many there were.
template <class Source>
long run(Source& source, long most) {
  switch (source.between(0, 5)) {
    case 0:
      return run_of<window>(source, most);
    case 1:
      return run_of<tova>(source, most);
    case 2:
      return run_of<h2o>(source, most);
    case 3:
      return run_of<knorm>(source, most);
    case 4:
      return run_of<multistate::random_choice>(source, most);
    default:
      return run_of<full>(source, most);
  }
}

}  // namespace support::program
