// The SIMD kernel and the library's scalar oracle against the textbook's formula in Eigen's double matrices, over
// random shapes, layouts, formats and options.

#include <multistate/attention/attention.hpp>
#include <multistate/util/executor.hpp>
#include <multistate/attention/scalar.hpp>
#include <multistate/eigen/attention.hpp>
#include <multistate/rope/angle_table.hpp>
#include <multistate/util/bytes.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace multistate;
using matrix = eigen::matrix<double>;

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr double epsilon = std::numeric_limits<float>::epsilon();
constexpr float untouched = -12345.0f;

std::size_t u(Eigen::Index n) { return static_cast<std::size_t>(n); }

struct settings {
  shape dims;
  int n = 1;
  int queries = 1;
  bool scale = false, softcap = false, window = false, sink = false, alibi = false, in_cache = false, log = false;
  float spread = 1.0f;  ///< of the queries: how peaked the softmax is
  unsigned seed = 0;

  std::string text() const {
    std::string s = "seed " + std::to_string(seed) + " H " + std::to_string(dims.heads) + " Hkv " +
                    std::to_string(dims.kv_heads) + " dk " + std::to_string(dims.dk) + " dv " +
                    std::to_string(dims.dv) + " n " + std::to_string(n) + " queries " + std::to_string(queries);
    if (scale) s += " scale";
    if (softcap) s += " softcap";
    if (window) s += " window";
    if (sink) s += " sink";
    if (alibi) s += " alibi";
    if (in_cache) s += " in_cache";
    if (log) s += " log";
    return s + " target " + std::string(attention_target());
  }
};

/// Everything one call needs. All memory that no query may read or write holds NaN, or ends the allocation.
template <class KeyFormat, class ValueFormat>
class problem {
 public:
  explicit problem(const settings& s) : s_(s), rng_(s.seed) {
    make_options();
    for (int h = 0; h < s.dims.kv_heads; ++h) make_head(h);
  }
  problem(const problem&) = delete;

  const attention_options& options() const { return options_; }
  std::vector<attention_task>& tasks() { return tasks_; }

  /// A bound on |logit error| of float32 arithmetic: rounding errors add up like a random walk over the terms, each
  /// at most epsilon / 2 of |q| |k|. What happens is within a quarter of it, with vectors and without.
  double logit_error(int kv_head) const {
    const auto dk = static_cast<std::size_t>(s_.dims.dk);
    const double terms = std::sqrt(double(s_.dims.dk)) / 2 + 4 + (s_.in_cache || s_.log ? 4 : 0);
    const double scale = options_.scale != 0 ? std::abs(double(options_.scale)) : 1 / std::sqrt(double(s_.dims.dk));
    const auto& task = tasks_[static_cast<std::size_t>(kv_head)];
    double largest = 0, element = 0;
    for (int j = 0; j < s_.queries; ++j)
      for (int g = 0; g < s_.dims.group(); ++g) {
        const float* q = task.q + static_cast<std::size_t>(j) * task.q_stride + static_cast<std::size_t>(g) * dk;
        double squares = 0;
        for (std::size_t i = 0; i < dk; ++i) {
          squares += double(q[i]) * double(q[i]);
          element = std::max(element, std::abs(double(q[i])));
        }
        largest = std::max(largest, std::sqrt(squares));
      }
    double bound = terms * scale * largest * key_norm_[static_cast<std::size_t>(kv_head)];
    if (s_.alibi) bound += 2 * (double(s_.n) * longest_gap() + 2);  // slopes up to 1
    // Queries for keys in i8 are rounded to whole steps, no two of which cancel in the worst case.
    const double rounding = std::is_same_v<KeyFormat, i8> && options_.rotation() == nullptr
                                ? scale * element / std::min(65534.0, 33554430.0 / double(s_.dims.dk)) *
                                      std::sqrt(double(s_.dims.dk)) * key_norm_[static_cast<std::size_t>(kv_head)]
                                : 0;
    return epsilon / 2 * bound + rounding;
  }

