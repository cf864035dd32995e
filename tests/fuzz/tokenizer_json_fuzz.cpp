// A tokenizer.json and a text: what loads makes ids of the vocabulary out of any text, none of them special but the
// unknown one, or says in one line why not, and takes memory in proportion to the two. The first byte is the length of
// a text behind it; the rest is the file.

#include "reading.hpp"

#include <span>
#include <string>
#include <vector>

#include <multistate/io/tokenizer_json.hpp>

using namespace multistate;

namespace {

/// `unknown`: a special token may stand for what has no piece.
void use(const tokenizer& t, std::string_view text, bool unknown) {
  const auto ids = t.encode(text);
  if (!ids) return fuzz::promise_line(ids.reason());
  for (const int id : *ids) {
    fuzz::promise(id >= 0 && id < t.vocab(), "an id is in the vocabulary");
    fuzz::promise(unknown || !t.is_special(id), "no text spells a special token");
  }
  const auto counts = t.text_bytes(std::span<const int>(*ids));
  fuzz::promise(counts.size() == ids->size(), "each id has its bytes");
  if (const auto all = t.encode(text, spelling::special))
    for (const int id : *all) fuzz::promise(id >= 0 && id < t.vocab(), "an id is in the vocabulary");
  t.spell(*ids);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  static const fuzz::folder folder;
  const std::size_t n = data[0] < size - 1 ? data[0] : size - 1;
  const std::string text(fuzz::text_of(data + 1, n));
  const auto path = folder.write("tokenizer.json", fuzz::text_of(data + 1 + n, size - 1 - n));
  fuzz::within(size, 1024, [&] {
    const auto t = load_tokenizer_json(path);
    if (!t) return fuzz::promise_line(t.reason());
    const bool unknown = fuzz::text_of(data, size).find("unk_token") != std::string_view::npos;
    use(*t, text, unknown);
    use(*t, "Hello,  world 123\xc3\xa9\n\t\xf0\x9f\x98\x80<s>", unknown);
  });
  return 0;
}
