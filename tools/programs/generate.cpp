#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <multistate/io/chat_template.hpp>
#include <multistate/io/file.hpp>
#include <multistate/io/printable.hpp>
#include <multistate/model/sampling.hpp>
#include <multistate/model/setup_for.hpp>
#include <multistate/tokenizer/chat.hpp>
#include <multistate/tools/programs.hpp>
#include <multistate/version.hpp>
#include <tools/engine/engine.hpp>
#include <tools/runs/opened_model.hpp>
#include <tools/runs/policy_list.hpp>
#include <tools/terminal/console.hpp>
#include <tools/terminal/flags.hpp>
#include <tools/terminal/outputs.hpp>

namespace multistate::tools {

namespace {

using json = nlohmann::ordered_json;

struct generate_arguments {
  std::string model, tokenizer, bos = "auto", policy = "tova:256@incache", prompt, products = "fast", json;
  std::optional<int> tokens, threads;
  int seed = 0;
  double temperature = 0.8, top_p = 0.95;
  bool chat = false, pin_prompt = false;
};

/// Which token stood at each position that some layer still holds: memory as bounded as what it describes.
class token_record {
 public:
  void add(position at, int token, int before, const sequence_memory& memory) {
    entries_.push_back({at, token, before});
    if (entries_.size() >= most_) prune(memory);
  }
  /// Null: not recorded any more.
  const auto* find(position at) const noexcept {
    const auto found =
        std::lower_bound(entries_.begin(), entries_.end(), at, [](const entry& e, position p) { return e.at < p; });
    return found == entries_.end() || found->at != at ? nullptr : &*found;
  }

 private:
  struct entry {
    position at;
    int token;
    int before;  ///< the token in front of it: decoding asks
  };
  void prune(const sequence_memory& memory) {
    held_.clear();
    for (int layer = 0; layer < memory.layers(); ++layer)
      for (int lane = 0; lane < memory.lanes(layer); ++lane)
        for (const position p : memory.positions(layer, lane)) held_.push_back(p);
    std::sort(held_.begin(), held_.end());
    const position newest = entries_.back().at;  // its states may not be there yet
    std::erase_if(entries_, [&](const entry& e) {
      return e.at != newest && !std::binary_search(held_.begin(), held_.end(), e.at);
    });
    most_ = 2 * entries_.size() + 1024;
  }
  std::vector<entry> entries_;  ///< by position
  std::vector<position> held_;
  std::size_t most_ = 4096;
};

/// "12-15 40": runs of positions.
std::string runs_of(std::span<const position> positions) {
  std::string out;
  for (std::size_t i = 0; i < positions.size();) {
    std::size_t j = i;
    while (j + 1 < positions.size() && positions[j + 1] == positions[j] + 1) ++j;
    out += (out.empty() ? "" : " ") + std::to_string(positions[i]) + (j > i ? "-" + std::to_string(positions[j]) : "");
    i = j + 1;
  }
  return out;
}

/// In one line; a gap shows as "·".
std::string text_at(std::span<const position> positions, const token_record& record, const tokenizer& words) {
  std::string out;
  position next = 0;
  for (const position p : positions) {
    if (p != next) out += "·";
    next = p + 1;
    const auto* e = record.find(p);
    if (e == nullptr) continue;
    if (e->token == words.bos()) out += "<BOS>";
    for (const char c : words.decode(e->token, e->before))
      out += static_cast<unsigned char>(c) < 32 || c == 127 ? (c == '\n' ? std::string("⏎") : "?") : std::string(1, c);
  }
  return out;
}

/// A text that goes on and on, from its arguments to what is remembered of it at the end.
class generate_run {
  static constexpr int prompt_chunk = 16;

