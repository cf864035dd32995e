// The reference decoder, compiled once for each SIMD target that includes it. Ordinary users include decoder.hpp.

#if defined(MULTISTATE_MODEL_DECODER_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef MULTISTATE_MODEL_DECODER_INL_HPP_
#undef MULTISTATE_MODEL_DECODER_INL_HPP_
#else
#define MULTISTATE_MODEL_DECODER_INL_HPP_
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <multistate/util/executor.hpp>
#include <multistate/model/batch.hpp>
#include <multistate/model/block-inl.hpp>
#include <multistate/model/linear-inl.hpp>
#include <multistate/model/model_view.hpp>
#include <multistate/model/product_mode.hpp>
#include <multistate/model/weights.hpp>
#include <multistate/rope/rope.hpp>
#include <multistate/util/buffer.hpp>
#include <multistate/types/error.hpp>

HWY_BEFORE_NAMESPACE();
namespace multistate {
namespace HWY_NAMESPACE {

/// Decoder-only transformer, as its model_config says, over weights and memories of the caller's. A batch goes through
/// each matrix at once; what comes out for a sequence has the same bits as if it were alone, for any executor.
template <executor E = serial>
class decoder {
 public:
  /// `weights` and `exec` must outlive it; `max_tokens` is the most that one forward() takes, all sequences together.
  /// `products`: how blocks of whole numbers are multiplied. Errors: sizes that do not fit the config.
  static result<decoder> make(const model_weights& weights, int max_tokens, E& exec,
                              product_mode products = product_mode::exact) {
    if (error e = multistate::check(weights)) return e;
    return make(view_of(weights), max_tokens, exec, products);
  }
  /// The same over matrices of any format. Precondition: their sizes fit the config.
  static result<decoder> make(model_view model, int max_tokens, E& exec, product_mode products = product_mode::exact) {
    if (max_tokens < 1 || max_tokens > multistate::max_tokens)
      return error(errc::bad_limits, "decoder: max_tokens must be 1 to 2^28; got ", max_tokens);
    decoder d(std::move(model), exec);
    const model_config& c = d.config();
    for (int layer = 0; layer < c.layers; ++layer)
      if (error e = d.add_rope(c.rope_of(layer))) return e;
    const std::size_t n = to_size(max_tokens);
    const bool enough = d.x_.allocate(n * to_size(c.hidden)) && d.normed_.allocate(n * to_size(c.hidden)) &&
                        d.branch_.allocate(n * to_size(c.hidden)) && d.q_.allocate(n * d.query_floats()) &&
                        d.k_.allocate(n * d.key_floats()) && d.rotated_.allocate(n * d.key_floats()) &&
                        d.v_.allocate(n * d.key_floats()) && d.attended_.allocate(n * d.query_floats()) &&
                        d.gate_.allocate(n * to_size(c.ffn)) && d.up_.allocate(n * to_size(c.ffn)) &&
                        d.angles_.allocate(n * d.all_angles()) && d.place_.allocate(n) && d.first_.allocate(n) &&
                        d.logits_.allocate(n) &&
                        (products == product_mode::exact || d.rounded_.allocate(n, d.widest()));
    if (!enough) return error(errc::out_of_memory, "decoder: no memory for ", max_tokens, " tokens at once");
    d.max_tokens_ = max_tokens;
    d.products_ = products;
    return d;
  }
  template <class Model>
  static result<decoder> make(const Model& model, int max_tokens, product_mode products = product_mode::exact)
    requires std::is_same_v<E, serial>
  {
    static serial one_after_another;
    return make(model, max_tokens, one_after_another, products);
  }

  const model_config& config() const noexcept { return model_.config; }
  int max_tokens() const noexcept { return max_tokens_; }

  /// Scratch for working on `memory`; forward() does it where it is still missing, and then only allocates.
  error reserve(const sequence_memory& memory) noexcept {
    const std::size_t bytes = (memory.scratch_bytes() + line - 1) / line * line;
    if (bytes <= scratch_bytes_) return {};
    if (!scratch_.allocate(bytes * to_size(exec_->workers())))
      return error(errc::out_of_memory, "decoder: no memory for scratch");
    scratch_bytes_ = bytes;
    return {};
  }

