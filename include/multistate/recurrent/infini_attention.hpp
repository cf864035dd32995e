#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include <multistate/recurrent/delta.hpp>
#include <multistate/recurrent/matrix_memory.hpp>
#include <multistate/recurrent/sum.hpp>
#include <multistate/types/error.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/save_header.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/types/task.hpp>
#include <multistate/util/assert.hpp>
#include <multistate/util/buffer.hpp>
#include <multistate/util/bytes.hpp>
#include <multistate/util/finite.hpp>
#include <multistate/util/hash.hpp>

namespace multistate {

/// The two rules by which Infini-attention writes a segment.
using infini_sum = sum_rule<elu_feature, true>;
using infini_delta = delta_rule<elu_feature, true>;

/// Queries and keys with their rotary angles.
struct rotated_vectors {
  const float* q = nullptr;  ///< [c][H][dk]
  const float* k = nullptr;  ///< [c][Hkv][dk]
};

/// The same before rotation. Of another type, since a memory that took rotated keys would run and recall nothing.
struct unrotated_vectors {
  const float* q = nullptr;  ///< [c][H][dk]
  const float* k = nullptr;  ///< [c][Hkv][dk]
};

/// What infini_attention::attend() takes and gives. Everything is the caller's.
struct infini_tokens {
  rotated_vectors rotated;      ///< for attention within the segment
  unrotated_vectors unrotated;  ///< for the memory
  const float* v = nullptr;     ///< [c][Hkv][dv]
  float* out = nullptr;         ///< [c][H][dv]
  float* local = nullptr;       ///< [c][H][dv] attention within the segment alone; null: not wanted
  float* retrieved = nullptr;   ///< [c][H][dv] what the memory gives alone; null: not wanted
  int c = 1;
};

/// Sizes of infini_attention beside the shape of the layer.
struct infini_setup {
  shape dims;
  int segment = 0;    ///< N, tokens that attend each other and are then written together
  int undo = 0;       ///< tokens that undo() can take back
  int max_chunk = 1;  ///< most tokens of a call of attend()
};

/// Infini-attention (Munkhdalai et al. 2024) of one layer of one sequence. Tokens attend to their segment, causally and
/// with rotary angles, and retrieve from a memory of all segments before, by queries without:
///   out = g A_mem + (1 - g) A_local, g = sigmoid(beta) of each query head, A_mem = M'f(q) / (f(q).z)
/// A full segment is written at once: with infini_sum M = M + f(K)'V, with infini_delta
/// M = M + f(K)'(V - f(K) M / (f(K) z)) with the M and z before; then z = z + the sum of f(k). So the delta rule
/// depends on the segment's length. One memory a KV head, read by the query heads of its group. Its size never changes.
template <class Rule = infini_sum, class Operations = plain_matrix>
class infini_attention {
 public:
  /// gate_logits [H]: beta, minus infinity for a head without memory. A model that was not trained with gates has to be
  /// given those: no default would be right. Errors: shape, segment, undo, chunk or number of gates out of range; a
  /// gate that is NaN; no memory.
  static result<infini_attention> make(const infini_setup& setup, std::span<const float> gate_logits) noexcept {
    const shape& d = setup.dims;
    if (d.kv_heads < 1 || d.heads < d.kv_heads || d.heads % d.kv_heads != 0 || d.heads > max_tokens)
      return error(errc::bad_shape, "infini_attention: needs kv_heads >= 1 dividing heads; got heads=", d.heads,
                   ", kv_heads=", d.kv_heads);
    if (setup.segment < 1 || setup.segment > max_tokens || setup.undo < 0 || setup.undo > max_tokens ||
        setup.max_chunk < 1 || setup.max_chunk > max_tokens)
      return error(errc::bad_limits, "infini_attention: segment and max_chunk must be 1 to ", max_tokens,
                   ", undo at least 0; got segment=", setup.segment, ", max_chunk=", setup.max_chunk,
                   ", undo=", setup.undo);
    if (gate_logits.size() != to_size(d.heads))
      return error(errc::bad_shape, "infini_attention: needs one gate for each of ", d.heads, " query heads; got ",
                   gate_logits.size());
    for (const float beta : gate_logits)
      if (is_nan(beta)) return error(errc::bad_input, "infini_attention: a gate is NaN; needs a logit");
    infini_attention a;
    a.setup_ = setup;
    const int copies = (setup.undo + setup.segment - 1) / setup.segment;
    a.copies_ = copies;
    auto memory = memory_type::make({.heads = d.kv_heads, .dk = d.dk, .dv = d.dv, .chunk = setup.segment});
    if (!memory) return memory.reason();
    a.memory_ = std::move(*memory);
    const std::size_t tokens = to_size(copies + 1) * to_size(setup.segment);
    if (static_cast<double>(tokens) * static_cast<double>(a.token_floats()) > 0x1p58 ||
        !a.states_.allocate(tokens * a.token_floats()) || !a.gates_.allocate(to_size(d.heads)) ||
        !a.saves_.allocate(to_size(copies) * a.memory_.numbers().size()) || !a.retrieved_.allocate(to_size(d.dv)) ||
        !a.extents_.allocate(to_size(d.kv_heads)) || !a.tasks_.allocate(to_size(d.kv_heads)))
      return error(errc::out_of_memory, "infini_attention: no memory for segments of ", setup.segment, " tokens with ",
                   d.kv_heads, " KV heads of ", d.dk, " + ", d.dv);
    for (std::size_t h = 0; h < a.gates_.size(); ++h)
      a.gates_[h] = 1.0 / (1.0 + std::exp(-static_cast<double>(gate_logits[h])));
    return a;
  }

