#pragma once

#include <string>
#include <string_view>

namespace multistate::tools {

/// SHA-256 (FIPS 180-4) in base64: how a page's policy names the script that may run.
std::string sha256_base64(std::string_view text);

}  // namespace multistate::tools
