#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <multistate/eval/oracle.hpp>
#include <multistate/eval/seen_states.hpp>
#include <multistate/memory/sequence_memory.hpp>

namespace multistate {

/// Notes when each state of one sequence was dropped: its death, the first query that no longer sees it. A state of
/// position p is seen by queries [p, death), so that its life is death - p. From an empty memory, without undo.
class lives final : public memory_observer {
 public:
  /// For windows of at most so many queries.
  lives(const sequence_memory& memory, int most_queries) : room_(static_cast<std::size_t>(most_queries)) {
    for (int layer = 0; layer < memory.layers(); ++layer) {
      const bool shared = spans_layers(memory.scope(layer));  // the last layer's decision is that of all
      first_.push_back(shared && layer > 0 ? first_[0] : lanes_);
      if (!shared || layer == 0) lanes_ += static_cast<std::size_t>(memory.lanes(layer));
      lanes_of_.push_back(memory.lanes(layer));
    }
    deaths_.resize(lanes_ * room_);
    now_.resize(first_.size());
  }

  /// Before the first token of a window. Precondition: queries <= most_queries.
  void begin(int queries) noexcept {
    queries_ = queries;
    std::fill(deaths_.begin(), deaths_.end(), queries);
    std::fill(now_.begin(), now_.end(), 0);
  }
  void attended(int layer, std::span<const attention_task> heads) noexcept override {
    now_[static_cast<std::size_t>(layer)] = static_cast<int>(heads[0].first) + heads[0].queries;
  }
  void decided(int layer, const multistate::decision& decision) noexcept override {
    const auto at = static_cast<std::size_t>(layer);
    for (std::size_t lane = 0; lane < decision.lanes.size(); ++lane)
      for (const position p : decision.lanes[lane].dropped_positions)
        deaths_[(first_[at] + lane) * room_ + static_cast<std::size_t>(p)] = now_[at];
  }

  int queries() const noexcept { return queries_; }
  int layers() const noexcept { return static_cast<int>(first_.size()); }
  int lanes(int layer) const noexcept { return lanes_of_[static_cast<std::size_t>(layer)]; }
  /// [queries] by position; `queries` for a state that outlived the window.
  std::span<const int> deaths(int layer, int lane) const noexcept {
    const std::size_t place = first_[static_cast<std::size_t>(layer)] + static_cast<std::size_t>(lane);
    return std::span(deaths_).subspan(place * room_, static_cast<std::size_t>(queries_));
  }

 private:
  std::size_t room_, lanes_ = 0;
  std::vector<std::size_t> first_;  ///< [layers] first lane
  std::vector<int> lanes_of_;
  std::vector<int> deaths_;  ///< [lanes][room]
  std::vector<int> now_;     ///< [layers] queries attended so far
  int queries_ = 0;
};

/// How many states the queries of one sequence attended, from the drops.
struct attended_states {
  int lanes = 0;
  std::vector<std::int64_t> sum;    ///< [queries] over lanes
  std::vector<int> most;            ///< [queries] of one lane
  std::vector<std::int64_t> bytes;  ///< [queries] keys and values of them, of all layers
  std::int64_t token_bytes = 0;     ///< keys and values of one token