  const std::vector<float>& out(int kv_head) const { return outs_[static_cast<std::size_t>(kv_head)]; }
  const std::vector<float>& row(int kv_head) const { return rows_[static_cast<std::size_t>(kv_head)]; }

  /// What a KV head's memory has to hold afterwards.
  struct answer {
    std::vector<double> out, row;
  };
  answer expected(int kv_head, needs rows) const {
    const auto h = static_cast<std::size_t>(kv_head);
    const attention_task& task = tasks_[h];
    const Eigen::Index queries = s_.queries;
    const auto stride = [](std::size_t elements) { return Eigen::OuterStride<>(static_cast<Eigen::Index>(elements)); };
    const eigen::matrix_map q(task.q, queries, s_.dims.group() * s_.dims.dk, stride(task.q_stride));
    const auto exact =
        eigen::attend<double>(q.cast<double>(), keys_[h], values_[h], positions_[h], task.first, options_, kv_head);
    answer a{std::vector<double>(outs_[h].size(), double{untouched}),
             std::vector<double>(rows_[h].size(), double{untouched})};
    using memory = Eigen::Map<matrix, Eigen::Unaligned, Eigen::OuterStride<>>;
    memory(a.out.data(), queries, exact.out.cols(), stride(task.out_stride)) = exact.out;
    if (rows == needs::nothing) return a;
    const matrix given = exact.given(rows == needs::last_row  ? rows_kind::last
                                     : rows == needs::row_sum ? rows_kind::sum
                                                              : rows_kind::each);
    memory(a.row.data(), given.rows(), given.cols(), stride(task.row_stride)) = given;
    return a;
  }

  void reset() {
    for (auto& m : outs_) std::fill(m.begin(), m.end(), untouched);
    for (auto& m : rows_) std::fill(m.begin(), m.end(), untouched);
  }

 private:
  int pick(int low, int high) { return std::uniform_int_distribution<int>(low, high)(rng_); }
  float normal() { return std::normal_distribution<float>()(rng_); }

  void make_options() {
    const auto heads = static_cast<std::size_t>(s_.dims.heads);
    if (s_.scale) options_.scale = 0.37f;
    if (s_.softcap) options_.softcap = 3.0f;
    if (s_.window) options_.window = pick(1, s_.n + 5);
    for (std::size_t h = 0; h < heads; ++h) {
      sinks_.push_back(normal() * 2);
      slopes_.push_back(std::ldexp(1.0f, -static_cast<int>(h) / 2));
    }
    if (s_.sink) options_.sink_logits = sinks_;
    if (s_.alibi) options_.alibi = slopes_;
    if (s_.in_cache || s_.log) {
      rope_.dim = 2 * pick(1, s_.dims.dk / 2);
      rope_.pairing = pick(0, 1) == 0 ? rope_pairing::halves : rope_pairing::adjacent;
      table_ = std::make_unique<angle_table>(angle_table::make(rope_, s_.n).value());
      if (s_.in_cache) options_.in_cache = table_.get();
      if (s_.log) options_.log = &table_->rotation();
    }
  }
  int longest_gap() const { return s_.log ? 30 : 3; }

