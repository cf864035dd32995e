#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <multistate/util/executor.hpp>
#include <multistate/eval/figures.hpp>
#include <multistate/eval/lives.hpp>
#include <multistate/eval/oracle.hpp>
#include <multistate/eval/pass_plan.hpp>
#include <multistate/eval/sample.hpp>
#include <multistate/model/batch.hpp>
#include <multistate/model/sampling.hpp>
#include <multistate/memory/sequence_memory.hpp>

namespace multistate {

/// What a run of a comparison does with a text.
enum class run_kind : std::uint8_t {
  policy,        ///< keeps what a policy says
  oracle,        ///< keeps what Full will attend most
  short_context  ///< computes each scored query anew on BOS, if any, and the newest tokens that end at itself
};

constexpr std::string_view name_of(run_kind kind) noexcept {
  return kind == run_kind::oracle ? "oracle" : kind == run_kind::short_context ? "short" : "policy";
}

/// One entry of a comparison and what runs it.
struct policy_run {
  std::string policy;  ///< canonical, without budget; position mode behind '@'
  run_kind kind = run_kind::policy;
  position_mode positions = position_mode::original;
  bool drawn = false;  ///< draws at random, and is the mean over several seeds: what it loses is what choosing can win
  std::optional<int> budget;              ///< none: keeps everything
  std::vector<std::uint64_t> seeds;       ///< of its memories, where there are several
  std::vector<sequence_memory> memories;  ///< of sequences that run beside each other; empty: see `skipped`
  std::string skipped;                    ///< why it is not run
  std::optional<figures> measured;

  /// Whether each query starts anew: `budget` tokens in all, from position 0. `memories` then hold everything, and are
  /// worked on one after another.
  bool fresh() const noexcept { return kind == run_kind::short_context; }
  /// Most tokens of a fresh query. Precondition: fresh(), and there are memories.
  int fresh_tokens() const noexcept { return memories[0].budget(0, 0); }
};

/// Everything that one thread needs to run windows: a decoder, the rows' memories, the oracle's.
template <class Decoder>
struct comparison_worker {
  Decoder* model = nullptr;
  std::span<policy_run> rows;           ///< row 0 is Full
  oracle_table* table = nullptr;        ///< filled before each window; without one there is no kept mass
  sequence_memory* recorder = nullptr;  ///< with a table: runs oracle_recorder on it
};

/// Where finished parts of windows are kept between runs: what the rows in lockstep gave, and what each row of fresh
/// queries gave so far. Asked and told by those who run windows, several at a time; errors end the comparison.
class window_store {
 public:
  window_store() = default;
  window_store(const window_store&) = delete;
  window_store& operator=(const window_store&) = delete;
  virtual ~window_store() = default;

