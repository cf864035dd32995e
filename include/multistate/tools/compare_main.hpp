#pragma once

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <multistate/attention/openmp.hpp>
#include <multistate/attention/target.hpp>
#include <multistate/io/model_file.hpp>
#include <multistate/io/text_file.hpp>
#include <multistate/io/tokenizer_file.hpp>
#include <multistate/model/decoder.hpp>
#include <multistate/tools/entrants.hpp>
#include <multistate/tools/html_report.hpp>
#include <multistate/tools/recall_run.hpp>
#include <multistate/tools/report.hpp>

namespace multistate {
namespace HWY_NAMESPACE {
namespace detail {

using multistate::detail::usage_error;
using multistate::detail::value_or_usage;

#if defined(_OPENMP)
using tool_executor = openmp;
inline tool_executor make_executor(int threads) { return {threads}; }
inline int default_threads() { return omp_get_max_threads(); }
#else
using tool_executor = serial;
inline tool_executor make_executor(int) { return {}; }
inline int default_threads() { return 1; }
#endif

/// "" is the default number. More than one needs OpenMP.
inline int threads_of(std::string_view text) {
  constexpr int most = 1024;
  if (text.empty()) return std::min(most, default_threads());
  const int threads = multistate::detail::whole_number("--threads", text, 1, most);
  if (std::is_same_v<tool_executor, serial> && threads > 1)
    throw usage_error("--threads must be 1: this program was built without OpenMP");
  return threads;
}

/// A model and what turns text into its tokens; the tokenizer may be missing where text comes as .tokens.
struct opened_model {
  model_weights weights;
  std::optional<tokenizer> words;
  std::string no_words;  ///< why there is no tokenizer
};

inline opened_model open_model(const std::string& path, const std::string& tokenizer_path) {
  opened_model m{value_or_usage(load_model(path)), {}, {}};
  const int vocab = m.weights.config.vocab;
  auto words = tokenizer_path.empty() ? find_tokenizer_beside(path, vocab) : load_tokenizer(tokenizer_path, vocab);
  if (words)
    m.words = std::move(*words);
  else if (!tokenizer_path.empty())
    throw usage_error(std::string(words.reason().message()));
  else
    m.no_words = words.reason().message();
  return m;
}

/// To a file; "-" is standard output, "" nowhere.
inline void write_text(const std::string& path, const std::string& text) {
  if (path == "-")
    std::fwrite(text.data(), 1, text.size(), stdout);
  else if (!path.empty())
    value_or_usage(write_file(path, std::as_bytes(std::span(text))));
}

/// The demo model and text, for whoever names none.
inline std::filesystem::path demo(std::string_view flag) {
  const auto folder = multistate::detail::data_folder();
  if (folder.empty())
    throw usage_error(std::string(flag) +
                      " is needed: the demo model and text are neither beside this program nor in its source tree");
  return folder / (flag == "--model" ? "demo_model" : "story.txt");
}

struct compare_arguments {
  std::string model, tokenizer, policies, budgets = "16,64,256", window, tokens, chunk = "1", score = "tail", threads,
                                          format = "f32", json, csv, html;
  std::vector<std::string> texts;
  bool full = false, time = false, quiet = false;
};

/// One text as the model's tokens, the first `most` of them; tells how many there are.
inline token_text read_sample_text(const std::string& path, const opened_model& model, std::size_t most,
                                   std::size_t& all) {
  token_text t;
  t.name = path;
  const auto bytes = value_or_usage(file_bytes::open(path));
  t.hash = hash_bytes(bytes.bytes());
  if (std::filesystem::path(path).extension() == ".tokens") {
    t.tokens = value_or_usage(read_tokens(path, model.weights.config.vocab));
  } else {
    if (!model.words) throw usage_error(model.no_words);
    t.tokens = model.words->encode({reinterpret_cast<const char*>(bytes.bytes().data()), bytes.size()});
  }
  all = t.tokens.size();
  t.tokens.resize(std::min(all, most));
  if (model.words) t.bytes = model.words->text_bytes(t.tokens);
  t.characters = model.words && model.words->is_bytes();
  return t;
}

/// Weights of one layer's matrices: multiplications a token.
inline std::size_t layer_floats(const model_config& c) noexcept {
  const auto u = [](int n) { return static_cast<std::size_t>(n); };
  return u(c.hidden) * (2 * u(c.heads) * u(c.head_dim) + 2 * u(c.kv_heads) * u(c.head_dim) + 3 * u(c.ffn));
}

/// The memories of one thread that runs windows.
struct seat_memory {
  std::optional<oracle_table> table;
  std::string no_table;  ///< why there is none
  std::optional<sequence_memory> recorder;
  std::vector<entrant> rows;

