#include <multistate/scan/element.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace {

using multistate::scan_add;
using multistate::scan_clear;
using multistate::scan_element;
using multistate::scan_merge;
using multistate::scan_normalise;

constexpr std::size_t dv = 8;

template <class T>
struct held_element {
  std::vector<T> memory = std::vector<T>(dv, std::numeric_limits<T>::quiet_NaN());  // clear() must not read it
  scan_element<T> e{};
  held_element() {
    e.value = memory;
    scan_clear(e);
  }
  held_element(const held_element& other) : memory(other.memory), e(other.e) { e.value = memory; }
  held_element& operator=(const held_element&) = delete;
};

struct scanned {
  std::vector<double> logit;  // [T]
  std::vector<double> value;  // [T][dv]
};

/// Logits from -171 to 51, as in golden/closed/aaren: exp without subtracting a maximum overflows float.
scanned make(std::size_t tokens) {
  std::mt19937 rng(7);
  std::uniform_real_distribution<double> logit(-171, 51);
  std::normal_distribution<double> value;
  scanned s;
  for (std::size_t t = 0; t < tokens; ++t) {
    s.logit.push_back(t == 3 ? 51 : t == 4 ? -171 : logit(rng));
    for (std::size_t i = 0; i < dv; ++i) s.value.push_back(value(rng));
  }
  return s;
}

std::vector<double> softmax(const scanned& s, std::size_t first, std::size_t last) {
  double max = -std::numeric_limits<double>::infinity();
  for (std::size_t t = first; t < last; ++t) max = std::max(max, s.logit[t]);
  double sum = 0;
  std::vector<double> out(dv, 0.0);
  for (std::size_t t = first; t < last; ++t) {
    const double e = std::exp(s.logit[t] - max);
    sum += e;
    for (std::size_t i = 0; i < dv; ++i) out[i] += e * s.value[t * dv + i];
  }
  for (double& x : out) x /= sum;
  return out;
}

template <class T>
void add(held_element<T>& h, const scanned& s, std::size_t t) {
  std::vector<T> v;
  for (std::size_t i = 0; i < dv; ++i) v.push_back(static_cast<T>(s.value[t * dv + i]));
  scan_add<T>(h.e, static_cast<T>(s.logit[t]), v);
}

template <class T>
held_element<T> segment(const scanned& s, std::size_t first, std::size_t last) {
  held_element<T> h;
  for (std::size_t t = first; t < last; ++t) add(h, s, t);
  return h;
}

template <class T>
std::vector<T> normalised(const held_element<T>& h) {
  std::vector<T> out(dv);
  scan_normalise<T>(h.e, out);
  return out;
}

template <class T>
class scan : public testing::Test {};
using scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(scan, scalars);

TYPED_TEST(scan, prefixes_are_softmax_attention) {
  const auto s = make(50);
  held_element<TypeParam> h;
  for (std::size_t t = 0; t < 50; ++t) {
    add(h, s, t);
    const auto want = softmax(s, 0, t + 1);
    const auto got = normalised(h);
    for (std::size_t i = 0; i < dv; ++i) EXPECT_NEAR(got[i], want[i], sizeof(TypeParam) == 4 ? 1e-5 : 1e-12) << t;
  }
}

TYPED_TEST(scan, merge_is_associative_with_an_identity) {
  const auto s = make(50);
  const double tolerance = sizeof(TypeParam) == 4 ? 1e-5 : 1e-12;
  const auto a = segment<TypeParam>(s, 0, 7);
  const auto b = segment<TypeParam>(s, 7, 8);
  const auto c = segment<TypeParam>(s, 8, 50);
  auto left = a;
  scan_merge(left.e, b.e);
  scan_merge(left.e, c.e);
  auto right = b;
  scan_merge(right.e, c.e);
  auto all = a;
  scan_merge(all.e, right.e);
  auto swapped = c;
  scan_merge(swapped.e, a.e);
  scan_merge(swapped.e, b.e);
  const auto want = softmax(s, 0, 50);
  EXPECT_EQ(left.e.max, all.e.max);
  EXPECT_NEAR(left.e.sum, all.e.sum, tolerance * double(all.e.sum));
  for (const auto* h : {&left, &all, &swapped})
    for (std::size_t i = 0; i < dv; ++i) EXPECT_NEAR(normalised(*h)[i], want[i], tolerance);

  held_element<TypeParam> none;
  auto same = a;
  scan_merge(same.e, none.e);
  EXPECT_EQ(same.memory, a.memory);
  EXPECT_EQ(same.e.sum, a.e.sum);
  scan_merge(none.e, a.e);
  EXPECT_EQ(none.memory, a.memory);
  EXPECT_EQ(none.e.max, a.e.max);
}

TYPED_TEST(scan, extreme_logits) {
  using T = TypeParam;
  const std::vector<T> ones(dv, 1);
  const std::vector<T> twos(dv, 2);
  held_element<T> h;
  EXPECT_EQ(normalised(h), std::vector<T>(dv, 0));
  scan_add<T>(h.e, -std::numeric_limits<T>::infinity(), twos);  // no state
  scan_add<T>(h.e, T(-3e4), ones);
  EXPECT_EQ(normalised(h), ones);
  scan_add<T>(h.e, T(3e4), twos);
  EXPECT_EQ(normalised(h), twos);
  scan_add<T>(h.e, T(3e4), {});  // a sink takes half
  EXPECT_EQ(normalised(h), ones);
  scan_add<T>(h.e, std::numeric_limits<T>::quiet_NaN(), ones);
  for (const T x : normalised(h)) EXPECT_TRUE(std::isnan(x));
}

}  // namespace
