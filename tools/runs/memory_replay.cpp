#include <tools/runs/memory_replay.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include <multistate/attention/scalar.hpp>
#include <multistate/io/safetensors.hpp>
#include <multistate/recurrent/delta.hpp>
#include <multistate/recurrent/delta_product.hpp>
#include <multistate/recurrent/gated_delta.hpp>
#include <multistate/recurrent/infini_attention.hpp>
#include <multistate/recurrent/matrix_memory.hpp>
#include <multistate/recurrent/sum.hpp>
#include <multistate/recurrent/titans.hpp>
#include <multistate/scan/sequence.hpp>

namespace multistate::tools {

namespace {

using dimensions = std::vector<std::size_t>;
using numbers = std::vector<double>;

/// Thrown inside this file only.
struct wrong_file {
  error reason;
};
template <class T>
T value_of(result<T>&& r) {
  if (!r) throw wrong_file{r.reason()};
  return std::move(*r);
}

constexpr double largest_memory = 1 << 24;  ///< numbers: a small file can ask for any size

/// How two numbers are compared.
enum class measure : std::uint8_t {
  absolute,       ///< |a - b|
  of_largest,     ///< |a - b| in shares of the tensor's largest value
  of_each,        ///< |a - b| in shares of |b|
  of_each_or_one  ///< the same, in shares of 1 where |b| is smaller
};

/// A file, and the comparisons with its tensors.
class recorded {
 public:
  explicit recorded(const std::string& path) : path_(path), file_(value_of(safetensors::open(path))) {}

  const safetensors& file() const { return file_; }
  bool has(std::string_view name) const { return file_.find(name) != nullptr; }
  template <class... Part>
  [[noreturn]] void refuse(const Part&... parts) const {
    throw wrong_file{error(errc::bad_input, path_, ": ", parts...)};
  }

  /// The shape of an input with so many dimensions, each at least 1.
  dimensions shape_of(std::string_view name, std::size_t count, std::string_view meaning) const {
    const tensor_info* t = file_.find(name);
    if (t == nullptr || t->shape.size() != count) refuse("needs a tensor '", name, "' ", meaning);
    for (const std::size_t d : t->shape)
      if (d < 1 || d > static_cast<std::size_t>(max_tokens))
        refuse("tensor '", name, "' has a dimension of ", d, "; needs 1 to ", max_tokens);
    return t->shape;
  }
  /// Finite, but where minus infinity is a mask.
  std::vector<float> input(std::string_view name, const dimensions& shape, bool masks = false) const {
    std::vector<float> x = value_of(file_.floats(name, &shape));
    for (const float e : x)
      if (!is_finite(e) && !(masks && is_minus_infinity(e)))
        refuse("tensor '", name, "' holds a value that is not finite");
    return x;
  }
  /// Whole numbers from 0 to `most`.
  std::vector<std::int32_t> places(std::string_view name, std::size_t count, std::size_t most) const {
    const tensor_info* t = file_.find(name);
    if (t == nullptr || t->shape.size() != count)
      refuse("needs a tensor '", name, "' of whole numbers with ", count, count == 1 ? " dimension" : " dimensions");
    auto x = value_of(file_.ints(name));
    for (const std::int32_t e : x)
      if (e < 0 || static_cast<std::size_t>(e) > most) refuse("tensor '", name, "' holds ", e, "; needs 0 to ", most);
    return x;
  }
  int one(std::string_view name, std::size_t most) const {
    const auto x = places(name, 1, most);
    if (x.size() != 1) refuse("tensor '", name, "' holds ", x.size(), " numbers; needs one");
    return x[0];
  }