  /// rows [count][d] in one allocation of exactly their bytes, at an odd address, strides with NaN between the rows.
  template <class Format>
  const std::byte* store(const std::vector<float>& values, std::size_t count, std::size_t d, std::size_t& stride) {
    const std::size_t offset = static_cast<std::size_t>(pick(0, 5)), row = row_bytes<Format>(static_cast<int>(d));
    stride = row + static_cast<std::size_t>(pick(0, 1) * pick(0, 9));
    const std::size_t bytes = offset + (count == 0 ? 0 : stride * (count - 1) + row);
    std::vector<std::byte>& memory = memory_.emplace_back(bytes, std::byte{0xff});
    for (std::size_t r = 0; r < count; ++r)
      store_row<Format>(memory.data() + offset + r * stride, values.data() + r * d, static_cast<int>(d));
    return memory.data() + offset;
  }
  /// Row r of `to` = what the format makes of `from` [d].
  template <class Format>
  static void keep(const float* from, matrix& to, Eigen::Index r) {
    const int d = static_cast<int>(to.cols());
    std::vector<std::byte> row(row_bytes<Format>(d));
    store_row<Format>(row.data(), from, d);
    const auto element = [&](int i) {
      return load_at<typename Format::element>(row, u(i) * sizeof(typename Format::element));
    };
    for (int i = 0; i < d; ++i)
      to(r, i) = double{Format::load(element(i))} * double{row_scale<Format>(row.data(), u(d))};
  }

  void make_head(int head) {
    const auto n = static_cast<std::size_t>(s_.n);
    const auto queries = static_cast<std::size_t>(s_.queries);
    const auto dk = static_cast<std::size_t>(s_.dims.dk);
    const auto dv = static_cast<std::size_t>(s_.dims.dv);
    const auto group = static_cast<std::size_t>(s_.dims.group());

    // Positions: old states in any order of slots, the chunk's own at the end.
    std::vector<position> pos;
    position next = pick(0, 3);
    for (std::size_t i = 0; i < n; ++i) pos.push_back(next += (i < n - queries ? pick(1, pick(1, longest_gap())) : 1));
    std::shuffle(pos.begin(), pos.begin() + static_cast<std::ptrdiff_t>(n - queries), rng_);
    std::vector<std::uint32_t> ranks;
    for (std::size_t i = 0; i < n; ++i)
      ranks.push_back(
          static_cast<std::uint32_t>(std::count_if(pos.begin(), pos.end(), [&](position p) { return p < pos[i]; })));

    double norm = 0;
    matrix& keys = keys_.emplace_back(s_.n, s_.dims.dk);
    matrix& values = values_.emplace_back(s_.n, s_.dims.dv);
    std::vector<extent> extents;
    for (std::size_t held = 0; held < n;) {
      // The last extent may hold more rows than are attended: NaN, to be left alone.
      const auto some = static_cast<std::size_t>(pick(0, 1) == 0 ? pick(0, 5) : pick(1, s_.n + 3));
      std::vector<float> k(some * dk, nan);
      std::vector<float> v(some * dv, nan);
      for (std::size_t r = 0; r < some && held + r < n; ++r) {
        const auto at = static_cast<Eigen::Index>(held + r);
        for (std::size_t i = 0; i < dk; ++i) k[r * dk + i] = normal();
        for (std::size_t i = 0; i < dv; ++i) v[r * dv + i] = normal();
        keep<KeyFormat>(&k[r * dk], keys, at);
        keep<ValueFormat>(&v[r * dv], values, at);
        norm = std::max(norm, keys.row(at).norm());
      }
      extent e;
      e.n = static_cast<int>(some);
      e.k = store<KeyFormat>(k, some, dk, e.k_stride);
      e.v = store<ValueFormat>(v, some, dv, e.v_stride);
      extents.push_back(e);
      held += some;
    }
    key_norm_.push_back(norm);

    attention_task task;
    task.queries = s_.queries;
    task.kv_head = head;
    task.first = pos[n - queries];
    task.q_stride = group * dk + static_cast<std::size_t>(pick(0, 3));
    task.out_stride = group * dv + static_cast<std::size_t>(pick(0, 3));
    task.row_stride = n + static_cast<std::size_t>(pick(0, 3));
    auto& q = qs_.emplace_back(task.q_stride * queries, nan);
    for (std::size_t j = 0; j < queries; ++j)
      for (std::size_t i = 0; i < group * dk; ++i) q[j * task.q_stride + i] = normal() * s_.spread;
    task.q = q.data();
    task.out = outs_.emplace_back(task.out_stride * queries).data();
    task.row = rows_.emplace_back(task.row_stride * queries).data();
    extents_.push_back(std::move(extents));
    positions_.push_back(std::move(pos));
    ranks_.push_back(std::move(ranks));
    task.kv.n = s_.n;
    task.kv.extents = extents_.back();
    task.kv.positions = positions_.back();
    task.kv.ranks = ranks_.back();
    tasks_.push_back(task);
  }

