#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

#include <tools/runs/compare_run.hpp>

namespace multistate {

/// The program `compare`: policies x budgets on a model and a text. `Mine` are policies beside the library's own; they
/// are among the rows that are always there. Exit status: 0 done, 2 bad usage or input, or
/// output that could not be written, 3 interrupted: what is written is a part.
template <class... Mine>
int compare_main(int argc, char** argv) {
  static_assert((diagnose_policy<Mine>() && ... && true));
  return tools::guarded("compare", [&] {
    CLI::App app(
        "What forgetting costs: policies x budgets on a model and a text. Without arguments: the demo model and text.",
        "compare");
    tools::compare_arguments a;
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
    app.add_flag("--full", a.full,
                 "all: the whole demo text, row short:k, recall in full, prompts read in other ways, greedy text, "
                 "states in other formats");
    app.add_flag("--time", a.time, "and time, in runs of its own");
    app.add_option("--json", a.json, "write everything as JSON; - is standard output");
    app.add_option("--csv", a.csv, "write the rows as CSV; - is standard output");
    app.add_option("--html", a.html, "write a page of plots and tables that needs no network; - is standard output");
    app.add_option("--against", a.against,
                   "FILE.json that another build wrote of the same model and text: which states both kept");
    app.add_flag("--quiet", a.quiet, "print nothing but errors");
    app.footer(
        "Ctrl-C ends with what is done: in OUTPUT.part.EXT in the place of OUTPUT.EXT, and the same command goes on "
        "from "
        "there.\nExit status: 0 done, 2 bad usage or input, or output that could not be written, 3 interrupted: a "
        "part.");
    app.set_version_flag("--version", "compare " MULTISTATE_VERSION);
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success& e) {
      return tools::print_help(app, e);
    }
    using policies = registry<Mine..., full, window, h2o, tova, random_choice, knorm>;
    return tools::compare_run<policies>(a, std::vector<std::string>(argv, argv + argc), {std::string(Mine::name)...})();
  });
}

}  // namespace multistate