  /// The next tokens of each item, through all layers. An error says which item can't be run, and nothing has changed;
  /// errc::overflow, that it was run and its memory is of no use before reset(): a state became infinite in its format.
  /// Precondition: no memory is in the batch twice.
  [[nodiscard]] error forward(std::span<const batch_item> batch) noexcept {
    if (error e = enter(batch)) return e;
    const model_config& c = config();
    for (int layer = 0; layer < c.layers; ++layer) {
      const layer_view& w = model_.layers[to_size(layer)];
      const buffer<float>& seen = norm(w.attention_norm);
      project(w.q, seen, c.hidden, q_, query_floats());
      project(w.k, seen, c.hidden, k_, key_floats());
      project(w.v, seen, c.hidden, v_, key_floats());
      each_token([this, &batch, &w, layer](std::size_t t) HWY_ATTR { finish_queries(batch, w, layer, t); });
      attend(batch, layer);
      add_branch(w.o, attended_, static_cast<int>(query_floats()), w.o_bias, w.attention_post_norm);
      const buffer<float>& stream = norm(w.ffn_norm);
      project(w.gate, stream, c.hidden, gate_, to_size(c.ffn));
      project(w.up, stream, c.hidden, up_, to_size(c.ffn));
      each_token([this, &c, &w](std::size_t t) HWY_ATTR {
        const std::size_t ffn = to_size(c.ffn);
        add_bias(w.gate_bias, gate_, t, ffn);
        add_bias(w.up_bias, up_, t, ffn);
        activate(c.gate, gate_.data() + t * ffn, up_.data() + t * ffn, ffn);
      });
      add_branch(w.down, gate_, c.ffn, w.down_bias, w.ffn_post_norm);
    }
    logits(batch);
    for (std::size_t i = 0; i < batch.size(); ++i)
      if (error e = check_overflow(batch[i], i)) return e;
    return {};
  }

  /// Reads a prompt of any length: `chunk` tokens at a time when chunked. `logits` as in batch_item.
  [[nodiscard]] error prompt(sequence_memory& memory, std::span<const int> tokens, prompt_mode mode, int chunk,
                             logit_rows want = logit_rows::none, float* logits = nullptr) noexcept {
    if (mode == prompt_mode::chunked && chunk < 1)
      return error(errc::bad_limits, "prompt: a chunk has at least 1 token; got ", chunk);
    const bool whole = mode == prompt_mode::one_shot;
    const int piece = whole                          ? static_cast<int>(tokens.size())
                      : mode == prompt_mode::chunked ? chunk
                      : memory.one_by_one()          ? max_tokens_
                                                     : 1;
    for (std::size_t done = 0; done < tokens.size();) {
      const std::size_t count = std::min(tokens.size() - done, to_size(piece));
      batch_item item{&memory, tokens.subspan(done, count)};
      item.mode = whole                          ? attend_mode::one_shot
                  : mode == prompt_mode::chunked ? attend_mode::together
                                                 : attend_mode::one_by_one;
      item.when = done + count == tokens.size() ? phase::prompt_end : phase::prompt;
      item.want = want == logit_rows::last && item.when != phase::prompt_end ? logit_rows::none : want;
      item.logits = want == logit_rows::all ? logits + done * to_size(config().vocab) : logits;
      if (error e = forward({&item, 1})) return e;
      done += count;
    }
    return {};
  }

 private:
  static constexpr std::size_t line = 64;

  decoder(model_view&& model, E& exec) noexcept : model_(std::move(model)), exec_(&exec) {}