  /// Whether the file has a tensor of that name; refuses one of another shape.
  bool expects(const std::string& name, const dimensions& shape) const {
    if (has(name)) value_of(file_.floats(name, &shape));
    return has(name);
  }
  /// Compares with the tensor of that name where the file has it.
  void compare(const std::string& name, const numbers& got, const dimensions& shape, double tolerance, measure by,
               bool must_differ = false) {
    if (!has(name)) return;
    const std::vector<float> want = value_of(file_.floats(name, &shape));
    constexpr const char* shares[] = {"", "the largest value", "each value", "each value above 1"};
    tensor_difference d{.name = name,
                        .error = 0,
                        .tolerance = tolerance,
                        .of = shares[static_cast<int>(by)],
                        .place = "",
                        .must_differ = must_differ,
                        .good = false};
    double largest = 0;
    for (const float e : want)
      if (is_finite(e)) largest = std::max(largest, std::abs(static_cast<double>(e)));
    std::size_t worst = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
      const double right = static_cast<double>(want[i]);
      double off = distance(got[i], right);
      if (off > 0) {
        const double unit = by == measure::absolute     ? 1.0
                            : by == measure::of_largest ? largest
                            : by == measure::of_each    ? std::abs(right)
                                                        : std::max(1.0, std::abs(right));
        off /= unit;
      }
      if (off > d.error) {
        d.error = off;
        worst = i;
      }
    }
    d.place = place_of(worst, shape);
    d.good = must_differ ? d.error > tolerance : d.error <= tolerance;
    found_.push_back(std::move(d));
  }

  std::vector<tensor_difference> found() {
    if (found_.empty()) refuse("has no tensor that its rule's results can be compared with");
    return std::move(found_);
  }

 private:
  static double distance(double got, double want) {
    if (is_minus_infinity(got) && is_minus_infinity(want)) return 0;
    const double off = std::abs(static_cast<double>(static_cast<float>(got)) - want);  // results are stored in float
    return std::isfinite(off) ? off : std::numeric_limits<double>::infinity();
  }
  static std::string place_of(std::size_t i, const dimensions& shape) {
    std::string text = "]";
    for (std::size_t d = shape.size(); d-- > 0;) {
      text = (d > 0 ? ", " : "[") + std::to_string(i % shape[d]) + text;
      i /= shape[d];
    }
    return text;
  }

  std::string path_;
  safetensors file_;
  std::vector<tensor_difference> found_;
};

numbers widened(const std::vector<float>& x) { return {x.begin(), x.end()}; }
void append(numbers& to, std::span<const double> from) { to.insert(to.end(), from.begin(), from.end()); }

// ---- memory_*: tokens are written before they are read

/// The inputs of a memory file: q [T][H][dk], k [T][n][H][dk], v [T][n][H][dv], the n only where the rule has steps.
struct memory_inputs {
  std::size_t tokens = 0, steps = 1, heads = 0, dk = 0, dv = 0;
  std::vector<float> q, k, v;
  std::vector<std::int32_t> check;  ///< tokens behind which M is recorded

