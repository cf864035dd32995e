#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include <multistate/recurrent/matrix.hpp>
#include <multistate/recurrent/update.hpp>
#include <multistate/types/error.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/save_header.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/util/assert.hpp>
#include <multistate/util/buffer.hpp>
#include <multistate/util/bytes.hpp>
#include <multistate/util/executor.hpp>
#include <multistate/util/finite.hpp>
#include <multistate/util/hash.hpp>

namespace multistate {

/// What sizes matrix memories when they are made.
struct matrix_memory_shape {
  int heads = 1;    ///< memories, one a head
  int dk = 1;       ///< key dimension
  int dv = 1;       ///< value dimension
  int chunk = 1;    ///< most tokens of one call of chunk() or segment()
  int workers = 1;  ///< of the executor that works on the heads
};

/// Tokens for the memories of all heads, dense, token by token. Everything is the caller's.
template <class Rule>
struct memory_tokens {
  const float* q = nullptr;                     ///< [c][heads][dk]; null: nothing is retrieved
  const float* k = nullptr;                     ///< [c][steps][heads][dk]
  const float* v = nullptr;                     ///< [c][steps][heads][dv]
  const typename Rule::gates* gates = nullptr;  ///< [c][steps][heads]; null: those that the rule has by default
  float* out = nullptr;                         ///< [c][heads][dv] what each q retrieves once its token is written
  int c = 1;
};

/// Memories of fixed size, one matrix a head, into which a rule writes each token's key and value (fast weights). They
/// are held in double: in float the sums of 1e5 tokens would have lost what a single one adds.
/// Operations: plain_matrix, or the same in vectors. Where a fork is a copy_from(), rolling back is one too.
template <memory_rule Rule, class Operations = plain_matrix>
class matrix_memory {
 public:
  using rule_type = Rule;
  using gates = typename Rule::gates;

  /// Empty memories. Errors: a dimension, number of heads, steps, tokens or workers below 1 or absurdly large; no
  /// memory.
  static result<matrix_memory> make(const matrix_memory_shape& dims, const Rule& rule = {}) noexcept {
    const double estimate =
        double(dims.heads) * dims.dk * dims.dv + double(dims.workers) * dims.chunk * rule.steps *
                                                     (3.0 * dims.dk + 2.0 * dims.dv + 2.0 * dims.chunk * rule.steps);
    for (const int n : {dims.heads, dims.dk, dims.dv, dims.chunk, dims.workers, int{rule.steps}})
      if (n < 1 || n > max_tokens)
        return error(errc::bad_shape, "matrix_memory: heads, dk, dv, chunk, workers and steps must be 1 to ",
                     max_tokens, "; got heads=", dims.heads, ", dk=", dims.dk, ", dv=", dims.dv, ", chunk=", dims.chunk,
                     ", workers=", dims.workers, ", steps=", int{rule.steps});
    matrix_memory m;
    m.dims_ = dims;
    m.rule_ = rule;
    m.layout_ = scratch_layout(dims, rule.steps);
    if (estimate > 0x1p58 || !m.values_.allocate(to_size(dims.heads) * m.head_size()) ||
        !m.scratch_.allocate(to_size(dims.workers) * m.layout_.size))
      return error(errc::out_of_memory, "matrix_memory: no memory for ", dims.heads, " heads of ", dims.dk, " x ",
                   dims.dv, " with chunks of ", dims.chunk);
    return m;
  }

  const matrix_memory_shape& dims() const noexcept { return dims_; }
  const Rule& rule() const noexcept { return rule_; }
  /// Bytes of the memories, which never change; a head has dk dv + dk numbers with a normaliser.
  std::size_t bytes() const noexcept { return values_.bytes(); }

