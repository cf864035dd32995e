#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <multistate/io/safetensors.hpp>
#include <multistate/tools/programs.hpp>
#include <multistate/version.hpp>
#include <tools/runs/memory_replay.hpp>
#include <tools/runs/policy_list.hpp>
#include <tools/runs/recording.hpp>
#include <tools/terminal/console.hpp>
#include <tools/terminal/flags.hpp>
#include <tools/terminal/outputs.hpp>

namespace multistate::tools {

namespace {

using json = nlohmann::ordered_json;

struct replay_arguments {
  std::string input, policy, format = "f32", out, expect, json;
  std::optional<int> prompt, chunk;
  double tolerance = 1e-5;
  bool memory = false;
};

/// What differs from the tensors that an expected file has.
struct difference {
  std::optional<std::size_t> kept_mismatches;
  std::optional<double> max_abs_error;
};

/// Entries are matched by the number of tokens fed; one that we do not have differs in all its positions.
result<difference> compare(const outcome& o, const recording& r, const expectation& x, const std::string& path) {
  difference d;
  if (!x.kept.empty()) {
    const std::size_t lanes = x.kept_shape[1], width = x.kept_shape[2];
    const std::vector<std::int32_t>& ends = x.ends.empty() ? o.ends : x.ends;  // else all that there are
    if (ends.size() != x.kept_shape[0])
      return error(errc::bad_input, path, ": tensor 'kept' has ", x.kept_shape[0], " entries and no step_end; needs ",
                   ends.size());
    if (lanes != o.lanes)
      return error(errc::bad_input, path, ": tensor 'kept' has ", lanes, " lanes; the policy has ", o.lanes);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < ends.size(); ++i) {
      const auto at = std::lower_bound(o.ends.begin(), o.ends.end(), ends[i]);
      const bool ours = at != o.ends.end() && *at == ends[i];
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        const std::span<const std::int32_t> expected = std::span(x.kept).subspan((i * lanes + lane) * width, width);
        const std::vector<std::int32_t> none(ours ? 0 : width, -2);
        const std::vector<std::int32_t>& mine =
            ours ? o.kept[to_size(static_cast<int>(at - o.ends.begin())) * lanes + lane] : none;
        for (std::size_t s = 0; s < std::max(width, mine.size()); ++s)
          wrong += (s < mine.size() ? mine[s] : -1) != (s < width ? expected[s] : -1) ? 1u : 0u;
      }
    }
    d.kept_mismatches = wrong;
  } else if (!x.ends.empty()) {
    d.kept_mismatches = x.ends == o.ends ? 0u : 1u;
  }
  if (!x.budgets.empty()) {
    std::size_t wrong = x.budgets.size() == o.budgets.size() ? 0u : 1u;
    for (std::size_t i = 0; i < std::min(x.budgets.size(), o.budgets.size()); ++i)
      wrong += x.budgets[i] != o.budgets[i] ? 1u : 0u;
    d.kept_mismatches = d.kept_mismatches.value_or(0) + wrong;
  }
  if (!x.out.empty() && r.attended()) {
    if (x.out.size() != o.out.size() || x.out_shape.back() != to_size(r.dims.dv))
      return error(errc::bad_input, path, ": tensor 'out' is ", multistate::detail::shown(x.out_shape), "; needs ",
                   o.out.size() / to_size(r.dims.heads) / to_size(r.dims.dv), " tokens of ", r.dims.heads, " heads of ",
                   r.dims.dv);
    double worst = 0;
    for (std::size_t i = 0; i < o.out.size(); ++i) {
      const double off = std::abs(static_cast<double>(o.out[i]) - static_cast<double>(x.out[i]));
      if (!std::isfinite(off)) {
        worst = HUGE_VAL;
        break;
      }
      worst = std::max(worst, off);
    }
    d.max_abs_error = worst;
  }
  if (!d.kept_mismatches && !d.max_abs_error)
    return error(errc::bad_input, path, ": has none of the tensors out, kept, step_end to compare with");
  return d;
}

/// The policy with a budget that fits the recording.
policy_handle fitted(policy_handle policy, const recording& r) {
  if (policy.unbounded()) policy = value_or_usage(policy.with_budget(r.tokens));
  if (policy.budget() == 0)
    throw usage_error(fmt::format("policy '{0}': needs a budget, for instance tova:64", policy.str()));
  constexpr std::int64_t most_entries = std::int64_t{1} << 31;
  if (std::int64_t{policy.budget()} * r.tokens * r.dims.kv_heads > most_entries)
    throw usage_error(fmt::format(
        "policy '{}': kept positions [{}, lanes, {}] would be too large to write; a budget above T keeps everything",
        policy.str(), r.tokens, policy.budget()));
  return policy;
}

