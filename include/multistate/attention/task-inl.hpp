// Attention of one task, with one thread or several that share its parts.

#if defined(MULTISTATE_ATTENTION_TASK_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_ATTENTION_TASK_INL_HPP_
#undef MULTISTATE_ATTENTION_TASK_INL_HPP_
#else
#define MULTISTATE_ATTENTION_TASK_INL_HPP_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include <multistate/attention/blocks-inl.hpp>
#include <multistate/attention/dots-inl.hpp>
#include <multistate/attention/elements-inl.hpp>
#include <multistate/attention/options.hpp>
#include <multistate/attention/softmax-inl.hpp>
#include <multistate/attention/values-inl.hpp>
#include <multistate/rope/log_positions.hpp>
#include <multistate/scan/element.hpp>
#include <multistate/format/element.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/shape.hpp>
#include <multistate/types/task.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {
namespace detail {

/// Turns x [dk] in place; it was copied from the un-rotated vector just before. cos_sin [2][pairs].
HWY_INLINE void rotate(const rope_config& config, const float* HWY_RESTRICT cos_sin, float* HWY_RESTRICT x) {
  const auto pairs = static_cast<std::size_t>(config.dim) / 2;
  const float* c = cos_sin;
  const float* s = cos_sin + pairs;
  if (config.pairing == rope_pairing::adjacent) {
    for (std::size_t i = 0; i < pairs; ++i) {
      const float a = x[2 * i];
      const float b = x[2 * i + 1];
      x[2 * i] = a * c[i] - b * s[i];
      x[2 * i + 1] = b * c[i] + a * s[i];
    }
    return;
  }
  const lanes_tag d;
  const std::size_t N = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + N <= pairs; i += N) {
    const lanes a = hn::LoadU(d, x + i);
    const lanes b = hn::LoadU(d, x + pairs + i);
    const lanes cosine = hn::LoadU(d, c + i);
    const lanes sine = hn::LoadU(d, s + i);
    hn::StoreU(hn::Sub(hn::Mul(a, cosine), hn::Mul(b, sine)), d, x + i);
    hn::StoreU(hn::MulAdd(b, cosine, hn::Mul(a, sine)), d, x + pairs + i);
  }
  for (; i < pairs; ++i) {
    const float a = x[i];
    const float b = x[pairs + i];
    x[i] = a * c[i] - b * s[i];
    x[pairs + i] = b * c[i] + a * s[i];
  }
}

/// What a call asks for; the same for all its tasks.
struct attend_call {
  std::span<const attention_task> tasks;
  const shape& dims;
  const attention_options& options;
  const attention_layout& layout;
  needs rows;  ///< rows_given()
  float* scratch;

  float* worker_scratch(std::size_t worker) const noexcept { return scratch + worker * layout.floats; }
};

/// One attention_task. Its states are worked on in parts, each with a softmax of its own; merging the parts in order
/// (scan) gives the same bits whoever worked on them, and token j of a chunk gets what a call of its own would give.
template <class KeyFormat, class ValueFormat>
class task_attender {
 public:
  /// `mine`: this worker's scratch; `shared`: where the parts of the task meet, the same when no other works on it.
  task_attender(const attend_call& call, std::size_t task, float* mine, float* shared) noexcept
      : task_(call.tasks[task]),
        following_(task + 1 < call.tasks.size() ? &call.tasks[task + 1] : nullptr),
        dims_(call.dims),
        options_(call.options),
        rotation_(call.options.rotation()),
        rows_(call.rows),
        sums_apart_(any(call.rows & needs::row_sum) && call.rows != needs::row_sum),
        recorded_(static_cast<std::size_t>(row_queries(call.rows, task_))),
        n_(static_cast<std::size_t>(task_.kv.n)),
        queries_(static_cast<std::size_t>(task_.queries)),
        group_(static_cast<std::size_t>(call.dims.group())),
        dk_(static_cast<std::size_t>(call.dims.dk)),
        dv_(static_cast<std::size_t>(call.dims.dv)),
        dk_stride_(padded(dk_)),
        dv_stride_(padded(dv_)),
        stride_(call.layout.stride),
        partial_size_(call.layout.partial_size),
        scale_(attention_scale(call.options, call.dims)),
        queries_at_(mine + call.layout.queries),
        rounded_(reinterpret_cast<std::int16_t*>(mine + call.layout.rounded)),
        steps_(mine + call.layout.steps),
        unpacked_(mine + call.layout.unpacked),
        scaled_(mine + call.layout.scaled),
        weights_(shared + call.layout.weights),
        partials_(shared + call.layout.partials),
        maxima_(shared + call.layout.maxima),
        totals_(shared + call.layout.totals),
        running_(reinterpret_cast<scan_part<float>*>(mine + call.layout.running)),
        index_(reinterpret_cast<std::uint32_t*>(mine + call.layout.index)),
        sums_(reinterpret_cast<double*>(mine + call.layout.sums)),
        places_(reinterpret_cast<double*>(mine + call.layout.places)),
        angles_(mine + call.layout.angles) {}