  /// The angles of the next layer, which may be those of another one.
  error add_rope(const rope_config& config) {
    std::size_t at = 0;
    while (at < ropes_.size() && !(ropes_[at].config() == config)) ++at;
    rope_of_.push_back(at);
    if (at < ropes_.size()) return {};
    auto made = rope::make(config);
    if (!made) return made.reason();
    ropes_.push_back(std::move(*made));
    return {};
  }
  /// Floats of one token's angles by all ropes, which turn as many elements.
  std::size_t all_angles() const noexcept { return ropes_.size() * ropes_[0].angle_floats(); }

  std::size_t query_floats() const noexcept { return to_size(config().heads) * to_size(config().head_dim); }
  std::size_t key_floats() const noexcept { return to_size(config().kv_heads) * to_size(config().head_dim); }

  /// The longest vector that a matrix is multiplied with.
  std::size_t widest() const noexcept {
    return std::max({to_size(config().hidden), query_floats(), to_size(config().ffn)});
  }

  static error check_overflow(const batch_item& item, std::size_t at) noexcept {
    using namespace std::string_view_literals;
    const auto overflow = item.memory->overflowed();
    return overflow ? error(errc::overflow, "batch item "sv, at, ": "sv, overflow->reason().message()) : error();
  }

  /// What keeps an item from being run.
  error check(const batch_item& item, std::size_t at) const noexcept {
    using namespace std::string_view_literals;
    const model_config& c = config();
    const auto bad = [at](const auto&... parts) {
      return error(errc::bad_input, "batch item "sv, at, ": "sv, parts...);
    };
    if (item.memory == nullptr) return bad("has no memory"sv);
    const sequence_memory& m = *item.memory;
    if (!(m.dims() == c.attention_shape()) || m.layers() != c.layers)
      return bad("its memory was made for another model"sv);
    if (item.tokens.empty()) return bad("has no tokens"sv);
    for (const int token : item.tokens)
      if (token < 0 || token >= c.vocab) return bad("token "sv, token, " is not in the vocabulary of "sv, c.vocab);
    if (item.want != logit_rows::none && item.logits == nullptr) return bad("wants logits but says not where"sv);
    if (m.overflowed()) return check_overflow(item, at);
    if (m.held()) return bad("its memory waits for reduce(accepted)"sv);
    const auto tokens = item.tokens.size();
    if (m.most_tokens() >= 0 && static_cast<position>(tokens) > m.most_tokens() - m.next_position())
      return bad("its memory drops nothing and was made for "sv, m.most_tokens(), " tokens"sv);
    if (item.mode == attend_mode::one_by_one && tokens > 1 && !m.one_by_one())
      return bad("at scope model tokens come in calls of one; got "sv, tokens);
    if (item.mode == attend_mode::one_shot && m.next_position() != 0)
      return bad("a one-shot prompt needs an empty memory"sv);
    for (int l = 0; l < m.layers(); ++l) {
      const limits& room = m.room(l);
      const int most = item.mode == attend_mode::one_by_one ? max_tokens_
                       : item.mode == attend_mode::one_shot ? room.prompt
                       : item.mode == attend_mode::held     ? room.hold
                                                            : room.chunk;
      if (tokens > to_size(most))
        return bad(tokens, " tokens do not fit its memory's limits: chunk="sv, room.chunk, ", hold="sv, room.hold,
                   ", prompt="sv, room.prompt);
    }
    return {};
  }

  /// What keeps item `at` from being the same as another one.
  static error check_same(std::span<const batch_item> batch, std::size_t at) noexcept {
    using namespace std::string_view_literals;
    const batch_item& item = batch[at];
    const auto bad = [&](std::string_view why) {
      return error(errc::bad_input, "batch item "sv, at, ", the same as item "sv, item.same_as, ": "sv, why);
    };
    if (to_size(item.same_as) >= at || batch[to_size(item.same_as)].same_as >= 0)
      return bad("needs an item before it that is the same as none"sv);
    const batch_item& other = batch[to_size(item.same_as)];
    if (!std::equal(item.tokens.begin(), item.tokens.end(), other.tokens.begin(), other.tokens.end()) ||
        item.memory->next_position() != other.memory->next_position())
      return bad("needs the same tokens at the same positions"sv);
    if (item.memory->unrotated() != other.memory->unrotated()) return bad("needs the same angles of keys"sv);
    if (item.mode != other.mode || item.mode == attend_mode::one_shot || item.want != logit_rows::none)
      return bad("needs the same mode, token by token or in chunks, and wants no logits"sv);
    return {};
  }

