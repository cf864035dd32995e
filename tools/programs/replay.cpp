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
#include <tools/engine/engine.hpp>
#include <tools/runs/memory_replay.hpp>
#include <tools/runs/policy_list.hpp>
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

/// Recorded vectors of one layer, keys and queries already rotated.
struct recording {
  shape dims;
  int tokens = 0;        ///< T
  std::vector<float> q;  ///< [T][H][dk]
  std::vector<float> k;  ///< [T][Hkv][dk]
  std::vector<float> v;  ///< [T][Hkv][dv]
  /// [T][Hkv][dk] the keys before they were rotated, for policies that look at keys; empty: not recorded.
  std::vector<float> k_pre;
};

/// What a policy made of it.
struct outcome {
  std::vector<float> out;          ///< [T][H][dv]
  std::vector<std::int32_t> kept;  ///< [reductions][lanes][width], increasing, padded with -1
  std::vector<std::int32_t> ends;  ///< [reductions] tokens consumed
  std::size_t lanes = 1;
  std::size_t width = 0;
};

/// How the tokens are fed.
struct feeding {
  int prompt = 0;  ///< the first so many in one call, or in chunks when there is a chunk; 0: none
  int chunk = 0;   ///< tokens a call; 0: one
};

result<recording> read_recording(const std::string& path) {
  auto file = safetensors::open(path);
  if (!file) return file.reason();
  recording r;
  std::size_t dims[3][3] = {};
  std::vector<float>* const to[3] = {&r.q, &r.k, &r.v};
  for (std::size_t i = 0; i < 3; ++i) {
    const std::string name(1, "qkv"[i]);
    const tensor_info* t = file->find(name);
    if (t == nullptr || t->shape.size() != 3)
      return error(errc::bad_input, path, ": needs a tensor '", name, "' of three dimensions [T, ",
                   i == 0 ? "H" : "Hkv", ", ", i == 2 ? "dv" : "dk", "]");
    std::copy(t->shape.begin(), t->shape.end(), dims[i]);
    for (const std::size_t d : t->shape)
      if (d < 1 || d > static_cast<std::size_t>(max_tokens))
        return error(errc::bad_input, path, ": tensor '", name, "' has a dimension of ", d, "; needs 1 to ",
                     max_tokens);
    auto values = file->floats(name);
    if (!values) return values.reason();
    *to[i] = std::move(*values);
    for (const float x : *to[i])
      if (!std::isfinite(x))
        return error(errc::bad_input, path, ": tensor '", name, "' holds a value that is not finite");
  }
  const auto& [q, k, v] = dims;
  if (k[0] != q[0] || v[0] != q[0] || v[1] != k[1] || k[2] != q[2] || q[1] % k[1] != 0)
    return error(
        errc::bad_input, path, ": needs q [T, H, dk], k [T, Hkv, dk], v [T, Hkv, dv] with Hkv dividing H; got q ",
        multistate::detail::shown(file->find("q")->shape), ", k ", multistate::detail::shown(file->find("k")->shape),
        ", v ", multistate::detail::shown(file->find("v")->shape));
  r.tokens = static_cast<int>(q[0]);
  r.dims = {static_cast<int>(q[1]), static_cast<int>(k[1]), static_cast<int>(q[2]), static_cast<int>(v[2])};
  return r;
}

/// k_pre of the first of the files that has it, "" being none.
error read_keys_before_rotation(recording& r, std::initializer_list<std::string_view> paths) {
  for (const std::string_view path : paths) {
    if (path.empty()) continue;
    auto file = safetensors::open(path);
    if (!file) return file.reason();
    if (file->find("k_pre") == nullptr) continue;
    const std::vector<std::size_t> dims{static_cast<std::size_t>(r.tokens), static_cast<std::size_t>(r.dims.kv_heads),
                                        static_cast<std::size_t>(r.dims.dk)};
    auto keys = file->floats("k_pre", &dims);
    if (!keys) return keys.reason();
    for (const float x : *keys)
      if (!std::isfinite(x)) return error(errc::bad_input, path, ": tensor 'k_pre' holds a value that is not finite");
    r.k_pre = std::move(*keys);
    return {};
  }
  return {};
}

/// Error: a key or value that the format can't hold.
template <class Format>
error check_range(const recording& r) {
  for (const auto& [name, x, width] : {std::tuple("key", &r.k, r.dims.dk), std::tuple("value", &r.v, r.dims.dv)}) {
    const std::size_t token = to_size(r.dims.kv_heads) * to_size(width);
    for (std::size_t t = 0; t < to_size(r.tokens); ++t)
      if (overflows<Format>(x->data() + t * token, token))
        return error(errc::overflow, "states in ", Format::name, " overflow: the ", name, " of token ", t,
                     " has a number beyond what ", Format::name, " holds; take --format f32",
                     Format::name == f16::name ? " or bf16" : "");
  }
  return {};
}

