#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <multistate/eval/compare.hpp>
#include <multistate/eval/oracle.hpp>
#include <multistate/io/file.hpp>
#include <multistate/io/json.hpp>
#include <multistate/io/printable.hpp>
#include <multistate/io/text_file.hpp>
#include <multistate/model/setup_for.hpp>
#include <multistate/version.hpp>
#include <tools/engine/engine.hpp>
#include <multistate/tools/programs.hpp>
#include <tools/report/html_report.hpp>
#include <tools/report/report.hpp>
#include <tools/report/text.hpp>
#include <tools/runs/kept_windows.hpp>
#include <tools/runs/opened_model.hpp>
#include <tools/runs/parts.hpp>
#include <tools/runs/policy_runs.hpp>
#include <tools/runs/recall_run.hpp>
#include <tools/runs/solo_runs.hpp>
#include <tools/terminal/console.hpp>
#include <tools/terminal/flags.hpp>
#include <tools/terminal/outputs.hpp>
#include <tools/terminal/progress.hpp>

namespace multistate::tools {

namespace {

using json = nlohmann::ordered_json;

struct compare_arguments {
  std::string model, tokenizer, bos = "auto", policies, budgets = "16,64,256", score = "tail", format = "f32",
                                products = "exact", json, csv, html, against, shard;
  std::vector<std::string> texts, merge;
  std::optional<int> window, tokens, threads;
  int chunk = 1;
  bool full = false, time = false, quiet = false;
};

/// The arguments that the figures depend on, by their flags.
template <class Arguments, class F>
void each_argument_of_the_figures(Arguments& a, const F& f) {
  f("model", a.model);
  f("text", a.texts);
  f("tokenizer", a.tokenizer);
  f("bos", a.bos);
  f("tokens", a.tokens);
  f("policies", a.policies);
  f("budgets", a.budgets);
  f("format", a.format);
  f("products", a.products);
  f("window", a.window);
  f("chunk", a.chunk);
  f("score", a.score);
  f("full", a.full);
}

/// The memories of one thread that runs windows.
struct worker_memory {
  std::optional<oracle_table> table;
  std::string no_table;  ///< why there is none
  std::optional<sequence_memory> recorder;
  std::vector<policy_run> runs;

  std::size_t bytes() const noexcept {
    std::size_t sum = table ? table->bytes() + recorder->bytes() : 0;
    for (const policy_run& run : runs)
      for (const sequence_memory& m : run.memories) sum += m.bytes();
    return sum;
  }
};

/// One text as the model's tokens, the first `most` of them, without the BOS that ids may begin with.
token_text read_sample_text(const std::string& path, const opened_model& model, std::size_t most, report::text& shown) {
  const int bos = model.weights.config.bos;
  token_text t;
  t.name = path;
  const auto bytes = value_or_usage(file_bytes::open(path));
  t.hash = hash_bytes(bytes.bytes());
  if (std::filesystem::path(path).extension() == ".tokens") {
    t.tokens = value_or_usage(read_tokens(path, model.weights.config.vocab));
    const auto text = std::find_if(t.tokens.begin(), t.tokens.end(), [bos](int id) { return bos < 0 || id != bos; });
    shown.bos_first = static_cast<std::size_t>(text - t.tokens.begin());
    if (text == t.tokens.end() && shown.bos_first > 0) throw usage_error(path + ": holds nothing but BOS");
    t.tokens.erase(t.tokens.begin(), text);
  } else {
    t.tokens = model.encode({reinterpret_cast<const char*>(bytes.bytes().data()), bytes.size()});
  }
  shown.tokens = t.tokens.size();
  t.tokens.resize(std::min(shown.tokens, most));
  shown.used = t.tokens.size();
  shown.bos_inside = bos < 0 ? 0 : static_cast<std::size_t>(std::count(t.tokens.begin(), t.tokens.end(), bos));
  shown.path = path;
  shown.hash = t.hash;
  if (model.words) t.bytes = model.words->text_bytes(t.tokens);
  t.characters = model.words && model.words->is_bytes();
  return t;
}

/// A comparison from its arguments to its outputs. Whatever ends it early is a usage error.
class compare_run {
 public:
  /// `own` are policies that are always compared beside the library's.
  compare_run(compare_arguments a, std::vector<std::string> command_line, std::vector<policy_entry> own)
      : a_(std::move(a)), known_(own), bar_(!a_.quiet) {
    for (const policy_entry& entry : own) own_names_.emplace_back(entry.name);
    r_.command_line = std::move(command_line);
  }

