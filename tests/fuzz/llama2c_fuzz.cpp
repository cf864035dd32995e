// A llama2.c checkpoint of any bytes: what loads fits its config, and is no larger than the file says.

#include "reading.hpp"

#include <multistate/io/llama2c.hpp>
#include <multistate/model/model_view.hpp>

using namespace multistate;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::folder folder;
  const auto path = folder.write("m.bin", fuzz::text_of(data, size));
  fuzz::within(size, 64, [&] {
    const auto w = load_llama2c(path);
    if (!w) return fuzz::promise_line(w.reason());
    fuzz::promise(check(floats_of(*w)).code() == errc::ok, "what loads fits its config, and can be read");
  });
  return 0;
}