  memory_inputs(const recorded& r, bool with_steps) {
    const dimensions of_q = r.shape_of("q", 3, "[T, H, dk]");
    const dimensions of_v = r.shape_of("v", with_steps ? 4 : 3, with_steps ? "[T, n, H, dv]" : "[T, H, dv]");
    tokens = of_q[0];
    heads = of_q[1];
    dk = of_q[2];
    steps = with_steps ? of_v[1] : 1;
    dv = of_v.back();
    q = r.input("q", of_q);
    k = r.input("k", with_steps ? dimensions{tokens, steps, heads, dk} : dimensions{tokens, heads, dk});
    v = r.input("v", with_steps ? dimensions{tokens, steps, heads, dv} : dimensions{tokens, heads, dv});
    if (r.has("check")) check = r.places("check", 1, tokens - 1);
    const double size = static_cast<double>(heads) * static_cast<double>(dk) * static_cast<double>(dv);
    if (size * static_cast<double>(std::max<std::size_t>(1, check.size())) > largest_memory)
      r.refuse(check.size(), " times ", heads, " memories of ", dk, " x ", dv, " are too large; needs at most ",
               largest_memory, " numbers");
  }
  dimensions of_out() const { return {tokens, heads, dv}; }
  /// A gate [T][H], of which each token's steps have a copy; or [T][n][H].
  std::vector<float> gate(const recorded& r, std::string_view name, bool each_step) const {
    std::vector<float> x = r.input(name, each_step ? dimensions{tokens, steps, heads} : dimensions{tokens, heads});
    if (each_step || steps == 1) return x;
    std::vector<float> all;
    for (std::size_t i = 0; i < tokens * steps; ++i)
      for (std::size_t h = 0; h < heads; ++h) all.push_back(x[i / steps * heads + h]);
    return all;
  }
};

/// What a memory gives over all tokens; the matrices are those behind the tokens `check`.
struct memory_results {
  numbers out, m, s, z;
};

/// chunk 0: token by token; else in segments of so many.
template <class Rule>
memory_results run(const memory_inputs& in, const Rule& rule, const std::vector<typename Rule::gates>& gates,
                   std::size_t chunk = 0) {
  const auto size = [](std::size_t n) { return static_cast<int>(n); };
  using memory = matrix_memory<Rule>;
  const matrix_memory_shape dims{
      .heads = size(in.heads), .dk = size(in.dk), .dv = size(in.dv), .chunk = std::max(1, size(chunk))};
  auto m = value_of(memory::make(dims, rule)), partly = value_of(memory::make(dims, rule));
  std::vector<float> out(in.tokens * in.heads * in.dv), unwanted(out.size());
  const auto some = [&](std::size_t first, std::size_t c, std::vector<float>& to) {
    const std::size_t writes = first * in.steps * in.heads;
    return memory_tokens<Rule>{.q = in.q.data() + first * in.heads * in.dk,
                               .k = in.k.data() + writes * in.dk,
                               .v = in.v.data() + writes * in.dv,
                               .gates = gates.data() + writes,
                               .out = to.data() + first * in.heads * in.dv,
                               .c = size(c)};
  };
  std::vector<numbers> at_m(in.tokens), at_s(in.tokens), at_z(in.tokens);  // filled where they are wanted
  const auto keep = [&](std::size_t t, const memory& now) {
    if (std::find(in.check.begin(), in.check.end(), static_cast<std::int32_t>(t)) == in.check.end()) return;
    for (int h = 0; h < dims.heads; ++h) {
      append(at_m[t], now.values(h));
      append(at_s[t], now.momentum(h));
      append(at_z[t], now.normaliser(h));
    }
  };
  for (std::size_t t = 0; t < in.tokens; t += std::max<std::size_t>(1, chunk)) {
    if (chunk == 0) {
      m.step(some(t, 1, out));
      keep(t, m);
      continue;
    }
    const std::size_t c = std::min(chunk, in.tokens - t);
    for (std::size_t i = 1; i <= c; ++i) {  // behind token i of the segment M is that of a segment of i tokens
      partly.copy_from(m);
      partly.segment(some(t, i, unwanted));
      keep(t + i - 1, partly);
    }
    m.segment(some(t, c, out));
  }
  memory_results r{.out = widened(out), .m = {}, .s = {}, .z = {}};
  for (const std::int32_t t : in.check) {
    append(r.m, at_m[static_cast<std::size_t>(t)]);
    append(r.s, at_s[static_cast<std::size_t>(t)]);
    append(r.z, at_z[static_cast<std::size_t>(t)]);
  }
  return r;
}

constexpr double memory_tolerance = 2e-5;

void compare_memory(recorded& r, const memory_inputs& in, const memory_results& got, const std::string& ending) {
  const std::size_t checks = in.check.size();
  const auto compare = [&](const std::string& name, const numbers& x, const dimensions& shape) {
    r.compare(name + ending, x, shape, memory_tolerance, measure::of_largest);
  };
  compare("out", got.out, in.of_out());
  compare("M", got.m, {checks, in.heads, in.dk, in.dv});
  if (!got.s.empty()) compare("S", got.s, {checks, in.heads, in.dk, in.dv});
  if (!got.z.empty()) compare("z", got.z, {checks, in.heads, in.dk});
}

int replay_sum(recorded& r) {
  const memory_inputs in(r, false);
  const std::vector<sum_rule<>::gates> gates(in.tokens * in.heads);
  compare_memory(r, in, run(in, sum_rule<>(), gates), "");
  const std::vector<sum_rule<elu_feature>::gates> elu(gates.size());
  compare_memory(r, in, run(in, sum_rule<elu_feature>(), elu), "_elu");
  const std::vector<infini_sum::gates> normalised(gates.size());
  const memory_results got = run(in, infini_sum(), normalised);
  r.compare("out_elu_norm", got.out, in.of_out(), memory_tolerance, measure::of_largest);
  r.compare("z_elu", got.z, {in.check.size(), in.heads, in.dk}, memory_tolerance, measure::of_largest);
  return static_cast<int>(in.tokens);
}

int replay_delta(recorded& r) {
  const memory_inputs in(r, false);
  std::vector<delta_rule<>::gates> gates;
  for (const float beta : in.gate(r, "beta", false)) gates.push_back({beta});
  compare_memory(r, in, run(in, delta_rule<>(), gates), "");
  return static_cast<int>(in.tokens);
}

int replay_gated_delta(recorded& r) {
  const memory_inputs in(r, false);
  const auto beta = in.gate(r, "beta", false), alpha = in.gate(r, "alpha", false);
  std::vector<gated_delta_rule::gates> gates;
  for (std::size_t i = 0; i < beta.size(); ++i) gates.push_back({beta[i], alpha[i]});
  const memory_results got = run(in, gated_delta_rule(), gates);
  compare_memory(r, in, got, "");
  r.compare("not_out", got.out, in.of_out(), memory_tolerance, measure::of_largest, true);
  return static_cast<int>(in.tokens);
}

int replay_delta_product(recorded& r) {
  const memory_inputs in(r, true);
  const delta_product_rule rule{.steps = static_cast<int>(in.steps)};
  std::vector<delta_product_rule::gates> gates;
  for (const float beta : in.gate(r, "beta", true)) gates.push_back({beta, 1.0f});
  compare_memory(r, in, run(in, rule, gates), "");
  if (r.has("out_gated") || r.has("M_gated")) {
    const auto alpha = in.gate(r, "alpha", false);
    for (std::size_t i = 0; i < gates.size(); ++i) gates[i].alpha = alpha[i];
    compare_memory(r, in, run(in, rule, gates), "_gated");
  }
  return static_cast<int>(in.tokens);
}

int replay_titans(recorded& r) {
  const memory_inputs in(r, false);
  const auto theta = in.gate(r, "theta", false), eta = in.gate(r, "eta", false), alpha = in.gate(r, "alpha", false);
  std::vector<titans_rule::gates> gates;
  for (std::size_t i = 0; i < theta.size(); ++i) gates.push_back({theta[i], eta[i], alpha[i]});
  compare_memory(r, in, run(in, titans_rule(), gates), "");
  compare_memory(r, in, run(in, titans_rule{.factor = 1}, gates), "_half");
  compare_memory(r, in, run(in, titans_rule(), gates, 8), "_chunk8");
  return static_cast<int>(in.tokens);
}

// ---- infini: tokens are read before their segment is written

template <class Rule>
void replay_infini_rule(recorded& r, const infini_setup& setup, std::span<const float> gates, infini_tokens tokens,
                        const std::string& ending, bool with_local) {
  const shape& d = setup.dims;
  auto a = value_of(infini_attention<Rule>::make(setup, gates));
  const std::size_t count = to_size(tokens.c), answer = to_size(d.heads) * to_size(d.dv), kv = to_size(d.kv_heads);
  std::vector<float> out(count * answer), local(out.size()), retrieved(out.size());
  numbers m, z;
  const infini_tokens all = tokens;
  const std::size_t segments = count / to_size(setup.segment);
  const dimensions of_m{segments, kv, to_size(d.dk), to_size(d.dv)}, of_z{segments, kv, to_size(d.dk)};
  const bool keeps_m = r.expects("M" + ending, of_m), keeps_z = r.expects("z" + ending, of_z);
  for (std::size_t t = 0; t < count;) {
    tokens.c = static_cast<int>(std::min(count - t, to_size(setup.segment)));
    tokens.rotated = {all.rotated.q + t * to_size(d.heads) * to_size(d.dk), all.rotated.k + t * kv * to_size(d.dk)};
    tokens.unrotated = {all.unrotated.q + t * to_size(d.heads) * to_size(d.dk),
                        all.unrotated.k + t * kv * to_size(d.dk)};
    tokens.v = all.v + t * kv * to_size(d.dv);
    tokens.out = out.data() + t * answer;
    tokens.local = local.data() + t * answer;
    tokens.retrieved = retrieved.data() + t * answer;
    a.attend(tokens, [&](std::span<const attention_task> tasks) {
      scalar_attention{d, {}}.operator()<needs::nothing, f32>(tasks);
    });
    t += to_size(tokens.c);
    if (tokens.c < setup.segment) continue;
    for (int h = 0; h < d.kv_heads; ++h) {
      if (keeps_m) append(m, a.memory().values(h));
      if (keeps_z) append(z, a.memory().normaliser(h));
    }
  }
  const dimensions of_out{count, to_size(d.heads), to_size(d.dv)};
  r.compare("out" + ending, widened(out), of_out, 1e-5, measure::absolute);
  r.compare("mem" + ending, widened(retrieved), of_out, 1e-5, measure::absolute);
  if (with_local) r.compare("local", widened(local), of_out, 1e-5, measure::absolute);
  r.compare("M" + ending, m, of_m, 1e-4, measure::absolute);
  r.compare("z" + ending, z, of_z, 1e-4, measure::absolute);
}

int replay_infini(recorded& r) {
  const dimensions of_q = r.shape_of("q", 3, "[T, H, dk]"), of_k = r.shape_of("k", 3, "[T, Hkv, dk]"),
                   of_v = r.shape_of("v", 3, "[T, Hkv, dv]");
  const std::size_t tokens = of_q[0];
  if (of_k[0] != tokens || of_v[0] != tokens || of_v[1] != of_k[1] || of_k[2] != of_q[2] || of_q[1] % of_k[1] != 0)
    r.refuse("needs q [T, H, dk], k [T, Hkv, dk], v [T, Hkv, dv] with Hkv dividing H; got q ",
             multistate::detail::shown(of_q), ", k ", multistate::detail::shown(of_k), ", v ",
             multistate::detail::shown(of_v));
  if (static_cast<double>(of_k[1]) * static_cast<double>(of_k[2]) * static_cast<double>(of_v[2]) > largest_memory)
    r.refuse(of_k[1], " memories of ", of_k[2], " x ", of_v[2], " are too large; needs at most ", largest_memory,
             " numbers");
  if (r.has("q_pre") != r.has("k_pre")) r.refuse("has one of q_pre and k_pre; needs both or neither");
  const auto q = r.input("q", of_q), k = r.input("k", of_k), v = r.input("v", of_v), gates = r.input("beta", {of_q[1]});
  const auto q_pre = r.has("q_pre") ? r.input("q_pre", of_q) : q, k_pre = r.has("k_pre") ? r.input("k_pre", of_k) : k;
  const int segment = r.one("segment", static_cast<std::size_t>(max_tokens));
  if (segment < 1) r.refuse("tensor 'segment' holds 0; needs at least 1");
  const int count = static_cast<int>(tokens), most = std::min(segment, count + 1);  // longer ones are never full
  const infini_setup setup{.dims = {static_cast<int>(of_q[1]), static_cast<int>(of_k[1]), static_cast<int>(of_q[2]),
                                    static_cast<int>(of_v[2])},
                           .segment = most,
                           .undo = 0,
                           .max_chunk = most};
  const infini_tokens all{.rotated = {q.data(), k.data()},
                          .unrotated = {q_pre.data(), k_pre.data()},
                          .v = v.data(),
                          .out = nullptr,
                          .local = nullptr,
                          .retrieved = nullptr,
                          .c = count};
  replay_infini_rule<infini_sum>(r, setup, gates, all, "_linear", true);
  replay_infini_rule<infini_delta>(r, setup, gates, all, "_delta", false);
  return count;
}

// ---- softmax: attention as a scan

/// Elements with memory of their own.
struct pieces {
  numbers m, l, acc;
  std::size_t dv;

