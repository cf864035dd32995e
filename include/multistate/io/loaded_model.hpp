#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <multistate/io/file.hpp>
#include <multistate/model/model_view.hpp>

namespace multistate {

/// A model from files, and the memory that its weights lie in: matrices stay where they lie in the files, in the format
/// that they have there; norms and biases are made floats.
struct loaded_model : model_view {
  std::string family;              ///< as the files call it: "llama"
  std::uint64_t hash = 0;          ///< of the files' bytes: names the model in every output
  std::vector<std::string> notes;  ///< what the files say twice or for nothing, and what was taken; a line each
  std::vector<file_bytes> files;   ///< that matrices lie in
  std::vector<std::vector<float>> made;

  /// Numbers that have to be made, and stay as long as the model.
  const float* keep(std::vector<float> floats) { return made.emplace_back(std::move(floats)).data(); }
  /// A matrix where it lies in a file; where its numbers are not aligned there, a copy.
  matrix_view keep(std::span<const std::byte> bytes, weight_format format) {
    const std::size_t alignment = format == weight_format::f32 ? 4 : block_elements(format) == 1 ? 2 : 1;
    if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignment == 0) return {bytes.data(), format};
    std::vector<float> copy((bytes.size() + 3) / 4);
    std::memcpy(copy.data(), bytes.data(), bytes.size());
    return {reinterpret_cast<const std::byte*>(keep(std::move(copy))), format};
  }
};

namespace detail {

/// The matrix that begins `rows` below the beginning of another one, whose vectors have `in` numbers.
inline matrix_view below(const matrix_view& m, std::size_t rows, std::size_t in) noexcept {
  return {m.rows + rows * row_bytes(m.format, in), m.format};
}

/// Matrices that lie one below the other in one: each, and how many vectors it has.
using stacked_matrices = std::initializer_list<std::pair<matrix_view*, std::size_t>>;
inline std::size_t vectors_of(stacked_matrices parts) noexcept {
  std::size_t all = 0;
  for (const auto& part : parts) all += part.second;
  return all;
}
inline void divide(const matrix_view& all, std::size_t in, stacked_matrices parts) noexcept {
  std::size_t at = 0;
  for (const auto& [to, vectors] : parts) {
    *to = below(all, at, in);
    at += vectors;
  }
}

}  // namespace detail

}  // namespace multistate