  /// Room for so many items, those that are the same as others too, and for outputs of those.
  error reserve_items(std::size_t items, std::size_t discarded) noexcept {
    const bool enough = (items <= first_.size() || first_.allocate(items)) &&
                        (discarded <= discarded_floats_ || discarded_.allocate(discarded * to_size(exec_->workers())));
    if (!enough) return error(errc::out_of_memory, "decoder: no memory for the items of a batch");
    discarded_floats_ = (std::max)(discarded_floats_, discarded);
    return {};
  }

  /// Embeddings, angles, and where each item's tokens lie.
  error enter(std::span<const batch_item> batch) noexcept {
    using namespace std::string_view_literals;
    std::size_t tokens = 0, discarded = 0;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      if (error e = check(batch[i], i)) return e;
      if (batch[i].same_as < 0) {
        tokens += batch[i].tokens.size();
        continue;
      }
      if (error e = check_same(batch, i)) return e;
      discarded = (std::max)(discarded, batch[i].tokens.size() * query_floats());
    }
    if (tokens == 0) return error(errc::bad_input, "batch: has no items"sv);
    if (tokens > to_size(max_tokens_))
      return error(errc::bad_input, "batch: has "sv, tokens, " tokens, the decoder was made for "sv, max_tokens_);
    for (const batch_item& item : batch)
      if (error e = reserve(*item.memory)) return e;
    if (error e = reserve_items(batch.size(), discarded)) return e;

    const std::size_t hidden = to_size(config().hidden), width = all_angles();
    tokens_ = 0;
    position angles_at = -1;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      first_[i] = batch[i].same_as < 0 ? tokens_ : first_[to_size(batch[i].same_as)];
      if (batch[i].same_as >= 0) continue;
      const position begin = batch[i].memory->next_position();
      for (std::size_t j = 0; j < batch[i].tokens.size(); ++j, ++tokens_) {
        place_[tokens_] = i;
        embed(batch[i].tokens[j], x_.data() + tokens_ * hidden);
        float* to = angles_.data() + tokens_ * width;
        const position at = begin + static_cast<position>(j);
        if (at == angles_at)  // in lockstep
          std::memcpy(to, to - width, width * sizeof(float));
        else
          for (std::size_t r = 0; r < ropes_.size(); ++r)
            ropes_[r].angles(static_cast<double>(at), to + r * ropes_[r].angle_floats());
        angles_at = at;
      }
    }
    return {};
  }

  void embed(int token, float* to) const noexcept {
    const matrix_view& m = model_.embedding;
    const std::size_t hidden = to_size(config().hidden);
    load_row(m.format, to, m.rows + to_size(token) * row_bytes(m.format, hidden), hidden);
    const float scale = config().embedding_scale;
    if (scale < 1.0f || scale > 1.0f)
      for (std::size_t i = 0; i < hidden; ++i) to[i] *= scale;
  }

  /// f(token) for all of them; shared among the workers in blocks.
  template <class F>
  void each_token(const F& f) noexcept {
    constexpr std::size_t block = 8;
    const std::size_t n = tokens_;
    const auto some = [&f, n](int task, int /*worker*/) HWY_ATTR {
      const std::size_t begin = to_size(task) * block;
      for (std::size_t t = begin; t < std::min(n, begin + block); ++t) f(t);
    };
    const int blocks = static_cast<int>((n + block - 1) / block);
    if (blocks == 1)
      some(0, 0);
    else
      (*exec_)(blocks, some);
  }