  /// Lets the totals [row][run] of the rows in lockstep go on from the whole window; false: it was not kept.
  virtual result<bool> restore(std::size_t window, std::vector<std::vector<totals>>& rows) = 0;
  virtual error keep(std::size_t window, const std::vector<std::vector<totals>>& rows) = 0;
  /// The same of the queries of a fresh row that come before the one that is returned; 0: none was kept.
  virtual result<int> restore_fresh(std::size_t window, std::size_t row, totals& so_far) = 0;
  virtual error keep_fresh(std::size_t window, std::size_t row, const totals& so_far, int next) = 0;
};

struct comparison_setup {
  int chunk = 1;               ///< tokens that all policies read together
  bool extrapolation = false;  ///< windows above the trained context: Full can't say what is right
  /// Told how much is done, of 1; false ends the comparison after the windows that are whole.
  std::function<bool(double)> progress = {};
  window_store* store = nullptr;
  /// Whether queries that are not scored have logits too, for differences by position.
  bool every_position = true;
  std::size_t first = 0, last = static_cast<std::size_t>(-1);  ///< windows [first, last) of the sample
};

struct comparison {
  std::size_t windows = 0;  ///< that were run to the end
  bool interrupted = false;
};

/// The budget whose rows are traced: that nearest 64, the smaller one of two.
inline std::optional<int> traced_budget(std::span<const policy_run> rows) noexcept {
  constexpr int wanted = 64;
  std::optional<int> best;
  for (const policy_run& row : rows)
    if (row.budget && !row.fresh() && !row.memories.empty() &&
        (!best || std::pair(std::abs(*row.budget - wanted), *row.budget) < std::pair(std::abs(*best - wanted), *best)))
      best = row.budget;
  return best;
}

namespace detail {

/// Longest window of a sample, in queries.
inline int most_queries(const text_sample& sample) noexcept {
  int most = 0;
  for (const text_window& w : sample.windows()) most = std::max(most, w.queries);
  return most;
}
/// Tokens of the longest window that its last query could miss, those before its last chunk: a budget that holds them
/// forgets nothing that is asked for.
inline int most_forgotten(const text_sample& sample, int chunk) noexcept {
  return (most_queries(sample) - 1) / chunk * chunk;
}
/// Ages at which the survival of a row's states is told: none where each query starts anew.
inline std::vector<int> ages_of(const policy_run& row, const text_sample& sample) {
  return row.fresh() ? std::vector<int>{} : survival_ages(most_queries(sample), row.budget);
}

/// What the workers of a comparison share.
struct comparison_clock {
  const comparison_setup& setup;
  double tokens = 0;  ///< to compute in all; one with logits counts more
  std::atomic<std::int64_t> done = 0;
  std::atomic<bool> stopped = false;
};

/// Runs windows, all rows of one in lockstep.
template <class Decoder, executor E>
class window_runner {
 public:
  window_runner(const comparison_worker<Decoder>& worker, E& exec, const text_sample& sample, comparison_clock& clock,
                bool reports)
      : worker_(worker),
        exec_(exec),
        sample_(sample),
        setup_(clock.setup),
        clock_(clock),
        reports_(reports),
        vocab_(to_size(worker.model->config().vocab)) {
    const std::optional<int> traced = traced_budget(worker.rows);
    for (const policy_run& row : worker.rows) {
      totals_.emplace_back(row.fresh() ? 1 : row.memories.size());
      ages_.push_back(ages_of(row, sample));
    }
    for (std::size_t r = 0; r < worker.rows.size(); ++r)
      for (std::size_t i = 0; i < worker.rows[r].memories.size() && !worker.rows[r].fresh(); ++i) {
        sequence_memory& memory = worker.rows[r].memories[i];
        runs_.push_back({&memory, &totals_[r][i], r, i == 0 && traced && worker.rows[r].budget == traced});
        lives_.emplace_back(memory, most_queries(sample));
        memory.watch(&lives_.back());
      }
    const auto wide = std::max<std::size_t>(1, most_logit_bytes / sizeof(float) / vocab_);
    const pass_plan::room room{.columns = to_size(worker.model->max_tokens()),
                               .logits = std::max(wide, runs_.size() * to_size(setup_.chunk))};
    std::vector<pass_plan::run> planned;
    for (const run& r : runs_) planned.push_back({r.memory, worker.rows[r.row].positions});
    plan_.emplace(planned, setup_.chunk, room);
    logits_.resize(std::max(std::min(room.columns, room.logits), fresh_logits()) * vocab_);
    full_.resize(vocab_);
    full_share_.resize(vocab_);
    work_.resize(fresh_logits() > 0 ? vocab_ : 0);
    items_.reserve(std::max(runs_.size(), fresh_logits()));
  }
  window_runner(const window_runner&) = delete;
  window_runner& operator=(const window_runner&) = delete;
  ~window_runner() {
    for (const run& r : runs_) r.memory->watch(nullptr);
  }