  pieces(std::size_t count, std::size_t values)
      : m(count, -std::numeric_limits<double>::infinity()), l(count), acc(count * values), dv(values) {}
  std::size_t count() const { return m.size(); }
  scan_element<double> get(std::size_t i) { return {m[i], l[i], std::span(acc).subspan(i * dv, dv)}; }
  void put(std::size_t i, const scan_element<double>& e) {
    m[i] = e.max;
    l[i] = e.sum;
  }
  void merge(std::size_t into, std::size_t from) {
    scan_element<double> e = get(into);
    scan_merge(e, get(from));
    put(into, e);
  }
  numbers outputs() {
    numbers out(acc.size());
    for (std::size_t i = 0; i < count(); ++i) scan_normalise<double>(get(i), std::span(out).subspan(i * dv, dv));
    return out;
  }
  pieces picked(std::span<const std::int32_t> order) {
    pieces p(order.size(), dv);
    for (std::size_t i = 0; i < order.size(); ++i) {
      scan_element<double> e = p.get(i);
      scan_merge(e, get(static_cast<std::size_t>(order[i])));
      p.put(i, e);
    }
    return p;
  }
};

/// How the states of a softmax file are compared.
struct softmax_tolerances {
  double m, rest;
  measure by;
};

/// All merged in this order, one by one and as a balanced tree.
void compare_merged(recorded& r, pieces& parts, std::span<const std::int32_t> order, const std::string& name,
                    const softmax_tolerances& tolerances) {
  const auto compare = [&](pieces& p) {
    const numbers out = p.outputs();
    const auto first = [&](const numbers& x) {
      return numbers(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(p.dv));
    };
    r.compare(name + "_m", {p.m[0]}, {1}, tolerances.m, tolerances.by);
    r.compare(name + "_l", {p.l[0]}, {1}, tolerances.rest, tolerances.by);
    r.compare(name + "_acc", first(p.acc), {p.dv}, tolerances.rest, tolerances.by);
    r.compare(name + "_out", first(out), {p.dv}, 1e-5, measure::absolute);
  };
  if (order.empty()) {
    pieces none(1, parts.dv);
    return compare(none);
  }
  pieces one_by_one = parts.picked(order), tree = one_by_one;
  for (std::size_t i = 1; i < one_by_one.count(); ++i) one_by_one.merge(0, i);
  compare(one_by_one);
  for (std::size_t step = 1; step < tree.count(); step *= 2)
    for (std::size_t i = 0; i + step < tree.count(); i += 2 * step) tree.merge(i, i + step);
  compare(tree);
}

int replay_softmax(recorded& r) {
  const bool by_keys = r.has("q");
  const dimensions of_v = r.shape_of("v", 2, "[T, dv]");
  const std::size_t tokens = of_v[0], dv = of_v[1];
  const numbers v = widened(r.input("v", of_v));
  softmax_tolerances tolerances{.m = 0, .rest = 1e-5, .by = measure::of_each_or_one};
  numbers score;
  if (by_keys) {
    tolerances = {.m = 1e-4, .rest = 1e-4, .by = measure::of_each};
    const std::size_t d = r.shape_of("q", 1, "[d]")[0];
    const auto q = r.input("q", {d}), k = r.input("k", {tokens, d});
    for (std::size_t t = 0; t < tokens; ++t) {
      double logit = 0;
      for (std::size_t i = 0; i < d; ++i) logit += static_cast<double>(q[i]) * static_cast<double>(k[t * d + i]);
      score.push_back(logit / std::sqrt(static_cast<double>(d)));
    }
    r.compare("score", score, {tokens}, tolerances.rest, tolerances.by);
  } else {
    score = widened(r.input("score", {tokens}, true));
  }

  pieces prefix(tokens, dv), running(1, dv);
  for (std::size_t t = 0; t < tokens; ++t) {
    scan_element<double> e = running.get(0);
    scan_last<double>(std::span(score).subspan(t, 1), std::span(v).subspan(t * dv, dv), e);
    running.put(0, e);
    prefix.m[t] = e.max;
    prefix.l[t] = e.sum;
    std::copy(running.acc.begin(), running.acc.end(), prefix.acc.begin() + static_cast<std::ptrdiff_t>(t * dv));
  }
  const dimensions each{tokens}, each_value{tokens, dv};
  r.compare("prefix", prefix.outputs(), each_value, 1e-5, measure::absolute);
  r.compare("prefix_m", prefix.m, each, tolerances.m, tolerances.by);
  r.compare("prefix_l", prefix.l, each, tolerances.rest, tolerances.by);
  r.compare("prefix_acc", prefix.acc, each_value, tolerances.rest, tolerances.by);
  r.compare("prefix_out", prefix.outputs(), each_value, 1e-5, measure::absolute);
  if (!r.has("bounds")) return static_cast<int>(tokens);

  const auto bounds = r.places("bounds", 1, tokens);
  if (bounds.empty() || !std::is_sorted(bounds.begin(), bounds.end()))
    r.refuse("tensor 'bounds' must hold the edges of the pieces, in order");
  const std::size_t count = bounds.size() - 1;
  if (static_cast<double>(count) * static_cast<double>(dv) > largest_memory)
    r.refuse(count, " pieces of ", dv, " values are too large; needs at most ", largest_memory, " numbers");
  pieces parts(count, dv);
  for (std::size_t p = 0; p < count; ++p) {
    const auto begin = static_cast<std::size_t>(bounds[p]), n = static_cast<std::size_t>(bounds[p + 1]) - begin;
    scan_element<double> e = parts.get(p);
    scan_last<double>(std::span(score).subspan(begin, n), std::span(v).subspan(begin * dv, n * dv), e);
    parts.put(p, e);
  }
  r.compare("part_m", parts.m, {count}, tolerances.m, tolerances.by);
  r.compare("part_l", parts.l, {count}, tolerances.rest, tolerances.by);
  r.compare("part_acc", parts.acc, {count, dv}, tolerances.rest, tolerances.by);

  std::vector<std::int32_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = static_cast<std::int32_t>(i);
  compare_merged(r, parts, order, "merged", tolerances);
  if (r.has("cut"))
    compare_merged(r, parts, std::span<const std::int32_t>(order).first(to_size(r.one("cut", count))), "cut",
                   tolerances);
  if (r.has("orders")) {
    const auto orders = r.places("orders", 2, count == 0 ? 0 : count - 1);
    if (count == 0 || orders.size() % count != 0 || r.file().find("orders")->shape[1] != count)
      r.refuse("tensor 'orders' must hold orders of ", count, " pieces");
    for (std::size_t i = 0; i < orders.size(); i += count) {
      const auto one = std::span(orders).subspan(i, count);
      if (!std::is_permutation(one.begin(), one.end(), order.begin()))
        r.refuse("tensor 'orders' must name each piece once in every order; its order ", i / count, " does not");
      compare_merged(r, parts, one, "merged", tolerances);
    }
  }
  return static_cast<int>(tokens);
}

}  // namespace

