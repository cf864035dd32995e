#include <tools/runs/recording.hpp>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <tuple>
#include <utility>

#include <tools/engine/engine.hpp>
#include <tools/terminal/console.hpp>

namespace multistate::tools {

namespace {

error check_finite(std::span<const float> values, std::string_view path, std::string_view name) {
  for (const float x : values)
    if (!std::isfinite(x))
      return error(errc::bad_input, path, ": tensor '", name, "' holds a value that is not finite");
  return {};
}

/// One number of a file; none: it has no such tensor.
result<std::optional<int>> number_of(const safetensors& file, std::string_view path, std::string_view name, int least) {
  if (file.find(name) == nullptr) return std::optional<int>();
  const std::vector<std::size_t> one{1};
  const auto value = file.ints(name, &one);
  if (!value) return value.reason();
  if ((*value)[0] < least || (*value)[0] > max_tokens)
    return error(errc::bad_input, path, ": tensor '", name, "' must be ", least, " to ", max_tokens, "; got ",
                 (*value)[0]);
  return std::optional<int>((*value)[0]);
}

/// Error: a key or value that the format can't hold.
template <class Format>
error check_range(const recording& r) {
  for (const auto& [name, x, width] : {std::tuple("key", &r.k, r.dims.dk), std::tuple("value", &r.v, r.dims.dv)}) {
    const std::size_t token = to_size(r.dims.kv_heads) * to_size(width);
    for (std::size_t t = 0; t < to_size(r.layers) * to_size(r.tokens); ++t)
      if (overflows<Format>(x->data() + t * token, token))
        return error(errc::overflow, "states in ", Format::name, " overflow: the ", name, " of token ",
                     t % to_size(r.tokens), " has a number beyond what ", Format::name, " holds; take --format f32",
                     Format::name == f16::name ? " or bf16" : "");
  }
  return {};
}

/// A sequence under way.
class replayed {
 public:
  replayed(sequence_memory& memory, const recording& r, const feeding& feed) : memory_(memory), r_(r), feed_(feed) {
    outcome_.out.resize(to_size(r.layers) * to_size(feed.tokens) * to_size(r.dims.heads) * to_size(r.dims.dv));
    scratch_.resize(memory.scratch_bytes());
    decided_ = spans_layers(memory.scope(0)) ? 1 : r.layers;
    outcome_.lanes = to_size(decided_) * to_size(memory.lanes(0));
  }

  error run(bool one_shot) {
    for (int t = 0; t < feed_.tokens && interrupted == 0;) {
      const int c = tokens_of(t, one_shot);
      if (const error e = call(t, c, one_shot)) return e;
      t += c;
    }
    for (int layer = 0; layer < decided_; ++layer)
      for (int lane = 0; lane < memory_.lanes(0); ++lane) outcome_.budgets.push_back(memory_.budget(layer, lane));
    return {};
  }
  outcome take() { return std::move(outcome_); }

 private:
  int tokens_of(int t, bool one_shot) const {
    const bool in_prompt = t < feed_.prompt;
    int c = feed_.chunk > 0 && (in_prompt || feed_.prompt == 0) ? feed_.chunk : 1;
    if (t == 0 && feed_.first > 0) c = feed_.first;
    if (in_prompt) c = one_shot ? feed_.prompt : std::min(c, feed_.prompt - t);
    return std::min(c, feed_.tokens - t);
  }

  /// Tokens [t, t + c) through all layers. Chunks without a prompt are one.
  error call(int t, int c, bool one_shot) {
    const int prompt = feed_.prompt > 0 ? feed_.prompt : feed_.chunk > 0 ? feed_.tokens : 0;
    const bool in_prompt = t < prompt;
    const std::size_t heads = to_size(r_.dims.heads) * to_size(r_.dims.dk),
                      keys = to_size(r_.dims.kv_heads) * to_size(r_.dims.dk),
                      values = to_size(r_.dims.kv_heads) * to_size(r_.dims.dv),
                      outs = to_size(r_.dims.heads) * to_size(r_.dims.dv);
    for (int layer = 0; layer < r_.layers; ++layer) {
      const std::size_t at = to_size(layer) * to_size(r_.tokens) + to_size(t);
      memory_.attend(layer,
                     {.q = r_.q.data() + at * heads,
                      .k = r_.k.data() + at * keys,
                      .v = r_.v.data() + at * values,
                      .out = outcome_.out.data() + (to_size(layer) * to_size(feed_.tokens) + to_size(t)) * outs,
                      .c = c,
                      .when = !in_prompt        ? phase::decode
                              : t + c == prompt ? phase::prompt_end
                                                : phase::prompt,
                      .unrotated = false,
                      .k_pre = r_.k_pre.empty() ? nullptr : r_.k_pre.data() + at * keys},
                     in_prompt && one_shot ? attend_mode::one_shot : attend_mode::together, scratch_);
    }
    if (memory_.next_position() != t + c)
      return error(errc::bad_policy, "the policy has no room for token ", t,
                   ": nothing was dropped before it; a policy for prompts needs one for what follows, as in "
                   "snapkv:64/tova");
    note(t + c);
    return {};
  }