  /// Returns the exit status: 0 done, 3 interrupted.
  int operator()() {
    read_arguments();
    name_files();
    open_files();
    workers_.push_back(make_worker());
    need_forgetting(workers_[0]->runs, *sample_, a_.chunk);
    open_journal();
    exec_.emplace(threads_);
    if (parts_) parts_->join(whole(), journal_);
    if (shard_) return run_shard();
    if (!compare_runs()) {
      say("compare: interrupted before the first window was done" + how_to_go_on() + "\n");
      return status_interrupted;
    }
    ask();
    if (a_.full) run_alone();
    if (a_.time) take_time();
    finish_notes();
    write();
    if (r_.interrupted) {
      say("compare: interrupted: " + state_of_the_run() + how_to_go_on() + "\n");
      return status_interrupted;
    }
    remove_parts();
    journal_.remove();
    return 0;
  }

 private:
  static constexpr std::size_t long_step = std::size_t{1} << 24;    ///< multiplications of a layer that threads share
  static constexpr int default_chunk = 16;                          ///< of prompts read in chunks
  static constexpr std::size_t small_model = std::size_t{1} << 25;  ///< multiplications of a token

  // -- what is to be done

  /// All that can be said before any file is read.
  void read_arguments() {
    if (!a_.shard.empty()) {
      shard_ = parse_shard(a_.shard);
      if (!a_.merge.empty()) throw usage_error("--shard and --merge cannot stand together");
      if (a_.json.empty()) throw usage_error("--shard needs --json FILE: it writes a part there, for --merge");
      for (const auto& [flag, value] : {std::pair("--csv", a_.csv), std::pair("--html", a_.html)})
        if (!value.empty()) throw usage_error(std::string(flag) + " cannot stand with --shard: give it to --merge");
    }
    if (!a_.merge.empty()) {
      parts_ = parts::read(a_.merge);
      take_command(parts_->command());
    }
    format_ = value_or_usage(parse_state_format(a_.format));
    products_ = value_or_usage(parse_product_mode(a_.products));
    threads_ = a_.threads.value_or(tool_executor::most_useful());
    if (threads_ > 1 && !tool_executor::has_threads())
      throw usage_error("--threads must be 1: this program was built without OpenMP");
    budgets_ = numbers_of(a_.budgets);
    for (const std::string& item : split_policies(a_.policies))
      items_.push_back(value_or_usage(known_.parse_run(item)));
  }

  /// With --merge all but outputs is what the parts were asked for; what is said all the same must not differ.
  void take_command(const json& command) {
    compare_arguments unsaid;
    std::vector<std::string> said;
    each_argument_of_the_figures(unsaid,
                                 [&](const char*, const auto& value) { said.push_back(argument_json(value).dump()); });
    std::size_t next = 0;
    each_argument_of_the_figures(a_, [&](const char* flag, auto& value) {
      const json& theirs = field(command, flag);
      const json mine = argument_json(value);
      if (mine.dump() != said[next++] && mine != theirs)
        throw usage_error(fmt::format("--{} is {} in the parts, not {}", flag, text_of(theirs), text_of(mine)));
      try {
        take_argument(theirs, value);
      } catch (const json::exception&) {
        throw usage_error(fmt::format("{}: its command has no --{} that can be", a_.merge[0], flag));
      }
    });
  }
  template <class T>
  static json argument_json(const T& value) {
    return value;
  }
  static json argument_json(const std::optional<int>& value) { return value ? json(*value) : json(nullptr); }
  template <class T>
  static void take_argument(const json& from, T& value) {
    value = from.get<T>();
  }
  static void take_argument(const json& from, std::optional<int>& value) {
    if (from.is_null())
      value.reset();
    else
      value = from.get<int>();
  }
  part_of_comparison whole() {
    part_of_comparison w{.command = json::object(), .settings = settings(false), .windows = sample_->windows().size()};
    each_argument_of_the_figures(a_, [&](const char* flag, auto& value) { w.command[flag] = argument_json(value); });
    return w;
  }