  /// The residual stream behind a norm; itself where there is none.
  const buffer<float>& norm(const float* weight) noexcept {
    if (weight == nullptr) return x_;
    each_token([this, weight](std::size_t t) HWY_ATTR {
      const std::size_t hidden = to_size(config().hidden);
      rms_norm(x_.data() + t * hidden, weight, hidden, config().norm_eps, normed_.data() + t * hidden);
    });
    return normed_;
  }

  static void add_bias(const float* bias, buffer<float>& y, std::size_t t, std::size_t n) noexcept {
    if (bias == nullptr) return;
    float* to = y.data() + t * n;
    for (std::size_t i = 0; i < n; ++i) to[i] += bias[i];
  }

  /// Adds w x + bias to the residual stream, behind `post_norm` and scaled where the model has that.
  void add_branch(const matrix_view& w, const buffer<float>& x, int in, const float* bias,
                  const float* post_norm) noexcept {
    const std::size_t hidden = to_size(config().hidden);
    const float scale = config().residual_scale;
    const bool plain = post_norm == nullptr && !(scale < 1.0f) && !(scale > 1.0f);
    project(w, x, in, plain ? x_ : branch_, hidden, plain);
    if (plain && bias == nullptr) return;
    each_token([=, this](std::size_t t) HWY_ATTR {
      add_bias(bias, plain ? x_ : branch_, t, hidden);
      if (plain) return;
      const float* from = branch_.data() + t * hidden;
      if (post_norm != nullptr) {
        rms_norm(from, post_norm, hidden, config().norm_eps, normed_.data() + t * hidden);
        from = normed_.data() + t * hidden;
      }
      float* to = x_.data() + t * hidden;
      for (std::size_t i = 0; i < hidden; ++i) to[i] += scale * from[i];
    });
  }

  /// Biases and norms of a token's queries, keys and values, then the rotation.
  void finish_queries(std::span<const batch_item> batch, const layer_view& w, int layer, std::size_t t) noexcept {
    add_bias(w.q_bias, q_, t, query_floats());
    add_bias(w.k_bias, k_, t, key_floats());
    add_bias(w.v_bias, v_, t, key_floats());
    if (config().qk_norm != query_norm::none) {
      norm_heads(w.q_norm, q_.data() + t * query_floats(), query_floats());
      norm_heads(w.k_norm, k_.data() + t * key_floats(), key_floats());
    }
    rotate(batch, layer, t);
  }
  /// Norm of one token's queries or keys, each head or all `n` floats at once.
  void norm_heads(const float* weight, float* x, std::size_t n) const noexcept {
    const std::size_t width = config().qk_norm == query_norm::head ? to_size(config().head_dim) : n;
    for (std::size_t at = 0; at < n; at += width) rms_norm(x + at, weight, width, config().norm_eps, x + at);
  }

  void project(const matrix_view& w, const buffer<float>& x, int in, buffer<float>& y, std::size_t out,
               bool add = false) noexcept {
    product p;
    p.weights = w;
    p.x = x.data();
    p.y = y.data();
    p.out = out;
    p.in = to_size(in);
    p.columns = tokens_;
    p.add = add;
    multiply(p);
  }

  /// Rotates a token's queries and keys to its original position; memories with other positions do it themselves. The
  /// keys as they were stay in k_.
  void rotate(std::span<const batch_item> batch, int layer, std::size_t t) noexcept {
    if (batch[place_[t]].memory->unrotated()) return;
    const std::size_t which = rope_of_[to_size(layer)];
    const rope& rotation = ropes_[which];
    const float* angles = angles_.data() + t * all_angles() + which * rotation.angle_floats();
    const std::size_t d = to_size(config().head_dim);
    for (std::size_t h = 0; h < to_size(config().heads); ++h) {
      const std::span<float> q(q_.data() + t * query_floats() + h * d, d);
      rotation.rotate(q, angles, q);
    }
    for (std::size_t h = 0; h < to_size(config().kv_heads); ++h) {
      const std::size_t at = t * key_floats() + h * d;
      rotation.rotate(k_.span(at, d), angles, rotated_.span(at, d));
    }
  }

