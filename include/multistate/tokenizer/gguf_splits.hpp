#pragma once

#include <algorithm>
#include <array>
#include <string_view>

namespace multistate::detail {

/// How texts of one pre-tokenizer are split, as llama.cpp does it.
struct gguf_split {
  std::array<std::string_view, 4> names;  ///< of those that split alike
  std::array<std::string_view, 4> steps;
  bool whole_words = false;
  bool adds_bos = false;
};

// llama.cpp spells contractions out, so that U+017F is no s. Where it asks for letters but those from a to z by a
// lookahead, a class here says the same.
inline constexpr std::string_view gpt2_split =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
#define MULTISTATE_ENDINGS R"((?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]))"
inline constexpr std::string_view llama3_split =
    MULTISTATE_ENDINGS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view qwen2_split =
    MULTISTATE_ENDINGS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view qwen35_split = MULTISTATE_ENDINGS
    R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view tekken_split =
    R"([^\r\n\p{L}\p{N}]?[^\P{L}a-z]*[^\P{L}A-Z]+|[^\r\n\p{L}\p{N}]?[^\P{L}a-z]+[^\P{L}A-Z]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view gpt4o_split = R"([^\r\n\p{L}\p{N}]?[^\P{L}a-z]*[^\P{L}A-Z]+)" MULTISTATE_ENDINGS
                                                R"(?|[^\r\n\p{L}\p{N}]?[^\P{L}a-z]+[^\P{L}A-Z]*)" MULTISTATE_ENDINGS
                                                R"(?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
#undef MULTISTATE_ENDINGS

inline constexpr std::array gguf_splits{
    gguf_split{{"llama-bpe", "llama3", "llama-v3", "lfm2"}, {llama3_split}, true, true},
    gguf_split{{"falcon3", "falcon-h1", "pixtral", "midm-2.0"}, {llama3_split}, true, true},
    gguf_split{{"dbrx", "smaug-bpe"}, {llama3_split}},
    gguf_split{{"qwen2", "deepseek-r1-qwen", "megrez", "stablelm2"}, {qwen2_split}},
    gguf_split{{"qwen35"}, {qwen35_split}},
    gguf_split{{"smollm", "starcoder", "refact", "command-r"}, {R"(\p{N})", gpt2_split}},
    gguf_split{{"codeshell", "exaone", "minerva-7b"}, {R"(\p{N})", gpt2_split}},
    gguf_split{{"gpt-2", "phi-2", "olmo", "mpt"}, {gpt2_split}},
    gguf_split{{"granite-docling", "trillion", "exaone4", "jais"}, {gpt2_split}},
    gguf_split{{"tekken"}, {tekken_split}, true, true},
    gguf_split{{"gpt-4o", "llama4", "kanana2"}, {gpt4o_split}},
    gguf_split{{"default"}, {R"([\p{P}\$\+<=>\^~\|]+)", gpt2_split, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
    gguf_split{{"gemma4"}, {R"([^\n]+|[\n]+)"}}};

inline const gguf_split* find_gguf_split(std::string_view name) noexcept {
  for (const gguf_split& split : gguf_splits)
    if (!name.empty() && std::find(split.names.begin(), split.names.end(), name) != split.names.end()) return &split;
  return nullptr;
}

}  // namespace multistate::detail
