#include "files.hpp"

#include <multistate/io/model_file.hpp>

namespace {

using namespace multistate;
using namespace io_test;

TEST(io_model_file, tells_kinds_apart) {
  const auto folder = load_model(golden("llama_gqa"));
  ASSERT_TRUE(folder) << folder.reason().message();
  const auto file = load_model(golden("llama_gqa") / "model.safetensors");
  ASSERT_TRUE(file) << file.reason().message();
  expect_equal(*folder, *file);
  EXPECT_EQ(folder->config.rope.pairing, rope_pairing::halves);
  EXPECT_EQ(folder->hash, file->hash);
  // By its bytes, whatever the name says.
  const scratch other;
  fs::copy_file(golden("llama_gqa") / "model.safetensors", other / "weights.bin");
  fs::copy_file(golden("llama_gqa") / "config.json", other / "config.json");
  EXPECT_TRUE(load_model(other / "weights.bin"));
  if (const auto path = shared("models/stories260K.bin"); fs::exists(path)) {
    const auto got = load_model(path);
    ASSERT_TRUE(got) << got.reason().message();
    EXPECT_EQ(got->config.rope.pairing, rope_pairing::adjacent);
  }
}

TEST(io_model_file, says_what_it_is_not) {
  const scratch folder;
  expect_error(load_model(folder / "none"), errc::bad_file, folder / "none", {"no such file"});
  expect_error(load_model(folder.path()), errc::bad_file, folder / "config.json");
  auto path = folder.write("m.gguf", "GGUF and more");
  expect_error(load_model(path), errc::bad_file, path, {"GGUF version"});
  path = folder.write("m.bin", "PK\3\4 and more");
  expect_error(load_model(path), errc::not_supported, path, {"PyTorch", "save_pretrained"});
  path = folder.write("m.bin", "version https://git-lfs.github.com/spec/v1\n");
  expect_error(load_model(path), errc::bad_file, path, {"Git LFS pointer"});
  path = folder.write("tokenizer.json", "{}");
  expect_error(load_model(path), errc::bad_file, path, {"name its folder"});
  path = folder.write("m.bin", "Call me Ishmael. Some years ago, never mind how long");
  expect_error(load_model(path), errc::bad_file, path, {"no llama2.c checkpoint"});
  path = folder.write("empty", "");
  expect_error(load_model(path), errc::bad_file, path, {"0 bytes"});
  folder.write("config.json", "{}");
  path = folder.write("m.safetensors", "garbage!!");
  expect_error(load_model(path), errc::not_supported, folder / "config.json");
}

}  // namespace