  /// Each sequence is one task: inside it all goes in order.
  void attend(std::span<const batch_item> batch, int layer) noexcept {
    const auto one = [this, batch, layer](int task, int worker) HWY_ATTR {
      const batch_item& item = batch[to_size(task)];
      const std::size_t t = first_[to_size(task)];
      step_io io;
      io.q = q_.data() + t * query_floats();
      io.k_pre = k_.data() + t * key_floats();
      io.k = item.memory->unrotated() ? io.k_pre : rotated_.data() + t * key_floats();
      io.v = v_.data() + t * key_floats();
      io.out = item.same_as < 0 ? attended_.data() + t * query_floats()
                                : discarded_.data() + to_size(worker) * discarded_floats_;
      io.c = static_cast<int>(item.tokens.size());
      io.when = item.when;
      item.memory->attend(layer, io, item.mode, scratch_.span(to_size(worker) * scratch_bytes_, scratch_bytes_));
    };
    if (batch.size() == 1)
      one(0, 0);
    else
      (*exec_)(static_cast<int>(batch.size()), one);
  }

  void logits(std::span<const batch_item> batch) noexcept {
    const std::size_t hidden = to_size(config().hidden), vocab = to_size(config().vocab);
    std::size_t wanted = 0;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const batch_item& item = batch[i];
      const std::size_t c = item.tokens.size();
      const std::size_t rows = item.want == logit_rows::all ? c : item.want == logit_rows::last ? 1 : 0;
      for (std::size_t r = 0; r < rows; ++r, ++wanted) {
        rms_norm(x_.data() + (first_[i] + c - rows + r) * hidden, model_.final_norm, hidden, config().norm_eps,
                 normed_.data() + wanted * hidden);
        logits_[wanted] = item.logits + r * vocab;
      }
    }
    product p;
    p.weights = model_.head;
    p.x = normed_.data();
    p.rows = logits_.data();
    p.out = vocab;
    p.in = hidden;
    p.columns = wanted;
    multiply(p);
    const float divisor = config().logit_divisor, cap = config().final_softcap;
    if (!(divisor < 1.0f) && !(divisor > 1.0f) && !(cap > 0.0f)) return;
    for (std::size_t r = 0; r < wanted; ++r)
      for (std::size_t i = 0; i < vocab; ++i) {
        float& x = logits_[r][i];
        x /= divisor;
        if (cap > 0.0f) x = cap * std::tanh(x / cap);
      }
  }

  void multiply(product& p) noexcept {
    if (products_ == product_mode::fast) p.rounded = &rounded_;
    linear(*exec_, p);
  }

  model_view model_;
  E* exec_;
  std::vector<rope> ropes_;           ///< that differ
  std::vector<std::size_t> rope_of_;  ///< [layers]
  int max_tokens_ = 0;
  product_mode products_ = product_mode::exact;
  std::size_t tokens_ = 0;             ///< of this call
  std::size_t scratch_bytes_ = 0;      ///< of one worker
  buffer<float> x_, normed_, branch_;  ///< [tokens][hidden]
  buffer<float> q_, attended_;         ///< [tokens][H][d]
  buffer<float> k_, rotated_, v_;      ///< [tokens][Hkv][d]
  buffer<float> gate_, up_;            ///< [tokens][ffn]
  buffer<float> angles_;               ///< [tokens][ropes][2][pairs]
  buffer<std::size_t> place_;          ///< [tokens] whose item it is
  buffer<std::size_t> first_;          ///< [items] its first token
  buffer<float> discarded_;            ///< [workers] outputs of items that are the same as others
  std::size_t discarded_floats_ = 0;   ///< of one worker
  buffer<float*> logits_;              ///< [wanted]
  buffer<std::byte> scratch_;          ///< [worker]
  rounded_input rounded_;              ///< of a fast product
};

}  // namespace HWY_NAMESPACE
}  // namespace multistate
HWY_AFTER_NAMESPACE();

#endif  // MULTISTATE_MODEL_DECODER_INL_HPP_
