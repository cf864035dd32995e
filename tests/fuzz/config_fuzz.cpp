// A folder of a config.json and a model.safetensors: two bytes say how long the config is, the weights are the rest, or
// a good file where nothing is left. What loads fits its config and turns keys by a table that can be made.

#include "reading.hpp"
#include "tiny_model.hpp"

#include <multistate/io/model_file.hpp>
#include <multistate/model/model_view.hpp>

using namespace multistate;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::folder folder;
  static const std::string good = fuzz::tiny_file(0, fuzz::tiny_tensors().size());
  if (size < 2) return 0;
  const std::string_view all = fuzz::text_of(data + 2, size - 2);
  const auto config = all.substr(0, data[0] + 256u * data[1]);
  const auto weights = all.size() > config.size() ? all.substr(config.size()) : std::string_view(good);
  folder.write("config.json", config);
  folder.write("model.safetensors", weights);
  fuzz::within(config.size() + weights.size(), 64, [&] {
    std::vector<std::string> notes;
    if (const auto c = read_config_json(folder.path() / "config.json", &notes)) {
      fuzz::promise(c->heads % c->kv_heads == 0 && c->head_dim % 2 == 0 && c->bos < c->vocab,
                    "a config is one of a model");
      for (const std::string& note : notes)
        fuzz::promise(note.size() < 1000 && note.find('\n') == std::string::npos, "a note is one line");
    }
    const auto w = load_model(folder.path());
    if (!w) return fuzz::promise_line(w.reason());
    fuzz::promise(check(floats_of(*w)).code() == errc::ok, "what loads fits its config, and can be read");
    fuzz::promise(static_cast<bool>(rope::make(w->config.rope)), "what loads can be turned");
  });
  return 0;
}
