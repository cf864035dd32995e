// A .safetensors file of any bytes: what opens keeps the format's promises, and every tensor can be read.

#include "reading.hpp"

#include <multistate/io/safetensors.hpp>

using namespace multistate;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::folder folder;
  const auto path = folder.write("t.safetensors", fuzz::text_of(data, size));
  fuzz::within(size, 64, [&] {
    const auto file = safetensors::open(path);
    if (!file) return fuzz::promise_line(file.reason());
    std::uint64_t sum = 0;
    unsigned char all = 0;
    for (const auto& [name, t] : file->tensors()) {
      const auto bytes = file->data(t);
      sum += bytes.size();
      for (const std::byte b : bytes) all ^= static_cast<unsigned char>(b);
      std::uint64_t count = 1;
      for (const std::size_t d : t.shape) count = detail::times(count, d);
      fuzz::promise(detail::times(count, detail::info_of(t.type).bytes) == bytes.size(),
                    "a tensor is as long as its shape");
      if (const auto v = file->floats(name)) fuzz::promise(v->size() == count, "floats of a shape");
      if (const auto v = file->ints(name)) fuzz::promise(v->size() == count, "whole numbers of a shape");
    }
    fuzz::promise(sum + 8 + load_at<std::uint64_t>(file->file(), 0) == size, "every byte belongs to one tensor");
    const volatile unsigned char read = all;  // so that the bytes are looked at
    (void)read;
  });
  return 0;
}