bool memory_replay::same() const {
  return std::all_of(tensors.begin(), tensors.end(), [](const tensor_difference& d) { return d.good; });
}

result<memory_replay> replay_memory(const std::string& path) {
  constexpr std::pair<std::string_view, int (*)(recorded&)> rules[] = {{"sum", replay_sum},
                                                                       {"delta", replay_delta},
                                                                       {"gated_delta", replay_gated_delta},
                                                                       {"delta_product", replay_delta_product},
                                                                       {"titans", replay_titans},
                                                                       {"infini", replay_infini},
                                                                       {"softmax", replay_softmax}};
  try {
    recorded r(path);
    const auto& metadata = r.file().metadata();
    const auto named = metadata.find("rule");
    constexpr std::string_view known = "sum, delta, gated_delta, delta_product, titans, infini or softmax";
    if (named == metadata.end()) r.refuse("has no 'rule' in its metadata; needs ", known);
    for (const auto& [name, replay] : rules)
      if (name == named->second) {
        const int tokens = replay(r);
        return memory_replay{.rule = named->second, .tokens = tokens, .tensors = r.found()};
      }
    r.refuse("its rule ", multistate::detail::shown(named->second), " is unknown; needs ", known);
  } catch (const wrong_file& e) {
    return e.reason;
  }
}

}  // namespace multistate::tools