 public:
  generate_run(generate_arguments a, policy_choice choice, opened_model model)
      : a_(std::move(a)),
        choice_(std::move(choice)),
        model_(std::move(model)),
        words_(*model_.words),
        config_(model_.weights.config),
        streams_(!is_standard_output(a_.json)),
        shown_(true),  // a model's words are a stranger's
        chat_(make_chat()),
        prompt_(tokens_of_prompt()),
        memory_(make_memory_for_it()),
        exec_(threads()),
        decoder_(value_or_usage(
            any_decoder::make(model_.weights, prompt_chunk, exec_, value_or_usage(parse_product_mode(a_.products))))),
        logits_(to_size(config_.vocab)) {}

  /// Returns the exit status: 0 done, 3 interrupted before all tokens were made.
  int operator()() {
    before_ = words_.bos();
    if (a_.pin_prompt && prompt_.empty()) throw usage_error("--pin-prompt needs a --prompt");
    if (a_.pin_prompt && !memory_.pin(0, static_cast<position>(prompt_.size())))
      throw usage_error(
          fmt::format("--pin-prompt: a prompt of {} tokens does not fit under policy '{}'", prompt_.size(), a_.policy));
    if (!prompt_.empty()) read(prompt_, !chat_);
    const auto begun = std::chrono::steady_clock::now();
    if (chat_)
      talk();
    else
      write_text();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    if (streams_) write_out(shown_.end() + "\n");
    const bool part = chat_ ? interrupted != 0 : a_.tokens && made_ < *a_.tokens;
    const std::string to = part ? part_of(a_.json) : a_.json;
    std::string remembered;
    const json found = describe(part, remembered);
    write_output(to, found.dump(2, ' ', true, json::error_handler_t::replace) + "\n");
    std::string ending =
        fmt::format("\nremembered of {} tokens under {}:\n{}{:.1f} kB allocated, {:.1f} kB live keys and values",
                    memory_.next_position(), policy_text(), remembered, 1e-3 * static_cast<double>(bytes()),
                    1e-3 * static_cast<double>(memory_.live_bytes()));
    if (::isatty(STDERR_FILENO) != 0 && seconds > 0)
      ending += fmt::format(", {:.0f} tokens/s", static_cast<double>(made_) / seconds);
    ending += fmt::format("; {} ({})\n", config_.bos >= 0 ? "BOS first" : "no BOS", model_.bos_rule);
    if (part)
      ending += fmt::format("generate: interrupted after {} tokens{}{}\n", made_,
                            chat_ ? "" : fmt::format(" of {}", *a_.tokens), to.empty() ? "" : "; " + to + " is a part");
    say(ending);
    return part ? status_interrupted : 0;
  }

 private:
  // -- what is needed

  std::optional<chat> make_chat() const {
    if (!a_.chat) return std::nullopt;
    return value_or_usage(
        chat::make(value_or_usage(find_chat_template(a_.model.empty() ? demo("--model").string() : a_.model)), words_));
  }
  /// In a chat the prompt is what the system says.
  std::vector<int> tokens_of_prompt() {
    std::vector<int> prompt;
    if (!chat_)
      prompt = model_.encode(a_.prompt);
    else if (!a_.prompt.empty())
      prompt = value_or_usage(chat_->message(chat_role::system, a_.prompt));
    if (config_.bos >= 0) prompt.insert(prompt.begin(), config_.bos);
    if (prompt.empty() && !chat_) throw usage_error("--prompt is needed: this model has no BOS to begin with");
    return prompt;
  }
  /// The most tokens that are known of: those asked for, or the trained context where there is no end.
  int session_tokens() const {
    const std::size_t tokens = a_.tokens && !chat_ ? prompt_.size() + to_size(*a_.tokens) : to_size(config_.context);
    return static_cast<int>(std::min(tokens, to_size(max_tokens)));
  }
  sequence_memory make_memory_for_it() {
    model_.weights.config.state_session(session_tokens());
    policy_handle policy = choice_.policy;
    if (policy.unbounded()) {
      if (!a_.tokens || chat_)
        throw usage_error(
            "policy '" + a_.policy + "' keeps everything: give it " +
            (chat_ ? "a budget that holds all of the chat, as in window:4096" : "an end with --tokens N"));
      policy = value_or_usage(policy.with_budget(static_cast<int>(prompt_.size()) + *a_.tokens));
    }
    if (policy.budget() == 0)
      throw usage_error("policy '" + a_.policy + "' needs a budget, for instance " + std::string(policy.name()) +
                        ":64");
    return value_or_usage(
        make_memory(weight_format::f32, policy, setup_for(config_, {.chunk = prompt_chunk}, choice_.positions)));
  }
  int threads() const {
    constexpr std::size_t worth_sharing = std::size_t{1}
                                          << 24;  // multiplications a token, below which threads only wait
    if (a_.threads) return *a_.threads;
    const bool small = to_size(config_.layers) * layer_floats(config_) < worth_sharing;
    return small ? 1 : tool_executor::most_useful();
  }

