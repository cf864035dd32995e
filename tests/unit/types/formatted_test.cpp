#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>

#include <multistate/util/formatted.hpp>
#include <support/locale.hpp>

namespace {

using namespace multistate::detail;

TEST(Formatted, PlacesTakeTheirValues) {
  EXPECT_EQ(formatted("no place"), "no place");
  EXPECT_EQ(formatted("{} of {}, {}", 1, std::size_t{2}, "three"), "1 of 2, three");
  EXPECT_EQ(formatted("[{:<6}|{:>6}|{:6}|{:6}]", "ab", "cd", std::string("ef"), -12), "[ab    |    cd|ef    |   -12]");
  EXPECT_EQ(formatted("{:8.3f}{:<8.2f}|{:.3g}", 3.14159, 2.5, 1234567.0), "   3.1422.50    |1.23e+06");
  EXPECT_EQ(formatted("{:016x}", 0xabcull), "0000000000000abc");
  EXPECT_EQ(formatted("{} % {}", 0.5, "{}"), "0.5 % {}");
  EXPECT_EQ(formatted("{:2}|{:2.3f}", "longer", 12345.0), "longer|12345.000");
}

TEST(Formatted, NothingIsCut) {
  const std::string path(5000, 'x');
  EXPECT_EQ(formatted("model    {}   {}\n", path, "end"), "model    " + path + "   end\n");
  EXPECT_EQ(number_text(std::numeric_limits<double>::max(), 'f', 100).size(), 309 + 101u);
  EXPECT_EQ(number_text(std::numeric_limits<double>::lowest(), 'f', 1000).size(), 1 + 309 + 101u);
}

TEST(Formatted, NumbersAreThoseOfPrintf) {
  std::mt19937_64 random(5);
  std::uniform_real_distribution<double> exponent(-20, 20);
  std::array<char, 400> text{};
  for (int i = 0; i < 2000; ++i) {
    const double x = (random() % 2 == 0 ? 1 : -1) * std::pow(10.0, exponent(random));
    const int digits = static_cast<int>(random() % 8);
    std::snprintf(text.data(), text.size(), "%.*f", digits, x);
    EXPECT_EQ(number_text(x, 'f', digits), text.data());
    std::snprintf(text.data(), text.size(), "%.*g", digits, x);
    EXPECT_EQ(number_text(x, 'g', digits), text.data());
    EXPECT_EQ(number_of(number_text(x)), x);
  }
  EXPECT_EQ(number_text(INFINITY, 'f', 2), "inf");
  EXPECT_EQ(number_text(0.0, 'g', 4), "0");
}

TEST(Formatted, TextThatIsNoNumberIsNone) {
  EXPECT_EQ(number_of("-1.5e3"), -1500);
  for (const char* text : {"", " 1", "1 ", "1,5", "+1", "0x10", "one", "1.5.2"}) EXPECT_FALSE(number_of(text)) << text;
}

TEST(Formatted, NoLocaleChangesANumber) {
  const support::comma_locale there;
  EXPECT_EQ(formatted("{} {:.2f} {:.3g} {}", 1234567, 1234.5, 0.25, 0.1), "1234567 1234.50 0.25 0.1");
  EXPECT_EQ(number_of("0.5"), 0.5);
  if (!there.in_c()) GTEST_SKIP() << "no locale with decimal commas; C++ alone had one";
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%.1f", 0.5);
  EXPECT_STREQ(text.data(), "0,5");
}

}  // namespace
