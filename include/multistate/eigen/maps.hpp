#pragma once

// Eigen's view of the library's memory, and the other way round. Nothing is copied: a map, or an extent, is as good as
// the memory it was made of.

#include <cstddef>

#include <Eigen/Core>

#include <multistate/state/multi_state.hpp>
#include <multistate/format/element.hpp>
#include <multistate/types/rows.hpp>
#include <multistate/types/task.hpp>
#include <multistate/util/assert.hpp>

namespace multistate::eigen {

/// A matrix as the library lays it out: one vector behind the other.
template <class Scalar>
using matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A matrix in the memory of somebody else, whose vectors may lie further apart than they are long.
using matrix_map = Eigen::Map<const matrix<float>, Eigen::Unaligned, Eigen::OuterStride<>>;

namespace detail {

/// The n vectors of d floats that lie `stride` bytes apart: [n][d].
inline matrix_map map_of(const std::byte* first, std::size_t stride, int n, int d) noexcept {
  MULTISTATE_ASSERT(stride % sizeof(float) == 0);
  return {reinterpret_cast<const float*>(first), n, d,
          Eigen::OuterStride<>(static_cast<Eigen::Index>(stride / sizeof(float)))};
}

}  // namespace detail

/// The live keys of one KV head by slot, [n][dk], until states are written or a decision is applied. Precondition: no
/// hole (decider::close), and an arena, if there is one, on a float's boundary.
template <class ValueFormat>
matrix_map keys(const multi_state<f32, ValueFormat>& states, int kv_head) noexcept {
  extent e;
  states.view(kv_head, e);
  return detail::map_of(e.k, e.k_stride, e.n, states.dims().dk);
}

/// The live values of one KV head by slot, [n][dv]; as keys() otherwise.
template <class KeyFormat>
matrix_map values(const multi_state<KeyFormat, f32>& states, int kv_head) noexcept {
  extent e;
  states.view(kv_head, e);
  return detail::map_of(e.v, e.v_stride, e.n, states.dims().dv);
}

/// Rows of attention weights: [queries][n] where their kind is each, else [1][n].
inline matrix_map weights(const rows& r) noexcept {
  return {r.data, r.kind == rows_kind::each ? r.queries : 1, r.n,
          Eigen::OuterStride<>(static_cast<Eigen::Index>(r.stride))};
}

/// Keys [n][dk] and values [n][dv] of the caller's own matrices, or blocks of them, for an attention_task.
inline extent extent_over(Eigen::Ref<matrix<float>> keys, Eigen::Ref<matrix<float>> values) noexcept {
  MULTISTATE_ASSERT(keys.rows() == values.rows());
  const auto bytes = [](Eigen::Index floats) { return static_cast<std::size_t>(floats) * sizeof(float); };
  return {.k = reinterpret_cast<const std::byte*>(keys.data()),
          .v = reinterpret_cast<const std::byte*>(values.data()),
          .k_stride = bytes(keys.outerStride()),
          .v_stride = bytes(values.outerStride()),
          .n = static_cast<int>(keys.rows())};
}

}  // namespace multistate::eigen
