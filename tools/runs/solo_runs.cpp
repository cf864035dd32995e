#include <tools/runs/solo_runs.hpp>

#include <algorithm>
#include <deque>
#include <new>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <multistate/eval/free_run.hpp>
#include <multistate/eval/lives.hpp>
#include <multistate/eval/prompt_score.hpp>
#include <multistate/eval/seen_states.hpp>
#include <multistate/eval/statistics.hpp>
#include <multistate/eval/timing.hpp>
#include <multistate/model/setup_for.hpp>
#include <tools/engine/engine.hpp>
#include <tools/report/report.hpp>
#include <tools/terminal/flags.hpp>

namespace multistate::tools {

namespace {

// What each row does by itself: writes, reads prompts in other ways, takes time. Of rows with several seeds the first.
// Parts that the journal holds are not done again. Errors end the program as usage errors.
class solo_runs {
  using json = nlohmann::ordered_json;

 public:
  explicit solo_runs(const solo_setup& s)
      : weights_(s.weights),
        words_(s.words),
        sample_(s.sample),
        exec_(s.exec),
        journal_(s.done),
        request_(s.request),
        progress_(s.progress) {}

  bool interrupted() const noexcept { return interrupted_; }

  // Greedy text after the first half of the first window.
  json free_run() {
    const std::vector<int> window = sample_.inputs(sample_.windows()[0]);
    const std::size_t half = window.size() / 2;
    if (half == 0) return nullptr;
    const auto prompt = std::span(window).first(half);
    const int count = static_cast<int>(std::min<std::size_t>(most_written, window.size() - half));
    auto rows = solo_runs_of(weights_.config, request_, {});
    take_models(pieces);
    std::vector<sequence_memory> references;
    while (references.size() < models_.size()) references.push_back(keeps_everything());
    const auto texts = each(
        "free", rows,
        [&](policy_run& row, std::size_t worker) -> result<json> {
          const auto text = run_freely(models_[worker], row.memories[0], references[worker], prompt, count);
          if (!text) return text.reason();
          return json{{"tokens", text->tokens},
                      {"repeated_4grams", text->repeated_4grams},
                      {"nll_under_full", text->nll_under_full}};
        },
        [&](const json& kept) {
          wholes_of(kept.at("tokens"), static_cast<std::size_t>(count), 0, weights_.config.vocab - 1);
          real_of(kept.at("repeated_4grams"), 0, 1);
          real_of(kept.at("nll_under_full"), 0);
        });
    json out = {{"tokens", count}, {"prompt_tokens", prompt.size()}, {"rows", json::array()}};
    for (std::size_t r = 0; r < rows.size(); ++r) {
      if (texts[r].is_null()) continue;
      const auto written = texts[r]["tokens"].get<std::vector<int>>();
      const auto apart = first_difference(written, texts[0]["tokens"].get<std::vector<int>>());
      out["rows"].push_back({{"policy", rows[r].policy},
                             {"budget", budget_json(rows[r].budget)},
                             {"first_divergence", apart ? json(*apart) : json(nullptr)},
                             {"repeated_4grams", texts[r]["repeated_4grams"]},
                             {"nll_under_full", texts[r]["nll_under_full"]},
                             {"sample", words_ == nullptr ? json(nullptr) : json(text_of(written, prompt.back()))}});
    }
    return out;
  }

