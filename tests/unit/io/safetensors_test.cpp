#include "files.hpp"

namespace {

using namespace multistate;
using namespace io_test;

TEST(io_safetensors, reads_back_what_it_wrote) {
  const scratch folder;
  const std::vector<float> f = {1.5f, -0.0f, 3e38f, 1e-45f, 0.1f, 7};
  const std::vector<std::int32_t> i = {-1, 2147483647, -2147483647 - 1};
  const std::vector<named_tensor> tensors = {{"b", {2, 3}, std::span(f)},
                                             {"a \"quoted\"", {3}, std::span(i)},
                                             {"none", {0, 5}, std::span(f).first(0)},
                                             {"scalar", {}, std::span(i).first(1)}};
  const safetensors::metadata_type metadata = {{"policy", "tova:4"}, {"k", "4"}};
  ASSERT_TRUE(write_safetensors(folder / "t", tensors, metadata));
  const auto t = safetensors::open(folder / "t");
  ASSERT_TRUE(t) << t.reason().message();
  EXPECT_EQ(t->tensors().size(), 4u);
  EXPECT_EQ(t->metadata(), metadata);
  EXPECT_EQ(*t->floats("b"), f);
  EXPECT_EQ(t->find("b")->shape, (std::vector<std::size_t>{2, 3}));
  EXPECT_EQ(*t->ints("a \"quoted\""), i);
  EXPECT_TRUE(t->floats("none")->empty());
  EXPECT_EQ(*t->ints("scalar"), std::vector<std::int32_t>{-1});
  EXPECT_EQ(t->find("c"), nullptr);
  const std::uint64_t length = load_at<std::uint64_t>(t->file(), 0);
  EXPECT_EQ(length % 8, 0u) << "the data is aligned";

  const std::vector<std::size_t> right = {2, 3}, wrong = {3, 2};
  EXPECT_TRUE(t->floats("b", &right));
  expect_error(t->floats("b", &wrong), errc::bad_file, folder / "t", {"tensor b is F32 [2, 3]", "[3, 2]"});
  expect_error(t->floats("c"), errc::bad_file, folder / "t", {"tensor c is missing", "F32"});
  expect_error(t->floats("scalar"), errc::bad_file, folder / "t", {"is I32 []", "F32 or F16 or BF16"});
  expect_error(t->ints("b"), errc::bad_file, folder / "t", {"is F32", "must be I32"});
}

TEST(io_safetensors, writes_nothing_that_it_could_not_read) {
  const scratch folder;
  const std::vector<float> f(6);
  std::vector<named_tensor> tensors = {{"b", {2, 2}, std::span(f)}};
  expect_error(write_safetensors(folder / "t", tensors), errc::bad_shape, folder / "t", {"6 values", "[2, 2]"});
  tensors = {{"b", {6}, std::span(f)}, {"b", {2, 3}, std::span(f)}};
  expect_error(write_safetensors(folder / "t", tensors), errc::bad_input, folder / "t", {"named b"});
  tensors = {{"__metadata__", {6}, std::span(f)}};
  EXPECT_FALSE(write_safetensors(folder / "t", tensors));
  EXPECT_FALSE(fs::exists(folder / "t"));
  EXPECT_TRUE(write_safetensors(folder / "t", {}));
  EXPECT_TRUE(safetensors::open(folder / "t")->tensors().empty());
}

TEST(io_safetensors, widens_halves) {
  const scratch folder;
  const auto path = folder.write("t", [] {
    std::string bytes = safetensors_bytes(R"({"h":{"dtype":"F16","shape":[4],"data_offsets":[0,8]},)"
                                          R"("b":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]}} )",
                                          0);
    put(bytes, std::vector<std::uint16_t>{0x3c00, 0xc000, 0x0001, 0x7bff, 0x3fc0, 0xff80});
    return bytes;
  }());
  const auto t = safetensors::open(path);
  ASSERT_TRUE(t) << t.reason().message();
  EXPECT_EQ(*t->floats("h"), (std::vector<float>{1, -2, 0x1p-24f, 65504}));
  EXPECT_EQ(*t->floats("b"), (std::vector<float>{1.5f, -std::numeric_limits<float>::infinity()}));
}

TEST(io_safetensors, reads_every_golden_file) {
  int files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(golden(""))) {
    if (entry.path().extension() != ".safetensors") continue;
    const auto t = safetensors::open(entry.path());
    ASSERT_TRUE(t) << t.reason().message();
    EXPECT_FALSE(t->tensors().empty());
    for (const auto& [name, info] : t->tensors()) {
      std::size_t count = 1;
      for (std::size_t d : info.shape) count *= d;
      if (info.type == tensor_type::i32)
        EXPECT_EQ(t->ints(name)->size(), count);
      else if (info.type == tensor_type::u8)
        EXPECT_EQ(t->data(info).size(), count);
      else
        EXPECT_EQ(t->floats(name)->size(), count);
    }
    ++files;
  }
  EXPECT_GT(files, 3);
}

struct bad_header {
  const char* header;
  std::size_t data;
  const char* word;
};