  static attended_states of(const lives& from, const sequence_memory& memory) {
    const auto queries = static_cast<std::size_t>(from.queries());
    attended_states n;
    n.sum.resize(queries);
    n.most.resize(queries);
    n.bytes.resize(queries);
    std::vector<int> fewer(queries + 1);
    for (int layer = 0; layer < from.layers(); ++layer) {
      const auto state = static_cast<std::int64_t>(memory.state_bytes(layer));
      n.token_bytes += state * memory.dims().kv_heads;
      for (int lane = 0; lane < from.lanes(layer); ++lane, ++n.lanes) {
        std::fill(fewer.begin(), fewer.end(), 0);
        for (const int death : from.deaths(layer, lane)) ++fewer[static_cast<std::size_t>(death)];
        int live = 0;
        for (std::size_t j = 0; j < queries; ++j) {
          live += 1 - fewer[j];
          n.sum[j] += live;
          n.most[j] = (std::max)(n.most[j], live);
          n.bytes[j] += live * state * (memory.dims().kv_heads / from.lanes(layer));
        }
      }
    }
    return n;
  }
};

/// Of the states that queries [from, queries) see in `a`, the share that they see in `b` too. Precondition: sequences
/// of one text and of one shape, from <= queries; 1 where nothing is seen.
inline double seen_in_both(const lives& a, const lives& b, int from) noexcept {
  std::int64_t all = 0, both = 0;
  for (int layer = 0; layer < a.layers(); ++layer)
    for (int lane = 0; lane < a.lanes(layer); ++lane) {
      const seen_states n = count_seen(a.deaths(layer, lane), b.deaths(layer, lane), from, 0);
      all += n.all;
      both += n.alike;
    }
  return all > 0 ? static_cast<double>(both) / static_cast<double>(all) : 1.0;
}

/// What a token is that stands for one byte of text.
enum class character_kind : std::uint8_t { blank, newline, punctuation, capital, digit, letter, other };
inline constexpr std::array<const char*, 7> character_kinds{"blank", "newline", "punctuation", "capital",
                                                            "digit", "letter",  "other"};

/// ASCII; bytes of longer code points and control characters are `other`, `letter` is a small one.
constexpr character_kind kind_of(int byte) noexcept {
  if (byte == ' ' || byte == '\t') return character_kind::blank;
  if (byte == '\n' || byte == '\r') return character_kind::newline;
  if (byte >= '0' && byte <= '9') return character_kind::digit;
  if (byte >= 'A' && byte <= 'Z') return character_kind::capital;
  if (byte >= 'a' && byte <= 'z') return character_kind::letter;
  return byte > ' ' && byte < 127 ? character_kind::punctuation : character_kind::other;
}

/// Ages at which survival is told: 0, 1, 2, 4, ... queries - 1, and those around a budget, where Window's curve falls.
inline std::vector<int> survival_ages(int queries, std::optional<int> budget) {
  std::vector<int> ages{0, queries - 1};
  for (int age = 1; age < queries; age *= 2) ages.push_back(age);
  if (budget)
    for (int age = *budget - 1; age <= *budget + 1; ++age)
      if (age < queries) ages.push_back(age);
  std::sort(ages.begin(), ages.end());
  ages.erase(std::unique(ages.begin(), ages.end()), ages.end());
  return ages;
}

/// Sums over all states of all lanes of a window, or of several.
struct life_sums {
  static constexpr int no_kind = -1, not_counted = -2;  ///< in place of a character_kind; BOS is not counted

  std::int64_t life = 0, states = 0;
  std::array<std::int64_t, character_kinds.size()> kind_life{}, kind_states{};
  std::int64_t unknown = 0;             ///< tokens that no kind fits
  double kept_mass = 0, full_mass = 0;  ///< Full's weights, over scored queries: on the states kept, on all
  /// [ages] states that were alive at the age before and have a query of this age; those of them that it saw. What is
  /// alive when its window ends counts up to there.
  std::vector<std::int64_t> seen, alive;

  /// One window. `kinds` [queries], as numbers. Without `table` no mass.
  void add(const lives& from, std::span<const int> ages, std::span<const int> kinds, const oracle_table* table,
           int scored_from) {
    alive.resize(ages.size());
    seen.resize(ages.size());
    for (int layer = 0; layer < from.layers(); ++layer)
      for (int lane = 0; lane < from.lanes(layer); ++lane) {
        const auto deaths = from.deaths(layer, lane);
        for (int p = 0; p < from.queries(); ++p) {
          const int death = deaths[static_cast<std::size_t>(p)], kind = kinds[static_cast<std::size_t>(p)];
          life += death - p;
          ++states;
          if (kind >= 0) {
            kind_life[static_cast<std::size_t>(kind)] += death - p;
            ++kind_states[static_cast<std::size_t>(kind)];
          }
          unknown += kind == no_kind ? 1 : 0;
          for (std::size_t a = 0; a < ages.size() && p + ages[a] < from.queries(); ++a) {
            ++seen[a];
            if (death - p <= ages[a]) break;
            ++alive[a];
          }
          if (table == nullptr) continue;
          // A lane of one head is weighed with that head's rows, a lane of a whole layer with all of them, and so is
          // every lane where the table has no rows of heads.
          const bool own_rows = from.lanes(layer) == table->heads();
          for (int head = own_rows ? lane : 0; head < (own_rows ? lane + 1 : table->heads()); ++head) {
            kept_mass += table->mass(layer, head, p, scored_from, death);
            full_mass += table->mass(layer, head, p, scored_from, from.queries());
          }
        }
      }
  }
  void add(const life_sums& other) {
    life += other.life;
    states += other.states;
    for (std::size_t i = 0; i < kind_life.size(); ++i) {
      kind_life[i] += other.kind_life[i];
      kind_states[i] += other.kind_states[i];
    }
    unknown += other.unknown;
    kept_mass += other.kept_mass;
    full_mass += other.full_mass;
    alive.resize(std::max(alive.size(), other.alive.size()));
    seen.resize(alive.size());
    for (std::size_t a = 0; a < other.alive.size(); ++a) {
      alive[a] += other.alive[a];
      seen[a] += other.seen[a];
    }
  }
};

}  // namespace multistate