  /// M of a head, [dk][dv].
  std::span<const double> values(int head) const noexcept { return values_.span(at(head), matrix_size()); }
  /// S of a head, [dk][dv]; empty where the rule has no momentum.
  std::span<const double> momentum(int head) const noexcept {
    return values_.span(at(head) + matrix_size(), Rule::momentum ? matrix_size() : 0);
  }
  /// z of a head, [dk]; empty where the rule has no normaliser.
  std::span<const double> normaliser(int head) const noexcept {
    return values_.span(at(head) + matrices * matrix_size(), Rule::normalised ? to_size(dims_.dk) : 0);
  }
  /// Euclidean norm of values(), momentum() or normaliser(): what shows a memory that grows without end.
  static double norm(std::span<const double> x) noexcept {
    double sum = 0;
    for (const double e : x) sum += e * e;
    return std::sqrt(sum);
  }
  /// No number is NaN or infinite.
  bool finite() const noexcept {
    for (const double e : numbers())
      if (!is_finite(e)) return false;
    return true;
  }

  /// All numbers of all heads, for a copy of the caller's; set() takes them back.
  std::span<const double> numbers() const noexcept { return values_.span(0, values_.size()); }
  /// Precondition: as many as numbers().
  void set(std::span<const double> numbers) noexcept {
    MULTISTATE_ASSERT(numbers.size() == values_.size());
    for (std::size_t i = 0; i < numbers.size(); ++i) values_[i] = numbers[i];
  }

  void clear() noexcept { values_.fill(0); }
  /// A fork: becomes a copy that goes on independently. False, and nothing changed, when the two were not made alike.
  bool copy_from(const matrix_memory& other) noexcept {
    if (fingerprint() != other.fingerprint()) return false;
    values_.copy_from(other.values_);
    return true;
  }

  /// Writes the tokens one after the other, and retrieves for each once it is written.
  template <executor E>
  void step(const memory_tokens<Rule>& t, E& exec) noexcept {
    on_heads(exec, [&](int head, double* scratch) {
      for (int i = 0; i < t.c; ++i)
        for (int s = 0; s < rule_.steps; ++s) write(head, t, i, s, scratch);
    });
  }
  void step(const memory_tokens<Rule>& t) noexcept {
    serial exec;
    step(t, exec);
  }

  /// The same up to rounding, by products of matrices: what many tokens need of M is read once. At most dims().chunk
  /// tokens. Yang et al. 2024 (the WY form), with decays as products over ranges, so that 0 is no special case.
  template <executor E>
    requires(!Rule::momentum)
  void chunk(const memory_tokens<Rule>& t, E& exec) noexcept {
    MULTISTATE_ASSERT(t.c <= dims_.chunk);
    on_heads(exec, [&](int head, double* scratch) { write_chunk(head, t, scratch); });
  }
  void chunk(const memory_tokens<Rule>& t) noexcept
    requires(!Rule::momentum)
  {
    serial exec;
    chunk(t, exec);
  }

  /// Another rule, not an approximation of step(): what the memory answers for a key is that before the first token,
  /// for all of them. The chunk form of Titans and the segments of Infini-attention. At most dims().chunk tokens.
  template <executor E>
  void segment(const memory_tokens<Rule>& t, E& exec) noexcept {
    MULTISTATE_ASSERT(t.c <= dims_.chunk);
    on_heads(exec, [&](int head, double* scratch) { write_segment(head, t, scratch); });
  }
  void segment(const memory_tokens<Rule>& t) noexcept {
    serial exec;
    segment(t, exec);
  }

  /// Retrieval alone: out [dv] = M'f(q), with the normaliser divided by f(q).z and 0 where that is 0, as it is while
  /// the memory is empty. q [dk]. worker: whose scratch is used.
  void read(int head, const float* q, float* out, int worker = 0) noexcept {
    double* const scratch = scratch_.data() + to_size(worker) * layout_.size;
    double* const x = scratch + layout_.q;
    double* const y = scratch + layout_.out;
    take_features(q, to_size(dims_.dk), 1, x);
    Operations::read(matrix(head), to_size(dims_.dk), to_size(dims_.dv), x, y);
    put(y, factor(head, x), out);
  }

