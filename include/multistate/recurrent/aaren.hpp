#pragma once

#include <cmath>
#include <cstddef>
#include <span>

#include <multistate/scan/element.hpp>
#include <multistate/types/error.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/util/assert.hpp>
#include <multistate/util/buffer.hpp>
#include <multistate/util/finite.hpp>

namespace multistate {

/// Attention as a recurrence (Aaren; Feng et al. 2024) of one layer of one sequence: the query is a parameter of the
/// layer and the same for every token, so that attention over all tokens so far is one scan_element a head. Numbers are
/// in double; their bytes never change.
class aaren {
 public:
  /// queries [H][dk], learned. Errors: a shape that makes no sense, another number of queries, one that is not finite;
  /// no memory.
  static result<aaren> make(const shape& dims, std::span<const float> queries) noexcept {
    if (dims.kv_heads < 1 || dims.heads < dims.kv_heads || dims.heads % dims.kv_heads != 0 || dims.heads > max_tokens ||
        dims.dk < 1 || dims.dk > max_tokens || dims.dv < 1 || dims.dv > max_tokens)
      return error(errc::bad_shape,
                   "aaren: needs kv_heads >= 1 dividing heads, dk >= 1 and dv >= 1; got heads=", dims.heads,
                   ", kv_heads=", dims.kv_heads, ", dk=", dims.dk, ", dv=", dims.dv);
    const std::size_t floats = to_size(dims.heads) * to_size(dims.dk);
    if (queries.size() != floats)
      return error(errc::bad_shape, "aaren: needs ", floats, " numbers as queries [", dims.heads, "][", dims.dk,
                   "]; got ", queries.size());
    for (const float x : queries)
      if (!is_finite(x)) return error(errc::bad_input, "aaren: a query holds a number that is not finite");
    aaren a;
    a.dims_ = dims;
    if (!a.queries_.allocate(floats) || !a.heads_.allocate(to_size(dims.heads)) ||
        !a.values_.allocate(to_size(dims.heads) * to_size(dims.dv)))
      return error(errc::out_of_memory, "aaren: no memory for ", dims.heads, " heads of ", dims.dk, " + ", dims.dv);
    for (std::size_t i = 0; i < floats; ++i) a.queries_[i] = queries[i];
    a.clear();
    return a;
  }

  const shape& dims() const noexcept { return dims_; }
  /// Bytes of the state.
  std::size_t bytes() const noexcept { return heads_.bytes() + values_.bytes(); }

  /// Attention over all tokens so far, by head; can be merged with that over others.
  scan_element<double> state(int head) noexcept {
    const numbers& n = heads_[to_size(head)];
    return {n.max, n.sum, values_.span(to_size(head) * to_size(dims_.dv), to_size(dims_.dv))};
  }

  /// Takes in one token: k [Hkv][dk], v [Hkv][dv]. out [H][dv] is the attention's output with it; null: not wanted.
  void step(const float* k, const float* v, float* out) noexcept {
    const std::size_t dk = to_size(dims_.dk), dv = to_size(dims_.dv), group = to_size(dims_.group());
    for (std::size_t h = 0; h < heads_.size(); ++h) {
      double logit = 0;
      for (std::size_t i = 0; i < dk; ++i)
        logit += static_cast<double>(queries_[h * dk + i]) * static_cast<double>(k[h / group * dk + i]);
      scan_element<double> e = state(static_cast<int>(h));
      add(e, logit / std::sqrt(static_cast<double>(dk)), v + h / group * dv);
      heads_[h] = {e.max, e.sum};
      if (out == nullptr) continue;
      for (std::size_t j = 0; j < dv; ++j) out[h * dv + j] = e.sum > 0 ? static_cast<float>(e.value[j] / e.sum) : 0.0f;
    }
  }

  void clear() noexcept {
    for (int h = 0; h < dims_.heads; ++h) {
      scan_element<double> e = state(h);
      scan_clear(e);
      heads_[to_size(h)] = {e.max, e.sum};
    }
  }
  /// A fork: becomes a copy that goes on independently, with its own queries. False, and nothing changed, when the
  /// shapes differ.
  bool copy_from(const aaren& other) noexcept {
    if (dims_ != other.dims_) return false;
    heads_.copy_from(other.heads_);
    values_.copy_from(other.values_);
    return true;
  }

 private:
  struct numbers {
    double max = 0, sum = 0;
  };

  /// scan_add() of a value in float.
  static void add(scan_element<double>& e, double logit, const float* v) noexcept {
    scan_add<double>(e, logit, {});  // all but the value
    const double weight = is_minus_infinity(logit) ? 0.0 : std::exp(logit - e.max);
    for (std::size_t j = 0; j < e.value.size(); ++j) e.value[j] += weight * static_cast<double>(v[j]);
  }

  shape dims_;
  buffer<float> queries_;  ///< [H][dk]
  buffer<numbers> heads_;  ///< [H]
  buffer<double> values_;  ///< [H][dv]
};

}  // namespace multistate