  /// Window `index` of the sample; an error or a stop leaves nothing of it.
  error operator()(std::size_t index) {
    const text_window& w = sample_.windows()[index];
    inputs_ = sample_.inputs(w);
    name_kinds(w);
    for (auto& row : totals_)
      for (totals& t : row) t = {};
    full_is_known_ = false;
    bool before = false;
    error e = restore(index, before);
    if (before) {
      advance(lockstep_cost(w));
    } else {
      if (going(e)) e = look_ahead();
      if (going(e)) e = lockstep(w, index, runs_);
      if (going(e)) count_states(w);
      if (going(e)) sum_lives(w, index);
      if (going(e) && setup_.store != nullptr) e = setup_.store->keep(index, totals_);
    }
    for (std::size_t r = 0; r < worker_.rows.size() && going(e); ++r)
      if (worker_.rows[r].fresh() && !worker_.rows[r].memories.empty()) e = short_context(w, r, index);
    for (auto& row : totals_)
      for (totals& t : row) t.end_window();
    return e;
  }
  const std::vector<std::vector<totals>>& all_totals() const noexcept { return totals_; }

  /// Tokens computed for a window; one with logits counts more.
  double cost(const text_window& w) noexcept {
    double tokens = lockstep_cost(w);
    for (const policy_run& row : worker_.rows)
      if (row.fresh() && !row.memories.empty())
        tokens += static_cast<double>(row.fresh_tokens()) * (w.queries - w.scored_from);
    return tokens;
  }

 private:
  static constexpr std::size_t most_logit_bytes = std::size_t{64} << 20;

  struct run {
    sequence_memory* memory;
    totals* scores;
    std::size_t row;
    bool traced = false;
    bool bad = false;        ///< its logits are not finite
    std::size_t logits = 0;  ///< first of its vectors in this pass
  };

  bool stopped() const noexcept { return clock_.stopped.load(std::memory_order_relaxed); }
  bool going(const error& e) const noexcept { return !e && !stopped(); }
  std::size_t fresh_logits() const noexcept {
    std::size_t most = 0;
    for (const policy_run& row : worker_.rows)
      if (row.fresh()) most = std::max(most, row.memories.size());
    return most;
  }
  /// A token's products with logits, of those without.
  double with_logits() const noexcept {
    const auto& c = worker_.model->config();
    const double attention = 2.0 * c.head_dim * (c.heads + c.kv_heads), mlp = 3.0 * c.ffn;
    return 1 + static_cast<double>(c.vocab) / (c.layers * (attention + mlp));
  }
  bool wants_logits(const text_window& w, int at, int tokens) const noexcept {
    return setup_.every_position || at + tokens > w.scored_from;
  }
  double lockstep_cost(const text_window& w) noexcept {
    double tokens = worker_.recorder == nullptr ? 0 : w.queries;
    for (int at = 0, c = 0; at < w.queries; at += c) {
      c = plan_->next(w, at, runs_.size(), setup_.every_position);
      tokens += static_cast<double>(plan_->columns(runs_.size())) * c * (wants_logits(w, at, c) ? with_logits() : 1);
    }
    return tokens;
  }
  void advance(double tokens) {
    const auto done = clock_.done.fetch_add(static_cast<std::int64_t>(tokens), std::memory_order_relaxed);
    if (reports_ && setup_.progress && !setup_.progress(std::min(1.0, static_cast<double>(done) / clock_.tokens)))
      clock_.stopped = true;
  }
  /// The next tokens of a batch, whose item i is of row row_of(i); where states overflow, says of which row.
  template <class RowOf>
  error forward(std::span<const batch_item> items, const RowOf& row_of) {
    const error e = worker_.model->forward(items);
    if (e.code() != errc::overflow) return e;
    for (std::size_t i = 0; i < items.size(); ++i)
      if (const auto overflow = items[i].memory->overflowed())
        return error(errc::overflow, worker_.rows[row_of(i)].policy, ": ", overflow->reason().message());
    return e;
  }
  error not_finite(const policy_run& row, std::size_t window, int query) const {
    return error(errc::bad_input, row.policy, ": logits are not finite at token ", query, " of window ", window);
  }

