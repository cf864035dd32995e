#include <tools/report/svg.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

namespace multistate::tools {

markup short_number(double x, int digits) { return markup::as_is(fmt::format("{:.{}g}", x + 0.0, digits)); }

markup pixels(double x) {
  std::string out = fmt::format("{:.1f}", std::isfinite(x) ? std::clamp(x, -1e6, 1e6) : 0.0);
  if (out.ends_with(".0")) out.resize(out.size() - 2);
  return markup::as_is(out == "-0" ? "0" : out);
}

double plot_axis::at(double x) const noexcept {
  if (log) return x > 0 ? std::log(x / low) / std::log(high / low) : std::numeric_limits<double>::quiet_NaN();
  return (x - low) / (high - low);
}

plot_axis axis_over(std::string title, const std::vector<double>& values, bool log) {
  plot_axis a{std::move(title), 0, 0, log};
  bool any = false;
  for (const double x : values) {
    if (!std::isfinite(x) || std::abs(x) > 1e200 || (log && x <= 0)) continue;
    a.low = any ? std::min(a.low, x) : x;
    a.high = any ? std::max(a.high, x) : x;
    any = true;
  }
  if (!any) a.low = 1, a.high = log ? 10 : 2;
  if (log) {
    constexpr double least = 1e-200, most = 1e200;  // ends whose logarithms and quotients stay finite
    a.low = std::clamp(a.low, least, most), a.high = std::clamp(a.high, least, most);
    if (!(a.low < a.high)) a.low /= 2, a.high *= 2;
  } else if (!(a.low < a.high)) {
    const double room = std::abs(a.low) > 0 ? std::abs(a.low) / 2 : 1;
    a.low -= room, a.high += room;
  }
  return a;
}

std::vector<double> ticks(const plot_axis& a) {
  std::vector<double> out;
  if (a.log) {
    const int first = static_cast<int>(std::floor(std::log10(a.low))),
              last = static_cast<int>(std::ceil(std::log10(a.high)));
    if (a.high / a.low < 10) {  // doublings: distances are k/2, k, 2k, 4k
      for (int e = static_cast<int>(std::ceil(std::log2(a.low) - 1e-9)); std::exp2(e) <= a.high * (1 + 1e-9); ++e)
        out.push_back(std::exp2(e));
      return out;
    }
    const bool between = last - first <= 4;
    for (int e = first; e <= last; ++e)
      for (const double m : {1.0, 2.0, 5.0}) {
        const double x = m * std::pow(10.0, e);
        if ((m < 2 || between) && x >= a.low * (1 - 1e-9) && x <= a.high * (1 + 1e-9)) out.push_back(x);
      }
    return out;
  }
  const double rough = (a.high - a.low) / 5, power = std::pow(10.0, std::floor(std::log10(rough)));
  const double step = power * (rough / power < 1.5 ? 1 : rough / power < 3.5 ? 2 : rough / power < 7.5 ? 5 : 10);
  const double first = std::ceil(a.low / step - 1e-9);
  for (int i = 0; i < 20 && (first + i) * step <= a.high + step * 1e-9; ++i) out.push_back((first + i) * step);
  return out;
}

markup plot_mark(int style, double x, double y) {
  const auto path = [&](const char* d) {
    return "<path transform=\"translate(" + pixels(x) + " " + pixels(y) + ")\" d=\"" + d + "\"/>";
  };
  constexpr int pairs = 24;  // of the same parity; beyond them the mark is the next one
  switch ((style + style / pairs) % plot_marks) {
    case 0:
      return path("M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z");
    case 1:
      return path("M-3.6-3.6h7.2v7.2h-7.2z");
    case 2:
      return path("M0-5L4.6 3.6h-9.2z");
    case 3:
      return path("M0-5L5 0L0 5L-5 0z");
    case 4:
      return path("M0 5L4.6-3.6h-9.2z");
    default:
      return path("M-4-1.2h2.8v-2.8h2.4v2.8h2.8v2.4h-2.8v2.8h-2.4v-2.8h-2.8z");
  }
}

markup to_svg(const line_plot& p) {
  const double left = 64, right = p.width - 172, top = 14, bottom = p.height - 48;
  const auto px = [&](double v) { return left + p.x.at(v) * (right - left); };
  const auto py = [&](double v) { return bottom - std::clamp(p.y.at(v), -0.02, 1.02) * (bottom - top); };
  const auto placed = [&](const plot_point& q) { return std::isfinite(p.x.at(q.x)) && std::isfinite(p.y.at(q.y)); };
  markup out = "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 " +
               pixels(p.width) + " " + pixels(p.height) + "\"><title>" + escaped(p.title) + "</title><desc>" +
               escaped(p.description) + "</desc>";
  const auto text = [&](double x, double y, const char* kind, const std::string& words) {
    out += "<text class=\"" + markup(kind) + "\" x=\"" + pixels(x) + "\" y=\"" + pixels(y) + "\">" + escaped(words) +
           "</text>";
  };
  for (const double t : ticks(p.y)) {
    out += "<path class=\"" + markup(std::abs(t) > 0 ? "grid" : "zero") + "\" d=\"M" + pixels(left) + " " +
           pixels(py(t)) + "H" + pixels(right) + "\"/>";
    text(left - 8, py(t) + 4, "tick end", short_number(t));
  }
  for (const double t : ticks(p.x)) {
    out += "<path class=\"axis\" d=\"M" + pixels(px(t)) + " " + pixels(bottom) + "v5\"/>";
    text(px(t), bottom + 18, "tick mid", short_number(t, 6));
  }
  out += "<path class=\"axis\" d=\"M" + pixels(left) + " " + pixels(bottom) + "H" + pixels(right) + "\"/>";
  text((left + right) / 2, p.height - 8, "name mid", p.x.title);
  out += "<text class=\"name mid\" transform=\"translate(14 " + pixels((top + bottom) / 2) + ") rotate(-90)\">" +
         escaped(p.y.title) + "</text>";
  std::vector<std::pair<double, std::size_t>> ends;  // where each line's name would like to be
  for (std::size_t i = 0; i < p.series.size(); ++i) {
    const plot_series& s = p.series[i];
    markup line, upper, lower, marks;
    double last = std::numeric_limits<double>::quiet_NaN();
    for (const plot_point& q : s.points) {
      if (!placed(q)) continue;
      const markup x = pixels(px(q.x));
      line += (line.empty() ? "M" : "L") + x + " " + pixels(py(q.y));
      last = py(q.y);
      if (s.marks) {
        const markup interval =
            std::isfinite(q.low) ? ", 95 % from " + short_number(q.low) + " to " + short_number(q.high) : markup();
        marks += "<g><title>" + escaped(s.name) + ": " + short_number(q.y) + " at " + short_number(q.x, 6) + interval +
                 "</title>" + plot_mark(s.style, px(q.x), py(q.y)) + "</g>";
      }
      if (std::isfinite(q.low) && std::isfinite(q.high)) {
        upper += (upper.empty() ? "M" : "L") + x + " " + pixels(py(q.high));
        lower = "L" + x + " " + pixels(py(q.low)) + lower;
      }
    }
    if (line.empty()) continue;
    ends.emplace_back(last, i);
    out += "<g class=\"series " + (s.reference ? markup("ref") : "c" + whole(s.style % plot_colours)) +
           (s.style >= plot_colours && !s.reference ? " dashed" : "") + "\">";
    if (!upper.empty()) out += "<path class=\"band\" d=\"" + upper + lower + "z\"/>";
    out += "<path class=\"line\" d=\"" + line + "\"/>" + marks + "</g>";
  }
  // Names stand beside the ends of their lines, pushed apart where they would overlap.
  std::sort(ends.begin(), ends.end());
  constexpr double apart = 15;
  double above = top - apart;
  for (auto& [y, i] : ends) above = y = std::max(y, above + apart);
  double below = bottom + apart;
  for (auto e = ends.rbegin(); e != ends.rend(); ++e) below = e->first = std::min(e->first, below - apart);
  for (const auto& [y, i] : ends) {
    const plot_series& s = p.series[i];
    out += "<g class=\"series " + (s.reference ? markup("ref") : "c" + whole(s.style % plot_colours)) + "\">" +
           (s.reference ? "<path class=\"line\" d=\"M" + pixels(right + 6) + " " + pixels(y) + "h12\"/>"
                        : plot_mark(s.style, right + 12, y));
    text(right + 22, y + 4, "label", s.name);
    out += "</g>";
  }
  if (ends.empty()) text((left + right) / 2, (top + bottom) / 2, "name mid", "nothing to show");
  return out + "</svg>";
}

markup to_svg(const cell_plot& p) {
  const double wide = 46, high = 26, left = 76, top = 30;
  const double letter = 8.5;  // of a title, at most
  const double width = std::max(left + wide * static_cast<double>(p.columns.size()) + 8,
                                letter * static_cast<double>(p.title.size()) + 8),
               height = top + high * static_cast<double>(p.rows.size()) + 40;
  markup out = "<svg class=\"plot cells\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 " +
               pixels(width) + " " + pixels(height) + "\" width=\"" + pixels(width) + "\"><title>" + escaped(p.title) +
               "</title><desc>" + escaped(p.description) + "</desc>";
  const auto text = [&](double x, double y, const char* kind, const std::string& words) {
    out += "<text class=\"" + markup(kind) + "\" x=\"" + pixels(x) + "\" y=\"" + pixels(y) + "\">" + escaped(words) +
           "</text>";
  };
  text(std::min(left, width - letter * static_cast<double>(p.title.size())), 16, "label strong", p.title);
  for (std::size_t r = 0; r < p.rows.size(); ++r) {
    const double y = top + high * static_cast<double>(r);
    text(left - 8, y + 17, "tick end", p.rows[r]);
    for (std::size_t c = 0; c < p.columns.size(); ++c) {
      const double x = left + wide * static_cast<double>(c);
      const std::size_t at = r * p.columns.size() + c;
      const double share = at < p.cells.size() ? p.cells[at] : std::numeric_limits<double>::quiet_NaN();
      const bool known = std::isfinite(share);
      const double depth = known ? std::clamp(share, 0.0, 1.0) : 0;
      out += "<rect class=\"cell\" x=\"" + pixels(x) + "\" y=\"" + pixels(y) + "\" width=\"" + pixels(wide - 2) +
             "\" height=\"" + pixels(high - 2) + "\" fill-opacity=\"" + short_number(0.06 + 0.94 * depth, 2) + "\"/>";
      text(x + wide / 2 - 1, y + 17, depth > 0.6 ? "tick mid over" : "tick mid",
           known ? short_number(std::round(100 * share)) : "n/a");
    }
  }
  for (std::size_t c = 0; c < p.columns.size(); ++c)
    text(left + wide * (static_cast<double>(c) + 0.5), height - 24, "tick mid", p.columns[c]);
  text(left + wide * static_cast<double>(p.columns.size()) / 2, height - 6, "name mid", p.x_title);
  text(left - 8, height - 24, "name end", p.y_title);
  return out + "</svg>";
}

}  // namespace multistate::tools
