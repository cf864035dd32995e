#pragma once

#include <fmt/format.h>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <multistate/attention/target.hpp>
#include <multistate/io/json.hpp>
#include <multistate/io/text_file.hpp>
#include <multistate/model/decoder.hpp>
#include <tools/report/html_report.hpp>
#include <tools/runs/kept_windows.hpp>
#include <tools/terminal/outputs.hpp>
#include <tools/terminal/program.hpp>
#include <tools/runs/recall_run.hpp>
#include <tools/report/report.hpp>
#include <tools/report/text.hpp>
#include <tools/report/trace.hpp>
#include <tools/runs/row_runs.hpp>
#include <tools/runs/totals_json.hpp>
#include <multistate/version.hpp>

namespace multistate::tools {

struct compare_arguments {
  std::string model, tokenizer, policies, budgets = "16,64,256", window, tokens, chunk = "1", score = "tail", threads,
                                          format = "f32", json, csv, html, against;
  std::vector<std::string> texts;
  bool full = false, time = false, quiet = false;
};

/// One text as the model's tokens, the first `most` of them, without the BOS that ids may begin with.
inline token_text read_sample_text(const std::string& path, const opened_model& model, std::size_t most,
                                   report::text& about) {
  const int bos = model.weights.config.bos;
  token_text t;
  t.name = path;
  const auto bytes = value_or_usage(file_bytes::open(path));
  t.hash = hash_bytes(bytes.bytes());
  if (std::filesystem::path(path).extension() == ".tokens") {
    t.tokens = value_or_usage(read_tokens(path, model.weights.config.vocab));
    const auto text = std::find_if(t.tokens.begin(), t.tokens.end(), [bos](int id) { return bos < 0 || id != bos; });
    about.bos_first = static_cast<std::size_t>(text - t.tokens.begin());
    if (text == t.tokens.end() && about.bos_first > 0) throw usage_error(path + ": holds nothing but BOS");
    t.tokens.erase(t.tokens.begin(), text);
  } else {
    if (!model.words) throw usage_error(model.no_words);
    t.tokens = model.words->encode({reinterpret_cast<const char*>(bytes.bytes().data()), bytes.size()});
  }
  about.tokens = t.tokens.size();
  t.tokens.resize(std::min(about.tokens, most));
  about.used = t.tokens.size();
  about.bos_inside = bos < 0 ? 0 : static_cast<std::size_t>(std::count(t.tokens.begin(), t.tokens.end(), bos));
  about.path = path;
  about.hash = t.hash;
  if (model.words) t.bytes = model.words->text_bytes(t.tokens);
  t.characters = model.words && model.words->is_bytes();
  return t;
}

/// The memories of one thread that runs windows.
struct worker_memory {
  std::optional<oracle_table> table;
  std::string no_table;  ///< why there is none
  std::optional<sequence_memory> recorder;
  std::vector<policy_run> rows;

  std::size_t bytes() const noexcept {
    std::size_t sum = table ? table->bytes() + recorder->bytes() : 0;
    for (const policy_run& row : rows)
      for (const sequence_memory& m : row.memories) sum += m.bytes();
    return sum;
  }
};

/// A comparison from its arguments to its outputs. Whatever ends it early is a usage error.
template <class Registry>
class compare_run {
  using json = nlohmann::ordered_json;

 public:
  /// `more` are policies that stand among the rows that are always there.
  compare_run(compare_arguments a, std::vector<std::string> command_line, std::vector<std::string> more)
      : a_(std::move(a)), more_(std::move(more)), bar_(!a_.quiet) {
    r_.command_line = std::move(command_line);
  }

  /// Returns the exit status: 0 done, 3 interrupted.
  int operator()() {
    read_arguments();
    name_files();
    open_files();
    name_rows();
    workers_.push_back(make_worker());
    need_forgetting(workers_[0]->rows, *sample_, chunk_);
    open_journal();
    warn_of_a_narrow_target();
    exec_.emplace(make_executor(threads_));
    if (!compare_rows()) {
      say("compare: interrupted before the first window was done" + how_to_go_on() + "\n");
      return status_interrupted;
    }
    ask();
    if (a_.full) run_alone();
    if (a_.time) take_time();
    finish_notes();
    write();
    if (r_.interrupted) {
      say("compare: interrupted: " + what_there_is() + how_to_go_on() + "\n");
      return status_interrupted;
    }
    remove_parts();
    journal_.remove();
    return 0;
  }

