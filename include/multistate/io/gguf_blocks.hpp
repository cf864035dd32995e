#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <multistate/format/formats.hpp>

namespace multistate {

/// A tensor type of GGUF files: its number and name there (ggml.h), and the format that it is.
struct gguf_block {
  std::uint32_t id = 0;
  std::string_view name;
  weight_format format = weight_format::f32;

  /// Numbers and bytes of a block.
  constexpr std::size_t values() const noexcept { return block_elements(format); }
  constexpr std::size_t bytes() const noexcept { return row_bytes(format, values()); }
};

/// All types that are read.
inline constexpr std::array<gguf_block, 14> gguf_blocks = {{
    {0, "F32", weight_format::f32},
    {1, "F16", weight_format::f16},
    {30, "BF16", weight_format::bf16},
    {2, "Q4_0", weight_format::q4_0},
    {3, "Q4_1", weight_format::q4_1},
    {6, "Q5_0", weight_format::q5_0},
    {7, "Q5_1", weight_format::q5_1},
    {8, "Q8_0", weight_format::q8_0},
    {12, "Q4_K", weight_format::q4_k},
    {13, "Q5_K", weight_format::q5_k},
    {14, "Q6_K", weight_format::q6_k},
    {20, "IQ4_NL", weight_format::iq4_nl},
    {23, "IQ4_XS", weight_format::iq4_xs},
    {39, "MXFP4", weight_format::mxfp4},
}};

/// Null: a type that is not read.
constexpr const gguf_block* find_gguf_block(std::uint32_t id) noexcept {
  for (const gguf_block& block : gguf_blocks)
    if (block.id == id) return &block;
  return nullptr;
}

/// The name of a type that ggml has and this library does not read; "" where ggml has none either.
constexpr std::string_view unread_gguf_block(std::uint32_t id) noexcept {
  struct named {
    std::uint32_t id;
    std::string_view name;
  };
  constexpr std::array<named, 23> others = {
      {{9, "Q8_1"},     {10, "Q2_K"},  {11, "Q3_K"},  {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"},
       {18, "IQ3_XXS"}, {19, "IQ1_S"}, {21, "IQ3_S"}, {22, "IQ2_S"}, {24, "I8"},      {25, "I16"},
       {26, "I32"},     {27, "I64"},   {28, "F64"},   {29, "IQ1_M"}, {34, "TQ1_0"},   {35, "TQ2_0"},
       {40, "NVFP4"},   {41, "Q1_0"},  {42, "Q2_0"},  {4, "Q4_2"},   {5, "Q4_3"}}};
  for (const named& other : others)
    if (other.id == id) return other.name;
  return {};
}

}  // namespace multistate