  /// Refuses outputs that can't be written, or that lie where something is read, before anything is done.
  void name_files() {
    r_.model = a_.model.empty() ? demo("--model").string() : a_.model;
    paths_ = a_.texts;
    if (paths_.empty()) paths_.push_back(demo("--text").string());
    auto inputs = files_of_model(r_.model, a_.tokenizer);
    for (const std::string& path : paths_) inputs.push_back({"--text", path});
    inputs.push_back({"--against", a_.against});
    for (const std::string& path : a_.merge) inputs.push_back({"--merge", path});
    check_outputs(outputs(), inputs);
  }
  std::vector<named_file> outputs() const { return {{"--json", a_.json}, {"--csv", a_.csv}, {"--html", a_.html}}; }

  void open_files() {
    model_.emplace(open_model(r_.model, a_.tokenizer, a_.bos));
    model_config& config = model_->weights.config;
    r_.notes = model_->weights.notes;
    r_.model_hash = model_->weights.hash;
    r_.trained_context = config.context;
    r_.bos = config.bos;
    r_.bos_reason = model_->bos_rule;
    window_ = a_.window.value_or(config.context > 0 ? std::min(1024, config.context) : 1024);
    if (a_.chunk > window_ / 2)
      throw usage_error(
          fmt::format("--chunk must be at most half of a window of {} tokens; got {}", window_, a_.chunk));
    r_.extrapolation = config.context > 0 && window_ > config.context;
    config.state_session(window_);
    read_texts();
    if (items_.empty()) take_usual_items();
    if (asks_oracle()) r_.notes.emplace_back("the oracle knows the future: neither a policy nor a bound");
    if (!a_.against.empty()) open_other();
  }
  void read_texts() {
    std::size_t most = a_.tokens ? to_size(*a_.tokens) : static_cast<std::size_t>(-1);
    if (a_.texts.empty() && !a_.tokens && !a_.full) {
      constexpr int default_windows = 8;
      most = to_size(window_ / 2) * (default_windows + 1) + to_size(window_ % 2);
      r_.notes.emplace_back("eight windows of the demo text; --full takes all of it, --tokens N its beginning");
    }
    for (const std::string& path : paths_)
      texts_.push_back(read_sample_text(path, *model_, most, r_.texts.emplace_back()));
    sample_.emplace(value_or_usage(text_sample::make(texts_, window_, model_->weights.config.bos,
                                                     a_.score == "all" ? scoring::all : scoring::tail)));
    for (const text_window& w : sample_->windows()) longest_ = std::max(longest_, w.queries);
  }
  /// What is compared where --policies does not say it.
  void take_usual_items() {
    std::vector<std::string> names{"window",          "window+4", "window+4@incache", "random", "h2o",
                                   "h2o,scope=layer", "tova",     "tova,scope=head",  "oracle"};
    if (r_.extrapolation)  // the position modes side by side
      names.insert(names.end() - 1, {"tova@incache", "tova@log", "window+4@log"});
    if (a_.full) names.insert(names.begin(), "short");
    names.insert(names.end(), own_names_.begin(), own_names_.end());
    for (const std::string& name : names) items_.push_back(value_or_usage(known_.parse_run(name)));
  }
  /// What another build found.
  void open_other() {
    r_.other_path = a_.against;
    r_.other = value_or_usage(detail::read_json(a_.against, std::uint64_t{1} << 28));
    const json &hash = field(field(r_.other, "model"), "hash"), &tokens = field(field(r_.other, "trace"), "tokens");
    const auto refuse = [this](const char* why) { throw usage_error("--against " + a_.against + " " + why); };
    if (hash.is_null() || tokens.is_null()) refuse("must be what compare --json wrote");
    if (hash != json(hash_text(r_.model_hash))) refuse("is of another model");
    if (tokens != json(sample_->inputs(sample_->windows()[0]))) refuse("is of another text or window");
    if (field(r_.other, "chunk") != json(a_.chunk)) refuse("read another number of tokens together (--chunk)");
  }