  // A third of each of some windows is the prompt, read in each way, the next third is scored: read twice it all fits.
  json prompt_modes(int chunk) {
    const int third = sample_.window() / 3;
    std::vector<std::size_t> windows;
    for (std::size_t w = 0; w < sample_.windows().size(); ++w)
      if (sample_.windows()[w].queries >= 2 * third) windows.push_back(w);
    for (std::size_t i = 0; i < most_windows && windows.size() > most_windows; ++i)
      windows[i] = windows[i * windows.size() / most_windows];
    windows.resize(std::min(windows.size(), most_windows));
    if (windows.empty() || third < 1) return json::array();
    bootstrap_windows drawn;
    for (const std::size_t w : windows) drawn.text.push_back(sample_.windows()[w].text);
    drawn.weight.assign(windows.size(), 1);
    const block_bootstrap boot(drawn, {});

    json out = json::array();
    std::vector<double> full;  // [windows] of the prompt read token by token
    for (std::size_t m = 0; m < reading_modes.size() && !interrupted_; ++m) {
      const auto mode = static_cast<reading_mode>(m);
      const bool whole = mode == reading_mode::one_shot;
      auto rows = solo_runs_of(weights_.config, request_,
                               {.chunk = mode == reading_mode::chunked ? chunk : 1, .prompt = whole ? third : 0});
      take_models(std::max(pieces, whole ? third : chunk));
      const auto scores = each(
          reading_modes[m], rows,
          [&](policy_run& row, std::size_t worker) -> result<json> {
            std::vector<double> nll;
            int most = 0;
            for (const std::size_t w : windows) {
              const std::vector<int> tokens = sample_.inputs(sample_.windows()[w]);
              const auto prompt = std::span(tokens).first(static_cast<std::size_t>(third));
              const auto text = std::span(tokens).subspan(prompt.size(), prompt.size());
              const auto score = score_after(models_[worker], row.memories[0], prompt, text, mode, chunk,
                                             weights_.config.bos, weights_.config.bos);
              if (!score) return score.reason();
              nll.push_back(score->nll);
              most = std::max(most, score->states_attended_max);
            }
            return json{{"nll", nll}, {"most", most}};
          },
          [&](const json& kept) {
            reals_of(kept.at("nll"), windows.size(), 0);
            whole_of(kept.at("most"), 1, max_tokens);
          });
      for (std::size_t r = 0; r < rows.size(); ++r) {
        if (scores[r].is_null()) continue;
        auto above = scores[r]["nll"].get<std::vector<double>>();
        if (full.empty()) full = above;
        double mean = 0;
        for (std::size_t w = 0; w < above.size(); ++w)
          mean += (above[w] -= full[w]) / static_cast<double>(above.size());
        const auto spread = interval_of(boot, boot.means(std::span(&above, 1))[0]);
        out.push_back({{"policy", rows[r].policy},
                       {"budget", budget_json(rows[r].budget)},
                       {"mode", reading_modes[m]},
                       {"nll_minus_full", mean},
                       {"interval", spread ? json{spread->low, spread->high} : json(nullptr)},
                       {"recall", nullptr},
                       {"states_attended_max", scores[r]["most"]},
                       {"prompt_tokens", third},
                       {"windows", above.size()}});
      }
    }
    return out;
  }

  // Share of the states seen in the second half of the first window that are seen too when they are stored in another
  // format: near ties fall otherwise, and then runs part. Null where states overflow in it.
  json agreement() {
    const std::vector<int> tokens = sample_.inputs(sample_.windows()[0]);
    const auto queries = static_cast<int>(tokens.size());
    std::vector<weight_format> formats(state_formats.begin(), state_formats.end());
    std::erase(formats, request_.format);
    formats.insert(formats.begin(), request_.format);
    std::vector<std::vector<policy_run>> rows;  // [format]
    for (const weight_format format : formats) {
      solo_request request = request_;
      request.format = format;
      rows.push_back(solo_runs_of(weights_.config, request, {}));
    }
    take_models(pieces);
    const auto shares = each(
        "agreement", rows[0],
        [&](policy_run& row, std::size_t worker) -> result<json> {
          const auto r = static_cast<std::size_t>(&row - rows[0].data());
          std::deque<lives> seen;
          json out = json::object();
          for (std::size_t f = 0; f < formats.size(); ++f) {
            if (rows[f][r].memories.empty())
              return error(errc::out_of_memory, "no memory for states in ", name_of(formats[f]));
            sequence_memory& memory = rows[f][r].memories[0];
            lives& one = seen.emplace_back(memory, queries);
            one.begin(queries);
            memory.reset();
            const scoped_observer watched(memory, one);
            const error e = models_[worker].prompt(memory, tokens, prompt_mode::sequential, 1);
            if (e && (f == 0 || e.code() != errc::overflow)) return e;
            if (f > 0)
              out[std::string(name_of(formats[f]))] = !e ? json(seen_in_both(seen[0], one, queries / 2)) : json();
          }
          return out;
        },
        [&](const json& kept) {
          if (kept.size() + 1 != formats.size()) throw bad_record("formats that were not asked for");
          for (std::size_t f = 1; f < formats.size(); ++f)
            if (!kept.at(std::string(name_of(formats[f]))).is_null())
              real_of(kept.at(std::string(name_of(formats[f]))), 0, 1);
        });
    json out = json::array();
    for (std::size_t r = 0; r < rows[0].size(); ++r)
      if (!shares[r].is_null() && rows[0][r].budget)
        out.push_back(
            {{"policy", rows[0][r].policy}, {"budget", budget_json(rows[0][r].budget)}, {"alike", shares[r]}});
    return out;
  }