/// Feeds a recording through the memory of one layer.
class replayed_layer {
 public:
  /// Errors: what the format can't hold, and those of the memory.
  static result<outcome> run(const policy_handle& policy, weight_format format, const recording& r,
                             const feeding& feed) {
    if (const error e = with_state_format(format, [&]<class Format>(Format) { return check_range<Format>(r); }))
      return e;
    const bool one_shot = feed.prompt > 0 && feed.chunk == 0;
    memory_setup setup;
    setup.dims = r.dims;
    setup.room.chunk = std::max(1, std::min(feed.chunk, r.tokens));
    setup.room.prompt = one_shot ? feed.prompt : 0;
    auto memory = make_layer_memory(format, policy, setup, 0);
    if (!memory) return memory.reason();
    replayed_layer layer(**memory, r, policy.budget());
    for (int t = 0; t < r.tokens && interrupted == 0;) t += layer.feed(t, feed, one_shot);
    return std::move(layer.outcome_);  // where it was interrupted a part, which nobody looks at
  }

 private:
  replayed_layer(layer_memory& memory, const recording& r, int width) : memory_(memory), r_(r) {
    outcome_.lanes = to_size(memory.properties().lanes);
    outcome_.width = to_size(width);
    outcome_.out.resize(to_size(r.tokens) * to_size(r.dims.heads) * to_size(r.dims.dv));
    scratch_.resize(memory.properties().scratch_bytes);
  }

  /// One call from token t on; returns how many tokens it took.
  int feed(int t, const feeding& feed, bool one_shot) {
    const bool in_prompt = t < feed.prompt;
    int c = feed.chunk > 0 && (in_prompt || feed.prompt == 0) ? feed.chunk : 1;
    if (in_prompt) c = one_shot ? feed.prompt : std::min(c, feed.prompt - t);
    c = std::min(c, r_.tokens - t);
    const std::size_t at = to_size(t), keys = to_size(r_.dims.kv_heads) * to_size(r_.dims.dk),
                      values = to_size(r_.dims.kv_heads) * to_size(r_.dims.dv);
    memory_.attend(0,
                   {.q = r_.q.data() + at * to_size(r_.dims.heads) * to_size(r_.dims.dk),
                    .k = r_.k.data() + at * keys,
                    .v = r_.v.data() + at * values,
                    .out = outcome_.out.data() + at * to_size(r_.dims.heads) * to_size(r_.dims.dv),
                    .c = c,
                    .when = !in_prompt             ? phase::decode
                            : t + c == feed.prompt ? phase::prompt_end
                                                   : phase::prompt,
                    .unrotated = false,
                    .k_pre = r_.k_pre.empty() ? nullptr : r_.k_pre.data() + at * keys},
                   in_prompt && one_shot ? attend_mode::one_shot : attend_mode::together, nullptr, scratch_);
    for (std::size_t lane = 0; lane < outcome_.lanes; ++lane) {
      kept_.clear();
      for (const position p : memory_.positions(static_cast<int>(lane)))
        if (p >= 0) kept_.push_back(static_cast<std::int32_t>(p));
      std::sort(kept_.begin(), kept_.end());
      kept_.resize(outcome_.width, -1);
      outcome_.kept.insert(outcome_.kept.end(), kept_.begin(), kept_.end());
    }
    outcome_.ends.push_back(t + c);
    return c;
  }

  layer_memory& memory_;
  const recording& r_;
  outcome outcome_;
  std::vector<std::byte> scratch_;
  std::vector<std::int32_t> kept_;
};

/// What differs from the tensors that an expected file has.
struct difference {
  std::optional<std::size_t> kept_mismatches;
  std::optional<double> max_abs_error;
};

