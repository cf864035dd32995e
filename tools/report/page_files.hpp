#pragma once

#include <string_view>

namespace multistate::tools {

// The files in page/, byte for byte; page/embed.cmake turns them into C++.
std::string_view page_html() noexcept;
std::string_view page_css() noexcept;
std::string_view page_js() noexcept;
std::string_view limits_html() noexcept;

}  // namespace multistate::tools