  std::size_t save_bytes() const noexcept {
    return detail::save_header_bytes + sizeof(std::uint64_t) + values_.bytes();
  }
  /// Writes [save_bytes()].
  void save(std::span<std::byte> out) const noexcept {
    MULTISTATE_ASSERT(out.size() == save_bytes());
    byte_writer to(out);
    detail::put_save_header(to, magic);
    to.put(fingerprint());
    to.put(std::as_bytes(numbers()));
  }
  /// Restores what save() wrote of memories made alike. Anything else is refused and changes nothing.
  error load(std::span<const std::byte> in) noexcept {
    byte_reader from(in);
    if (const error e = detail::take_save_header(from, magic, "matrix_memory")) return e;
    if (from.get<std::uint64_t>() != fingerprint())
      return error(errc::bad_input, "matrix_memory: saved state can't be used: it was made with another rule or shape");
    if (from.left() != values_.bytes())
      return error(errc::bad_input, "matrix_memory: saved state can't be used: its numbers have ", from.left(),
                   " bytes, needs ", values_.bytes());
    const auto bytes = from.take(values_.bytes());
    for (std::size_t i = 0; i < values_.size(); ++i)
      if (!is_finite(load_at<double>(bytes, i * sizeof(double))))
        return error(errc::bad_input, "matrix_memory: saved state can't be used: number ", i, " is not finite");
    for (std::size_t i = 0; i < values_.size(); ++i) values_[i] = load_at<double>(bytes, i * sizeof(double));
    return {};
  }

 private:
  static constexpr std::string_view magic = "msMATRIX";
  static constexpr std::size_t matrices = Rule::momentum ? 2 : 1;

  /// Where one worker's scratch holds what, in doubles.
  struct scratch_layout {
    std::size_t keys = 0;         ///< [n][dk] f(k) of n = chunk * steps writes
    std::size_t transposed = 0;   ///< [dk][n] the same
    std::size_t q = 0;            ///< [chunk][dk] f(q)
    std::size_t answer = 0;       ///< [dv]
    std::size_t written = 0;      ///< [n][dv] u
    std::size_t out = 0;          ///< [chunk][dv]
    std::size_t key_keys = 0;     ///< [n][n] f(k).f(k)
    std::size_t query_keys = 0;   ///< [chunk][n] f(q).f(k)
    std::size_t decays = 0;       ///< [n] of each write up to now
    std::size_t normalisers = 0;  ///< [n] f(k).z, then [chunk] f(q).z
    std::size_t size = 0;

    scratch_layout() = default;
    scratch_layout(const matrix_memory_shape& dims, int steps) noexcept {
      const std::size_t dk = to_size(dims.dk), dv = to_size(dims.dv), c = to_size(dims.chunk), n = c * to_size(steps);
      const auto line = [](std::size_t doubles) { return (doubles + 7) / 8 * 8; };
      transposed = keys + line(n * dk);
      q = transposed + line(n * dk);
      answer = q + line(c * dk);
      written = answer + line(dv);
      out = written + line(n * dv);
      key_keys = out + line(c * dv);
      query_keys = key_keys + line(n * n);
      decays = query_keys + line(c * n);
      normalisers = decays + line(n);
      size = normalisers + line(n + c);
    }
  };

  std::size_t matrix_size() const noexcept { return to_size(dims_.dk) * to_size(dims_.dv); }
  std::size_t head_size() const noexcept {
    return matrices * matrix_size() + (Rule::normalised ? to_size(dims_.dk) : 0);
  }
  std::size_t at(int head) const noexcept { return to_size(head) * head_size(); }
  double* matrix(int head) noexcept { return values_.data() + at(head); }
  std::uint64_t fingerprint() const noexcept {
    std::uint64_t h = 0;
    const auto add = [&](std::uint64_t word) { h = mix(h ^ word); };
    for (const char letter : Rule::name) add(static_cast<unsigned char>(letter));
    for (const int n : {dims_.heads, dims_.dk, dims_.dv, int{rule_.steps}}) add(static_cast<std::uint64_t>(n));
    for (const bool b : {bool{Rule::normalised}, bool{Rule::momentum}, Rule::feature::of(-1.0) < 0}) add(b ? 1 : 0);
    return h;
  }