  bool asks_oracle() const {
    return std::any_of(items_.begin(), items_.end(), [](const run_spec& i) { return i.kind == run_kind::oracle; });
  }
  /// Multiplications of a token.
  std::size_t token_floats() const {
    const model_config& c = model_->weights.config;
    return to_size(c.layers) * layer_floats(c) + head_floats();
  }
  std::size_t head_floats() const {
    return to_size(model_->weights.config.vocab) * to_size(model_->weights.config.hidden);
  }
  solo_request alone_request() const { return {items_, budgets_, format_, window_, products_}; }

  /// Full's rows: what the oracle ranks by, and the mass that falls on what a policy keeps.
  void add_table(worker_memory& worker, const memory_setup& setup) const {
    const model_config& config = model_->weights.config;
    constexpr std::uint64_t most_apart = oracle_table::most_bytes / 8;  // room for many windows side by side
    const bool apart = oracle_table::bytes_of(config.layers, config.kv_heads, longest_) <= most_apart;
    auto made = oracle_table::make(config.layers, apart ? config.kv_heads : 1, longest_);
    if (!made) {
      worker.no_table = made.reason().message();
      return;
    }
    worker.table = std::move(*made);
    memory_setup reading = setup;
    reading.room = {.chunk = std::min(64, longest_)};
    const scope_kind scope = worker.table->heads() > 1 ? scope_kind::head : scope_kind::layer;
    worker.recorder = value_or_usage(make_memory(
        format_, policy_handle(oracle_recorder{.budget = longest_, .scope = scope, .table = &*worker.table}), reading));
  }
  std::unique_ptr<worker_memory> make_worker() const {
    const model_config& config = model_->weights.config;
    auto worker = std::make_unique<worker_memory>();
    const memory_setup setup = setup_for(config, {.chunk = a_.chunk});
    if (asks_oracle()) add_table(*worker, setup);
    worker->runs = make_runs({.setup = setup,
                              .format = format_,
                              .budgets = budgets_,
                              .window = longest_,
                              .bos = config.bos >= 0,
                              .table = worker->table ? &*worker->table : nullptr},
                             items_);
    if (worker->runs[0].memories.empty()) throw usage_error(worker->runs[0].skipped);
    return worker;
  }

  /// All that the numbers depend on: the model and its words, the text, what is asked of them, and this program's file
  /// where `this_file` says so. The number of threads is not among it.
  std::uint64_t settings(bool this_file) const {
    const model_config& c = model_->weights.config;
    json all = {MULTISTATE_VERSION, simd_target(), r_.model_hash, window_, a_.chunk,
                a_.score,           a_.format,     a_.products,   a_.full};
    if (this_file)
      if (const auto program = file_bytes::open("/proc/self/exe")) all.push_back(hash_bytes(program->bytes()));
    all.push_back(config_json(c));
    std::string words;
    for (int token = 0; model_->words && token < c.vocab; ++token) words += model_->words->decode(token, c.bos) + '\0';
    all.push_back(hash_bytes(std::as_bytes(std::span(words))));
    for (const token_text& t : texts_) {
      all.push_back(hash_bytes(std::as_bytes(std::span(t.tokens))));
      all.push_back(t.characters);
    }
    for (const policy_run& run : workers_[0]->runs) all.push_back({run.policy, budget_json(run.budget), run.seeds});
    const std::string text = all.dump(-1, ' ', false, json::error_handler_t::replace);
    return hash_bytes(std::as_bytes(std::span(text)));
  }
  /// Beside the first output that is a file of its own.
  void open_journal() {
    for (const auto& out : outputs())
      if (!out.path.empty() && !is_stream(out.path)) {
        journal_.open(out.path, settings(true));
        break;
      }
    if (journal_.parts() > 0)
      r_.notes.push_back("went on from " + journal_.path() + ", which an interrupted run had left");
  }

  // -- the runs