  /// Notes what is kept, where no lane waits for its reduction.
  void note(int end) {
    const int lanes = memory_.lanes(0);
    for (int layer = 0; layer < decided_; ++layer)
      for (int lane = 0; lane < lanes; ++lane)
        if (memory_.live(layer, lane) > memory_.budget(layer, lane)) return;
    for (int layer = 0; layer < decided_; ++layer)
      for (int lane = 0; lane < lanes; ++lane) {
        std::vector<std::int32_t> kept;
        for (const position p : memory_.positions(layer, lane))
          if (p >= 0) kept.push_back(static_cast<std::int32_t>(p));
        std::sort(kept.begin(), kept.end());
        outcome_.kept.push_back(std::move(kept));
      }
    outcome_.ends.push_back(end);
  }

  sequence_memory& memory_;
  const recording& r_;
  feeding feed_;
  int decided_ = 1;  ///< layers with lanes of their own
  outcome outcome_;
  std::vector<std::byte> scratch_;
};

}  // namespace

std::size_t outcome::width(std::size_t least) const noexcept {
  for (const auto& k : kept) least = std::max(least, k.size());
  return least;
}

result<recording> read_recording(const std::string& path, const std::string& beside, int layers) {
  auto file = safetensors::open(path);
  if (!file) return file.reason();
  recording r;
  const tensor_info* key = file->find("k");
  const bool layered = key != nullptr && key->shape.size() == 4;
  const std::size_t front = layered ? 1 : 0;
  if (key == nullptr || (key->shape.size() != 3 && !layered))
    return error(errc::bad_input, path, ": needs a tensor 'k' of three dimensions [T, Hkv, dk]");
  const std::size_t recorded = layered ? key->shape[0] : 1;
  if (layers > 0 && to_size(layers) > recorded)
    return error(errc::bad_input, path, ": has ", recorded, " layers; needs ", layers);
  std::size_t dims[3][3] = {};
  std::vector<float>* const to[3] = {&r.q, &r.k, &r.v};
  for (std::size_t i = 0; i < 3; ++i) {
    const std::string name(1, "qkv"[i]);
    const tensor_info* t = file->find(name);
    if (t == nullptr) continue;
    if (t->shape.size() != 3 + front || (layered && t->shape[0] != recorded))
      return error(errc::bad_input, path, ": needs a tensor '", name, "' of three dimensions [T, ",
                   i == 0 ? "H" : "Hkv", ", ", i == 2 ? "dv" : "dk", "]", layered ? " behind the layers" : "");
    for (const std::size_t d : t->shape)
      if (d < 1 || d > static_cast<std::size_t>(max_tokens))
        return error(errc::bad_input, path, ": tensor '", name, "' has a dimension of ", d, "; needs 1 to ",
                     max_tokens);
    std::copy(t->shape.begin() + static_cast<std::ptrdiff_t>(front), t->shape.end(), dims[i]);
    auto values = file->floats(name);
    if (!values) return values.reason();
    *to[i] = std::move(*values);
    if (const error e = check_finite(*to[i], path, name)) return e;
  }
  r.has_q = file->find("q") != nullptr;
  r.has_v = file->find("v") != nullptr;
  auto& [q, k, v] = dims;
  if (!r.has_q) std::copy(k, k + 3, q);
  if (!r.has_v) std::copy(k, k + 3, v), v[2] = 1;
  if (k[0] != q[0] || v[0] != q[0] || v[1] != k[1] || k[2] != q[2] || q[1] % k[1] != 0)
    return error(errc::bad_input, path,
                 ": needs q [T, H, dk], k [T, Hkv, dk], v [T, Hkv, dv] with Hkv dividing H; got q ",
                 multistate::detail::shown(file->find(r.has_q ? "q" : "k")->shape), ", k ",
                 multistate::detail::shown(file->find("k")->shape), ", v ",
                 multistate::detail::shown(file->find(r.has_v ? "v" : "k")->shape));
  r.layers = layers > 0 ? layers : static_cast<int>(recorded);
  r.tokens = static_cast<int>(q[0]);
  r.dims = {static_cast<int>(q[1]), static_cast<int>(k[1]), static_cast<int>(q[2]), static_cast<int>(v[2])};
  for (std::size_t i = 0; i < 3; ++i) to[i]->resize(to_size(r.layers) * dims[i][0] * dims[i][1] * dims[i][2]);

  for (const std::string& from : {path, beside}) {
    if (from.empty()) continue;
    auto side = safetensors::open(from);
    if (!side) return side.reason();
    if (r.theta <= 0 && side->find("theta") != nullptr) {
      const std::vector<std::size_t> one{1};
      const auto base = side->floats("theta", &one);
      if (!base) return base.reason();
      r.theta = static_cast<double>((*base)[0]);
      if (!(r.theta > 0 && std::isfinite(r.theta)))
        return error(errc::bad_input, from, ": tensor 'theta' must be a finite number above 0");
    }
    if (!r.k_pre.empty() || side->find("k_pre") == nullptr) continue;
    auto keys = side->floats("k_pre", &key->shape);
    if (!keys) return keys.reason();
    if (const error e = check_finite(*keys, from, "k_pre")) return e;
    r.k_pre = std::move(*keys);
  }
  return r;
}

result<expectation> read_expectation(const std::string& path) {
  auto file = safetensors::open(path);
  if (!file) return file.reason();
  expectation x;
  if (const auto at = file->metadata().find("policy"); at != file->metadata().end()) x.policy = at->second;
  feeding calls;
  for (const auto& [name, to] :
       {std::pair("prompt", &calls.prompt), std::pair("chunk", &calls.chunk), std::pair("first", &calls.first)}) {
    const auto value = number_of(*file, path, name, 1);
    if (!value) return value.reason();
    if (*value) *to = **value;
  }
  const auto layers = number_of(*file, path, "layers", 1);
  if (!layers) return layers.reason();
  x.layers = *layers;
  for (const auto& [name, to] :
       {std::pair("kept", &x.kept), std::pair("step_end", &x.ends), std::pair("budgets", &x.budgets)}) {
    if (file->find(name) == nullptr) continue;
    auto values = file->ints(name);
    if (!values) return values.reason();
    *to = std::move(*values);
  }
  if (const tensor_info* t = file->find("kept"); t != nullptr) {
    x.kept_shape = t->shape;
    if (x.kept_shape.size() == 2) x.kept_shape.insert(x.kept_shape.begin() + 1, 1);
    if (x.kept_shape.size() != 3 || (!x.ends.empty() && x.ends.size() != x.kept_shape[0]))
      return error(errc::bad_input, path, ": needs kept [entries, lanes, width] and step_end [entries]; got kept ",
                   multistate::detail::shown(t->shape), " and ", x.ends.size(), " in step_end");
  }
  for (std::size_t i = 0; i < x.ends.size(); ++i)
    if (x.ends[i] < 1 || (i > 0 && x.ends[i] <= x.ends[i - 1]))
      return error(errc::bad_input, path, ": step_end must increase from 1 on; got ", x.ends[i], " in place ", i);
  if (const tensor_info* t = file->find("out"); t != nullptr) {
    x.out_shape = t->shape;
    auto values = file->floats("out");
    if (!values) return values.reason();
    x.out = std::move(*values);
  }
  if (calls.prompt > 0 || calls.chunk > 0 || calls.first > 0) x.calls = calls;
  return x;
}

result<outcome> replay_recording(const policy_handle& policy, weight_format format, const recording& r,
                                 const feeding& feed) {
  const evidence wants = policy.wants();
  const auto lacks = [&](std::string_view missing, std::string_view tensor) {
    return error(errc::bad_input, "policy '", policy.str(), "' looks at ", missing, "; the recording has no ", tensor);
  };
  if (!r.has_q && rows_of(wants) != needs::nothing) return lacks("attention rows", "q");
  if (!r.has_q && wants.queries) return lacks("queries", "q");
  if (!r.has_v && (wants.values || wants.stored_values)) return lacks("values", "v");
  if (r.theta <= 0 && wants.angles) return lacks("rotary angles", "theta");
  if (const error e = with_state_format(format, [&]<class Format>(Format) { return check_range<Format>(r); })) return e;
  const bool one_shot = feed.prompt > 0 && feed.chunk == 0;
  memory_setup setup;
  setup.dims = r.dims;
  setup.layers = r.layers;
  setup.room.chunk = std::max({1, std::min(feed.chunk, r.tokens), std::min(feed.first, r.tokens)});
  setup.room.prompt = one_shot ? feed.prompt : 0;
  if (r.theta > 0 && r.dims.dk % 2 == 0) setup.rope = {.dim = r.dims.dk, .theta = r.theta};
  auto memory = make_memory(format, policy, setup);
  if (!memory) return memory.reason();
  replayed run(*memory, r, feed);
  if (const error e = run.run(one_shot)) return e;
  return run.take();  // where it was interrupted a part, which nobody looks at
}

}  // namespace multistate::tools