  template <executor E, class F>
  void on_heads(E& exec, const F& f) noexcept {
    MULTISTATE_ASSERT(exec.workers() <= dims_.workers);
    exec(dims_.heads, [&](int head, int worker) { f(head, scratch_.data() + to_size(worker) * layout_.size); });
  }

  /// f of `count` vectors that lie `stride` floats apart, dense in doubles.
  void take_features(const float* from, std::size_t stride, std::size_t count, double* to) const noexcept {
    const std::size_t dk = to_size(dims_.dk);
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t j = 0; j < dk; ++j)
        to[i * dk + j] = Rule::feature::of(static_cast<double>(from[i * stride + j]));
  }
  void put(const double* from, double factor, float* to) const noexcept {
    for (std::size_t j = 0; j < to_size(dims_.dv); ++j) to[j] = static_cast<float>(factor * from[j]);
  }
  memory_update update(const memory_tokens<Rule>& t, int head, std::size_t write, int step) const noexcept {
    return rule_.update(t.gates == nullptr ? gates() : t.gates[write * to_size(dims_.heads) + to_size(head)], step);
  }
  static double dot(const double* x, const double* y, std::size_t n) noexcept {
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += x[i] * y[i];
    return sum;
  }
  /// 1 / normaliser; 0 where it is none, NaN where it is NaN.
  static double inverse(double normaliser) noexcept {
    return normaliser < (std::numeric_limits<double>::min)() ? 0.0 : 1.0 / normaliser;
  }
  /// What M'x is multiplied by.
  double factor(int head, const double* x) const noexcept {
    if constexpr (Rule::normalised)
      return inverse(dot(x, normaliser(head).data(), to_size(dims_.dk)));
    else
      return 1.0;
  }

  /// u [dv] from the value and what the memory answers for the key, of which `share` counts; `u` may be `answer`.
  void error_of(const float* v, const double* answer, double share, double rate, double* u) const noexcept {
    for (std::size_t j = 0; j < to_size(dims_.dv); ++j) u[j] = rate * (static_cast<double>(v[j]) - share * answer[j]);
  }
  void error_of(const float* v, double rate, double* u) const noexcept {
    for (std::size_t j = 0; j < to_size(dims_.dv); ++j) u[j] = rate * static_cast<double>(v[j]);
  }
  static bool recalls(const memory_update& u) noexcept { return u.recall < 0 || u.recall > 0; }

  /// M (and S, z) take x and u; where q is given, out [dv] is what it retrieves then.
  void take(int head, const memory_update& up, const double* x, const double* u, const double* q,
            double* out) noexcept {
    const std::size_t dk = to_size(dims_.dk), dv = to_size(dims_.dv);
    double* const m = matrix(head);
    if constexpr (Rule::normalised) {
      double* const z = m + matrices * matrix_size();
      for (std::size_t i = 0; i < dk; ++i) z[i] = up.decay * z[i] + x[i];
    }
    if constexpr (Rule::momentum) {
      Operations::add_with_momentum(m, m + matrix_size(), dk, dv, up.decay, up.carry, x, u);
      if (q != nullptr) Operations::read(m, dk, dv, q, out);
    } else if (q != nullptr) {
      Operations::add_and_read(m, dk, dv, up.decay, x, u, q, out);
    } else {
      Operations::add(m, dk, dv, up.decay, x, u);
    }
  }

