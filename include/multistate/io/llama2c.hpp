#pragma once

#include <multistate/io/loaded_model.hpp>
#include <multistate/tokenizer/tokenizer.hpp>

namespace multistate {

namespace detail {

/// Takes tensors from the front. Precondition: the caller has compared the file's length with what will be taken.
class llama2c_cursor {
 public:
  explicit llama2c_cursor(std::span<const std::byte> bytes) noexcept : rest_(bytes) {}

  void skip(std::size_t bytes) noexcept { rest_ = rest_.subspan(bytes); }
  std::vector<float> floats(std::size_t count) {
    std::vector<float> values(count);
    std::memcpy(values.data(), rest_.data(), count * 4);
    skip(count * 4);
    return values;
  }
  /// A matrix of float32, where it lies.
  matrix_view matrix(loaded_model& model, std::size_t count) {
    const auto bytes = rest_.first(count * 4);
    skip(count * 4);
    return model.keep(bytes, weight_format::f32);
  }
  /// `count` int8, then one float32 scale for each `group` of them: as floats.
  matrix_view groups(loaded_model& model, std::size_t count, std::size_t group) {
    const auto scales = rest_.subspan(count);
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i)
      values[i] = static_cast<float>(static_cast<std::int8_t>(rest_[i])) * load_at<float>(scales, i / group * 4);
    skip(count + count / group * 4);
    return {reinterpret_cast<const std::byte*>(model.keep(std::move(values))), weight_format::f32};
  }

 private:
  std::span<const std::byte> rest_;
};

}  // namespace detail