  settings s_;
  std::mt19937 rng_;
  attention_options options_;
  rope_config rope_;
  std::unique_ptr<angle_table> table_;
  std::vector<matrix> keys_, values_;  // [n][dk], [n][dv] by slot, as stored
  std::vector<float> sinks_, slopes_;
  std::vector<double> key_norm_;
  std::vector<std::vector<std::byte>> memory_;
  std::vector<std::vector<float>> qs_, outs_, rows_;
  std::vector<std::vector<extent>> extents_;
  std::vector<std::vector<position>> positions_;
  std::vector<std::vector<std::uint32_t>> ranks_;
  std::vector<attention_task> tasks_;
};

/// Scratch at an odd address, full of NaN.
struct dirty {
  std::vector<std::byte> memory;
  std::span<std::byte> span;
  explicit dirty(std::size_t bytes) : memory(bytes + 3, std::byte{0xff}), span(memory.data() + 3, bytes) {}
};

template <needs Want, class KeyFormat, class ValueFormat = KeyFormat>
void compare(const settings& s) {
  problem<KeyFormat, ValueFormat> p(s);
  auto& tasks = p.tasks();
  if (Want == needs::nothing)
    for (auto& t : tasks) t.row = nullptr;

  // relative_error(head): of its weights.
  const auto check = [&](const auto& attend, const auto& relative_error) {
    p.reset();
    attend.template operator()<Want, KeyFormat, ValueFormat>(tasks);
    for (int h = 0; h < s.dims.kv_heads; ++h) {
      const auto e = p.expected(h, rows_given(Want));
      const double relative = relative_error(h), values = 2;  // a bound on the weighted mean of |v|, normals
      for (std::size_t i = 0; i < e.out.size(); ++i) {
        ASSERT_EQ(e.out[i] == untouched, p.out(h)[i] == untouched) << s.text() << " head " << h << " out " << i;
        ASSERT_NEAR(e.out[i], p.out(h)[i], relative * values + 1e-37) << s.text() << " head " << h << " out " << i;
      }
      const double rows = Want == needs::row_sum ? s.queries : 1;
      for (std::size_t i = 0; i < e.row.size(); ++i) {
        ASSERT_EQ(e.row[i] == untouched, p.row(h)[i] == untouched) << s.text() << " head " << h << " row " << i;
        ASSERT_NEAR(e.row[i], p.row(h)[i], relative * std::abs(e.row[i]) + rows * 16 * 1.2e-38)
            << s.text() << " head " << h << " row " << i;
      }
    }
  };
  {
    SCOPED_TRACE("the scalar oracle");
    check(scalar_attention{s.dims, p.options()}, [](int) { return epsilon; });
  }
  SCOPED_TRACE("the SIMD kernel");
  dirty scratch(attend_scratch_bytes(s.dims, s.n, s.queries, 1, s.log));
  // exp of a logit that is off, by both numerator and sum; its own 4 ulp; sums of n terms in blocks.
  check(attention<>{s.dims, p.options(), nullptr, scratch.span},
        [&](int h) { return 2 * p.logit_error(h) + (32 + s.n / 32.0) * epsilon; });
}

constexpr std::array dimensions{1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 40, 64, 80, 96, 128, 192};

