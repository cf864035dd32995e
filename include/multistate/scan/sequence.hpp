#pragma once

#include <concepts>
#include <cstddef>
#include <span>

#include <multistate/scan/element.hpp>
#include <multistate/util/assert.hpp>
#include <multistate/util/executor.hpp>

namespace multistate {

/// Many to one, in constant memory: `e` takes in states with logits [n] and values [n][dv], in order.
template <std::floating_point T>
void scan_last(std::span<const T> logits, std::span<const T> values, scan_element<T>& e) noexcept {
  const std::size_t dv = e.value.size();
  MULTISTATE_ASSERT(values.size() == logits.size() * dv);
  for (std::size_t i = 0; i < logits.size(); ++i) scan_add<T>(e, logits[i], values.subspan(i * dv, dv));
}

/// Many to many, in constant memory: the same, and out [n][dv] is the attention's output behind each state.
template <std::floating_point T>
void scan_each(std::span<const T> logits, std::span<const T> values, scan_element<T>& e, std::span<T> out) noexcept {
  const std::size_t dv = e.value.size();
  MULTISTATE_ASSERT(values.size() == logits.size() * dv && out.size() == values.size());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    scan_add<T>(e, logits[i], values.subspan(i * dv, dv));
    scan_normalise<T>(e, out.subspan(i * dv, dv));
  }
}

/// Elements side by side; their memory is the caller's.
template <std::floating_point T>
struct scan_elements {
  std::span<T> max;    ///< [n]
  std::span<T> sum;    ///< [n]
  std::span<T> value;  ///< [n][dv]

  std::size_t dv() const noexcept { return max.empty() ? 0 : value.size() / max.size(); }
  scan_element<T> get(std::size_t i) const noexcept { return {max[i], sum[i], value.subspan(i * dv(), dv())}; }
  /// Takes what get(i) became.
  void put(std::size_t i, const scan_element<T>& e) const noexcept {
    max[i] = e.max;
    sum[i] = e.sum;
  }
};

/// Elements that scan_prefix() scans together, by one task.
inline constexpr std::size_t scan_block = 256;

/// Makes each element the attention over the states of all elements up to it, with fewer than two merges an element.
/// Blocks are scanned side by side, then their ends one after the other, then each block takes in what lies before it.
/// Blocks do not depend on the executor, so that the bits are the same with any number of threads.
template <std::floating_point T, executor E>
void scan_prefix(const scan_elements<T>& elements, E& exec) noexcept {
  const std::size_t n = elements.max.size(), blocks = (n + scan_block - 1) / scan_block;
  MULTISTATE_ASSERT(elements.sum.size() == n && (n == 0 || elements.value.size() % n == 0));
  const auto merge = [&elements](std::size_t into, std::size_t from) {
    scan_element<T> e = elements.get(into);
    scan_merge<T>(e, elements.get(from));
    elements.put(into, e);
  };
  const auto end_of = [n](std::size_t block) { return (block + 1) * scan_block < n ? (block + 1) * scan_block : n; };
  exec(static_cast<int>(blocks), [&](int block, int) {
    const std::size_t b = static_cast<std::size_t>(block);
    for (std::size_t i = b * scan_block + 1; i < end_of(b); ++i) merge(i, i - 1);
  });
  for (std::size_t b = 1; b < blocks; ++b) merge(end_of(b) - 1, b * scan_block - 1);
  exec(static_cast<int>(blocks), [&](int block, int) {
    const std::size_t b = static_cast<std::size_t>(block);
    if (b == 0) return;
    for (std::size_t i = b * scan_block; i + 1 < end_of(b); ++i) merge(i, b * scan_block - 1);
  });
}

}  // namespace multistate
