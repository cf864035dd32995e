// A model.safetensors.index.json of any bytes beside two good shards: what loads has the values of the shards, whatever
// the index says.

#include "reading.hpp"
#include "tiny_model.hpp"

#include <multistate/io/model_file.hpp>
#include <multistate/model/model_view.hpp>

using namespace multistate;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::folder folder;
  static const loaded_model whole = [] {
    const std::size_t count = fuzz::tiny_tensors().size();
    folder.write("config.json", fuzz::tiny_config);
    folder.write("a.safetensors", fuzz::tiny_file(0, 6));
    folder.write("b.safetensors", fuzz::tiny_file(6, count));
    return load_huggingface(folder.path() / "config.json", folder.write("all.safetensors", fuzz::tiny_file(0, count)))
        .value();
  }();
  static const model_weights right = floats_of(whole);
  folder.write("model.safetensors.index.json", fuzz::text_of(data, size));
  fuzz::within(size, 64, [&] {
    const auto w = load_model(folder.path());
    if (!w) return fuzz::promise_line(w.reason());
    const model_weights got = floats_of(*w);
    fuzz::promise(got.config == right.config && got.embedding == right.embedding && got.head == right.head &&
                      got.final_norm == right.final_norm && got.layers[0].q == right.layers[0].q &&
                      got.layers[0].down == right.layers[0].down,
                  "what loads has the values of the shards");
  });
  return 0;
}
