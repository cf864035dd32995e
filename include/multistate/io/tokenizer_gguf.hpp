#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <multistate/io/gguf.hpp>
#include <multistate/tokenizer/gguf_vocabulary.hpp>

namespace multistate {

/// The tokenizer of a GGUF file. Errors: it has none; keys of another type than they must have; those of
/// make_tokenizer().
inline result<tokenizer> read_tokenizer(const gguf& file) {
  constexpr std::string_view begin = "tokenizer.ggml.";
  const auto key = [&](std::string_view name) { return std::string(begin) + std::string(name); };
  gguf_vocabulary v;
  error failed;
  // What a key holds goes through `put`; the first fault is kept.
  const auto take = [&](auto&& found, const auto& put) {
    if (failed) return;
    if (!found)
      failed = found.reason();
    else if (*found)
      put(**found);
  };
  const auto strings = [&](const char* name, std::vector<std::string>& to) {
    take(file.texts(key(name)), [&](const auto& list) { to.assign(list.begin(), list.end()); });
  };
  const auto id = [&](const char* name, std::optional<int>& to) {
    take(file.whole(key(name)), [&](std::uint64_t value) { to = value < 0x7fffffff ? static_cast<int>(value) : -1; });
  };
  const auto flag = [&](const char* name, std::optional<bool>& to) {
    take(file.flag(key(name)), [&](bool value) { to = value; });
  };
  take(file.text(key("model")), [&](std::string_view text) { v.model = text; });
  take(file.text(key("pre")), [&](std::string_view text) { v.pre = text; });
  strings("tokens", v.tokens);
  strings("merges", v.merges);
  take(file.numbers(key("scores")), [&](const std::vector<double>& list) {
    for (const double x : list) v.scores.push_back(static_cast<float>(x));
  });
  take(file.numbers(key("token_type")), [&](const std::vector<double>& list) {
    for (const double x : list) v.token_type.push_back(x >= 0 && x < 256 ? static_cast<int>(x) : -1);
  });
  id("bos_token_id", v.bos_token_id);
  id("eos_token_id", v.eos_token_id);
  id("unknown_token_id", v.unknown_token_id);
  flag("add_bos_token", v.add_bos_token);
  flag("add_eos_token", v.add_eos_token);
  flag("add_space_prefix", v.add_space_prefix);
  if (failed) return failed;
  if (v.model.empty()) return detail::file_error(file.path(), "has no tokenizer");
  auto made = make_tokenizer(std::move(v));
  if (!made) return error(made.code(), file.path().string(), ": ", made.reason().message());
  return made;
}

}  // namespace multistate
