#pragma once

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include <multistate/model/decoder.hpp>
#include <multistate/model/sampling.hpp>
#include <tools/runs/policy_runs.hpp>
#include <tools/terminal/program.hpp>
#include <tools/report/report.hpp>

namespace multistate {
namespace tools {

struct generate_arguments {
  std::string model, tokenizer, policy = "tova:256@incache", prompt, tokens, seed = "0", temperature = "0.8",
                                top_p = "0.95", threads, json;
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
inline std::string runs_of(std::span<const position> positions) {
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
inline std::string text_of(std::span<const position> positions, const token_record& record, const tokenizer& words) {
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

template <policy... Mine>
int run_generate(const generate_arguments& a) {
  using policies = registry<Mine..., full, window, h2o, tova, random_choice, knorm>;
  using clock = std::chrono::steady_clock;
  constexpr int prompt_chunk = 16;
  const int count = a.tokens.empty() ? 0 : whole_number("--tokens", a.tokens, 1);
  const int asked_threads = threads_of(a.threads);
  const double temperature = real_number("--temperature", a.temperature, 0, 100),
               top_p = real_number("--top-p", a.top_p, 0.001, 1);
  sampling how;
  how.temperature = static_cast<float>(temperature);
  how.top_p = static_cast<float>(top_p);
  how.seed = static_cast<std::uint64_t>(whole_number("--seed", a.seed, 0, 0x7fffffff));
  const auto choice = value_or_usage(policy_choice<policies>::parse(a.policy));

  const std::string model_path = a.model.empty() ? demo("--model").string() : a.model;
  check_outputs({{"--json", a.json}}, files_of_model(model_path, a.tokenizer));
  const bool streams = !is_standard_output(a.json);  // the text, as it is made
  const opened_model model = open_model(model_path, a.tokenizer);
  for (const std::string& note : model.weights.notes) say("note: " + note + "\n");
  if (!model.words) throw usage_error(model.no_words + "; generate can't do without a tokenizer that it reads");
  const tokenizer& words = *model.words;
  const model_config& config = model.weights.config;
  std::vector<int> prompt = words.encode(a.prompt);
  if (config.bos >= 0) prompt.insert(prompt.begin(), config.bos);
  if (prompt.empty()) throw usage_error("--prompt is needed: this model has no BOS to begin with");

  auto policy = choice.policy;
  if (policy.unbounded()) {
    if (count == 0) throw usage_error("policy '" + a.policy + "' keeps everything: give it an end with --tokens N");
    policy = value_or_usage(policy.with_budget(static_cast<int>(prompt.size()) + count));
  }
  if (policy.budget() == 0)
    throw usage_error("policy '" + a.policy + "' needs a budget, for instance " + std::string(policy.name()) + ":64");
  const memory_setup setup = setup_for(config, {.chunk = prompt_chunk}, choice.positions);
  sequence_memory memory = value_or_usage(policy.visit([&](const auto& p) { return make_memory<f32>(p, setup); }));
  constexpr std::size_t worth_sharing = std::size_t{1}
                                        << 24;  // multiplications a token, below which threads only wait for each other
  const bool small = static_cast<std::size_t>(config.layers) * layer_floats(config) < worth_sharing;
  tool_executor exec = make_executor(a.threads.empty() && small ? 1 : asked_threads);
  auto decode = value_or_usage(decoder<tool_executor>::make(model.weights, prompt_chunk, exec));

  token_record record;
  std::string text;  // only where there is an end, for --json
  std::vector<int> tokens;
  std::vector<float> logits(static_cast<std::size_t>(config.vocab));
  const auto check = [&](const error& e) {
    if (e) throw usage_error(std::string(e.message()));
  };
  detail::printable_text shown(true);  // a model's words are a stranger's
  const auto print = [&](const std::string& piece) {
    if (streams) write_out(shown.take(piece));
    if (reader_has_gone()) throw reader_gone();
  };
  int before = words.bos();
  for (std::size_t at = 0; at < prompt.size() && interrupted == 0; at += prompt_chunk) {
    const auto part = std::span<const int>(prompt).subspan(at, std::min<std::size_t>(prompt_chunk, prompt.size() - at));
    const bool last = at + part.size() == prompt.size();
    const batch_item item{.memory = &memory,
                          .tokens = part,
                          .when = last ? phase::prompt_end : phase::prompt,
                          .want = last ? logit_rows::last : logit_rows::none,
                          .logits = logits.data()};
    for (std::size_t j = 0; j < part.size(); ++j) {
      record.add(static_cast<position>(at + j), part[j], before, memory);
      print(words.decode(part[j], before));
      before = part[j];
    }
    check(decode.forward({&item, 1}));
  }

  sampler draw(how, config.vocab);
  const auto begun = clock::now();
  std::int64_t made = 0;
  while (interrupted == 0 && (count == 0 || made < count)) {
    for (const float x : logits)
      if (!std::isfinite(x))
        throw usage_error("the model's logits are not finite at token " + std::to_string(memory.next_position()));
    const int token = draw(logits);
    const std::string piece = token == config.bos ? "\n" : words.decode(token, before);  // BOS begins another text
    print(piece);
    if (count > 0 && !a.json.empty()) {
      text += piece;
      tokens.push_back(token);
    }
    ++made;
    record.add(memory.next_position(), token, before, memory);
    before = token;
    const batch_item item{.memory = &memory, .tokens = {&token, 1}, .want = logit_rows::last, .logits = logits.data()};
    check(decode.forward({&item, 1}));
  }
  const double seconds = std::chrono::duration<double>(clock::now() - begun).count();
  if (streams) write_out(shown.end() + "\n");
  const bool part = count > 0 && made < count;

  nlohmann::ordered_json json;
  json["program"] = "multistate generate";
  json["version"] = MULTISTATE_VERSION;
  json["model_hash"] = hash_text(model.weights.hash);
  json["policy"] = choice.policy.str() + suffix_of(choice.positions);
  json["prompt"] = a.prompt;
  json["seed"] = how.seed;
  json["temperature"] = temperature;
  json["top_p"] = top_p;
  json["text"] = count > 0 ? nlohmann::ordered_json(text) : nlohmann::ordered_json(nullptr);
  json["tokens"] = count > 0 ? nlohmann::ordered_json(tokens) : nlohmann::ordered_json(nullptr);
  json["tokens_made"] = made;
  json["interrupted"] = part;
  json["tokens_seen"] = memory.next_position();
  json["bytes_allocated"] = memory.bytes() + memory.scratch_bytes();
  json["bytes_live"] = memory.live_bytes();
  json["kept"] = nlohmann::ordered_json::array();
  std::string remembered;
  const int layers =
      memory.scope(0) == scope_kind::model ? 1 : memory.layers();  // at scope model all layers hold the same
  for (int layer = 0; layer < layers; ++layer)
    for (int lane = 0; lane < memory.lanes(layer); ++lane) {
      std::vector<position> kept(static_cast<std::size_t>(memory.live(layer, lane)));
      memory.kept(layer, lane, kept);
      const std::string kept_text = text_of(kept, record, words);
      json["kept"].push_back({{"layer", layer}, {"lane", lane}, {"positions", kept}, {"text", kept_text}});
      remembered += "layer " + std::to_string(layer) +
                    (memory.lanes(layer) > 1 ? " lane " + std::to_string(lane) : "") + ": " +
                    std::to_string(kept.size()) + " states, positions " + runs_of(kept) + "\n  " + kept_text + "\n";
    }
  const std::string to = part ? part_of(a.json) : a.json;
  write_output(to, json.dump(2, ' ', true, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  std::string ending =
      fmt::format("\nremembered of {} tokens under {}:\n{}{:.1f} kB allocated, {:.1f} kB live keys and values",
                  memory.next_position(), json["policy"].get<std::string>(), remembered,
                  1e-3 * static_cast<double>(memory.bytes() + memory.scratch_bytes()),
                  1e-3 * static_cast<double>(memory.live_bytes()));
  if (::isatty(STDERR_FILENO) != 0 && seconds > 0)
    ending += fmt::format(", {:.0f} tokens/s", static_cast<double>(made) / seconds);
  ending += "\n";
  if (part)
    ending += "generate: interrupted after " + std::to_string(made) + " of " + std::to_string(count) + " tokens" +
              (to.empty() ? "" : "; " + to + " is a part") + "\n";
  say(ending);
  return part ? status_interrupted : 0;
}

}  // namespace tools

/// The program `generate`: text from a model under a policy, without end. Exit status: 0 done, 2 bad usage or input,
/// or output that could not be written, 3 interrupted before all tokens were made.
template <class... Mine>
int generate_main(int argc, char** argv) {
  static_assert((diagnose_policy<Mine>() && ... && true));
  return tools::guarded("generate", [&] {
    CLI::App app(
        "Streams text from a model under a policy, without end, at constant memory; then shows what is remembered.",
        "generate");
    tools::generate_arguments a;
    app.add_option("--model", a.model, "Hugging Face folder or .safetensors, or llama2.c checkpoint; the demo model");
    app.add_option("--tokenizer", a.tokenizer, "llama2.c tokenizer; else one beside the model");
    app.add_option("--policy", a.policy, "name[+i]:k[,key=value]...[@incache|@log]; " + a.policy);
    app.add_option("--prompt", a.prompt, "text to go on from");
    app.add_option("--tokens", a.tokens, "how many to make; without it, until Ctrl-C");
    app.add_option("--seed", a.seed, "of the draws; 0");
    app.add_option("--temperature", a.temperature, "0: always the likeliest token; 0.8");
    app.add_option("--top-p", a.top_p, "draws among the likeliest tokens that together have this share; 0.95");
    app.add_option("--threads", a.threads, "N; all cores, or one for a small model");
    app.add_option("--json", a.json, "write what was made and what is remembered");
    app.footer(
        "Exit status: 0 done (without --tokens Ctrl-C is the end), 2 bad usage or input, or output that could not be "
        "written,\n3 interrupted before all tokens were made.");
    app.set_version_flag("--version", "generate " MULTISTATE_VERSION);
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success& e) {
      return tools::print_help(app, e);
    }
    return tools::run_generate<Mine...>(a);
  });
}

}  // namespace multistate
