#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <queue>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <multistate/util/hash.hpp>

namespace multistate::detail {

/// Pieces by their bytes; the lowest id where one comes twice.
class piece_index {
 public:
  explicit piece_index(std::span<const std::string> pieces) : pieces_(pieces) {
    table_.resize(std::bit_ceil(2 * pieces.size() + 2), -1);
  }
  void add(int id) {
    const std::string& piece = at(id);
    if (piece.size() > longest_) longest_ = piece.size();
    for (std::size_t place = hash(piece) & (table_.size() - 1);; place = (place + 1) & (table_.size() - 1)) {
      if (table_[place] >= 0 && at(table_[place]) == piece) return;
      if (table_[place] < 0) {
        table_[place] = id;
        return;
      }
    }
  }
  /// -1: none.
  int find(std::string_view bytes) const noexcept {
    if (bytes.size() > longest_) return -1;
    for (std::size_t place = hash(bytes) & (table_.size() - 1); table_[place] >= 0;
         place = (place + 1) & (table_.size() - 1))
      if (at(table_[place]) == bytes) return table_[place];
    return -1;
  }
  static std::size_t hash(std::string_view bytes) noexcept { return std::hash<std::string_view>()(bytes); }

 private:
  const std::string& at(int id) const noexcept { return pieces_[static_cast<std::size_t>(id)]; }
  std::span<const std::string> pieces_;
  std::vector<int> table_;  ///< ids by hash, -1: free; at least half of it is free
  std::size_t longest_ = 0;
};

/// What two neighbours become: -1, nothing. The lowest rank goes first.
struct merge_rule {
  std::uint32_t rank = 0;
  int id = -1;
};

/// Rules by the ids of both neighbours.
class merge_table {
 public:
  explicit merge_table(std::size_t most = 0) : entries_(std::bit_ceil(2 * most + 2)) {}

  /// A pair that comes twice has its last rule.
  void add(int left, int right, merge_rule rule) {
    entry& e = entries_[place_of(key_of(left, right))];
    e = {key_of(left, right), rule};
  }
  merge_rule find(int left, int right) const noexcept { return entries_[place_of(key_of(left, right))].rule; }

 private:
  struct entry {
    std::uint64_t key = ~std::uint64_t{0};
    merge_rule rule;
  };
  static std::uint64_t key_of(int left, int right) noexcept {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  std::size_t place_of(std::uint64_t key) const noexcept {
    std::size_t place = mix(key) & (entries_.size() - 1);
    while (entries_[place].key != key && entries_[place].key != ~std::uint64_t{0})
      place = (place + 1) & (entries_.size() - 1);
    return place;
  }
  std::vector<entry> entries_;  ///< at least half of it is free
};

/// A stretch of a word that is one token so far.
struct merge_symbol {
  int id = -1;              ///< -1: bytes that no piece spells
  std::uint32_t begin = 0;  ///< in the word
  std::uint32_t size = 0;   ///< bytes; 0: merged into the one before
};

/// Merges neighbours until no rule is left: the lowest rank first, the leftmost of equals.
class merger {
 public:
  /// `rule(a, b)` says what two neighbours become. Short words are searched again after each merge; in long ones a
  /// queue holds all pairs, so that n symbols take O(n log n).
  template <class Rule>
  void merge(std::vector<merge_symbol>& symbols, const Rule& rule) {
    constexpr std::size_t searched = 24;
    if (symbols.size() < 2) return;
    if (symbols.size() <= searched)
      merge_few(symbols, rule);
    else
      merge_many(symbols, rule);
  }

 private:
  template <class Rule>
  void merge_few(std::vector<merge_symbol>& s, const Rule& rule) {
    rules_.resize(s.size());
    for (std::size_t i = 0; i + 1 < s.size(); ++i) rules_[i] = rule(s[i], s[i + 1]);
    for (;;) {
      std::size_t best = s.size();
      for (std::size_t i = 0; i + 1 < s.size(); ++i)
        if (rules_[i].id >= 0 && (best == s.size() || rules_[i].rank < rules_[best].rank)) best = i;
      if (best == s.size()) return;
      s[best] = {rules_[best].id, s[best].begin, s[best].size + s[best + 1].size};
      s.erase(s.begin() + static_cast<std::ptrdiff_t>(best) + 1);
      rules_.erase(rules_.begin() + static_cast<std::ptrdiff_t>(best));
      if (best + 1 < s.size()) rules_[best] = rule(s[best], s[best + 1]);
      if (best > 0) rules_[best - 1] = rule(s[best - 1], s[best]);
    }
  }

  struct candidate {
    std::uint32_t rank, left, size;  ///< size: bytes of both, which tells that they are the same two still
    int id;
    bool operator<(const candidate& b) const noexcept { return rank > b.rank || (rank == b.rank && left > b.left); }
  };
  template <class Rule>
  void merge_many(std::vector<merge_symbol>& s, const Rule& rule) {
    constexpr std::uint32_t none = ~std::uint32_t{0};
    const auto n = static_cast<std::uint32_t>(s.size());
    before_.resize(n);
    after_.resize(n);
    for (std::uint32_t i = 0; i < n; ++i) {
      before_[i] = i - 1;  // none for the first
      after_[i] = i + 1 < n ? i + 1 : none;
    }
    std::vector<candidate> all;
    const auto pair_at = [&](std::uint32_t left) -> candidate {
      const merge_symbol &a = s[left], &b = s[after_[left]];
      const merge_rule r = rule(a, b);
      return {r.rank, left, a.size + b.size, r.id};
    };
    for (std::uint32_t i = 0; i + 1 < n; ++i)
      if (const candidate c = pair_at(i); c.id >= 0) all.push_back(c);
    std::priority_queue<candidate> queue(std::less<candidate>(), std::move(all));
    while (!queue.empty()) {
      const candidate best = queue.top();
      queue.pop();
      const std::uint32_t right = s[best.left].size == 0 ? none : after_[best.left];
      if (right == none || s[best.left].size + s[right].size != best.size) continue;
      s[best.left] = {best.id, s[best.left].begin, best.size};
      s[right].size = 0;
      after_[best.left] = after_[right];
      if (after_[right] != none) before_[after_[right]] = best.left;
      if (before_[best.left] != none)
        if (const candidate c = pair_at(before_[best.left]); c.id >= 0) queue.push(c);
      if (after_[best.left] != none)
        if (const candidate c = pair_at(best.left); c.id >= 0) queue.push(c);
    }
    std::erase_if(s, [](const merge_symbol& x) { return x.size == 0; });
  }

  std::vector<merge_rule> rules_;
  std::vector<std::uint32_t> before_, after_;
};

}  // namespace multistate::detail