 private:
  static constexpr std::size_t long_step = std::size_t{1} << 24;  ///< multiplications of a layer that threads share
  static constexpr int default_chunk = 16;                        ///< of prompts read in chunks

  // -- what is to be done --------------------------------------------------------------------------------------------

  /// All that can be said before any file is read.
  void read_arguments() {
    if (std::find(format_names.begin(), format_names.end(), a_.format) == format_names.end())
      throw usage_error("--format must be f32, f16, bf16 or i8; got '" + a_.format + "'");
    if (a_.score != "tail" && a_.score != "all")
      throw usage_error("--score must be tail or all; got '" + a_.score + "'");
    threads_ = threads_of(a_.threads);
    budgets_ = whole_numbers("--budgets", a_.budgets, 1);
    window_ = a_.window.empty() ? 0 : whole_number("--window", a_.window, 2);
    tokens_ = a_.tokens.empty() ? 0 : whole_number("--tokens", a_.tokens, 2);
    chunk_ = whole_number("--chunk", a_.chunk, 1);
    items_ = split_policies(a_.policies);
    for (const std::string& item : items_)
      if (!is_no_policy(item)) value_or_usage(policy_choice<Registry>::parse(item));
  }

  /// Refuses outputs that can't be written, or that lie where something is read, before anything is done.
  void name_files() {
    r_.model = a_.model.empty() ? demo("--model").string() : a_.model;
    paths_ = a_.texts;
    if (paths_.empty()) paths_.push_back(demo("--text").string());
    auto inputs = files_of_model(r_.model, a_.tokenizer);
    for (const std::string& path : paths_) inputs.push_back({"--text", path});
    inputs.push_back({"--against", a_.against});
    check_outputs(outputs(), inputs);
  }
  std::vector<named_file> outputs() const { return {{"--json", a_.json}, {"--csv", a_.csv}, {"--html", a_.html}}; }
  void open_files() {
    model_.emplace(open_model(r_.model, a_.tokenizer));
    const model_config& config = model_->weights.config;
    r_.notes = model_->weights.notes;
    r_.model_hash = model_->weights.hash;
    r_.trained_context = config.context;
    r_.bos = config.bos;
    if (window_ == 0) window_ = config.context > 0 ? std::min(1024, config.context) : 1024;
    if (chunk_ > window_ / 2)
      throw usage_error("--chunk must be at most half of a window of " + std::to_string(window_) + " tokens; got " +
                        std::to_string(chunk_));
    r_.extrapolation = config.context > 0 && window_ > config.context;

    std::size_t most = tokens_ > 0 ? static_cast<std::size_t>(tokens_) : static_cast<std::size_t>(-1);
    if (a_.texts.empty()) {
      constexpr int default_windows = 8;
      if (tokens_ == 0 && !a_.full) {
        most = static_cast<std::size_t>(window_ / 2) * (default_windows + 1) + static_cast<std::size_t>(window_ % 2);
        r_.notes.push_back("eight windows of the demo text; --full takes all of it, --tokens N its beginning");
      }
    }
    for (const std::string& path : paths_)
      texts_.push_back(read_sample_text(path, *model_, most, r_.texts.emplace_back()));
    sample_.emplace(value_or_usage(
        text_sample::make(texts_, window_, config.bos, a_.score == "all" ? scoring::all : scoring::tail)));
    for (const text_window& w : sample_->windows()) longest_ = std::max(longest_, w.queries);
    if (!a_.against.empty()) open_other();
  }
  /// What another build found.
  void open_other() {
    other_ = value_or_usage(multistate::detail::read_json(a_.against, std::uint64_t{1} << 28));
    const json &hash = field(field(other_, "model"), "hash"), &tokens = field(field(other_, "trace"), "tokens");
    const auto refuse = [this](const char* why) { throw usage_error("--against " + a_.against + " " + why); };
    if (hash.is_null() || tokens.is_null()) refuse("must be what compare --json wrote");
    if (hash != json(hash_text(r_.model_hash))) refuse("is of another model");
    if (tokens != json(sample_->inputs(sample_->windows()[0]))) refuse("is of another text or window");
    if (field(other_, "chunk") != json(chunk_)) refuse("read another number of tokens together (--chunk)");
  }

  void name_rows() {
    if (items_.empty()) {
      items_ = {"window",          "window+4", "window+4@incache", "random", "h2o",
                "h2o,scope=layer", "tova",     "tova,scope=head",  "oracle"};
      if (r_.extrapolation)  // the position modes side by side
        items_.insert(items_.end() - 1, {"tova@incache", "tova@log", "window+4@log"});
      if (a_.full) items_.insert(items_.begin(), "short");
      items_.insert(items_.end(), more_.begin(), more_.end());
    }
    for (const std::string& item : items_)
      if (item.starts_with("oracle")) {
        r_.notes.emplace_back("the oracle knows the future: neither a policy nor a bound");
        break;
      }
  }
  row_request alone_request() const { return {items_, budgets_, a_.format, window_}; }