  // Steps of the first window, one row after another, all of them seven times over. `within` works on one step.
  json time(bool share_steps) {
    tool_executor& within = share_steps ? exec_ : alone_;
    const std::vector<int> tokens = sample_.inputs(sample_.windows()[0]);
    auto rows = solo_runs_of(weights_.config, request_, {});
    auto model = value_or_usage(any_decoder::make(weights_, 1, within, request_.products));
    const std::size_t from = tokens.size() / 2, bin = std::max<std::size_t>(1, tokens.size() / time_bins);
    std::vector<std::vector<timed>> all(rows.size());
    std::vector<step_time> steps(tokens.size());
    for (int round = 0; round < rounds; ++round)
      for (std::size_t r = 0; r < rows.size() && !interrupted_; ++r) {
        if (rows[r].memories.empty()) continue;
        const std::string name = "time/" + std::to_string(within.workers()) + "/" + std::to_string(round) + "/" +
                                 rows[r].policy + ":" + budget_json(rows[r].budget).dump();
        timed& t = all[r].emplace_back();
        t.bins.resize((tokens.size() + bin - 1) / bin);
        if (journal_.restore(name, [&](const json& was) { read_times(was, t); })) continue;
        ok_or_usage(time_steps(model, rows[r].memories[0], tokens, steps));
        for (std::size_t at = 0; at < steps.size(); ++at) {
          t.bins[at / bin] += steps[at];
          if (at >= from) t.tail += steps[at];
        }
        journal_.keep(name, json_of(t));
        tell((round + static_cast<double>(r + 1) / static_cast<double>(rows.size())) / rounds);
      }
    json out = {{"threads", within.workers()}, {"rounds", rounds}, {"from", from}, {"rows", json::array()}};
    for (std::size_t r = 0; r < rows.size(); ++r) {
      if (all[r].size() < static_cast<std::size_t>(rounds)) continue;
      const auto count = static_cast<double>(tokens.size() - from);
      std::vector<double> rates;
      for (const timed& t : all[r]) rates.push_back(count / t.tail.whole);
      const auto [low, high] = std::minmax_element(rates.begin(), rates.end());
      const double slowest = *low, fastest = *high;  // the median reorders them
      json row = {{"policy", rows[r].policy},
                  {"budget", budget_json(rows[r].budget)},
                  {"tokens_per_second", {{"median", quantile(rates, 0.5)}, {"low", slowest}, {"high", fastest}}}};
      add_parts(row, all[r], count, [](const timed& t) -> const step_time& { return t.tail; });
      row["by_position"] = json::array();
      for (std::size_t b = 0; b < all[r][0].bins.size(); ++b) {
        json& at = row["by_position"].emplace_back(json{{"position", b * bin}});
        add_parts(at, all[r], static_cast<double>(std::min(bin, tokens.size() - b * bin)),
                  [b](const timed& t) -> const step_time& { return t.bins[b]; });
      }
      out["rows"].push_back(std::move(row));
    }
    return out;
  }

 private:
  static constexpr int pieces = 64;  ///< tokens of one sequence that a decoder takes at once
  static constexpr std::size_t most_written = 256, most_windows = 16, time_bins = 16;
  static constexpr int rounds = 7;

  struct timed {
    step_time tail;               ///< sum over the second half
    std::vector<step_time> bins;  ///< sums
  };

  static json json_of(const timed& t) {
    const auto parts = [](const step_time& s) { return json{s.attention, s.policy, s.whole}; };
    json out = {{"tail", parts(t.tail)}, {"bins", json::array()}};
    for (const step_time& s : t.bins) out["bins"].push_back(parts(s));
    return out;
  }
  static void read_times(const json& from, timed& to) {
    const auto take = [](const json& x, step_time& s) {
      const auto v = reals_of(x, 3, 0);
      s = {.attention = v[0], .policy = v[1], .whole = v[2]};
      if (!(s.whole > 0 && s.attention + s.policy <= s.whole)) throw bad_record("times that cannot be");
    };
    take(from.at("tail"), to.tail);
    const json& bins = list_of(from.at("bins"), to.bins.size());
    for (std::size_t b = 0; b < to.bins.size(); ++b) take(bins[b], to.bins[b]);
  }