  /// All of it.
  void run() noexcept {
    find_places();
    if (sums_rows()) std::fill(sums_, sums_ + planes() * n_, 0.0);
    const std::size_t together = attention_tokens(static_cast<int>(group_), task_.queries);
    position oldest = 0;
    if (options_.window > 0)
      oldest = *std::min_element(task_.kv.positions.begin(), task_.kv.positions.begin() + task_.kv.n);
    for (std::size_t j = 0, tokens = 0; j < queries_; j += tokens) {
      tokens = (std::min)(together, queries_ - j);
      // Tokens of a pass share its parts; alone each would have had as many.
      while (attention_parts(causal(j)) != attention_parts(causal(j + tokens - 1))) --tokens;
      if (options_.window > 0 && oldest <= own(j + tokens - 1) - options_.window) {
        for (std::size_t i = 0; i < tokens; ++i) pass(j + i, 1, true);
      } else {
        pass(j, tokens, false);
      }
    }
    if (!sums_rows()) return;
    for (std::size_t g = 0; g < planes(); ++g)
      for (std::size_t s = 0; s < n_; ++s) sum_row(g)[s] = static_cast<float>(sums_[g * n_ + s]);
  }

  /// Of a single token without a window mask: one part, to be merged later.
  void run_part(std::size_t part) noexcept {
    find_places();
    begin(0, 1, n_, false);
    keeps_ = true;
    prepare(0, 1);
    stream blocks(task_, nullptr, nullptr, n_, part, dims_);
    work_on(part, blocks, partials_ + part * partial_size_);
  }
  void merge_parts() noexcept {
    begin(0, 1, n_, false);
    keeps_ = true;
    open_outs();
    for (std::size_t part = 0; part < attention_parts(n_); ++part) merge(part, partials_ + part * partial_size_);
    finish();
  }

 private:
  using stream = block_stream<KeyFormat, ValueFormat>;
  static constexpr std::size_t block_rows = rows_of_block<KeyFormat, ValueFormat>;
  static constexpr bool whole_keys = std::is_same_v<KeyFormat, i8>;  ///< stay so, unless they must be turned
  bool rounds_queries() const noexcept { return whole_keys && rotation_ == nullptr; }

  position own(std::size_t j) const noexcept { return task_.first + static_cast<position>(j); }
  std::size_t causal(std::size_t j) const noexcept { return n_ - queries_ + j + 1; }
  std::size_t slot_of(std::size_t i) const noexcept { return listed_ ? index_[i] : i; }
  /// Whether a sum over several queries is taken; that of one query is its row.
  bool sums_rows() const noexcept { return any(rows_ & needs::row_sum) && queries_ > 1; }
  /// Rows that one query has: one, or one for each query head.
  std::size_t planes() const noexcept { return task_.head_stride == 0 ? 1 : group_; }
  float* sum_row(std::size_t plane) const noexcept {
    return (sums_apart_ ? task_.sum : task_.row) + plane * task_.head_stride;
  }
  std::size_t length(std::size_t j) const noexcept { return listed_ ? seen_ : causal(first_ + j); }
  float* out(std::size_t column) const noexcept {
    return task_.out + (first_ + column / group_) * task_.out_stride + column % group_ * dv_;
  }
  /// Weights of one column for the states from `at` on: kept to the end only where a row is made of them.
  float* weights(std::size_t column, std::size_t at) const noexcept {
    return weights_ + column * stride_ + (keeps_ ? at : 0);
  }