void write_tensors(const std::string& path, const outcome& o, const recording& r, const policy_handle& policy) {
  if (path.empty()) return;
  const std::size_t width = o.width(to_size(policy.budget())), heads = to_size(r.dims.heads), dv = to_size(r.dims.dv);
  std::vector<std::int32_t> kept(o.kept.size() * width, -1);
  for (std::size_t i = 0; i < o.kept.size(); ++i)
    std::copy(o.kept[i].begin(), o.kept[i].end(), kept.begin() + static_cast<std::ptrdiff_t>(i * width));
  const std::size_t tokens = o.out.size() / heads / dv;
  std::vector<named_tensor> tensors{{"kept", {o.ends.size(), o.lanes, width}, std::span<const std::int32_t>(kept)},
                                    {"step_end", {o.ends.size()}, std::span<const std::int32_t>(o.ends)}};
  if (r.attended()) tensors.insert(tensors.begin(), {"out", {tokens, heads, dv}, std::span<const float>(o.out)});
  value_or_usage(write_safetensors(path, tensors, {{"policy", policy.str()}}));
}

/// A recording of a memory of fixed size instead of a policy's. Returns the exit status.
int replay_memory_file(const replay_arguments& a) {
  check_outputs({{"--json", a.json}}, {{"FILE", a.input}}, false);
  const memory_replay r = value_or_usage(replay_memory(a.input));
  json tensors = json::array();
  std::string lines = fmt::format("{}: {} tokens, {} comparisons\n", r.rule, r.tokens, r.tensors.size());
  bool first = true;
  for (const tensor_difference& d : r.tensors) {
    tensors.push_back({{"name", d.name},
                       {"max_error", std::isfinite(d.error) ? json(d.error) : json(nullptr)},
                       {"tolerance", d.tolerance},
                       {"must_differ", d.must_differ},
                       {"good", d.good}});
    if (d.good || !std::exchange(first, false)) continue;
    const std::string share = d.of.empty() ? "" : " of " + d.of;
    lines += d.must_differ ? fmt::format("{} must differ by more than {:.3g}{}; got {:.3g}\n", d.name, d.tolerance,
                                         share, d.error)
                           : fmt::format("{} differs by {:.3g}{} at {} (tolerance {:.3g})\n", d.name, d.error, share,
                                         d.place, d.tolerance);
  }
  const json figures{{"rule", r.rule}, {"tokens", r.tokens}, {"tensors", tensors}, {"same", r.same()}};
  write_output(a.json, figures.dump(2) + "\n");
  if (!is_standard_output(a.json)) print(lines + (r.same() ? "same\n" : "DIFFERENT\n"));
  return r.same() ? 0 : 1;
}

/// Returns the exit status.
int replay(const replay_arguments& a, const policy_list& known) {
  if (a.memory) return replay_memory_file(a);
  if (is_standard_output(a.out)) throw usage_error("--out must be a file; got standard output");
  check_outputs({{"--out", a.out}, {"--json", a.json}}, {{"FILE", a.input}, {"--expect", a.expect}}, false);
  const weight_format format = value_or_usage(parse_state_format(a.format));
  expectation expected;
  if (!a.expect.empty()) expected = value_or_usage(read_expectation(a.expect));
  const std::string text = a.policy.empty() ? expected.policy : a.policy;
  if (text.empty())
    throw usage_error("--policy or --memory is needed: " +
                      (a.expect.empty() ? "for instance --policy tova:64" : a.expect + " names none in its metadata"));
  const policy_choice choice = value_or_usage(known.parse_policy(text));
  if (choice.positions != position_mode::original)
    throw usage_error("policy '" + text + "': replay takes no position mode, its keys come rotated");
  const recording recorded = value_or_usage(read_recording(a.input, a.expect, expected.layers.value_or(0)));
  feeding feed;
  if (a.prompt || a.chunk)
    feed = {.prompt = a.prompt.value_or(0), .chunk = a.chunk.value_or(0)};
  else if (expected.calls)
    feed = *expected.calls;
  feed.tokens = expected.ends.empty() ? recorded.tokens : expected.ends.back();
  if (feed.tokens > recorded.tokens)
    throw usage_error(
        fmt::format("{}: step_end goes to token {}; the recording has {}", a.expect, feed.tokens, recorded.tokens));
  if (feed.prompt > feed.tokens)
    throw usage_error(fmt::format("--prompt must be 1 to T = {}; got {}", feed.tokens, feed.prompt));
  const policy_handle policy = fitted(choice.policy, recorded);

  const outcome done = value_or_usage(replay_recording(policy, format, recorded, feed));
  if (interrupted != 0) {
    say("replay: interrupted; nothing was written\n");
    return status_interrupted;
  }
  write_tensors(a.out, done, recorded, policy);
  const difference d = a.expect.empty() ? difference() : value_or_usage(compare(done, recorded, expected, a.expect));
  const bool differs = d.kept_mismatches.value_or(0) > 0 || (d.max_abs_error && !(*d.max_abs_error <= a.tolerance));
  const json figures{
      {"policy", policy.str()},
      {"format", a.format},
      {"tokens", feed.tokens},
      {"reductions", done.ends.size()},
      {"kept_mismatches", d.kept_mismatches ? json(*d.kept_mismatches) : json(nullptr)},
      {"max_abs_error", d.max_abs_error && std::isfinite(*d.max_abs_error) ? json(*d.max_abs_error) : json(nullptr)},
      {"same", a.expect.empty() ? json(nullptr) : json(!differs)}};
  write_output(a.json, figures.dump(2) + "\n");
  if (!is_standard_output(a.json)) {
    std::string lines =
        fmt::format("{}, {}: {} tokens, {} times within the budget, {} query heads on {} KV heads\n", policy.str(),
                    a.format, feed.tokens, done.ends.size(), recorded.dims.heads, recorded.dims.kv_heads);
    if (d.kept_mismatches) lines += fmt::format("kept positions   {} differ\n", *d.kept_mismatches);
    if (d.max_abs_error)
      lines += fmt::format("outputs          largest error {:.3g} (tolerance {:.3g})\n", *d.max_abs_error, a.tolerance);
    if (!a.expect.empty()) lines += differs ? "DIFFERENT\n" : "same\n";
    print(lines);
  }
  return differs ? 1 : 0;
}