settings draw(std::mt19937& rng) {
  const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(rng); };
  const auto flag = [&] { return pick(0, 3) == 0; };
  settings s;
  s.seed = static_cast<unsigned>(rng());
  s.dims.kv_heads = pick(1, 3);
  s.dims.heads = s.dims.kv_heads * pick(1, 16);
  s.dims.dk = dimensions[static_cast<std::size_t>(pick(0, dimensions.size() - 1))];
  s.dims.dv = dimensions[static_cast<std::size_t>(pick(0, dimensions.size() - 1))];
  s.n = pick(0, 9) == 0 ? 1 : pick(0, 2) == 0 ? pick(2, 20) : pick(0, 4) == 0 ? pick(256, 900) : pick(2, 300);
  const int most = std::max(1, std::min(s.n, 20000 / (s.n * s.dims.heads / 4 + 1)));
  s.queries = pick(0, 1) == 0 ? 1 : pick(0, 3) == 0 ? most : pick(1, most);
  s.scale = flag();
  s.softcap = flag();
  s.window = flag();
  s.sink = flag();
  s.alibi = flag();
  s.in_cache = flag() && s.dims.dk >= 2;
  s.log = flag() && s.dims.dk >= 2 && !s.in_cache;
  s.spread = pick(0, 3) == 0 ? 8.0f : 1.0f;
  return s;
}