  /// What each input is; BOS is no character.
  void name_kinds(const text_window& w) {
    kinds_.resize(inputs_.size());
    const bool characters = sample_.texts()[w.text].characters;
    for (std::size_t j = 0; j < inputs_.size(); ++j)
      kinds_[j] = sample_.is_bos(inputs_[j])       ? life_sums::not_counted
                  : characters && inputs_[j] < 256 ? static_cast<int>(kind_of(inputs_[j]))
                                                   : life_sums::no_kind;
  }
  void sum_lives(const text_window& w, std::size_t index) {
    exec_(static_cast<int>(runs_.size()), [&](int i, int) {
      const run& r = runs_[to_size(i)];
      const lives& lived = lives_[to_size(i)];
      r.scores->lived().add(lived, ages_[r.row], kinds_, worker_.table, w.scored_from);
      if (!r.traced || index != 0) return;
      for (int layer = 0; layer < lived.layers(); ++layer)
        for (int lane = 0; lane < lived.lanes(layer); ++lane) {
          const auto deaths = lived.deaths(layer, lane);
          r.scores->deaths().insert(r.scores->deaths().end(), deaths.begin(), deaths.end());
        }
    });
  }

  error restore(std::size_t window, bool& before) {
    if (setup_.store == nullptr) return {};
    const auto kept = setup_.store->restore(window, totals_);
    before = kept && *kept;
    return kept ? error() : kept.reason();
  }

  /// Full reads the window for the oracle and for what the policies' states would have got.
  error look_ahead() {
    if (worker_.recorder == nullptr) return {};
    sequence_memory& memory = *worker_.recorder;
    memory.reset();
    const std::size_t chunk = to_size(memory.room().chunk);
    for (std::size_t at = 0; at < inputs_.size() && !stopped(); at += chunk) {
      const batch_item item{.memory = &memory,
                            .tokens = std::span(inputs_).subspan(at, std::min(chunk, inputs_.size() - at))};
      if (const error e = forward({&item, 1}, [](std::size_t) { return std::size_t{0}; })) return e;
      advance(static_cast<double>(item.tokens.size()));
    }
    worker_.table->finish(static_cast<int>(inputs_.size()));
    return {};
  }

  /// Runs side by side, Full's the first.
  error lockstep(const text_window& w, std::size_t window, std::span<run> runs) {
    for (const run& r : runs) r.memory->reset();
    for (lives& l : lives_) l.begin(w.queries);
    for (int at = 0, c = 0; at < w.queries && !stopped(); at += c) {
      c = plan_->next(w, at, runs.size(), setup_.every_position);
      const bool logits = wants_logits(w, at, c);
      if (const error e = pass(runs, at, c, logits)) return e;
      for (int j = 0; j < c && logits; ++j)
        if (setup_.every_position || at + j >= w.scored_from)
          if (const error e = score(runs, w, window, at, j)) return e;
      advance(static_cast<double>(plan_->columns(runs.size())) * c * (logits ? with_logits() : 1));
    }
    full_is_known_ = true;
    return {};
  }
  /// Queries [at, at + c) of all runs, which share the way through the weights.
  error pass(std::span<run> runs, int at, int c, bool logits) {
    items_.clear();
    std::size_t vectors = 0;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      const int same_as = plan_->same_as()[i];
      const bool own = same_as < 0;
      runs[i].logits = own ? vectors : runs[to_size(same_as)].logits;
      items_.push_back({.memory = runs[i].memory,
                        .tokens = std::span(inputs_).subspan(to_size(at), to_size(c)),
                        .mode = setup_.chunk > 1 ? attend_mode::together : attend_mode::one_by_one,
                        .want = own && logits ? logit_rows::all : logit_rows::none,
                        .logits = own && logits ? &logits_[vectors * vocab_] : nullptr,
                        .same_as = same_as});
      if (own) vectors += to_size(c);
    }
    return forward(items_, [&](std::size_t i) { return runs[i].row; });
  }

