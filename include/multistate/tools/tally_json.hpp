#pragma once

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <multistate/eval/figures.hpp>
#include <multistate/eval/lives.hpp>

/// What a window gave, kept between runs: every number as it was.
namespace multistate::detail {

inline nlohmann::ordered_json to_json(const life_sums& l) {
  return {l.life, l.states, l.kind_life, l.kind_states, l.unknown, l.kept_mass, l.full_mass, l.alive, l.seen};
}
inline void from_json(const nlohmann::ordered_json& x, life_sums& l) {
  x.at(0).get_to(l.life);
  x.at(1).get_to(l.states);
  x.at(2).get_to(l.kind_life);
  x.at(3).get_to(l.kind_states);
  x.at(4).get_to(l.unknown);
  x.at(5).get_to(l.kept_mass);
  x.at(6).get_to(l.full_mass);
  x.at(7).get_to(l.alive);
  x.at(8).get_to(l.seen);
}

inline nlohmann::ordered_json to_json(const tally::window_sums& w) {
  std::vector<double> differences;
  std::vector<std::int64_t> counts;
  for (const tally::place_sum& p : w.places) {
    differences.push_back(p.difference);
    counts.push_back(p.count);
  }
  return {w.nll,   w.difference, w.kl,  w.attended,  w.bytes, w.agreeing,       w.scored, w.attending,
          w.steps, w.most,       w.kls, differences, counts,  to_json(w.lived), w.deaths};
}
inline void from_json(const nlohmann::ordered_json& x, tally::window_sums& w) {
  x.at(0).get_to(w.nll);
  x.at(1).get_to(w.difference);
  x.at(2).get_to(w.kl);
  x.at(3).get_to(w.attended);
  x.at(4).get_to(w.bytes);
  x.at(5).get_to(w.agreeing);
  x.at(6).get_to(w.scored);
  x.at(7).get_to(w.attending);
  x.at(8).get_to(w.steps);
  x.at(9).get_to(w.most);
  x.at(10).get_to(w.kls);
  const auto differences = x.at(11).get<std::vector<double>>();
  const auto counts = x.at(12).get<std::vector<std::int64_t>>();
  for (std::size_t i = 0; i < differences.size(); ++i) w.places.push_back({differences[i], counts.at(i)});
  from_json(x.at(13), w.lived);
  x.at(14).get_to(w.deaths);
}

/// [row][run] of a window that all of them have ended.
inline nlohmann::ordered_json to_json(const std::vector<std::vector<tally>>& tallies) {
  auto out = nlohmann::ordered_json::array();
  for (const auto& row : tallies) {
    auto& runs = out.emplace_back(nlohmann::ordered_json::array());
    for (const tally& run : row) runs.push_back(to_json(run.windows().back()));
  }
  return out;
}
/// Appends it again. Throws what nlohmann::json throws where the rows were others.
inline void append_window(const nlohmann::ordered_json& from, std::vector<std::vector<tally>>& tallies) {
  for (std::size_t r = 0; r < tallies.size(); ++r)
    for (std::size_t run = 0; run < tallies[r].size(); ++run) {
      tally::window_sums w;
      from_json(from.at(r).at(run), w);
      tallies[r][run].append(std::move(w));
    }
}

}  // namespace multistate::detail
