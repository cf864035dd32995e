#include <tools/report/markup.hpp>

namespace multistate::tools {

markup markup::as_is(std::string_view html) {
  markup m;
  m.html_ = html;
  return m;
}

markup escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\'')
      out += "&#39;";
    else
      out += static_cast<unsigned char>(c) < 32 ? ' ' : c;
  }
  return markup::as_is(out);
}

markup code(std::string_view text) { return "<code>" + escaped(text) + "</code>"; }

}  // namespace multistate::tools