  /// Begins a phase of the bar; tells it how much is done, and whether to go on.
  std::function<bool(double)> progress(const char* phase) {
    bar_.begin(phase);
    return [this](double done) {
      bar_(done);
      return interrupted == 0;
    };
  }
  /// The same of the windows; once it can be told, says how much memory and time they take.
  std::function<bool(double)> progress_of_windows() {
    using clock = std::chrono::steady_clock;
    return [this, told = a_.quiet, begun = clock::now(), tell = progress("windows")](double done) mutable {
      const double seconds = std::chrono::duration<double>(clock::now() - begun).count();
      constexpr double soon = 3, worth_telling = 60;  // seconds
      if (!told && done > 0 && seconds > soon) {
        told = true;
        if (const double all = seconds / done; all > worth_telling) {
          bar_.clear();
          say(fmt::format("compare: {} windows of {} tokens, {} runs of each: about {} with {} of memory\n",
                          to_do().last - to_do().first, longest_, count_runs(), duration_text(all), memory_text()));
        }
      }
      return tell(done);
    };
  }
  std::size_t count_runs() const {
    std::size_t runs = 0;
    for (const policy_run& run : workers_[0]->runs) runs += run.fresh() ? 1 : run.memories.size();
    return runs;
  }
  /// The windows that this program runs.
  window_range to_do() const {
    const std::size_t all = sample_->windows().size();
    return shard_ ? windows_of(*shard_, all) : window_range{0, all};
  }

  /// A part of the windows, into a file for --merge. All that is not of windows is left to that.
  int run_shard() {
    const window_range range = to_do();
    journal_.retain();
    if (range.first < range.last) run_windows(range.last - range.first);
    bar_.clear();
    if (r_.outcome.interrupted) {
      say(fmt::format("compare: interrupted: {} of {} windows of the part are whole{}\n", r_.outcome.windows,
                      range.last - range.first, how_to_go_on()));
      return status_interrupted;
    }
    write_output(
        a_.json,
        part_json(*shard_, whole(), r_.command_line, journal_).dump(-1, ' ', true, json::error_handler_t::replace) +
            "\n");
    journal_.remove();
    return 0;
  }

  /// All runs over all windows; false when it ended before the first one was done. Windows run side by side, each on a
  /// thread of its own. Only where they are few and steps long do all threads share the steps of one window: they wait
  /// for each other many times a step.
  bool compare_runs() {
    run_windows(sample_->windows().size());
    bar_.clear();
    runs_ = std::move(workers_[0]->runs);
    workers_.resize(1);
    r_.interrupted = r_.outcome.interrupted;
    if (r_.outcome.windows == 0) return false;
    r_.statistics = rank_rows(runs_, *sample_, r_.outcome.windows, {}, a_.chunk);
    for (const policy_run& run : runs_) r_.results.push_back(result_of(run));
    return true;
  }
  void run_windows(std::size_t windows) {
    constexpr std::size_t most_bytes = std::size_t{2} << 30;
    const auto threads = to_size(threads_);
    const std::size_t side_by_side =
        std::min({threads, windows, std::max<std::size_t>(1, most_bytes / workers_[0]->bytes())});
    const auto step_tokens = static_cast<std::size_t>(comparison_tokens(workers_[0]->runs, nullptr, a_.chunk));
    const bool large = token_floats() > small_model;
    const bool share_steps =
        large || (side_by_side < threads && step_tokens * layer_floats(model_->weights.config) >= long_step);
    while (!share_steps && workers_.size() < side_by_side) workers_.push_back(make_worker());
    compare_with(share_steps ? *exec_ : alone_);
  }
  void compare_with(tool_executor& within) {
    comparison_setup how{.chunk = a_.chunk, .extrapolation = r_.extrapolation, .progress = progress_of_windows()};
    // Logits of a small vocabulary cost next to nothing.
    how.every_position = a_.full || head_floats() * 16 < token_floats();
    how.first = to_do().first;
    how.last = to_do().last;
    kept_windows kept(journal_, workers_[0]->runs, *sample_, how);
    how.store = &kept;
    std::vector<any_decoder> decoders;
    std::vector<comparison_worker<any_decoder>> ready;
    decoders.reserve(workers_.size());
    for (const auto& worker : workers_) {
      sequence_memory* recorder = worker->recorder ? &*worker->recorder : nullptr;
      decoders.push_back(value_or_usage(
          any_decoder::make(model_->weights, comparison_tokens(worker->runs, recorder, a_.chunk), within, products_)));
      ready.push_back({&decoders.back(), worker->runs, worker->table ? &*worker->table : nullptr, recorder});
    }
    r_.outcome = value_or_usage(
        multistate::compare(std::span<const comparison_worker<any_decoder>>(ready), *exec_, within, *sample_, how));
  }

