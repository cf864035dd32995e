// JSON of any bytes: what is read is what another parser reads, and refused are only what this one would not take,
// depth, and keys that come twice.

#include "reading.hpp"

#include <multistate/io/json.hpp>

using namespace multistate;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::folder folder;
  const auto path = folder.write("a.json", fuzz::text_of(data, size));
  fuzz::within(size, 64, [&] {
    const auto got = detail::read_json(path);
    if (!got) fuzz::promise_line(got.reason());
    // The other parser's depth is that of the input, and so its memory.
    const auto says = [&](std::string_view word) {
      return got.reason().message().find(word) != std::string_view::npos;
    };
    if (!got && (says("nested deeper") || says("Git LFS"))) return;
    const auto other = nlohmann::json::parse(data, data + size, nullptr, false);
    if (got)
      fuzz::promise(*got == other && got->is_object(), "both parsers read the same");
    else
      fuzz::promise(!other.is_object() || says(" twice, "), "only what is wrong is refused");
  });
  return 0;
}