TEST(io_safetensors, says_what_is_wrong_with_a_header) {
  const scratch folder;
  const bad_header cases[] = {
      {R"([])", 0, "begin with '{'"},
      {R"({)", 0, "not JSON"},
      {R"({} x)", 0, "not JSON"},
      {"{\"a\":\"\xff\"}", 0, "not JSON"},
      {R"({"a":1})", 0, "a number that does not belong there, at a"},
      {R"({"a":null})", 0, "null"},
      {R"({"a":[]})", 0, "a list"},
      {R"({"a":{}})", 0, "tensor a must have dtype"},
      {R"({"a":{"dtype":"F32","shape":[1]}})", 4, "tensor a must have"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "tensor a must have"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", 4, "more than two"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4, "an entry"},
      {R"({"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})", 4, "two entries shape"},
      {R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", 4, "a list"},
      {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "negative"},
      {R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4, "fraction"},
      {R"({"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}})", 4, "not JSON"},
      {R"({"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}})", 4, "fraction"},
      {R"({"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", 4, "unknown type F33"},
      {R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", 4, "16"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, "lies at [4, 0) of 4"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4, "lies at [0, 8) of 4"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[18446744073709551615,3]}})", 4, "lies at"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8, "has 8 bytes, its shape [3] of F32 needs 12"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0,
       "needs 18446744073709551615"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", 0, "needs 18446744073709551615"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
       4, "begins at 0, must begin where the one before ends, at 4"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]}})",
       10, "begins at 2"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, "begins at 4"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 8, "8 bytes of data, its tensors take 4"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       8, "tensor a comes twice"},
      {R"({"__metadata__":{"a":1}})", 0, "a number"},
      {R"({"__metadata__":{"a":{}}})", 0, "an object"},
      {R"({"__metadata__":"a"})", 0, "a string"},
      {R"({"__metadata__":{"a":"1","a":"1"}})", 0, "two entries a"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, "twice"},
      {R"({"__metadata__":null,"__metadata__":{}})", 0, "twice"},
      {R"({"__metadata__":{},"__metadata__":null})", 0, "twice"},
      {R"({"__metadata__":{"a":null}})", 0, "null"},
      {"{\"two\\nlines\":3}", 0, "two\\x0alines"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.header);
    const auto path = folder.write("t", safetensors_bytes(c.header, c.data));
    expect_error(safetensors::open(path), errc::bad_file, path, {c.word});
  }
}

TEST(io_safetensors, reads_what_others_write) {
  const scratch folder;
  for (const char* header : {R"({"__metadata__":{}})", R"({"__metadata__":null})",
                             R"({"a":{"dtype":"F8_E4M3","shape":[],"data_offsets":[0,1]}})",
                             R"({"a":{"data_offsets":[0,8],"dtype":"I64","shape":[1]},"__metadata__":null}   )"}) {
    SCOPED_TRACE(header);
    const std::size_t data = std::string_view(header).find("F8") != std::string_view::npos    ? 1
                             : std::string_view(header).find("I64") != std::string_view::npos ? 8
                                                                                              : 0;
    const auto got = safetensors::open(folder.write("t", safetensors_bytes(header, data)));
    ASSERT_TRUE(got) << got.reason().message();
    EXPECT_TRUE(got->metadata().empty());
  }
  std::string many = "{\"__metadata__\":{";
  for (int i = 0; i <= 65536; ++i) many += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":\"\"";
  const auto path = folder.write("t", safetensors_bytes(many + "}}", 0));
  expect_error(safetensors::open(path), errc::bad_file, path, {"more than 65536 entries"});
}

TEST(io_safetensors, believes_no_length) {
  const scratch folder;
  std::string bytes = safetensors_bytes("{}", 0);
  EXPECT_TRUE(safetensors::open(folder.write("t", bytes)));
  EXPECT_FALSE(safetensors::open(folder.write("t", "")));
  EXPECT_FALSE(safetensors::open(folder.write("t", "1234567")));
  EXPECT_FALSE(safetensors::open(folder.write("t", std::string(8, '\0'))));
  for (std::uint64_t length :
       {std::uint64_t{3}, std::uint64_t{100'000'001}, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    std::memcpy(bytes.data(), &length, 8);
    expect_error(safetensors::open(folder.write("t", bytes)), errc::bad_file, folder / "t",
                 {std::to_string(length), "possible are 2"});
  }
}

TEST(io_safetensors, stops_at_depth_at_once) {
  const scratch folder;
  for (const char* open : {"[", "{\"a\":"}) {
    std::string header = "{\"a\":";
    for (int i = 0; i < 1'000'000; ++i) header += open;
    EXPECT_FALSE(safetensors::open(folder.write("t", safetensors_bytes(header, 0))));
  }
}

TEST(io_safetensors, survives_damage) {
  const scratch folder;
  const std::vector<float> f(64);
  const std::vector<std::int32_t> i = {1, 2, 3};
  const std::vector<named_tensor> tensors = {{"q", {4, 16}, std::span(f)}, {"k", {3}, std::span(i)}};
  ASSERT_TRUE(write_safetensors(folder / "whole", tensors, {{"policy", "tova"}}));
  const auto whole = file_bytes::open(folder / "whole");
  const std::string bytes(reinterpret_cast<const char*>(whole->bytes().data()), whole->size());
  damage(folder, "t", bytes, 4000, [](const fs::path& path) {
    auto t = safetensors::open(path);
    if (t)
      for (const auto& [name, info] : t->tensors()) {
        (void)t->floats(name);
        (void)t->ints(name);
      }
    return t;
  });
}

}  // namespace