  /// Tokens [first, first + tokens). Hiding: one token, whose window hides some states; these are not even read.
  void pass(std::size_t first, std::size_t tokens, bool hiding) noexcept {
    prepare(first, tokens);
    begin(first, tokens, causal(first + tokens - 1), hiding);
    if (hiding) list_seen();
    open_outs();
    stream blocks(task_, first + tokens == queries_ ? following_ : nullptr, listed_ ? index_ : nullptr, seen_, 0,
                  dims_);
    for (std::size_t part = 0; part < attention_parts(seen_); ++part) {
      work_on(part, blocks, partials_);
      merge(part, partials_);
    }
    finish();
  }

  void begin(std::size_t first, std::size_t tokens, std::size_t seen, bool hiding) noexcept {
    first_ = first;
    tokens_ = tokens;
    columns_ = tokens * group_;
    seen_ = seen;
    listed_ = hiding;
    keeps_ = any(rows_ & needs::row_sum) || first + tokens > queries_ - recorded_;
  }

  /// index_ [seen_] = the slots that a window lets through.
  void list_seen() noexcept {
    const std::size_t end = seen_;
    seen_ = 0;
    for (std::size_t s = 0; s < end; ++s) {
      index_[seen_] = static_cast<std::uint32_t>(s);
      seen_ += task_.kv.positions[s] > own(first_) - options_.window ? 1u : 0u;
    }
  }

  /// queries_at_ [tokens * G][dk_stride], or rounded_ and steps_
  void prepare(std::size_t first, std::size_t tokens) noexcept {
    for (std::size_t c = 0; c < tokens * group_; ++c) {
      const std::size_t j = first + c / group_;
      float* q = queries_at_ + c * dk_stride_;
      std::memcpy(q, task_.q + j * task_.q_stride + c % group_ * dk_, dk_ * sizeof(float));
      std::fill(q + dk_, q + dk_stride_, 0.0f);
      if (rotation_ != nullptr) rotate(rotation_->config(), angles_of(causal(j) - 1), q);
      if (rounds_queries())
        steps_[c] = round_query(q, dk_, scale_, rounded_ + c * rounded_stride(dk_));
      else
        prepare_query(q, dk_, scale_);
    }
  }

  /// places_ [n]
  void find_places() noexcept {
    if (options_.log != nullptr) log_positions(task_.kv.positions, task_.kv.ranks, {places_, n_});
  }

  /// Of an un-rotated key or query, [2][pairs]; valid until the next call.
  const float* angles_of(std::size_t rank) noexcept {
    if (options_.in_cache != nullptr) return options_.in_cache->row(rank);
    options_.log->angles(places_[rank], angles_);
    return angles_;
  }

  // ---- one part -----------------------------------------------------------------------------------------------------

  /// maxima_, totals_ and partial [columns][dv_stride] of one part, and its weights.
  void work_on(std::size_t part, stream& blocks, float* partial) noexcept {
    const std::size_t begin = part * attention_part;
    const std::size_t end = part_end(part, seen_);
    for (std::size_t at = begin; at < end; at += block_rows) {
      const row_list& keys = blocks.take();
      dot_block(at, {keys.rows, keys.count}, blocks.newest(), weights(0, begin) + (at - begin));
    }
    soften_part(part, begin, end);

    // What all tokens see in common, in whole blocks; then each token its own end, so that no token multiplies the
    // value of a later one, not even with 0.
    const std::size_t common = tokens_ == 1 ? end : (std::min)(length(0) / block_rows * block_rows, end);
    for (std::size_t at = begin; at < end; at += block_rows) {
      const row_list& values = blocks.take();
      if (at < common)
        value_block({values.rows, values.count}, blocks.newest(), weights(0, begin) + (at - begin), columns_, partial,
                    at == begin);
    }
    if (common == end) return;
    for (std::size_t j = 0; j < tokens_; ++j) {
      extent_rows values = values_of(task_);
      row_list list;
      for (std::size_t at = common; at < (std::min)(end, length(j)); at += block_rows) {
        values.list<block_rows>(at, (std::min)(end, length(j)), nullptr, list);
        value_block({list.rows, list.count}, list.rows[0], weights(j * group_, begin) + (at - begin), group_,
                    partial + j * group_ * dv_stride_, at == begin);
      }
    }
  }