  // -- the text

  /// Reads tokens, and shows them where they are the text's beginning.
  void read(std::span<const int> tokens, bool shows) {
    for (std::size_t at = 0; at < tokens.size() && interrupted == 0; at += prompt_chunk) {
      const auto part = tokens.subspan(at, std::min<std::size_t>(prompt_chunk, tokens.size() - at));
      const bool last = at + part.size() == tokens.size();
      const position begin = memory_.next_position();
      for (std::size_t j = 0; j < part.size(); ++j) {
        record_.add(begin + static_cast<position>(j), part[j], before_, memory_);
        if (shows) show(words_.decode(part[j], before_));
        before_ = part[j];
      }
      forward({.memory = &memory_,
               .tokens = part,
               .when = last ? phase::prompt_end : phase::prompt,
               .want = last ? logit_rows::last : logit_rows::none,
               .logits = logits_.data()});
    }
  }
  /// The next token of the text, drawn and read.
  int write_token(sampler& draw) {
    for (const float x : logits_)
      if (!std::isfinite(x))
        throw usage_error(fmt::format("the model's logits are not finite at token {}", memory_.next_position()));
    const int token = draw(logits_);
    record_.add(memory_.next_position(), token, before_, memory_);
    forward({.memory = &memory_, .tokens = {&token, 1}, .want = logit_rows::last, .logits = logits_.data()});
    ++made_;
    return token;
  }
  /// Lines of standard input are what the user says; the model answers each until it ends its turn, or for --tokens.
  void talk() {
    sampler draw(drawing(), config_.vocab);
    for (std::string line; interrupted == 0 && std::getline(std::cin, line);) {
      std::vector<int> tokens = value_or_usage(chat_->message(chat_role::user, line));
      const std::vector<int> opening = value_or_usage(chat_->answer());
      tokens.insert(tokens.end(), opening.begin(), opening.end());
      if (memory_.next_position() == 0 && config_.bos >= 0 && tokens.front() != config_.bos)
        tokens.insert(tokens.begin(), config_.bos);
      read(tokens, false);
      for (std::int64_t made = 0; interrupted == 0 && (!a_.tokens || made < *a_.tokens); ++made) {
        const int before = before_, token = before_ = write_token(draw);
        if (token == chat_->end_of_message()) break;
        const std::string piece = words_.decode(token, before);
        if (!a_.json.empty()) {
          text_ += piece;
          tokens_.push_back(token);
        }
        show(piece);
      }
      if (before_ != chat_->end_of_message() && interrupted == 0) read({{chat_->end_of_message()}}, false);
      text_ += "\n";
      show("\n");
    }
  }
  void write_text() {
    sampler draw(drawing(), config_.vocab);
    while (interrupted == 0 && (!a_.tokens || made_ < *a_.tokens)) {
      const int before = before_, token = before_ = write_token(draw);
      const std::string piece = token == config_.bos ? "\n" : words_.decode(token, before);  // BOS begins another text
      show(piece);
      if (a_.tokens && !a_.json.empty()) {
        text_ += piece;
        tokens_.push_back(token);
      }
    }
  }
  sampling drawing() const {
    sampling how;
    how.temperature = static_cast<float>(a_.temperature);
    how.top_p = static_cast<float>(a_.top_p);
    how.seed = static_cast<std::uint64_t>(a_.seed);
    return how;
  }
  void forward(const batch_item& item) {
    if (const error e = decoder_.forward({&item, 1})) throw usage_error(std::string(e.message()));
  }
  void show(const std::string& piece) {
    if (streams_) write_out(shown_.take(piece));
    if (reader_has_gone()) throw reader_gone();
  }