  std::size_t bytes() const noexcept {
    std::size_t sum = table ? table->bytes() + recorder->bytes() : 0;
    for (const entrant& row : rows)
      for (const sequence_memory& m : row.memories) sum += m.bytes();
    return sum;
  }
};

template <policy... Mine>
int run_compare(const compare_arguments& a, std::vector<std::string> command_line) {
  using policies = registry<Mine..., full, window, h2o, tova, random, knorm>;
  using multistate::detail::whole_number;
  using multistate::detail::whole_numbers;

  // What can be said before any file is read.
  if (a.time) throw usage_error("--time is not built yet; quality runs are never timed");
  if (a.format != "f32" && a.format != "f16" && a.format != "bf16" && a.format != "i8")
    throw usage_error("--format must be f32, f16, bf16 or i8; got '" + a.format + "'");
  if (a.score != "tail" && a.score != "all") throw usage_error("--score must be tail or all; got '" + a.score + "'");
  const int threads = threads_of(a.threads);
  const auto budgets = whole_numbers("--budgets", a.budgets, 1);
  const int asked_window = a.window.empty() ? 0 : whole_number("--window", a.window, 2);
  const int asked_tokens = a.tokens.empty() ? 0 : whole_number("--tokens", a.tokens, 2);
  const int chunk = whole_number("--chunk", a.chunk, 1);
  const auto asked_policies = split_policies(a.policies);
  for (const std::string& item : asked_policies)
    if (const auto name = multistate::detail::split_item(item).first; name != "oracle" && name != "short")
      value_or_usage(policy_choice<policies>::parse(item));

  multistate::detail::report r;
  r.command_line = std::move(command_line);
  r.model = a.model.empty() ? demo("--model").string() : a.model;
  const opened_model model = open_model(r.model, a.tokenizer);
  const model_config& config = model.weights.config;
  r.model_hash = model.weights.hash;
  r.trained_context = config.context;
  r.bos = config.bos;
  const int window = asked_window > 0 ? asked_window : config.context > 0 ? std::min(1024, config.context) : 1024;
  if (chunk > window / 2)
    throw usage_error("--chunk must be at most half of a window of " + std::to_string(window) + " tokens; got " +
                      std::to_string(chunk));
  r.extrapolation = config.context > 0 && window > config.context;

  std::vector<std::string> paths = a.texts;
  std::size_t most_tokens = asked_tokens > 0 ? static_cast<std::size_t>(asked_tokens) : static_cast<std::size_t>(-1);
  if (paths.empty()) {
    paths.push_back(demo("--text").string());
    constexpr int default_windows = 8;
    if (asked_tokens == 0 && !a.full) {
      most_tokens = static_cast<std::size_t>(window / 2) * (default_windows + 1) + static_cast<std::size_t>(window % 2);
      r.notes.push_back("eight windows of the demo text; --full takes all of it, --tokens N its beginning");
    }
  }
  std::vector<token_text> texts;
  for (const std::string& path : paths) {
    std::size_t all = 0;
    texts.push_back(read_sample_text(path, model, most_tokens, all));
    r.texts.push_back({path, texts.back().hash, all, texts.back().tokens.size()});
  }
  const text_sample sample =
      value_or_usage(text_sample::make(texts, window, config.bos, a.score == "all" ? scoring::all : scoring::tail));
  int longest = 0;  // a text shorter than the window needs no more room
  for (const text_window& w : sample.windows()) longest = std::max(longest, w.queries);

  // The rows.
  const std::vector<std::string> items = [&]() -> std::vector<std::string> {
    if (!asked_policies.empty()) return asked_policies;
    std::vector<std::string> standard{"window",          "window+4", "window+4@incache", "random", "h2o",
                                      "h2o,scope=layer", "tova",     "tova,scope=head",  "oracle"};
    if (r.extrapolation)  // the position modes side by side
      standard.insert(standard.end() - 1, {"tova@incache", "tova@log", "window+4@log"});
    if (a.full) standard.insert(standard.begin(), "short");
    (standard.emplace_back(Mine::name), ...);
    return standard;
  }();
  const bool oracle_wanted =
      std::any_of(items.begin(), items.end(), [](const std::string& item) { return item.starts_with("oracle"); });
  const memory_setup setup = setup_for(config, {.chunk = chunk});
  const auto take_seat = [&] {
    auto seat = std::make_unique<seat_memory>();
    {  // Full's rows: what the oracle ranks by, and the mass that falls on what a policy keeps
      auto made = oracle_table::make(config.layers, longest);
      if (made) {
        seat->table = std::move(*made);
        memory_setup reading = setup;
        reading.room = {.chunk = std::min(64, longest)};
        seat->recorder = value_or_usage(
            make_memory_of(a.format, oracle_recorder{.budget = longest, .table = &*seat->table}, reading));
      } else {
        seat->no_table = made.reason().message();
      }
    }
    entrant_maker<policies> maker({.setup = setup,
                                   .format = a.format,
                                   .budgets = budgets,
                                   .window = longest,
                                   .bos = config.bos >= 0,
                                   .table = seat->table ? &*seat->table : nullptr});
    for (const std::string& item : items)
      if (const error e = maker.add(item); e.code() != errc::ok) throw usage_error(std::string(e.message()));
    if (const error e = maker.add("full"); e.code() != errc::ok) throw usage_error(std::string(e.message()));
    seat->rows = std::move(maker).take();
    if (seat->rows[0].memories.empty()) throw usage_error(seat->rows[0].skipped);
    return seat;
  };
  std::vector<std::unique_ptr<seat_memory>> seats;
  seats.push_back(take_seat());
  if (seats[0]->table)
    r.notes.push_back("the table of Full's rows takes " + std::to_string(seats[0]->table->bytes()) + " bytes");
  if (!seats[0]->no_table.empty()) r.notes.push_back(seats[0]->no_table);
  r.full_bytes_per_token =
      static_cast<double>(config.layers) * config.kv_heads * 2.0 * config.head_dim * (a.format == "f32" ? 4 : 2);

  // The run: windows side by side, each on a thread of its own. Only where windows are few and steps long do all
  // threads share the steps of one window: they wait for each other many times a step.
  constexpr std::size_t long_step = std::size_t{1} << 24, most_bytes = std::size_t{2} << 30;
  const std::size_t side_by_side = std::min({static_cast<std::size_t>(threads), sample.windows().size(),
                                             std::max<std::size_t>(1, most_bytes / seats[0]->bytes())});
  const auto step_tokens = static_cast<std::size_t>(comparison_tokens(seats[0]->rows, nullptr, chunk));
  const bool share_steps =
      side_by_side < static_cast<std::size_t>(threads) && step_tokens * layer_floats(config) >= long_step;
  while (!share_steps && seats.size() < side_by_side) seats.push_back(take_seat());
  if (attention_target_is_narrower_than_cpu() && !a.quiet)
    std::fprintf(stderr, "warning: this program was compiled for %s, this CPU has %s: build with -march=native\n",
                 std::string(attention_target()).c_str(), std::string(best_attention_target()).c_str());
  multistate::detail::end_gently_on_interrupt();
  multistate::detail::progress_bar bar(!a.quiet);
  const comparison_setup how{.chunk = chunk, .extrapolation = r.extrapolation, .progress = [&bar](double done) {
                               bar(done);
                               return multistate::detail::interrupted == 0;
                             }};
  tool_executor exec = make_executor(threads);
  serial alone;
  const auto run = [&]<executor E>(E& within) {
    std::vector<decoder<E>> decoders;
    std::vector<comparison_seat<decoder<E>>> ready;
    decoders.reserve(seats.size());
    for (const auto& seat : seats) {
      const sequence_memory* recorder = seat->recorder ? &*seat->recorder : nullptr;
      decoders.push_back(
          value_or_usage(decoder<E>::make(model.weights, comparison_tokens(seat->rows, recorder, chunk), within)));
      ready.push_back({&decoders.back(), seat->rows, seat->table ? &*seat->table : nullptr,
                       seat->recorder ? &*seat->recorder : nullptr});
    }
    return value_or_usage(compare(std::span<const comparison_seat<decoder<E>>>(ready), exec, within, sample, how));
  };
  r.outcome = share_steps ? run(exec) : run(alone);
  r.rows = std::move(seats[0]->rows);
  bar.clear();
  if (r.outcome.windows == 0) {
    std::fputs("compare: interrupted before the first window was done\n", stderr);
    return 1;
  }
  r.format = a.format;
  r.chunk = chunk;
  r.threads = threads;
  r.simd_target = std::string(attention_target());
  r.sample = &sample;
  r.statistics = rank_rows(r.rows, sample, r.outcome.windows);

  if (!r.statistics.over_texts)
    r.notes.emplace_back("intervals and ranks speak of " +
                         std::string(r.texts.size() == 1 ? "this text only" : "these texts only (fewer than five)"));
  if (oracle_wanted) r.notes.emplace_back("the oracle knows the future: neither a policy nor a bound");
  if (r.outcome.windows < ranking::least_windows) r.notes.emplace_back("fewer than 30 windows: no ranking");
  if (a.full) r.notes.emplace_back("free running is not built yet");
  if (r.outcome.interrupted) r.notes.emplace_back("interrupted: these are the windows that were done");

  // Recall: a text of bytes or pieces that the tokenizer knows is both filler and language of the facts.
  std::optional<recall_report> recall;
  if (model.words && !r.extrapolation && !r.outcome.interrupted) {
    constexpr int default_questions = 40, full_questions = 400;
    recall_settings asking{.items = items, .budgets = budgets, .format = a.format, .window = window, .full = a.full};
    asking.chunk = chunk > 1 ? chunk : asking.chunk;
    asking.questions = a.full ? full_questions : default_questions;
    asking.progress = how.progress;
    recall = recall_run<policies, tool_executor>(model.weights, *model.words, texts[0].tokens, exec, asking)();
    bar.clear();
    if (recall->interrupted) r.notes.emplace_back("interrupted: recall is of the questions that were asked");
  }

  // The outputs.
  auto json = multistate::detail::to_json(r);
  json["recall"] = recall ? recall->json : nlohmann::ordered_json(nullptr);
  for (std::size_t i = 0; recall && i < r.rows.size(); ++i)
    json["rows"][i]["recall"] = recall->of(r.rows[i].policy, r.rows[i].budget);
  write_text(a.json, json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  write_text(a.csv, multistate::detail::to_csv(json));
  if (!a.html.empty()) write_text(a.html, multistate::detail::to_html(json));
  if (a.quiet || a.json == "-" || a.csv == "-" || a.html == "-") return 0;
  std::fputs(
      (multistate::detail::header_text(r) + "\n" + multistate::detail::table_text(r, ::isatty(STDOUT_FILENO) != 0))
          .c_str(),
      stdout);
  if (recall) std::printf("\n%s", recall_text(recall->json).c_str());
  for (const std::string& note : r.notes) std::printf("note: %s\n", note.c_str());
  return 0;
}

/// Runs a program's body; whatever ends it early is one line on stderr and exit status 2.
template <class Body>
int guarded(const char* program, const Body& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "%s: out of memory\n", program);
  } catch (const std::exception& e) {
    std::string line = e.what();
    std::replace(line.begin(), line.end(), '\n', ' ');
    std::fprintf(stderr, "%s: %s\n", program, line.c_str());
  }
  return 2;
}

}  // namespace detail

/// The program `compare`: policies x budgets on a model and a text. `Mine` are policies beside the library's own; they
/// are among the rows that are always there. Exit status: 0 done, 1 nothing was done before an interrupt, 2 bad usage
/// or input.
template <class... Mine>
int compare_main(int argc, char** argv) {
  static_assert((diagnose_policy<Mine>() && ... && true));
  return detail::guarded("compare", [&] {
    CLI::App app(
        "What forgetting costs: policies x budgets on a model and a text. Without arguments: the demo model and text.",
        "compare");
    detail::compare_arguments a;
    app.add_option("--model", a.model, "Hugging Face folder or .safetensors, or llama2.c checkpoint");
    app.add_option("--text", a.texts, "text file, or F.tokens with int32 ids; may be given again")
        ->take_all()
        ->expected(1);
    app.add_option("--tokenizer", a.tokenizer, "llama2.c tokenizer; else one beside the model");
    app.add_option("--policies", a.policies,
                   "P,P,... instead of the standard rows; P is name[+i][:k][,key=value]...[@incache|@log]");
    app.add_option("--budgets", a.budgets, "N,N,... states for policies without ':k'; 16,64,256");
    app.add_option("--window", a.window, "T tokens a window; the trained context, at most 1024");
    app.add_option("--tokens", a.tokens, "the first N tokens of each text");
    app.add_option("--chunk", a.chunk, "C tokens read together, at most T/2; 1");
    app.add_option("--score", a.score, "tail: the second half of each window; all");
    app.add_option("--threads", a.threads, "N; all cores");
    app.add_option("--format", a.format, "of stored states: f32, f16, bf16, i8");
    app.add_flag("--full", a.full, "all of the demo text, and row short:k");
    app.add_flag("--time", a.time, "(not built yet)")->group("");
    app.add_option("--json", a.json, "write everything as JSON; - is standard output");
    app.add_option("--csv", a.csv, "write the rows as CSV; - is standard output");
    app.add_option("--html", a.html, "write a page of plots and tables that needs no network; - is standard output");
    app.add_flag("--quiet", a.quiet, "print nothing but errors");
    app.set_version_flag("--version", "compare " MULTISTATE_VERSION);
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success& e) {
      return app.exit(e);
    }
    return detail::run_compare<Mine...>(a, std::vector<std::string>(argv, argv + argc));
  });
}

}  // namespace HWY_NAMESPACE

using HWY_NAMESPACE::compare_main;

}  // namespace multistate
