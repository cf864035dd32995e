#pragma once

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include <multistate/eval/figures.hpp>
#include <multistate/eval/lives.hpp>
#include <tools/runs/journal.hpp>

/// What a run of a row gave in a window, as a record of the journal: every number as it was. What is read is held
/// against what such a window gives; the functions throw bad_record, or what nlohmann::json throws.
namespace multistate::tools {

/// What is known of a window before it is run.
struct window_shape {
  int first = 0;            ///< query whose difference is the first that was summed
  int queries = 0;          ///< the window's, or how far it has come
  int scored = 0;           ///< of them
  int steps = 0;            ///< decoder steps of one sequence
  std::int64_t states = 0;  ///< of all lanes, whose lives are told; 0: they are not
  std::size_t ages = 0, deaths = 0;
  std::vector<int> without = {};  ///< queries that no difference is summed of: their targets are BOS
};

inline nlohmann::ordered_json to_json(const life_sums& l) {
  return {
      {"life", l.life},       {"states", l.states},       {"kind_life", l.kind_life}, {"kind_states", l.kind_states},
      {"unknown", l.unknown}, {"kept_mass", l.kept_mass}, {"full_mass", l.full_mass}, {"alive", l.alive},
      {"seen", l.seen}};
}
inline life_sums life_sums_from(const nlohmann::ordered_json& x, const window_shape& shape) {
  const auto far = static_cast<std::int64_t>(shape.queries) * shape.states;
  life_sums l;
  l.states = whole_of(x.at("states"), shape.states, shape.states);
  l.life = whole_of(x.at("life"), shape.states, far);
  const auto lives = wholes_of(x.at("kind_life"), l.kind_life.size(), 0, far);
  const auto kinds = wholes_of(x.at("kind_states"), l.kind_states.size(), 0, shape.states);
  std::copy(lives.begin(), lives.end(), l.kind_life.begin());
  std::copy(kinds.begin(), kinds.end(), l.kind_states.begin());
  l.unknown = whole_of(x.at("unknown"), 0, shape.states - std::accumulate(kinds.begin(), kinds.end(), std::int64_t{0}));
  l.full_mass = real_of(x.at("full_mass"), 0);
  l.kept_mass = real_of(x.at("kept_mass"), 0, l.full_mass * (1 + 1e-6));
  l.seen = wholes_of(x.at("seen"), shape.ages, 0, shape.states);
  l.alive = wholes_of(x.at("alive"), shape.ages, 0, shape.states);
  for (std::size_t i = 0; i < shape.ages; ++i)
    if (l.alive[i] > l.seen[i]) throw bad_record("more states alive than there are");
  return l;
}

inline nlohmann::ordered_json to_json(const totals::window_sums& w) {
  std::vector<double> differences;
  std::vector<std::int64_t> counts;
  for (const totals::place_sum& p : w.places) {
    differences.push_back(p.difference);
    counts.push_back(p.count);
  }
  return {{"nll", w.nll},       {"difference", w.difference},
          {"kl", w.kl},         {"attended", w.attended},
          {"bytes", w.bytes},   {"agreeing", w.agreeing},
          {"scored", w.scored}, {"attending", w.attending},
          {"steps", w.steps},   {"most", w.most},
          {"kls", w.kls},       {"differences", differences},
          {"counts", counts},   {"lived", to_json(w.lived)},
          {"deaths", w.deaths}};
}
inline totals::window_sums window_sums_from(const nlohmann::ordered_json& x, const window_shape& shape) {
  totals::window_sums w;
  w.nll = real_of(x.at("nll"));
  w.difference = real_of(x.at("difference"));
  w.kl = real_of(x.at("kl"), 0);
  w.attended = real_of(x.at("attended"), 0);
  w.bytes = real_of(x.at("bytes"), 0);
  w.agreeing = whole_of(x.at("agreeing"), 0, shape.scored);
  w.scored = whole_of(x.at("scored"), shape.scored, shape.scored);
  w.attending = whole_of(x.at("attending"), shape.scored, shape.scored);
  w.steps = whole_of(x.at("steps"), shape.steps, shape.steps);
  w.most = whole_of(x.at("most"), 1, max_tokens);
  double kl = 0;
  for (const double one : reals_of(x.at("kls"), static_cast<std::size_t>(shape.scored), 0, 1e30)) {
    w.kls.push_back(static_cast<float>(one));
    kl += one;
  }
  if (std::abs(kl - w.kl) > 1e-6 * w.kl + 1e-12) throw bad_record("divergences that are not those of their sum");
  constexpr int bin = totals::bin_queries;
  const auto bins = static_cast<std::size_t>((shape.queries + bin - 1) / bin);
  const auto differences = reals_of(x.at("differences"), bins);
  const auto counts = wholes_of(x.at("counts"), bins, 0, bin);
  for (std::size_t i = 0; i < bins; ++i) {
    const int begin = std::max(static_cast<int>(i) * bin, shape.first);
    const int end = std::max(begin, std::min(static_cast<int>(i + 1) * bin, shape.queries));
    const auto left_out = std::count_if(shape.without.begin(), shape.without.end(),
                                        [&](int query) { return query >= begin && query < end; });
    if (counts[i] != end - begin - left_out) throw bad_record("queries that the window has not");
    w.places.push_back({differences[i], counts[i]});
  }
  w.lived = life_sums_from(x.at("lived"), shape);
  const auto deaths = wholes_of(x.at("deaths"), shape.deaths, 1, shape.queries);
  for (std::size_t i = 0; i < deaths.size(); ++i) {
    if (deaths[i] <= static_cast<std::int64_t>(i % static_cast<std::size_t>(shape.queries)))
      throw bad_record("a state that was dropped before it came");
    w.deaths.push_back(static_cast<int>(deaths[i]));
  }
  return w;
}

/// A row's NLL is Full's and the difference.
inline void check_against_full(const totals::window_sums& row, const totals::window_sums& full) {
  if (std::abs(full.difference) > 0 ||
      std::abs(row.nll - row.difference - full.nll) >
          1e-9 * (std::abs(row.nll) + std::abs(row.difference) + std::abs(full.nll) + 1))
    throw bad_record("losses that do not fit each other");
}

}  // namespace multistate::tools