  /// Step s of token i; retrieves behind the last one.
  void write(int head, const memory_tokens<Rule>& t, int i, int s, double* scratch) noexcept {
    const std::size_t dk = to_size(dims_.dk), dv = to_size(dims_.dv), heads = to_size(dims_.heads), h = to_size(head);
    const std::size_t w = to_size(i) * to_size(rule_.steps) + to_size(s);
    double *const x = scratch + layout_.keys, *const u = scratch + layout_.written;
    take_features(t.k + (w * heads + h) * dk, dk, 1, x);
    const memory_update up = update(t, head, w, s);
    const float* const v = t.v + (w * heads + h) * dv;
    if (recalls(up)) {
      Operations::read(matrix(head), dk, dv, x, u);
      error_of(v, u, up.recall * factor(head, x), up.rate, u);
    } else {
      error_of(v, up.rate, u);
    }
    const bool reads = t.q != nullptr && s + 1 == rule_.steps;
    double *const q = scratch + layout_.q, *const out = scratch + layout_.out;
    const std::size_t place = to_size(i) * heads + h;
    if (reads) take_features(t.q + place * dk, dk, 1, q);
    take(head, up, x, u, reads ? q : nullptr, out);
    if (reads) put(out, factor(head, q), t.out + place * dv);
  }

  void write_segment(int head, const memory_tokens<Rule>& t, double* scratch) noexcept {
    const std::size_t dk = to_size(dims_.dk), dv = to_size(dims_.dv), heads = to_size(dims_.heads), h = to_size(head);
    const std::size_t steps = to_size(rule_.steps), n = to_size(t.c) * steps;
    double *const x = scratch + layout_.keys, *const u = scratch + layout_.written;
    double *const q = scratch + layout_.q, *const out = scratch + layout_.out;
    take_features(t.k + h * dk, heads * dk, n, x);
    for (std::size_t i = 0; i < n * dv; ++i) u[i] = 0;
    Operations::multiply(u, n, dv, dk, x, dk, 1, matrix(head));
    for (std::size_t w = 0; w < n; ++w) {
      const memory_update up = update(t, head, w, static_cast<int>(w % steps));
      error_of(t.v + (w * heads + h) * dv, u + w * dv, up.recall * factor(head, x + w * dk), up.rate, u + w * dv);
    }
    for (std::size_t w = 0; w < n; ++w) {
      const bool reads = t.q != nullptr && (w + 1) % steps == 0;
      const std::size_t place = w / steps * heads + h;
      if (reads) take_features(t.q + place * dk, dk, 1, q);
      take(head, update(t, head, w, static_cast<int>(w % steps)), x + w * dk, u + w * dv, reads ? q : nullptr, out);
      if (reads) put(out, factor(head, q), t.out + place * dv);
    }
  }