void add_flags(CLI::App& app, replay_arguments& a) {
  app.add_option("FILE", a.input,
                 "safetensors with q [T,H,dk], k [T,Hkv,dk], v [T,Hkv,dv], already rotated; for policies that look at "
                 "keys also k_pre, like k before its rotation.")
      ->required();

  CLI::Option_group& memory = *app.add_option_group("Memory", "What is remembered.");
  memory.add_option(
      "--policy", a.policy,
      "What to keep: name[+i]:budget[,key=value]..., for instance tova:64,scope=head; or full. Without it the "
      "one that the file of --expect names.");
  CLI::Option* const of_fixed_size =
      memory.add_flag("--memory", a.memory,
                      "FILE is a recording of a memory of fixed size instead: its metadata name the rule (sum, delta, "
                      "gated_delta, delta_product, titans, infini, softmax), and it holds inputs and expected values.");
  memory.add_option("--format", a.format, "How keys and values are stored: f32, f16, bf16 or i8.")
      ->check(format_name())
      ->capture_default_str();

  CLI::Option_group& reading = *app.add_option_group("Reading", "How the tokens are fed.");
  reading
      .add_option("--prompt", a.prompt, "The first L tokens in one call (with --chunk: in chunks), then one by one.")
      ->check(whole_number(1))
      ->type_name("L");
  reading.add_option("--chunk", a.chunk, "Tokens a call.")->check(whole_number(1))->type_name("C");

  CLI::Option_group& output = *app.add_option_group("Output", "What is written and compared.");
  output.add_option("--out", a.out, "Write out, kept, step_end (safetensors).");
  output.add_option("--expect", a.expect,
                    "Compare with the out, kept, step_end of this file, and feed as its prompt and chunk say.");
  output.add_option("--tolerance", a.tolerance, "The largest absolute error of out that is no difference.")
      ->check(real_number(0, std::numeric_limits<double>::max()))
      ->type_name("X")
      ->default_str("1e-5");
  output.add_option("--json", a.json, "Write the figures as JSON; - is standard output.");
  for (CLI::Option* option : app.get_options())
    for (const char* name : {"--policy", "--format", "--prompt", "--chunk", "--out", "--expect", "--tolerance"})
      if (option->check_name(name)) of_fixed_size->excludes(option);
}

}  // namespace

int run_replay(int argc, char** argv, std::vector<policy_entry> own) {
  return run_program<replay_arguments>(
      "replay",
      "Feeds recorded q, k, v (safetensors) through a policy; writes outputs and kept positions, compares them.",
      "Exit status: 0 done, 1 something differs from what was expected, 2 bad usage or input, or output that could not "
      "be written,\n3 interrupted: nothing was written.",
      argc, argv, add_flags, [&](const replay_arguments& a) { return replay(a, policy_list(std::move(own))); });
}

}  // namespace multistate::tools
