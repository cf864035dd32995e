#pragma once

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <multistate/attention/attention.hpp>
#include <multistate/io/safetensors.hpp>
#include <multistate/policy/registry.hpp>
#include <multistate/step/one_shot.hpp>
#include <multistate/step/step.hpp>
#include <tools/terminal/command_line.hpp>
#include <tools/terminal/outputs.hpp>
#include <multistate/version.hpp>

namespace multistate {
namespace tools::replay {

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

inline result<recording> read_recording(const std::string& path) {
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
inline error read_keys_before_rotation(recording& r, std::initializer_list<std::string_view> paths) {
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
    const auto token = static_cast<std::size_t>(r.dims.kv_heads) * static_cast<std::size_t>(width);
    for (std::size_t t = 0; t < static_cast<std::size_t>(r.tokens); ++t)
      if (overflows<Format>(x->data() + t * token, token))
        return error(errc::overflow, "states in ", Format::name, " overflow: the ", name, " of token ", t,
                     " has a number beyond what ", Format::name, " holds; take --format f32",
                     Format::name == f16::name ? " or bf16" : "");
  }
  return {};
}

template <class Format, policy P>
result<outcome> run(const P& settings, const recording& r, const feeding& feed) {
  if (const error e = check_range<Format>(r)) return e;
  const bool one_shot_prompt = feed.prompt > 0 && feed.chunk == 0;
  const int chunk = std::max(1, std::min(feed.chunk, r.tokens));
  const limits room{.chunk = chunk, .prompt = one_shot_prompt ? feed.prompt : 0};
  const int lanes = lanes_of(settings.scope, r.dims.kv_heads);
  outcome o;
  o.lanes = static_cast<std::size_t>(lanes);
  o.width = static_cast<std::size_t>(settings.budget);
  auto decider = multistate::decider<P>::make(settings, {.kv_heads = r.dims.kv_heads}, room);
  if (!decider) return decider.reason();
  auto state = multi_state<Format>::make(r.dims, decider->plan());
  if (!state) return state.reason();
  const layer_of<P, multi_state<Format>> layer{&*decider, {&*state, 1}};

  const int widest = one_shot_prompt ? feed.prompt : chunk;
  const int most = std::max(settings.budget + chunk, room.prompt);
  std::vector<std::byte> scratch(step_scratch_bytes<P>(r.dims, 1, most, widest));
  std::vector<std::byte> attention_scratch(attend_scratch_bytes(r.dims, most, widest));
  const attention<> attend{.dims = r.dims, .options = {}, .exec = nullptr, .scratch = attention_scratch};

  const auto heads = static_cast<std::size_t>(r.dims.heads), kv_heads = static_cast<std::size_t>(r.dims.kv_heads);
  const auto dk = static_cast<std::size_t>(r.dims.dk), dv = static_cast<std::size_t>(r.dims.dv);
  o.out.resize(static_cast<std::size_t>(r.tokens) * heads * dv);
  std::vector<slot> order(o.width);
  for (int t = 0; t < r.tokens;) {
    if (interrupted != 0) return o;  // a part: nobody looks at it
    const bool in_prompt = t < feed.prompt;
    int c = feed.chunk > 0 && (in_prompt || feed.prompt == 0) ? chunk : 1;
    if (in_prompt) c = one_shot_prompt ? feed.prompt : std::min(c, feed.prompt - t);
    c = std::min(c, r.tokens - t);
    const auto at = static_cast<std::size_t>(t);
    const phase when = !in_prompt ? phase::decode : t + c == feed.prompt ? phase::prompt_end : phase::prompt;
    const step_io io{.q = r.q.data() + at * heads * dk,
                     .k = r.k.data() + at * kv_heads * dk,
                     .v = r.v.data() + at * kv_heads * dv,
                     .out = o.out.data() + at * heads * dv,
                     .c = c,
                     .when = when,
                     .unrotated = false,
                     .k_pre = r.k_pre.empty() ? nullptr : r.k_pre.data() + at * kv_heads * dk};
    if (in_prompt && one_shot_prompt)
      one_shot(layer, io, r.dims, scratch, attend);
    else
      step(std::span(&layer, 1), std::span(&io, 1), r.dims, scratch, attend);
    t += c;
    for (int lane = 0; lane < lanes; ++lane) {
      const std::size_t n = decider->rank_order(lane, order);
      const auto positions = decider->positions(lane);
      for (std::size_t i = 0; i < o.width; ++i)
        o.kept.push_back(i < n ? static_cast<std::int32_t>(positions[index(order[i])]) : -1);
    }
    o.ends.push_back(t);
  }
  return o;
}

/// What differs from the tensors that an expected file has.
struct difference {
  std::optional<std::size_t> kept_mismatches;
  std::optional<double> max_abs_error;
};

inline result<difference> compare(const outcome& o, const recording& r, const std::string& path) {
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
  if (const error e = count("kept", o.kept, {reductions, o.lanes, o.width}); e) return e;
  if (const error e = count("step_end", o.ends, {reductions}); e) return e;
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

inline result<outcome> run_format(const auto& settings, const recording& r, const feeding& feed,
                                  const std::string& format) {
  if (format == "f16") return run<f16>(settings, r, feed);
  if (format == "bf16") return run<bf16>(settings, r, feed);
  if (format == "i8") return run<i8>(settings, r, feed);
  return run<f32>(settings, r, feed);
}

/// The program's body.
template <class... Mine>
int run_replay(int argc, char** argv) {
  using known = any_policy<registry<Mine..., full, window, h2o, tova, random_choice, knorm>>;
  CLI::App app(
      "Feeds recorded q, k, v (safetensors) through a policy; writes outputs and kept positions, compares them.");
  std::string input, policy_text, format = "f32", out_path, expect_path, json_path;
  feeding feed;
  std::string tolerance_text = "1e-5";
  app.add_option("FILE", input,
                 "safetensors with q [T,H,dk], k [T,Hkv,dk], v [T,Hkv,dv], already rotated; for policies that look at "
                 "keys also k_pre, like k before its rotation")
      ->required();
  app.add_option("--policy", policy_text, "name[+i]:budget[,key=value]..., for instance tova:64,scope=head; or full")
      ->required();
  auto* prompt =
      app.add_option("--prompt", feed.prompt, "first L tokens in one call (with --chunk: in chunks), then one by one");
  auto* chunk = app.add_option("--chunk", feed.chunk, "C tokens a call");
  app.add_option("--format", format, "of stored keys and values: f32, f16, bf16, i8");
  app.add_option("--out", out_path, "write out, kept, step_end (safetensors)");
  app.add_option("--expect", expect_path, "compare with the out, kept, step_end of this file");
  app.add_option("--tolerance", tolerance_text, "largest absolute error of out, 1e-5 unless given");
  app.add_option("--json", json_path, "write the figures as JSON; - is standard output");
  app.set_version_flag("--version", "replay " MULTISTATE_VERSION);
  app.footer(
      "Exit status: 0 done, 1 something differs from what was expected, 2 bad usage or input, or output that could not "
      "be written,\n3 interrupted: nothing was written.");
  const auto fail = [](std::string_view message) -> int { throw usage_error(std::string(message)); };
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return print_help(app, e);
  }
  if (is_standard_output(out_path)) return fail("--out must be a file; got standard output");
  check_outputs({{"--out", out_path}, {"--json", json_path}}, {{"FILE", input}, {"--expect", expect_path}}, false);
  if (format != "f32" && format != "f16" && format != "bf16" && format != "i8")
    return fail("--format '" + format + "' is not one of f32, f16, bf16, i8");
  if (policy_text.find('@') != std::string::npos)
    return fail("policy '" + policy_text + "': replay takes no position mode, its keys come rotated");
  const double tolerance = number_of(tolerance_text).value_or(-1);
  if (!(tolerance >= 0)) return fail("--tolerance must be a number, 0 or more; got '" + tolerance_text + "'");

  auto policy = known::parse(policy_text);
  if (!policy) return fail(policy.reason().message());
  auto recorded = read_recording(input);
  if (!recorded) return fail(recorded.reason().message());
  if (const error e = tools::replay::read_keys_before_rotation(*recorded, {input, expect_path}); e)
    return fail(e.message());
  if (prompt->count() > 0 && (feed.prompt < 1 || feed.prompt > recorded->tokens))
    return fail("--prompt must be 1 to T = " + std::to_string(recorded->tokens) + "; got " +
                std::to_string(feed.prompt));
  if (chunk->count() > 0 && feed.chunk < 1)
    return fail("--chunk must be at least 1; got " + std::to_string(feed.chunk));
  if (policy->unbounded()) policy = policy->with_budget(recorded->tokens);
  if (policy->budget() == 0)
    return fail("policy '" + policy_text + "': needs a budget, for instance " + policy_text + ":64");
  constexpr std::int64_t most_entries = std::int64_t{1} << 31;
  if (std::int64_t{policy->budget()} * recorded->tokens * recorded->dims.kv_heads > most_entries)
    return fail("policy '" + policy_text + "': kept positions [" + std::to_string(recorded->tokens) + ", lanes, " +
                std::to_string(policy->budget()) + "] would be too large to write; a budget above T keeps everything");

  auto done = policy->visit([&](const auto& p) { return run_format(p, *recorded, feed, format); });
  if (!done) return fail(done.reason().message());
  if (interrupted != 0) {
    say("replay: interrupted; nothing was written\n");
    return status_interrupted;
  }
  if (!out_path.empty()) {
    const std::vector<named_tensor> tensors{
        {"out",
         {to_size(recorded->tokens), to_size(recorded->dims.heads), to_size(recorded->dims.dv)},
         std::span<const float>(done->out)},
        {"kept", {done->ends.size(), done->lanes, done->width}, std::span<const std::int32_t>(done->kept)},
        {"step_end", {done->ends.size()}, std::span<const std::int32_t>(done->ends)}};
    if (const auto written = write_safetensors(out_path, tensors, {{"policy", policy->str()}}); !written)
      return fail(written.reason().message());
  }
  difference d;
  if (!expect_path.empty()) {
    auto compared = compare(*done, *recorded, expect_path);
    if (!compared) return fail(compared.reason().message());
    d = *compared;
  }
  nlohmann::ordered_json json{
      {"policy", policy->str()}, {"format", format}, {"tokens", recorded->tokens}, {"reductions", done->ends.size()}};
  json["kept_mismatches"] = d.kept_mismatches ? nlohmann::ordered_json(*d.kept_mismatches) : nullptr;
  json["max_abs_error"] =
      d.max_abs_error && std::isfinite(*d.max_abs_error) ? nlohmann::ordered_json(*d.max_abs_error) : nullptr;
  const bool differs = d.kept_mismatches.value_or(0) > 0 || (d.max_abs_error && !(*d.max_abs_error <= tolerance));
  json["same"] = expect_path.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(!differs);
  const std::string text = json.dump(2) + "\n";
  write_output(json_path, text);
  if (!is_standard_output(json_path)) {
    std::string lines =
        fmt::format("{}, {}: {} tokens in {} calls, {} query heads on {} KV heads\n", policy->str(), format,
                    recorded->tokens, done->ends.size(), recorded->dims.heads, recorded->dims.kv_heads);
    if (d.kept_mismatches) lines += fmt::format("kept positions   {} differ\n", *d.kept_mismatches);
    if (d.max_abs_error)
      lines += fmt::format("outputs          largest error {:.3g} (tolerance {:.3g})\n", *d.max_abs_error, tolerance);
    if (!expect_path.empty()) lines += differs ? "DIFFERENT\n" : "same\n";
    print(lines);
  }
  return differs ? 1 : 0;
}

}  // namespace tools::replay

/// The program `replay`: recorded queries, keys and values through a policy. `Mine` are policies beside the library's
/// own. Exit status: 0 done, 1 something differs from what was expected, 2 bad usage or input, or output that could not
/// be written, 3 interrupted.
template <class... Mine>
int replay_main(int argc, char** argv) {
  static_assert((diagnose_policy<Mine>() && ... && true));
  return tools::guarded("replay", [&] { return tools::replay::run_replay<Mine...>(argc, argv); });
}

}  // namespace multistate
