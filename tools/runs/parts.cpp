#include <tools/runs/parts.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

#include <multistate/eval/statistics.hpp>
#include <multistate/io/json.hpp>
#include <multistate/version.hpp>
#include <tools/engine/engine.hpp>
#include <tools/report/report.hpp>
#include <tools/terminal/console.hpp>
#include <tools/terminal/flags.hpp>

namespace multistate::tools {

namespace {

using json = nlohmann::ordered_json;

constexpr std::string_view part_program = "multistate compare, a part";

[[noreturn]] void refuse_part(const std::string& path, const std::string& why) { throw usage_error(path + ": " + why); }

// The window of a record's name, "window/3" or "window/3/short:64"; none of another name.
std::optional<std::size_t> window_of_record(std::string_view name) {
  constexpr std::string_view begin = "window/";
  std::size_t window = 0;
  if (!name.starts_with(begin)) return std::nullopt;
  const char* const end = name.data() + name.size();
  const auto read = std::from_chars(name.data() + begin.size(), end, window);
  if (read.ec != std::errc() || (read.ptr != end && *read.ptr != '/')) return std::nullopt;
  return window;
}

// What parts that are joined must have in common, and what it is called.
json common_head(const json& command) {
  return {{"version", MULTISTATE_VERSION},
          {"commit", built_from().empty() ? json(nullptr) : json(built_from())},
          {"simd_target", simd_target()},
          {"seed", bootstrap_settings().seed},
          {"command", command}};
}
std::string called(const std::string& key) { return key == "simd_target" ? "SIMD target" : key; }

// The first argument that two commands say differently.
std::string argument_difference(const json& mine, const json& theirs) {
  for (const auto& [flag, value] : theirs.items())
    if (!mine.contains(flag) || mine[flag] != value)
      return fmt::format("--{} {} and not {}", flag, mine.contains(flag) ? text_of(mine[flag]) : "unsaid",
                         text_of(value));
  return "other arguments";
}

int part_number(const json& content, const char* key, int least, int most) {
  return static_cast<int>(whole_of(content.at(key), least, most));
}

json rope_fingerprint(const rope_config& r) {
  const auto& [dim, theta, pairing, scaling, factor, low, high, original, fast, slow, truncate, times, session,
               short_divisors, long_divisors] = r;
  return {dim,
          theta,
          static_cast<int>(pairing),
          static_cast<int>(scaling),
          factor,
          low,
          high,
          original,
          fast,
          slow,
          truncate,
          times,
          session,
          short_divisors,
          long_divisors};
}

}  // namespace

shard parse_shard(const std::string& text) {
  const std::size_t slash = std::min(text.find('/'), text.size());
  const auto number = [&](std::size_t from, std::size_t to) {
    int value = 0;
    const auto read = std::from_chars(text.data() + from, text.data() + to, value);
    return from < to && read.ec == std::errc() && read.ptr == text.data() + to ? value : 0;
  };
  const shard s{number(0, slash), number(std::min(slash + 1, text.size()), text.size())};
  if (s.of < 1 || s.of > shard::most || s.number < 1 || s.number > s.of)
    throw usage_error(fmt::format("--shard must be i/n with 1 <= i <= n <= {}; got '{}'", shard::most, text));
  return s;
}

window_range windows_of(const shard& part, std::size_t windows) noexcept {
  const auto number = static_cast<std::size_t>(part.number), of = static_cast<std::size_t>(part.of);
  return {windows * (number - 1) / of, windows * number / of};
}

json part_json(const shard& part, const part_of_comparison& whole, const std::vector<std::string>& command_line,
               const journal& done) {
  const window_range range = windows_of(part, whole.windows);
  json out = {{"program", part_program}, {"part", part.number}, {"of", part.of}};
  out.update(common_head(whole.command));
  out["settings"] = hash_text(whole.settings);
  out["command_line"] = command_line;
  out["windows"] = {{"first", range.first}, {"count", range.last - range.first}, {"of", whole.windows}};
  json& records = out["records"] = json::object();
  for (const auto& [name, record] : done.records())
    if (const auto window = window_of_record(name); window && *window >= range.first && *window < range.last)
      records[name] = record;
  return out;
}

parts parts::read(std::span<const std::string> files) {
  constexpr std::uint64_t most_bytes = std::uint64_t{1} << 31;
  parts found;
  for (const std::string& path : files) {
    part p{path, value_or_usage(multistate::detail::read_json(path, most_bytes)), {}};
    try {
      if (word_at(p.content, "program") != part_program) throw bad_record("is not what compare --shard wrote");
      p.which.of = part_number(p.content, "of", 1, shard::most);
      p.which.number = part_number(p.content, "part", 1, p.which.of);
      if (!p.content.at("command").is_object() || !p.content.at("records").is_object())
        throw bad_record("a command and records that are no objects");
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& e) {
      refuse_part(path, e.what());
    }
    found.all_.push_back(std::move(p));
  }
  const part& first = found.all_[0];
  for (const part& p : found.all_) {
    const json wanted = common_head(first.content["command"]);
    for (const auto& [key, value] : wanted.items()) {
      const json& its = field(p.content, key);
      if (its == value) continue;
      const std::string text = key == "command" ? argument_difference(its, value)
                                                : fmt::format("{} and not {}", text_of(its), text_of(value));
      refuse_part(p.path, fmt::format("is of another {}: {}", called(key), text));
    }
    if (p.which.of != first.which.of)
      refuse_part(p.path, fmt::format("is one of {} parts, {} is one of {}", p.which.of, first.path, first.which.of));
  }
  std::stable_sort(found.all_.begin(), found.all_.end(),
                   [](const part& a, const part& b) { return a.which.number < b.which.number; });
  int next = 1;
  for (const part& p : found.all_) {
    if (p.which.number < next) refuse_part(p.path, fmt::format("part {} is there twice", p.which.number));
    if (p.which.number > next) break;
    ++next;
  }
  if (next <= found.all_[0].which.of)
    throw usage_error(fmt::format("--merge: part {} of {} is missing", next, found.all_[0].which.of));
  return found;
}

void parts::join(const part_of_comparison& whole, journal& into) {
  for (part& p : all_) {
    if (word_at(p.content, "settings") != hash_text(whole.settings))
      refuse_part(p.path, "is of another model or text than those read now, or of another build of this program");
    const window_range range = windows_of(p.which, whole.windows);
    json& records = p.content["records"];
    for (std::size_t w = range.first; w < range.last; ++w)
      if (!records.contains("window/" + std::to_string(w))) refuse_part(p.path, fmt::format("lacks window {}", w));
    for (auto& [name, record] : records.items()) {
      const auto window = window_of_record(name);
      if (!window || *window < range.first || *window >= range.last)
        refuse_part(p.path, fmt::format("has a record '{}' that is not its own", name));
      into.take_over(name, std::move(record), p.path);
    }
    p.content = {};
  }
}

json config_json(const model_config& c) {
  // A field that is added here does not compile before it is part of the fingerprint.
  const auto& [layers, hidden, heads, kv_heads, head_dim, ffn, vocab, context, norm_eps, tied, bos, rope, own, gate,
               qk_norm, attention_scale, softcap, final_softcap, embedding_scale, residual_scale, logit_divisor] = c;
  json out = {layers,
              hidden,
              heads,
              kv_heads,
              head_dim,
              ffn,
              vocab,
              context,
              norm_eps,
              tied,
              bos,
              rope_fingerprint(rope),
              static_cast<int>(gate),
              static_cast<int>(qk_norm),
              attention_scale,
              softcap,
              final_softcap,
              embedding_scale,
              residual_scale,
              logit_divisor};
  for (const layer_attention& layer : own) {
    const auto& [window, angles] = layer;
    out.push_back({window, rope_fingerprint(angles)});
  }
  return out;
}

}  // namespace multistate::tools