  /// Whether a block is worth being made floats first: it is read by more than two tiles of queries.
  template <class Format>
  static constexpr bool unpacks(std::size_t columns) noexcept {
    return !std::is_same_v<Format, f32> && columns > 8;
  }
  static constexpr bool unpacks_keys(std::size_t columns) noexcept {
    return !whole_keys && unpacks<KeyFormat>(columns);
  }

  /// logits [columns][stride] of the block that begins at entry `at`, while the rows from `next` on are fetched.
  void dot_block(std::size_t at, const row_block& block, const std::byte* next, float* logits) noexcept {
    const row_fetcher<KeyFormat> fetcher(next);
    [[maybe_unused]] HWY_ALIGN float scales[block_rows];  // early: vectors are read of what is stored one by one
    if constexpr (is_scaled<KeyFormat>) row_scales<KeyFormat>(block, dk_, scales);
    if (rotation_ != nullptr || unpacks_keys(columns_)) {
      row_list floats;
      unpack_block<KeyFormat>(block, dk_, dk_stride_, floats);
      if (rotation_ != nullptr)
        for (std::size_t i = 0; i < block.count; ++i)
          rotate(rotation_->config(), angles_of(task_.kv.ranks[slot_of(at + i)]), unpacked_ + i * dk_stride_);
      dot_columns<f32>(queries_at_, dk_stride_, columns_, {floats.rows, block.count}, fetcher, dk_, logits, stride_);
      if constexpr (is_scaled<KeyFormat>)
        for (std::size_t c = 0; c < columns_; ++c) multiply(logits + c * stride_, scales, logits + c * stride_);
    } else if constexpr (whole_keys) {
      dot_columns<KeyFormat>(rounded_, rounded_stride(dk_), columns_, block, fetcher, dk_, logits, stride_);
      for (std::size_t c = 0; c < columns_; ++c) to_floats(logits + c * stride_, scales, steps_[c]);
    } else {
      static_assert(!is_scaled<KeyFormat>);
      dot_columns<KeyFormat>(queries_at_, dk_stride_, columns_, block, fetcher, dk_, logits, stride_);
    }
  }

  /// partial [columns][dv_stride] (+)= weights x values of the block.
  void value_block(const row_block& block, const std::byte* next, const float* p, std::size_t columns, float* partial,
                   bool first) noexcept {
    const row_fetcher<ValueFormat> fetcher(next);
    std::size_t p_stride = stride_;
    if constexpr (is_scaled<ValueFormat>) {
      HWY_ALIGN float scales[block_rows];
      row_scales<ValueFormat>(block, dv_, scales);
      for (std::size_t c = 0; c < columns; ++c) multiply(p + c * p_stride, scales, scaled_ + c * block_rows);
      p = scaled_;
      p_stride = block_rows;
    }
    if (unpacks<ValueFormat>(columns)) {
      row_list floats;
      unpack_block<ValueFormat>(block, dv_, dv_stride_, floats);
      weigh_rows<f32>({floats.rows, block.count}, fetcher, p, p_stride, columns, partial, dv_stride_, dv_, first);
    } else {
      weigh_rows<ValueFormat>(block, fetcher, p, p_stride, columns, partial, dv_stride_, dv_, first);
    }
  }

  /// The block as floats, without its rows' scales.
  template <class Format>
  void unpack_block(const row_block& block, std::size_t n, std::size_t stride, row_list& floats) noexcept {
    for (std::size_t i = 0; i < block_rows; ++i) {
      const std::size_t row = (std::min)(i, block.count - 1);
      floats.rows[i] = reinterpret_cast<const std::byte*>(unpacked_ + row * stride);
      if (i < block.count) unpack<Format>(block.rows[i], n, unpacked_ + i * stride);
    }
  }