  using memory_type = matrix_memory<Rule, Operations>;
  const infini_setup& setup() const noexcept { return setup_; }
  const memory_type& memory() const noexcept { return memory_; }
  /// [H] g, the share of each head's output that comes from its memory.
  std::span<const double> gates() const noexcept { return gates_.span(0, gates_.size()); }
  /// Tokens read so far, which is the position of the next one.
  position tokens() const noexcept { return tokens_; }
  /// Bytes of memory, segment and what undo keeps; they never change.
  std::size_t bytes() const noexcept { return memory_.bytes() + states_.bytes() + saves_.bytes(); }

  /// Reads the tokens; however they are divided among calls, the result is the same up to rounding. `local` is called
  /// with tasks for every KV head (std::span<const attention_task>, keys and values in f32) and writes their outputs:
  /// a gate of minus infinity gives those bits.
  template <class Local>
  void attend(const infini_tokens& t, const Local& local) noexcept {
    for (int done = 0; done < t.c;) {
      const int filled = static_cast<int>(tokens_ % setup_.segment);
      const int c = (std::min)({t.c - done, setup_.segment - filled, setup_.max_chunk});
      attend_within(t, done, c, filled, local);
      done += c;
    }
  }

  /// Tokens that undo() can take back now.
  int undoable() const noexcept {
    const position first = (std::max)(position{0}, (newest_segment_ - copies_) * setup_.segment);
    return static_cast<int>((std::min)(position{setup_.undo}, tokens_ - (std::max)(first, loaded_)));
  }
  /// Takes back the newest tokens: afterwards every bit is as if they had not been read. False, and nothing changed,
  /// for more than undoable() or fewer than 0.
  bool undo(int count) noexcept {
    if (count < 0 || count > undoable()) return false;
    const position back = tokens_ - count;
    if (back / setup_.segment < tokens_ / setup_.segment) memory_.set(before(back / setup_.segment));
    tokens_ = back;
    return true;
  }

  void clear() noexcept {
    memory_.clear();
    tokens_ = newest_segment_ = loaded_ = 0;
  }
  /// A fork: becomes a copy that goes on independently, what undo keeps included. False, and nothing changed, when the
  /// two were not made alike.
  bool copy_from(const infini_attention& other) noexcept {
    if (fingerprint() != other.fingerprint() || copies_ != other.copies_ || !memory_.copy_from(other.memory_))
      return false;
    states_.copy_from(other.states_);
    saves_.copy_from(other.saves_);
    tokens_ = other.tokens_;
    newest_segment_ = other.newest_segment_;
    loaded_ = other.loaded_;
    return true;
  }