  /// Recall: a text of bytes or pieces that the tokenizer knows is both filler and language of the facts.
  void ask() {
    if (!model_->words || r_.extrapolation || r_.interrupted) return;
    if (!a_.full && token_floats() > small_model) {
      r_.notes.emplace_back("recall is asked of a model of this size with --full only: it takes long");
      return;
    }
    constexpr int default_questions = 40, full_questions = 400;
    recall_settings asking{.runs = alone_request(), .full = a_.full, .progress = progress("recall")};
    asking.chunk = prompt_chunk();
    asking.questions = a_.full ? full_questions : default_questions;
    std::vector<int> filler = texts_[0].tokens;
    std::erase(filler, r_.bos);
    recall_report asked = ask_for_facts(model_->weights, *model_->words, filler, *exec_, journal_, asking);
    bar_.clear();
    r_.recall = std::move(asked.json);
    r_.interrupted = asked.interrupted;
    if (r_.interrupted) r_.notes.emplace_back("interrupted: recall is of the questions that were asked");
  }
  int prompt_chunk() const { return a_.chunk > 1 ? a_.chunk : std::min(default_chunk, std::max(1, window_ / 3)); }

  /// What each run does by itself.
  template <class F>
  void run(const char* phase, json& to, const F& f) {
    if (r_.interrupted) return;
    solo_outcome done = f(solo_setup{.weights = model_->weights,
                                     .words = model_->words ? &*model_->words : nullptr,
                                     .sample = *sample_,
                                     .exec = *exec_,
                                     .done = journal_,
                                     .request = alone_request(),
                                     .progress = progress(phase)});
    to = std::move(done.found);
    r_.interrupted = done.interrupted;
    bar_.clear();
  }
  void run_alone() {
    run("prompt modes", r_.prompt_modes, [this](const solo_setup& s) { return read_prompts(s, prompt_chunk()); });
    run("free running", r_.free_run, [](const solo_setup& s) { return run_freely(s); });
    run("agreement", r_.agreement, [](const solo_setup& s) { return compare_formats(s); });
    for (const char* format : {"f16", "bf16"})
      for (const json& entry : r_.agreement)
        if (entry["alike"].contains(format) && entry["alike"][format].is_null()) {
          r_.notes.push_back("states in " + std::string(format) + " overflow: nothing is said of agreement with them");
          break;
        }
  }
  void take_time() {
    const bool long_steps = layer_floats(model_->weights.config) >= long_step;
    run("time", r_.time, [&](const solo_setup& s) { return time_runs(s, long_steps); });
  }

  // -- what was found

  /// A model that has nothing to say of the text gives figures all the same.
  void warn_of_an_unknown_text() {
    const double full = runs_[0].measured->nll,
                 counting = counting_nll(*sample_, r_.outcome.windows, model_->weights.config.vocab);
    if (full > counting)
      r_.notes.push_back(fmt::format(
          "Full predicts the text worse ({:.2f} nats a token) than counting its tokens does ({:.2f}): the model does "
          "not know such a text, or the ids are not those of its tokenizer; what policies cost here says little",
          full, counting));
    if (r_.recall.is_null()) return;
    bool asked = false, applies = false;
    for (const json& cell : r_.recall["cells"])
      if (cell["variant"] != "removed") {
        asked = true;
        applies = applies || !cell["not_applicable"];
      }
    if (asked && !applies)
      r_.notes.emplace_back(
          "recall says nothing of the policies: Full itself answers fewer than nine of ten questions everywhere; the "
          "model does not look such facts up");
  }

