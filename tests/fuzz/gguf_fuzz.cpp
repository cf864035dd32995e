// A GGUF file: whatever its bytes are, it is refused in one line or every tensor lies inside it, and reading it takes
// memory in proportion to its length. What loads fits its config.

#include "reading.hpp"

#include <multistate/io/gguf_model.hpp>
#include <multistate/model/model_view.hpp>

using namespace multistate;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::folder folder;
  const auto path = folder.write("m.gguf", fuzz::text_of(data, size));
  fuzz::within(size, 64, [&] {
    const auto file = gguf::open(path);
    if (!file) return fuzz::promise_line(file.reason());
    for (const auto& [name, t] : file->tensors())
      fuzz::promise(t.bytes.size() <= size && t.bytes.size() % t.block->bytes() == 0, "a tensor is whole blocks");
    for (const auto& [key, value] : file->keys()) {
      const auto texts = file->texts(key);
      fuzz::promise(!texts || (*texts)->size() == value.count, "a list has as many texts as it says");
    }
    const auto w = load_gguf(path);
    if (!w) return fuzz::promise_line(w.reason());
    fuzz::promise(check(floats_of(*w)).code() == errc::ok, "what loads fits its config, and can be read");
  });
  return 0;
}
