#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include <multistate/model/model_view.hpp>
#include <multistate/model/weights.hpp>
#include <multistate/util/buffer.hpp>
#include <multistate/types/error.hpp>
#include <multistate/format/formats.hpp>

namespace multistate {

/// A model whose matrices are rounded to a narrower format, so that a decoder reads half or a quarter as much; i8 with
/// a scale for each row. Norms and biases stay float32.
class packed_weights {
 public:
  /// Takes the matrices over one by one, so that there is hardly more in memory than before. Errors: sizes that do not
  /// fit the config, no memory, a format that states are not stored in.
  static result<packed_weights> make(model_weights from, weight_format format) {
    if (std::ranges::find(state_formats, format) == state_formats.end())
      return error(errc::not_supported, "weights: can be stored as f32, f16, bf16 or i8; got ", name_of(format));
    if (error e = check(from)) return e;
    packed_weights p;
    const model_config& c = from.config;
    bool enough = true;
    const auto pack = [&](std::vector<float>& floats, std::size_t columns) {
      buffer<std::byte>& to = p.memory_.emplace_back();
      enough = enough && with_state_format(format, [&]<class F>(F) { return store<F>(floats, columns, to); });
      std::vector<float>().swap(floats);
      return matrix_view{to.data(), format};
    };
    p.view_ = view_of(from);
    p.view_.embedding = pack(from.embedding, to_size(c.hidden));
    p.view_.head = c.tied ? p.view_.embedding : pack(from.head, to_size(c.hidden));
    for (std::size_t i = 0; i < from.layers.size(); ++i)
      for (const auto& m : detail::layer_matrices(c)) p.view_.layers[i].*m.view = pack(from.layers[i].*m.floats, m.in);
    if (!enough) return error(errc::out_of_memory, "weights: no memory to pack them");
    p.norms_ = std::move(from);
    return p;
  }

  const model_view& view() const noexcept { return view_; }
  /// Of all matrices.
  std::size_t bytes() const noexcept {
    std::size_t sum = 0;
    for (const auto& m : memory_) sum += m.bytes();
    return sum;
  }

 private:
  template <class Format>
  static bool store(const std::vector<float>& floats, std::size_t width, buffer<std::byte>& to) noexcept {
    const auto columns = static_cast<int>(width);
    const std::size_t rows = floats.size() / width, stride = row_bytes<Format>(columns);
    if (!to.allocate(rows * stride)) return false;
    for (std::size_t r = 0; r < rows; ++r)
      store_row<Format>(to.data() + r * stride, floats.data() + r * width, columns);
    return true;
  }

  model_view view_;
  model_weights norms_;                    ///< what was not packed
  std::vector<buffer<std::byte>> memory_;  ///< one a matrix
};

}  // namespace multistate