template <needs Want, class KeyFormat, class ValueFormat = KeyFormat>
void compare_many(unsigned seed, int cases) {
  std::mt19937 rng(seed);
  for (int i = 0; i < cases; ++i) {
    compare<Want, KeyFormat, ValueFormat>(draw(rng));
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(attention_against_eigen, f32_nothing) { compare_many<needs::nothing, f32>(1, 60); }
TEST(attention_against_eigen, f32_last_row) { compare_many<needs::last_row, f32>(2, 60); }
TEST(attention_against_eigen, f32_row_sum) { compare_many<needs::row_sum, f32>(3, 60); }
TEST(attention_against_eigen, f32_each_row) { compare_many<needs::each_row, f32>(4, 60); }
TEST(attention_against_eigen, f16) { compare_many<needs::each_row, f16>(5, 60); }
TEST(attention_against_eigen, bf16) { compare_many<needs::each_row, bf16>(6, 60); }
TEST(attention_against_eigen, f32_f16) { compare_many<needs::last_row, f32, f16>(7, 40); }
TEST(attention_against_eigen, f32_bf16) { compare_many<needs::last_row, f32, bf16>(8, 40); }
TEST(attention_against_eigen, f16_f32) { compare_many<needs::row_sum, f16, f32>(9, 40); }
TEST(attention_against_eigen, f16_bf16) { compare_many<needs::row_sum, f16, bf16>(10, 40); }
TEST(attention_against_eigen, bf16_f32) { compare_many<needs::nothing, bf16, f32>(11, 40); }
TEST(attention_against_eigen, bf16_f16) { compare_many<needs::nothing, bf16, f16>(12, 40); }

TEST(attention_against_eigen, i8) { compare_many<needs::each_row, i8>(14, 60); }
TEST(attention_against_eigen, i8_f32) { compare_many<needs::last_row, i8, f32>(15, 40); }
TEST(attention_against_eigen, f16_i8) { compare_many<needs::row_sum, f16, i8>(16, 40); }

/// Keys off by half a scale move a logit by at most delta, and so weights by factors of at most exp(2 delta).
TEST(attention_against_eigen, i8_states_are_within_their_bound_of_f32_ones) {
  std::mt19937 rng(17);
  std::normal_distribution<float> normal;
  for (int round = 0; round < 40; ++round) {
    const int d = 1 + static_cast<int>(rng() % 130), n = 1 + static_cast<int>(rng() % 400);
    const shape dims{3, 1, d, d};
    std::vector<float> q(3 * u(d)), k(u(n) * u(d)), v(k.size()), exact(q.size()), rounded(q.size());
    for (auto* x : {&q, &k, &v})
      for (float& f : *x) f = normal(rng);
    std::vector<std::byte> k8(u(n) * row_bytes<i8>(d)), v8(k8.size());
    float key_scale = 0, value_scale = 0, largest_value = 0;
    for (std::size_t i = 0; i < u(n); ++i) {
      store_row<i8>(&k8[i * row_bytes<i8>(d)], &k[i * u(d)], d);
      store_row<i8>(&v8[i * row_bytes<i8>(d)], &v[i * u(d)], d);
      key_scale = std::max(key_scale, row_scale<i8>(&k8[i * row_bytes<i8>(d)], u(d)));
      value_scale = std::max(value_scale, row_scale<i8>(&v8[i * row_bytes<i8>(d)], u(d)));
    }
    for (const float x : v) largest_value = std::max(largest_value, std::abs(x));
    std::vector<std::byte> scratch(attend_scratch_bytes(dims, n));
    const attention<> attend{dims, {}, nullptr, scratch};
    const extent floats{reinterpret_cast<const std::byte*>(k.data()), reinterpret_cast<const std::byte*>(v.data()),
                        u(d) * sizeof(float), u(d) * sizeof(float), n};
    const extent bytes{k8.data(), v8.data(), row_bytes<i8>(d), row_bytes<i8>(d), n};
    attention_task task;
    task.q = q.data();
    task.out = exact.data();
    task.kv = {.extents = {&floats, 1}, .positions = {}, .ranks = {}, .n = n};
    attend.operator()<needs::nothing>({&task, 1});
    task.kv.extents = {&bytes, 1};
    task.out = rounded.data();
    attend.operator()<needs::nothing, i8>({&task, 1});
    for (std::size_t g = 0; g < 3; ++g) {
      double norm1 = 0;
      for (std::size_t i = 0; i < u(d); ++i) norm1 += std::abs(double{q[g * u(d) + i]});
      const double delta = norm1 * double{key_scale} / 2 / std::sqrt(double(d));
      const double bound = std::expm1(2 * delta) * double{largest_value} + double{value_scale} / 2 + 1e-5;
      for (std::size_t i = g * u(d); i < (g + 1) * u(d); ++i) {
        ASSERT_NEAR(exact[i], rounded[i], bound) << d << ' ' << n;
        ASSERT_NEAR(exact[i], rounded[i], 0.1) << d << ' ' << n;  // what errors that do not add up come to
      }
    }
  }
}

TEST(attention_against_eigen, every_pair_of_dimensions) {
  std::mt19937 rng(13);
  for (const int dk : dimensions)
    for (const int dv : dimensions) {
      settings s = draw(rng);
      s.dims.dk = dk;
      s.dims.dv = dv;
      s.dims.kv_heads = 1;
      s.dims.heads = 1 + static_cast<int>(rng() % 5);
      s.n = 1 + static_cast<int>(rng() % 70);
      s.queries = std::min(s.queries, std::min(s.n, 6));
      s.in_cache = s.in_cache && dk >= 2;
      s.log = s.log && dk >= 2;
      compare<needs::each_row, f32, f32>(s);
      if (HasFatalFailure()) return;
    }
}

TEST(attention_against_eigen, each_option_alone_and_all_together) {
  for (int option = 0; option < 9; ++option)
    for (const int queries : {1, 5, 40}) {
      settings s;
      s.seed = static_cast<unsigned>(100 + option);
      s.dims = {8, 2, 40, 24};
      s.n = 77;
      s.queries = queries;
      s.scale = option == 0 || option >= 7;
      s.softcap = option == 1 || option >= 7;
      s.window = option == 2 || option >= 7;
      s.sink = option == 3 || option >= 7;
      s.alibi = option == 4 || option >= 7;
      s.in_cache = option == 5 || option == 7;
      s.log = option == 6 || option == 8;
      compare<needs::each_row, f32, f32>(s);
      compare<needs::row_sum, f16, bf16>(s);
      compare<needs::last_row, i8>(s);
      if (HasFatalFailure()) return;
    }
}

}  // namespace