  /// Bytes that save() fills now: the memory, and the tokens of the segment that is not full.
  std::size_t save_bytes() const noexcept {
    return detail::save_header_bytes + 2 * sizeof(std::uint64_t) + memory_.save_bytes() +
           to_size(filled()) * token_floats() * sizeof(float);
  }
  /// Writes [save_bytes()].
  void save(std::span<std::byte> out) const noexcept {
    MULTISTATE_ASSERT(out.size() == save_bytes());
    byte_writer to(out);
    detail::put_save_header(to, magic);
    to.put(fingerprint());
    to.put(static_cast<std::uint64_t>(tokens_));
    memory_.save(out.subspan(to.written(), memory_.save_bytes()));
    byte_writer rest(out.subspan(to.written() + memory_.save_bytes()));
    for_each_part([&](std::size_t at, std::size_t floats) {
      rest.put(std::as_bytes(states_.span(at, to_size(filled()) * floats)));
    });
  }
  /// Restores what save() wrote of one made alike. Anything else is refused and changes nothing. What came before can't
  /// be undone.
  error load(std::span<const std::byte> in) noexcept {
    byte_reader from(in);
    if (const error e = detail::take_save_header(from, magic, "infini_attention")) return e;
    const auto broken = [](const auto&... parts) {
      return error(errc::bad_input, "infini_attention: saved state can't be used: ", parts...);
    };
    if (from.get<std::uint64_t>() != fingerprint()) return broken("it was made with another rule, shape or segment");
    const auto tokens = from.get<std::uint64_t>();
    if (tokens > std::uint64_t{1} << 62) return broken("it has ", tokens, " tokens");
    const std::size_t filled = to_size(static_cast<int>(static_cast<position>(tokens) % setup_.segment));
    const std::size_t floats = filled * token_floats();
    if (from.left() != memory_.save_bytes() + floats * sizeof(float))
      return broken("it has ", in.size(), " bytes, ", tokens, " tokens need ",
                    in.size() - from.left() + memory_.save_bytes() + floats * sizeof(float));
    const auto memory = from.take(memory_.save_bytes()), states = from.take(floats * sizeof(float));
    for (std::size_t i = 0; i < floats; ++i)
      if (!is_finite(load_at<float>(states, i * sizeof(float)))) return broken("a key or value is not finite");
    if (const error e = memory_.load(memory)) return e;
    tokens_ = loaded_ = static_cast<position>(tokens);
    newest_segment_ = tokens_ / setup_.segment;
    std::size_t read = 0;
    for_each_part([&](std::size_t at, std::size_t width) {
      for (std::size_t i = 0; i < filled * width; ++i, ++read)
        states_[at + i] = load_at<float>(states, read * sizeof(float));
    });
    return {};
  }

 private:
  static constexpr std::string_view magic = "msINFINI";

  int filled() const noexcept { return static_cast<int>(tokens_ % setup_.segment); }
  std::size_t key_floats() const noexcept { return to_size(setup_.dims.kv_heads) * to_size(setup_.dims.dk); }
  std::size_t value_floats() const noexcept { return to_size(setup_.dims.kv_heads) * to_size(setup_.dims.dv); }
  std::size_t token_floats() const noexcept { return 2 * key_floats() + value_floats(); }

  /// Where a segment's tokens lie: rotated keys [N][Hkv][dk], un-rotated ones alike, values [N][Hkv][dv].
  struct segment_place {
    std::size_t rotated, unrotated, values;
  };
  segment_place place_of(position segment) const noexcept {
    const std::size_t n = to_size(setup_.segment);
    const std::size_t begin = static_cast<std::size_t>(segment % (copies_ + 1)) * n * token_floats();
    return {begin, begin + n * key_floats(), begin + 2 * n * key_floats()};
  }
  /// f(place, floats a token) of what the newest segment holds.
  template <class F>
  void for_each_part(const F& f) const noexcept {
    const segment_place at = place_of(tokens_ / setup_.segment);
    f(at.rotated, key_floats());
    f(at.unrotated, key_floats());
    f(at.values, value_floats());
  }
  /// The memory as it was before that segment was written.
  std::span<double> before(position segment) noexcept {
    const std::size_t n = memory_.numbers().size();
    return saves_.span(static_cast<std::size_t>(segment % copies_) * n, n);
  }

  std::uint64_t fingerprint() const noexcept {
    std::uint64_t h = 0;
    for (const int n : {setup_.dims.heads, setup_.dims.kv_heads, setup_.dims.dk, setup_.dims.dv, setup_.segment})
      h = mix(h ^ static_cast<std::uint64_t>(n));
    for (const char letter : Rule::name) h = mix(h ^ static_cast<unsigned char>(letter));
    return h;
  }

