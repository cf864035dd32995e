#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include <tools/report/svg.hpp>

namespace {

using namespace multistate::tools;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

int count(const std::string& text, std::string_view wanted) {
  int n = 0;
  for (std::size_t at = 0; (at = text.find(wanted, at)) != text.npos; at += wanted.size()) ++n;
  return n;
}

TEST(Svg, EscapesWhatMarkupReads) {
  EXPECT_EQ(escaped("a<b>&\"c'\n\x01"), "a&lt;b&gt;&amp;&quot;c&#39;  ");
  line_plot p{.title = "<script>", .description = "a & b", .x = {}, .y = {}, .series = {{"</svg>", {{0.5, 0.5}}}}};
  const std::string svg = to_svg(p);
  EXPECT_EQ(count(svg, "<script>"), 0);
  EXPECT_EQ(count(svg, "</svg>"), 1);
  EXPECT_NE(svg.find("a &amp; b"), svg.npos);
}

TEST(Svg, TicksAreRoundAndInside) {
  EXPECT_EQ(ticks({"", 0, 1, false}), (std::vector<double>{0, 0.2, 0.4, 0.6000000000000001, 0.8, 1}));
  EXPECT_EQ(ticks({"", -3, 17, false}), (std::vector<double>{0, 5, 10, 15}));
  EXPECT_EQ(ticks({"", 60, 900, true}), (std::vector<double>{100, 200, 500}));
  EXPECT_EQ(ticks({"", 0.5, 4, true}), (std::vector<double>{0.5, 1, 2, 4}));
  EXPECT_EQ(ticks({"", 1, 1e8, true}).size(), 9u);  // over many decades the powers of ten alone
}

TEST(Svg, ScalesLinearAndLog) {
  EXPECT_DOUBLE_EQ((plot_axis{"", 10, 20, false}).at(15), 0.5);
  EXPECT_DOUBLE_EQ((plot_axis{"", 1, 100, true}).at(10), 0.5);
  EXPECT_TRUE(std::isnan((plot_axis{"", 1, 100, true}).at(0)));
}

TEST(Svg, AnAxisHasLength) {
  for (const bool log : {false, true})
    for (const auto& values : {std::vector<double>{}, {nan}, {5}, {-3, -3}, {0}}) {
      const plot_axis a = axis_over("", values, log);
      EXPECT_LT(a.low, a.high);
      EXPECT_TRUE(!log || a.low > 0);
    }
  EXPECT_EQ(axis_over("", {3, nan, -1, INFINITY}).low, -1);
  EXPECT_EQ(axis_over("", {3, -1}, true).low, 1.5);
}

TEST(Svg, WhatHasNoPlaceIsLeftOut) {
  line_plot p{.title = "t", .description = "d", .x = {"x", 1, 100, true}, .y = {"y", 0, 1, false}, .series = {}};
  EXPECT_NE(to_svg(p).str().find("nothing to show"), std::string::npos);
  p.series = {{"a", {{0, 0.5}, {10, nan}, {10, 0.5, 0.25, 0.75}}}};
  const std::string svg = to_svg(p);
  EXPECT_EQ(svg.find("nothing to show"), svg.npos);
  EXPECT_EQ(svg.find("nan"), svg.npos);
  EXPECT_EQ(count(svg, "class=\"line\""), 1);
  EXPECT_NE(svg.find("d=\"M306 183\""), svg.npos) << svg;  // the middle of a log axis and of a linear one
  EXPECT_NE(svg.find("95 % from 0.25 to 0.75"), svg.npos);
}

TEST(Svg, ReferencesAreDottedWithoutAMark) {
  line_plot p{.title = "t", .description = "d", .x = {}, .y = {}, .series = {}};
  p.series = {{"random", {{0, 0.5}, {1, 0.5}}, plot_colours + 1, true, false}, {"mine", {{0, 0.5}, {1, 0.5}}, 9}};
  const std::string svg = to_svg(p);
  EXPECT_EQ(count(svg, "dashed"), 1);
  EXPECT_EQ(count(svg, "class=\"series ref\""), 2);  // the line, and its name behind a piece of it
  EXPECT_EQ(count(svg, "class=\"line\""), 3);
}

TEST(Svg, NamesDoNotOverlap) {
  line_plot p{.title = "t", .description = "d", .x = {}, .y = {}, .series = {}};
  for (int i = 0; i < 9; ++i) p.series.push_back({"s" + std::to_string(i), {{0, 0.5}, {1, 0.5}}, i});
  const std::string svg = to_svg(p);
  std::vector<double> at;
  for (std::size_t i = 0; (i = svg.find("class=\"label\"", i)) != svg.npos; ++i)
    at.push_back(std::stod(svg.substr(svg.find("y=\"", i) + 3)));
  ASSERT_EQ(at.size(), 9u);
  for (std::size_t i = 1; i < at.size(); ++i) EXPECT_GE(at[i] - at[i - 1], 14.9);
}

TEST(Svg, CellsSayTheirNumber) {
  const std::string svg = to_svg(cell_plot{"t", "d", "x", "y", {"1", "2"}, {"a"}, {0.5, nan}});
  EXPECT_EQ(count(svg, "class=\"cell\""), 2);
  EXPECT_NE(svg.find(">50<"), svg.npos);
  EXPECT_NE(svg.find(">n/a<"), svg.npos);
}

}  // namespace