  void finish_notes() {
    warn_of_an_unknown_text();
    if (!workers_[0]->no_table.empty())
      r_.notes.push_back(workers_[0]->no_table);
    else if (workers_[0]->table && workers_[0]->table->heads() < model_->weights.config.kv_heads)
      r_.notes.emplace_back("mass kept is of a layer's heads together: the weights of each head would be too large");
    r_.sample = &*sample_;
    r_.chunk = a_.chunk;
    for (std::string& note : sample_notes(r_)) r_.notes.push_back(std::move(note));
    if (r_.interrupted)
      r_.notes.push_back(
          "interrupted: this is a part" +
          (journal_.keeps_any() ? how_to_go_on() : "; with --json, --html or --csv a run can be gone on with"));
  }
  std::string how_to_go_on() const {
    return journal_.keeps_any() ? "; the same command goes on from " + journal_.path() : "";
  }
  /// How far an interrupted run came, and what it has written.
  std::string state_of_the_run() const {
    std::string names;
    for (const auto& out : outputs())
      if (!out.path.empty() && !is_standard_output(out.path))
        names += (names.empty() ? "; a part is in " : ", ") + part_of(out.path);
    return fmt::format("{} of {} windows are whole{}", r_.outcome.windows, sample_->windows().size(), names);
  }
  /// Parts that interrupted runs of this command wrote go when the whole is there; the journal knows of them.
  void remove_parts() {
    journal_.restore("parts", [&](const json& written) {
      for (const auto& out : outputs()) {
        if (out.path.empty() || is_stream(out.path)) continue;
        const std::string part = part_of(out.path);
        std::error_code none;
        if (std::find(written.begin(), written.end(), json(part)) != written.end() &&
            std::filesystem::symlink_status(part, none).type() == std::filesystem::file_type::regular)
          std::filesystem::remove(part, none);
      }
    });
  }

  void write() {
    r_.format = a_.format;
    r_.products = a_.products;
    r_.threads = threads_;
    r_.simd_target = std::string(simd_target());
    const model_config& config = model_->weights.config;
    r_.full_bytes_per_token = static_cast<double>(config.layers) * config.kv_heads *
                              static_cast<double>(state_bytes_of(format_, config.attention_shape()));
    write_outputs(to_json(r_));
  }
  /// Files first, so that they are there whatever becomes of standard output. ASCII keeps JSON safe on any terminal.
  void write_outputs(const json& out) {
    if (r_.interrupted) {
      json parts = json::array();
      for (const auto& o : outputs())
        if (!o.path.empty() && !is_stream(o.path)) parts.push_back(part_of(o.path));
      journal_.keep("parts", parts);
    }
    bool shown = !a_.quiet;
    std::vector<std::string> written;
    for (const bool standard : {false, true})
      for (const auto& o : outputs()) {
        if (o.path.empty() || is_standard_output(o.path) != standard) continue;
        shown = shown && !standard;
        const std::string text = o.flag == "--json"  ? out.dump(2, ' ', true, json::error_handler_t::replace) + "\n"
                                 : o.flag == "--csv" ? to_csv(out)
                                                     : to_html(out);
        const std::string to = r_.interrupted ? part_of(o.path) : o.path;
        write_output(to, text);
        written.push_back(to);
      }
    if (shown)
      write_out(
          report_text(r_, out, {.width = static_cast<int>(terminal_width()), .colour = shows_colours()}, written));
  }

  compare_arguments a_;
  policy_list known_;
  std::vector<std::string> own_names_;
  weight_format format_ = weight_format::f32;
  product_mode products_ = product_mode::exact;
  int threads_ = 1, window_ = 0;
  int longest_ = 0;  ///< window; a text shorter than T needs no more room
  std::vector<int> budgets_;
  std::vector<std::string> paths_;  ///< of the texts
  std::vector<run_spec> items_;     ///< of --policies
  std::optional<shard> shard_;      ///< --shard
  std::optional<parts> parts_;      ///< --merge