  std::span<const float> logits_of(const run& r, int j) const noexcept {
    return {&logits_[(r.logits + to_size(j)) * vocab_], vocab_};
  }

  /// Query `at` + j, the pass's j-th. Of queries that are not scored the NLL is all that is asked: it tells how the
  /// difference grows with position.
  error score(std::span<run> runs, const text_window& w, std::size_t window, int at, int j) {
    const int query = at + j, target = sample_.target(w, query);
    const std::span<const float> full = logits_of(runs[0], j);
    softmax_scale scale;
    if (!find_scale(full, scale)) return not_finite(worker_.rows[0], window, query);
    full_nll_ = -scale.log_of(full[to_size(target)]);
    if (query >= w.scored_from) {
      full_best_ = greedy(full);
      for (std::size_t i = 0; i < vocab_; ++i) full_[i] = scale.log_of(full[i]);
      if (!setup_.extrapolation)
        for (std::size_t i = 0; i < vocab_; ++i) full_share_[i] = std::exp(full_[i]);
      if (!sample_.is_bos(target)) keep_full(query, w);
    }
    exec_(static_cast<int>(runs.size()), [&](int i, int /*worker*/) { score_run(runs[to_size(i)], w, query, j); });
    for (const run& r : runs)
      if (r.bad) return not_finite(worker_.rows[r.row], window, query);
    return {};
  }
  void score_run(run& r, const text_window& w, int query, int j) {
    const int target = sample_.target(w, query);
    const bool scored = query >= w.scored_from, is_full = r.logits == 0;
    const std::span<const float> x = logits_of(r, j);
    softmax_scale scale;
    if (!is_full && !find_scale(x, scale)) r.bad = true;
    if (r.bad || sample_.is_bos(target)) return;
    const double nll = is_full ? full_nll_ : -scale.log_of(x[to_size(target)]);
    r.scores->place(query, nll - full_nll_);
    if (!scored) return;
    double kl = 0;  // of log softmaxes, as divergence() has it
    if (!is_full && !setup_.extrapolation) {
      for (std::size_t i = 0; i < vocab_; ++i) kl += full_share_[i] * (full_[i] - scale.log_of(x[i]));
      kl = std::max(kl, 0.0);
    }
    r.scores->score(nll, full_nll_, kl, is_full || greedy(x) == full_best_);
  }

  /// From the drops: the states that each scored query attended, and the bytes that each step left.
  void count_states(const text_window& w) {
    exec_(static_cast<int>(runs_.size()), [&](int i, int) {
      const run& r = runs_[to_size(i)];
      const attended_states n = attended_states::of(lives_[to_size(i)], *r.memory);
      for (int j = 0; j < w.queries; ++j)
        r.scores->attend(static_cast<double>(n.sum[to_size(j)]) / static_cast<double>(n.lanes), n.most[to_size(j)],
                         sample_.scores(w, j));
      for (int end = std::min(setup_.chunk, w.queries); end < w.queries; end = std::min(end + setup_.chunk, w.queries))
        r.scores->rest(static_cast<double>(n.bytes[to_size(end)] - n.token_bytes));
      r.scores->rest(static_cast<double>(r.memory->live_bytes()));
    });
  }
  /// Full's answers of the window, for rows that are not in lockstep.
  void keep_full(int query, const text_window& w) {
    if (fresh_logits() == 0) return;
    kept_full_.resize(to_size(w.queries - w.scored_from) * vocab_);
    kept_best_.resize(to_size(w.queries - w.scored_from));
    const std::size_t at = to_size(query - w.scored_from);
    std::copy(full_.begin(), full_.end(), kept_full_.begin() + static_cast<std::ptrdiff_t>(at * vocab_));
    kept_best_[at] = full_best_;
  }

  /// Full's answers alone, where the rows in lockstep were restored.
  error know_full(const text_window& w, std::size_t window) {
    totals nowhere;
    run full = runs_[0];
    full.scores = &nowhere;
    return lockstep(w, window, {&full, 1});
  }