  std::unique_ptr<worker_memory> make_worker() const {
    const model_config& config = model_->weights.config;
    auto worker = std::make_unique<worker_memory>();
    const memory_setup setup = setup_for(config, {.chunk = chunk_});
    // Full's rows: what the oracle ranks by, and the mass that falls on what a policy keeps
    constexpr std::uint64_t most_apart = oracle_table::most_bytes / 8;  // room for many windows side by side
    const bool apart = oracle_table::bytes_of(config.layers, config.kv_heads, longest_) <= most_apart;
    if (auto made = oracle_table::make(config.layers, apart ? config.kv_heads : 1, longest_)) {
      worker->table = std::move(*made);
      memory_setup reading = setup;
      reading.room = {.chunk = std::min(64, longest_)};
      const scope_kind scope = worker->table->heads() > 1 ? scope_kind::head : scope_kind::layer;
      worker->recorder = value_or_usage(make_memory_of(
          a_.format, oracle_recorder{.budget = longest_, .scope = scope, .table = &*worker->table}, reading));
    } else {
      worker->no_table = made.reason().message();
    }
    worker->rows = make_runs<Registry>({.setup = setup,
                                        .format = a_.format,
                                        .budgets = budgets_,
                                        .window = longest_,
                                        .bos = config.bos >= 0,
                                        .table = worker->table ? &*worker->table : nullptr},
                                       items_);
    if (worker->rows[0].memories.empty()) throw usage_error(worker->rows[0].skipped);
    return worker;
  }

  /// All that the numbers depend on: this program, the model and its words, the text, what is asked of them. The number
  /// of threads is not among it.
  std::uint64_t settings() const {
    const model_config& c = model_->weights.config;
    json all = {MULTISTATE_VERSION, attention_target(), r_.model_hash, window_, chunk_, a_.score, a_.format, a_.full};
    if (const auto program = file_bytes::open("/proc/self/exe")) all.push_back(hash_bytes(program->bytes()));
    all.push_back({c.layers, c.hidden, c.heads, c.kv_heads, c.head_dim, c.ffn, c.vocab, c.context, c.norm_eps, c.tied,
                   c.bos, c.rope.dim, c.rope.theta, static_cast<int>(c.rope.pairing), static_cast<int>(c.rope.scaling),
                   c.rope.factor, c.rope.low_freq_factor, c.rope.high_freq_factor, c.rope.original_context});
    std::string words;
    for (int token = 0; model_->words && token < c.vocab; ++token) words += model_->words->decode(token, c.bos) + '\0';
    all.push_back(hash_bytes(std::as_bytes(std::span(words))));
    for (const token_text& t : texts_) {
      all.push_back(hash_bytes(std::as_bytes(std::span(t.tokens))));
      all.push_back(t.characters);
    }
    for (const policy_run& row : workers_[0]->rows) all.push_back({row.policy, budget_json(row), row.seeds});
    const std::string text = all.dump(-1, ' ', false, json::error_handler_t::replace);
    return hash_bytes(std::as_bytes(std::span(text)));
  }
  /// Beside the first output that is a file of its own.
  void open_journal() {
    for (const auto& out : outputs())
      if (!out.path.empty() && !is_stream(out.path)) {
        journal_.open(out.path, settings());
        break;
      }
    if (journal_.parts() > 0)
      r_.notes.push_back("went on from " + journal_.path() + ", which an interrupted run had left");
  }

  void warn_of_a_narrow_target() const {
    if (attention_target_is_narrower_than_cpu() && !a_.quiet)
      say("warning: this program was compiled for " + std::string(attention_target()) + ", this CPU has " +
          std::string(best_attention_target()) + ": build with -march=native\n");
  }

  // -- the runs ------------------------------------------------------------------------------------------------------

  /// For what comes next.
  std::function<bool(double)> progress(const char* phase) {
    bar_.begin(phase);
    return [this](double done) {
      bar_(done);
      return interrupted == 0;
    };
  }