result<difference> compare(const outcome& o, const recording& r, const std::string& path) {
  auto file = safetensors::open(path);
  if (!file) return file.reason();
  difference d;
  const auto count = [&](std::string_view name, const std::vector<std::int32_t>& mine,
                         const std::vector<std::size_t>& dims) -> error {
    if (file->find(name) == nullptr) return {};
    const auto expected = file->ints(name, &dims);
    if (!expected) return expected.reason();
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < mine.size(); ++i) wrong += mine[i] != (*expected)[i] ? 1u : 0u;
    d.kept_mismatches = d.kept_mismatches.value_or(0) + wrong;
    return {};
  };
  const std::size_t reductions = o.ends.size();
  if (const error e = count("kept", o.kept, {reductions, o.lanes, o.width})) return e;
  if (const error e = count("step_end", o.ends, {reductions})) return e;
  if (file->find("out") != nullptr) {
    const std::vector<std::size_t> dims{static_cast<std::size_t>(r.tokens), static_cast<std::size_t>(r.dims.heads),
                                        static_cast<std::size_t>(r.dims.dv)};
    const auto expected = file->floats("out", &dims);
    if (!expected) return expected.reason();
    double worst = 0;
    for (std::size_t i = 0; i < o.out.size(); ++i) {
      const double off = std::abs(static_cast<double>(o.out[i]) - static_cast<double>((*expected)[i]));
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
policy_handle fitted(policy_handle policy, const replay_arguments& a, const recording& r) {
  if (policy.unbounded()) policy = value_or_usage(policy.with_budget(r.tokens));
  if (policy.budget() == 0)
    throw usage_error(fmt::format("policy '{0}': needs a budget, for instance {0}:64", a.policy));
  constexpr std::int64_t most_entries = std::int64_t{1} << 31;
  if (std::int64_t{policy.budget()} * r.tokens * r.dims.kv_heads > most_entries)
    throw usage_error(fmt::format(
        "policy '{}': kept positions [{}, lanes, {}] would be too large to write; a budget above T keeps everything",
        a.policy, r.tokens, policy.budget()));
  return policy;
}

void write_tensors(const std::string& path, const outcome& o, const recording& r, const policy_handle& policy) {
  if (path.empty()) return;
  const std::vector<named_tensor> tensors{
      {"out", {to_size(r.tokens), to_size(r.dims.heads), to_size(r.dims.dv)}, std::span<const float>(o.out)},
      {"kept", {o.ends.size(), o.lanes, o.width}, std::span<const std::int32_t>(o.kept)},
      {"step_end", {o.ends.size()}, std::span<const std::int32_t>(o.ends)}};
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
  if (a.policy.empty()) throw usage_error("--policy is required, or --memory");
  if (is_standard_output(a.out)) throw usage_error("--out must be a file; got standard output");
  check_outputs({{"--out", a.out}, {"--json", a.json}}, {{"FILE", a.input}, {"--expect", a.expect}}, false);
  const weight_format format = value_or_usage(parse_state_format(a.format));
  const policy_choice choice = value_or_usage(known.parse_policy(a.policy));
  if (choice.positions != position_mode::original)
    throw usage_error("policy '" + a.policy + "': replay takes no position mode, its keys come rotated");
  recording recorded = value_or_usage(read_recording(a.input));
  ok_or_usage(read_keys_before_rotation(recorded, {a.input, a.expect}));
  if (a.prompt && *a.prompt > recorded.tokens)
    throw usage_error(fmt::format("--prompt must be 1 to T = {}; got {}", recorded.tokens, *a.prompt));
  const policy_handle policy = fitted(choice.policy, a, recorded);

  const outcome done = value_or_usage(
      replayed_layer::run(policy, format, recorded, {.prompt = a.prompt.value_or(0), .chunk = a.chunk.value_or(0)}));
  if (interrupted != 0) {
    say("replay: interrupted; nothing was written\n");
    return status_interrupted;
  }
  write_tensors(a.out, done, recorded, policy);
  const difference d = a.expect.empty() ? difference() : value_or_usage(compare(done, recorded, a.expect));
  const bool differs = d.kept_mismatches.value_or(0) > 0 || (d.max_abs_error && !(*d.max_abs_error <= a.tolerance));
  const json figures{
      {"policy", policy.str()},
      {"format", a.format},
      {"tokens", recorded.tokens},
      {"reductions", done.ends.size()},
      {"kept_mismatches", d.kept_mismatches ? json(*d.kept_mismatches) : json(nullptr)},
      {"max_abs_error", d.max_abs_error && std::isfinite(*d.max_abs_error) ? json(*d.max_abs_error) : json(nullptr)},
      {"same", a.expect.empty() ? json(nullptr) : json(!differs)}};
  write_output(a.json, figures.dump(2) + "\n");
  if (!is_standard_output(a.json)) {
    std::string lines =
        fmt::format("{}, {}: {} tokens in {} calls, {} query heads on {} KV heads\n", policy.str(), a.format,
                    recorded.tokens, done.ends.size(), recorded.dims.heads, recorded.dims.kv_heads);
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
  memory.add_option("--policy", a.policy,
                    "What to keep: name[+i]:budget[,key=value]..., for instance tova:64,scope=head; or full.");
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
  output.add_option("--expect", a.expect, "Compare with the out, kept, step_end of this file.");
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
