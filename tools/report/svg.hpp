#pragma once

#include <array>
#include <limits>
#include <string>
#include <vector>

#include <tools/report/markup.hpp>

namespace multistate::tools {

/// Few digits, no trailing zeros, no "-0".
markup short_number(double x, int digits = 4);

/// A coordinate: a tenth of a pixel is finer than anybody sees. What is not finite is 0.
markup pixels(double x);

/// What values lie on, from low to high; a log axis holds positive values only.
struct plot_axis {
  std::string title;
  double low = 0, high = 1;
  bool log = false;

  /// 0 at low, 1 at high; NaN for what has no place here.
  double at(double x) const noexcept;
};

/// An axis that holds all finite values (positive ones on a log axis), never of length zero.
plot_axis axis_over(std::string title, const std::vector<double>& values, bool log = false);

/// Round values inside the axis, some four to eight: multiples of 1, 2 or 5 times a power of ten; on a log axis powers
/// of ten with their doubles and fives where those are few, below one decade powers of two.
std::vector<double> ticks(const plot_axis& a);

struct plot_point {
  double x = 0, y = 0;
  double low = std::numeric_limits<double>::quiet_NaN(), high = low;  ///< of its interval, where there is one
};

/// One line of a plot. Colour, mark and dashes follow from `style`, so that colour never speaks alone.
struct plot_series {
  std::string name;
  std::vector<plot_point> points;
  int style = 0;
  bool reference = false;  ///< drawn grey and dotted: not one of those compared
  bool marks = true;
};

struct line_plot {
  std::string title, description;  ///< for who does not see it
  plot_axis x = {}, y = {};
  std::vector<plot_series> series = {};
  double width = 720, height = 400;
};

inline constexpr int plot_colours = 8, plot_marks = 6;
/// Styles of which no two have colour and mark in common; those beyond the colours are dashed.
inline constexpr int plot_styles = plot_colours * plot_marks;

/// The mark of a style, at a place of the plot.
markup plot_mark(int style, double x, double y);

/// The plot as an SVG element that stands alone in a page: axes, grid, bands, lines, marks, and each line's name at its
/// end. Colours are the page's CSS classes. Points without a place (NaN, not positive on a log axis) are left out.
markup to_svg(const line_plot& p);

/// Shares from 0 to 1 over columns and rows, the number in each cell; NaN says "n/a".
struct cell_plot {
  std::string title, description, x_title, y_title;
  std::vector<std::string> columns = {}, rows = {};
  std::vector<double> cells = {};  ///< row by row
};

markup to_svg(const cell_plot& p);

}  // namespace multistate::tools