  /// All rows over all windows; false when it ended before the first one was done. Windows run side by side, each on a
  /// thread of its own. Only where they are few and steps long do all threads share the steps of one window: they wait
  /// for each other many times a step.
  bool compare_rows() {
    constexpr std::size_t most_bytes = std::size_t{2} << 30;
    const auto threads = static_cast<std::size_t>(threads_);
    const std::size_t side_by_side =
        std::min({threads, sample_->windows().size(), std::max<std::size_t>(1, most_bytes / workers_[0]->bytes())});
    const auto step_tokens = static_cast<std::size_t>(comparison_tokens(workers_[0]->rows, nullptr, chunk_));
    const bool share_steps = side_by_side < threads && step_tokens * layer_floats(model_->weights.config) >= long_step;
    while (!share_steps && workers_.size() < side_by_side) workers_.push_back(make_worker());
    if (share_steps)
      compare_with(*exec_);
    else
      compare_with(alone_);
    bar_.clear();
    runs_ = std::move(workers_[0]->rows);
    workers_.resize(1);
    r_.interrupted = r_.outcome.interrupted;
    if (r_.outcome.windows == 0) return false;
    r_.statistics = rank_rows(runs_, *sample_, r_.outcome.windows, {}, chunk_);
    return true;
  }
  template <executor Within>
  void compare_with(Within& within) {
    comparison_setup how{.chunk = chunk_, .extrapolation = r_.extrapolation, .progress = progress("rows")};
    kept_windows kept(journal_, workers_[0]->rows, *sample_, chunk_);
    how.store = &kept;
    std::vector<decoder<Within>> decoders;
    std::vector<comparison_worker<decoder<Within>>> ready;
    decoders.reserve(workers_.size());
    for (const auto& worker : workers_) {
      sequence_memory* recorder = worker->recorder ? &*worker->recorder : nullptr;
      decoders.push_back(value_or_usage(
          decoder<Within>::make(model_->weights, comparison_tokens(worker->rows, recorder, chunk_), within)));
      ready.push_back({&decoders.back(), worker->rows, worker->table ? &*worker->table : nullptr, recorder});
    }
    r_.outcome = value_or_usage(
        compare(std::span<const comparison_worker<decoder<Within>>>(ready), *exec_, within, *sample_, how));
  }

  /// Recall: a text of bytes or pieces that the tokenizer knows is both filler and language of the facts.
  void ask() {
    if (!model_->words || r_.extrapolation || r_.interrupted) return;
    constexpr int default_questions = 40, full_questions = 400;
    recall_settings asking{.rows = alone_request(), .full = a_.full, .progress = progress("recall")};
    asking.chunk = prompt_chunk();
    asking.questions = a_.full ? full_questions : default_questions;
    std::vector<int> filler = texts_[0].tokens;
    std::erase(filler, r_.bos);
    recall_.emplace(
        recall_run<Registry, tool_executor>(model_->weights, *model_->words, filler, *exec_, journal_, asking)());
    bar_.clear();
    r_.interrupted = recall_->interrupted;
    if (r_.interrupted) r_.notes.emplace_back("interrupted: recall is of the questions that were asked");
  }
  int prompt_chunk() const { return chunk_ > 1 ? chunk_ : std::min(default_chunk, std::max(1, window_ / 3)); }

  /// What each row does by itself.
  template <class F>
  void run(const char* phase, json& to, const F& f) {
    if (r_.interrupted) return;
    row_runs<Registry, tool_executor> runs{
        model_->weights, model_->words ? &*model_->words : nullptr, *sample_, *exec_, journal_, alone_request(),
        progress(phase)};
    to = f(runs);
    r_.interrupted = runs.interrupted();
    bar_.clear();
  }
  void run_alone() {
    run("prompt modes", prompt_modes_, [this](auto& runs) { return runs.prompt_modes(prompt_chunk()); });
    run("free running", free_run_, [](auto& runs) { return runs.free_run(); });
    run("agreement", agreement_, [](auto& runs) { return runs.agreement(); });
    for (const char* format : {"f16", "bf16"})
      for (const json& row : agreement_)
        if (row["alike"].contains(format) && row["alike"][format].is_null()) {
          r_.notes.push_back("states in " + std::string(format) + " overflow: nothing is said of agreement with them");
          break;
        }
  }
  void take_time() {
    const bool long_steps = layer_floats(model_->weights.config) >= long_step;
    run("time", time_, [&](auto& runs) { return long_steps ? runs.time(*exec_) : runs.time(alone_); });
  }

  // -- what was found ------------------------------------------------------------------------------------------------