  error short_context(const text_window& w, std::size_t row, std::size_t window) {
    using clock = std::chrono::steady_clock;
    constexpr auto between_keeps = std::chrono::seconds(2);
    auto& memories = worker_.rows[row].memories;
    totals& scores = totals_[row][0];
    int at = w.scored_from;
    if (setup_.store != nullptr) {
      const auto next = setup_.store->restore_fresh(window, row, scores);
      if (!next) return next.reason();
      if (*next > at) {
        advance(static_cast<double>(*next - at) * worker_.rows[row].fresh_tokens());
        at = *next;
      }
    }
    if (at < w.queries && !full_is_known_)
      if (const error e = know_full(w, window); !going(e)) return e;
    int kept_to = at;
    auto last = clock::now();
    const auto keep = [&] {
      if (setup_.store == nullptr || at == kept_to) return error();
      kept_to = at;
      last = clock::now();
      return setup_.store->keep_fresh(window, row, scores, at);
    };
    const int k = worker_.rows[row].fresh_tokens(), bos = sample_.bos();
    const std::span<double> mine(work_.data(), vocab_);
    std::vector<int> tokens;
    while (at < w.queries && !stopped()) {
      const int count = std::min(static_cast<int>(memories.size()), w.queries - at);
      tokens.clear();
      tokens.reserve(to_size(count) * to_size(k));
      items_.clear();
      for (int i = 0; i < count; ++i) {
        const int n = std::min(at + i + 1, k);
        const auto newest = std::span(inputs_).subspan(to_size(at + i + 1 - n), to_size(n));
        const std::size_t from = tokens.size();
        tokens.insert(tokens.end(), newest.begin(), newest.end());
        if (bos >= 0) tokens[from] = bos;
        memories[to_size(i)].reset();
        items_.push_back({.memory = &memories[to_size(i)],
                          .tokens = std::span(tokens).subspan(from, to_size(n)),
                          .mode = attend_mode::one_by_one,
                          .want = logit_rows::last,
                          .logits = &logits_[to_size(i) * vocab_]});
        scores.attend(n, n, sample_.scores(w, at + i));
      }
      if (const error e = forward(items_, [&](std::size_t) { return row; })) return e;
      for (int i = 0; i < count; ++i) {
        const std::span<const float> x(&logits_[to_size(i) * vocab_], vocab_);
        if (!log_softmax(x, mine)) return not_finite(worker_.rows[row], window, at + i);
        scores.rest(static_cast<double>(memories[to_size(i)].live_bytes()));
        if (!sample_.scores(w, at + i)) continue;
        const std::size_t target = to_size(sample_.target(w, at + i)), kept = to_size(at + i - w.scored_from);
        const std::span<const double> full(&kept_full_[kept * vocab_], vocab_);
        scores.place(at + i, -mine[target] + full[target]);
        const double kl = setup_.extrapolation ? 0.0 : divergence(full, mine);
        scores.score(-mine[target], -full[target], kl, greedy(x) == kept_best_[kept]);
      }
      at += count;
      if (clock::now() - last > between_keeps)
        if (const error e = keep()) return e;
      advance(static_cast<double>(tokens.size()));
    }
    return keep();
  }

  const comparison_worker<Decoder>& worker_;
  E& exec_;
  const text_sample& sample_;
  const comparison_setup& setup_;
  comparison_clock& clock_;
  bool reports_;                ///< tells how far the comparison is
  bool full_is_known_ = false;  ///< kept_full_ and kept_best_ are of this window
  std::size_t vocab_;
  std::vector<std::vector<totals>> totals_;  ///< [row][run]
  std::vector<run> runs_;
  std::deque<lives> lives_;             ///< [run]
  std::vector<std::vector<int>> ages_;  ///< [row]
  std::vector<int> kinds_;              ///< [query]
  std::vector<batch_item> items_;
  std::vector<int> inputs_;
  std::vector<float> logits_;  ///< [run][tokens of the pass][vocab], of those that are computed for themselves
  std::optional<pass_plan> plan_;
  double full_nll_ = 0;             ///< of one query, as what follows
  int full_best_ = 0;               ///< Full's likeliest token
  std::vector<double> full_;        ///< [vocab] Full's log softmax
  std::vector<double> full_share_;  ///< [vocab] and softmax
  std::vector<double> work_;        ///< [vocab]
  std::vector<double> kept_full_;   ///< [scored][vocab]
  std::vector<int> kept_best_;      ///< [scored]
};

}  // namespace detail