  // -- what came of it

  std::string policy_text() const { return choice_.policy.str() + suffix_of(choice_.positions); }
  std::size_t bytes() const { return memory_.bytes() + memory_.scratch_bytes(); }
  /// As JSON; `remembered` is what is kept, for people.
  json describe(bool part, std::string& remembered) const {
    json out;
    out["program"] = "multistate generate";
    out["version"] = MULTISTATE_VERSION;
    out["model_hash"] = hash_text(model_.weights.hash);
    out["policy"] = policy_text();
    out["products"] = a_.products;
    out["bos"] = config_.bos >= 0 ? json(config_.bos) : json(nullptr);
    out["bos_rule"] = model_.bos_rule;
    out["prompt"] = a_.prompt;
    out["seed"] = a_.seed;
    out["temperature"] = a_.temperature;
    out["top_p"] = a_.top_p;
    const bool whole = a_.tokens || chat_;
    out["chat"] = chat_ ? json(chat_->format().name) : json(nullptr);
    out["text"] = whole ? json(text_) : json(nullptr);
    out["tokens"] = whole ? json(tokens_) : json(nullptr);
    out["tokens_made"] = made_;
    out["interrupted"] = part;
    out["tokens_seen"] = memory_.next_position();
    out["bytes_allocated"] = bytes();
    out["bytes_live"] = memory_.live_bytes();
    out["kept"] = json::array();
    const int layers =
        spans_layers(memory_.scope(0)) ? 1 : memory_.layers();  // at scope model all layers hold the same
    for (int layer = 0; layer < layers; ++layer)
      for (int lane = 0; lane < memory_.lanes(layer); ++lane) {
        std::vector<position> kept(to_size(memory_.live(layer, lane)));
        memory_.kept(layer, lane, kept);
        const std::string kept_text = text_at(kept, record_, words_);
        out["kept"].push_back({{"layer", layer}, {"lane", lane}, {"positions", kept}, {"text", kept_text}});
        remembered += fmt::format("layer {}{}: {} states, positions {}\n  {}\n", layer,
                                  memory_.lanes(layer) > 1 ? fmt::format(" lane {}", lane) : "", kept.size(),
                                  runs_of(kept), kept_text);
      }
    return out;
  }

  const generate_arguments a_;
  const policy_choice choice_;
  opened_model model_;
  const tokenizer& words_;
  const model_config& config_;
  const bool streams_;  ///< the text, as it is made
  detail::printable_text shown_;
  std::optional<chat> chat_;
  std::vector<int> prompt_;
  sequence_memory memory_;
  tool_executor exec_;
  any_decoder decoder_;
  std::vector<float> logits_;  ///< [vocab]