/// A checkpoint of llama2.c: version 0 (seven int32 and float32 tensors), 1 (magic, 256-byte header, float32) or
/// 2 (int8 in groups, widened here). Errors: sizes that are no model, a length that is not what they need.
inline result<loaded_model> load_llama2c(const std::filesystem::path& path) {
  auto file = file_bytes::open(path);
  if (!file) return file.reason();
  const auto bytes = file->bytes();
  constexpr std::uint32_t magic = 0x616b3432;
  if (bytes.size() < 28) return detail::file_error(path, "has ", bytes.size(), " bytes, too few for a llama2.c header");
  int version = 0;
  std::size_t header = 28;
  if (load_at<std::uint32_t>(bytes, 0) == magic) {
    version = load_at<std::int32_t>(bytes, 4);
    header = 256;
    if (version != 1 && version != 2)
      return error(errc::not_supported, path.string(), ": is llama2.c version ", version, ", must be 0, 1 or 2");
    if (bytes.size() < header) return detail::file_error(path, "ends within its header, at ", bytes.size());
  }
  // dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len
  std::array<std::int64_t, 7> n;
  for (std::size_t i = 0; i < n.size(); ++i) n[i] = load_at<std::int32_t>(bytes, (version == 0 ? 0 : 8) + 4 * i);
  model_config c;
  // Version 0 says by a negative vocabulary that the head is not the embedding, the others by a byte.
  c.tied = version == 0 ? n[5] > 0 : bytes[36] != std::byte{0};
  if (version == 0 && n[5] < 0) n[5] = -n[5];
  const std::int64_t group = version == 2 ? load_at<std::int32_t>(bytes, 37) : 1;
  if (*std::min_element(n.begin(), n.end()) < 1 || n[5] > 0x7fffffff || group < 1 || n[3] % n[4] != 0 ||
      n[0] % (2 * n[3]) != 0)
    return detail::file_error(path, "is no llama2.c checkpoint: dim ", n[0], ", ffn ", n[1], ", layers ", n[2],
                              ", heads ", n[3], ", kv heads ", n[4], ", vocabulary ", n[5], ", context ", n[6],
                              ", group ", group, " fit no model");
  c.hidden = static_cast<int>(n[0]);
  c.ffn = static_cast<int>(n[1]);
  c.layers = static_cast<int>(n[2]);
  c.heads = static_cast<int>(n[3]);
  c.kv_heads = static_cast<int>(n[4]);
  c.vocab = static_cast<int>(n[5]);
  c.context = static_cast<int>(n[6]);
  c.head_dim = c.hidden / c.heads;
  c.bos = bos_of(c.vocab, c.vocab > 1 ? 1 : -1);
  c.rope.dim = c.head_dim;
  c.rope.pairing = rope_pairing::adjacent;

  // Elements of each tensor, then bytes of the file, before anything is allocated.
  using detail::plus, detail::times;
  const auto at = [&](std::size_t i) { return static_cast<std::uint64_t>(n[i]); };
  const std::uint64_t dim = at(0), layers = at(2), kv = at(4) * static_cast<std::uint64_t>(c.head_dim);
  const std::uint64_t square = dim * dim, narrow = dim * kv, wide = dim * at(1), words = dim * at(5);  // below 2^62
  const auto matrix_bytes = [&](std::uint64_t count) {
    return version == 2 ? plus(count, times(count / static_cast<std::uint64_t>(group), 4)) : times(count, 4);
  };
  for (std::uint64_t count : {square, narrow, wide, words})
    if (count % static_cast<std::uint64_t>(group) != 0)
      return detail::file_error(path, "has groups of ", group, ", must divide each matrix; one has ", count);
  const std::uint64_t layer =
      plus(plus(times(2, matrix_bytes(square)), times(2, matrix_bytes(narrow))), times(3, matrix_bytes(wide)));
  std::uint64_t right = plus(header, times(times(plus(times(2, layers), 1), dim), 4));
  right = plus(right, plus(times(layers, layer), times(c.tied ? 1 : 2, matrix_bytes(words))));
  const std::uint64_t angles = version == 0 ? times(times(at(6), static_cast<std::uint64_t>(c.head_dim)), 4) : 0;
  right = plus(right, angles);
  if (right != bytes.size()) {
    const std::uint64_t other = c.tied ? plus(right, matrix_bytes(words)) : right - matrix_bytes(words);
    return detail::file_error(path, "has ", bytes.size(), " bytes, a llama2.c checkpoint of version ", version,
                              " with dim ", n[0], ", ffn ", n[1], ", ", n[2], " layers, vocabulary ", n[5], ", ",
                              c.tied ? "a shared" : "its own", " head has ", right,
                              other == bytes.size() ? "; by its length the head is the other kind" : "");
  }

  loaded_model w;
  w.family = "llama2.c";
  w.config = c;
  w.layers.resize(static_cast<std::size_t>(layers));
  detail::llama2c_cursor from(bytes.subspan(header));
  const auto norm = [&] { return w.keep(from.floats(static_cast<std::size_t>(dim))); };
  const auto norms = [&](const float* layer_view::*member) {
    for (layer_view& l : w.layers) l.*member = norm();
  };
  const auto matrix = [&](std::uint64_t count) {
    return version == 2 ? from.groups(w, count, static_cast<std::size_t>(group)) : from.matrix(w, count);
  };
  const auto matrices = [&](matrix_view layer_view::*member, std::uint64_t count) {
    for (layer_view& l : w.layers) l.*member = matrix(count);
  };
  // Version 0 has the tensors in the order of use, the others all norms first.
  if (version == 0) w.embedding = matrix(words);
  norms(&layer_view::attention_norm);
  if (version != 0) {
    norms(&layer_view::ffn_norm);
    w.final_norm = norm();
    w.embedding = matrix(words);
  }
  matrices(&layer_view::q, square);
  matrices(&layer_view::k, narrow);
  matrices(&layer_view::v, narrow);
  matrices(&layer_view::o, square);
  if (version == 0) norms(&layer_view::ffn_norm);
  matrices(&layer_view::gate, wide);
  matrices(&layer_view::down, wide);
  matrices(&layer_view::up, wide);
  if (version == 0) w.final_norm = norm();
  from.skip(static_cast<std::size_t>(angles));  // a table of angles that rope computes itself
  w.head = c.tied ? w.embedding : matrix(words);
  w.hash = hash_bytes(bytes);
  w.files.push_back(std::move(*file));
  return w;
}

}  // namespace multistate