/// Tokens that a worker's decoder should take at once, so many that the products of a pass are as fast as they get.
inline int comparison_tokens(std::span<const policy_run> rows, const sequence_memory* recorder, int chunk) noexcept {
  constexpr int enough = 256;
  std::size_t runs = 0;
  int most = std::max(enough, recorder == nullptr ? 1 : recorder->room().chunk);
  for (const policy_run& row : rows) {
    if (row.fresh() && !row.memories.empty())
      most = std::max(most, static_cast<int>(row.memories.size()) * row.fresh_tokens());
    else if (!row.fresh())
      runs += row.memories.size();
  }
  return std::max(most, static_cast<int>(runs) * chunk);
}

/// Runs all rows over the windows of a sample, those of a window in lockstep as one batch, and fills in what was
/// measured in the rows of the first worker: the same bits for any number of workers and threads, and of tokens that
/// their decoders take at once. What rows have in common, all before a budget first binds, is computed once. Of windows
/// that do not begin with the first one nothing is filled in: `store` has them. `across` shares out windows, one a
/// worker, `within` the work on one. Errors: a model that gives logits which are not finite,
/// states that overflow in their format, and those of the decoder.
template <class Decoder, executor Across, executor Within>
result<comparison> compare(std::span<const comparison_worker<Decoder>> workers, Across& across, Within& within,
                           const text_sample& sample, const comparison_setup& setup) {
  detail::comparison_clock clock{.setup = setup};
  std::deque<detail::window_runner<Decoder, Within>> runners;
  for (std::size_t i = 0; i < workers.size(); ++i) runners.emplace_back(workers[i], within, sample, clock, i == 0);
  const std::size_t last = std::min(setup.last, sample.windows().size()), first = std::min(setup.first, last);
  const auto windows = sample.windows().subspan(first, last - first);
  for (const text_window& w : windows) clock.tokens += runners[0].cost(w);
  auto all_totals = runners[0].all_totals();  // empty ones
  comparison done;
  std::vector<error> errors(workers.size());
  while (done.windows < windows.size() && !done.interrupted) {
    const std::size_t round = std::min(workers.size(), windows.size() - done.windows);
    const auto one = [&](int task, int) {
      errors[static_cast<std::size_t>(task)] =
          runners[static_cast<std::size_t>(task)](first + done.windows + static_cast<std::size_t>(task));
    };
    if (round == 1)
      one(0, 0);
    else
      across(static_cast<int>(round), one);
    for (std::size_t i = 0; i < round; ++i)
      if (errors[i]) return errors[i];
    done.interrupted = clock.stopped;
    if (done.interrupted) break;
    for (std::size_t i = 0; i < round; ++i)
      for (std::size_t r = 0; r < all_totals.size(); ++r)
        for (std::size_t n = 0; n < all_totals[r].size(); ++n) all_totals[r][n].append(runners[i].all_totals()[r][n]);
    done.windows += round;
  }
  if (first > 0) return done;
  const std::int64_t bytes = sample.bytes(done.windows);
  for (std::size_t r = 0; r < all_totals.size() && done.windows > 0; ++r) {
    policy_run& row = workers[0].rows[r];
    if (row.memories.empty()) continue;
    row.measured = totals::sum_up(all_totals[r], bytes, !setup.extrapolation, detail::ages_of(row, sample));
    row.measured->bytes_allocated = row.memories[0].bytes() + row.memories[0].scratch_bytes();
  }
  return done;
}

}  // namespace multistate
