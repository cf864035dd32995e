#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <multistate/eval/sample.hpp>
#include <multistate/memory/memory_setup.hpp>
#include <multistate/memory/sequence_memory.hpp>

namespace multistate {

/// First query of a window that may see other states than Full's does: the one behind the query after which a lane
/// first holds more than its budget; max_tokens where Full's budget is no larger. Precondition: memories of one model.
inline int first_fork(const sequence_memory& run, const sequence_memory& full) noexcept {
  int fork = max_tokens;
  for (int layer = 0; layer < run.layers(); ++layer)
    for (int lane = 0; lane < run.lanes(layer); ++lane)
      if (const int k = run.budget(layer, lane); k < full.budget(layer, 0)) fork = std::min(fork, k + 1);
  return fork;
}

/// How runs side by side read a window: how many of its tokens go through the weights together, and which runs still
/// are what another one is, so that both are computed once. Read token by token, tokens of one pass give the bits of
/// passes of one token (attend_mode::one_by_one).
class pass_plan {
 public:
  struct run {
    const sequence_memory* memory = nullptr;
    position_mode positions = position_mode::original;
  };
  /// Columns of the products of a pass, and those of them that may have logits.
  struct room {
    std::size_t columns = 1, logits = 1;
  };

  /// `runs`: Full's the first. `chunk`: tokens that are read together, all of which a pass takes; 1: token by token.
  pass_plan(std::span<const run> runs, int chunk, room most) : chunk_(chunk), most_(most), same_as_(runs.size(), -1) {
    for (const run& r : runs) {
      positions_.push_back(r.positions);
      forks_.push_back(first_fork(*r.memory, *runs[0].memory));
      many_ = many_ && r.memory->one_by_one();
    }
  }

  /// Tokens of the pass that begins with query `at`, of the first `runs` runs; says in same_as() what is computed once.
  /// `logits`: queries that are not scored have them too.
  int next(const text_window& w, int at, std::size_t runs, bool logits) noexcept {
    for (std::size_t i = 0; i < runs; ++i) same_as_[i] = leader_of(i, at);
    const int left = w.queries - at;
    if (chunk_ > 1 || !many_) return std::min(chunk_, left);
    int tokens = at < w.scored_from ? std::min(left, w.scored_from - at) : left;
    for (std::size_t i = 0; i < runs; ++i)
      if (forks_[i] > at) tokens = std::min(tokens, forks_[i] - at);
    const std::size_t all = columns(runs);
    const std::size_t most = logits || at >= w.scored_from ? std::min(most_.columns, most_.logits) : most_.columns;
    return std::min(tokens, static_cast<int>(std::max<std::size_t>(1, most / all)));
  }
  /// [runs] the run before it that it is the same as in this pass; -1: it is computed for itself.
  std::span<const int> same_as() const noexcept { return same_as_; }
  /// Of the first `runs` runs those that are computed for themselves in this pass.
  std::size_t columns(std::size_t runs) const noexcept {
    return static_cast<std::size_t>(
        std::count(same_as_.begin(), same_as_.begin() + static_cast<std::ptrdiff_t>(runs), -1));
  }

 private:
  int leader_of(std::size_t i, int at) const noexcept {
    for (std::size_t j = 0; j < i && at < forks_[i]; ++j)
      if (positions_[j] == positions_[i] && at < forks_[j]) return static_cast<int>(j);
    return -1;
  }

  int chunk_;
  room most_;
  bool many_ = true;  ///< tokens may go through together
  std::vector<position_mode> positions_;
  std::vector<int> forks_;    ///< [runs] first_fork()
  std::vector<int> same_as_;  ///< [runs]
};

}  // namespace multistate
