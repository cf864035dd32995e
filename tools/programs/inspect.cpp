#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cstdint>
#include <filesystem>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <multistate/io/any_tokenizer.hpp>
#include <multistate/io/text_file.hpp>
#include <multistate/tools/programs.hpp>
#include <tools/runs/model_logits.hpp>
#include <tools/runs/model_page.hpp>
#include <tools/runs/opened_model.hpp>
#include <tools/terminal/console.hpp>
#include <tools/terminal/flags.hpp>
#include <tools/terminal/outputs.hpp>

namespace multistate::tools {

namespace {

struct inspect_arguments {
  std::string model, tokenizer, tokenize, detokenize, bos = "auto", special = "no", out, logits, tensor;
  int greedy = 0, context = 0;
};

/// The tokenizer alone where its file says all of it; else with the model, whose vocabulary it needs to know.
tokenizer read_words(const inspect_arguments& a) {
  constexpr int not_known = -1;
  auto alone = a.tokenizer.empty() ? find_tokenizer(a.model, not_known) : open_tokenizer(a.tokenizer, not_known);
  if (alone) return std::move(*alone);
  std::error_code code;
  const std::filesystem::path model(a.model);
  const bool gguf_file = !std::filesystem::is_directory(model, code) && model.extension() == ".gguf";
  if (gguf_file || std::filesystem::exists(model / "tokenizer.json", code)) ok_or_usage(alone.reason());
  opened_model whole = open_model(a.model, a.tokenizer);
  if (!whole.words) throw usage_error(whole.no_words);
  return std::move(*whole.words);
}

/// The ids of a file's bytes: one a line, or int32 in `out`.
void tokenize(const inspect_arguments& a) {
  const tokenizer words = read_words(a);
  const std::string text = value_or_usage(read_text(a.tokenize));
  std::vector<int> ids;
  if (a.bos != "no") ids.assign(words.opens().begin(), words.opens().end());
  if (a.bos == "yes" && ids.empty()) {
    if (words.bos() < 0) throw usage_error("--bos yes: this tokenizer has no BOS");
    ids.push_back(words.bos());
  }
  const std::vector<int> inner =
      value_or_usage(words.encode(text, a.special == "yes" ? spelling::special : spelling::text));
  ids.insert(ids.end(), inner.begin(), inner.end());
  if (a.bos != "no") ids.insert(ids.end(), words.closes().begin(), words.closes().end());
  if (!a.out.empty()) {
    const std::vector<std::int32_t> stored(ids.begin(), ids.end());
    const auto bytes = std::as_bytes(std::span(stored));
    return write_output(a.out, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  std::string lines;
  for (const int id : ids) fmt::format_to(std::back_inserter(lines), "{}\n", id);
  print(lines);
}

/// The bytes that ids stand for.
void detokenize(const inspect_arguments& a) {
  const tokenizer words = read_words(a);
  write_output(a.out.empty() ? "-" : a.out, words.spell(value_or_usage(read_tokens(a.detokenize, words.vocab()))));
}

/// What is in the model, once all that a load checks has been checked.
void describe(const inspect_arguments& a) { print(page_of_model(a.model, open_model(a.model, a.tokenizer))); }

void add_flags(CLI::App& app, inspect_arguments& a) {
  CLI::Option_group& files = *app.add_option_group("Model", "What is looked at.");
  files
      .add_option("--model", a.model,
                  "A GGUF file, a Hugging Face folder or .safetensors file, or a llama2.c checkpoint.")
      ->required();
  files.add_option("--tokenizer", a.tokenizer, "Its tokenizer; unless given, one that lies beside the model.");

  CLI::Option_group& words = *app.add_option_group("Words", "Text to ids, and back.");
  CLI::Option* tokenize = words.add_option("--tokenize", a.tokenize, "The ids of this file's bytes, one a line.");
  words.add_option("--detokenize", a.detokenize, "The bytes that the ids of this .tokens file stand for.")
      ->excludes(tokenize);
  words.add_option("--bos", a.bos, "Whether BOS comes first: auto is what the tokenizer does by itself.")
      ->check(one_of({"auto", "yes", "no"}))
      ->capture_default_str();
  words.add_option("--special", a.special, "yes: the spelling of a special token is that token; no: it is text.")
      ->check(one_of({"yes", "no"}))
      ->capture_default_str();

  CLI::Option_group& numbers = *app.add_option_group("Numbers", "What the model computes, and what it is made of.");
  CLI::Option* logits =
      numbers.add_option("--logits", a.logits,
                         "The logits of the ids of this .tokens file, from an empty memory, as a .safetensors file.");
  numbers.add_option("--greedy", a.greedy, "The tokens that follow, too: so many, each the likeliest.")
      ->check(whole_number(1, 1 << 28))
      ->needs(logits);
  numbers
      .add_option("--context", a.context,
                  "The most tokens this session is said to have: angles that depend on it are chosen by it, once.")
      ->check(whole_number(1, 1 << 28))
      ->needs(logits);
  numbers.add_option("--tensor", a.tensor, "The numbers of the tensor of this name, as a .safetensors file.")
      ->excludes(logits);

  CLI::Option_group& output = *app.add_option_group("Output", "What is written; - is standard output.");
  output.add_option("--out", a.out, "Write ids (int32, little endian), bytes or tensors to this file.");
}

int inspect(const inspect_arguments& a) {
  auto inputs = files_of_model(a.model, a.tokenizer);
  inputs.push_back({"--tokenize", a.tokenize});
  inputs.push_back({"--detokenize", a.detokenize});
  inputs.push_back({"--logits", a.logits});
  if ((!a.logits.empty() || !a.tensor.empty()) && a.out.empty())
    throw usage_error(a.logits.empty() ? "--tensor needs --out" : "--logits needs --out");
  check_outputs({{"--out", a.out}}, inputs, false);
  if (!a.tokenize.empty())
    tokenize(a);
  else if (!a.detokenize.empty())
    detokenize(a);
  else if (!a.logits.empty())
    write_logits({a.model, a.logits, a.out, a.greedy, a.context});
  else if (!a.tensor.empty())
    write_tensor(a.model, a.tensor, a.out);
  else
    describe(a);
  return 0;
}

}  // namespace

int run_inspect(int argc, char** argv) {
  return run_program<inspect_arguments>(
      "inspect", "Says what is in a model, turns text into its ids and back, and writes its logits.",
      "Exit status: 0 done, 2 bad usage, a model that is broken or not supported, "
      "or output that could not be written.",
      argc, argv, add_flags, inspect);
}

}  // namespace multistate::tools
