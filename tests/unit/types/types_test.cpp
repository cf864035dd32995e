#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <multistate/util/buffer.hpp>
#include <multistate/util/bytes.hpp>
#include <multistate/types/decision.hpp>
#include <multistate/types/error.hpp>
#include <multistate/util/hash.hpp>
#include <multistate/types/ids.hpp>
#include <multistate/types/rows.hpp>
#include <multistate/types/shape.hpp>

namespace {

using namespace multistate;

// Files and policy `random` depend on these: they change with the format of saved states only.
static_assert(mix(0) == 0xe220a8397b1dcdafu);
static_assert(mix(1) == 0x910a2dec89025cc1u);
static_assert(mix(0x9e3779b97f4a7c15u) == 0x6e789e6aa1b965f4u);
static_assert(mix(0xffffffffffffffffu) == 0xe4d971771b652c20u);

static_assert(sizeof(position) == 8 && std::is_signed_v<position>);
static_assert(sizeof(slot) == 4 && no_slot != parked && index(slot{7}) == 7);

static_assert(any(needs::each_row | needs::last_row) && !any(needs::nothing));
static_assert((needs::each_row & needs::row_sum) == needs::nothing);
static_assert(lanes_of(scope_kind::model_head, 3) == 3 && lane_of(scope_kind::model_head, 2) == 2);
static_assert(spans_layers(scope_kind::model) && spans_layers(scope_kind::model_head));
static_assert(!spans_layers(scope_kind::layer) && !spans_layers(scope_kind::head));

static_assert(shape{8, 2, 64, 32}.group() == 4);
static_assert(lane_of(scope_kind::head, 3) == 3 && lane_of(scope_kind::layer, 3) == 0 &&
              lane_of(scope_kind::model, 3) == 0);
static_assert(lanes_of(scope_kind::head, 4) == 4 && lanes_of(scope_kind::layer, 4) == 1 &&
              lanes_of(scope_kind::model, 4) == 1);
static_assert(limits{}.slack() == 0 && limits{.every = 5}.slack() == 4);

TEST(buffer, is_empty_until_it_allocates) {
  buffer<int> b;
  EXPECT_EQ(b.size(), 0u);
  EXPECT_EQ(b.bytes(), 0u);
  EXPECT_EQ(b.data(), nullptr);
}

TEST(buffer, starts_at_zero_on_a_cache_line) {
  buffer<float> b;
  ASSERT_TRUE(b.allocate(1000));
  EXPECT_EQ(b.size(), 1000u);
  EXPECT_EQ(b.bytes(), 4000u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b.data()) % 64, 0u);
  for (std::size_t i = 0; i < b.size(); ++i) ASSERT_EQ(b[i], 0.0f);
}

TEST(buffer, allocating_again_starts_anew) {
  buffer<int> b;
  ASSERT_TRUE(b.allocate(4));
  b.fill(7);
  ASSERT_TRUE(b.allocate(2));
  EXPECT_EQ(b.size(), 2u);
  EXPECT_EQ(b[0], 0);
  ASSERT_TRUE(b.allocate(0));
  EXPECT_EQ(b.size(), 0u);
}

TEST(buffer, refuses_what_does_not_fit_and_changes_nothing) {
  buffer<double> b;
  ASSERT_TRUE(b.allocate(3));
  b.fill(1.5);
  EXPECT_FALSE(b.allocate(std::numeric_limits<std::size_t>::max() / 8 + 2));
  EXPECT_FALSE(b.allocate(std::numeric_limits<std::size_t>::max()));
  ASSERT_EQ(b.size(), 3u);
  EXPECT_EQ(b[2], 1.5);
}

TEST(buffer, moves_and_swaps) {
  buffer<int> a, b;
  ASSERT_TRUE(a.allocate(2));
  ASSERT_TRUE(b.allocate(3));
  a[0] = 5;
  const int* at = a.data();
  buffer<int> c(std::move(a));
  EXPECT_EQ(c.data(), at);
  EXPECT_EQ(a.data(), nullptr);  // NOLINT(bugprone-use-after-move): empty is promised
  b = std::move(c);
  EXPECT_EQ(b.data(), at);
  EXPECT_EQ(b.size(), 2u);
  EXPECT_EQ(b.span(0, 1)[0], 5);
  EXPECT_EQ(b.span(2, 0).size(), 0u);
}

TEST(error, is_text_and_numbers_one_after_another) {
  const error e(errc::bad_budget, "budget ", 0, ", ", -7, ", ", std::uint64_t{18446744073709551615u}, ", ",
                std::numeric_limits<std::int64_t>::min(), std::string(" end"), std::string_view("."));
  EXPECT_EQ(e.code(), errc::bad_budget);
  EXPECT_EQ(e.message(), "budget 0, -7, 18446744073709551615, -9223372036854775808 end.");
  EXPECT_EQ(error().code(), errc::ok);
  EXPECT_EQ(error().message(), "");
}