  token_record record_;
  int before_ = 0;  ///< the newest token
  std::int64_t made_ = 0;
  std::string text_;         ///< only where there is an end, for --json
  std::vector<int> tokens_;  ///< the same
};

void add_flags(CLI::App& app, generate_arguments& a) {
  CLI::Option_group& files = *app.add_option_group("Model and text", "What is read.");
  files.add_option("--model", a.model,
                   "A GGUF file, a Hugging Face folder or .safetensors file, or a llama2.c checkpoint; the demo model "
                   "unless given.");
  files.add_option("--tokenizer", a.tokenizer,
                   "A tokenizer.json or llama2.c tokenizer; unless given, the one that comes with the model.");
  add_bos_flag(files, a.bos);
  files.add_option("--prompt", a.prompt, "Text to go on from; with --chat, what the system says.");
  files.add_flag(
      "--chat", a.chat,
      "Answers each line of standard input until the model ends its turn, or for --tokens. Whose turn it is, is "
      "marked as the model's own template does: chatml, llama3 or gemma.");

  CLI::Option_group& memory = *app.add_option_group("Memory", "What is remembered.");
  memory.add_option("--policy", a.policy, "What to keep: name[+i]:k[,key=value]...[@incache|@log].")
      ->capture_default_str();

  memory.add_flag("--pin-prompt", a.pin_prompt, "Keeps the prompt, whatever its states are worth.");

  CLI::Option_group& writing = *app.add_option_group("Writing", "How the text is made.");
  writing.add_option("--tokens", a.tokens, "How many to make; without it, until Ctrl-C.")
      ->check(whole_number(1))
      ->type_name("N");
  writing.add_option("--seed", a.seed, "Of the draws.")
      ->check(whole_number(0, 0x7fffffff))
      ->type_name("N")
      ->capture_default_str();
  writing.add_option("--temperature", a.temperature, "How freely tokens are drawn; 0: always the likeliest.")
      ->check(real_number(0, 100))
      ->type_name("X")
      ->capture_default_str();
  writing.add_option("--top-p", a.top_p, "Draws among the likeliest tokens that together have this share.")
      ->check(real_number(0.001, 1))
      ->type_name("P")
      ->capture_default_str();
  writing
      .add_option("--products", a.products, "How weights in blocks are multiplied: exact, or fast, by rounded numbers.")
      ->check(one_of({"exact", "fast"}))
      ->capture_default_str();
  writing.add_option("--threads", a.threads, "Threads; one for each core unless given, or one for a small model.")
      ->check(whole_number(1, tool_executor::most))
      ->type_name("N");

  CLI::Option_group& output = *app.add_option_group("Output", "What is written; - is standard output.");
  output.add_option("--json", a.json, "What was made and what is remembered, as JSON.");
}

int generate(const generate_arguments& a, std::vector<policy_entry> own) {
  if (a.threads.value_or(1) > 1 && !tool_executor::has_threads())
    throw usage_error("--threads must be 1: this program was built without OpenMP");
  policy_choice choice = value_or_usage(policy_list(std::move(own)).parse_policy(a.policy));
  if (choice.policy.prompts_only())
    throw usage_error(fmt::format("policy '{0}': reduces prompts alone, and tokens follow one by one; take {0}/tova",
                                  choice.policy.str()));
  const std::string model_path = a.model.empty() ? demo("--model").string() : a.model;
  check_outputs({{"--json", a.json}}, files_of_model(model_path, a.tokenizer));
  opened_model model = open_model(model_path, a.tokenizer, a.bos);
  for (const std::string& note : model.weights.notes) say("note: " + note + "\n");
  if (!model.words) throw usage_error(model.no_words + "; generate can't do without a tokenizer that it reads");
  return generate_run(a, std::move(choice), std::move(model))();
}

}  // namespace

int run_generate(int argc, char** argv, std::vector<policy_entry> own) {
  return run_program<generate_arguments>(
      "generate",
      "Streams text from a model under a policy, without end, at constant memory; then shows what is remembered.",
      "Exit status: 0 done (without --tokens Ctrl-C is the end), 2 bad usage or input, or output that could not be "
      "written,\n3 interrupted before all tokens were made.",
      argc, argv, add_flags, [&](const generate_arguments& a) { return generate(a, std::move(own)); });
}

}  // namespace multistate::tools
