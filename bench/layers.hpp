#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include <bench/memory.hpp>
#include <multistate/format/element.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/types/task.hpp>

namespace bench {

using multistate::attention_task;
using multistate::extent;
using multistate::shape;

inline std::vector<float> normals(std::size_t count, unsigned seed = 1, float deviation = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> x(count);
  for (float& e : x) e = normal(random);
  return x;
}

/// A large array of normal values in no time: some of them again and again.
inline std::vector<float> repeated_normals(std::size_t count, float deviation) {
  static constexpr std::size_t some = 65537;  // no multiple of a row
  const std::vector<float> from = normals(some, 3, deviation);
  std::vector<float> x(count);
  for (std::size_t at = 0; at < count; at += some)
    std::memcpy(x.data() + at, from.data(), std::min(some, count - at) * sizeof(float));
  return x;
}

/// Keys and values of as many layers as it takes to fill `at_least` bytes (one, if that is 0), as multi_state lays them
/// out: [layer][kv_head], first the keys [n], then the values [n], each on a cache line.
template <class Format>
class layers {
 public:
  layers(const shape& dims, int n, std::size_t at_least, huge_block& memory) : dims_(dims), n_(n) {
    const std::size_t block = (multistate::to_size(n) * multistate::row_bytes<Format>(dims.dk) + 63) / 64 * 64;
    const std::size_t layer = 2 * block * multistate::to_size(dims.kv_heads);
    count_ = static_cast<int>(std::max<std::size_t>(1, (at_least + layer - 1) / layer));
    bytes_ = memory.take(layer * multistate::to_size(count_));
    fill(block);
    for (std::size_t at = 0; at < bytes_.size(); at += 2 * block)
      extents_.push_back({.k = bytes_.data() + at,
                          .v = bytes_.data() + at + block,
                          .k_stride = multistate::row_bytes<Format>(dims.dk),
                          .v_stride = multistate::row_bytes<Format>(dims.dk),
                          .n = n});
  }

  int count() const { return count_; }
  /// All of them: what a sweep for the limit reads.
  std::span<const std::byte> memory() const { return bytes_; }
  double layer_bytes() const { return static_cast<double>(bytes_.size()) / count_; }
  const extent& at(int layer, int kv_head) const {
    return extents_[multistate::to_size(layer * dims_.kv_heads + kv_head)];
  }

  /// [layer][kv_head]: the newest `queries` tokens attend. rows: [kv_head][n].
  std::vector<attention_task> tasks(const float* q, float* out, float* rows, int queries = 1) const {
    std::vector<attention_task> all(extents_.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      attention_task& t = all[i];
      const std::size_t h = i % multistate::to_size(dims_.kv_heads);
      t.kv = {.extents = {&extents_[i], 1}, .positions = {}, .ranks = {}, .n = n_};
      t.q = q + h * multistate::to_size(dims_.group() * dims_.dk);
      t.q_stride = multistate::to_size(dims_.heads * dims_.dk);
      t.out = out + h * multistate::to_size(dims_.group() * dims_.dv);
      t.out_stride = multistate::to_size(dims_.heads * dims_.dv);
      t.row = rows + h * multistate::to_size(n_);
      t.row_stride = multistate::to_size(n_);
      t.first = n_ - queries;
      t.queries = queries;
      t.kv_head = static_cast<int>(h);
    }
    return all;
  }
  std::span<const attention_task> of(const std::vector<attention_task>& tasks, int layer) const {
    return std::span(tasks).subspan(multistate::to_size(layer * dims_.kv_heads), multistate::to_size(dims_.kv_heads));
  }

 private:
  void fill(std::size_t block) {
    constexpr int rows = 8209;  // no two states of a lane are the same, or a policy would have to tell equals apart
    const std::size_t row = multistate::row_bytes<Format>(dims_.dk);
    const std::vector<float> values = normals(multistate::to_size(rows * dims_.dk));
    std::vector<std::byte> pattern(rows * row);
    for (int r = 0; r < rows; ++r)
      multistate::store_row<Format>(pattern.data() + multistate::to_size(r) * row, values.data() + r * dims_.dk,
                                    dims_.dk);
    for (std::size_t begin = 0; begin < bytes_.size(); begin += block)
      for (std::size_t at = 0; at < block; at += pattern.size())
        std::memcpy(bytes_.data() + begin + at, pattern.data(), std::min(pattern.size(), block - at));
  }

  shape dims_;
  int n_;
  int count_ = 0;
  std::span<std::byte> bytes_;
  std::vector<extent> extents_;
};

}  // namespace bench