  template <class Format>
  static void row_scales(const row_block& block, std::size_t n, float* scales) noexcept {
    for (std::size_t i = 0; i < block_rows; ++i) scales[i] = row_scale<Format>(block.rows[i], n);
  }
  /// Of block_rows floats.
  static HWY_INLINE void multiply(const float* a, const float* b, float* to) noexcept {
    const lanes_tag d;
    for (std::size_t i = 0; i < block_rows; i += hn::Lanes(d))
      hn::StoreU(hn::Mul(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, to + i);
  }

  /// Sums of whole numbers to logits: x [block_rows] times scales times step.
  static HWY_INLINE void to_floats(float* x, const float* scales, float step) noexcept {
    const lanes_tag d;
    for (std::size_t i = 0; i < block_rows; i += hn::Lanes(d)) {
      const lanes sums = hn::ConvertTo(d, hn::BitCast(whole_tag(), hn::LoadU(d, x + i)));
      hn::StoreU(hn::Mul(sums, hn::Mul(hn::LoadU(d, scales + i), hn::Set(d, step))), d, x + i);
    }
  }

  /// The part's logits to weights.
  void soften_part(std::size_t part, std::size_t begin, std::size_t end) noexcept {
    const bool bends = options_.softcap > 0.0f || !options_.alibi.empty();
    for (std::size_t c = 0; c < columns_;) {
      const std::size_t token = c / group_;
      const std::size_t count = (std::min)(length(token), end) - begin;
      const bool four = c % group_ + 4 <= group_;
      scan_part<float> made[4];
      if (bends)
        for (std::size_t i = 0; i < (four ? 4 : 1); ++i) bend(c + i, begin, count);
      float* x = weights(c, begin);
      if (four)
        soften_four(x, stride_, count, made);
      else
        made[0] = soften(x, count);
      for (std::size_t i = 0; i < (four ? 4 : 1); ++i, ++c) {
        maxima_[part * columns_ + c] = made[i].max;
        totals_[part * columns_ + c] = made[i].sum;
      }
    }
  }
  /// Soft cap and ALiBi.
  void bend(std::size_t c, std::size_t begin, std::size_t count) noexcept {
    float* x = weights(c, begin);
    if (options_.softcap > 0.0f) cap_logits(x, count, options_.softcap);
    if (options_.alibi.empty()) return;
    const float slope = options_.alibi[static_cast<std::size_t>(task_.kv_head) * group_ + c % group_];
    for (std::size_t i = 0; i < count; ++i)
      x[i] -= slope * static_cast<float>(own(first_ + c / group_) - task_.kv.positions[slot_of(begin + i)]);
  }

  // ---- all parts ----------------------------------------------------------------------------------------------------

  float sink(std::size_t column) const noexcept {
    return options_.sink_logits[static_cast<std::size_t>(task_.kv_head) * group_ + column % group_];
  }

  /// Attention over no states, or over the learned sink, whose value is zero.
  void open_outs() noexcept {
    for (std::size_t c = 0; c < columns_; ++c) {
      std::fill_n(out(c), dv_, 0.0f);
      running_[c] = options_.sink_logits.empty() ? scan_part<float>{0.0f, 0.0f} : scan_part<float>{sink(c), 1.0f};
    }
  }

  /// scan_merge of a part into the outs.
  void merge(std::size_t part, const float* partial) noexcept {
    for (std::size_t c = 0; c < columns_; ++c) {
      scan_part<float>& all = running_[c];
      const scan_part<float> more = {maxima_[part * columns_ + c], totals_[part * columns_ + c]};
      if (more.sum <= 0.0f) continue;
      const scan_factors<float> by = scan_rule(all, more);
      blend(out(c), by.into, partial + c * dv_stride_, by.from, dv_);
      all = {by.max, all.sum * by.into + more.sum * by.from};
    }
  }

  /// The outs are divided by the sum of weights, and rows are delivered.
  void finish() noexcept {
    for (std::size_t c = 0; c < columns_; ++c) {
      if (seen_ == 0) continue;  // zeros
      const float inverse = 1.0f / running_[c].sum;
      scale_all(out(c), dv_, inverse);
      if (rows_ == needs::nothing) continue;
      for (std::size_t part = 0; part < attention_parts(seen_); ++part) {
        const std::size_t at = part * columns_ + c;
        const float below = maxima_[at] - running_[c].max;
        const float factor = below >= 0.0f ? 1.0f : std::exp(below);  // most caches have one part or two
        maxima_[at] = (totals_[at] <= 0.0f ? 0.0f : factor) * inverse;
      }
    }
    if (rows_ == needs::nothing) return;
    const std::size_t unrecorded = queries_ - recorded_;
    for (std::size_t j = 0; j < tokens_; ++j)
      for (std::size_t plane = 0; plane < planes(); ++plane) {
        if (first_ + j >= unrecorded)
          write_row(j, plane, task_.row + (first_ + j - unrecorded) * task_.row_stride + plane * task_.head_stride);
        if (sums_rows())
          write_row(j, plane, nullptr);
        else if (any(rows_ & needs::row_sum))
          write_row(j, plane, sum_row(plane));
      }
  }

  /// The weights of token j of the pass, of the group or of its head `plane`: to `row`, or null: to the sum.
  void write_row(std::size_t j, std::size_t plane, float* row) noexcept {
    const std::size_t seen = length(j);
    const bool adds = row == nullptr;
    const std::size_t heads = task_.head_stride == 0 ? group_ : 1;
    const double share =
        adds && task_.decay < 1.0 ? std::pow(task_.decay, static_cast<double>(queries_ - 1 - first_ - j)) : 1.0;
    if (!adds) std::fill(row + (listed_ ? 0 : seen), row + n_, 0.0f);
    for (std::size_t part = 0; part < attention_parts(seen); ++part) {
      const std::size_t begin = part * attention_part;
      const std::size_t count = part_end(part, seen) - begin;
      const float* w = weights(j * group_ + plane, begin);
      const float* factors = maxima_ + part * columns_ + j * group_ + plane;
      if (!adds && !listed_) {
        sum_heads(w, stride_, factors, heads, count, row + begin);
        continue;
      }
      HWY_ALIGN float sums[largest_part];
      sum_heads(w, stride_, factors, heads, count, sums);
      for (std::size_t i = 0; i < count; ++i) {
        const std::size_t s = slot_of(begin + i);
        if (adds)
          sums_[plane * n_ + s] += share * static_cast<double>(sums[i]);
        else
          row[s] = sums[i];
      }
    }
  }

  const attention_task& task_;
  const attention_task* following_;
  const shape& dims_;
  const attention_options& options_;
  const rope* rotation_;  // null: keys and queries come rotated
  needs rows_;
  bool sums_apart_;       // the sum is beside rows of some queries
  std::size_t recorded_;  // of the newest queries, each with a row
  std::size_t n_, queries_, group_, dk_, dv_;
  std::size_t dk_stride_;  // floats from one query or unpacked key to the next
  std::size_t dv_stride_;  // floats from one column's part of the outs to the next
  std::size_t stride_;     // floats from one column's weights to the next
  std::size_t partial_size_;
  float scale_;
  float* queries_at_;  // as attention_layout tells, and so are the others
  std::int16_t* rounded_;
  float* steps_;
  float* unpacked_;
  float* scaled_;
  float* weights_;
  float* partials_;
  float* maxima_;
  float* totals_;
  scan_part<float>* running_;
  std::uint32_t* index_;
  double* sums_;
  double* places_;
  float* angles_;

  // Of the pass.
  std::size_t first_ = 0, tokens_ = 0, columns_ = 0;
  std::size_t seen_ = 0;  // states, or entries of index_ while listed_
  bool listed_ = false;
  bool keeps_ = false;  // weights of all parts
};

}  // namespace detail
}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_ATTENTION_TASK_INL_HPP_