  /// A model that has nothing to say of the text gives figures all the same.
  void warn_of_an_unknown_text() {
    const double full = runs_[0].measured->nll,
                 counting = counting_nll(*sample_, r_.outcome.windows, model_->weights.config.vocab);
    if (full > counting)
      r_.notes.push_back(fmt::format(
          "Full predicts the text worse ({:.2f} nats a token) than counting its tokens does ({:.2f}): the model does "
          "not know such a text, or the ids are not those of its tokenizer; what policies cost here says little",
          full, counting));
    if (!recall_) return;
    bool asked = false, applies = false;
    for (const json& cell : recall_->json["cells"])
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
    fill_report();
    if (!workers_[0]->no_table.empty())
      r_.notes.push_back(workers_[0]->no_table);
    else if (workers_[0]->table->heads() < model_->weights.config.kv_heads)
      r_.notes.emplace_back(
          "attention of each head would take too much memory: mass kept is of a layer's heads together");
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
  std::string what_there_is() const {
    std::string names;
    for (const auto& out : outputs())
      if (!out.path.empty() && !is_standard_output(out.path))
        names += (names.empty() ? "; a part is in " : ", ") + part_of(out.path);
    return std::to_string(r_.outcome.windows) + " of " + std::to_string(sample_->windows().size()) +
           " windows are whole" + names;
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

  /// How a policy's keys are numbered; `oracle` and `short` are no policies.
  static position_mode positions_of(const policy_run& run) {
    if (is_no_policy(run.policy)) return position_mode::original;
    return value_or_usage(policy_choice<Registry>::parse(run.policy)).positions;
  }
  void fill_report() {
    r_.format = a_.format;
    r_.chunk = chunk_;
    r_.threads = threads_;
    r_.simd_target = std::string(attention_target());
    r_.sample = &*sample_;
    const model_config& config = model_->weights.config;
    r_.full_bytes_per_token = static_cast<double>(config.layers) * config.kv_heads *
                              static_cast<double>(state_bytes_of(a_.format, config.attention_shape()));
    for (const policy_run& run : runs_) r_.results.push_back(result_of(run, positions_of(run)));
    if (recall_) r_.recall = recall_->json;
    r_.prompt_modes = prompt_modes_;
    r_.free_run = free_run_;
    r_.agreement = agreement_;
    r_.time = time_;
    r_.other_path = a_.against;
    r_.other = other_;
  }
  void write() { write_outputs(to_json(r_)); }
  /// Files first, so that they are there whatever becomes of standard output. ASCII keeps JSON safe on any terminal.
  void write_outputs(const json& out) {
    using namespace multistate::detail;  // the library's own detail
    if (r_.interrupted) {
      json parts = json::array();
      for (const auto& o : outputs())
        if (!o.path.empty() && !is_stream(o.path)) parts.push_back(part_of(o.path));
      journal_.keep("parts", parts);
    }
    bool shown = !a_.quiet;
    for (const bool standard : {false, true})
      for (const auto& o : outputs()) {
        if (o.path.empty() || is_standard_output(o.path) != standard) continue;
        shown = shown && !standard;
        const std::string text = o.flag == "--json"  ? out.dump(2, ' ', true, json::error_handler_t::replace) + "\n"
                                 : o.flag == "--csv" ? to_csv(out)
                                                     : to_html(out);
        write_output(r_.interrupted ? part_of(o.path) : o.path, text);
      }
    if (!shown) return;
    std::vector<std::string> written;
    for (const auto& o : outputs())
      if (!o.path.empty()) written.push_back(r_.interrupted ? part_of(o.path) : o.path);
    write_out(report_text(r_, out, {.width = 80, .colour = ::isatty(STDOUT_FILENO) != 0}, written));
  }

  const compare_arguments a_;
  const std::vector<std::string> more_;
  int threads_ = 1, window_ = 0, tokens_ = 0, chunk_ = 1;
  int longest_ = 0;  ///< window; a text shorter than T needs no more room
  std::vector<int> budgets_;
  std::vector<std::string> paths_;  ///< of the texts
  std::vector<std::string> items_;  ///< rows as --policies takes them

  report r_;
  std::vector<policy_run> runs_;
  std::optional<opened_model> model_;
  std::vector<token_text> texts_;
  std::optional<text_sample> sample_;
  std::vector<std::unique_ptr<worker_memory>> workers_;
  journal journal_;
  progress_bar bar_;
  std::optional<tool_executor> exec_;
  serial alone_;

  std::optional<recall_report> recall_;
  json prompt_modes_ = json::array(), free_run_, agreement_ = json::array(), time_;
  json other_;  ///< --against
};

}  // namespace multistate::tools