  /// With g(i, j) = decay_j+1 ... decay_i the memory behind write i is M_i = g(i, -1) M + sum over j <= i of
  /// g(i, j) x_j u_j', so that its answers are those of M and products of keys.
  void write_chunk(int head, const memory_tokens<Rule>& t, double* scratch) noexcept {
    const std::size_t dk = to_size(dims_.dk), dv = to_size(dims_.dv), heads = to_size(dims_.heads), h = to_size(head);
    const std::size_t steps = to_size(rule_.steps), c = to_size(t.c), n = c * steps;
    double *const x = scratch + layout_.keys, *const xt = scratch + layout_.transposed, *const q = scratch + layout_.q,
                  *const answer = scratch + layout_.answer, *const u = scratch + layout_.written,
                  *const out = scratch + layout_.out, *const xx = scratch + layout_.key_keys,
                  *const qx = scratch + layout_.query_keys, *const g = scratch + layout_.decays,
                  *const xz = scratch + layout_.normalisers, *const qz = xz + n, *const m = matrix(head),
                  *const z = m + matrix_size();
    const auto zeros = [](double* to, std::size_t count) {
      for (std::size_t i = 0; i < count; ++i) to[i] = 0;
    };
    take_features(t.k + h * dk, heads * dk, n, x);
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < dk; ++j) xt[j * n + i] = x[i * dk + j];
    bool recalling = false;
    for (std::size_t w = 0; w < n; ++w) recalling |= recalls(update(t, head, w, static_cast<int>(w % steps)));
    if (recalling) {
      zeros(u, n * dv);
      Operations::multiply(u, n, dv, dk, x, dk, 1, m);
      zeros(xx, n * n);
      Operations::multiply(xx, n, n, dk, x, dk, 1, xt);
    }
    if (t.q != nullptr) {
      take_features(t.q + h * dk, heads * dk, c, q);
      zeros(qx, c * n);
      Operations::multiply(qx, c, n, dk, q, dk, 1, xt);
    }
    if constexpr (Rule::normalised) {
      for (std::size_t i = 0; i < n; ++i) xz[i] = dot(x + i * dk, z, dk);
      if (t.q != nullptr)
        for (std::size_t i = 0; i < c; ++i) qz[i] = dot(q + i * dk, z, dk);
    }

    double total = 1;  // g(w, -1); g[j] = g(w, j)
    for (std::size_t w = 0; w < n; ++w) {
      const memory_update up = update(t, head, w, static_cast<int>(w % steps));
      const float* const v = t.v + (w * heads + h) * dv;
      if (recalls(up)) {
        double* const with = xx + w * n;
        for (std::size_t j = 0; j < w; ++j) with[j] *= g[j];
        Operations::read(u, w, dv, with, answer);
        for (std::size_t j = 0; j < dv; ++j) answer[j] += total * u[w * dv + j];
        double share = up.recall;
        if constexpr (Rule::normalised) {
          double normaliser = total * xz[w];
          for (std::size_t j = 0; j < w; ++j) normaliser += with[j];
          share *= inverse(normaliser);
        }
        error_of(v, answer, share, up.rate, u + w * dv);
      } else {
        error_of(v, up.rate, u + w * dv);
      }
      total *= up.decay;
      for (std::size_t j = 0; j < w; ++j) g[j] *= up.decay;
      g[w] = 1;
      if (t.q != nullptr && (w + 1) % steps == 0) {
        const std::size_t i = w / steps;
        for (std::size_t j = 0; j < n; ++j) qx[i * n + j] = j <= w ? qx[i * n + j] * g[j] : 0.0;
        if constexpr (Rule::normalised) {
          qz[i] *= total;
          for (std::size_t j = 0; j <= w; ++j) qz[i] += qx[i * n + j];
        }
        for (std::size_t j = 0; j < dk; ++j) q[i * dk + j] *= total;
      }
    }

    if (t.q != nullptr) {
      zeros(out, c * dv);
      Operations::multiply(out, c, dv, dk, q, dk, 1, m);
      Operations::multiply(out, c, dv, n, qx, n, 1, u);
      for (std::size_t i = 0; i < c; ++i)
        put(out + i * dv, Rule::normalised ? inverse(qz[i]) : 1.0, t.out + (i * heads + h) * dv);
    }
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < dk; ++j) x[i * dk + j] *= g[i];
    if (total < 1 || total > 1)
      for (std::size_t i = 0; i < matrix_size(); ++i) m[i] *= total;
    Operations::multiply(m, dk, dv, n, x, 1, dk, u);
    if constexpr (Rule::normalised)
      for (std::size_t j = 0; j < dk; ++j) {
        z[j] *= total;
        for (std::size_t i = 0; i < n; ++i) z[j] += x[i * dk + j];
      }
  }

  matrix_memory_shape dims_;
  Rule rule_{};
  scratch_layout layout_;
  buffer<double> values_;   ///< [heads][M, S, z]
  buffer<double> scratch_;  ///< [workers]
};

}  // namespace multistate