  report r_;
  std::vector<policy_run> runs_;
  std::optional<opened_model> model_;
  std::vector<token_text> texts_;
  std::optional<text_sample> sample_;
  std::vector<std::unique_ptr<worker_memory>> workers_;
  journal journal_;
  progress_bar bar_;
  std::optional<tool_executor> exec_;
  tool_executor alone_{1};
};

void add_flags(CLI::App& app, compare_arguments& a) {
  CLI::Option_group& files = *app.add_option_group("Model and text", "What is read.");
  files.add_option("--model", a.model,
                   "A GGUF file, a Hugging Face folder or .safetensors file, or a llama2.c checkpoint; the demo model "
                   "unless given.");
  files
      .add_option("--text", a.texts,
                  "A text file, or F.tokens with int32 ids; may be given again. The demo text unless given.")
      ->take_all()
      ->expected(1);
  files.add_option("--tokenizer", a.tokenizer,
                   "A tokenizer.json or llama2.c tokenizer; unless given, the one that comes with the model.");
  add_bos_flag(files, a.bos);
  files.add_option("--tokens", a.tokens, "Only the first N tokens of each text.")
      ->check(whole_number(2))
      ->type_name("N");

  CLI::Option_group& compared = *app.add_option_group("Policies", "What is compared.");
  compared.add_option("--policies", a.policies,
                      "Policies with commas between them, instead of the usual ones. One is "
                      "name[+i][:k][,key=value]...[@incache|@log]; oracle and short are possible too.");
  compared.add_option("--budgets", a.budgets, "States a layer keeps, of policies without ':k'.")
      ->check(whole_number_list(1))
      ->type_name("N,N,...")
      ->capture_default_str();
  compared.add_option("--format", a.format, "How states are stored: f32, f16, bf16 or i8.")
      ->check(format_name())
      ->capture_default_str();

  CLI::Option_group& reading = *app.add_option_group("Reading", "How the text is read and scored.");
  reading
      .add_option("--window", a.window,
                  "Tokens a window; the context the model was trained on unless given, at most 1024.")
      ->check(whole_number(2))
      ->type_name("T");
  reading.add_option("--chunk", a.chunk, "Tokens read together, at most T/2.")
      ->check(whole_number(1))
      ->type_name("C")
      ->capture_default_str();
  reading
      .add_option("--products", a.products, "How weights in blocks are multiplied: exact, or fast, by rounded numbers.")
      ->check(one_of({"exact", "fast"}))
      ->capture_default_str();
  reading.add_option("--score", a.score, "Which tokens are scored: tail, the second half of each window, or all.")
      ->check(one_of({"tail", "all"}))
      ->capture_default_str();
  reading.add_flag(
      "--full", a.full,
      "All of the demo text, and more of everything: contexts cut to k tokens (short), recall of one and of "
      "eight facts, prompts read in four ways, greedy text, states in other formats. Half an hour.");
  reading.add_flag("--time", a.time, "Time a token too, of each policy by itself.");
  reading.add_option("--threads", a.threads, "Threads; one for each core unless given.")
      ->check(whole_number(1, tool_executor::most))
      ->type_name("N");

  CLI::Option_group& spread = *app.add_option_group("In parts", "A comparison on several machines.");
  spread
      .add_option(
          "--shard", a.shard,
          "Only the i-th of n parts of the windows; --json gets a part, and --merge makes one comparison of all.")
      ->type_name("i/n");
  spread
      .add_option("--merge", a.merge,
                  "The comparison whose parts these files are; model, texts and policies are theirs.")
      ->expected(1, shard::most)
      ->type_name("PART...");

  CLI::Option_group& output = *app.add_option_group("Output", "What is written; - is standard output.");
  output.add_option("--json", a.json, "Everything, as JSON.");
  output.add_option("--csv", a.csv, "The figures, one policy a line.");
  output.add_option("--html", a.html, "A page of plots and tables that needs no network.");
  output.add_option("--against", a.against,
                    "The JSON that another build wrote of the same model and text: says which states both kept.");
  output.add_flag("--quiet", a.quiet, "Print nothing but errors.");
}

}  // namespace

int run_compare(int argc, char** argv, std::vector<policy_entry> own) {
  return run_program<compare_arguments>(
      "compare",
      "What forgetting costs: policies x budgets on a model and a text. Without arguments: the demo model and text.",
      "Ctrl-C ends with what is done: in OUTPUT.part.EXT in the place of OUTPUT.EXT, and the same command goes on from "
      "there.\nExit status: 0 done, 2 bad usage or input, or output that could not be written, 3 interrupted: a part.",
      argc, argv, add_flags, [&](const compare_arguments& a) {
        return compare_run(a, std::vector<std::string>(argv, argv + argc), std::move(own))();
      });
}

}  // namespace multistate::tools
