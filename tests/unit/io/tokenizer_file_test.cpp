#include "files.hpp"

#include <multistate/io/tokenizer_file.hpp>

namespace {

using namespace multistate;
using namespace io_test;

std::string tokenizer_bytes(int vocab, int longest = 6) {
  std::string bytes;
  put(bytes, longest);
  for (int i = 0; i < vocab; ++i) {
    char byte[8];
    std::snprintf(byte, sizeof byte, "<0x%02X>", static_cast<unsigned>(i - 3) & 0xffu);
    const std::string piece = i < 3     ? "<x" + std::to_string(i) + ">"
                              : i < 259 ? byte
                                        : std::string(1, static_cast<char>('a' + i - 259));
    put(bytes, static_cast<float>(-i));
    put(bytes, static_cast<int>(piece.size()));
    bytes += piece;
  }
  return bytes;
}

TEST(io_tokenizer_file, loads_and_checks) {
  const scratch folder;
  const std::string good = tokenizer_bytes(262);
  const auto t = load_tokenizer(folder.write("t.bin", good), 262);
  ASSERT_TRUE(t) << t.reason().message();
  EXPECT_EQ(t->vocab(), 262);
  EXPECT_EQ(t->bos(), 1);
  EXPECT_EQ(t->decode(260, 5), "b");
  const auto path = folder / "t.bin";
  expect_error(load_tokenizer(path, 261), errc::bad_file, path, {"262 pieces", "261"});
  expect_error(load_tokenizer(path, -1), errc::bad_file, path, {"262 pieces"});
  expect_error(load_tokenizer(path, 257), errc::bad_file, path, {"is bytes"});
  folder.write("t.bin", tokenizer_bytes(258));
  expect_error(load_tokenizer(path, 258), errc::bad_file, path, {"at least 259"});
  folder.write("t.bin", tokenizer_bytes(262, 0));
  expect_error(load_tokenizer(path, 262), errc::bad_file, path, {"longest piece has 0"});
  folder.write("t.bin", tokenizer_bytes(262, 3));
  expect_error(load_tokenizer(path, 262), errc::bad_file, path, {"piece 0 has 4 bytes, possible are 3"});
  for (int length : {-1, 7, 1 << 30}) {
    std::string bad = good;
    std::memcpy(bad.data() + 8, &length, 4);
    folder.write("t.bin", bad);
    expect_error(load_tokenizer(path, 262), errc::bad_file, path, {"piece 0 has " + std::to_string(length)});
  }
  folder.write("t.bin", good + "xyz");
  expect_error(load_tokenizer(path, 262), errc::bad_file, path, {"ends within piece 262"});
  damage(folder, "t.bin", good, 3000, [](const fs::path& p) { return load_tokenizer(p, 262); });
}

TEST(io_tokenizer_file, finds_the_one_that_fits) {
  const scratch folder;
  folder.write("model.bin", "");
  EXPECT_EQ(find_tokenizer_beside(folder / "model.bin", 256)->bos(), -1);
  EXPECT_EQ(find_tokenizer_beside(folder / "model.bin", 257)->bos(), 256);
  expect_error(find_tokenizer_beside(folder / "model.bin", 300), errc::bad_file, folder.path(), {"300", ".tokens"});
  folder.write("tok270.bin", tokenizer_bytes(270));
  folder.write("tok300.bin", tokenizer_bytes(300));
  fs::create_directory(folder / "tok.bin");
  EXPECT_EQ(find_tokenizer_beside(folder / "model.bin", 300)->vocab(), 300);
  EXPECT_EQ(find_tokenizer_beside(folder.path(), 270)->vocab(), 270) << "a folder is a model too";
  std::string first = tokenizer_bytes(300);
  first[first.size() - 1] = '!';
  folder.write("tokenizer.bin", first);
  EXPECT_EQ(find_tokenizer_beside(folder / "model.bin", 300)->decode(299, 5), "!") << "tokenizer.bin comes first";
  expect_error(find_tokenizer_beside(folder / "model.bin", 301), errc::bad_file, folder.path());
  expect_error(find_tokenizer_beside(folder / "none/model.bin", 301), errc::bad_file, folder / "none");
}

TEST(io_tokenizer_file, rows_beyond_the_pieces_are_padding) {
  const scratch folder;
  const auto path = folder.write("tokenizer.bin", tokenizer_bytes(270));
  const auto t = load_tokenizer(path, 320);
  ASSERT_TRUE(t) << t.reason().message();
  EXPECT_EQ(t->vocab(), 320);
  EXPECT_EQ(t->decode(269, 5), "k");
  for (const int row : {270, 319}) EXPECT_EQ(t->decode(row, 5), "");
  EXPECT_EQ(t->encode("abk").value(), load_tokenizer(path, 270)->encode("abk").value());
  for (const int rows : {269, 271, 319, 264, 270 + 1026, 4096}) {
    const auto refused = load_tokenizer(path, rows);
    expect_error(refused, errc::bad_file, path, {"270 pieces", std::to_string(rows)});
  }
  folder.write("tok_other.bin", tokenizer_bytes(320));
  EXPECT_EQ(find_tokenizer_beside(folder.path(), 320)->decode(319, 5).size(), 1u) << "one that has all rows is better";
  EXPECT_EQ(find_tokenizer_beside(folder.path(), 328)->decode(319, 5).size(), 0u) << "tokenizer.bin comes first";
}

TEST(io_tokenizer_file, json_and_sentencepiece_are_no_llama2c_tokenizers) {
  const scratch folder;
  for (const char* text : {"{}", "{\"version\": 1}", "\xef\xbb\xbf {\n}", "\n\t {"}) {
    const auto path = folder.write("tokenizer.json", text);
    expect_error(load_tokenizer(path, 300), errc::bad_file, path, {"is JSON", "llama2.c"});
  }
  fs::remove(folder / "tokenizer.json");
  const auto model = folder.write("tokenizer.model", std::string("\n\x0e\n\x05<unk>\x15", 10));
  expect_error(load_tokenizer(model, 300), errc::bad_file, model, {"SentencePiece", "tokenizer.py"});
  expect_error(find_tokenizer_beside(folder.path(), 300), errc::bad_file, folder.path(),
               {"tokenizer.model", "SentencePiece", "tokenizer.py"});
  folder.write("tokenizer.bin", tokenizer_bytes(300));
  EXPECT_TRUE(find_tokenizer_beside(folder.path(), 300)) << "llama2.c's is read";
  const auto path = folder.write("t.bin", tokenizer_bytes(262, '{'));  // begins with a brace, too
  EXPECT_TRUE(load_tokenizer(path, 262));
}

TEST(io_tokenizer_file, a_text_that_spells_a_byte_keeps_its_bytes) {
  const auto model = shared("faults/text_spells_a_byte_piece/model.bin");
  if (!fs::exists(model)) GTEST_SKIP() << model << " is not there";
  const auto t = find_tokenizer_beside(model, 279);
  ASSERT_TRUE(t) << t.reason().message();
  int sum = 0;
  for (const int bytes : t->text_bytes(t->encode("ab<0x40>cd").value())) sum += bytes;
  EXPECT_EQ(sum, 10);
}

// The expected ids are what llama2.c's run.c gives for this text.
TEST(io_tokenizer_file, gives_the_ids_of_llama2c) {
  const auto model = shared("models/stories260K.bin");
  if (!fs::exists(model)) GTEST_SKIP() << model << " is not there";
  const auto t = find_tokenizer_beside(model, 512);
  ASSERT_TRUE(t) << t.reason().message();
  const std::string text =
      "Once upon a time, there was a little girl named Lily. \xe2\x80\x9cHi\xe2\x80\x9d \xc3\xa9\xf0\x9f\x99\x82\n";
  const std::vector<int> ids = {403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395, 317,
                                426, 410, 465, 440, 417, 466, 410, 485, 243, 162, 156, 133, 13};
  EXPECT_EQ(t->encode(text).value(), ids);
}

}  // namespace
