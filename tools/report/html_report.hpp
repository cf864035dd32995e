#pragma once

#include <string>
#include <vector>

#include <tools/report/markup.hpp>
#include <tools/report/reading.hpp>

namespace multistate::tools {

/// A part of the page.
struct page_section {
  std::string id;
  std::string title;
  markup filled_by;  ///< what measures it; empty: nothing has to
  markup body;       ///< empty: the section is left out, and a line at the end says what would fill it
};

/// All sections in their order, the empty ones too.
std::vector<page_section> page_sections(const report_json& report);

/// A comparison's JSON as one HTML page that needs nothing else: no network, and no script to be read. Its policy lets
/// no other style and script in than its own, and nothing be fetched.
std::string to_html(const report_json& report);

}  // namespace multistate::tools