  void tell(double part) { interrupted_ = interrupted_ || (progress_ && !progress_(part)); }

  std::string text_of(std::span<const int> tokens, int previous) const {
    std::string text;
    for (const int token : tokens) {
      text += words_->decode(token, previous);
      previous = token;
    }
    return text;
  }
  sequence_memory keeps_everything() const {
    return value_or_usage(
        make_memory(request_.format, policy_handle(full{.budget = request_.window}), setup_for(weights_.config, {})));
  }
  void take_models(int most_tokens) {
    models_.clear();
    for (int i = 0; i < exec_.workers(); ++i)
      models_.push_back(value_or_usage(any_decoder::make(weights_, most_tokens, alone_, request_.products)));
  }

  // f(row, worker) of each row that has memories, as many at a time as there are workers; null where it was not run.
  // check(record) throws where what was kept of a row is not what f gives.
  template <class F, class Check>
  std::vector<json> each(const std::string& part, std::vector<policy_run>& rows, const F& f, const Check& check) {
    std::vector<json> out(rows.size());
    std::vector<std::size_t> open;
    const auto name = [&](std::size_t r) {
      return part + "/" + rows[r].policy + ":" + budget_json(rows[r].budget).dump();
    };
    for (std::size_t r = 0; r < rows.size(); ++r) {
      if (rows[r].memories.empty()) continue;
      const bool kept = journal_.restore(name(r), [&](const json& was) {
        check(was);
        out[r] = was;
      });
      if (!kept) open.push_back(r);
    }
    std::vector<error> errors(models_.size());
    for (std::size_t at = 0; at < open.size() && !interrupted_;) {
      const std::size_t count = std::min(models_.size(), open.size() - at);
      exec_(static_cast<int>(count), [&](int task, int /*worker*/) {
        const auto i = static_cast<std::size_t>(task);
        try {  // nothing may leave a task
          result<json> got = f(rows[open[at + i]], i);
          errors[i] = got ? error() : got.reason();
          if (got) out[open[at + i]] = std::move(*got);
        } catch (const std::bad_alloc&) {
          errors[i] = error(errc::out_of_memory, "out of memory");
        }
      });
      for (std::size_t i = 0; i < count; ++i) {
        if (errors[i]) ok_or_usage(error(errors[i].code(), rows[open[at + i]].policy, ": ", errors[i].message()));
        journal_.keep(name(open[at + i]), out[open[at + i]]);
      }
      at += count;
      tell(static_cast<double>(at) / static_cast<double>(open.size()));
    }
    return out;
  }

  // Medians over the rounds, in microseconds a token.
  template <class Part>
  static void add_parts(json& to, const std::vector<timed>& all, double tokens, const Part& part) {
    const auto median = [&](auto seconds) {
      std::vector<double> values;
      for (const timed& t : all) values.push_back(1e6 * seconds(part(t)) / tokens);
      return quantile(values, 0.5);
    };
    to["attention_us"] = median([](const step_time& t) { return t.attention; });
    to["policy_us"] = median([](const step_time& t) { return t.policy; });
    to["rest_us"] = median([](const step_time& t) { return t.rest(); });
  }

  const model_view& weights_;
  const tokenizer* words_;
  const text_sample& sample_;
  tool_executor& exec_;
  journal& journal_;
  solo_request request_;
  std::function<bool(double)> progress_;
  tool_executor alone_{1};
  std::vector<any_decoder> models_;  ///< [workers]
  bool interrupted_ = false;
};

}  // namespace

solo_outcome run_freely(const solo_setup& setup) {
  solo_runs runs(setup);
  return {runs.free_run(), runs.interrupted()};
}

solo_outcome read_prompts(const solo_setup& setup, int chunk) {
  solo_runs runs(setup);
  return {runs.prompt_modes(chunk), runs.interrupted()};
}

solo_outcome compare_formats(const solo_setup& setup) {
  solo_runs runs(setup);
  return {runs.agreement(), runs.interrupted()};
}

solo_outcome time_runs(const solo_setup& setup, bool share_steps) {
  solo_runs runs(setup);
  return {runs.time(share_steps), runs.interrupted()};
}

}  // namespace multistate::tools