TEST(error, cuts_a_long_message) {
  error e(errc::bad_file, std::string(600, 'x'));
  EXPECT_EQ(e.message(), std::string(511, 'x'));
  e.append(12);
  EXPECT_EQ(e.message().size(), 511u);
  EXPECT_EQ(std::string(bad_result(e).what()), std::string(511, 'x'));
  std::string far(509, 'x');
  EXPECT_EQ(error(errc::bad_file, far + "\u4e2d").message(), far) << "a code point is not cut";
  EXPECT_EQ(error(errc::bad_file, far + "\u00fc").message(), far + "\u00fc");
}

TEST(result, holds_a_value) {
  result<std::string> r(std::string("yes"));
  ASSERT_TRUE(r);
  EXPECT_EQ(r.code(), errc::ok);
  EXPECT_EQ(r.value(), "yes");
  EXPECT_EQ(*r, "yes");
  EXPECT_EQ(r->size(), 3u);
  EXPECT_EQ(std::move(r).value(), "yes");
}

TEST(result, or_the_error_and_then_value_throws) {
  const result<int> r(error(errc::bad_shape, "no ", 3));
  ASSERT_FALSE(r);
  EXPECT_EQ(r.code(), errc::bad_shape);
  EXPECT_EQ(r.reason().message(), "no 3");
#if defined(__cpp_exceptions)
  try {
    (void)r.value();
    FAIL() << "value() must throw";
  } catch (const bad_result& e) {
    EXPECT_STREQ(e.what(), "no 3");
    EXPECT_EQ(e.reason().code(), errc::bad_shape);
  }
#endif
}

TEST(result, takes_what_only_moves) {
  buffer<int> b;
  ASSERT_TRUE(b.allocate(2));
  result<buffer<int>> r(std::move(b));
  EXPECT_EQ(std::move(r).value().size(), 2u);
}

TEST(bytes, come_back_as_written) {
  std::array<std::byte, 32> memory{};
  byte_writer to(memory);
  to.put(std::uint8_t{1});
  to.put(std::int64_t{-2});
  to.put(2.5f);
  to.put(std::as_bytes(std::span<const char>("abc", 3)));
  ASSERT_EQ(to.written(), 16u);
  byte_reader from(std::span<const std::byte>(memory).first(16));
  EXPECT_EQ(from.get<std::uint8_t>(), 1);
  EXPECT_EQ(from.get<std::int64_t>(), -2);
  EXPECT_EQ(from.get<float>(), 2.5f);
  EXPECT_EQ(std::to_integer<char>(from.take(3)[2]), 'c');
  EXPECT_EQ(from.left(), 0u);
  EXPECT_FALSE(from.failed());
}

TEST(bytes, end_of_input_is_remembered) {
  const std::array<std::byte, 3> memory{std::byte{1}, std::byte{2}, std::byte{3}};
  byte_reader from(memory);
  EXPECT_EQ(from.get<std::uint32_t>(), 0u);
  EXPECT_TRUE(from.failed());
  EXPECT_EQ(from.get<std::uint8_t>(), 0u);  // nothing comes after a failure
  EXPECT_TRUE(from.take(0).empty());
  byte_reader huge(memory);
  EXPECT_TRUE(huge.take(std::numeric_limits<std::size_t>::max()).empty());
  EXPECT_TRUE(huge.failed());
  byte_reader none{std::span<const std::byte>()};
  EXPECT_FALSE(none.failed());
  EXPECT_EQ(none.get<char>(), 0);
  EXPECT_TRUE(none.failed());
}

TEST(bytes, elements_at_any_alignment) {
  std::array<std::byte, 13> memory{};
  byte_writer to(std::span<std::byte>(memory).subspan(1));
  to.put(std::uint32_t{10});
  to.put(std::uint32_t{20});
  to.put(std::uint32_t{30});
  EXPECT_EQ(load_at<std::uint32_t>(memory, 1 + 2 * sizeof(std::uint32_t)), 30u);
}

TEST(rows, last_is_the_newest_query_or_the_sum) {
  const std::vector<float> w{1, 2, 3, 0, 4, 5, 6, 0};
  const rows each{.data = w.data(), .stride = 4, .n = 3, .queries = 2};
  EXPECT_EQ(each.row(0)[2], 3);
  EXPECT_EQ(each.last().size(), 3u);
  EXPECT_EQ(each.last()[0], 4);
  const rows sum{.data = w.data(), .stride = 4, .n = 3, .queries = 2, .heads = 1, .kind = rows_kind::sum};
  EXPECT_EQ(sum.last()[0], 1);
}

}  // namespace