  /// Tokens [done, done + c) of t, all of one segment, which holds `filled` tokens before them.
  template <class Local>
  void attend_within(const infini_tokens& t, int done, int c, int filled, const Local& local) noexcept {
    const shape& d = setup_.dims;
    const std::size_t first = to_size(done), dk = to_size(d.dk), dv = to_size(d.dv), group = to_size(d.group());
    const std::size_t query = to_size(d.heads) * dk, answer = to_size(d.heads) * dv;
    const segment_place at = place_of(tokens_ / setup_.segment);
    const auto store = [&](const float* from, std::size_t to, std::size_t floats) {
      std::memcpy(states_.data() + to + to_size(filled) * floats, from + first * floats,
                  to_size(c) * floats * sizeof(float));
    };
    store(t.rotated.k, at.rotated, key_floats());
    store(t.unrotated.k, at.unrotated, key_floats());
    store(t.v, at.values, value_floats());

    for (std::size_t h = 0; h < to_size(d.kv_heads); ++h) {
      extents_[h] = {.k = bytes_at(at.rotated + h * dk),
                     .v = bytes_at(at.values + h * dv),
                     .k_stride = key_floats() * sizeof(float),
                     .v_stride = value_floats() * sizeof(float),
                     .n = filled + c};
      tasks_[h] = {.kv = {.extents = {&extents_[h], 1}, .positions = {}, .ranks = {}, .n = filled + c},
                   .q = t.rotated.q + first * query + h * group * dk,
                   .q_stride = query,
                   .out = t.out + first * answer + h * group * dv,
                   .out_stride = answer,
                   .first = tokens_,
                   .queries = c,
                   .kv_head = static_cast<int>(h)};
    }
    local(std::span<const attention_task>(tasks_.data(), tasks_.size()));
    for (std::size_t i = first; i < first + to_size(c); ++i) {
      if (t.local != nullptr) std::memcpy(t.local + i * answer, t.out + i * answer, answer * sizeof(float));
      for (std::size_t h = 0; h < to_size(d.heads); ++h) blend(t, i, h);
    }

    tokens_ += c;
    newest_segment_ = (std::max)(newest_segment_, tokens_ / setup_.segment);
    if (filled + c < setup_.segment) return;
    if (copies_ > 0) {
      const auto numbers = memory_.numbers();
      std::copy(numbers.begin(), numbers.end(), before(tokens_ / setup_.segment - 1).begin());
    }
    memory_.segment({.k = states_.data() + at.unrotated, .v = states_.data() + at.values, .c = setup_.segment});
  }

  /// The output of token i and query head h, which holds attention within the segment, takes in what the memory gives.
  void blend(const infini_tokens& t, std::size_t i, std::size_t h) noexcept {
    const double g = gates_[h];
    const bool closed = !(g > 0);
    if (closed && t.retrieved == nullptr) return;
    const shape& d = setup_.dims;
    const std::size_t dv = to_size(d.dv), at = i * to_size(d.heads) + h;
    memory_.read(static_cast<int>(h) / d.group(), t.unrotated.q + at * to_size(d.dk), retrieved_.data());
    float* const out = t.out + at * dv;
    for (std::size_t j = 0; j < dv; ++j) {
      if (t.retrieved != nullptr) t.retrieved[at * dv + j] = retrieved_[j];
      if (!closed)
        out[j] = static_cast<float>(g * static_cast<double>(retrieved_[j]) + (1 - g) * static_cast<double>(out[j]));
    }
  }
  const std::byte* bytes_at(std::size_t place) const noexcept {
    return reinterpret_cast<const std::byte*>(states_.data() + place);
  }

  infini_setup setup_;
  int copies_ = 0;  ///< segments that undo can go back
  memory_type memory_;
  buffer<float> states_;     ///< [copies + 1] segments, see segment_place
  buffer<double> gates_;     ///< [H]
  buffer<double> saves_;     ///< [copies] memories, see before()
  buffer<float> retrieved_;  ///< [dv]
  buffer<extent> extents_;   ///< [Hkv]
  buffer<attention_task> tasks_;
  position tokens_ = 0;
  position newest_segment_ = 0;  ///< highest that a token was read of: what lies further back than copies_ is gone
  position loaded_ = 0;          ///< tokens that came with a load, which have nothing to go back to
};

}  // namespace multistate
